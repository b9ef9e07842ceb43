"""Stable numbers for named things.

Sessions, traces and logs outlive Snapshots, so every object and every rule has a number that is given once
and never given to anything else. One `Names` lives as long as its lab: `apply` lowers the new topology with
the old `Names`, and what did not change keeps its number.
"""

from __future__ import annotations

from typing import NamedTuple


class Name(NamedTuple):
    """What a number stands for."""

    kind: str
    """AWS word, e.g. ``"security-group"``, ``"route"``, ``"acl-rule"``."""
    path: str
    """Where the user declared it, e.g. ``"shop/web"``; for rules followed by the rule in words."""

    def __str__(self) -> str:
        return f"{self.kind} {self.path}"


class Names:
    """Number everything once, starting at 1 (0 means "none")."""

    def __init__(self) -> None:
        self._ids: dict[Name, int] = {}
        self._names: list[Name] = [Name("none", "-")]

    def intern(self, kind: str, path: str) -> int:
        """Return the number of this thing, giving it one when it is new."""
        name = Name(kind, path)
        number = self._ids.get(name)
        if number is None:
            number = len(self._names)
            self._ids[name] = number
            self._names.append(name)
        return number

    def find(self, kind: str, path: str) -> int:
        """Return the number of this thing, or 0 when it never had one."""
        return self._ids.get(Name(kind, path), 0)

    def __getitem__(self, number: int) -> Name:
        return self._names[number]

    def __len__(self) -> int:
        return len(self._names)
