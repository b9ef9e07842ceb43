"""Tables beside DPDK's: routes, rules, flows. In one process, one after the other, on the same traces.

Every answer of a trace is compared before anything is timed: a difference ends the run.
"""

from __future__ import annotations

from collections.abc import Iterator

from bench.compared import missing_dpdk
from bench.measure import Options, Row
from bench.tables import flows, routes, rules

PARTS = {"routes": routes, "rules": rules, "flows": flows}
TARGETS = [*routes.TARGETS, *rules.TARGETS, *flows.TARGETS]


def rows(options: Options) -> Iterator[Row]:
    """All rows of this area, or of `Options.part` of it."""
    missing = missing_dpdk()
    for name, part in PARTS.items():
        if options.part in ("", name):
            yield from part.rows(options, missing)
