"""What came of each behaviour in a run: a pytest plugin that listens, and the words the page has for it."""

from __future__ import annotations

import pytest

from tests.conformance.behaviours import behaviours_of

END_TO_END = "end to end"
HOLDS, FAILS, NOT_RUN = "holds", "fails", "not run"


class Outcomes:
    """Sentence -> way (an engine, or end to end) -> whether every case of it passed.

    Given to pytest as a plugin it runs only tests that say which behaviour they assert, and what they came to replaces
    what was known of their sentences.
    """

    def __init__(self, found: dict[str, dict[str, bool]] | None = None) -> None:
        self.found = found or {}
        self._asserts: dict[str, list[tuple[str, str]]] = {}

    def pytest_collection_modifyitems(self, config: pytest.Config, items: list[pytest.Item]) -> None:
        for item in items:
            rows = behaviours_of(getattr(item, "function", None))
            engine = getattr(getattr(item, "callspec", None), "params", {}).get("engine", "")
            self._asserts[item.nodeid] = [(r.sentence, END_TO_END if r.end_to_end else engine) for r in rows]
        out = [item for item in items if not self._asserts[item.nodeid]]
        if out:
            config.hook.pytest_deselected(items=out)
            items[:] = [item for item in items if item not in out]

    def pytest_collection_finish(self, session: pytest.Session) -> None:
        """Forget what was known of the tests that are about to run."""
        for item in session.items:
            for sentence, way in self._asserts[item.nodeid]:
                self.found.get(sentence, {}).pop(way, None)

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """Note passes of the test itself and failures of any part; what was skipped has not run."""
        if not report.failed and (report.when != "call" or not report.passed):
            return
        for sentence, way in self._asserts.get(report.nodeid, ()):
            ways = self.found.setdefault(sentence, {})
            ways[way] = ways.get(way, True) and report.passed

    def result(self, sentence: str, ways: set[str]) -> str:
        """The word for a sentence that is asserted these ways."""
        known = self.found.get(sentence, {})
        bad = sorted(way for way in ways if known.get(way) is False)
        if bad:
            return f"{FAILS} ({', '.join(bad)})"
        open_ways = sorted(way for way in ways if way not in known)
        return f"{NOT_RUN} ({', '.join(open_ways)})" if open_ways else HOLDS

    @staticmethod
    def is_final(result: str) -> bool:
        """Whether a result of the page may stay: it holds, or a reason is given."""
        return result == HOLDS or result.startswith("not asserted: ")
