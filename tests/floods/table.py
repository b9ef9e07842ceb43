"""``make floods``: every flood through real kernels, long enough to mean something, as a table of figures.

Each is sent from inside an instance while another one asks a third a question each millisecond; then a neighbour at
full rate has what it gets beside the flood compared with what it gets beside one like itself, in turns. Each flood has
a lab of its own, and goes on until that is worn out which it wears out, before anything is measured. Exit status 1 when
more is lost, or less is left, than docs/hardening.md says.
"""

from __future__ import annotations

import argparse
import statistics
import sys
from collections.abc import Sequence

from rich.console import Console
from rich.table import Table

from tests.apart import leave, stand_apart
from tests.floods.kinds import FLOODS, Flood
from tests.floods.wire import ASKED, LOST, SHARE, Flooding, Measured, echo, flooded_lab

HEADINGS = ("flood", "frames/s", "read/s", "lost by its kernel", "died of", "unanswered", "share left", "memory")


def main(words: Sequence[str] | None = None) -> int:
    """Measure, print, judge."""
    parser = argparse.ArgumentParser(prog="floods", description=(__doc__ or "").partition("\n\n")[0])
    parser.add_argument("--seconds", type=float, default=2.0, help="of each flood (2)")
    parser.add_argument("--rounds", type=int, default=5, help="turns of which the median is the share (5)")
    parser.add_argument("--only", default="", help="floods with this in their name")
    given = parser.parse_args(words)
    states = stand_apart()
    try:
        return _measure(given.seconds, given.rounds, given.only)
    finally:
        leave(states)


def _measure(seconds: float, rounds: int, only: str) -> int:
    table = Table(box=None, pad_edge=False, header_style="bold")
    for heading in HEADINGS:
        table.add_column(heading, justify="left" if heading in ("flood", "died of") else "right")
    beyond: list[str] = []
    for flood in FLOODS:
        if only not in flood.name:
            continue
        with flooded_lab() as lab, echo(lab, "calm", flood.asked, ASKED[flood.asked]) as line:
            before = lab.limits()["resident_bytes"]
            measured = Measured(lab, line)
            measured.wear_out(flood)
            seen = measured.flood(flood, seconds)
            share = statistics.median(measured.share(flood, seconds / 4) for _ in range(rounds))
            limits = lab.limits()
        grown = limits["resident_bytes"] - before
        table.add_row(*_cells(flood, seen, seconds), f"{share:.2f}", f"{grown >> 20} MiB")
        print(f"{flood.name}: {share:.2f}", file=sys.stderr)
        if seen.talked.lost > LOST:
            beyond.append(f"{flood.name}: {seen.talked.lost:.1%} of the questions were not answered")
        if share < SHARE:
            beyond.append(f"{flood.name}: a neighbour keeps {share:.2f} of its share")
        if grown > limits["bytes"]:
            beyond.append(f"{flood.name}: the daemon took {grown} bytes, and says {limits['bytes']} at most")
    screen = Console(width=None if sys.stdout.isatty() else 200, highlight=False)
    screen.print(table)
    for each in beyond:
        screen.print(f"beyond: {each}")
    return 1 if beyond else 0


def _cells(flood: Flood, seen: Flooding, seconds: float) -> tuple[str, ...]:
    died = ", ".join(
        f"{reason} {share:.0%}"
        for reason, count in sorted(seen.counts.died.items())
        if (share := count / max(seen.counts.read, 1)) >= 0.005  # the rest is what its kernel says of itself
    )
    return (
        flood.name,
        f"{seen.sent / seconds:,.0f}",
        f"{seen.counts.read / seconds:,.0f}",
        f"{seen.counts.lost_in_kernel / seen.sent:.0%}",
        died or "-",
        f"{seen.talked.lost:.2%}",
    )


if __name__ == "__main__":
    sys.exit(main())
