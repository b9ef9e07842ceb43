"""What property tests add to a run: the smallest script of a failing example."""

from __future__ import annotations

from collections.abc import Generator

import pytest

from tests.property import script


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
