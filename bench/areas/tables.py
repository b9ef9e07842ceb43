"""Tables beside DPDK's: routes, rules, flows. In one process, one after the other, on the same traces.

Every answer of a trace is compared before anything is timed: a difference ends the run.
"""

from __future__ import annotations

import time
from array import array
from collections.abc import Callable, Iterator

from bench import traces
from bench.measure import Limit, NotRun, Options, Row, Sample, Target, alternate, geometric_mean
from bench.native import build, dpdk
from bench.native.dpdk import address
from bench.tables_of_ours import route_table

AREA = "tables"
FIB, LPM = "rte_fib AVX-512", "rte_lpm bulk"
FIB6, LPM6 = "rte_fib6 AVX-512", "rte_lpm6 bulk"
MEAN = "geometric mean"
FULL, FULL6 = 901_000, 200_000
TARGETS = [
    Target("lookup", f"50 routes, {MEAN}", FIB, 1.5, 3),
    Target("lookup", f"{FULL} IPv4 routes, {MEAN}", FIB, 1.0, 1.2),
    Target("lookup", f"{FULL6} IPv6 routes, {MEAN}", FIB6, 0.9, 1.2),
]
GROUPS = 16384
"""Second-level tables that DPDK may use: 2,048 would do for the IPv4 tables, IPv6 takes most of what it gets."""
GROUPS6 = 1 << 18


def rows(options: Options) -> Iterator[Row]:
    """All rows of this area."""
    missing = _missing()
    yield from _routes(options, missing, "vpc", 50, "50 routes")
    yield from _routes(options, missing, "internet", FULL, f"{FULL} IPv4 routes")
    yield from _routes(options, missing, "internet6", FULL6, f"{FULL6} IPv6 routes")


def _missing() -> NotRun | None:
    try:
        dpdk.library()
    except build.MissingError as error:
        return NotRun(str(error))
    return None


def agree(what: str, ours: array[int], theirs: array[int]) -> None:
    """End the run if two answer differently."""
    if ours != theirs:
        at = next(i for i, (a, b) in enumerate(zip(ours, theirs, strict=True)) if a != b)
        different = sum(a != b for a, b in zip(ours, theirs, strict=True))
        raise SystemExit(f"{what}: {different} of {len(ours)} answers differ, first at {at}: {ours[at]} and {theirs[at]}")


def per_item(run: Callable[[], object], items: int, *, least_ms: float = 20) -> Callable[[], float]:
    """Nanoseconds that one of `items` takes when all are run; repeated until it takes long enough to be measured."""
    began = time.thread_time()
    run()
    times = max(1, round(least_ms / 1000 / (time.thread_time() - began)))

    def measured() -> float:
        began = time.thread_time_ns()
        for _ in range(times):
            run()
        return (time.thread_time_ns() - began) / items / times

    return measured


# -- routes -----------------------------------------------------------------------------------------------------------


def _routes(
    options: Options, missing: NotRun | None, table: str, size: int, case: str, *, growth: bool = False
) -> Iterator[Row]:
    makers = {"vpc": traces.vpc_routes, "internet": traces.internet_routes, "internet6": traces.internet6_routes}
    six = table == "internet6"
    routes = makers[table](options.seed, size)
    count = 1 << (17 if options.quick else 20)
    began = time.thread_time()
    ours = route_table(routes)
    build_ours = time.thread_time() - began
    default = next(hop for _, length, hop in routes.rows if length == 0)
    columns = (routes.addresses(), routes.lengths(), routes.hops())
    arguments = (*map(address, columns), len(routes.rows), GROUPS6 if six else GROUPS)
    peers: dict[str, dpdk.Table] = {}
    build_times: dict[str, Sample | NotRun | Limit] = {}
    names = (FIB6, LPM6) if six else (FIB, LPM)
    for name in names if missing is None else ():
        if name == LPM and size > 10_000 and (options.quick or growth):
            continue  # takes minutes to build
        began = time.thread_time()
        kind = {FIB: dpdk.Fib, LPM: dpdk.Lpm, FIB6: dpdk.Fib6, LPM6: dpdk.Lpm6}[name]
        peers[name] = kind(*arguments, default=default)
        build_times[name] = Sample([time.thread_time() - began])
        if name in (FIB, FIB6) and not peers[name].is_vector:
            raise SystemExit(f"{name}: this CPU or DPDK has no AVX-512 lookup")
    lookup = build.kernels().lookup6 if six else build.kernels().lookup4
    samples: dict[str, list[Sample]] = {name: [] for name in ("ours", *peers)}
    for kind_of in traces.KINDS:
        own_keys = traces.traffic(table, size, kind_of, count, options.seed)
        keys = traces.packed6(own_keys[i] << 64 | own_keys[i + 1] for i in range(0, 2 * count, 2)) if six else own_keys
        own_answers, answers = array("I", bytes(4 * count)), array("I", bytes(4 * count))
        at = own_keys.buffer_info()[0]
        lookup(ours, 0, at, count, own_answers.buffer_info()[0])
        contenders = {"ours": per_item(lambda at=at: lookup(ours, 0, at, count), count)}  # type: ignore[misc]
        for name, peer in peers.items():
            peer.run(keys, count, answers)
            agree(f"{case}, {kind_of}: {name}", own_answers, answers)
            contenders[name] = per_item(lambda peer=peer, keys=keys: peer.run(keys, count), count)  # type: ignore[misc]
        measured = alternate(options.rounds, contenders)
        for name, sample in measured.items():
            samples[name].append(sample)
        if not growth:
            others = {name: measured[name] for name in peers} or {names[0]: missing}
            yield Row(AREA, "lookup", f"{case}, {kind_of}", "ns", measured["ours"], others)
    means = {name: geometric_mean(each) for name, each in samples.items()}
    others = {name: means[name] for name in peers} or {names[0]: missing}
    label = "growth: lookup" if growth else "lookup"
    yield Row(AREA, label, f"{case}, {MEAN}", "ns", means["ours"], others, against=names[0])
    sizes = {name: Sample([peer.bytes / size]) for name, peer in peers.items()} or {names[0]: missing}
    note = "DPDK's with the routes it keeps beside the table"
    yield Row(AREA, f"{'growth: ' if growth else ''}bytes per route", case, "B", Sample([ours.bytes / size]), sizes, note=note)
    if not growth:
        yield Row(AREA, "build", case, "s", Sample([build_ours]), build_times or {names[0]: missing})
    for peer in peers.values():
        peer.free()
