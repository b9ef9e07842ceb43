"""One lesson: its files, and the words around them."""

from __future__ import annotations

import difflib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from dataplane.errors import LabError

if TYPE_CHECKING:
    from dataplane.model.check import Check

_INSTALLED = Path(__file__).parent / "labs"
_IN_TREE = Path(__file__).parents[3] / "examples" / "broken"
_SYMPTOM, _SEE_IT, _CHECKS = "Symptom: ", "See it:", "\nchecks:\n"


@dataclass(frozen=True, slots=True, kw_only=True)
class Task:
    """What programs in the lab must be able to do, where no single packet of a check can show it."""

    node: str
    command: tuple[str, ...]
    limit_s: float
    """It has failed when it takes longer; more than the command itself allows, which a busy machine begins late."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Lesson:
    """A broken lab.

    Its lab file begins with a comment: a title, a picture, ``Symptom:`` and a paragraph, ``See it:`` and commands. What
    must hold are the ``checks:`` at its end, and the task if there is one. Reading a file raises LabError when it is
    not where it should be.
    """

    name: str
    """Also of its lab, and of its files."""
    hints: tuple[str, ...]
    """From a nudge to nearly the answer; after the last comes the answer."""
    why: str
    """What was wrong, and why AWS is like that."""
    task: Task | None = None

    @property
    def broken(self) -> str:
        """Text of the broken lab file."""
        return _read(f"{self.name}.yaml")

    @property
    def fixed(self) -> str:
        """Text of the lab file put right."""
        return _read(f"fixed/{self.name}.yaml")

    @property
    def title(self) -> str:
        """One sentence: what somebody notices."""
        return self._header[0]

    @property
    def picture(self) -> str:
        """The network, drawn with characters."""
        lines = self._header[1 : self._at(_SYMPTOM)]
        return "\n".join(lines).strip("\n")

    @property
    def symptom(self) -> str:
        """One paragraph, in one line."""
        return " ".join(self._header[self._at(_SYMPTOM) : self._at(_SEE_IT)]).strip().removeprefix(_SYMPTOM)

    @property
    def see_it(self) -> tuple[str, ...]:
        """Commands that show the symptom in the running lab."""
        return tuple(line.strip() for line in self._header[self._at(_SEE_IT) + 1 :])

    @property
    def checks(self) -> tuple[Check, ...]:
        """What must hold."""
        from dataplane.load import load  # late: most verbs of the command need no YAML

        return load(self.broken, file_name=f"{self.name}.yaml").lab_file.checks

    @property
    def checks_text(self) -> str:
        """The same as it stands in the file, a list in YAML."""
        return self.broken.partition(_CHECKS)[2]

    @property
    def diff(self) -> str:
        """What putting it right changes: a unified diff, without the lines that name files."""
        lines = difflib.unified_diff(self.broken.splitlines(), self.fixed.splitlines(), n=3, lineterm="")
        return "\n".join(list(lines)[2:])

    @property
    def _header(self) -> list[str]:
        return list(_comment(self.broken))

    def _at(self, word: str) -> int:
        return next(index for index, line in enumerate(self._header) if line.startswith(word.strip()))


def _comment(text: str) -> Iterator[str]:
    """Yield the lines of the comment that a file begins with."""
    for line in text.splitlines():
        if not line.startswith("#"):
            return
        yield line.removeprefix("#").removeprefix(" ")


def _read(name: str) -> str:
    folder = _INSTALLED if _INSTALLED.is_dir() else _IN_TREE
    try:
        return (folder / name).read_text(encoding="utf-8")
    except OSError as error:
        raise LabError(f"{folder / name}: {error.strerror}; install vpclab again") from error
