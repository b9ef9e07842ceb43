"""What another daemon must know to take over a lab whose own was killed: ``lab.json`` in its state folder.

Written when a lab has come up, and whenever it changes: the file that was applied last, how far its clock is ahead, how
its targets are, and the numbers that its things have, by which nodes know their ports. What the spawner has it tells
itself (`lab.handover`); sessions are in neither.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from ipaddress import IPv4Address
from typing import Any

from dataplane.names import Names
from dataplane.topology.runtime_state import FormerTarget, RuntimeState, TargetHealth
from lab.state import JOURNAL, LabState


@dataclass(frozen=True, slots=True, kw_only=True)
class Journal:
    """A lab as it was last."""

    text: str
    """The lab file's text."""
    file: str
    """What it is called."""
    folder: str
    """Where the daemon stands: what names of files in the lab file are relative to."""
    clock_offset_ms: int
    names: Names
    runtime: RuntimeState = field(default_factory=RuntimeState)
    """How its targets are, and who has left."""


class JournalFile:
    """The file, which is written only when it is to say something else.

    As a whole each time, so that it says of no moment half: with 300 targets that takes 0.8 ms, and less than half of
    what a change of their health takes in the data plane anyway.
    """

    def __init__(self, state: LabState) -> None:
        self._state = state
        self._written: dict[str, Any] | None = None

    def write(self, journal: Journal) -> None:
        """Replace what was written before. Raises LabError; it is still the old one then."""
        facts = _facts(journal)
        if facts != self._written:
            self._state.write(JOURNAL, facts)
            self._written = facts


def _facts(journal: Journal) -> dict[str, Any]:
    return {
        "text": journal.text,
        "file": journal.file,
        "folder": journal.folder,
        "clock_offset_ms": journal.clock_offset_ms,
        "names": [journal.names[number] for number in range(1, len(journal.names))],
        "health": [(*target, h.state, h.reason, h.description) for target, h in journal.runtime.health.items()],
        "former": [
            (*group, each.name, str(each.address), each.zone, each.drained, each.until_ms)
            for group, those in journal.runtime.former.items()
            for each in those
        ],
    }


def read_journal(state: LabState) -> Journal | None:
    """What was written last; None when there is nothing, or nothing of ours."""
    match state.read(JOURNAL):
        case {
            "text": str(text),
            "file": str(file),
            "folder": str(folder),
            "clock_offset_ms": int(offset_ms),
            "names": list(told),
            "health": list(health),
            "former": list(former),
        }:
            names = Names()
            try:
                for kind, path in told:  # in the order in which they were given, so that each has the same number again
                    names.intern(kind, path)
                runtime = _read_runtime(health, former)
            except (TypeError, ValueError):
                return None
            return Journal(text=text, file=file, folder=folder, clock_offset_ms=offset_ms, names=names, runtime=runtime)
    return None


def _read_runtime(health: list[Any], former: list[Any]) -> RuntimeState:
    known = {
        (vpc, group, name): TargetHealth(state=state, reason=reason, description=description)
        for vpc, group, name, state, reason, description in health
    }
    left: dict[tuple[str, str], tuple[FormerTarget, ...]] = {}
    for vpc, group, name, address, zone, drained, until_ms in former:
        each = FormerTarget(name=name, address=IPv4Address(address), zone=zone, drained=drained, until_ms=until_ms)
        left[vpc, group] = (*left.get((vpc, group), ()), each)
    return RuntimeState(health=known, former=left)
