"""Longest prefix match beside rte_fib and rte_lpm."""

from __future__ import annotations

from array import array
from collections.abc import Iterator, Mapping

from bench.compared import agree, per_item, room, seconds
from bench.measure import Limit, NotRun, Options, Row, Sample, Target, alternate, geometric_mean
from bench.native import build, dpdk
from bench.native.dpdk import address
from bench.tables import traces
from bench.tables.ours import networks, route_table

AREA = "tables"
FIB, LPM = "rte_fib AVX-512", "rte_lpm bulk"
FIB6, LPM6 = "rte_fib6 AVX-512", "rte_lpm6 bulk"
KINDS: dict[str, type[dpdk.Table]] = {FIB: dpdk.Fib, LPM: dpdk.Lpm, FIB6: dpdk.Fib6, LPM6: dpdk.Lpm6}
MEAN = "geometric mean"
FULL, FULL6 = 901_000, 200_000
CASES = (
    ("vpc", 50, "50 routes"),
    ("internet", FULL, f"{FULL} IPv4 routes"),
    ("internet6", FULL6, f"{FULL6} IPv6 routes"),
)
TARGETS = [
    Target("lookup", f"50 routes, {MEAN}", FIB, 1.5, 3),
    Target("lookup", f"{FULL} IPv4 routes, {MEAN}", FIB, 1.0, 1.2),
    Target("lookup", f"{FULL6} IPv6 routes, {MEAN}", FIB6, 0.9, 1.2),
]
GROWTH = (50, 500, 5_000, 50_000, 500_000, 1_000_000)
GROUPS, GROUPS6 = 16384, 1 << 18
"""Second-level tables that DPDK may use."""
SLOW_BUILD = 10_000
"""Routes from which rte_lpm takes minutes to build: left out of quick runs and of the growth."""


def rows(options: Options, missing: NotRun | None) -> Iterator[Row]:
    """All that is measured of routes."""
    for table, size, case in CASES:
        yield from _table(options, missing, table, size, case)
    for size in GROWTH[: -2 if options.quick else None]:
        table = "vpc" if size == 50 else "internet"
        yield from _table(options, missing, table, size, f"{size} IPv4 routes", growth=True)


def _table(
    options: Options, missing: NotRun | None, table: str, size: int, case: str, *, growth: bool = False
) -> Iterator[Row]:
    label = "growth: " if growth else ""
    six = table == "internet6"
    routes = traces.TABLES[table](options.seed, size)
    names: tuple[str, ...] = (FIB6, LPM6) if six else (FIB, LPM)
    if size > SLOW_BUILD and (options.quick or growth) and not six:
        names = (FIB,)
    entries = networks(routes.rows, routes.bits)
    made = []
    builds: dict[str, Sample | NotRun | Limit] = {"ours": Sample([seconds(lambda: made.append(route_table(entries)))])}
    (ours,) = made
    peers: dict[str, dpdk.Table] = {}
    if missing is None:
        for name in names:
            builds[name] = Sample([seconds(lambda name=name: peers.update({name: _peer(name, routes)}))])  # type: ignore[misc]
    scalar = [name for name, peer in peers.items() if peer.has_vector and not peer.is_vector]
    note = f"{scalar[0]}: this machine has no AVX-512, its best other lookup" if scalar else ""
    samples: dict[str, list[Sample]] = {name: [] for name in ("ours", *peers)}
    for kind in traces.KINDS:
        measured = _kind(options, ours, peers, (table, size, kind), f"{case}, {kind}")
        for name, sample in measured.items():
            samples[name].append(sample)
        if not growth:
            yield _row("lookup", f"{case}, {kind}", "ns", measured, names, missing, note)
    means = {name: geometric_mean(each) for name, each in samples.items()}
    yield _row(f"{label}lookup", f"{case}, {MEAN}", "ns", means, names, missing, note)
    sizes = {"ours": Sample([ours.bytes / size]), **{name: Sample([peer.bytes / size]) for name, peer in peers.items()}}
    yield _row(f"{label}bytes per route", case, "B", sizes, names, missing)
    if not growth:
        yield _row("build", case, "s", builds, names, missing)
    for peer in peers.values():
        peer.free()


def _row(
    measure: str,
    case: str,
    unit: str,
    sides: Mapping[str, Sample | NotRun | Limit],
    names: tuple[str, ...],
    missing: NotRun | None,
    note: str = "",
) -> Row:
    ours = sides["ours"]
    assert isinstance(ours, Sample)
    peers = {name: sides[name] if missing is None else missing for name in names}
    return Row(AREA, measure, case, unit, ours, peers, against=names[0], note=note)


def _peer(name: str, routes: traces.Routes) -> dpdk.Table:
    columns = (routes.addresses(), routes.lengths(), routes.hops())
    groups = GROUPS if routes.bits == 32 else GROUPS6
    return KINDS[name](*map(address, columns), len(routes.rows), groups, default=routes.default)


def _kind(
    options: Options, ours: object, peers: dict[str, dpdk.Table], trace: tuple[str, int, str], what: str
) -> dict[str, Sample]:
    table, size, kind = trace
    count = 1 << (17 if options.quick else 20)
    own_keys = traces.traffic(table, size, kind, count, options.seed)
    if table == "internet6":
        lookup = build.kernels().lookup6
        keys = traces.packed6(own_keys[i] << 64 | own_keys[i + 1] for i in range(0, 2 * count, 2))
    else:
        lookup, keys = build.kernels().lookup4, own_keys
    at = own_keys.buffer_info()[0]
    own_answers, answers = room(count), room(count)
    lookup(ours, 0, at, count, own_answers.buffer_info()[0])
    contenders = {"ours": per_item(lambda: lookup(ours, 0, at, count), count)}

    def run(peer: dpdk.Table, answers: array[int] | None = None) -> int:
        return peer.run(keys, count, answers)

    for name, peer in peers.items():
        run(peer, answers)
        agree(f"{what}: {name}", own_answers, answers)
        contenders[name] = per_item(lambda peer=peer: run(peer), count)  # type: ignore[misc]
    return alternate(options.rounds, contenders)
