"""From a lab file to a checked topology, or to what is wrong with it, and what that keeps from being judged."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dataplane.errors import EVERYTHING_ELSE, ConfigurationError, Problem
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
            ConfigurationError: every problem of the topology, each with file, line and column; but what captures and
                checks say is looked at no further than for names that nobody has while anything else is wrong.
        """
        try:
            return build(self.lab_file)
        except ConfigurationError as error:
            problems = [self.marks.located(problem) for problem in error.problems]
            raise ConfigurationError(problems, unjudged=error.unjudged) from None


def load(source: Path | str | bytes, *, file_name: str | None = None) -> LoadedFile:
    """Read a lab file: each value strictly of its type, and no key that the model does not know.

    `bytes`, a string of several lines, and a string that comes with a `file_name` are the text itself; any other
    string, and a `Path`, name a file. `file_name` is what messages call it.

    Raises:
        ConfigurationError: everything that kept the file from being read, and what is wrong between the parts that
            could be read, as far as that holds whatever the others say (`dataplane.load.soundness`); its `unjudged`
            is the rest.
    """
    text, name = read_text(source, file_name)
    root, problems = compose(text, name)
    if root is None:
        raise ConfigurationError(problems, unjudged=[EVERYTHING_ELSE])
    lab_file, found = read_lab_file(root, name)
    problems += found
    if lab_file is None or problems:
        further, unjudged = _further_problems(root, name, problems)
        raise ConfigurationError([*problems, *further], unjudged=unjudged)
    return LoadedFile(lab_file, Marks(name, root))


def load_topology(source: Path | str | bytes, *, file_name: str | None = None) -> Topology:
    """Read and check a lab file. `source` and `file_name` are as for `load`.

    Raises:
        ConfigurationError: what is wrong with the file, each problem with file, line and column, and which parts cannot
            be judged before that is mended.
    """
    return load(source, file_name=file_name).topology()


def read_lab_file(root: Node, file_name: str) -> tuple[LabFile | None, list[Problem]]:
    """Return what the tree says, or None and why it says nothing."""
    reader = Reader(file_name)
    value: Any = reader.read(LAB_FILE, Place(root, ""))
    assert (value is FAILED) == bool(reader.problems), "what could not be read is a problem, and nothing else is"
    return (None if value is FAILED else value), reader.problems


def _further_problems(root: Node, file_name: str, unread: list[Problem]) -> tuple[list[Problem], tuple[str, ...]]:
    """Return the problems of the topology among the parts that have nothing to do with what is unread.

    The other parts come second, by their paths.
    """
    part, left_out = sound_part(root, LAB_FILE, [problem.path for problem in unread])
    if part is None:
        return [], left_out
    lab_file, _ = read_lab_file(part, file_name)
    if lab_file is None:
        return [], (EVERYTHING_ELSE,)
    try:
        LoadedFile(lab_file, Marks(file_name, root)).topology()
    except ConfigurationError as error:
        return list(error.problems), left_out
    return [], left_out
