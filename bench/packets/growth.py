"""What a packet costs as a lab grows: in time, and in instructions, where nothing should be seen of the size."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import cycle

from bench.compared import per_item, seconds
from bench.measure import Limit, NotRun, Options, Row, Sample, Target, alternate
from bench.native import build
from bench.packets import counted
from bench.packets.labs import Traffic, between, neighbours
from dataplane.compile import compile_program
from dataplane.engine import DataPlane
from dataplane.names import Names
from dataplane.topology import Topology

AREA = "flow"
PACKETS = 1024
INTERFACES = (2, 10, 100, 1_000, 10_000)
RULES = (10, 100, 1_000)
FULL = "full compile"
WAYS = {"hit": (2, True), "walked": (2, False), "first packet": (0, True)}
"""How often the trace goes through before it is counted, and whether flow entries are used."""
AT_LEAST, AIM = 1 / 1.2, 1 / 1.05
TARGETS = [
    *(
        Target("instructions per packet", f"{way}, {many} {what}", f"with 10 {what}", AT_LEAST, AIM)
        for what, many in (("interfaces", INTERFACES[-1]), ("rules", RULES[-1]))
        for way in ("hit", "first packet")
    ),
    Target("one rule changed", f"{INTERFACES[-1]} interfaces", FULL, 20, 100),
]


def rows(options: Options) -> Iterator[Row]:
    """All that is measured of growth."""
    sizes = INTERFACES[:-1] if options.quick else INTERFACES
    cases: list[counted.Case] = []
    for size in sizes:
        topology = neighbours(size)
        plane = DataPlane(topology)
        traffic = between(plane, size, PACKETS)
        yield from _timed(options, plane, traffic, f"{size} interfaces")
        cases += _cases(topology, traffic, f"{size} interfaces")
        if size == sizes[-1]:
            yield _changed(options, size)
    for size in RULES:
        topology = neighbours(10, rules=size)
        cases += _cases(topology, between(DataPlane(topology), 10, PACKETS), f"{size} rules")
    yield from _counted(cases, sizes)


def _timed(options: Options, plane: DataPlane, traffic: Traffic, case: str) -> Iterator[Row]:
    replay = build.kernels().Replay(plane.engine)
    for _ in range(3):
        if traffic.run(replay) != traffic.count:
            raise SystemExit(f"{case}: some packets do not pass")
    hit = alternate(options.rounds, {"ours": per_item(lambda: traffic.run(replay), traffic.count)})
    plane.engine.memo = False
    walked = alternate(options.rounds, {"ours": per_item(lambda: traffic.run(replay), traffic.count)})
    yield Row(AREA, "growth: packet, hit", case, "ns", hit["ours"])
    yield Row(AREA, "growth: packet, walked", case, "ns", walked["ours"])


def _cases(topology: Topology, traffic: Traffic, case: str) -> list[counted.Case]:
    rows = counted.topology_rows(topology)
    return [
        counted.Case(f"{way}, {case}", rows, traffic.frames, traffic.length, traffic.ports, warm, memo)
        for way, (warm, memo) in WAYS.items()
    ]


def _counted(cases: list[counted.Case], sizes: tuple[int, ...]) -> Iterator[Row]:
    found = counted.count(cases)
    for what, counts in (("interfaces", sizes), ("rules", RULES)):
        for way in WAYS:
            for size in counts:
                case, peer = f"{way}, {size} {what}", f"with 10 {what}"
                if found is None:
                    ours, missing = Limit("not counted"), NotRun(counted.INSTALL)
                    yield Row(AREA, "instructions per packet", case, "", ours, {peer: missing}, against=peer)
                    continue
                base = Sample([found[f"{way}, 10 {what}"]])
                yield Row(AREA, "instructions per packet", case, "", Sample([found[case]]), {peer: base}, against=peer)


def _changed(options: Options, size: int) -> Row:
    """Another rule in the group of all, until the engine has it; beside lowering and compiling everything."""
    topologies = [neighbours(size, last=last) for last in (7, 8)]
    plane = DataPlane(topologies[0])
    order = cycle(reversed(topologies))
    measured = alternate(
        options.rounds,
        {
            "ours": lambda: seconds(lambda: plane.apply(next(order))),
            FULL: lambda: seconds(lambda: compile_program(topologies[0].lower(Names()), generation=1)),
        },
    )
    return Row(
        AREA, "one rule changed", f"{size} interfaces", "s", measured["ours"], {FULL: measured[FULL]}, against=FULL
    )
