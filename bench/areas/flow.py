"""The way of a packet in memory: beside a bare loop in C on the same packets, and beside itself in a larger lab."""

from __future__ import annotations

from collections.abc import Iterator

from bench import geneve
from bench.measure import Options, Row
from bench.packets import growth, hits

TARGETS = [*hits.TARGETS, *growth.TARGETS, *geneve.TARGETS]


def rows(options: Options) -> Iterator[Row]:
    """All rows of this area."""
    for part in (hits, growth, geneve):
        yield from part.rows(options)
