"""Programs packed one after the other, each from the one before as far as that goes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from dataplane.compile.changed import NotInPartsError, changed
from dataplane.compile.indexes import Indexes
from dataplane.compile.whole import whole
from dataplane.program import Program
from fastpath.classifier import LONG_LIST
from fastpath.snapshot import Snapshot


@dataclass(frozen=True, slots=True)
class Packed:
    """A program and what became of it."""

    program: Program
    at: Indexes
    snapshot: Snapshot


class Compiler:
    """Makes the Snapshots of one lab, whose tables are those of the Snapshot before where nothing has changed.

    Whether a program was packed in parts or as a whole cannot be seen from its Snapshot, but for the memory it shares.
    """

    def __init__(self, *, classify_from: int = LONG_LIST) -> None:
        self._classify_from = classify_from
        self.in_parts = 0
        """How many programs were packed in parts."""
        self.as_a_whole: list[str] = []
        """Why each of the others was packed as a whole, the latest last; at most 100."""

    def compile(self, program: Program, *, generation: int, before: Packed | None = None) -> Packed:
        """Pack `program`. `generation` (1 and up) must grow from Snapshot to Snapshot of one engine.

        Lists of rules shorter than `classify_from` are looked through rule by rule. A program that has been packed must
        not change. Raises CompileError for labels that nobody defined and prefixes defined twice.
        """
        if before is not None:
            try:
                patch = changed(before.program, program, before.at)
            except NotInPartsError as reason:
                self._note(str(reason))
            else:
                snapshot = Snapshot(
                    patch, generation=generation, before=before.snapshot, classify_from=self._classify_from
                )
                self.in_parts += 1
                return Packed(program, before.at, snapshot)
        else:
            self._note("the first")
        at = Indexes(program)
        rows = whole(program, at)
        return Packed(program, at, Snapshot(rows, generation=generation, classify_from=self._classify_from))

    def _note(self, why: str) -> None:
        self.as_a_whole = [*self.as_a_whole[-99:], why]


def rows_of(program: Program) -> dict[str, Sequence[object]]:
    """The rows of a program, before they are packed."""
    return whole(program, Indexes(program))


def compile_program(program: Program, *, generation: int, classify_from: int = LONG_LIST) -> Snapshot:
    """Pack one program as a whole; see `Compiler.compile`."""
    return Compiler(classify_from=classify_from).compile(program, generation=generation).snapshot
