"""What a followed packet is told to be: headers as they stand in its frame, and whose it was."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from scapy.layers.inet import ICMP, IP, TCP, UDP, IPOption_RR, fragment
from scapy.layers.inet6 import (
    ICMPv6DestUnreach,
    ICMPv6EchoReply,
    ICMPv6EchoRequest,
    IPv6,
    IPv6ExtHdrDestOpt,
    IPv6ExtHdrFragment,
    IPv6ExtHdrHopByHop,
    IPv6ExtHdrRouting,
)
from scapy.layers.l2 import ARP, Ether

from dataplane.story import packet_of
from dataplane.trace import Action, Trace
from dataplane.verdict import Reason, Verdict
from lab.capture import Stories
from tests.scenario.gwlb import ONE
from tests.scenario.network import Network

QUICKSTART = (Path(__file__).parents[3] / "examples" / "quickstart.yaml").read_text()
MACS = Ether(src="02:00:00:00:00:01", dst="02:00:00:00:00:02")
IP4 = IP(src="10.0.1.10", dst="10.0.2.10", ttl=7)
IP6 = IPv6(src="2001:db8::1", dst="2001:db8::2", hlim=9)
A_TO_B = "10.0.1.10 > 10.0.2.10"


@pytest.mark.parametrize(
    ("packet", "told"),
    [
        (IP4 / TCP(sport=1000, dport=80) / b"abc", "tcp 10.0.1.10:1000 > 10.0.2.10:80"),
        (IP4 / TCP(sport=1000, dport=80, options=[("MSS", 1460)]), "tcp 10.0.1.10:1000 > 10.0.2.10:80"),
        (IP4 / UDP(sport=53, dport=5353) / b"abc", "udp 10.0.1.10:53 > 10.0.2.10:5353"),
        (IP4 / ICMP(type=3, code=4), f"icmp {A_TO_B} (type 3, code 4)"),
        (IP4 / ICMP(type=0, id=7), f"icmp {A_TO_B} (type 0, code 0)"),
        (IP(src="10.0.1.10", dst="10.0.2.10", proto=47) / bytes(12), f"protocol 47 {A_TO_B}"),
        (IP4 / UDP(sport=53, dport=5353) / bytes(700), "udp 10.0.1.10:53 > 10.0.2.10:5353"),
        (IP6 / UDP(sport=53, dport=5353) / bytes(700), "udp [2001:db8::1]:53 > [2001:db8::2]:5353"),
        (IP6 / TCP(sport=1000, dport=80), "tcp [2001:db8::1]:1000 > [2001:db8::2]:80"),
        (IP6 / ICMPv6EchoRequest(id=3), "icmpv6 2001:db8::1 > 2001:db8::2 (type 128, code 0)"),
        (IP6 / ICMPv6EchoReply(id=3), "icmpv6 2001:db8::1 > 2001:db8::2 (type 129, code 0)"),
        (IP6 / ICMPv6DestUnreach(code=4), "icmpv6 2001:db8::1 > 2001:db8::2 (type 1, code 4)"),
    ],
    ids=str,
)
def test_headers_are_those_of_the_frame(packet: Any, told: str) -> None:
    """Ethernet may have filled the frame up to its least size: that is no part of the packet."""
    raw = bytes(packet)
    for padding in (b"", bytes(18)):
        found = packet_of(bytes(MACS / packet) + padding)
        assert found.describe() == told
        assert found.length_bytes == len(raw)
        assert found.ttl == (raw[8] if raw[0] >> 4 == 4 else raw[7])


def test_ports_are_found_behind_options_and_extension_headers() -> None:
    """RFC 791, section 3.1; RFC 8200, section 4: how long each header is stands in it."""
    options = IP(src="10.0.1.10", dst="10.0.2.10", options=[IPOption_RR(length=7, pointer=4, routers=["0.0.0.0"])])
    assert packet_of(bytes(MACS / options / TCP(sport=1, dport=2))).describe() == "tcp 10.0.1.10:1 > 10.0.2.10:2"
    assert packet_of(bytes(MACS / options / ICMP(type=11, code=1))).icmp == (11, 1)
    for head in (
        IPv6ExtHdrHopByHop(),
        IPv6ExtHdrDestOpt(),
        IPv6ExtHdrRouting(addresses=["2001:db8::3"], segleft=0),
        IPv6ExtHdrFragment(offset=0, m=1, id=1),
        IPv6ExtHdrHopByHop() / IPv6ExtHdrRouting(addresses=["2001:db8::3", "2001:db8::4"]) / IPv6ExtHdrDestOpt(),
    ):
        found = packet_of(bytes(MACS / IP6 / head / UDP(sport=1, dport=2) / bytes(9)))
        assert found.describe() == "udp [2001:db8::1]:1 > [2001:db8::2]:2", head.summary()


@pytest.mark.parametrize(
    "packet",
    [
        IP(src="10.0.1.10", dst="10.0.2.10", options=[IPOption_RR(length=7, pointer=4, routers=["0.0.0.0"])])
        / UDP(sport=1, dport=2)
        / b"abc",
        IP6 / IPv6ExtHdrHopByHop() / UDP(sport=1, dport=2) / b"abc",
        fragment(IP(src="10.0.1.10", dst="10.0.2.10") / TCP() / bytes(12), 24)[1],
        IP(src="10.0.1.10", dst="10.0.2.10", proto=47) / b"abcd",
    ],
    ids=["options", "extension header", "last piece", "short"],
)
def test_the_length_is_that_of_the_ip_packet(packet: Any) -> None:
    """RFC 791, total length; RFC 8200, section 3: the payload length counts extension headers."""
    assert packet_of(bytes(MACS / packet)).length_bytes == len(bytes(packet))
    network = Network(QUICKSTART, engine="fast")
    stories = Stories(network.plane)
    network.send("app", packet)
    lines: list[bytes] = []
    stories.run(lines.append, lambda seconds: True)
    [hop, *_] = Trace.from_json(json.loads(b"".join(lines).splitlines()[0])["trace"]).forward.hops
    assert {step.packet.length_bytes for step in hop.steps} == {len(bytes(packet))}


@pytest.mark.parametrize(
    ("packet", "told"),
    [
        (
            IP(src="10.0.2.10", dst="10.0.3.10", ttl=9) / TCP(sport=4000, dport=80) / b"abc",
            "tcp 10.0.2.10:4000 > 10.0.3.10:80",
        ),
        (IP(src="10.0.2.10", dst="10.0.3.10", ttl=9) / ICMP(), "icmp 10.0.2.10 > 10.0.3.10 (type 8, code 0)"),
        (IP(src="10.0.2.10", dst="10.0.3.10", ttl=9, proto=47) / bytes(99), "protocol 47 10.0.2.10 > 10.0.3.10"),
        (
            IPv6(src="2001:db8:10:2::10", dst="2001:db8:99::10", hlim=9) / UDP(sport=1, dport=2) / b"abc",
            "udp [2001:db8:10:2::10]:1 > [2001:db8:99::10]:2",
        ),
    ],
)
def test_what_a_target_sends_back_is_told_as_the_packet_inside(packet: Any, told: str) -> None:
    """From where it comes out of the GENEVE packet (RFC 8926, section 3) that it was sent in."""
    network = Network(ONE, engine="fast")
    outer = network.send("app", packet).packet
    back = IP(src=outer.dst, dst=outer.src, ttl=77) / UDP(bytes(outer[UDP]))
    stories = Stories(network.plane)
    arrived = network.send("fw1", back)
    assert arrived.to in ("db", "far")
    lines: list[bytes] = []
    stories.run(lines.append, lambda seconds: True)
    trace = Trace.from_json(json.loads(b"".join(lines).splitlines()[0])["trace"])
    steps = [step for hop in trace.forward.hops for step in hop.steps]
    out = [step.action for step in steps].index(Action.DECAPSULATE)
    around, inside = [step.packet for step in steps[:out]], [step.packet for step in steps[out:]]
    assert {(each.protocol, each.ttl, each.length_bytes) for each in around} == {(17, 77, 68 + len(packet))}
    assert inside[0].describe() == told
    assert {each.length_bytes for each in inside} == {len(packet)} == {len(arrived.packet)}
    ttls = [each.ttl for each in inside]
    assert ttls[0] == 8, "the endpoint took one off before"
    assert ttls[-1] == (arrived.packet.hlim if arrived.packet.version == 6 else arrived.packet.ttl)


@pytest.mark.parametrize(
    ("packet", "verdict"),
    [
        (IP(src="10.0.2.10", dst="10.0.1.10") / TCP(dport=80), "FORWARD"),
        (IP(src="10.0.2.10", dst="10.0.2.1") / ICMP(), "SERVE"),
    ],
)
def test_a_story_is_one_direction_and_says_so(packet: Any, verdict: str) -> None:
    network = Network(QUICKSTART, engine="fast")
    stories = Stories(network.plane)
    network.send("app", packet)
    lines: list[bytes] = []
    stories.run(lines.append, lambda seconds: True)
    told = json.loads(b"".join(lines).splitlines()[0])["trace"]
    assert (told["forward"]["verdict"], told["forward"]["rule"]) == (verdict, None), "no rule dropped it"
    assert (told["story"], told["reachable"], told["reply"]) == (True, False, None)
    read = Trace.from_json(told)
    assert (read.is_story, read.to_json()) == (True, told)


@pytest.mark.parametrize(
    "packet",
    [
        IP(src="10.0.1.10", dst="10.0.2.10", proto=1) / b"\x0b",
        fragment(IP(src="10.0.1.10", dst="10.0.2.10") / ICMP(type=8) / (b"\x0b" * 32), 24)[1],
        IP6 / IPv6ExtHdrFragment(offset=1, m=0, id=1, nh=58) / (b"\x0b" * 16),
    ],
    ids=["cut short", "later piece", "IPv6"],
)
def test_icmp_whose_type_is_not_in_it_has_none(packet: Any) -> None:
    assert packet_of(bytes(MACS / packet)).icmp is None


def test_what_fills_a_frame_up_is_not_of_its_packet() -> None:
    """Ethernet frames have 46 bytes at least: what follows an IP packet that is shorter means nothing."""
    filling = b"\0\5\0\6" * 8
    assert str(packet_of(bytes(MACS / IP(src="10.0.1.10", dst="10.0.2.10", proto=17, len=22) / filling))) == (
        "10.0.1.10:0 > 10.0.2.10:0"
    )
    assert packet_of(bytes(MACS / IP(src="10.0.1.10", dst="10.0.2.10", proto=1, len=21) / filling)).icmp is None


def test_a_packet_is_not_longer_than_what_came_of_it() -> None:
    """Whatever its header says: anybody may write 65535 there."""
    for packet in (
        IP(src="10.0.1.10", dst="10.0.2.10", len=65535) / UDP(),
        IPv6(src="::1", dst="::2", plen=65535) / UDP(),
    ):
        assert packet_of(bytes(MACS / packet)).length_bytes == len(packet)


def test_type_and_code_are_found_behind_extension_headers() -> None:
    assert packet_of(bytes(MACS / IP6 / IPv6ExtHdrHopByHop() / ICMPv6DestUnreach(code=4))).icmp == (1, 4)


def test_pieces_without_ports_show_none_that_are_not_theirs() -> None:
    first, later = fragment(IP(src="10.0.1.10", dst="10.0.2.10") / UDP(sport=9, dport=10) / (b"\xff" * 1400), 1000)
    assert str(packet_of(bytes(MACS / first))) == "10.0.1.10:9 > 10.0.2.10:10"
    assert str(packet_of(bytes(MACS / later))) == "10.0.1.10:0 > 10.0.2.10:0"
    far = IP(src="10.0.1.10", dst="10.0.2.10", proto=17, frag=0x100) / (b"\xff" * 16)
    assert str(packet_of(bytes(MACS / far))) == "10.0.1.10:0 > 10.0.2.10:0"
    for offset in (1, 32):
        piece = IPv6ExtHdrFragment(offset=offset, m=0, id=1, nh=17) / (b"\xff" * 16)
        assert str(packet_of(bytes(MACS / IP6 / piece))) == "[2001:db8::1]:0 > [2001:db8::2]:0"
    assert str(packet_of(bytes(MACS / IP(src="10.0.1.10", dst="10.0.2.10", proto=6) / b"\xff\xff"))) == (
        "10.0.1.10:0 > 10.0.2.10:0"
    )


@pytest.mark.parametrize(
    ("packet", "told"),
    [
        (IP(src="10.0.1.10", dst="10.0.2.10", proto=47), "protocol 47 10.0.1.10 > 10.0.2.10"),
        (IPv6(src="2001:db8::1", dst="2001:db8::2", nh=59), "protocol 59 2001:db8::1 > 2001:db8::2"),
        (
            IPv6(src="2001:db8::1", dst="2001:db8::2") / IPv6ExtHdrHopByHop(nh=59),
            "protocol 59 2001:db8::1 > 2001:db8::2",
        ),
        (IP(src="10.0.1.10", dst="10.0.2.10", proto=17) / b"\0\x35\0\x50", "udp 10.0.1.10:53 > 10.0.2.10:80"),
        (IP(src="10.0.1.10", dst="10.0.2.10", proto=1) / b"\x05\1", "icmp 10.0.1.10 > 10.0.2.10 (type 5, code 1)"),
    ],
    ids=["IPv4", "IPv6", "extension", "ports", "ICMP"],
)
def test_the_least_that_can_be_told(packet: Any, told: str) -> None:
    """Headers, and what of the next one is there; an Ethernet frame may end behind it."""
    assert packet_of(bytes(MACS / packet)).describe() == told


@pytest.mark.parametrize(
    "frame",
    [
        bytes(MACS / ARP(psrc="10.0.1.10", pdst="10.0.1.1")),
        bytes(MACS)[:12] + b"\x08\x00" + bytes(IP4)[:19],
        bytes(MACS)[:12] + b"\x08\x00" + bytes(IP6 / UDP()),
        bytes(MACS)[:12] + b"\x86\xdd" + bytes(IP6)[:39],
    ],
    ids=["ARP", "short IPv4", "not IPv4", "short IPv6"],
)
def test_of_other_frames_the_ends_are_macs(frame: bytes) -> None:
    packet = packet_of(frame)
    assert (packet.protocol, str(packet)) == (0, "02:00:00:00:00:01 > 02:00:00:00:00:02")
    assert packet.length_bytes == len(frame)


@pytest.mark.parametrize(
    "packet", [IP4 / TCP(), IP4 / ICMP(), IP6 / UDP(), IP6 / IPv6ExtHdrHopByHop() / ICMPv6EchoRequest()], ids=str
)
def test_a_frame_may_end_anywhere(packet: Any) -> None:
    whole = bytes(MACS / packet)
    for length in range(len(whole)):
        found = packet_of(whole[:length])
        assert found.protocol in (0, packet_of(whole).protocol)
        assert found.describe()


def followed(network: Network, where: str = "") -> Any:
    """Begins to follow; what it returns gives the traces, and how many were lost before each."""
    stories = Stories(network.plane, where)

    def traces() -> list[Trace]:
        lines: list[bytes] = []
        stories.run(lines.append, lambda seconds: True)
        *told, _ = map(json.loads, b"".join(lines).splitlines())
        assert all((each["time_ns"], each["lost"]) == (network.now * 1_000_000, 0) for each in told)
        return [Trace.from_json(each["trace"]) for each in told]

    return traces


def test_a_followed_packet_is_told_from_its_sender_to_its_receiver() -> None:
    network = Network(QUICKSTART, engine="fast")
    traces = followed(network)
    network.send("app", IP(src="10.0.2.10", dst="198.51.100.10") / ICMP(type=8, code=3, id=5))
    [trace] = traces()
    assert (trace.source, trace.destination, trace.reply) == ("app/eth0", "198.51.100.10", None)
    walk = trace.forward
    assert (walk.verdict, str(walk.object), walk.rule) == (Verdict.FORWARD, "interface example/eth0", None)
    assert walk.path()[0] == "interface app/eth0"
    assert walk.path()[-1] == "interface example/eth0"
    assert {step.packet.icmp for hop in walk.hops for step in hop.steps} == {(8, 3)}
    translated = next(hop.packet for hop in walk.hops if hop.object.kind == "nat-gateway")
    assert translated.source == "10.0.1.4", "its private address: the internet gateway translates again"


def test_what_is_translated_to_another_family_has_types_of_that_family() -> None:
    """An echo request is of type 128 in ICMPv6 and 8 in ICMP (RFC 4443, RFC 792)."""
    text = (Path(__file__).parents[3] / "examples" / "ipv6-egress.yaml").read_text()
    network = Network(text, engine="fast")
    worker = network.plane.interface(network.port("worker")).address6
    traces = followed(network)
    network.send("worker", IPv6(src=str(worker), dst="64:ff9b::198.51.100.20") / ICMPv6EchoRequest(id=5))
    [trace] = traces()
    assert trace.forward.verdict is Verdict.FORWARD
    types = {step.packet.protocol: step.packet.icmp for hop in trace.forward.hops for step in hop.steps}
    assert types == {58: (128, 0), 1: (8, 0)}


def test_a_followed_packet_that_dies_says_whose_rules_were_looked_at_in_vain() -> None:
    network = Network(QUICKSTART, engine="fast")
    traces = followed(network)
    network.send("app", IP(src="10.0.2.10", dst="10.0.1.10") / TCP(dport=9999, flags="S"))
    network.send("visitor", IP(src="198.51.100.77", dst="203.0.113.20") / TCP(dport=22, flags="S"))
    shut, denied = (trace.forward for trace in traces())
    assert (shut.reason, str(shut.object), shut.rule, shut.note) == (
        Reason.GROUP_INGRESS, "interface web/eth0", None, "security group shop/web"
    )  # fmt: skip
    assert (denied.reason, str(denied.object), denied.note) == (Reason.ACL_INGRESS, "network-acl shop/edge", "")
    assert str(denied.rule) == "acl-rule shop/edge ingress 90 deny tcp 22 from 0.0.0.0/0"


def test_a_followed_frame_that_is_no_packet_has_a_story_too() -> None:
    network = Network(QUICKSTART, engine="fast")
    traces = followed(network)
    mine = network.mac("app")
    network.put("app", Ether(src=mine, dst="ff:ff:ff:ff:ff:ff") / ARP(hwsrc=mine, psrc="10.0.2.10", pdst="10.0.2.1"))
    network.put("app", Ether(src=mine, dst=network.router_mac("app"), type=0x88CC) / bytes(50))
    asked, other = (trace.forward for trace in traces())
    assert [(step.action, step.note) for hop in (*asked.hops, *other.hops) for step in hop.steps] == [
        (Action.SEND, "Ethernet type 0x0806"),
        (Action.SEND, "Ethernet type 0x88cc"),
    ]
    assert (asked.verdict, asked.reason) == (Verdict.SERVE, Reason.NONE)
    assert (other.verdict, other.rule) == (Verdict.DROP, None)
    assert other.reason is not Reason.NONE
    assert {str(walk.hops[0].object) for walk in (asked, other)} == {"interface app/eth0"}
