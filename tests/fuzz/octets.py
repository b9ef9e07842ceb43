"""Octets of a fuzzed input, read as decisions: any octets mean something, and few changed ones change little."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeVar

T = TypeVar("T")


class Octets:
    """An input and how far it has been read; behind its end there are zeros."""

    def __init__(self, data: bytes) -> None:
        self._data = data
        self._at = 0

    @property
    def left(self) -> int:
        """How many are still to be read."""
        return max(0, len(self._data) - self._at)

    def one(self) -> int:
        """The next octet."""
        at = self._at
        self._at = at + 1
        return self._data[at] if at < len(self._data) else 0

    def two(self) -> int:
        """The next two, as a number."""
        return self.one() << 8 | self.one()

    def take(self, size: int) -> bytes:
        """The next `size` of them, or fewer at the end."""
        taken = self._data[self._at : self._at + size]
        self._at += size
        return taken

    def among(self, choices: Sequence[T]) -> T:
        """One of several."""
        return choices[self.one() % len(choices)]

    def rarely(self, of: int) -> bool:
        """True once in `of` octets."""
        return self.one() % of == of - 1
