"""Raw packets: framing, checksums, and which frame answers which packet."""

from __future__ import annotations

import socket
import struct
from ipaddress import IPv6Address
from typing import cast

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


@pytest.mark.parametrize("octets", range(8))
def test_icmp_that_is_cut_short_answers_nothing(octets: int) -> None:
    """Anybody may send it, a header of IP and nothing behind it, too: whoever waits for an answer waits on."""
    for asked, answer in (
        (IP(src="10.0.1.10", dst="10.0.2.10") / ICMP(), IP(src="10.0.2.10", dst="10.0.1.10", proto=1)),
        (IPv6(src="2001:db8::1", dst="2001:db8::2") / ICMPv6EchoRequest(), IPv6(src="2001:db8::2", dst="2001:db8::1")),
    ):
        echo = bytes(ICMP(type=0) if asked.version == 4 else ICMPv6EchoReply())
        if asked.version == 6:
            answer.nh = 58
        assert not _frames.is_answer(frame(answer / echo[:octets]), bytes(asked))
        assert not _frames.is_answer(frame(answer / echo), bytes(asked)[: octets - 8])


def test_an_error_about_another_destination_or_another_packet_of_the_peer_is_none() -> None:
    """All that is quoted counts: the destination, and both ports. Who sent the error may be anybody."""
    quotes = {
        "ours": IP(src="10.0.1.10", dst="10.0.2.10") / UDP(sport=5, dport=6),
        "translated": IP(src="203.0.113.10", dst="10.0.2.10") / UDP(sport=5, dport=6),
        "another destination": IP(src="10.0.1.10", dst="10.0.2.11") / UDP(sport=5, dport=6),
        "another destination port": IP(src="10.0.1.10", dst="10.0.2.10") / UDP(sport=5, dport=7),
        "another protocol": IP(src="10.0.1.10", dst="10.0.2.10") / TCP(sport=5, dport=6),
    }
    asked = bytes(quotes["ours"])
    found = {
        what
        for what, quote in quotes.items()
        if _frames.is_answer(frame(IP(src="192.0.2.1", dst="10.0.1.10") / ICMP(type=3, code=3) / quote), asked)
    }
    assert found == {"ours", "translated"}


def test_only_the_first_fragment_of_an_answer_says_whose_it_is() -> None:
    answer = IP(src="10.0.2.10", dst="10.0.1.10", flags="MF") / TCP(sport=80, dport=40000, flags="SA")
    assert _frames.is_answer(frame(answer), bytes(ASKED))
    answer[IP].frag = 1
    assert not _frames.is_answer(frame(answer), bytes(ASKED))


def test_an_answer_is_found_behind_extension_headers() -> None:
    """Each says how long it is, in units of 8 octets, the first not counted (RFC 8200)."""
    asked = IPv6(src="2001:db8::1", dst="2001:db8::2") / UDP(sport=5, dport=6)
    head = IPv6(src="2001:db8::2", dst="2001:db8::1", nh=0)
    hop_by_hop, options = b"\x3c\x00" + bytes(6), b"\x11\x01" + bytes(14)
    for udp, answers in ((UDP(sport=6, dport=5), True), (UDP(sport=6, dport=4), False)):
        assert _frames.is_answer(frame(head / (hop_by_hop + options + bytes(udp))), bytes(asked)) is answers


def test_what_is_of_another_version_of_ip_is_no_answer() -> None:
    asked = IP(src="10.0.1.10", dst="10.0.2.10") / UDP(sport=5, dport=6)
    answer = IPv6(src="2001:db8::2", dst="2001:db8::1") / UDP(sport=6, dport=5)
    assert not _frames.is_answer(frame(answer), bytes(asked))
    assert not _frames.is_answer(frame(asked), bytes(answer))
    error = IPv6(src="2001:db8::9", dst="2001:db8::1") / ICMPv6DestUnreach() / bytes(asked)
    assert not _frames.is_answer(frame(error), bytes(asked))


class FakeSocket:
    """A packet socket: what the kernel queues, and what it says of its queue (packet(7), PACKET_STATISTICS)."""

    def __init__(self, *frames: tuple[bytes, int], lost: int = 0, endless: bool = False) -> None:
        self.frames = list(frames)
        self.endless = endless
        self.came, self.lost = len(frames) + lost, lost
        self.timeout: float | None = None

    def setsockopt(self, *arguments: object) -> None: ...

    def bind(self, address: object) -> None: ...

    def settimeout(self, seconds: float) -> None:
        self.timeout = seconds

    def recvfrom(self, limit: int) -> tuple[bytes, tuple[object, ...]]:
        if not self.frames and not self.endless:
            raise BlockingIOError if self.timeout == 0 else TimeoutError
        octets, kind = self.frames.pop(0) if self.frames else (b"later", socket.PACKET_HOST)
        return bytes(10) + octets, ("eth0", 0x0800, kind, 1, bytes(6))

    def getsockopt(self, level: int, option: int, length: int) -> bytes:
        came, self.came = self.came, 0
        return struct.pack("=II", came, self.lost)


def sniffed(line: FakeSocket, *, outgoing: bool = False, count: int = 0, timeout_s: float = 0.0) -> list[bytes]:
    made = _frames.Sniffer(cast("socket.socket", line), "eth0", outgoing=outgoing)
    return list(made.frames(count, timeout_s))


@pytest.mark.parametrize(("outgoing", "seen"), [(False, [b"in", b"all"]), (True, [b"in", b"out", b"all"])])
def test_what_a_node_sends_is_left_out_unless_asked_for(outgoing: bool, seen: list[bytes]) -> None:
    frames = (b"in", socket.PACKET_HOST), (b"out", socket.PACKET_OUTGOING), (b"all", socket.PACKET_BROADCAST)
    assert sniffed(FakeSocket(*frames), outgoing=outgoing) == seen
    assert sniffed(FakeSocket(*frames), outgoing=outgoing, count=1, timeout_s=9.0) == [b"in"]


def test_what_lay_there_when_time_was_over_is_read_and_no_more() -> None:
    """However late somebody asks, and though frames never stop coming; those that were lost are not waited for."""
    frames = [(b"1", socket.PACKET_HOST), (b"2", socket.PACKET_HOST)]
    assert sniffed(FakeSocket(*frames, lost=3, endless=True)) == [b"1", b"2"]
    assert sniffed(FakeSocket(*frames, lost=3)) == [b"1", b"2"]
    assert sniffed(FakeSocket(endless=True)) == []


def test_the_answer_comes_as_the_question_did() -> None:
    answer = frame(IP(src="10.0.2.10", dst="10.0.1.10") / TCP(sport=80, dport=40000, flags="R"))
    assert _frames.parse_like(bytes(ASKED), answer) == answer[14:]
    assert _frames.parse_like(frame(ASKED), answer) == answer
    parsed = _frames.parse_like(ASKED, answer)
    assert isinstance(parsed, IP)
    assert parsed[TCP].flags == "R"
    assert isinstance(_frames.parse_like(Ether() / ASKED, answer), Ether)
