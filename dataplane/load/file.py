"""From a lab file to a checked topology, or to everything that is wrong with it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dataplane.errors import ConfigurationError, Problem
from dataplane.load.compose import compose
from dataplane.load.marks import Marks
from dataplane.load.nodes import Node
from dataplane.load.reading import FAILED, Place, Reader
from dataplane.load.shapes import Construct
from dataplane.load.soundness import sound_part
from dataplane.load.source import read_text
from dataplane.model.lab_file import LabFile
from dataplane.topology import Topology, build

LAB_FILE = Construct(LabFile)
"""The shape of the file as a whole."""


@dataclass(frozen=True, slots=True)
class LoadedFile:
    """A lab file that could be read; nothing in it was checked against anything else yet."""

    lab_file: LabFile
    marks: Marks

    def topology(self) -> Topology:
        """Return the checked topology.

        Raises:
            ConfigurationError: every problem of the topology, each with file, line and column.
        """
        try:
            return build(self.lab_file)
        except ConfigurationError as error:
            raise ConfigurationError([self.marks.located(problem) for problem in error.problems]) from None


def load(source: Path | str | bytes, *, file_name: str | None = None) -> LoadedFile:
    """Read a lab file: each value strictly of its type, and no key that the model does not know.

    `bytes`, a string of several lines, and a string that comes with a `file_name` are the text itself; any other
    string, and a `Path`, name a file. `file_name` is what messages call it.

    Raises:
        ConfigurationError: everything that kept the file from being read, in file order.
    """
    text, name = read_text(source, file_name)
    root, problems = compose(text, name)
    if root is None:
        raise ConfigurationError(problems)
    lab_file, found = _read(root, name)
    problems += found
    if problems:
        raise _Unread(root, name, problems)
    return LoadedFile(lab_file, Marks(name, root))


def load_topology(source: Path | str | bytes, *, file_name: str | None = None) -> Topology:
    """Read and check a lab file. `source` and `file_name` are as for `load`.

    Raises:
        ConfigurationError: everything wrong with the file, each problem with file, line and column. When some of
            it could not be read, problems between the remaining parts are included as far as they hold
            whatever the unread parts say.
    """
    try:
        return load(source, file_name=file_name).topology()
    except _Unread as unread:
        raise ConfigurationError([*unread.problems, *unread.further_problems()]) from None


class _Unread(ConfigurationError):
    """Text that is YAML, but no lab file as a whole."""

    def __init__(self, root: Node, file_name: str, problems: list[Problem]) -> None:
        super().__init__(problems)
        self.root = root
        self.file_name = file_name

    def further_problems(self) -> list[Problem]:
        """Return the problems of the topology among the parts that have nothing to do with what is unread."""
        part = sound_part(self.root, LAB_FILE, [problem.path for problem in self.problems])
        if part is None:
            return []
        lab_file, found = _read(part, self.file_name)
        if found:
            return []
        try:
            LoadedFile(lab_file, Marks(self.file_name, self.root)).topology()
        except ConfigurationError as error:
            return list(error.problems)
        return []


def _read(root: Node, name: str) -> tuple[LabFile, list[Problem]]:
    reader = Reader(name)
    value: Any = reader.read(LAB_FILE, Place(root, ""))
    assert (value is FAILED) == bool(reader.problems), "what could not be read is a problem, and nothing else is"
    return value, reader.problems
