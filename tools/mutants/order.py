"""Which tests are asked about a fault, and in which order: those first that are likely to notice it and quickly done.

Known from a run on the sound tree (`make mutants` makes it once, and again when deciding files change): how long each
test takes, and of Python which tests run which line. Compiled code is not followed line by line; there the unit tests
of the module come first, then all others that call compiled code, the short ones before the long ones.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable
from functools import cache
from pathlib import Path
from typing import Any

from coverage import CoverageData

from tools.mutants.faults import Fault
from tools.mutants.trees import BASE, WORK

LINES, KNOWN = WORK / "lines.coverage", WORK / "tests.json"
FOLDERS = (
    "tests/unit/load", "tests/unit/model", "tests/unit/reference", "tests/unit/fastpath", "tests/unit/dataplane",
    "tests/unit/analysis", "tests/unit/lab/test_flow_logs.py", "tests/unit/lab/test_flow_logs_unwritable.py",
    "tests/unit/lab/test_capture.py", "tests/unit/lab/test_capture_tunnels.py", "tests/unit/lab/test_checking.py",
    "tests/unit/lab/test_rounds.py", "tests/unit/lab/test_replay.py", "tests/unit/lab/test_traced.py",
    "tests/unit/vpclab/test_testing.py", "tests/scenario", "tests/conformance",
)  # fmt: skip
"""Where the tests are whose order is known."""
PROPERTIES = "tests/property"
NEAR_S = 12.0
"""Seconds of tests that are asked first, before everything is collected."""
BACK = 12
"""So many lines a statement may begin before the line that is looked up."""


class Order:
    """The tests and what is known of them."""

    def __init__(self, killers: Iterable[tuple[str, str]] = ()) -> None:
        """`killers`: files of earlier faults and the tests that noticed those."""
        known: dict[str, Any] = json.loads(KNOWN.read_text())
        self.seconds: dict[str, float] = known["seconds"]
        self.engine: dict[str, str] = known["engine"]
        self.killers: dict[str, Counter[str]] = {}
        for file, test in killers:
            self.killers.setdefault(file, Counter())[test] += 1

    def of(self, fault: Fault) -> tuple[list[str], list[str]]:
        """Tests to ask at first, and all the others that could notice it."""
        able = [test for test in self.seconds if self._is_able(test, fault)]
        running = _of_compiled_code() if fault.file.startswith("fastpath/") else _of_line(fault)
        if running:
            able = [test for test in able if test in running or test.startswith("tests/unit/fastpath")]
        able.sort(key=self.seconds.__getitem__)
        known = self.killers.get(fault.file, Counter())
        first = [test for test, _ in known.most_common(8) if test in able]
        first += [test for test in able if self._mirrors(test, fault)]
        first += _spread(able)
        near: list[str] = []
        spent = 0.0
        for test in dict.fromkeys(first):
            if spent + self.seconds[test] <= NEAR_S:
                near.append(test)
                spent += self.seconds[test]
        taken, package = set(near), f"tests/unit/{fault.file.split('/')[-2]}/"
        rest = [test for test in able if test not in taken]
        return near, sorted(rest, key=lambda test: not test.startswith(package))

    def _is_able(self, test: str, fault: Fault) -> bool:
        engine = self.engine.get(test, "")
        if fault.file.startswith("dataplane/reference/"):
            return engine != "fast" and not test.startswith("tests/unit/fastpath")
        return engine != "reference" or not fault.file.startswith(("fastpath/", "dataplane/compile/"))

    def _mirrors(self, test: str, fault: Fault) -> bool:
        folder, name = fault.file.split("/")[-2], Path(fault.file).stem.lstrip("_")
        return test.startswith(f"tests/unit/{folder}/test_{name}")


def _of_line(fault: Fault) -> set[str]:
    """The tests that run the line; empty: it is run when modules are imported, or nobody knows."""
    data = CoverageData(str(LINES))
    data.read()
    by_line = data.contexts_by_lineno(str(BASE / fault.file))
    number = fault.number(BASE)
    for line in range(number, max(number - BACK, 0), -1):
        if line in by_line:
            return {test for test in by_line[line] if test}
    return set()


@cache
def _of_compiled_code() -> set[str]:
    """The tests that call what calls compiled code."""
    data = CoverageData(str(LINES))
    data.read()
    callers = [BASE / "dataplane" / "engine.py", *(BASE / "dataplane" / "compile").glob("*.py")]
    lines = [data.contexts_by_lineno(str(caller)) for caller in callers]
    return {test for by_line in lines for tests in by_line.values() for test in tests if test}


def _spread(tests: list[str]) -> list[str]:
    """The tests by turns from each of their modules."""
    modules: dict[str, list[str]] = {}
    for test in tests:
        modules.setdefault(test.split("::")[0], []).append(test)
    rounds = max(map(len, modules.values()), default=0)
    return [module[i] for i in range(rounds) for module in modules.values() if i < len(module)]
