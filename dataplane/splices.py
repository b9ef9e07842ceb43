"""Where one list became another: runs of entries that gave way to others."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from operator import eq
from typing import NamedTuple, TypeVar

Entry = TypeVar("Entry")
NEAR = 4
"""How many entries that are gone or new in one place do not hide that what follows is the same."""
MOST = 16
RUN = 64
"""Entries that are compared as one, where that takes no call for each."""


class Splice(NamedTuple):
    """Entries `at` to `at + removed` of the old list gave way to entries `first` to `first + added` of the new one."""

    at: int
    removed: int
    first: int
    added: int


def splices(old: Sequence[Entry], new: Sequence[Entry], same: Callable[[Entry, Entry], object] = eq) -> list[Splice]:
    """How `old` became `new`, in order; applied to `old` from the last to the first they give `new`.

    Not always the fewest entries: where lists differ much, one splice holds all that is between their ends.
    """
    if type(old) is not type(new):
        old, new = tuple(old), tuple(new)
    i = _alike(old, new, 0, 0, same)
    if i == len(old) == len(new):
        return []
    rest = _alike(old[: i - 1 if i else None : -1], new[: i - 1 if i else None : -1], 0, 0, same)
    old_end, new_end = len(old) - rest, len(new) - rest
    j = i
    found: list[Splice] = []
    while i < old_end or j < new_end:
        step = _next_alike(old, new, i, j, old_end, new_end, same)
        if step is None or len(found) == MOST:
            found.append(Splice(i, old_end - i, j, new_end - j))
            break
        found.append(Splice(i, step[0], j, step[1]))
        i, j = i + step[0], j + step[1]
        run = _alike(old[:old_end], new[:new_end], i, j, same)
        i, j = i + run, j + run
    return found


def _alike(old: Sequence[Entry], new: Sequence[Entry], i: int, j: int, same: Callable[[Entry, Entry], object]) -> int:
    """How many entries from `i` and `j` on are the same."""
    start, most = i, min(len(old), i + len(new) - j)
    while same is eq and i + RUN <= most and old[i : i + RUN] == new[j : j + RUN]:
        i += RUN
        j += RUN
    while i < most and same(old[i], new[j]):
        i += 1
        j += 1
    return i - start


def _next_alike(
    old: Sequence[Entry],
    new: Sequence[Entry],
    i: int,
    j: int,
    old_end: int,
    new_end: int,
    same: Callable[[Entry, Entry], object],
) -> tuple[int, int] | None:
    """How many entries of each to leave out until the next are the same, or nothing is left; None: too many."""
    for total in range(1, 2 * NEAR + 1):
        for gone in range(max(0, total - NEAR), min(NEAR, total) + 1):
            there, here = i + gone, j + total - gone
            if there == old_end and here == new_end:
                return gone, total - gone
            if there < old_end and here < new_end and same(old[there], new[here]):
                return gone, total - gone
    return None
