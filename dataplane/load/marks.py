"""Where in the file a dotted path was written.

Checks name what is wrong by path (``vpcs.shop.route_tables.public.routes[1].target``); people look for lines. The
tree of nodes knows both, so a path is walked through it, as far as it leads: a key that is missing has the place
of what it is missing in.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, replace

from dataplane.errors import Problem
from dataplane.load.nodes import Entry, Mapping, Node, Scalar, Sequence, place, shortened

_INDEX = re.compile(r"\[(\d{1,9})\]")


@dataclass(frozen=True, slots=True)
class Marks:
    """The places of everything in one lab file."""

    file_name: str
    root: Node

    def locate(self, path: str) -> tuple[int, int]:
        """Return line and column, both from 1, of the longest part of the path that is in the file."""
        node: Node = self.root
        key: Scalar | None = None
        rest = path
        while rest:
            if isinstance(node, Mapping):
                found = _entry(node, rest)
                if found is None:
                    break
                (key, node), rest = found
            elif isinstance(node, Sequence):
                match = _INDEX.match(rest)
                if match is None or int(match[1]) >= len(node.items):
                    break
                node, key = node.items[int(match[1])], None
                rest = rest[match.end() :].removeprefix(".")
            else:
                break
        return place(node, key)

    def located(self, problem: Problem) -> Problem:
        """Return the problem with file, line and column, unless it has them."""
        if problem.line:
            return problem
        line, column = self.locate(problem.path)
        return replace(problem, file=self.file_name, line=line, column=column)


def _entry(node: Mapping, rest: str) -> tuple[Entry, str] | None:
    """Return the entry that a path goes on with, and what is left; keys may hold dots themselves."""
    best: tuple[Entry, str] | None = None
    length = -1
    for name, entry in node.entries.items():
        for spelling in (name, shortened(name)):
            if len(spelling) > length and rest.startswith(spelling):
                left = rest[len(spelling) :]
                if not left or left[0] in ".[":
                    best, length = (entry, left.removeprefix(".")), len(spelling)
    return best
