"""NAT64 of the reference engine: what scapy builds in one version becomes what scapy builds in the other (RFC 7915)."""

from __future__ import annotations

from dataclasses import replace
from ipaddress import IPv4Address, IPv6Address
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from scapy.layers.inet import GRE, ICMP, IP, TCP, UDP, IPOption_NOP, IPOption_RR
from scapy.layers.inet6 import (
    ICMPv6EchoReply,
    ICMPv6EchoRequest,
    ICMPv6ND_NS,
    IPv6,
    IPv6ExtHdrDestOpt,
    IPv6ExtHdrFragment,
    IPv6ExtHdrHopByHop,
    IPv6ExtHdrRouting,
)
from scapy.packet import Raw

from dataplane.reference.flow import Flow
from dataplane.reference.nat64 import embed, embedded, outside_flow, refuse, to_ipv4, to_ipv6
from dataplane.reference.packets import Packet, read
from dataplane.verdict import Reason

CLIENT, FAR6 = "2001:db8::10", "64:ff9b::c633:640a"
OWN, FAR = "10.0.1.5", "198.51.100.10"
ADDRESS = IPv4Address(OWN)
PORT = 1024
ROUTER, ROUTER6 = "203.0.113.1", "64:ff9b::cb00:7101"
OUT6, BACK6 = {"src": CLIENT, "dst": FAR6}, {"src": FAR6, "dst": CLIENT}
OUT4, BACK4 = {"src": OWN, "dst": FAR}, {"src": FAR, "dst": OWN}
OUT_PORTS, BACK_PORTS = {"sport": 5000, "dport": 443}, {"sport": 443, "dport": 5000}
OUT_PORTS4, BACK_PORTS4 = {"sport": PORT, "dport": 443}, {"sport": 443, "dport": PORT}


def sound(version: int, built: Any) -> Packet:
    found = read(version, bytes(built))
    assert isinstance(found, Packet), found
    return found


def checked(found: Packet | Reason) -> Packet:
    """The packet, which must be what reading its bytes finds."""
    assert isinstance(found, Packet), found
    if not found.is_later_fragment:
        assert read(found.version, found.raw) == found
    return found


INSIDE = sound(6, IPv6(**OUT6) / UDP(**OUT_PORTS)).flow


def outwards(built: Any, inside: Flow | None = None) -> Packet | Reason:
    """A packet of the client, or an error of the client about an answer in the flow `inside`."""
    packet = sound(6, built)
    if packet.is_icmp_error:
        assert inside is not None
        assert packet.quoted is not None
        assert packet.quoted.flow == inside.reversed()
        error = Flow(1, ADDRESS, 0, IPv4Address(FAR), 0)
        return to_ipv4(packet, error, outside_flow(inside, ADDRESS, PORT).reversed())
    return to_ipv4(packet, outside_flow(packet.flow, ADDRESS, PORT))


def inwards(built: Any, inside: Flow) -> Packet | Reason:
    """A packet for the gateway's address of the flow `inside`, or an error about one."""
    packet, outside = sound(4, built), outside_flow(inside, ADDRESS, PORT)
    if packet.is_icmp_error:
        assert packet.quoted is not None
        assert packet.quoted.flow == outside
        assert isinstance(packet.source, IPv4Address)
        return to_ipv6(packet, Flow(58, embed(packet.source), 0, inside.source, 0), inside)
    assert packet.flow == outside.reversed()
    return to_ipv6(packet, inside.reversed())


def icmp(source: str, destination: str, kind: int, code: int, rest: bytes, quote: bytes) -> Any:
    return IP(src=source, dst=destination, proto=1, id=0) / Raw(_summed(b"", kind, code, rest, quote))


def icmpv6(source: str, destination: str, kind: int, code: int, rest: bytes, quote: bytes) -> Any:
    ends = IPv6Address(source).packed + IPv6Address(destination).packed
    pseudo = ends + (8 + len(quote)).to_bytes(4) + bytes([0, 0, 0, 58])
    return IPv6(src=source, dst=destination, nh=58) / Raw(_summed(pseudo, kind, code, rest, quote))


def _summed(pseudo: bytes, kind: int, code: int, rest: bytes, quote: bytes) -> bytes:
    """An ICMP message with the checksum of RFC 1071, summed up here once more."""
    padded = pseudo + bytes([kind, code, 0, 0]) + rest + quote + bytes(len(quote) % 2)
    total = sum(int.from_bytes(padded[at : at + 2]) for at in range(0, len(padded), 2))
    while total > 0xFFFF:
        total = (total & 0xFFFF) + (total >> 16)
    return bytes([kind, code]) + (0xFFFF - total).to_bytes(2) + rest + quote


# -- addresses and flows


def test_example_of_rfc_6052() -> None:
    assert embed(IPv4Address("192.0.2.33")) == IPv6Address("64:ff9b::192.0.2.33") == IPv6Address("64:ff9b::c000:221")
    assert embedded(IPv6Address("64:ff9b::c000:221")) == IPv4Address("192.0.2.33")


@pytest.mark.parametrize("address", ["64:ff9b::1:0:0", "64:ff9b:1::c000:221", "2001:db8::1", "64:ff9a:ffff::"])
def test_other_addresses_stand_for_none(address: str) -> None:
    assert embedded(IPv6Address(address)) is None


def test_flow_outside_is_the_one_that_answers_reverse() -> None:
    for built, answer in (
        (IPv6(**OUT6) / TCP(**OUT_PORTS), IP(**BACK4) / TCP(**BACK_PORTS4)),
        (IPv6(**OUT6) / ICMPv6EchoRequest(id=77), IP(**BACK4) / ICMP(type=0, id=PORT)),
    ):
        outside = outside_flow(sound(6, built).flow, ADDRESS, PORT)
        assert sound(4, answer).flow == outside.reversed()


# -- headers, TCP, UDP, echo


@pytest.mark.parametrize(("size", "flags"), [(0, 0), (1220, 0), (1221, "DF"), (1222, "DF"), (8000, "DF")])
def test_tcp_outwards(size: int, flags: Any) -> None:
    """Up to 1260 bytes (20 of IP, 20 of TCP) it may be fragmented: RFC 7915, section 5.1."""
    body = Raw(bytes(n % 251 for n in range(size)))
    header = {"seq": 0x01020304, "ack": 0xA0B0C0D0, "flags": "PA", "window": 501, "urgptr": 3}
    found = checked(outwards(IPv6(**OUT6, tc=0xB9, fl=0x12345, hlim=61) / TCP(**OUT_PORTS, **header) / body))
    assert found.raw == bytes(IP(**OUT4, tos=0xB9, id=0, flags=flags, ttl=61) / TCP(**OUT_PORTS4, **header) / body)
    assert found.may_be_fragmented == (not flags)
    assert found.tcp_flags == 0x18


def test_tcp_inwards() -> None:
    """Neither identification nor flags of a whole packet have a counterpart: RFC 7915, section 4.1."""
    header, body = {"seq": 0x01020304, "flags": "SA", "options": [("MSS", 1440)]}, Raw(b"odd")
    inside = sound(6, IPv6(**OUT6) / TCP(**OUT_PORTS)).flow
    for flags in (0, "DF"):
        built = IP(**BACK4, tos=0x2E, id=4711, flags=flags, ttl=53) / TCP(**BACK_PORTS4, **header) / body
        expected = IPv6(**BACK6, tc=0x2E, hlim=53) / TCP(**BACK_PORTS, **header) / body
        assert checked(inwards(built, inside)).raw == bytes(expected)


def test_options_are_left_behind() -> None:
    options = [IPOption_NOP(), IPOption_RR(routers=["192.0.2.1"])]
    found = checked(inwards(IP(**BACK4, options=options) / UDP(**BACK_PORTS4) / b"abc", INSIDE))
    assert found.raw == bytes(IPv6(**BACK6) / UDP(**BACK_PORTS) / b"abc")


def test_extension_headers_are_left_behind() -> None:
    """RFC 7915, section 5.1: hop-by-hop options, destination options, routing without segments left."""
    chain = IPv6ExtHdrHopByHop() / IPv6ExtHdrDestOpt() / IPv6ExtHdrRouting(segleft=0, addresses=["2001:db8::9"])
    found = checked(outwards(IPv6(**OUT6) / chain / UDP(**OUT_PORTS) / b"abc"))
    assert found.raw == bytes(IP(**OUT4, id=0) / UDP(**OUT_PORTS4) / b"abc")


@pytest.mark.parametrize("body", [b"", b"a", b"even"])
def test_udp_both_ways(body: bytes) -> None:
    there = checked(outwards(IPv6(**OUT6) / UDP(**OUT_PORTS) / body))
    assert there.raw == bytes(IP(**OUT4, id=0) / UDP(**OUT_PORTS4) / body)
    back = checked(inwards(IP(**BACK4) / UDP(**BACK_PORTS4) / body, INSIDE))
    assert back.raw == bytes(IPv6(**BACK6) / UDP(**BACK_PORTS) / body)


def test_udp_without_checksum_stays_so_outwards() -> None:
    found = checked(outwards(IPv6(**OUT6) / UDP(**OUT_PORTS, chksum=0) / b"abc"))
    assert found.raw == bytes(IP(**OUT4, id=0) / UDP(**OUT_PORTS4, chksum=0) / b"abc")


@pytest.mark.parametrize("body", [b"", b"abc", b"even"])
def test_udp_without_checksum_is_summed_up_inwards(body: bytes) -> None:
    """RFC 7915, section 4.5; what stands behind the length of UDP is not covered."""
    found = checked(inwards(IP(**BACK4) / UDP(**BACK_PORTS4, chksum=0) / body, INSIDE))
    assert found.raw == bytes(IPv6(**BACK6) / UDP(**BACK_PORTS) / body)
    behind = IP(**BACK4) / UDP(**BACK_PORTS4, chksum=0, len=8 + len(body)) / body / Raw(b"behind")
    expected = bytes(IPv6(**BACK6) / UDP(**BACK_PORTS) / body)
    assert checked(inwards(behind, INSIDE)).raw[40:] == expected[40:] + b"behind"


def test_sum_of_zero_is_written_as_ones_for_udp_alone() -> None:
    """RFC 768: zero would mean that there is none; RFC 8200, section 8.1."""
    for chksum in (None, 0):
        empty = IPv6(bytes(IPv6(**BACK6) / UDP(**BACK_PORTS) / b"\0\0"))[UDP].chksum
        body = empty.to_bytes(2)
        assert IPv6(bytes(IPv6(**BACK6) / UDP(**BACK_PORTS) / body))[UDP].chksum == 0xFFFF
        found = checked(inwards(IP(**BACK4) / UDP(**BACK_PORTS4, chksum=chksum) / body, INSIDE))
        assert found.raw[46:48] == b"\xff\xff"
    empty = IP(bytes(IP(**OUT4, id=0) / TCP(**OUT_PORTS4) / b"\0\0"))[TCP].chksum
    found = checked(outwards(IPv6(**OUT6) / TCP(**OUT_PORTS) / empty.to_bytes(2)))
    assert found.raw[36:38] == b"\0\0"


@pytest.mark.parametrize("size", [0, 5, 56, 1232, 1233])
def test_echo_both_ways(size: int) -> None:
    body = Raw(b"\xa5" * size)
    request = IPv6(**OUT6, hlim=9) / ICMPv6EchoRequest(id=0xBEEF, seq=7) / body
    there = checked(outwards(request))
    expected = IP(**OUT4, id=0, ttl=9, flags="DF" if size > 1232 else 0) / ICMP(type=8, id=PORT, seq=7) / body
    assert there.raw == bytes(expected)
    assert (there.protocol, there.icmp_type, there.source_port) == (1, 8, PORT)
    back = checked(inwards(IP(**BACK4, ttl=9) / ICMP(type=0, id=PORT, seq=7) / body, sound(6, request).flow))
    assert back.raw == bytes(IPv6(**BACK6, hlim=9) / ICMPv6EchoReply(id=0xBEEF, seq=7) / body)
    assert (back.protocol, back.icmp_type, back.source_port) == (58, 129, 0xBEEF)


def test_request_inwards_and_reply_outwards_are_echoes_too() -> None:
    request = to_ipv6(sound(4, IP(**BACK4) / ICMP(id=PORT, seq=3)), Flow(58, IPv6Address(FAR6), 9, INSIDE.source, 9))
    assert checked(request).raw == bytes(IPv6(**BACK6) / ICMPv6EchoRequest(id=9, seq=3))
    reply = to_ipv4(sound(6, IPv6(**OUT6) / ICMPv6EchoReply(id=9)), Flow(1, ADDRESS, PORT, IPv4Address(FAR), PORT))
    assert checked(reply).raw == bytes(IP(**OUT4, id=0) / ICMP(type=0, id=PORT))


@pytest.mark.parametrize("error", [1, 0x1234, 0xFFFE])
@pytest.mark.parametrize("kind", ["tcp", "udp", "echo"])
def test_wrong_checksum_stays_as_wrong_both_ways(kind: str, error: int) -> None:
    """The difference to what is right is the same on both sides, modulo 65535."""
    body = b"some words"
    there = {"tcp": TCP(**OUT_PORTS), "udp": UDP(**OUT_PORTS), "echo": ICMPv6EchoRequest(id=5)}[kind] / body
    there4 = {"tcp": TCP(**OUT_PORTS4), "udp": UDP(**OUT_PORTS4), "echo": ICMP(id=PORT)}[kind] / body
    back = {"tcp": TCP(**BACK_PORTS), "udp": UDP(**BACK_PORTS), "echo": ICMPv6EchoReply(id=5)}[kind] / body
    back4 = {"tcp": TCP(**BACK_PORTS4), "udp": UDP(**BACK_PORTS4), "echo": ICMP(type=0, id=PORT)}[kind] / body
    field = {"tcp": 16, "udp": 6, "echo": 2}[kind]
    inside = sound(6, IPv6(**OUT6) / there).flow

    found = checked(outwards(_spoilt(bytes(IPv6(**OUT6) / there), 40 + field, error)))
    assert _difference(found.raw, bytes(IP(**OUT4, id=0) / there4), 20 + field) == error
    found = checked(inwards(_spoilt(bytes(IP(**BACK4) / back4), 20 + field, error), inside))
    assert _difference(found.raw, bytes(IPv6(**BACK6) / back), 40 + field) == error


def _spoilt(raw: bytes, at: int, error: int) -> bytes:
    value = (int.from_bytes(raw[at : at + 2]) + error) % 0xFFFF
    assert value, "zero would be no checksum for UDP"
    return raw[:at] + value.to_bytes(2) + raw[at + 2 :]


def _difference(raw: bytes, right: bytes, at: int) -> int:
    """By how much a checksum is wrong; all else must be as it is in `right`."""
    assert (raw[:at], raw[at + 2 :]) == (right[:at], right[at + 2 :])
    return (int.from_bytes(raw[at : at + 2]) - int.from_bytes(right[at : at + 2])) % 0xFFFF


@given(
    protocol=st.sampled_from([TCP, UDP, ICMPv6EchoRequest]),
    body=st.binary(max_size=70),
    traffic_class=st.integers(0, 255),
    hop_limit=st.integers(1, 255),
    chksum=st.integers(1, 0xFFFE),
)
def test_there_and_back_is_where_it_was(
    protocol: Any, body: bytes, traffic_class: int, hop_limit: int, chksum: int
) -> None:
    """A law of what has no extension headers: nothing is lost on the way, and every checksum stays as it was."""
    field = "cksum" if protocol is ICMPv6EchoRequest else "chksum"
    packet = sound(6, IPv6(**OUT6, tc=traffic_class, hlim=hop_limit) / protocol(**{field: chksum}) / body)
    there = checked(to_ipv4(packet, outside_flow(packet.flow, ADDRESS, PORT)))
    assert checked(to_ipv6(there, packet.flow)) == packet


# -- fragments


def test_fragments_outwards() -> None:
    """RFC 7915, section 5.1.1: the lower half of the identification, DF clear; later ones as the first is."""
    body = bytes(n % 251 for n in range(3000))
    whole = bytes(IPv6(**OUT6) / UDP(**OUT_PORTS) / body)[40:]
    first = sound(6, IPv6(**OUT6, tc=4) / IPv6ExtHdrFragment(nh=17, m=1, id=0xABCD1234) / Raw(whole[:1448]))
    later = [
        sound(6, IPv6(**OUT6) / IPv6ExtHdrFragment(nh=17, m=1, offset=181, id=0xABCD1234) / Raw(whole[1448:2896])),
        sound(6, IPv6(**OUT6) / IPv6ExtHdrFragment(nh=17, m=0, offset=362, id=0xABCD1234) / Raw(whole[2896:])),
    ]
    outside = outside_flow(first.flow, ADDRESS, PORT)
    pieces = [checked(to_ipv4(each, outside)) for each in (first, *(each.follow(first) for each in later))]
    expected = bytes(IP(**OUT4) / UDP(**OUT_PORTS4) / body)[20:]
    for piece, flags, offset, part, tos in zip(
        pieces, ("MF", "MF", 0), (0, 181, 362), (expected[:1448], expected[1448:2896], expected[2896:]), (4, 0, 0),
        strict=True,
    ):  # fmt: skip
        assert piece.raw == bytes(IP(**OUT4, tos=tos, id=0x1234, flags=flags, frag=offset, proto=17) / Raw(part))
        assert piece.flow == outside
        assert piece.may_be_fragmented
        assert piece.follow(pieces[0]) == piece
    assert pieces[1].fragment == sound(4, pieces[1].raw).fragment


def test_fragments_inwards() -> None:
    """RFC 7915, section 4.1: a fragment header, whose identification is 16 bits long."""
    body = bytes(n % 251 for n in range(1500))
    whole = bytes(IP(**BACK4) / UDP(**BACK_PORTS4) / body)[20:]
    first = sound(4, IP(**BACK4, id=0xFEDC, flags="MF", proto=17) / Raw(whole[:800]))
    later = sound(4, IP(**BACK4, id=0xFEDC, frag=100, proto=17, tos=8) / Raw(whole[800:])).follow(first)
    pieces = [checked(to_ipv6(each, INSIDE.reversed())) for each in (first, later)]
    expected = bytes(IPv6(**BACK6) / UDP(**BACK_PORTS) / body)[40:]
    head = IPv6(**BACK6) / IPv6ExtHdrFragment(nh=17, m=1, id=0xFEDC)
    assert pieces[0].raw == bytes(head / Raw(expected[:800]))
    head = IPv6(**BACK6, tc=8) / IPv6ExtHdrFragment(nh=17, m=0, offset=100, id=0xFEDC)
    assert pieces[1].raw == bytes(head / Raw(expected[800:]))
    assert pieces[1].flow == INSIDE.reversed()
    assert pieces[1].follow(pieces[0]) == pieces[1]


def test_fragments_without_checksum_pass_outwards_alone() -> None:
    """RFC 7915, section 4.5: nobody can sum up a datagram in pieces, so not even its later ones pass."""
    first = sound(4, IP(**BACK4, flags="MF", proto=17) / UDP(**BACK_PORTS4, chksum=0, len=30) / Raw(bytes(8)))
    later = sound(4, IP(**BACK4, frag=2, proto=17) / Raw(bytes(14)))
    assert to_ipv6(first, INSIDE.reversed()) is Reason.NAT_FRAGMENT
    assert to_ipv6(later.follow(first), INSIDE.reversed()) is Reason.NAT_FRAGMENT
    built = IPv6(**OUT6) / IPv6ExtHdrFragment(m=1, id=9) / UDP(**OUT_PORTS, chksum=0, len=30) / Raw(bytes(8))
    expected = IP(**OUT4, id=9, flags="MF") / UDP(**OUT_PORTS4, chksum=0, len=30) / Raw(bytes(8))
    assert checked(outwards(built)).raw == bytes(expected)


@pytest.mark.parametrize("size", [3, 1300])
def test_datagram_in_one_piece_keeps_what_its_fragment_header_says(size: int) -> None:
    """RFC 7915, section 5.1.1 is about every fragment header; behind it TCP is whole."""
    built = IPv6(**OUT6) / IPv6ExtHdrFragment(id=0x70001) / TCP(**OUT_PORTS) / Raw(bytes(size))
    assert checked(outwards(built)).raw == bytes(IP(**OUT4, id=1) / TCP(**OUT_PORTS4) / Raw(bytes(size)))


def test_fragments_of_extension_headers_are_refused() -> None:
    """RFC 7915, section 5.1.1: their offsets count what is left behind."""
    chain = IPv6ExtHdrFragment(m=1, id=9) / IPv6ExtHdrDestOpt()
    first = sound(6, IPv6(**OUT6) / chain / UDP(**OUT_PORTS, len=100) / Raw(bytes(8)))
    later = sound(6, IPv6(**OUT6) / IPv6ExtHdrFragment(nh=60, offset=3, id=9) / Raw(bytes(84))).follow(first)
    assert refuse(first) is refuse(later) is Reason.NAT_FRAGMENT


def test_packet_too_long_for_ipv4_is_dropped() -> None:
    body = Raw(bytes(0xFFFF - 20 - 8))
    assert len(checked(outwards(IPv6(**OUT6) / UDP(**OUT_PORTS) / body)).raw) == 0xFFFF
    assert outwards(IPv6(**OUT6) / UDP(**OUT_PORTS) / body / b"1") is Reason.MTU_EXCEEDED


# -- what is not translated


@pytest.mark.parametrize(
    ("built", "reason"),
    [
        (IPv6(src=CLIENT, dst="2001:db8::20") / UDP(), Reason.NAT_PROTOCOL),
        (IPv6(**OUT6) / GRE(), Reason.NAT_PROTOCOL),
        (IPv6(**OUT6, nh=1) / ICMP(), Reason.NAT_PROTOCOL),
        (IPv6(**OUT6) / ICMPv6ND_NS(), Reason.NAT_PROTOCOL),
        (IPv6(**OUT6) / IPv6ExtHdrFragment(m=1) / TCP() / Raw(bytes(12)), Reason.NAT_FRAGMENT),
        (IPv6(**OUT6) / IPv6ExtHdrFragment(m=1) / ICMPv6EchoRequest(), Reason.NAT_FRAGMENT),
        (IPv6(**OUT6) / IPv6ExtHdrFragment(m=1) / GRE() / Raw(bytes(4)), Reason.NAT_PROTOCOL),
        (IP(**BACK4) / GRE(), Reason.NAT_PROTOCOL),
        (IP(**BACK4) / ICMP(type=13), Reason.NAT_PROTOCOL),
        (IP(**BACK4) / ICMP(type=5), Reason.NAT_PROTOCOL),
        (IP(**BACK4, flags="MF") / TCP() / Raw(bytes(4)), Reason.NAT_FRAGMENT),
        (IP(**BACK4, flags="MF") / ICMP(), Reason.NAT_FRAGMENT),
    ],
)
def test_refused(built: Any, reason: Reason) -> None:
    packet = sound(4 if isinstance(built, IP) else 6, built)
    assert refuse(packet) is reason
    translate = to_ipv6 if packet.version == 4 else to_ipv4
    assert translate(packet, INSIDE.reversed() if packet.version == 4 else INSIDE) is reason


def test_error_about_what_nobody_can_have_sent_has_no_session() -> None:
    flow = Flow(58, IPv6Address(ROUTER6), 0, INSIDE.source, 0)
    quotes = [b"", bytes(IP(**OUT4) / GRE()), bytes(IP(**OUT4) / ICMP(type=13)), bytes(IP(**OUT4) / UDP())[:24]]
    for quote in quotes:
        packet = sound(4, icmp(ROUTER, OWN, 3, 1, bytes(4), quote))
        assert to_ipv6(packet, flow, INSIDE) is Reason.NAT_NO_SESSION
    good = sound(4, icmp(ROUTER, OWN, 3, 1, bytes(4), bytes(IP(**OUT4) / UDP())))
    assert to_ipv6(good, flow) is Reason.NAT_NO_SESSION


def test_flow_handed_in_decides_nothing_but_addresses_and_ports() -> None:
    packet = sound(6, IPv6(**OUT6) / ICMPv6EchoRequest(id=5))
    outside = outside_flow(packet.flow, ADDRESS, PORT)
    assert to_ipv4(packet, replace(outside, protocol=17, query=0, is_reply=True)) == to_ipv4(packet, outside)
    error = sound(4, icmp(ROUTER, OWN, 11, 0, bytes(4), bytes(IP(**OUT4) / UDP(**OUT_PORTS4))))
    flow = Flow(58, IPv6Address(ROUTER6), 0, INSIDE.source, 0)
    assert to_ipv6(error, replace(flow, protocol=6, source_port=1, destination_port=2), INSIDE) == checked(
        to_ipv6(error, flow, replace(INSIDE, protocol=58, query=128))
    )
