"""The appliances' reading of packets and rules, without a socket."""

from __future__ import annotations

import errno
import selectors
import socket
import struct
import time
from collections.abc import Iterator
from unittest.mock import Mock

import pytest
from scapy.layers.inet import ICMP, IP, TCP, UDP, fragment
from scapy.layers.inet6 import ICMPv6EchoReply, ICMPv6EchoRequest, IPv6, IPv6ExtHdrDestOpt, IPv6ExtHdrFragment

from lab.appliances import one_arm, two_arm
from lab.appliances.one_arm import Header, Rule, Sender, describe, read_header, read_inner

# The header of a real capture: endpoint, an empty id, cookie.
OPTIONS = bytes.fromhex("01080102f583215d2e66b39c01080202" + "00" * 8 + "010803016742cc6d")
GENEVE = bytes.fromhex("0800080000000000") + OPTIONS


def inner(packet: object) -> str:
    return str(read_inner(memoryview(bytes(packet))))  # type: ignore[call-overload]


def test_the_header_that_a_balancer_writes() -> None:
    header = read_header(memoryview(GENEVE + b"packet"))
    assert header == Header(size=40, ethertype=0x0800, endpoint=0xF583215D2E66B39C, cookie=0x6742CC6D)
    assert describe(header) == "vpce-f583215d2e66b39c cookie 6742cc6d"


def test_options_come_in_any_order_and_number() -> None:
    unknown = bytes.fromhex("ffff8701") + b"any!"
    options = OPTIONS[24:] + unknown + OPTIONS[:12]
    head = struct.pack("!BBHI", len(options) // 4, 0, 0x86DD, 0)
    header = read_header(memoryview(head + options))
    assert header == Header(size=8 + len(options), ethertype=0x86DD, endpoint=0xF583215D2E66B39C, cookie=0x6742CC6D)
    assert describe(Header(8, 0x0800, None, None)) == "no endpoint no cookie"


@pytest.mark.parametrize(
    "wrong",
    [
        b"",
        GENEVE[:7],
        GENEVE[:39],
        b"\x48" + GENEVE[1:],
        GENEVE[:2] + b"\x65\x58" + GENEVE[4:],
        b"\x01" + GENEVE[1:8] + bytes.fromhex("01080301"),
    ],
    ids=["empty", "short", "cut", "version", "ethernet", "option runs over"],
)
def test_what_is_no_header(wrong: bytes) -> None:
    assert read_header(memoryview(wrong)) is None


def test_inner_packets() -> None:
    assert inner(IP(src="10.0.1.1", dst="192.0.2.1") / TCP(sport=1, dport=80)) == "tcp 10.0.1.1:1 > 192.0.2.1:80"
    assert inner(IP(src="10.0.1.1", dst="192.0.2.1") / ICMP()) == "icmp 10.0.1.1 > 192.0.2.1"
    assert inner(IP(src="10.0.1.1", dst="192.0.2.1", proto=47) / b"gre") == "47 10.0.1.1 > 192.0.2.1"
    six = IPv6(src="2001:db8::1", dst="2001:db8::2")
    assert inner(six / UDP(sport=5, dport=53)) == "udp [2001:db8::1]:5 > [2001:db8::2]:53"
    assert inner(six / IPv6ExtHdrDestOpt() / UDP(sport=5, dport=53)) == "udp [2001:db8::1]:5 > [2001:db8::2]:53"


def test_only_first_fragments_have_ports() -> None:
    first = IP(src="10.0.1.1", dst="192.0.2.1", flags="MF") / UDP(sport=5, dport=53)
    later = IP(src="10.0.1.1", dst="192.0.2.1", frag=10, proto=17) / b"whatever"
    assert inner(first) == "udp 10.0.1.1:5 > 192.0.2.1:53"
    assert inner(later) == "udp 10.0.1.1 > 192.0.2.1"
    six = IPv6(src="2001:db8::1", dst="2001:db8::2")
    assert inner(six / IPv6ExtHdrFragment(m=1) / UDP(sport=5, dport=53)).endswith(":53")
    assert inner(six / IPv6ExtHdrFragment(offset=10, nh=17) / b"whatever") == "udp 2001:db8::1 > 2001:db8::2"


@pytest.mark.parametrize("size", [0, 1, 10, 19, 23])
def test_packets_cut_short_are_none(size: int) -> None:
    assert read_inner(memoryview(bytes(IP() / TCP())[:size])) is None
    assert read_inner(memoryview(bytes(IPv6() / TCP())[:size])) is None


def test_rules_look_at_both_ends() -> None:
    there = read_inner(memoryview(bytes(IP(src="10.0.1.1", dst="192.0.2.1") / TCP(sport=1000, dport=23))))
    back = read_inner(memoryview(bytes(IP(src="192.0.2.1", dst="10.0.1.1") / TCP(sport=23, dport=1000))))
    assert there is not None
    assert back is not None
    for text in ("tcp:23", "tcp:20-30", "tcp", "cidr:192.0.2.0/24"):
        assert Rule.parse(text).matches(there)
        assert Rule.parse(text).matches(back)
    for text in ("tcp:24", "tcp:24-30", "udp", "udp:23", "icmp", "cidr:198.51.100.0/24", "cidr:2001:db8::/32"):
        assert not Rule.parse(text).matches(there)


@pytest.mark.parametrize("text", ["", "23", "sctp", "icmp:8", "tcp:http", "cidr:", "cidr:10.0.0.1/8"])
def test_what_is_no_rule(text: str) -> None:
    with pytest.raises(ValueError, match=r"."):
        Rule.parse(text)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("sctp", "'sctp' is no rule: write tcp:23, udp:5000-5999, icmp or cidr:"),
        ("tcp:http", "'tcp:http' is no rule: ports are numbers"),
        ("cidr:10.0.0.1/8", "10.0.0.1/8 has host bits set"),
    ],
)
def test_the_command_line_says_why(text: str, words: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        one_arm.options("").parse_args(["--drop", text])
    assert words in capsys.readouterr().err


def test_out_of_descriptors_the_longest_silent_client_makes_room(monkeypatch: pytest.MonkeyPatch) -> None:
    with selectors.DefaultSelector() as selector:
        server = one_arm.HealthServer(0, one_arm.Counters(), selector)
        listener = server._listener
        with socket.create_connection(listener.getsockname()) as first, listener:
            server._accept()
            with socket.create_connection(listener.getsockname()) as second:
                server._accept()
                full = Mock(accept=Mock(side_effect=OSError(errno.EMFILE, "full")))
                monkeypatch.setattr(server, "_listener", full)
                server._accept()
                first.settimeout(20)
                assert first.recv(1) == b""
                second.sendall(b"GET / HTTP/1.1\r\n\r\n")
                second.settimeout(20)
                ((key, _),) = selector.select(5)
                key.data()
                assert second.recv(100).startswith(b"HTTP/1.1 200 OK")


def known(packet: object) -> str:
    """What an answer to a packet looks like, to a two-arm appliance."""
    raw = bytes(packet)  # type: ignore[call-overload]
    found = read_inner(memoryview(raw))
    assert found is not None
    return str(two_arm.answer_to(found, raw))


def seen(packet: object) -> str:
    raw = bytes(packet)  # type: ignore[call-overload]
    found = read_inner(memoryview(raw))
    assert found is not None
    return str(two_arm.with_identifier(found, raw))


def test_answers_are_told_by_their_turned_round_addresses_ports_and_identifiers() -> None:
    there, back = {"src": "10.0.1.1", "dst": "192.0.2.1"}, {"src": "192.0.2.1", "dst": "10.0.1.1"}
    assert known(IP(**there) / TCP(sport=5, dport=80)) == seen(IP(**back) / TCP(sport=80, dport=5))
    assert known(IP(**there) / ICMP(id=7)) == seen(IP(**back) / ICMP(type=0, id=7))
    assert known(IP(**there) / ICMP(id=7)) != seen(IP(**back) / ICMP(type=0, id=8))
    six, six_back = IPv6(src="2001:db8::1", dst="2001:db8::2"), IPv6(src="2001:db8::2", dst="2001:db8::1")
    assert known(six / ICMPv6EchoRequest(id=7)) == seen(six_back / ICMPv6EchoReply(id=7))


def test_errors_are_about_what_they_quote() -> None:
    about = IP(src="10.0.1.1", dst="192.0.2.1") / UDP(sport=5, dport=33434)
    error = bytes(IP(src="10.9.1.10", dst="10.0.1.1") / ICMP(type=11) / about)
    found = read_inner(memoryview(error))
    assert found is not None
    assert two_arm.quoted_packet(found, error) == bytes(about)
    echo = bytes(IP() / ICMP())
    found = read_inner(memoryview(echo))
    assert found is not None
    assert two_arm.quoted_packet(found, echo) is None


def test_fragments_of_a_packet_have_one_key() -> None:
    whole = IP(src="10.0.1.1", dst="192.0.2.1", id=9) / UDP(sport=5, dport=53) / bytes(3000)
    first, *later = map(bytes, fragment(whole, 1480))
    assert two_arm.fragment_key(bytes(whole)) is None
    assert {two_arm.fragment_key(each) for each in later} == {two_arm.fragment_key(first)}
    assert [two_arm.later_fragment(each) for each in (first, *later)] == [False, True, True]
    six = IPv6(src="2001:db8::1", dst="2001:db8::2")
    one, two = (bytes(six / IPv6ExtHdrFragment(id=7, m=1, nh=17, offset=at) / bytes(16)) for at in (0, 2))
    assert two_arm.fragment_key(one) == two_arm.fragment_key(two) is not None
    assert (two_arm.later_fragment(one), two_arm.later_fragment(two)) == (False, True)
    assert not two_arm.later_fragment(bytes(six / TCP()))


class Tenants:
    """A two-arm appliance between two tenants' endpoints and a kernel, which the test plays."""

    def __init__(self, kernel: socket.socket, tun: socket.socket) -> None:
        self.kernel = kernel
        self.tunnel = Mock()
        self.appliance = two_arm.TwoArm([], self.tunnel, tun.fileno(), quiet=True)

    def send(self, endpoint: int, packet: object) -> bytes | None:
        """Send a packet from an endpoint; what the kernel gets."""
        geneve = GENEVE[:12] + endpoint.to_bytes(8, "big") + GENEVE[20:] + bytes(packet)  # type: ignore[call-overload]
        sender = Sender("10.9.2.20", 50000 + endpoint, bytes(4))
        self.tunnel.receive.side_effect = [(memoryview(geneve), sender), None]
        self.appliance.take()
        try:
            return self.kernel.recv(65536)
        except BlockingIOError:
            return None

    def answer(self, packet: object) -> int:
        """Answer as the kernel does; the endpoint whose flow it goes into."""
        self.kernel.send(bytes(packet))  # type: ignore[call-overload]
        self.appliance.give_back()
        parts, sender = self.tunnel.send.call_args.args
        endpoint = int.from_bytes(parts[0][12:20], "big")
        assert sender.port == 50000 + endpoint
        return endpoint


@pytest.fixture
def tenants() -> Iterator[Tenants]:
    kernel, tun = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
    with kernel, tun:
        kernel.setblocking(False)
        tun.setblocking(False)
        yield Tenants(kernel, tun)


def test_equal_tuples_of_two_tenants_do_not_mix(tenants: Tenants, monkeypatch: pytest.MonkeyPatch) -> None:
    there = IP(src="10.0.1.1", dst="192.0.2.1") / UDP(sport=5, dport=53)
    back = IP(src="192.0.2.1", dst="10.0.1.1") / UDP(sport=53, dport=5)
    assert tenants.send(1, there) == bytes(there)
    assert tenants.send(2, there) is None
    assert tenants.answer(back) == 1
    counters = tenants.appliance.counters
    assert (counters.received, counters.clashing, counters.flows, counters.returned) == (2, 1, 1, 1)
    # Another tuple is free, and so is the same one after a long silence.
    other = IP(src="10.0.1.1", dst="192.0.2.1") / UDP(sport=6, dport=53)
    assert tenants.send(2, other) == bytes(other)
    assert tenants.send(1, there) == bytes(there)
    later = time.monotonic() + 351
    monkeypatch.setattr(time, "monotonic", lambda: later)
    assert tenants.send(2, there) == bytes(there)
    assert tenants.answer(back) == 2
    assert tenants.send(1, there) is None
