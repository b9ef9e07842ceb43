"""Flow entries beside rte_hash with a record of 64 bytes: find the key, read what stands behind it."""

from __future__ import annotations

from collections.abc import Iterator

from bench.compared import agree, per_item, room
from bench.measure import Limit, NotRun, Options, Row, Sample, Target, alternate, memory_available
from bench.native import build, dpdk

AREA = "tables"
HASH = "rte_hash bulk + record"
KEY = 16
KINDS = ("random", "Zipf")
CASES = (1_000_000, 10_000_000)
TARGETS = [Target("memo hit + record", f"{size} flows, random", HASH, 1.4, 2.5) for size in CASES]
GROWTH = (1_000, 10_000, 100_000, 1_000_000, 10_000_000)


def rows(options: Options, missing: NotRun | None) -> Iterator[Row]:
    """All that is measured of flow entries."""
    for size in GROWTH[: -1 if options.quick else None]:
        yield from _size(options, missing, size)


def _size(options: Options, missing: NotRun | None, size: int) -> Iterator[Row]:
    count = 1 << (18 if options.quick else 20)
    chunk = room(KEY * (1 << 16), "B")
    at = chunk.buffer_info()[0]
    of = build.kernels().sizes()
    needed = size * (of["flow"] + 2 * of["flow bucket"] / 4 + 220)
    ours = None
    limit = Limit(f"{int(needed) >> 20} MB for {size} flows, the machine has {memory_available() >> 20} MB")
    if needed < 0.8 * memory_available():
        ours = build.kernels().FlowTable(size)
    peer = dpdk.Flows(size) if missing is None else None
    for first in range(0, size, 1 << 16):
        n = min(1 << 16, size - first)
        build.kernels().flow_rows(at, first, n, options.seed)
        if ours:
            ours.add(at, n)
        if peer and peer.add(chunk, n) != n:
            raise SystemExit(f"{HASH} is full at {first} of {size}")
    for kind in KINDS:
        trace, n, note = room(count * KEY, "B"), count, ""
        where = trace.buffer_info()[0]
        build.kernels().flow_trace(where, count, size, options.seed, kind == "Zipf")
        own_answers, answers = room(count), room(count)
        contenders = {}
        if ours:
            ours.run(where, count, own_answers.buffer_info()[0])
            n = build.kernels().flow_keep(where, own_answers.buffer_info()[0], count)
            if n < count:
                note = f"without the {1 - n / count:.1%} of packets whose entries found no room in ours"
            ours.run(where, n, own_answers.buffer_info()[0])
            contenders["ours"] = per_item(lambda where=where, n=n: ours.run(where, n), n)  # type: ignore[misc]
        if peer:
            peer.run(trace, n, answers)
            contenders[HASH] = per_item(lambda trace=trace, n=n: peer.run(trace, n), n)  # type: ignore[misc]
        if ours and peer:
            agree(f"{size} flows, {kind}: {HASH}", own_answers[:n], answers[:n])
        measured = alternate(options.rounds, contenders)
        mine = measured.get("ours", limit)
        theirs = measured.get(HASH, missing or limit)
        if size in CASES:
            yield Row(
                AREA, "memo hit + record", f"{size} flows, {kind}", "ns", mine, {HASH: theirs}, against=HASH, note=note
            )
        if kind == "random":
            yield Row(
                AREA, "growth: memo hit + record", f"{size} flows", "ns", mine, {HASH: theirs}, against=HASH, note=note
            )
    own_bytes = Sample([ours.bytes / size]) if ours else limit
    theirs = Sample([peer.bytes / size + 64]) if peer else missing or limit
    yield Row(AREA, "bytes per flow entry", f"{size} flows", "B", own_bytes, {HASH: theirs}, against=HASH)
    if peer:
        peer.free()
