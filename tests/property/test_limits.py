"""Where something is full: tables, bursts, a NAT gateway's ports. It is dropped and counted, the same in every form.

What is limited by memory is the fast engine's alone, so its three forms are compared with each other. AWS's own limit
of connections per destination is compared with the reference engine, made small so that examples reach it.
"""

from __future__ import annotations

import struct
from typing import Any
from unittest.mock import patch

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from scapy.layers.inet import IP, TCP, UDP
from scapy.layers.inet6 import IPv6

from dataplane.engine import DataPlane
from dataplane.load import load_topology
from dataplane.verdict import Reason
from tests.property import script
from tests.property.exercised import TALLY, Seen
from tests.property.fresh import FRESH, PHASES, part
from tests.property.pairing import FORMS, Pair
from tests.scenario.labs import MAZE, SHOP

NAT64_SHOP = SHOP.replace(
    """          - {destination: 198.51.100.128/25, target: blackhole}
""",
    """          - {destination: 198.51.100.128/25, target: blackhole}
          - {destination: "64:ff9b::/96", target: "nat-gateway:nat"}
""",
)
LOST = "  lost: {vpc: maze, subnet: one, private_ip: 10.9.1.10}\ninternet:\n"
FULL_SHOP = NAT64_SHOP.replace("peerings:\n", f"{MAZE}peerings:\n").replace("internet:\n", LOST)
APP, APP6, EXAMPLE = "10.0.2.10", "2001:db8:10:2::10", "198.51.100.10"
WEB, OPEN = "10.0.1.10", "10.0.2.11"
FEW = 4
"""Connections per destination and address of a NAT gateway, while that is tested."""

SIZES = st.sampled_from([16, 20, 32, 64])
"""Sessions there is room for."""


class Forms:
    """The three forms of the fast engine, with small tables."""

    def __init__(self, sessions: int) -> None:
        topology = load_topology(FULL_SHOP, file_name="limits.yaml")
        self.planes = {form: DataPlane(topology, sessions=sessions, flows=64, memo=form != "plain") for form in FORMS}
        self.seen = Seen(self.planes["plain"].names)
        self.now = 1_000

    def send(self, node: str, frames: list[bytes], offloads: list[bytes | None], keep: int) -> None:
        """Send a burst, and compare everything afterwards."""
        plain = self.planes["plain"]
        port = plain.port(f"{node}/eth0")
        self.planes["emptied"].engine.forget(keep)
        results = {
            form: plane.process(frames, [port] * len(frames), self.now, offloads) for form, plane in self.planes.items()
        }
        outcomes, emissions = results["plain"]
        sessions = sorted(map(repr, plain.engine.sessions()))
        for form in FORMS[1:]:
            assert results[form] == (outcomes, emissions), form
            assert sorted(map(repr, self.planes[form].engine.sessions())) == sessions, form
            assert self.planes[form].engine.counters() == plain.engine.counters(), form
            self.planes[form].engine.selfcheck()
        # Some die while others are emitted (pieces, errors): those are counted only.
        for row in plain.engine.counters().values():
            for reason in row["reasons"]:
                self.seen.reason(Reason(reason))
        self.seen.processed(frames, outcomes, emissions, ())


def ether(plane: DataPlane, node: str, version: int, packet: bytes) -> bytes:
    interface = plane.interface(plane.port(f"{node}/eth0"))
    return interface.router_mac + interface.mac + (b"\x08\x00" if version == 4 else b"\x86\xdd") + packet


HEADERS = [
    struct.pack("<BBHHHHH", *fields)
    for fields in (
        (0, 0, 0, 0, 0, 0, 0),
        (1, 0, 0, 0, 34, 16, 0),  # checksum left to the receiver
        (1, 0, 0, 0, 34, 6, 0),
        (1, 0, 0, 0, 20, 16, 0),
        (1, 1, 54, 100, 34, 16, 0),  # segments of 100 bytes
        (0, 1, 54, 100, 34, 16, 0),
        (1, 4, 54, 100, 34, 16, 0),
        (1, 1, 54, 0, 34, 16, 0),
        (1, 3, 54, 100, 34, 16, 0),
    )
]


@settings(backend=FRESH, phases=PHASES, max_examples=part(4), suppress_health_check=[HealthCheck.too_slow])
@given(data=st.data(), sessions=SIZES)
def test_what_does_not_fit_dies_the_same_in_every_form(data: st.DataObject, sessions: int) -> None:
    with patch("dataplane.model.network_interface.VPC_MTU", 65535):  # packets of many pieces get in
        forms = Forms(sessions)
    plane = forms.planes["plain"]
    for _ in range(data.draw(st.integers(1, 4))):
        forms.now += data.draw(st.sampled_from([0, 0, 30_000, 60_000]))
        keep = data.draw(st.sampled_from([0, 2**64 - 1, 0x5555555555555555]))
        kind = data.draw(st.sampled_from(["flows", "flows", "flows", "offloads", "offloads", "large", "circles"]))
        offloads: list[bytes | None]
        if kind == "flows":
            first = data.draw(st.integers(1, 30))
            packets = [bytes(IP(src=APP, dst=EXAMPLE) / UDP(sport=first + n, dport=9)) for n in range(12)]
            offloads = [None] * len(packets)
        elif kind == "offloads":
            tcp = TCP(sport=data.draw(st.integers(1, 3)), dport=80, flags=data.draw(st.sampled_from("SA")))
            packets = [bytes(IP(src=APP, dst=EXAMPLE) / tcp / bytes(data.draw(st.sampled_from([0, 100, 700]))))] * 2
            offloads = [data.draw(st.sampled_from(HEADERS)) for _ in packets]
        elif kind == "circles":
            first = data.draw(st.integers(1, 3))
            packets = [bytes(IP(src="10.9.1.10", dst=EXAMPLE) / UDP(sport=first, dport=9))]
            offloads = [None]
        else:
            # pieces of 1500 bytes on the internet: of 64 such packets, more than a burst has room for
            whole = IP(src=APP, dst=EXAMPLE) / UDP(sport=7, dport=9) / bytes(60_000)
            packets = [bytes(whole)] * 64
            offloads = [None] * len(packets)
        version = packets[0][0] >> 4
        node = "lost" if kind == "circles" else "app"
        forms.send(node, [ether(plane, node, version, packet) for packet in packets], offloads, keep)
    TALLY.add(forms.seen)


@settings(backend=FRESH, phases=PHASES, max_examples=part(4), suppress_health_check=[HealthCheck.too_slow])
@given(data=st.data())
def test_both_engines_agree_on_a_nat_gateway_without_free_ports(data: st.DataObject) -> None:
    """55,000 connections to one destination are many; with a limit of four, examples meet it, and what frees a port."""
    with (
        patch("dataplane.model.nat_gateway.NAT_FLOWS_PER_DESTINATION", FEW),
        patch("dataplane.reference.nat.MOST_PER_DESTINATION", FEW),
    ):
        pair = Pair(load_topology(NAT64_SHOP, file_name="limits.yaml"))
        script.begin(NAT64_SHOP, connections=FEW)
        for _ in range(data.draw(st.integers(2, 10))):
            _crowd(pair, data)
    TALLY.add(pair.seen)


@settings(backend=FRESH, phases=PHASES, max_examples=part(4), suppress_health_check=[HealthCheck.too_slow])
@given(data=st.data(), sessions=st.sampled_from([96, 160]))
def test_both_engines_agree_on_who_has_room_for_connections(data: st.DataObject, sessions: int) -> None:
    """One who takes all he can get, others who want a few, and the dead, who make room."""
    pair = Pair(load_topology(NAT64_SHOP, file_name="limits.yaml"), sessions=sessions)
    script.begin(NAT64_SHOP, sessions=sessions)
    for _ in range(data.draw(st.integers(4, 12))):
        kind = data.draw(st.sampled_from(["app", "app", "app", "web", "web", "wait"]))
        if kind == "wait":
            pair.advance(data.draw(st.sampled_from([1, 999, 1_000, 29_999, 30_000, 350_000])))
            continue
        source, destination = {"app": APP, "web": WEB}[kind], data.draw(st.sampled_from([EXAMPLE, OPEN]))
        first = data.draw(st.integers(1, 60))
        for port in range(first, first + data.draw(st.sampled_from([2, 24]))):
            packet = bytes(IP(src=source, dst=destination) / UDP(sport=port, dport=9))
            pair.send(pair.fast.port(f"{kind}/eth0"), [ether(pair.fast, kind, 4, packet)], traced=False)
    TALLY.add(pair.seen)


@settings(backend=FRESH, phases=PHASES, max_examples=part(4), suppress_health_check=[HealthCheck.too_slow])
@given(data=st.data(), errors=st.integers(0, 4))
def test_both_engines_agree_on_how_often_errors_are_told(data: st.DataObject, errors: int) -> None:
    """TTLs that end at a NAT gateway, of several senders, and time that fills the bucket again."""
    pair = Pair(load_topology(NAT64_SHOP, file_name="limits.yaml"), errors=errors)
    script.begin(NAT64_SHOP, errors=errors)
    for port in range(1, data.draw(st.integers(2, 12))):
        pair.now += data.draw(st.sampled_from([0, 0, 0, 1, 2, 1_000]))
        node, source = data.draw(st.sampled_from([("app", APP), ("open", OPEN), ("app", APP6)]))
        segment = UDP(sport=port, dport=9)
        if source == APP6:
            packet = bytes(IPv6(src=source, dst="64:ff9b::c633:640a", hlim=1) / segment)
        else:
            packet = bytes(IP(src=source, dst=EXAMPLE, ttl=1) / segment)
        frame = ether(pair.fast, node, packet[0] >> 4, packet)
        pair.send(pair.fast.port(f"{node}/eth0"), [frame] * data.draw(st.sampled_from([1, 3])))
    TALLY.add(pair.seen)


def _crowd(pair: Pair, data: st.DataObject) -> None:
    """New connections, ends of some, or silence."""
    kind = data.draw(st.sampled_from(["udp", "udp", "syn", "rst", "six", "wait"]))
    if kind == "wait":
        pair.advance(data.draw(st.sampled_from([59_999, 60_000, 349_999, 350_000])))
        return
    first = data.draw(st.integers(1, 6))
    frames = []
    for port in range(first, first + 3):
        segment: Any = UDP(sport=port, dport=9)
        if kind in ("syn", "rst"):
            segment = TCP(sport=port, dport=9, flags="S" if kind == "syn" else "R")
        if kind == "six":
            packet = bytes(IPv6(src=APP6, dst="64:ff9b::c633:640a") / segment)
        else:
            packet = bytes(IP(src=APP, dst=EXAMPLE) / segment)
        frames.append(ether(pair.fast, "app", packet[0] >> 4, packet))
    pair.send(pair.fast.port("app/eth0"), frames, traced=data.draw(st.booleans()))
