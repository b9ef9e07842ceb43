"""Longest prefix match: every form and instruction set against a scan over all prefixes; what a table weighs."""

from __future__ import annotations

import os
import random
import subprocess
import sys
from array import array
from bisect import bisect_right
from collections.abc import Sequence
from ipaddress import IPv4Network, IPv6Network, ip_network

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dataplane.compile import intervals
from dataplane.program import Prefix
from fastpath.lpm import FORMS, LEVEL, LEVELS, Lpm
from fastpath.snapshot import Snapshot
from tests.unit.fastpath.test_intervals import EMPTY, prefix_lists, scan, snapshot_of

Entries = Sequence[tuple[Prefix, int]]
SMALL = [form for form in FORMS if form != "direct"]
"""`direct` takes 32 MB and more a table: it has fewer tests."""


def found(table: Lpm | Snapshot, family: int, addresses: Sequence[int], level: str = "") -> list[int]:
    packed = array("I", addresses) if family == 4 else b"".join(number.to_bytes(16) for number in addresses)
    if isinstance(table, Snapshot):
        return list(table.find_many(0, family, packed, level=level))
    return list(table.find_many(family, packed, level=level))


def columns(entries: Entries, family: int) -> tuple[int, array[int] | bytes, bytes, array[int]]:
    own = [(prefix, value) for prefix, value in entries if prefix.version == family]
    addresses = (
        array("I", [int(prefix.network_address) for prefix, _ in own])
        if family == 4
        else b"".join(prefix.network_address.packed for prefix, _ in own)
    )
    return family, addresses, bytes(prefix.prefixlen for prefix, _ in own), array("I", [value for _, value in own])


def edges(entries: Entries) -> dict[int, list[int]]:
    """Addresses at and beside the ends of every prefix, and of all addresses."""
    found: dict[int, list[int]] = {4: [0, 2**32 - 1], 6: [0, 2**64 - 1, 2**64, 2**128 - 1]}
    for prefix, _ in entries:
        first, last = int(prefix.network_address), int(prefix.broadcast_address)
        top = 2**prefix.max_prefixlen
        found[prefix.version] += [n % top for n in (first - 1, first, first + 1, last - 1, last, last + 1)]
    return found


def check(table: Lpm | Snapshot, family: int, addresses: list[int], wanted: list[int]) -> None:
    for level in LEVELS:
        assert found(table, family, addresses, level) == wanted, level
    for address, value in zip(addresses, wanted, strict=True):
        one = table.find(0, family, address) if isinstance(table, Snapshot) else table.find(family, address)
        assert one == value, address


@given(prefix_lists)
def test_every_form_and_level_finds_what_a_scan_finds(entries: list[tuple[Prefix, int]]) -> None:
    rows = intervals(entries)
    asked = {}
    for family, kind in ((4, IPv4Network), (6, IPv6Network)):
        numbers = edges(entries)[family]
        asked[family] = numbers, [scan(entries, kind((n, kind((0, 0)).max_prefixlen))[0]) for n in numbers]
    tables: list[Lpm | Snapshot] = [snapshot_of(entries), *(Lpm(rows, form=form) for form in SMALL)]
    for table in tables:
        for family, (numbers, wanted) in asked.items():
            check(table, family, numbers, wanted)
    for family, (numbers, wanted) in asked.items():
        check(Lpm.of_prefixes(*columns(entries, family)), family, numbers, wanted)


def drawn(seed: int, count: int, family: int, values: int) -> list[tuple[Prefix, int]]:
    """Many prefixes, some of them close together, among them the longest there are."""
    draw = random.Random(seed)
    bits, kind = (32, IPv4Network) if family == 4 else (128, IPv6Network)
    lengths = (8, 15, 16, 17, 23, 24, 25, 31, 32) if family == 4 else (16, 48, 63, 64, 64, 65, 100, 127, 128)
    entries: dict[Prefix, int] = {kind((0, 0)): 1} if draw.randrange(2) else {}
    base = 10 << (bits - 8)
    while len(entries) < count:
        length = draw.choice(lengths)
        # of IPv6, some under one upper half, as in a subnet
        near = base + draw.getrandbits(12) if family == 4 else base + (draw.getrandbits(3) << 64) + draw.getrandbits(10)
        address = draw.choice([near, near, draw.getrandbits(bits), (1 << bits) - 1 - draw.getrandbits(9)])
        entries[kind((address >> (bits - length) << (bits - length), length))] = draw.randrange(values)
    return list(entries.items())


def twin(starts: Sequence[int], values: Sequence[int], address: int) -> int:
    at = bisect_right(starts, address)
    return values[at - 1] if at else 0


@pytest.mark.parametrize("count", [3, 9, 17, 150, 280, 2500, 4700, 12000])
@pytest.mark.parametrize("family", [4, 6])
def test_trees_of_every_depth_find_what_their_intervals_say(count: int, family: int) -> None:
    entries = drawn(count, count, family, 2**31)
    rows = intervals(entries)
    starts, values = rows[:2] if family == 4 else rows[2:]
    numbers = edges(entries)[family]
    wanted = [twin(starts, values, number) for number in numbers]
    for form in SMALL if family == 4 else [""]:
        table = Lpm(rows, form=form)
        for level in LEVELS:
            assert found(table, family, numbers, level) == wanted, (form, level)
    # The columns' own way to intervals, and another order.
    random.Random(1).shuffle(entries)
    assert found(Lpm.of_prefixes(*columns(entries, family)), family, numbers) == wanted


@pytest.mark.parametrize("values", [1000, 2**31], ids=["16 bits", "32 bits"])
@settings(max_examples=3)
@given(seed=st.integers(0, 1000))
def test_direct_tables_find_what_their_intervals_say(seed: int, values: int) -> None:
    entries = drawn(seed, 3000, 4, values)
    rows = intervals(entries)
    numbers = edges(entries)[4]
    table = Lpm(rows, form="direct")
    assert table.bytes < (40 if values == 1000 else 80) << 20
    check(table, 4, numbers, [twin(rows[0], rows[1], number) for number in numbers])


def test_a_set_of_100_000_random_prefixes_has_more_chunks_than_16_bits_count() -> None:
    draw = random.Random(0)
    entries = {IPv4Network((draw.getrandbits(32), 32)): n for n in range(1, 100_001)}
    table = Lpm.of_prefixes(*columns(list(entries.items()), 4))
    numbers = [int(prefix.network_address) for prefix in entries]
    assert found(table, 4, numbers) == list(entries.values())
    assert found(table, 4, [(n + 1) % 2**32 for n in numbers]).count(0) > 99_000


@pytest.mark.parametrize("count", [9, 60, 300, 12000])
def test_bursts_of_every_length_are_answered_whole(count: int) -> None:
    """In trees of one level to four."""
    entries = drawn(7, count, 4, 2**31) + drawn(7, count, 6, 2**31)
    rows = intervals(entries)
    for form in SMALL:
        table = Lpm(rows, form=form)
        for family in (4, 6):
            numbers = edges(entries)[family]
            for length in (0, 1, 2, 15, 16, 17, 63, 64, 65, 130):
                wanted = [table.find(family, number) for number in numbers[:length]]
                for level in LEVELS:
                    assert found(table, family, numbers[:length], level) == wanted


def test_answers_go_where_they_are_wanted() -> None:
    table = Lpm(intervals([(ip_network("10.0.0.0/8"), 5)]))
    room = array("I", [9, 9, 9])
    assert table.find_many(4, array("I", [0x0A000001, 0, 0x0AFFFFFF]), room) is room
    assert list(room) == [5, 0, 5]
    with pytest.raises(ValueError, match="room for 2 values"):
        table.find_many(4, array("I", [1, 2]), room)
    with pytest.raises(ValueError, match="16 bytes"):
        table.find_many(6, bytes(15))


def test_forms_follow_from_the_number_of_intervals() -> None:
    for count, form in ((50, "tree"), (5_000, "trie"), (30_000, "direct")):
        assert Lpm.of_prefixes(*columns(drawn(1, count, 4, 2**15 - 1), 4)).form == form


def test_a_small_table_takes_bytes_and_equal_parts_are_kept_once() -> None:
    routes = [(ip_network(f"10.{n}.0.0/16"), n + 1) for n in range(50)]
    one = Lpm(intervals(routes)).bytes
    assert one < 1500

    def weight(tables: Sequence[Entries]) -> int:
        rows: dict[str, list[object]] = {**EMPTY, "nodes": [(0,) * 13], "intervals": [intervals(t) for t in tables]}
        return int(Snapshot(rows, generation=1).bytes)

    empty = weight([])
    record = weight([[], []]) - weight([[]])
    assert weight([routes]) - empty == one + record
    assert weight([routes] * 100) - empty == one + 100 * record
    others = [[(prefix, value + 50 * n) for prefix, value in routes] for n in range(10)]
    assert weight(others) - empty < 10 * (one + record) - 9 * 200, "the keys are shared"
    large = drawn(3, 5000, 4, 1000)
    assert weight([large, large]) - weight([large]) == record


@pytest.mark.parametrize("level", LEVELS)
def test_the_environment_chooses_the_instruction_set(level: str) -> None:
    environment = {**os.environ, "VPCLAB_SIMD": level, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    code = "from fastpath.lpm import LEVEL; print(LEVEL)"
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == level
    environment["VPCLAB_SIMD"] = "mmx"
    failed = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=False)
    assert f"VPCLAB_SIMD=mmx: on this machine it is one of {', '.join(LEVELS)}" in failed.stderr
    assert LEVEL in LEVELS


def test_rows_that_are_no_intervals_are_refused() -> None:
    rows: tuple[list[int], list[int], list[int], list[int]]
    for rows in (([1, 1], [1, 2], [], []), ([2, 1], [1, 2], [], []), ([1], [], [], []), ([], [], [5, 4], [1, 2])):
        with pytest.raises(ValueError, match="starts"):
            Lpm(rows)
    for rows in (([2**32], [1], [], []), ([0], [2**31], [], []), ([], [], [2**128], [1])):
        with pytest.raises(OverflowError):
            Lpm(rows)
    for prefixes in (
        (4, array("I", [1]), bytes([31]), array("I", [1])),
        (4, array("I", [0, 0]), bytes([8, 8]), array("I", [1, 2])),
        (4, array("I", [0]), bytes([33]), array("I", [1])),
        (6, bytes(15) + b"\1", bytes([127]), array("I", [1])),
        (5, array("I"), b"", array("I")),
    ):
        with pytest.raises(ValueError, match=r"length|family"):
            Lpm.of_prefixes(*prefixes)
