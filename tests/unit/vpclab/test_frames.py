"""Raw packets: framing, checksums, and which frame answers which packet."""

from __future__ import annotations

from ipaddress import IPv6Address

import pytest
from scapy.layers.inet import ICMP, IP, TCP, UDP
from scapy.layers.inet6 import ICMPv6DestUnreach, ICMPv6EchoReply, ICMPv6EchoRequest, IPv6
from scapy.layers.l2 import Ether

from vpclab import _frames

ROUTER = "02:00:00:00:00:01"
ASKED = IP(src="10.0.1.10", dst="10.0.2.10") / TCP(sport=40000, dport=80, flags="S")


def frame(packet: object) -> bytes:
    return bytes(Ether(src=ROUTER, dst="02:00:00:00:00:02") / packet)


def test_scapy_packets_say_themselves_whether_they_are_framed() -> None:
    assert _frames.is_ethernet(Ether() / ASKED, bytes(Ether() / ASKED))
    assert not _frames.is_ethernet(ASKED, bytes(ASKED))


@pytest.mark.parametrize(
    ("raw", "framed"), [(bytes(ASKED), False), (frame(ASKED), True), (b"\x60" + bytes(39), False), (b"", True)]
)
def test_plain_bytes_are_ip_when_they_begin_with_version_4_or_6(raw: bytes, framed: bool) -> None:
    assert _frames.is_ethernet(raw, raw) is framed


def test_an_ip_packet_gets_the_header_of_its_family() -> None:
    made = Ether(_frames.ethernet(bytes(ASKED), source=bytes(6), destination=b"\x02" * 6))
    assert (made.type, made.dst, bytes(made.payload)) == (0x0800, "02:02:02:02:02:02", bytes(ASKED))
    assert Ether(_frames.ethernet(bytes(IPv6()), source=bytes(6), destination=bytes(6))).type == 0x86DD


def test_destination_of_packets_too_short_for_a_header_is_an_error() -> None:
    assert str(_frames.destination_of(bytes(ASKED))) == "10.0.2.10"
    assert _frames.destination_of(bytes(IPv6(dst="2001:db8::1"))) == IPv6Address("2001:db8::1")
    with pytest.raises(ValueError, match="too short"):
        _frames.destination_of(b"\x45" + bytes(10))


def test_the_answer_has_addresses_and_ports_swapped() -> None:
    answer = IP(src="10.0.2.10", dst="10.0.1.10") / TCP(sport=80, dport=40000, flags="SA")
    other = IP(src="10.0.2.10", dst="10.0.1.10") / TCP(sport=81, dport=40000, flags="SA")
    assert _frames.is_answer(frame(answer), bytes(ASKED))
    assert not _frames.is_answer(frame(other), bytes(ASKED))
    assert not _frames.is_answer(frame(ASKED), bytes(ASKED))


def test_an_echo_reply_answers_only_its_own_request() -> None:
    asked = IP(src="10.0.1.10", dst="10.0.2.10") / ICMP(id=7, seq=1)
    answer = IP(src="10.0.2.10", dst="10.0.1.10") / ICMP(type=0, id=7, seq=1)
    late = IP(src="10.0.2.10", dst="10.0.1.10") / ICMP(type=0, id=7, seq=2)
    assert _frames.is_answer(frame(answer), bytes(asked))
    assert not _frames.is_answer(frame(late), bytes(asked))
    asked6 = IPv6(src="2001:db8::1", dst="2001:db8::2") / ICMPv6EchoRequest(id=7, seq=1)
    answer6 = IPv6(src="2001:db8::2", dst="2001:db8::1") / ICMPv6EchoReply(id=7, seq=1)
    assert _frames.is_answer(frame(answer6), bytes(asked6))


def test_an_icmp_error_answers_the_packet_it_quotes_whoever_sent_it() -> None:
    quote = IP(bytes(ASKED))
    error = IP(src="10.0.1.1", dst="10.0.1.10") / ICMP(type=3, code=4) / quote
    assert _frames.is_answer(frame(error), bytes(ASKED))
    other = IP(src="10.0.1.1", dst="10.0.1.10") / ICMP(type=3, code=4) / IP(bytes(ASKED / b"")).copy()
    other[IP:2][TCP].sport = 1
    assert not _frames.is_answer(frame(other), bytes(ASKED))
    asked6 = IPv6(src="2001:db8::1", dst="2001:db8::2") / UDP(sport=5, dport=6)
    error6 = IPv6(src="2001:db8::9", dst="2001:db8::1") / ICMPv6DestUnreach() / IPv6(bytes(asked6))
    assert _frames.is_answer(frame(error6), bytes(asked6))


@pytest.mark.parametrize("garbage", [b"", b"\0" * 14, b"\0" * 15, frame(b"\x45"), frame(b"\x4f" + bytes(30))])
def test_garbage_answers_nothing(garbage: bytes) -> None:
    assert not _frames.is_answer(garbage, bytes(ASKED))
    assert not _frames.is_answer(frame(ASKED), garbage)


def test_the_answer_comes_as_the_question_did() -> None:
    answer = frame(IP(src="10.0.2.10", dst="10.0.1.10") / TCP(sport=80, dport=40000, flags="R"))
    assert _frames.parse_like(bytes(ASKED), answer) == answer[14:]
    assert _frames.parse_like(frame(ASKED), answer) == answer
    parsed = _frames.parse_like(ASKED, answer)
    assert isinstance(parsed, IP)
    assert parsed[TCP].flags == "R"
    assert isinstance(_frames.parse_like(Ether() / ASKED, answer), Ether)
