"""How far somebody has come: hints seen and lessons solved, in a file of the state folder.

The file is ``$XDG_STATE_HOME/vpclab/.learn.json``. No lab is called that: names of labs begin with a letter or digit.
"""

from __future__ import annotations

import contextlib
import json
import os
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from dataplane.errors import LabError
from lab.state_root import state_root


@dataclass(frozen=True, slots=True)
class Progress:
    """In one lesson."""

    hints: int = 0
    """How many were shown."""
    solved: bool = False


def progress(lesson: str) -> Progress:
    """How far the lesson of this name is; what cannot be read is taken as not begun."""
    return _all().get(lesson, Progress())


def begin(lesson: str) -> None:
    """Start again at the first hint.

    Raises:
        LabError: it cannot be written down; likewise below.
    """
    _write(lesson, replace(progress(lesson), hints=0))


def next_hint(lesson: str, there_are: int) -> int:
    """Go up one hint of `there_are`, and return its number from 1; the last one stays the last."""
    hints = min(progress(lesson).hints + 1, there_are)
    _write(lesson, replace(progress(lesson), hints=hints))
    return hints


def solve(lesson: str) -> None:
    """The lesson is solved."""
    _write(lesson, replace(progress(lesson), solved=True))


def _path() -> Path:
    return state_root() / ".learn.json"


def _all() -> dict[str, Progress]:
    try:
        found = json.loads(_path().read_text())
        return {str(name): Progress(max(0, int(each["hints"])), bool(each["solved"])) for name, each in found.items()}
    except (OSError, ValueError, TypeError, KeyError, AttributeError):
        return {}


def _write(lesson: str, value: Progress) -> None:
    path = _path()
    text = json.dumps({name: asdict(each) for name, each in (_all() | {lesson: value}).items()})
    draft = path.with_name(f"{path.name}.{os.getpid()}")
    try:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        draft.write_text(text)
        draft.replace(path)
    except OSError as error:
        with contextlib.suppress(OSError):  # there may be no folder that it could be in, or one that is read-only
            draft.unlink(missing_ok=True)
        raise LabError(f"{path} cannot be written: {error.strerror}") from error
