"""The tree of a lab file as written: text, lists and keyed values, each with its line and column.

This is all of YAML that lab files use. What the text means (a number, an address, a name) is decided later,
by the type the model wants in that place.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import NamedTuple, TypeAlias


@dataclass(slots=True)
class Scalar:
    """One piece of text."""

    text: str
    plain: bool
    """Written without quotes, so that ``80`` may be a number and ``true`` a boolean."""
    line: int
    """Line of the first character, from 1."""
    column: int
    """Column of the first character, from 1, in characters."""

    @property
    def absent(self) -> bool:
        """Nothing at all was written, as after a key that ends its line."""
        return self.plain and not self.text


@dataclass(slots=True)
class Sequence:
    """A list."""

    line: int
    column: int
    items: list[Node] = field(default_factory=list)


class Entry(NamedTuple):
    """One key of a mapping with its value."""

    key: Scalar
    value: Node


@dataclass(slots=True)
class Mapping:
    """Keys with values, in file order; keys that a merge (``<<``) brought in come last."""

    line: int
    column: int
    entries: dict[str, Entry] = field(default_factory=dict)


Node: TypeAlias = Scalar | Sequence | Mapping


def place(node: Node, key: Scalar | None = None) -> tuple[int, int]:
    """Return line and column where a person should look for a value: lists and mappings begin at their key."""
    if key is not None and not isinstance(node, Scalar):
        return key.line, key.column
    if key is not None and isinstance(node, Scalar) and node.absent:
        return key.line, key.column
    return node.line, node.column


def described(node: Node) -> str:
    """Say in a few words what was written, for messages."""
    if isinstance(node, Sequence):
        return "a list"
    if isinstance(node, Mapping):
        return "keys and values" if node.entries else "{}"
    return shortened(node.text) if node.plain else shortened(node.text, '"')


def shortened(text: str, quote: str = "", limit: int = 60) -> str:
    """Return text for a message: printable, on one line, of at most so many characters."""
    safe = "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text[: limit + 1])
    return quote + (safe if len(safe) <= limit else safe[: limit - 3] + "...") + quote
