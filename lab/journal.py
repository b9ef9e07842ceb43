"""What another daemon must know to take over a lab whose own was killed: ``lab.json`` in its state folder.

Written when a lab has come up, and whenever it changes: the file that was applied last, how far its clock is ahead, and
the numbers that its things have, by which nodes know their ports. What the spawner has it tells itself
(`lab.handover`); sessions are in neither.
"""

from __future__ import annotations

from dataclasses import dataclass

from dataplane.names import Names
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


def write_journal(state: LabState, journal: Journal) -> None:
    """Replace what was written before. Raises LabError; it is still the old one then."""
    facts = {
        "text": journal.text,
        "file": journal.file,
        "folder": journal.folder,
        "clock_offset_ms": journal.clock_offset_ms,
        "names": [journal.names[number] for number in range(1, len(journal.names))],
    }
    state.write(JOURNAL, facts)


def read_journal(state: LabState) -> Journal | None:
    """What was written last; None when there is nothing."""
    match state.read(JOURNAL):
        case {
            "text": str(text),
            "file": str(file),
            "folder": str(folder),
            "clock_offset_ms": int(offset_ms),
            "names": list(told),
        }:
            names = Names()
            for kind, path in told:  # in the order in which they were given, so that each has the same number again
                names.intern(kind, path)
            return Journal(text=text, file=file, folder=folder, clock_offset_ms=offset_ms, names=names)
    return None
