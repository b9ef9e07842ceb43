"""What a benchmark can say that does not depend on the day: sizes, steps, instructions, each against a ceiling.

    bench/smoke.py [--write]

Ceilings are in bench/ceilings.json. What is above its ceiling fails; what is well below says so, and then the ceiling
should come down. `--write` sets all of them to what is measured and a little more: to raise one is a decision that
needs a line in the changelog which says why. Exit status 0, 1 when something is above, 3 when something could not be
measured.
"""

from __future__ import annotations

import argparse
import json
import math
import sys
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT), str(ROOT / "public")]

from bench.native import build  # noqa: E402
from bench.packets import alone, counted  # noqa: E402
from bench.packets.growth import WAYS  # noqa: E402
from bench.packets.labs import NatLab, between, neighbours  # noqa: E402
from bench.tables import traces  # noqa: E402
from bench.tables.ours import networks, route_table, rule_rows, snapshot  # noqa: E402
from dataplane.engine import DataPlane  # noqa: E402

CEILINGS = ROOT / "bench" / "ceilings.json"
MOST = "keys probed until a session is found, most"
ROOM = {"instructions": 1.03, "system calls": 1.03, "buckets probed": 1.02, MOST: 1.4, "keys probed": 1.02}
ROOM |= dict.fromkeys(("bytes", "allocations", "times"), 1.0)
"""How far above what is measured a ceiling is written: compilers and C libraries differ a little in instructions, and
where keys go is decided by a secret that is new each time."""
LOOSE = 0.9
LOGGED = ", logged"
HIT = "hit"
TRIES = 5
"""Once in a while several of 1,024 flows meet in one bucket, as a secret has it, and one then has no entry: the best
of some tries is what hits take."""
FLOWS = 10_000
PACKETS = 1024


def sizes() -> Iterator[tuple[str, float]]:
    """Bytes of a route, a rule, a flow entry, a session, and all that one connection through NAT takes."""
    few, many = (route_table(networks(traces.internet_routes(1, n).rows, 32)).bytes for n in (1_000, 11_000))
    yield "bytes per IPv4 route", (many - few) / 10_000
    few, many = (route_table(networks(traces.internet6_routes(1, n).rows, 128)).bytes for n in (1_000, 11_000))
    yield "bytes per IPv6 route", (many - few) / 10_000
    few, many = (snapshot(**rule_rows(traces.rule_lines(1, n))).bytes for n in (100, 1_100))
    yield "bytes per rule", (many - few) / 1_000
    few, many = (snapshot(**rule_rows(traces.rule_lines(1, 10, n))).bytes for n in (10, 110))
    yield "bytes per entry of a prefix list", (many - few) / 1_000
    lab = NatLab(2 * FLOWS, 4 * FLOWS)
    traffic = lab.traffic(0, FLOWS)
    for _ in range(3):
        traffic.run(lab.replay)
    of, found = build.kernels().sizes(), build.kernels().probes(lab.plane.engine)
    session = of["session"] + of["bucket"] * found["buckets"] / found["capacity"]
    yield "bytes per flow entry", found["flow bytes"] / found["flows"]
    yield "bytes per session", session
    yield "bytes per connection through NAT", (found["flow bytes"] + session * found["sessions"]) / FLOWS
    for what, probed in (("session", "keys"), ("flow", "buckets")):
        mean, most = found[what]
        yield f"{probed} probed until a {what} is found, mean", mean
        yield f"{probed} probed until a {what} is found, most", most


def instructions() -> dict[str, float] | None:
    """Per packet, of 1,024 flows between neighbours and as many through NAT, not logged and logged."""
    cases = []
    for logged in (False, True):
        topology = neighbours(10, logged=logged)
        near = between(DataPlane(topology), 10, PACKETS)
        lab = NatLab(16, 16, logged=logged)
        far = lab.traffic(0, PACKETS)
        for case, t, each in (("neighbours", topology, near), ("NAT", lab.plane.topology, far)):
            rows, name = counted.topology_rows(t), f"{case}, logged" if logged else case
            cases += [
                counted.Case(f"{way}, {name}", rows, each.frames, each.length, each.ports, warm, memo, logged=logged)
                for way, (warm, memo) in WAYS.items()
                for _ in range(TRIES if way == HIT else 1)
            ]
    return counted.count(cases)


def measure(missing: list[str]) -> Iterator[tuple[str, float]]:
    """Everything; what cannot be measured is told in `missing`."""
    yield from sizes()
    for way, count in alone.allocations_per_packet().items():
        yield f"allocations per packet, {way}", count
    calls = alone.calls_per_packet()
    if calls is None:
        missing.append(alone.INSTALL)
    else:
        yield "system calls per packet", calls
    counts = instructions()
    if counts is None:
        missing.append(counted.INSTALL)
    for name, count in (counts or {}).items():
        yield f"instructions per packet, {name}", count
        if name.startswith("hit") and name.endswith(LOGGED):
            assert counts
            yield f"times the instructions, {name}", count / counts[name.removesuffix(LOGGED)]


def main() -> int:
    """Measure and judge."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--write", action="store_true", help="make what is measured the ceilings")
    options = parser.parse_args()
    ceilings: dict[str, float] = json.loads(CEILINGS.read_text()) if CEILINGS.exists() else {}
    written: dict[str, float] = {}
    missing: list[str] = []
    above = 0
    for name, value in measure(missing):
        room = next(factor for start, factor in ROOM.items() if name.startswith(start))
        written[name] = _rounded(value * room)
        ceiling = ceilings.pop(name, None)
        state = "has no ceiling" if ceiling is None else "ABOVE" if value > ceiling else "holds"
        if ceiling is not None and value < ceiling * LOOSE:
            state = "holds, lower the ceiling"
        above += state in ("ABOVE", "has no ceiling")
        print(f"{name:55} {value:10.2f}  at most {'' if ceiling is None else f'{ceiling:g}':8} {state}", flush=True)
    for text in missing:
        print(f"not run: {text}")
    if options.write and not missing:
        CEILINGS.write_text(json.dumps(written, indent=1) + "\n")
        return 0
    if ceilings and not missing:
        print(f"ceilings of nothing: {', '.join(ceilings)}")
    return 3 if missing else 1 if above or ceilings else 0


def _rounded(value: float) -> float:
    """Upwards, to what one likes to read."""
    return math.ceil(value) if value > 100 else math.ceil(value * 1000) / 1000


if __name__ == "__main__":
    sys.exit(main())
