"""Which fault is judged next, and what has become of all: shared by those who judge, each at a place of its own."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from typing import Any

from tools.mutants import results
from tools.mutants.faults import Fault


class Work:
    """Faults in their order, and results so far.

    `states` says, by file, what they are judged on; `why` says, by key, why no test notices some. Of drawn faults
    `count` are to be judged that build, and `limit` of all in this run. `only`: those whose origin, file or key begins
    with this. `tell` is called with each new result, once it is among those `found`.
    """

    def __init__(
        self, faults: Sequence[Fault], found: dict[str, dict[str, Any]], *, states: Mapping[str, str],
        why: Mapping[str, str], count: int, limit: int | None = None, only: str = "",
        tell: Callable[[Fault, Mapping[str, Any]], None],
    ) -> None:  # fmt: skip
        self.faults = faults
        self.found = found
        self.states = states
        self.count = count
        self.limit = len(faults) if limit is None else limit
        self.only = only
        self.tell = tell
        self.why = why
        self.judged: set[str] = set()
        """Keys of those taken in this run."""
        self.is_over = False
        self._lock = threading.Lock()

    def take(self) -> Fault | None:
        """The next fault to judge; None: there is none, or another who judges may still find that one is missing."""
        with self._lock:
            counted = 0
            for fault in () if self.is_over else self.faults:
                if fault.origin == "drawn" and counted == self.count:
                    return None
                row = self.found.get(fault.key)
                if (
                    fault.key not in self.judged
                    and not results.is_settled(row, self.states[fault.file], self.why)
                    and self._is_asked(fault)
                ):
                    if len(self.judged) == self.limit:
                        return None
                    self.judged.add(fault.key)
                    return fault
                is_open = fault.key in self.judged and (row is None or row["tree"] != self.states[fault.file])
                counted += fault.origin == "drawn" and (
                    is_open or (row is not None and row["verdict"] != "unbuildable")
                )
            return None

    def put(self, fault: Fault, row: dict[str, Any]) -> None:
        """What became of a fault."""
        with self._lock:
            self.found[fault.key] = row
            self.tell(fault, row)

    def before(self, fault: Fault) -> str:
        """The test that noticed it the last time."""
        row = self.found.get(fault.key)
        return str(row["test"]) if row is not None else ""

    def killers(self) -> list[tuple[str, str]]:
        """Files of faults and the tests that noticed these."""
        with self._lock:
            return [(row["file"], row["test"]) for row in self.found.values() if row["verdict"] in results.NOTICED]

    def each(self, judging: Sequence[Callable[[Fault], dict[str, Any]]]) -> None:
        """Have all of them judge, each one fault after the other.

        When one of them raises, or this is interrupted, the others finish what they are at and take no more.
        """

        def go_on(judge: Callable[[Fault], dict[str, Any]]) -> None:
            while (fault := self.take()) is not None:
                self.put(fault, judge(fault))

        with ThreadPoolExecutor(len(judging)) as pool:
            try:
                for done in as_completed([pool.submit(go_on, judge) for judge in judging]):
                    done.result()
            finally:
                self.is_over = True

    def _is_asked(self, fault: Fault) -> bool:
        return any(word.startswith(self.only) for word in (fault.origin, fault.file, fault.key))
