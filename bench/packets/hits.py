"""The way of a packet that has its flow entry, with NAT, beside the bare loop in C; and what a new connection costs."""

from __future__ import annotations

import ctypes
from collections.abc import Iterator

from bench.compared import per_item, room, seconds
from bench.measure import Limit, NotRun, Options, Row, Sample, Target, alternate, memory_available
from bench.native import build, dpdk
from bench.native.dpdk import address
from bench.packets.labs import ACK, NOW, SIZE, SYN, SYN_ACK, NatLab, Traffic, loop
from dataplane.probe import TCP

AREA = "flow"
LOOP, ADDS = "bare C loop", "two rte_hash adds"
FIRST, WHOLE = "first packet", "handshake and a packet each way"
CASES = (1_000, 100_000, 1_000_000)
GROWTH = (1_000, 10_000, 100_000, 1_000_000, 10_000_000)
AT_LEAST, AIM = 1 / 2.2, 1 / 1.6
TARGETS = [
    *(Target("hit with NAT", f"{size} flows", LOOP, AT_LEAST, AIM) for size in CASES),
    *(Target("new connection", case, ADDS, None, 1) for case in (FIRST, WHOLE)),
]
CHUNK = 1 << 16
LINKS_PER_FLOW = 3
SESSIONS_PER_FLOW = 4.4
"""Room for twice what a flow takes: packets of one interface open half of all at most."""


def rows(options: Options) -> Iterator[Row]:
    """All that is measured of flows."""
    for size in GROWTH[: -2 if options.quick else None]:
        yield from _hits(options, size)
    yield from connections(options)


def _needed(size: int) -> int:
    of = build.kernels().sizes()
    entry = of["flow"] + of["flow bucket"] / 2 + LINKS_PER_FLOW * of["link"]
    return int(size * (entry + SESSIONS_PER_FLOW * (of["session"] + 4 * of["bucket"]) + 300))


def _hits(options: Options, size: int) -> Iterator[Row]:
    count = max(CHUNK, min(1 << (18 if options.quick else 20), 1 << (size - 1).bit_length()))
    label = [("hit with NAT", size in CASES), ("growth: hit with NAT", True)]
    needed = _needed(size)
    if needed > 0.8 * memory_available():
        limit = Limit(f"{needed >> 20} MB for {size} flows, the machine has {memory_available() >> 20} MB")
        yield Row(AREA, "growth: hit with NAT", f"{size} flows", "ns", limit, {LOOP: limit}, against=LOOP)
        return
    lab = NatLab(max(16, size), int(size * SESSIONS_PER_FLOW) + 1000)
    bare = ctypes.c_void_p(loop().loop_new(size))
    for first in range(0, size, CHUNK):
        some = lab.traffic(first, min(CHUNK, size - first))
        left = room(some.count * SIZE, "B")
        for _ in range(2):  # opens the flow, then remembers it
            some.run(lab.replay)
        if some.run(lab.replay, left) != some.count:
            raise SystemExit(f"{size} flows: ours drops some of them")
        loop().loop_add(bare, address(some.frames), address(left), SIZE, some.count)
    order = room(count)
    loop().order_random(address(order), count, size, ctypes.c_uint64(options.seed))
    trace = lab.traffic(0, count, order)
    note = _compare(lab, bare, trace, f"{size} flows")
    slots = room(128 * 192, "B")
    everything = (address(slots), address(trace.frames), SIZE, SIZE, count)
    measured = alternate(
        options.rounds,
        {
            "copy": per_item(lambda: loop().loop_copy(*everything), count),
            "ours": per_item(lambda: trace.run(lab.replay), count),
            LOOP: per_item(lambda: loop().loop_run(bare, *everything, None), count),
        },
    )
    ours, peer = (_less(measured[name], measured["copy"]) for name in ("ours", LOOP))
    for name, wanted in label:
        if wanted:
            yield Row(AREA, name, f"{size} flows", "ns", ours, {LOOP: peer}, against=LOOP, note=note)
    loop().loop_free(bare)


def _less(sample: Sample, other: Sample) -> Sample:
    """What is over the copying in of packets, which is neither's."""
    return Sample([max(a - b, 0.01) for a, b in zip(sample.values, other.values, strict=True)])


def _compare(lab: NatLab, bare: ctypes.c_void_p, trace: Traffic, what: str) -> str:
    """End the run unless both make the same of every packet."""
    before = lab.plane.engine.statistics()
    own, other = room(trace.count * SIZE, "B"), room(trace.count * SIZE, "B")
    slots = room(128 * 192, "B")
    trace.run(lab.replay, own)
    hits = loop().loop_run(bare, address(slots), address(trace.frames), SIZE, SIZE, trace.count, address(other))
    if hits != trace.count:
        raise SystemExit(f"{what}: the bare loop knows {hits} of {trace.count} packets")
    if own != other:
        at = next(i for i, (a, b) in enumerate(zip(own, other, strict=True)) if a != b) // SIZE
        one, two = (bytes(each[at * SIZE : (at + 1) * SIZE]).hex(" ") for each in (own, other))
        raise SystemExit(f"{what}: packet {at} differs\nours {one}\nloop {two}")
    after = lab.plane.engine.statistics()
    missed = after["flow_misses"] - before["flow_misses"]
    return f"{missed / trace.count:.2%} of ours were walked: their entries had been thrown out" if missed else ""


# -- new connections --------------------------------------------------------------------------------------------------


def connections(options: Options) -> Iterator[Row]:
    """TCP through NAT, flows that nobody has seen before."""
    count = 10_000 if options.quick else 50_000
    total = count * options.rounds * 2
    lab = NatLab(total * 2, int(total * SESSIONS_PER_FLOW) + 1000)
    try:
        table: dpdk.Flows | NotRun = dpdk.Flows(total * 2)
    except build.MissingError as error:
        table = NotRun(str(error))
    done = {FIRST: 0, WHOLE: 0, ADDS: 0}
    # once without a clock, so that nobody waits for memory of the kernel's; then all of it dies
    for first in range(0, total, CHUNK):
        lab.traffic(first, min(CHUNK, total - first), protocol=TCP, flags=SYN).run(lab.replay)
    lab.plane.advance(NOW + 10**9)
    if isinstance(table, dpdk.Flows):
        keys = room(2 * total * 16, "B")
        build.kernels().flow_rows(keys.buffer_info()[0], 0, 2 * total, options.seed)
        table.add(keys, 2 * total)
        table.clear()

    def fresh(kind: str) -> int:
        done[kind] += 1
        return (done[kind] - 1) * 2 * count + (count if kind == WHOLE else 0)

    def opened() -> float:
        opening = lab.traffic(fresh(FIRST), count, protocol=TCP, flags=SYN)
        return seconds(lambda: opening.run(lab.replay)) / count * 1e9

    def whole() -> float:
        at = fresh(WHOLE)
        left, arrived = room(count * SIZE, "B"), room(count * SIZE, "B")
        opening = lab.traffic(at, count, protocol=TCP, flags=SYN)
        took = seconds(lambda: opening.run(lab.replay, left))
        for traffic in (
            opening.answered(left, lab.outside, SYN_ACK),
            more := lab.traffic(at, count, protocol=TCP, flags=ACK),
            more,
            opening.answered(left, lab.outside, ACK),
        ):
            took += seconds(lambda traffic=traffic: traffic.run(lab.replay, arrived))  # type: ignore[misc]
        if bytes(arrived).count(b"\x0a\x00\x01\x0a") < count:
            raise SystemExit("new connections: not all answers came back through NAT")
        return took / count * 1e9

    def adds() -> float:
        assert isinstance(table, dpdk.Flows)
        keys = room(2 * count * 16, "B")
        build.kernels().flow_rows(keys.buffer_info()[0], (done[ADDS]) * 2 * count, 2 * count, options.seed)
        done[ADDS] += 1
        return seconds(lambda: table.add(keys, 2 * count)) / count * 1e9

    contenders = {FIRST: opened, WHOLE: whole}
    if isinstance(table, dpdk.Flows):
        contenders[ADDS] = adds
    measured = alternate(options.rounds, contenders)
    peer = table if isinstance(table, NotRun) else measured[ADDS]
    for case in (FIRST, WHOLE):
        yield Row(AREA, "new connection", case, "ns", measured[case], {ADDS: peer}, against=ADDS)
    if isinstance(table, dpdk.Flows):
        table.free()
