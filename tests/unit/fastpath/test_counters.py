"""What is counted at a port: frames as they cross it, the packets that they stand for, and the bytes of the frames."""

from __future__ import annotations

import struct
from typing import Any

import pytest
from scapy.layers.inet import IP, TCP, UDP, fragment
from scapy.layers.inet6 import IPv6
from scapy.layers.l2 import ARP, Ether

from dataplane.engine import DataPlane
from dataplane.load import load_topology
from dataplane.verdict import Reason
from tests.scenario.gwlb import APP as BEHIND
from tests.scenario.gwlb import DB, ONE, through
from tests.scenario.labs import SHOP
from tests.scenario.network import Network

NOW = 1_000
APP, BARE, FAR = "10.0.2.10", "10.0.1.11", "198.51.100.10"
HEAD = 14 + 20 + 20
"""Bytes of the headers of a TCP segment without options, in its frame."""


class Counted:
    """A lab, and what its ports count."""

    def __init__(self, text: str = SHOP, *, memo: bool = True) -> None:
        self.plane = DataPlane(load_topology(text, file_name="lab.yaml"), memo=memo)

    def frame(self, node: str, packet: Any) -> bytes:
        interface = self.plane.interface(self.plane.port(f"{node}/eth0"))
        kind = b"\x08\x00" if packet.version == 4 else b"\x86\xdd"
        return interface.router_mac + interface.mac + kind + bytes(packet)

    def send(self, node: str, *packets: Any, offload: bytes | None = None) -> None:
        frames = [self.frame(node, packet) for packet in packets]
        self.put(node, *frames, offload=offload)

    def put(self, node: str, *frames: bytes, offload: bytes | None = None) -> None:
        port = self.plane.port(f"{node}/eth0")
        self.plane.process(frames, [port] * len(frames), NOW, [offload] * len(frames))

    def sent(self, node: str) -> tuple[int, int, int]:
        """Frames, packets and bytes that came from a node."""
        row = self.plane.engine.counters().get(self.plane.port(f"{node}/eth0"), {})
        return row.get("rx_frames", 0), row.get("rx_packets", 0), row.get("rx_bytes", 0)

    def got(self, node: str) -> tuple[int, int, int]:
        """And those that went there."""
        row = self.plane.engine.counters().get(self.plane.port(f"{node}/eth0"), {})
        return row.get("tx_frames", 0), row.get("tx_packets", 0), row.get("tx_bytes", 0)


def left_to_hardware(segment: int) -> bytes:
    """The header of a TCP segment over IPv4 that is to be cut into segments of so many bytes."""
    return struct.pack("<BBHHHHH", 1, 1, HEAD, segment, 34, 16, 0)


@pytest.mark.parametrize("memo", [True, False])
def test_frames_that_cross(memo: bool) -> None:
    lab = Counted(memo=memo)
    for size in (0, 100, 1000):
        lab.send("app", *[IP(src=APP, dst=BARE) / UDP(sport=5, dport=6) / bytes(size)] * 3)
    total = 9, 9, 9 * (14 + 28) + 3 * 1100
    assert lab.sent("app") == total
    assert lab.got("bare") == total
    assert lab.got("app") == lab.sent("bare") == (0, 0, 0)


@pytest.mark.parametrize("memo", [True, False])
def test_a_frame_left_to_hardware_is_as_many_packets_as_it_will_be_cut_into(memo: bool) -> None:
    lab = Counted(memo=memo)
    lab.send("app", IP(src=APP, dst=BARE) / TCP(sport=5, dport=6))
    data = IP(src=APP, dst=BARE) / TCP(sport=5, dport=6, flags="A") / bytes(5001)
    for _ in range(3):
        lab.send("app", data, offload=left_to_hardware(1000))
    expected = 1 + 3, 1 + 3 * 6, HEAD + 3 * (HEAD + 5001)
    assert lab.sent("app") == expected
    assert lab.got("bare") == expected


def test_what_is_cut_into_smaller_segments_leaves_as_more_packets() -> None:
    """The internet takes 1500 bytes: 1460 of data in each, not the 4000 that the sender's kernel meant."""
    lab = Counted()
    lab.send("app", IP(src=APP, dst=FAR) / TCP(sport=5, dport=80))
    lab.send(
        "app", IP(src=APP, dst=FAR) / TCP(sport=5, dport=80, flags="A") / bytes(14_601), offload=left_to_hardware(4000)
    )
    assert lab.sent("app") == (2, 1 + 4, HEAD + HEAD + 14_601)
    assert lab.got("example") == (2, 1 + 11, HEAD + HEAD + 14_601)


def test_a_datagram_that_is_cut_leaves_as_its_pieces() -> None:
    lab = Counted()
    lab.send("app", IP(src=APP, dst=FAR) / UDP(sport=5, dport=80) / bytes(4000))
    assert lab.sent("app") == (1, 1, 14 + 28 + 4000)
    assert lab.got("example") == (3, 3, 3 * 34 + 8 + 4000)  # 1480 bytes of it at most in each


def test_segments_that_travel_inside_others_leave_one_by_one() -> None:
    """A target gets each in GENEVE, 68 bytes around it."""
    lab = Counted(ONE)
    lab.send("app", IP(src=BEHIND, dst=DB) / TCP(sport=5, dport=80))
    lab.send(
        "app", IP(src=BEHIND, dst=DB) / TCP(sport=5, dport=80, flags="A") / bytes(2500), offload=left_to_hardware(1000)
    )
    assert lab.sent("app") == (2, 1 + 3, HEAD + HEAD + 2500)
    assert lab.got("fw1") == (4, 4, 4 * (HEAD + 68) + 2500)


@pytest.mark.parametrize("memo", [True, False])
def test_what_becomes_ipv4_on_its_way_leaves_as_as_many_packets(memo: bool) -> None:
    """Headers are 20 bytes shorter then."""
    route = '          - {destination: "64:ff9b::/96", target: "nat-gateway:nat"}\n'
    blackhole = "          - {destination: 198.51.100.128/25, target: blackhole}\n"
    lab = Counted(SHOP.replace(blackhole, blackhole + route), memo=memo)
    six = IPv6(src="2001:db8:10:2::10", dst="64:ff9b::c633:640a")
    for _ in range(3):
        lab.send("app", six / UDP(sport=5, dport=53) / bytes(100))
    assert lab.got("example") == (3, 3, 3 * (14 + 28 + 100))
    lab.send("app", six / TCP(sport=5, dport=80))
    offload = struct.pack("<BBHHHHH", 1, 4, HEAD + 20, 1000, 54, 16, 0)
    for _ in range(3):
        lab.send("app", six / TCP(sport=5, dport=80, flags="A") / bytes(2500), offload=offload)
    assert lab.sent("app")[:2] == (7, 4 + 3 * 3)
    assert lab.got("example") == (7, 4 + 3 * 3, 3 * (14 + 28 + 100) + HEAD + 3 * (HEAD + 2500))


@pytest.mark.parametrize("memo", [True, False])
def test_what_comes_out_of_a_tunnel_leaves_as_a_packet(memo: bool) -> None:
    network = Network(ONE, memo=memo, engine="fast")
    for _ in range(4):
        assert through(network, "app", IP(src=BEHIND, dst=DB) / UDP(sport=5, dport=53) / bytes(72)).sent
    row = network.plane.engine.counters()[network.port("db")]
    assert (row["tx_frames"], row["tx_packets"], row["tx_bytes"]) == (4, 4, 4 * (14 + 100))


def test_fragments_that_had_waited_count_like_others() -> None:
    lab = Counted()
    first, *later = fragment(IP(src=APP, dst=BARE, id=9) / UDP(sport=5, dport=6) / bytes(2000), 800)
    lab.send("app", *later)
    assert lab.sent("app")[:2] == (2, 2)
    assert lab.got("bare") == (0, 0, 0)
    lab.send("app", first)
    assert lab.sent("app") == lab.got("bare") == (3, 3, 3 * 34 + 8 + 2000)


def test_answers_and_errors_of_the_router_count_where_they_go() -> None:
    lab = Counted()
    own = lab.plane.interface(lab.plane.port("app/eth0"))
    asked = Ether(src=own.mac, dst=b"\xff" * 6) / ARP(hwsrc=own.mac, psrc=APP, pdst="10.0.2.1")
    lab.put("app", bytes(asked))
    assert lab.sent("app") == lab.got("app") == (1, 1, 14 + 28)
    lab.send("app", IP(src=APP, dst=FAR, ttl=1) / UDP() / bytes(12))
    assert lab.sent("app") == (2, 2, 2 * 14 + 28 + 40)
    assert lab.got("app") == (2, 2, 2 * 14 + 28 + (28 + 40))  # an ICMP error quotes all of it


def test_what_was_counted_stays_when_ports_go_and_come_back() -> None:
    """Also of the ports with the highest numbers: a lab that becomes another one, with few."""
    lab = Counted()
    lab.send("app", *[IP(src=APP, dst=FAR) / UDP()] * 3)
    lab.send("example", IP(src=FAR, dst="203.0.113.20") / TCP(dport=80))
    before = lab.plane.engine.counters()
    few = "version: 1\nvpcs: {other: {cidr: 10.3.0.0/16, subnets: {one: {cidr: 10.3.1.0/24}}}}\n"
    for text in (few, SHOP, few, SHOP):
        lab.plane.apply(load_topology(text, file_name="lab.yaml"))
        assert lab.plane.engine.counters() == before
    assert len(before) >= 3
    lab.send("app", IP(src=APP, dst=FAR) / UDP())
    assert lab.sent("app")[0] == 4


def test_a_frame_is_cut_into_so_many_segments_at_most() -> None:
    """Each of ten bytes, and inside of a packet of its own: there is room for 4096 in a burst."""
    lab = Counted(ONE)
    lab.send("app", IP(src=BEHIND, dst=DB) / TCP(sport=5, dport=80))
    frame = lab.frame("app", IP(src=BEHIND, dst=DB) / TCP(sport=5, dport=80, flags="A") / bytes(50_000))
    port = lab.plane.port("app/eth0")
    [outcome], emissions = lab.plane.process([frame], [port], NOW, [left_to_hardware(10)])
    assert (outcome.reason, len(emissions)) == (Reason.EMISSION_LIMIT, 4096)
    assert lab.got("fw1")[0] == 1 + 4096
    lab.send("app", IP(src=BEHIND, dst=DB) / TCP(sport=5, dport=80, flags="A"))
    assert lab.got("fw1")[0] == 1 + 4096 + 1


def test_what_is_dropped_counts_as_sent_and_by_its_reason() -> None:
    lab = Counted()
    lab.send("bare", *[IP(src=BARE, dst=APP) / UDP()] * 2)
    lab.put("bare", bytes(20), b"")
    assert lab.sent("bare") == (4, 4, 2 * (14 + 28) + 20)
    assert lab.plane.engine.counters()[lab.plane.port("bare/eth0")]["reasons"] == {
        Reason.GROUP_INGRESS: 2,
        Reason.SOURCE_MAC_SPOOFED: 1,
        Reason.RUNT_FRAME: 1,
    }
    assert lab.got("app") == (0, 0, 0)
