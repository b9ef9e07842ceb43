"""Packets of one family as packets of the other (RFC 7915): headers, checksums, fragments, offloads."""

from __future__ import annotations

import struct
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from scapy.layers.inet import ICMP, IP, TCP, UDP, IPOption, fragment
from scapy.layers.inet6 import (
    ICMPv6EchoReply,
    ICMPv6EchoRequest,
    IPv6,
    IPv6ExtHdrDestOpt,
    IPv6ExtHdrFragment,
    IPv6ExtHdrHopByHop,
    IPv6ExtHdrRouting,
    PadN,
    fragment6,
)

from dataplane.verdict import Reason
from tests.unit.fastpath.two_families import FAR, FOUR, OWN, SIX, TwoFamilies, pseudo_sum, shown

OUT6, OUT4 = {"src": SIX, "dst": FAR}, {"src": OWN, "dst": FOUR}
IN4, IN6 = {"src": FOUR, "dst": OWN}, {"src": FAR, "dst": SIX}


@pytest.fixture
def lab() -> TwoFamilies:
    return TwoFamilies()


def same(raw: bytes, expected: Any) -> None:
    assert raw == bytes(expected), f"{shown(raw)} is not {shown(bytes(expected))}"


def dont_fragment(length: int) -> str:
    """RFC 7915, 5.1: IPv4 packets of 1260 bytes and less may be fragmented."""
    return "DF" if length > 1260 else ""


@pytest.mark.parametrize("size", [0, 1, 2, 3, 1219, 1220, 1221, 1231, 1232, 1233, 8000])
def test_tcp_udp_and_echo_both_ways(lab: TwoFamilies, size: int) -> None:
    data = bytes(7 * n & 0xFF for n in range(size))
    for kind, upper, length in (
        ("tcp", lambda sport, dport: TCP(sport=sport, dport=dport, flags="A", seq=9, ack=4) / data, 40 + size),
        ("udp", lambda sport, dport: UDP(sport=sport, dport=dport) / data, 28 + size),
    ):
        port = lab.flow(kind)
        head4 = IP(**OUT4, tos=0x5C, ttl=57, id=0, flags=dont_fragment(length))
        same(
            lab.translated("six", IPv6(**OUT6, tc=0x5C, fl=0x12345, hlim=57) / upper(1000, 80)), head4 / upper(port, 80)
        )
        back4 = IP(**IN4, tos=0xA1, ttl=3, id=77, flags="DF") / upper(80, port)
        same(lab.translated("four", back4), IPv6(**IN6, tc=0xA1, hlim=3) / upper(80, 1000))
    port = lab.flow("icmp")
    head4 = IP(**OUT4, ttl=64, id=0, flags=dont_fragment(28 + size))
    request = IPv6(**OUT6) / ICMPv6EchoRequest(id=1000, seq=5, data=data)
    same(lab.translated("six", request), head4 / ICMP(type=8, id=port, seq=5) / data)
    reply = IP(**IN4) / ICMP(type=0, id=port, seq=5) / data
    same(lab.translated("four", reply), IPv6(**IN6) / ICMPv6EchoReply(id=1000, seq=5, data=data))


def test_options_extension_headers_and_padding_are_left_behind(lab: TwoFamilies) -> None:
    port = lab.flow("udp")
    chains = (
        IPv6ExtHdrHopByHop(),
        IPv6ExtHdrDestOpt(options=[PadN(optdata=bytes(10))]) / IPv6ExtHdrRouting(type=4, segleft=0, addresses=[FAR]),
    )
    for chain in chains:
        packet = bytes(IPv6(**OUT6) / chain / UDP(sport=1000, dport=80, chksum=0x1234) / b"abc")
        raw = lab.translated("six", packet + b"padding")
        same(raw, IP(**OUT4, id=0) / UDP(sport=port, dport=80, chksum=IP(raw)[UDP].chksum) / b"abc")
    packet = IP(**IN4, options=[IPOption(b"\x94\x04\0\0")]) / UDP(sport=80, dport=port) / b"abc"
    same(lab.translated("four", bytes(packet) + b"padding"), IPv6(**IN6) / UDP(sport=80, dport=1000) / b"abc")


@given(wrong=st.integers(0, 0xFFFF), data=st.binary(max_size=40))
def test_a_wrong_checksum_stays_wrong_by_as_much(wrong: int, data: bytes) -> None:
    lab = TwoFamilies()
    for kind, at, upper in (("tcp", 16, TCP(sport=1000, dport=80, flags="A")), ("icmp", 2, ICMPv6EchoRequest(id=1000))):
        lab.flow(kind)
        whole = bytes(IPv6(**OUT6) / upper / data)
        right = int.from_bytes(whole[40 + at : 42 + at])
        field = int.from_bytes(lab.translated("six", whole)[20 + at : 22 + at])
        sent = whole[: 40 + at] + wrong.to_bytes(2) + whole[42 + at :]
        got = int.from_bytes(lab.translated("six", sent)[20 + at : 22 + at])
        assert (got - field) % 0xFFFF == (wrong - right) % 0xFFFF


def test_udp_without_a_checksum(lab: TwoFamilies) -> None:
    port = lab.flow("udp")
    sent = IPv6(**OUT6) / UDP(sport=1000, dport=80, chksum=0) / b"abc"
    same(lab.translated("six", sent), IP(**OUT4, id=0) / UDP(sport=port, dport=80, chksum=0) / b"abc")
    # computed where IPv6 needs one (RFC 7915, 4.5), over the datagram alone
    sent4 = IP(**IN4) / UDP(sport=80, dport=port, chksum=0) / b"abc"
    same(lab.translated("four", sent4), IPv6(**IN6) / UDP(sport=80, dport=1000) / b"abc")
    short = IP(**IN4) / UDP(sport=80, dport=port, chksum=0, len=11) / b"abcdef"
    summed = IPv6(bytes(IPv6(**IN6) / UDP(sport=80, dport=1000) / b"abc"))[UDP].chksum
    same(lab.translated("four", short), IPv6(**IN6) / UDP(sport=80, dport=1000, chksum=summed, len=11) / b"abcdef")


def test_a_udp_sum_of_zero_is_written_as_ffff(lab: TwoFamilies) -> None:
    port = lab.flow("udp")
    base = bytes(IPv6(**IN6) / UDP(sport=80, dport=1000) / bytes(2))
    data = base[46:48]  # adding the checksum to what is summed makes the sum zero
    expected = bytes(IPv6(**IN6) / UDP(sport=80, dport=1000) / data)
    assert expected[46:48] == b"\xff\xff"
    for field in ({}, {"chksum": 0}):
        same(lab.translated("four", IP(**IN4) / UDP(sport=80, dport=port, **field) / data), expected)


def test_fragments_both_ways(lab: TwoFamilies) -> None:
    port, data = lab.flow("udp"), bytes(range(256)) * 12
    whole = IPv6(**OUT6) / IPv6ExtHdrFragment(id=0xABCD1234) / UDP(sport=1000, dport=80) / data
    datagram = bytes(IP(**OUT4) / UDP(sport=port, dport=80) / data)[20:]
    at = 0
    for piece in (IPv6(bytes(each)) for each in fragment6(whole, 1280)):
        more, size = piece[IPv6ExtHdrFragment].m, piece.plen - 8
        assert piece[IPv6ExtHdrFragment].offset * 8 == at
        head = IP(**OUT4, ttl=64, id=0x1234, flags="MF" if more else "", frag=at // 8, proto=17)
        same(lab.translated("six", piece), head / datagram[at : at + size])
        at += size
    assert at == len(datagram)
    datagram = bytes(IPv6(**IN6) / UDP(sport=80, dport=1000) / data)[40:]
    for each in fragment(IP(**IN4, id=0x4321) / UDP(sport=80, dport=port) / data, 1400):
        head = IPv6ExtHdrFragment(nh=17, id=0x4321, offset=each.frag, m=int(each.flags.MF))
        part = datagram[each.frag * 8 :][: len(each) - 20]
        same(lab.translated("four", each), IPv6(**IN6, nh=44) / head / part)


def test_a_fragment_header_of_a_whole_datagram_gives_its_identification(lab: TwoFamilies) -> None:
    port, data = lab.flow("udp"), bytes(1300)
    sent = IPv6(**OUT6) / IPv6ExtHdrFragment(id=0x70004) / UDP(sport=1000, dport=80) / data
    same(lab.translated("six", sent), IP(**OUT4, id=4) / UDP(sport=port, dport=80) / data)  # RFC 7915, 5.1.1: DF clear
    port = lab.flow("tcp")
    sent = IPv6(**OUT6) / IPv6ExtHdrFragment(id=0x70004) / TCP(sport=1000, dport=80, flags="A") / data
    same(lab.translated("six", sent), IP(**OUT4, id=4) / TCP(sport=port, dport=80, flags="A") / data)


def test_fragments_that_are_refused(lab: TwoFamilies) -> None:
    port = lab.flow("udp")
    for field, reason in ((0, Reason.NAT_FRAGMENT), (0x1234, Reason.NONE)):
        # later fragments know from the first whether there is a checksum
        for piece in fragment(IP(**IN4, id=field) / UDP(sport=80, dport=port, chksum=field) / bytes(3000), 1400):
            assert lab.send("four", piece)[0] is reason
    hidden = IPv6ExtHdrFragment(m=1, id=4, nh=60) / IPv6ExtHdrDestOpt() / UDP(sport=1000, dport=80) / bytes(24)
    assert lab.send("six", IPv6(**OUT6) / hidden)[0] is Reason.NAT_FRAGMENT
    later = IPv6ExtHdrFragment(m=0, id=4, nh=60, offset=5) / bytes(24)
    assert lab.send("six", IPv6(**OUT6) / later)[0] is Reason.NAT_FRAGMENT
    # 65535 bytes behind the header are too many for IPv4, whose total counts it in
    first = IPv6ExtHdrFragment(m=1, id=5, nh=17) / UDP(sport=1000, dport=80) / bytes(24)
    assert lab.send("six", IPv6(**OUT6) / first)[0] is Reason.NONE
    last = IPv6ExtHdrFragment(m=0, id=5, nh=17, offset=8188) / bytes(24)
    assert lab.send("six", IPv6(**OUT6) / last)[0] is Reason.NAT_FRAGMENT


@pytest.mark.parametrize("congested", [0, 0x80])
@pytest.mark.parametrize(("segment", "flags"), [(1220, ""), (1221, "DF"), (1400, "DF")])
def test_offloads_cross(lab: TwoFamilies, congested: int, segment: int, flags: str) -> None:
    port, data = lab.flow("tcp"), bytes(range(250)) * 20
    length = len(data) + 20
    out6 = TCP(sport=1000, dport=80, flags="A", chksum=pseudo_sum(SIX, FAR, length, 6)) / data
    out4 = TCP(sport=port, dport=80, flags="A", chksum=pseudo_sum(OWN, FOUR, length, 6)) / data
    # flags, type of segments, length of headers, size of a segment, where the sum starts, and where it goes
    vnet6 = struct.pack("<BBHHHHH", 1, 4 | congested, 74, segment, 54, 16, 0)
    vnet4 = struct.pack("<BBHHHHH", 1, 1 | congested, 54, segment, 34, 16, 0)
    reason, [(_, raw, vnet)] = lab.send("six", IPv6(**OUT6) / out6, vnet6)
    assert (reason, vnet) == (Reason.NONE, vnet4)
    same(raw, IP(**OUT4, id=0, flags=flags) / out4)
    in4 = TCP(sport=80, dport=port, flags="A", chksum=pseudo_sum(FOUR, OWN, length, 6)) / data
    in6 = TCP(sport=80, dport=1000, flags="A", chksum=pseudo_sum(FAR, SIX, length, 6)) / data
    reason, [(_, raw, vnet)] = lab.send("four", IP(**IN4, flags="DF") / in4, vnet4)
    assert (reason, vnet) == (Reason.NONE, vnet6)
    same(raw, IPv6(**IN6) / in6)


def test_a_udp_checksum_left_to_the_network_card_is_not_one_of_zero(lab: TwoFamilies) -> None:
    port = lab.flow("udp")
    sent = UDP(sport=80, dport=port, chksum=pseudo_sum(FOUR, OWN, 11, 17)) / b"abc"
    reason, [(_, raw, vnet)] = lab.send("four", IP(**IN4) / sent, struct.pack("<BBHHHHH", 1, 0, 0, 0, 34, 6, 0))
    assert (reason, vnet) == (Reason.NONE, struct.pack("<BBHHHHH", 1, 0, 0, 0, 54, 6, 0))
    same(raw, IPv6(**IN6) / UDP(sport=80, dport=1000, chksum=pseudo_sum(FAR, SIX, 11, 17)) / b"abc")


def test_a_packet_too_long_for_ipv4_dies(lab: TwoFamilies) -> None:
    lab.flow("udp")
    assert lab.send("six", IPv6(**OUT6) / UDP(sport=1000, dport=80) / bytes(65507))[0] is Reason.NONE
    assert lab.send("six", IPv6(**OUT6) / UDP(sport=1000, dport=80) / bytes(65508))[0] is Reason.MTU_EXCEEDED


@given(st.binary(max_size=120), st.sampled_from(["six", "four"]), st.booleans())
def test_whatever_comes_gets_a_verdict(noise: bytes, node: str, quoted: bool) -> None:
    lab = TwoFamilies()
    port = lab.flow("udp")
    if node == "six":
        upper = b"\x03\0\0\0\0\0\0\0" + bytes(IPv6(**IN6) / UDP(sport=80, dport=1000))[: 40 + 8 * quoted] + noise
        packet = IPv6(**OUT6, nh=58) / upper if quoted else IPv6(**OUT6, nh=noise[0] if noise else 59) / noise[1:]
    else:
        upper = b"\x0b\0\0\0\0\0\0\0" + bytes(IP(**OUT4) / UDP(sport=port, dport=80))[: 20 + 8 * quoted] + noise
        packet = IP(**IN4, proto=1) / upper if quoted else IP(**IN4, proto=noise[0] if noise else 59) / noise[1:]
    lab.send(node, packet)
    lab.engine.selfcheck()
