"""Whose a frame is, read from frames that scapy built."""

from __future__ import annotations

from ipaddress import ip_address
from typing import Any

import pytest
from scapy.contrib.geneve import GENEVE
from scapy.layers.inet import ICMP, IP, TCP, UDP
from scapy.layers.inet6 import ICMPv6DestUnreach, ICMPv6EchoReply, ICMPv6EchoRequest, ICMPv6ND_NS, IPv6
from scapy.layers.l2 import ARP, Ether
from scapy.packet import Raw

from dataplane.analysis.headers import Flow, forwarded, read_headers, sent_back

MAC, OTHER = "02:00:00:00:00:01", "02:00:00:00:00:02"
A, B, A6, B6 = "10.0.1.10", "10.0.2.10", "2001:db8::a", "2001:db8::b"


def frame(packet: Any) -> bytes:
    return bytes(Ether(src=MAC, dst=OTHER) / packet)


def flow(protocol: int, source: str, destination: str, source_port: int = 0, destination_port: int = 0) -> Flow:
    ends = ip_address(source).packed, ip_address(destination).packed
    return Flow(protocol, *ends, source_port, destination_port)


@pytest.mark.parametrize(
    ("packet", "expected"),
    [
        (IP(src=A, dst=B) / TCP(sport=1000, dport=80), flow(6, A, B, 1000, 80)),
        (IP(src=A, dst=B, options=b"\1\1\1\1") / UDP(sport=1000, dport=53), flow(17, A, B, 1000, 53)),
        (IP(src=A, dst=B) / ICMP(id=77), flow(1, A, B, 77)),
        (IP(src=A, dst=B) / ICMP(type=0, id=77), flow(1, A, B, 77)),
        (IP(src=A, dst=B, proto=1) / Raw(b"\x0a\0\0\0\x0a\x09\x09\x09"), flow(1, A, B)),
        (IPv6(src=A6, dst=B6, nh=58) / Raw(b"\x85\0\0\0\x0a\x09\x09\x09"), flow(58, A6, B6)),
        (IP(src=A, dst=B, proto=50) / Raw(b"12345678"), flow(50, A, B)),
        (IPv6(src=A6, dst=B6) / TCP(sport=1000, dport=80), flow(6, A6, B6, 1000, 80)),
        (IPv6(src=A6, dst=B6) / ICMPv6EchoRequest(id=77), flow(58, A6, B6, 77)),
        (IPv6(src=A6, dst=B6) / ICMPv6EchoReply(id=77), flow(58, A6, B6, 77)),
    ],
)
def test_the_flow(packet: Any, expected: Flow) -> None:
    headers = read_headers(frame(packet))
    assert (headers.flow, headers.about, headers.asked) == (expected, None, None)


def test_answers_have_the_ends_swapped_and_echoes_keep_their_identifier() -> None:
    assert flow(6, A, B, 1000, 80).reversed() == flow(6, B, A, 80, 1000)
    assert flow(1, A, B, 77).reversed() == flow(1, B, A, 77)
    assert flow(58, A6, B6, 77).reversed() == flow(58, B6, A6, 77)


def test_what_an_error_is_about() -> None:
    lost = IP(src=A, dst=B) / UDP(sport=1000, dport=53)
    headers = read_headers(frame(IP(src=B, dst=A) / ICMP(type=3, code=3) / lost))
    assert headers.about == flow(17, A, B, 1000, 53)
    lost6 = IPv6(src=A6, dst=B6) / TCP(sport=1000, dport=53)
    assert read_headers(frame(IPv6(src=B6, dst=A6) / ICMPv6DestUnreach() / lost6)).about == flow(6, A6, B6, 1000, 53)


@pytest.mark.parametrize("type_", [3, 5, 11, 12])
def test_messages_that_are_about_a_packet(type_: int) -> None:
    """ICMP's errors and its redirect quote the packet that they are about (RFC 792); others do not."""
    lost = IP(src=A, dst=B) / UDP(sport=1000, dport=53)
    assert read_headers(frame(IP(src=B, dst=A) / ICMP(type=type_) / lost)).about == flow(17, A, B, 1000, 53)
    assert read_headers(frame(IP(src=B, dst=A) / ICMP(type=13) / lost)).about is None


@pytest.mark.parametrize("type_", [1, 2, 3, 4])
def test_messages_of_icmpv6_that_are_about_a_packet(type_: int) -> None:
    """RFC 4443, section 2.1: errors are those below 128."""
    lost = IPv6(src=A6, dst=B6) / UDP(sport=1000, dport=53)
    told = IPv6(src=B6, dst=A6, nh=58) / Raw(bytes([type_, 0, 0, 0]) + bytes(4) + bytes(lost))
    assert read_headers(frame(told)).about == flow(17, A6, B6, 1000, 53)
    echo = IPv6(src=B6, dst=A6, nh=58) / Raw(bytes([128, 0, 0, 0]) + bytes(4) + bytes(lost))
    assert read_headers(frame(echo)).about is None


def test_flows_as_they_are_told() -> None:
    assert str(flow(6, A, B, 1000, 80)) == "tcp 10.0.1.10:1000 > 10.0.2.10:80"
    assert str(flow(17, A6, B6, 1000, 53)) == "udp [2001:db8::a]:1000 > [2001:db8::b]:53"
    assert str(flow(58, A6, B6, 77)) == "icmpv6 2001:db8::a > 2001:db8::b"
    assert str(flow(50, A, B)) == "protocol 50 10.0.1.10 > 10.0.2.10"


def test_what_is_inside_a_tunnel() -> None:
    inner = IP(src=A, dst=B) / TCP(sport=1000, dport=80)
    tunnelled = IP(src="10.9.0.1", dst="10.9.0.2") / UDP(sport=60000, dport=6081) / GENEVE(proto=0x0800) / inner
    headers = read_headers(frame(tunnelled))
    assert (headers.inside, headers.flow) == (flow(6, A, B, 1000, 80), flow(17, "10.9.0.1", "10.9.0.2", 60000, 6081))
    back = Ether(sent_back(frame(tunnelled), b"\1" * 6, b"\2" * 6))
    assert (back[IP].src, back[IP].dst, back[UDP].sport, back[UDP].dport) == ("10.9.0.2", "10.9.0.1", 60000, 6081)
    checksums = back[IP].chksum, back[UDP].chksum
    del back[IP].chksum, back[UDP].chksum
    built = Ether(bytes(back))
    assert checksums == (built[IP].chksum, built[UDP].chksum)


@pytest.mark.parametrize("words", [0, 1, 8, 63])
def test_what_is_inside_is_found_behind_options(words: int) -> None:
    """RFC 8926, 3.4: their length is told in words of four octets, in the lower six bits of the first."""
    geneve = bytes([words, 0, 0x08, 0, 0, 0, 1, 0]) + bytes(4 * words)
    inner = bytes(IP(src=A, dst=B) / TCP(sport=1000, dport=80))
    outer = IP(src="10.9.0.1", dst="10.9.0.2") / UDP(sport=60000, dport=6081) / Raw(geneve + inner)
    assert read_headers(frame(outer)).inside == flow(6, A, B, 1000, 80)


def test_questions_for_a_neighbour_and_resets() -> None:
    assert read_headers(frame(ARP(op=1, psrc=A, pdst=B))).asked == ip_address(B).packed
    assert read_headers(frame(ARP(op=2, psrc=A, pdst=B))).asked is None
    assert read_headers(frame(IPv6(src=A6, dst="ff02::1") / ICMPv6ND_NS(tgt=B6))).asked == ip_address(B6).packed
    assert read_headers(frame(IP(src=A, dst=B) / TCP(flags="RA"))).refuses
    assert not read_headers(frame(IP(src=A, dst=B) / TCP(flags="SA"))).refuses


LOST = IP(src=A, dst=B) / UDP(sport=1000, dport=53)
SHELL = IP(src="10.9.0.1", dst="10.9.0.2") / UDP(sport=60000, dport=6081)


@pytest.mark.parametrize(
    "packet",
    [
        IP(src=A, dst=B) / TCP(),
        IPv6(src=A6, dst=B6) / TCP(),
        IP(src=A, dst=B) / ICMP(),
        IP(src=A, dst=B, proto=50) / Raw(bytes(8)),
        IPv6(src=A6, dst=B6, nh=50) / Raw(bytes(8)),
        IP(src=B, dst=A) / ICMP(type=3, code=3) / LOST,
        IPv6(src=A6, dst="ff02::1") / ICMPv6ND_NS(tgt=B6),
        SHELL / GENEVE(proto=0x0800) / LOST,
    ],
    ids=str,
)
def test_what_is_cut_short_is_nobodys_and_never_raises(packet: Any) -> None:
    whole = frame(packet)
    for length in range(len(whole)):
        headers = read_headers(whole[:length])
        assert headers.flow is None or headers.flow == read_headers(whole).flow


def test_what_looks_like_something_else_is_what_its_header_says() -> None:
    """Types of ICMPv6 stand where TCP and UDP have the first byte of a port; other ports may have what GENEVE has."""
    reset = read_headers(frame(IP(src=A, dst=B) / TCP(sport=135 << 8, dport=6081, flags="R") / Raw(bytes(40))))
    assert (reset.refuses, reset.asked, reset.inside) == (True, None, None)
    echo = read_headers(frame(IPv6(src=A6, dst=B6) / ICMPv6EchoRequest(id=77) / Raw(bytes(24))))
    assert (echo.flow, echo.asked) == (flow(58, A6, B6, 77), None)
    assert not read_headers(frame(IP(src=A, dst=B) / UDP(sport=53, dport=1000) / Raw(b"\xff" * 20))).refuses
    other = IP(src=A, dst=B) / UDP(sport=60000, dport=6082) / GENEVE(proto=0x0800) / LOST
    assert read_headers(frame(other)).inside is None
    short = bytes(frame(IPv6(src=A6, dst="ff02::1") / ICMPv6ND_NS(tgt=B6)))[: 14 + 40 + 23]
    assert read_headers(short).asked is None
    alien = bytes(Ether(src=MAC, dst=OTHER, type=0x88CC) / Raw(bytes(LOST)))
    assert read_headers(alien).flow is None


@pytest.mark.parametrize("ttl", [64, 2, 255])
def test_forwarding_takes_one_from_the_ttl_and_keeps_the_checksum_right(ttl: int) -> None:
    sent = Ether(forwarded(frame(IP(src=A, dst=B, ttl=ttl) / UDP()), b"\1" * 6, b"\2" * 6))
    assert (sent.src, sent.dst, sent[IP].ttl) == ("01:01:01:01:01:01", "02:02:02:02:02:02", ttl - 1)
    checksum = sent[IP].chksum
    del sent[IP].chksum
    assert Ether(bytes(sent))[IP].chksum == checksum
    assert Ether(forwarded(frame(IPv6(src=A6, dst=B6, hlim=ttl) / UDP()), b"\1" * 6, b"\2" * 6))[IPv6].hlim == ttl - 1


def test_the_checksum_of_what_is_forwarded_is_right_whatever_it_was() -> None:
    """RFC 1624 has sums with an end-around carry: the words of a header whose checksum is right add up to 0xffff."""
    whole = frame(IP(src=A, dst=B, ttl=64, id=0) / UDP())
    for number in range(0, 0x10000, 37):
        head = bytearray(whole[14:34])
        head[4:6], head[10:12] = number.to_bytes(2), b"\0\0"
        head[10:12] = (0xFFFF - total(head)).to_bytes(2)
        assert total(forwarded(whole[:14] + head + whole[34:], bytes(6), bytes(6))[14:34]) == 0xFFFF


def total(octets: bytes | bytearray) -> int:
    """The one's complement sum of RFC 1071."""
    found = sum(int.from_bytes(octets[at : at + 2]) for at in range(0, len(octets), 2))
    return found % 0xFFFF or 0xFFFF


def test_a_datagram_to_the_port_of_tunnels_is_none_because_of_that() -> None:
    headers = read_headers(frame(IP(src=A, dst=B) / UDP(sport=1000, dport=6081) / Raw(b"hello")))
    assert (headers.flow, headers.inside) == (flow(17, A, B, 1000, 6081), None)
