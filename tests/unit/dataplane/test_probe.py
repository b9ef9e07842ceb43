"""Probes as frames, against scapy, and the answers that hosts give."""

from __future__ import annotations

from dataclasses import replace
from ipaddress import IPv4Address, IPv6Address, ip_address
from typing import Any

import pytest
from scapy.layers.inet import ICMP, IP, TCP, UDP
from scapy.layers.inet6 import ICMPv6EchoReply, ICMPv6EchoRequest, IPv6
from scapy.layers.l2 import Ether
from scapy.packet import Raw

from dataplane.errors import VpclabError
from dataplane.probe import Probe, as_packet, ports_of, protocol_number, read_probe
from dataplane.trace import Packet

MACS = (b"\2\0\0\0\0\1", b"\2\0\0\0\0\2")
ETHER = Ether(src="02:00:00:00:00:01", dst="02:00:00:00:00:02")
FOUR, SIX = ("10.0.1.10", "10.0.2.10"), ("2001:db8::1", "2001:db8::2")


def probe(ends: tuple[str, str], protocol: int, ports: tuple[int, int] = (0, 0), **fields: Any) -> Probe:
    source, destination = map(ip_address, ends)
    return Probe(
        source=source,
        destination=destination,
        protocol=protocol,
        source_port=ports[0],
        destination_port=ports[1],
        **fields,
    )


def ip(ends: tuple[str, str], **fields: Any) -> Any:
    """The IP header that a probe has: never to be fragmented, which IPv6 says by having no such header."""
    source, destination = ends
    if ":" in source:
        return IPv6(src=source, dst=destination, **{"hlim" if k == "ttl" else k: v for k, v in fields.items()})
    return IP(src=source, dst=destination, id=0, flags="DF", **fields)


SYN = {"seq": 1, "window": 64240}
CASES = [
    (probe(FOUR, 6, (40000, 80)), ip(FOUR) / TCP(sport=40000, dport=80, flags="S", **SYN)),
    (probe(SIX, 6, (40000, 80)), ip(SIX) / TCP(sport=40000, dport=80, flags="S", **SYN)),
    (probe(FOUR, 6, (1, 65535), tcp_flags=0x11), ip(FOUR) / TCP(sport=1, dport=65535, flags="FA", **SYN)),
    (probe(FOUR, 17, (40000, 53), payload=b"odd"), ip(FOUR) / UDP(sport=40000, dport=53) / b"odd"),
    (probe(SIX, 17, (40000, 53), payload=b"even"), ip(SIX) / UDP(sport=40000, dport=53) / b"even"),
    (probe(FOUR, 1, (77, 0), payload=b"abc"), ip(FOUR) / ICMP(id=77, seq=1) / b"abc"),
    (probe(SIX, 58, (77, 0)), ip(SIX) / ICMPv6EchoRequest(id=77, seq=1)),
    (probe(FOUR, 1, (77, 0), is_reply=True), ip(FOUR) / ICMP(type=0, id=77, seq=1)),
    (probe(SIX, 58, (77, 0), is_reply=True), ip(SIX) / ICMPv6EchoReply(id=77, seq=1)),
    (probe(FOUR, 50, payload=bytes(8)), ip(FOUR, proto=50) / Raw(bytes(8))),
    (probe(SIX, 47, payload=b"xyz"), ip(SIX, nh=47) / Raw(b"xyz")),
    (probe(FOUR, 6, (40000, 80), ttl=3), ip(FOUR, ttl=3) / TCP(sport=40000, dport=80, flags="S", **SYN)),
    (probe(SIX, 17, (5, 6), ttl=255), ip(SIX, ttl=255) / UDP(sport=5, dport=6)),
]


@pytest.mark.parametrize(("asked", "built"), CASES, ids=lambda each: each.summary() if hasattr(each, "summary") else "")
def test_a_frame_is_what_scapy_builds(asked: Probe, built: Any) -> None:
    """Byte for byte, checksums among it."""
    assert asked.frame(*MACS) == bytes(ETHER / built)
    assert read_probe(asked.frame(*MACS)) == replace(asked, tcp_flags=0x02)


def test_what_may_be_fragmented_says_so() -> None:
    assert IP(probe(FOUR, 17, (5, 6), dont_fragment=False).frame(*MACS)[14:]).flags == 0


def test_a_udp_checksum_that_comes_out_as_zero_is_all_ones() -> None:
    """RFC 768: zero says that there is none."""
    rest = probe(FOUR, 17, (5, 6), payload=bytes(2)).frame(*MACS)[40:42]  # what is missing from all ones
    assert probe(FOUR, 17, (5, 6), payload=rest).frame(*MACS)[40:42] == b"\xff\xff"


@pytest.mark.parametrize(
    ("asked", "answer"),
    [
        (probe(FOUR, 6, (40000, 80)), ip(FOUR[::-1]) / TCP(sport=80, dport=40000, flags="SA", **SYN)),
        (probe(SIX, 17, (40000, 53), payload=b"q"), ip(SIX[::-1]) / UDP(sport=53, dport=40000) / b"q"),
        (probe(FOUR, 1, (77, 0), payload=b"abc"), ip(FOUR[::-1]) / ICMP(type=0, id=77, seq=1) / b"abc"),
        (probe(SIX, 58, (77, 0)), ip(SIX[::-1]) / ICMPv6EchoReply(id=77, seq=1)),
        (probe(FOUR, 50, ttl=3), ip(FOUR[::-1], proto=50) / Raw(bytes(8))),
    ],
    ids=["TCP", "UDP", "ICMP", "ICMPv6", "ESP"],
)
def test_answers_are_those_of_a_host(asked: Probe, answer: Any) -> None:
    """SYN and ACK, the echo reply with the same identifier and data (RFC 792), ends swapped, its own TTL."""
    assert asked.answer().frame(*MACS) == bytes(ETHER / answer)


@pytest.mark.parametrize(
    ("text", "number"), [("tcp", 6), ("UDP", 17), ("icmp", 1), ("ICMPv6", 58), ("0", 0), ("47", 47), ("255", 255)]
)
def test_protocols_by_name_and_number(text: str, number: int) -> None:
    assert protocol_number(text) == number


@pytest.mark.parametrize("text", ["", "256", "-1", "tpc", "6.0", "٦", "0x6"])
def test_what_is_no_protocol(text: str) -> None:
    with pytest.raises(
        VpclabError, match=r"no such protocol: .*; write tcp, udp, icmp, icmpv6 or a number from 0 to 255"
    ):
        protocol_number(text)


def test_a_packet_on_its_way_has_the_length_and_types_of_the_family_it_is_of() -> None:
    """RFC 7915: what NAT64 has made of it is 20 bytes shorter, and ICMPv6 is ICMP there."""
    six, four = (IPv6Address(SIX[0]), IPv6Address(SIX[1])), (IPv4Address("10.0.0.4"), IPv4Address("198.51.100.20"))
    asked = probe(SIX, 58, (77, 0), payload=b"abc", ttl=9)
    assert as_packet(asked, *six, (77, 0)) == Packet(
        protocol=58, source=SIX[0], destination=SIX[1], icmp=(128, 0), ttl=9, length_bytes=40 + 8 + 3
    )
    assert as_packet(asked, *four, (78, 0)) == Packet(
        protocol=1, source="10.0.0.4", destination="198.51.100.20", icmp=(8, 0), ttl=9, length_bytes=20 + 8 + 3
    )
    back = probe(("198.51.100.20", "10.0.0.4"), 1, (78, 0), is_reply=True)
    translated = as_packet(back, six[1], six[0], (77, 0))
    assert (translated.protocol, translated.icmp) == (58, (129, 0))
    ends = IPv4Address(FOUR[0]), IPv4Address(FOUR[1])
    tcp = as_packet(probe(FOUR, 6, (40000, 80)), *ends, (1024, 80))
    assert (tcp.source_port, tcp.destination_port, tcp.icmp, tcp.length_bytes) == (1024, 80, None, 40)
    esp = as_packet(probe(FOUR, 50), *ends, (0, 0))
    assert (esp.source_port, esp.destination_port, esp.length_bytes) == (None, None, 28)


@pytest.mark.parametrize(
    ("protocol", "given", "used"),
    [
        (6, (None, None), (40000, 80)),
        (17, (53, 9), (9, 53)),
        (1, (None, 7), (7, 0)),
        (58, (None, None), (40000, 0)),
        (47, (None, None), (0, 0)),
    ],
)
def test_ports_are_those_asked_for(protocol: int, given: tuple[int | None, int | None], used: tuple[int, int]) -> None:
    assert ports_of(protocol, *given) == used


@pytest.mark.parametrize(("protocol", "given"), [(1, (443, None)), (58, (443, None)), (47, (1, None)), (47, (None, 1))])
def test_a_port_that_would_be_ignored_is_refused(protocol: int, given: tuple[int | None, int | None]) -> None:
    with pytest.raises(VpclabError, match="means nothing for protocol"):
        ports_of(protocol, *given)


@pytest.mark.parametrize(
    ("ends", "protocol"),
    [*((FOUR, each) for each in (1, 6, 17, 47, 50)), *((SIX, each) for each in (6, 17, 47, 50, 58))],
)
@pytest.mark.parametrize("payload", [b"", b"a", bytes(100)])
def test_a_packet_is_told_as_long_as_its_frame_is(ends: tuple[str, str], protocol: int, payload: bytes) -> None:
    sent = probe(ends, protocol, (1, 2) if protocol in (6, 17) else (0, 0), payload=payload)
    told = as_packet(sent, sent.source, sent.destination, (sent.source_port, sent.destination_port))
    assert told.length_bytes == len(sent.frame(bytes(6), bytes(6))) - 14
