"""What a fault is, and the faults that somebody chose (`chosen.toml`)."""

from __future__ import annotations

import hashlib
import tomllib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent.parent
CHOSEN = Path(__file__).parent / "chosen.toml"

# What decides verdicts, and what is said of them in logs. Pages that are written from it decide nothing.
DECIDING = (
    "dataplane/limits.py", "dataplane/load/*.py", "dataplane/model/*.py", "dataplane/topology/*.py",
    "dataplane/program/*.py", "dataplane/compile/*.py", "dataplane/reference/*.py", "dataplane/observe/*.py",
    "fastpath/*.pyx", "fastpath/*.pxd", "fastpath/*.h",
)  # fmt: skip
ASIDE = ("_page.py", "load/nearest.py", "load/outline.py", "fastpath/sanitizer.pxd", "fastpath/worker.pyx")
"""Pages, suggestions in messages, and what moves frames between sockets and the engine."""


class NoSuchLineError(Exception):
    """The line that a fault replaces is not in its file, or more than once."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Fault:
    """One line of a file that becomes another one.

    `line` and `becomes` have no indentation; `nth` counts equal lines of the file, from 1. `means` is what would be
    wrong then; of a drawn fault, what was done to the line.
    """

    file: str
    line: str
    becomes: str
    means: str
    nth: int = 1
    origin: str = "chosen"

    @property
    def key(self) -> str:
        """The same for the same change of the same line, wherever in its file that stands now."""
        words = "\0".join((self.file, self.line, str(self.nth), self.becomes))
        return hashlib.sha256(words.encode()).hexdigest()[:12]

    def number(self, root: Path = ROOT) -> int:
        """Where in its file the line is, from 1.

        Raises:
            NoSuchLineError: it is not there.
        """
        lines = (root / self.file).read_text().splitlines()
        at = [number for number, line in enumerate(lines, 1) if line.strip() == self.line]
        if len(at) < self.nth:
            raise NoSuchLineError(f"{self.file} has {len(at)} times the line: {self.line}")
        return at[self.nth - 1]

    def put_into(self, root: Path) -> None:
        """Change the file in the tree at `root`."""
        path = root / self.file
        lines = path.read_text().splitlines(keepends=True)
        at = self.number(root) - 1
        body = lines[at].strip()
        lines[at] = lines[at].replace(body, self.becomes, 1)
        path.unlink()
        path.write_text("".join(lines))


def chosen_rows(path: Path = CHOSEN) -> list[dict[str, Any]]:
    """The chosen faults as they are written, whether or not their lines are there."""
    rows: list[dict[str, Any]] = tomllib.loads(path.read_text())["fault"]
    return rows


def chosen(path: Path = CHOSEN) -> list[Fault]:
    """The chosen faults, in the order of the file.

    Raises:
        NoSuchLineError: the code has changed, so that the line is not there, or there are several and `nth` is missing.
    """
    found = []
    for row in chosen_rows(path):
        fault = Fault(**row)
        if "nth" not in row:
            again = Fault(**(row | {"nth": 2}))
            try:
                number = again.number()
            except NoSuchLineError:
                pass
            else:
                raise NoSuchLineError(f"{fault.file} has the line at {fault.number()} and {number}: write nth")
        fault.number()
        found.append(fault)
    return found


def deciding(root: Path = ROOT) -> Iterator[str]:
    """The files that decide, as paths from the root."""
    for pattern in DECIDING:
        for path in sorted(root.glob(pattern)):
            name = str(path.relative_to(root))
            if not name.endswith(ASIDE):
                yield name


def digest_of_deciding(root: Path = ROOT) -> str:
    """Changes when any of the deciding files does."""
    digest = hashlib.sha256()
    for name in deciding(root):
        digest.update(name.encode() + b"\0" + (root / name).read_bytes() + b"\0")
    return digest.hexdigest()[:12]


def states_of(files: Iterable[str], root: Path = ROOT) -> dict[str, str]:
    """By file, what results of faults in it are of: the deciding files, and the file itself when it is none."""
    names, state = set(deciding(root)), digest_of_deciding(root)
    return {file: state if file in names else _with(state, root / file) for file in set(files)}


def _with(state: str, path: Path) -> str:
    return hashlib.sha256(state.encode() + (path.read_bytes() if path.exists() else b"")).hexdigest()[:12]
