"""Swaps, as flow entries see them: what holds after one, and what does not."""

from __future__ import annotations

import struct

import pytest
from scapy.layers.inet import IP, UDP

from dataplane.compile import Compiler, compile_program
from dataplane.compile.compiler import Packed
from dataplane.engine import DataPlane
from fastpath.snapshot import Snapshot
from tests.unit.fastpath.two_hosts import TwoHosts
from tests.unit.model.building import topology

EPOCHS = 1 << 16
MOST_SETS = 16384
"""Different sets of parts that are kept (FOOTINGS of fastpath/footing.pxd)."""
BY_CHANCE = 100
"""So many of 22,350 flows may have no entry: where they go is decided by a secret, and some buckets are full."""


class Swapped:
    """Two hosts with an untracked flow between them, whose entry is there."""

    def __init__(self) -> None:
        self.hosts = TwoHosts()
        self.compiler = Compiler()
        self.packed: Packed | None = None
        self.swap()
        self.send()
        assert self.send(), "it has no entry"

    def compiled(self) -> Packed:
        """The same program, packed in parts after the first time: nothing has changed."""
        generation = self.hosts.engine.generation + 1
        return self.compiler.compile(self.hosts.program, generation=generation, before=self.packed)

    def swap(self) -> None:
        self.packed = self.compiled()
        self.hosts.engine.swap(self.packed.snapshot)

    def send(self) -> bool:
        """Whether the next packet of the flow finds its entry."""
        hosts, before = self.hosts, self.hosts.engine.statistics()["flow_hits"]
        frame = hosts.a.ether() + b"\x08\x00" + bytes(IP(src="10.0.1.10", dst="10.0.2.10") / UDP(sport=5, dport=6))
        assert len(hosts.engine.process([frame], [hosts.a.port], 1000)[1]) == 1
        hosts.engine.selfcheck()
        return hosts.engine.statistics()["flow_hits"] > before


def test_equal_tables_end_nothing() -> None:
    it = Swapped()
    it.swap()
    assert it.send()


def test_equal_tables_packed_from_nothing_are_not_known_to_be_equal() -> None:
    it = Swapped()
    it.hosts.engine.swap(compile_program(it.hosts.program, generation=it.hosts.engine.generation + 1))
    assert not it.send()


def test_a_snapshot_that_was_made_of_another_one_than_that_in_use() -> None:
    it = Swapped()
    it.packed = it.compiled()  # and nobody uses it
    it.swap()
    assert not it.send()


def test_parts_that_are_there_as_a_whole_are_other_ones() -> None:
    it = Swapped()
    assert it.packed is not None
    generation = it.hosts.engine.generation + 1
    it.hosts.engine.swap(Snapshot({"fragment_timeout": [5000]}, generation=generation, before=it.packed.snapshot))
    assert not it.send()


def test_entries_without_records_do_not_outlive_the_wish_for_them() -> None:
    it = Swapped()
    it.hosts.engine.open_records()
    assert not it.send()


@pytest.mark.parametrize("before", [1, 2, 40])
def test_epochs_begin_anew(before: int) -> None:
    """All entries end with the last epoch, so that none is of the one with the same number."""
    it = Swapped()
    assert it.packed is not None
    snapshot = it.packed.snapshot

    def swap_until(last: int) -> None:
        nonlocal snapshot
        for generation in range(it.hosts.engine.generation + 1, last + 1):
            snapshot = Snapshot({}, generation=generation, before=snapshot)
            it.hosts.engine.swap(snapshot)
            if generation % 30 == 0 and generation < EPOCHS - before:
                assert it.send()

    swap_until(EPOCHS - 1 - before)  # the first swap began epoch 2
    assert it.send()
    swap_until(EPOCHS - 2 + 20)
    assert not it.send()
    swap_until(EPOCHS - 2 + 40)
    assert it.send()


def test_more_ways_than_there_is_room_for() -> None:
    """What has no room for what it rests on is walked again after each swap, and nothing else."""
    hosts, anything = 150, [{"protocol": "all", "source": "0.0.0.0/0"}]
    lab = topology(
        vpcs={
            "shop": {
                "cidr": "10.0.0.0/16",
                "subnets": {"one": {"cidr": "10.0.0.0/16"}},
                "security_groups": {"any": {"ingress": anything}},
            }
        },
        instances={
            f"h{n}": {"vpc": "shop", "subnet": "one", "private_ip": f"10.0.1.{n}", "security_groups": ["any"]}
            for n in range(1, hosts + 1)
        },
    )
    plane = DataPlane(lab, flows=65536)
    ports = {n: plane.port(f"h{n}/eth0") for n in range(1, hosts + 1)}
    frames, contexts = [], []
    for n, port in ports.items():
        for other in set(ports) - {n}:
            ends = bytes([10, 0, 1, n, 10, 0, 1, other])
            head = struct.pack(">BBHHHBBH", 0x45, 0, 28, 0, 0, 64, 17, 0) + ends
            total = sum(struct.unpack(">10H", head))
            total = (total & 0xFFFF) + (total >> 16)
            packet = head[:10] + struct.pack(">H", ~total & 0xFFFF) + head[12:] + struct.pack(">HHHH", 5, 6, 8, 0)
            frames.append(plane.interface(port).router_mac + plane.interface(port).mac + b"\x08\x00" + packet)
            contexts.append(port)

    def missing() -> int:
        before = plane.engine.statistics()["flow_misses"]
        plane.process(frames, contexts, 1000)
        plane.engine.selfcheck()
        return plane.engine.statistics()["flow_misses"] - before

    assert missing() == len(frames)
    assert missing() <= BY_CHANCE
    for _ in range(2):
        plane.apply(lab)
        assert 0 <= missing() - (len(frames) - MOST_SETS) <= BY_CHANCE
