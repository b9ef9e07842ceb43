"""Prefixes become disjoint intervals, and what cannot be packed is refused."""

from __future__ import annotations

from collections.abc import Iterable

from dataplane.errors import VpclabError
from dataplane.program import Prefix

Rows = tuple[list[int], list[int], list[int], list[int]]
"""Starts and values of IPv4, then of IPv6."""


class CompileError(VpclabError):
    """A Program that cannot be packed: a label nobody defined, two routes for one prefix, a limit of ours."""


def intervals(entries: Iterable[tuple[Prefix, int]]) -> Rows:
    """Turn prefixes with values into disjoint intervals: starts and values, IPv4 then IPv6.

    Longer prefixes win over shorter ones; a value of 0 means "no match", a hole in a wider prefix. Equal prefixes are
    refused.
    """
    entries = list(entries)
    return (*_family(entries, 4, 32), *_family(entries, 6, 128))


def _family(entries: list[tuple[Prefix, int]], version: int, bits: int) -> tuple[list[int], list[int]]:
    ranges = sorted(
        (int(p.network_address), p.prefixlen, int(p.broadcast_address), value)
        for p, value in entries
        if p.version == version
    )
    starts: list[int] = []
    values: list[int] = []

    def begin(at: int, value: int) -> None:
        if at >> bits:
            return
        if starts and starts[-1] == at:
            values[-1] = value
        elif not values or values[-1] != value:
            starts.append(at)
            values.append(value)
        if len(values) > 1 and values[-1] == values[-2]:
            del starts[-1], values[-1]

    enclosing: list[tuple[int, int]] = []  # (last address, value), innermost last
    previous: tuple[int, int] | None = None
    for first, length, last, value in ranges:
        if (first, length) == previous:
            raise CompileError(f"two entries for one prefix /{length} at {first}")
        previous = (first, length)
        while enclosing and enclosing[-1][0] < first:
            end, _ = enclosing.pop()
            begin(end + 1, enclosing[-1][1] if enclosing else 0)
        begin(first, value)
        enclosing.append((last, value))
    while enclosing:
        end, _ = enclosing.pop()
        begin(end + 1, enclosing[-1][1] if enclosing else 0)
    return starts, values
