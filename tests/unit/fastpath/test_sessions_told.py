"""What is told of a session: whose it is, how long it has been there and silent, and what went by each way."""

from __future__ import annotations

import struct
from ipaddress import ip_address
from typing import Any

import pytest
from scapy.layers.inet import IP, TCP, UDP

from dataplane.engine import DataPlane
from dataplane.load import load_topology
from tests.scenario.gwlb import APP as BEHIND
from tests.scenario.gwlb import DB, ONE
from tests.scenario.labs import SHOP

APP, BARE, FAR = "10.0.2.10", "10.0.1.11", "198.51.100.10"
UDP_NUMBER, TCP_NUMBER = 17, 6


class Told:
    """A lab, and its sessions."""

    def __init__(self, text: str = SHOP, *, memo: bool = True) -> None:
        self.plane = DataPlane(load_topology(text, file_name="lab.yaml"), memo=memo)

    def send(self, node: str, packet: Any, now: int, offload: bytes | None = None) -> Any:
        """Send a packet; what left, if something did."""
        port = self.plane.port(f"{node}/eth0")
        interface = self.plane.interface(port)
        frame = interface.router_mac + interface.mac + b"\x08\x00" + bytes(packet)
        _, emissions = self.plane.process([frame], [port], now, [offload])
        return IP(emissions[-1].frame[14:]) if emissions else None

    def of(self, kind: str) -> dict[str, Any]:
        """The only session of a kind."""
        [row] = [row for row in self.plane.engine.sessions() if row["kind"] == kind]
        return row


def ends(source: str, to: str, protocol: int, source_port: int, to_port: int) -> tuple[int, ...]:
    return 4, int(ip_address(source)), int(ip_address(to)), protocol, source_port, to_port


def times(row: dict[str, Any]) -> tuple[int, int, int]:
    return row["age_ms"], row["idle_ms"], row["limit_ms"]


@pytest.mark.parametrize("memo", [True, False])
def test_of_a_flow_that_an_interface_tracks(memo: bool) -> None:
    lab = Told(memo=memo)
    there, back = IP(src=APP, dst=BARE) / UDP(sport=5, dport=6), IP(src=BARE, dst=APP) / UDP(sport=6, dport=5)
    lab.send("app", there / bytes(72), 1_000)
    row = lab.of("group")
    assert (row["state"], row["packets"], row["bytes"], times(row)) == ("single", (1, 0), (100, 0), (0, 0, 30_000))
    lab.send("bare", back / bytes(172), 1_500)
    for now in (2_000, 2_100, 2_200):
        lab.send("app", there / bytes(32), now)
    lab.plane.advance(2_900)
    row = lab.of("group")
    names = lab.plane.names
    assert (str(names[row["owner"]]), str(names[row["rule"]])) == (
        "interface app/eth0",
        "security-group-rule shop/app egress all to 0.0.0.0/0",
    )
    assert row["forward"] == ends(APP, BARE, UDP_NUMBER, 5, 6)
    assert row["reply"] == ends(BARE, APP, UDP_NUMBER, 6, 5)
    assert (row["state"], row["packets"], row["bytes"]) == ("stream", (4, 1), (100 + 3 * 60, 200))
    assert times(row) == (1_900, 700, 180_000)


def test_of_a_flow_through_a_nat_gateway() -> None:
    """As the gateway sees it: to its private address, which the internet gateway makes of the public one."""
    lab = Told()
    port = lab.send("app", IP(src=APP, dst=FAR) / UDP(sport=5, dport=53) / bytes(12), 1_000)[UDP].sport
    lab.send("example", IP(src=FAR, dst="203.0.113.10") / UDP(sport=53, dport=port) / bytes(72), 1_250)
    row = lab.of("nat")
    assert str(lab.plane.names[row["owner"]]) == "nat-gateway shop/nat"
    assert row["forward"] == ends(APP, FAR, UDP_NUMBER, 5, 53)
    assert row["reply"] == ends(FAR, "10.0.1.5", UDP_NUMBER, 53, port)
    assert (row["packets"], row["bytes"], times(row)) == ((1, 1), (40, 100), (250, 0, 350_000))


def test_of_a_flow_through_a_load_balancer() -> None:
    """As its packets are inside; the target and the cookie are those of what the target gets."""
    lab = Told(ONE)
    for now in (1_000, 1_010, 1_020):
        outer = bytes(lab.send("app", IP(src=BEHIND, dst=DB) / UDP(sport=5, dport=53) / bytes(12), now))
    row = lab.of("balancer")
    assert str(lab.plane.names[row["owner"]]) == "vpc-endpoint shop/inspect"
    assert str(lab.plane.names[row["target"]]) == "target security/fleet/fw1"
    assert row["cookie"] == int.from_bytes(outer[64:68])  # RFC 8926: the last option
    assert row["forward"] == ends(BEHIND, DB, UDP_NUMBER, 5, 53)
    assert row["reply"] == ends(DB, BEHIND, UDP_NUMBER, 53, 5)
    assert (row["packets"], row["bytes"], times(row)) == ((3, 0), (120, 0), (20, 0, 120_000))


@pytest.mark.parametrize("memo", [True, False])
def test_segments_count_as_what_they_are_on_the_wire(memo: bool) -> None:
    """A frame of 5001 bytes that is left to hardware to be cut is six packets, with 40 bytes of headers each."""
    lab = Told(memo=memo)
    lab.send("app", IP(src=APP, dst=BARE) / TCP(sport=5, dport=6), 1_000)
    lab.send("bare", IP(src=BARE, dst=APP) / TCP(sport=6, dport=5, flags="SA"), 1_000)
    lab.send("app", IP(src=APP, dst=BARE) / TCP(sport=5, dport=6, flags="A"), 1_000)
    data = IP(src=APP, dst=BARE) / TCP(sport=5, dport=6, flags="A") / bytes(5001)
    for _ in range(2):
        lab.send("app", data, 1_000, struct.pack("<BBHHHHH", 1, 1, 54, 1000, 34, 16, 0))
    row = lab.of("group")
    assert row["forward"] == ends(APP, BARE, TCP_NUMBER, 5, 6)
    assert (row["state"], row["packets"]) == ("open", (2 + 2 * 6, 1))
    assert row["bytes"] == (2 * 40 + 2 * (5001 + 6 * 40), 40)


def test_how_many_one_port_has_opened() -> None:
    """The most that any has: of app five, of bare two, which is not tracked where it comes to."""
    lab = Told()
    for n in range(5):
        lab.send("app", IP(src=APP, dst=BARE) / UDP(sport=n, dport=6), 1_000)
    for n in range(2):
        lab.send("bare", IP(src=BARE, dst="10.0.1.10") / TCP(sport=n, dport=80), 1_000)
    found = lab.plane.engine.statistics()
    assert (found["sessions"], found["sessions_of_one"]) == (len(lab.plane.engine.sessions()), 5)


def test_only_the_living_are_told_and_all_of_them() -> None:
    """Some thousands: they are read little by little."""
    lab = Told()
    template = bytearray(bytes(IP(src=APP, dst=BARE) / UDP(sport=0, dport=6, chksum=0)))
    port = lab.plane.port("app/eth0")
    interface = lab.plane.interface(port)
    frames = []
    for n in range(1, 10_001):
        template[20:22] = n.to_bytes(2)
        frames.append(interface.router_mac + interface.mac + b"\x08\x00" + bytes(template))
    lab.plane.process(frames[:5_000], [port] * 5_000, 1_000)
    lab.plane.process(frames[5_000:], [port] * 5_000, 2_000)
    assert sorted(row["forward"][4] for row in lab.plane.engine.sessions()) == list(range(1, 10_001))
    lab.send("app", IP(src=APP, dst=APP) / UDP(), 31_000)  # time passes, though nothing comes of it
    assert sorted(row["forward"][4] for row in lab.plane.engine.sessions()) == list(range(5_001, 10_001))
