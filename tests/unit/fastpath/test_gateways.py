"""What a translator counts, whoever shares its tables and however its packets come."""

from __future__ import annotations

import struct
from typing import Any

from scapy.layers.inet import IP, TCP, UDP

from dataplane.compile import compile_program
from dataplane.engine import DataPlane
from dataplane.load import load_topology
from dataplane.names import Names
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


def test_a_trace_finds_the_ports_of_the_dead_free_like_a_packet() -> None:
    topology = load_topology(SHOP, file_name="shop.yaml")
    names = Names()
    program = topology.lower(names)
    [policy] = program.nat_policies.values()
    object.__setattr__(policy, "per_destination", 1)
    plane = DataPlane(topology, names=names)
    plane.engine.swap(compile_program(program, generation=9))
    port = plane.port("app/eth0")
    first, second = (frame(plane, IP(src=APP, dst=EXAMPLE) / UDP(sport=n, dport=40)) for n in (5, 6))
    [outcome], _ = plane.process([first], [port], 1_000_000)
    assert outcome.verdict is Verdict.FORWARD
    [outcome], _ = plane.process([second], [port], 1_000_000)
    assert outcome.reason is Reason.NAT_PORTS_EXHAUSTED
    plane.process([], [], 1_349_500)  # the sweep has been by
    plane.process([frame(plane, IP(src=APP, dst=APP) / UDP())], [port], 1_350_000)  # time passes
    found = plane.trace("app", EXAMPLE, protocol="udp", port=40, source_port=6)
    assert found.forward.delivered
