"""What a translator counts, whoever shares its tables and however its packets come."""

from __future__ import annotations

import struct
from collections import Counter
from typing import Any

import pytest
from scapy.layers.inet import IP, TCP, UDP

from dataplane.compile import compile_program
from dataplane.engine import DataPlane, Outcome
from dataplane.load import load_topology
from dataplane.names import Names
from dataplane.trace import Walk
from dataplane.verdict import Reason, Verdict
from fastpath.engine import Engine
from tests.scenario.labs import SHOP

TWO = SHOP.replace(
    "    nat_gateways:\n", "    nat_gateways:\n      first: {subnet: public, elastic_ip: 203.0.113.11}\n", 1
)
APP, EXAMPLE = "10.0.2.10", "198.51.100.10"


def frame(plane: DataPlane, packet: Any) -> bytes:
    interface = plane.interface(plane.port("app/eth0"))
    return interface.router_mac + interface.mac + b"\x08\x00" + bytes(packet)


def test_engines_that_share_tables_count_each_for_itself() -> None:
    """The order in which an engine met its translators is its own."""
    names = Names()
    one, two = (load_topology(text, file_name="shop.yaml") for text in (SHOP, TWO))
    plane = DataPlane(one, names=names)
    shared = compile_program(two.lower(names), generation=7)
    early, late = plane.engine, Engine(sessions=64, flows=64)
    early.swap(shared)
    late.swap(shared)
    port, sent = plane.port("app/eth0"), frame(plane, IP(src=APP, dst=EXAMPLE) / UDP(sport=5, dport=6))
    for engine in (early, late):
        engine.process([sent], [port], 1_000)
        counted = {names[owner].path: row["packets_in"][0] for owner, row in engine.gateways().items()}
        assert counted == {"shop/nat": 1, "shop/first": 0}


def test_bytes_of_an_offloaded_frame_are_those_of_the_packets_it_stands_for() -> None:
    """Ten segments of 1460 bytes: ten IP and TCP headers of 20 bytes each."""
    plane = DataPlane(load_topology(SHOP, file_name="shop.yaml"))
    port = plane.port("app/eth0")
    plane.process([frame(plane, IP(src=APP, dst=EXAMPLE) / TCP(sport=7, dport=80))], [port], 1_000)
    before = plane.nat_metrics()["shop/nat"]
    data = IP(src=APP, dst=EXAMPLE) / TCP(sport=7, dport=80, flags="A") / bytes(14_600)
    offload = struct.pack("<BBHHHHH", 1, 1, 54, 1460, 34, 16, 0)
    for _ in range(3):  # walked, and then remembered
        plane.process([frame(plane, data)], [port], 1_000, [offload])
    after = plane.nat_metrics()["shop/nat"]
    names = ("PacketsInFromSource", "PacketsOutToDestination", "BytesInFromSource", "BytesOutToDestination")
    assert [after[name] - before[name] for name in names] == [30, 30, 45_000, 45_000]
    assert plane.engine.statistics()["flow_hits"] > 0


def test_bytes_of_a_flow_may_be_more_than_32_bits_hold() -> None:
    """Each frame stands for 60,000 packets of 41 bytes."""
    plane = DataPlane(load_topology(SHOP, file_name="shop.yaml"))
    port = plane.port("app/eth0")
    plane.process([frame(plane, IP(src=APP, dst=EXAMPLE) / TCP(sport=7, dport=80))], [port], 1_000)
    before = plane.nat_metrics()["shop/nat"]
    data = frame(plane, IP(src=APP, dst=EXAMPLE) / TCP(sport=7, dport=80, flags="A") / bytes(60_000))
    offload = struct.pack("<BBHHHHH", 1, 1, 54, 1, 34, 16, 0)
    for _ in range(200):
        plane.process([data] * 10, [port] * 10, 1_000, [offload] * 10)
    after = plane.nat_metrics()["shop/nat"]
    assert after["BytesInFromSource"] - before["BytesInFromSource"] == 2_000 * 60_000 * 41 > 1 << 32
    assert after["PacketsInFromSource"] - before["PacketsInFromSource"] == 2_000 * 60_000
    assert plane.engine.statistics()["flow_hits"] > 1_900


def public_ends(text: str, *, seed: int = 0, count: int = 64) -> list[tuple[str, int]]:
    """Addresses and ports that so many connections to one destination get."""
    plane = DataPlane(load_topology(text, file_name="shop.yaml"), seed=seed)
    port = plane.port("app/eth0")
    frames = [frame(plane, IP(src=APP, dst=EXAMPLE) / UDP(sport=1000 + n, dport=6)) for n in range(count)]
    _, emissions = plane.process(frames, [port] * count, 1_000)
    packets = [IP(each.frame[14:]) for each in emissions]
    return [(packet.src, packet[UDP].sport) for packet in packets]


def test_connections_are_spread_over_the_addresses_of_a_gateway() -> None:
    """AWS does not say how; here by chance, and both take some."""
    more = ", secondary_private_ips: [10.0.1.6], secondary_elastic_ips: [203.0.113.11]"
    found = Counter(
        source for source, _ in public_ends(SHOP.replace("private_ip: 10.0.1.5", f"private_ip: 10.0.1.5{more}"))
    )
    assert set(found) == {"203.0.113.10", "203.0.113.11"}
    assert min(found.values()) > 16


def test_ports_are_the_same_in_each_run_and_others_with_another_seed() -> None:
    found = public_ends(SHOP)
    assert found == public_ends(SHOP)
    ports, others = ({port for _, port in ends} for ends in (found, public_ends(SHOP, seed=1)))
    assert len(ports) == len(others) == 64
    assert len(ports & others) < 8


class OnePort:
    """A gateway that has one connection to a destination at most, and whose only one has just died.

    A UDP flow dies after 350 seconds of silence, a TCP connection that was reset after 60.
    """

    def __init__(self, protocol: str) -> None:
        topology = load_topology(SHOP, file_name="shop.yaml")
        names = Names()
        program = topology.lower(names)
        [policy] = program.nat_policies.values()
        object.__setattr__(policy, "per_destination", 1)
        self.plane = plane = DataPlane(topology, names=names)
        plane.engine.swap(compile_program(program, generation=9))
        self.port, self.protocol = plane.port("app/eth0"), protocol
        self.free = self.trace()
        begin, limit = 1_000_000, 350_000 if protocol == "udp" else 60_000
        plane.advance(begin - 1_000)  # and nobody lives
        self.opened = self.send(5, begin)
        assert self.opened.verdict is Verdict.FORWARD
        if protocol == "tcp":
            self.send(5, begin, flags="R")
        # The table is gone through little by little: among many that live, the dead one is not met at once.
        others = [frame(plane, IP(src=APP, dst=EXAMPLE) / UDP(sport=5, dport=1000 + n)) for n in range(400)]
        plane.process(others, [self.port] * len(others), begin + limit // 2)
        for self.now in range(begin + limit - 20, begin + limit + 1):
            plane.process([frame(plane, IP(src=APP, dst=APP) / UDP())], [self.port], self.now)  # time passes

    def send(self, source_port: int, now: int, flags: str = "S") -> Outcome:
        ports = {"sport": source_port, "dport": 40}
        segment = UDP(**ports) if self.protocol == "udp" else TCP(**ports, flags=flags)
        sent = frame(self.plane, IP(src=APP, dst=EXAMPLE) / segment)
        [outcome], _ = self.plane.process([sent], [self.port], now, traced=True)
        return outcome

    def trace(self) -> Walk:
        return self.plane.trace("app", EXAMPLE, protocol=self.protocol, port=40, source_port=6).forward


@pytest.mark.parametrize("protocol", ["udp", "tcp"])
def test_a_trace_finds_the_ports_of_the_dead_free_like_a_packet(protocol: str) -> None:
    it = OnePort(protocol)
    found = it.trace()
    assert found.delivered
    assert found.path() == it.free.path(), "it goes that way once"


@pytest.mark.parametrize("protocol", ["udp", "tcp"])
def test_what_is_told_of_a_packet_is_its_way_with_the_port_that_it_got(protocol: str) -> None:
    it = OnePort(protocol)
    outcome = it.send(6, it.now)
    assert (outcome.verdict, outcome.trace) == (Verdict.FORWARD, it.opened.trace)
    assert it.send(7, it.now).reason is Reason.NAT_PORTS_EXHAUSTED
