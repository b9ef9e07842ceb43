"""What property tests add to a run: the smallest script of a failing example, and what drawn packets met."""

from __future__ import annotations

from collections.abc import Generator

import pytest

from tests.property import script
from tests.property.exercised import TALLY, required


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[None]
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Show a failing example as what was sent, and only as much of it as is needed."""
    report = yield
    if call.when == "setup":
        script.LAST.clear()
    elif call.when == "call" and report.failed and script.LAST:
        smallest = script.shrunk(list(script.LAST))
        why = script.fails(smallest) or "(it does not fail when it is played again)"
        report.sections.append(("smallest example", "\n".join([*script.told(smallest), why])))
    return report


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Tell in how many examples each construct, operation and drop reason was met."""
    if not TALLY.examples:
        return
    terminalreporter.section(f"what packets met in {TALLY.examples} examples of the property tests")
    for line in TALLY.lines():
        terminalreporter.write_line(line)
    missing = TALLY.lacking(1, required())
    if missing:
        terminalreporter.write_line(f"never met here: {', '.join(missing)}", yellow=True)
