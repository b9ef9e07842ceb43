"""ICMP errors through NAT64 of the reference engine: every row of RFC 7915, 4.2 and 5.2, and what they quote."""

from __future__ import annotations

from ipaddress import IPv4Address, IPv6Address
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from scapy.layers.inet import ICMP, IP, TCP, UDP, IPOption_NOP
from scapy.layers.inet6 import (
    ICMPv6EchoReply,
    ICMPv6EchoRequest,
    IPv6,
    IPv6ExtHdrDestOpt,
    IPv6ExtHdrFragment,
    IPv6ExtHdrHopByHop,
)
from scapy.packet import Raw

from dataplane.reference.flow import Flow
from dataplane.reference.nat64 import outside_flow, to_ipv4, to_ipv6
from dataplane.reference.packets import Packet, read
from dataplane.verdict import Reason
from tests.unit.reference.test_nat64 import (
    ADDRESS,
    BACK4,
    BACK6,
    BACK_PORTS,
    BACK_PORTS4,
    CLIENT,
    FAR,
    FAR6,
    INSIDE,
    OUT4,
    OUT6,
    OUT_PORTS,
    OUT_PORTS4,
    OWN,
    PORT,
    ROUTER,
    ROUTER6,
    checked,
    icmp,
    icmpv6,
    inwards,
    outwards,
    sound,
)

ANSWER6, ANSWER4 = IPv6(**BACK6, hlim=50) / UDP(**BACK_PORTS), IP(**BACK4, id=0, ttl=50) / UDP(**BACK_PORTS4)
SENT6, SENT4 = IPv6(**OUT6, hlim=60) / UDP(**OUT_PORTS), IP(**OUT4, id=0, ttl=60) / UDP(**OUT_PORTS4)
INSIDE_TCP = sound(6, IPv6(**OUT6) / TCP(**OUT_PORTS)).flow


def mtu(value: int) -> bytes:
    return value.to_bytes(4)


def pointer(value: int) -> bytes:
    return bytes([value, 0, 0, 0])


@pytest.mark.parametrize(
    ("kind", "code", "rest", "expected"),
    [
        (1, 0, mtu(0), (3, 1, mtu(0))),
        (1, 1, mtu(0), (3, 10, mtu(0))),
        (1, 2, mtu(0), (3, 1, mtu(0))),
        (1, 3, mtu(0), (3, 1, mtu(0))),
        (1, 4, mtu(0), (3, 3, mtu(0))),
        (1, 4, mtu(0x5EED0000), (3, 3, mtu(0))),
        (1, 5, mtu(0), None),
        (1, 6, mtu(0), None),
        (2, 0, mtu(1280), (3, 4, mtu(1260))),
        (2, 0, mtu(1500), (3, 4, mtu(1480))),
        (2, 7, mtu(1500), (3, 4, mtu(1480))),
        (2, 0, mtu(65555), (3, 4, mtu(65535))),
        (2, 0, mtu(65556), (3, 4, mtu(65535))),
        (2, 0, mtu(0xFFFFFFFF), (3, 4, mtu(65535))),
        (2, 0, mtu(20), (3, 4, mtu(0))),
        (2, 0, mtu(19), (3, 4, mtu(0))),
        (3, 0, mtu(0), (11, 0, mtu(0))),
        (3, 1, mtu(0), (11, 1, mtu(0))),
        (4, 0, mtu(0), (12, 0, pointer(0))),
        (4, 0, mtu(1), (12, 0, pointer(1))),
        (4, 0, mtu(2), None),
        (4, 0, mtu(3), None),
        (4, 0, mtu(4), (12, 0, pointer(2))),
        (4, 0, mtu(5), (12, 0, pointer(2))),
        (4, 0, mtu(6), (12, 0, pointer(9))),
        (4, 0, mtu(7), (12, 0, pointer(8))),
        (4, 0, mtu(8), (12, 0, pointer(12))),
        (4, 0, mtu(23), (12, 0, pointer(12))),
        (4, 0, mtu(24), (12, 0, pointer(16))),
        (4, 0, mtu(39), (12, 0, pointer(16))),
        (4, 0, mtu(40), None),
        (4, 0, mtu(0x01000000), None),
        (4, 1, mtu(6), (3, 2, mtu(0))),
        (4, 2, mtu(6), None),
        (4, 3, mtu(6), None),
    ],
)
def test_error_outwards(kind: int, code: int, rest: bytes, expected: tuple[int, int, bytes] | None) -> None:
    """RFC 7915, section 5.2 and Figure 6."""
    found = outwards(icmpv6(CLIENT, FAR6, kind, code, rest, bytes(ANSWER6)), INSIDE)
    if expected is None:
        assert found is Reason.NAT_PROTOCOL
    else:
        assert checked(found).raw == bytes(icmp(OWN, FAR, *expected, bytes(ANSWER4)))


@pytest.mark.parametrize(
    ("kind", "code", "rest", "expected"),
    [
        *((3, code, mtu(0), (1, 0, mtu(0))) for code in (0, 1, 5, 6, 7, 8, 11, 12)),
        *((3, code, mtu(0), (1, 1, mtu(0))) for code in (9, 10, 13, 15)),
        (3, 2, mtu(0), (4, 1, mtu(6))),
        (3, 3, mtu(0), (1, 4, mtu(0))),
        (3, 3, mtu(0x5EED), (1, 4, mtu(0))),
        (3, 4, mtu(0), (2, 0, mtu(1280))),
        (3, 4, mtu(68), (2, 0, mtu(1280))),
        (3, 4, mtu(1260), (2, 0, mtu(1280))),
        (3, 4, mtu(1261), (2, 0, mtu(1281))),
        (3, 4, mtu(1500), (2, 0, mtu(1520))),
        (3, 4, mtu(0x5EED05DC), (2, 0, mtu(1520))),
        (3, 4, mtu(65535), (2, 0, mtu(65555))),
        (3, 14, mtu(0), None),
        (3, 16, mtu(0), None),
        (4, 0, mtu(0), None),
        (11, 0, mtu(0), (3, 0, mtu(0))),
        (11, 1, mtu(0), (3, 1, mtu(0))),
        (12, 0, pointer(0), (4, 0, mtu(0))),
        (12, 2, pointer(1), (4, 0, mtu(1))),
        (12, 0, pointer(2), (4, 0, mtu(4))),
        (12, 0, pointer(3), (4, 0, mtu(4))),
        *((12, 0, pointer(at), None) for at in (4, 5, 6, 7, 10, 11, 20, 255)),
        (12, 0, pointer(8), (4, 0, mtu(7))),
        (12, 0, pointer(9), (4, 0, mtu(6))),
        (12, 0, pointer(12), (4, 0, mtu(8))),
        (12, 2, pointer(15), (4, 0, mtu(8))),
        (12, 0, pointer(16), (4, 0, mtu(24))),
        (12, 0, pointer(19), (4, 0, mtu(24))),
        (12, 1, pointer(0), None),
        (12, 3, pointer(0), None),
    ],
)
def test_error_inwards(kind: int, code: int, rest: bytes, expected: tuple[int, int, bytes] | None) -> None:
    """RFC 7915, section 4.2 and Figure 3; who sends it is shown as an IPv6 address too."""
    found = inwards(icmp(ROUTER, OWN, kind, code, rest, bytes(SENT4)), INSIDE)
    if expected is None:
        assert found is Reason.NAT_PROTOCOL
    else:
        assert checked(found).raw == bytes(icmpv6(ROUTER6, CLIENT, *expected, bytes(SENT6)))


@pytest.mark.parametrize("kept", [8, 9, 16, 17, 18, 20, 25])
def test_quoted_tcp_is_translated_as_far_as_it_is_there(kept: int) -> None:
    """Its checksum stands in bytes 16 and 17; its length is that of the packet which was sent."""
    tcp = {"seq": 99, "flags": "PA"}
    sent6, sent4 = (
        IPv6(**OUT6, tc=3) / TCP(**OUT_PORTS, **tcp) / b"body",
        IP(**OUT4, id=0, tos=3) / TCP(**OUT_PORTS4, **tcp) / Raw(b"body"),
    )
    message = icmp(ROUTER, OWN, 11, 0, bytes(4), bytes(sent4)[: 20 + kept])
    found = checked(inwards(message, INSIDE_TCP))
    if kept < 18:  # less than the checksum of TCP: nothing of it is touched
        expected = bytes(sent6)[:42] + bytes(sent4)[22 : 20 + kept]
    else:
        expected = bytes(sent6)[: 40 + kept]
    assert found.raw == bytes(icmpv6(ROUTER6, CLIENT, 3, 0, bytes(4), expected))

    answer6, answer4 = IPv6(**BACK6) / TCP(**BACK_PORTS, **tcp), IP(**BACK4, id=0) / TCP(**BACK_PORTS4, **tcp)
    found = checked(outwards(icmpv6(CLIENT, FAR6, 1, 4, bytes(4), bytes(answer6)[: 40 + kept]), INSIDE_TCP))
    if kept < 18:
        expected = bytes(answer4)[:22] + PORT.to_bytes(2) + bytes(answer6)[44 : 40 + kept]
    else:
        expected = bytes(answer4)[: 20 + kept]
    assert found.raw == bytes(icmp(OWN, FAR, 3, 3, bytes(4), expected))


@pytest.mark.parametrize("kept", [8, 9, 50, 60])
def test_quoted_echo_both_ways(kept: int) -> None:
    """The pseudo header of ICMPv6 has the length that was sent, however much of it is quoted."""
    body = Raw(bytes(range(52)))
    request6, request4 = (
        IPv6(**OUT6) / ICMPv6EchoRequest(id=5, seq=1) / body,
        IP(**OUT4, id=0) / ICMP(id=PORT, seq=1) / body,
    )
    inside = sound(6, request6).flow
    found = checked(inwards(icmp(ROUTER, OWN, 11, 0, bytes(4), bytes(request4)[: 20 + kept]), inside))
    assert found.raw == bytes(icmpv6(ROUTER6, CLIENT, 3, 0, bytes(4), bytes(request6)[: 40 + kept]))
    reply6, reply4 = (
        IPv6(**BACK6) / ICMPv6EchoReply(id=5, seq=1) / body,
        IP(**BACK4, id=0) / ICMP(type=0, id=PORT, seq=1) / body,
    )
    found = checked(outwards(icmpv6(CLIENT, FAR6, 1, 4, bytes(4), bytes(reply6)[: 40 + kept]), inside))
    assert found.raw == bytes(icmp(OWN, FAR, 3, 3, bytes(4), bytes(reply4)[: 20 + kept]))


def test_quoted_udp_without_checksum_stays_so() -> None:
    """The client did without, and must find what it sent."""
    sent6, sent4 = IPv6(**OUT6) / UDP(**OUT_PORTS, chksum=0), IP(**OUT4, id=0) / UDP(**OUT_PORTS4, chksum=0)
    found = checked(inwards(icmp(ROUTER, OWN, 3, 3, bytes(4), bytes(sent4)), INSIDE))
    assert found.raw == bytes(icmpv6(ROUTER6, CLIENT, 1, 4, bytes(4), bytes(sent6)))


def test_quoted_options_and_extension_headers_are_left_behind() -> None:
    sent4 = IP(**OUT4, id=7, options=[IPOption_NOP()] * 4) / UDP(**OUT_PORTS4) / b"body"
    sent6 = IPv6(**OUT6) / UDP(**OUT_PORTS) / b"body"
    found = checked(inwards(icmp(ROUTER, OWN, 3, 3, bytes(4), bytes(sent4)), INSIDE))
    assert found.raw == bytes(icmpv6(ROUTER6, CLIENT, 1, 4, bytes(4), bytes(sent6)))
    answer6 = IPv6(**BACK6) / IPv6ExtHdrHopByHop() / IPv6ExtHdrDestOpt() / UDP(**BACK_PORTS) / b"body"
    answer4 = IP(**BACK4, id=0) / UDP(**BACK_PORTS4) / b"body"
    found = checked(outwards(icmpv6(CLIENT, FAR6, 1, 4, bytes(4), bytes(answer6)), INSIDE))
    assert found.raw == bytes(icmp(OWN, FAR, 3, 3, bytes(4), bytes(answer4)))


def test_quoted_first_fragments_both_ways() -> None:
    """The headers are translated as those of fragments are; of the datagram's checksum the difference is known."""
    body = bytes(range(200))
    whole6, whole4 = bytes(IPv6(**OUT6) / UDP(**OUT_PORTS) / body), bytes(IP(**OUT4) / UDP(**OUT_PORTS4) / body)
    sent6 = IPv6(**OUT6) / IPv6ExtHdrFragment(nh=17, m=1, id=0x9876) / Raw(whole6[40:120])
    sent4 = IP(**OUT4, id=0x9876, flags="MF", proto=17) / Raw(whole4[20:100])
    found = checked(inwards(icmp(ROUTER, OWN, 11, 1, bytes(4), bytes(sent4)), INSIDE))
    assert found.raw == bytes(icmpv6(ROUTER6, CLIENT, 3, 1, bytes(4), bytes(sent6)))

    whole6, whole4 = bytes(IPv6(**BACK6) / UDP(**BACK_PORTS) / body), bytes(IP(**BACK4) / UDP(**BACK_PORTS4) / body)
    answer6 = IPv6(**BACK6) / IPv6ExtHdrFragment(nh=17, m=1, id=0x9876) / Raw(whole6[40:120])
    answer4 = IP(**BACK4, id=0x9876, flags="MF", proto=17) / Raw(whole4[20:100])
    found = checked(outwards(icmpv6(CLIENT, FAR6, 3, 1, bytes(4), bytes(answer6)), INSIDE))
    assert found.raw == bytes(icmp(OWN, FAR, 11, 1, bytes(4), bytes(answer4)))


@pytest.mark.parametrize(("size", "flags"), [(1220, 0), (1221, "DF")])
def test_quoted_packet_has_the_flag_it_was_sent_with(size: int, flags: Any) -> None:
    """DF depends on the length that was sent, not on how much is quoted: both come to 576 bytes here."""
    body = Raw(b"\x5a" * size)
    answer6 = IPv6(**BACK6) / TCP(**BACK_PORTS) / body
    answer4 = IP(**BACK4, id=0, flags=flags) / TCP(**BACK_PORTS4) / body
    found = checked(outwards(icmpv6(CLIENT, FAR6, 1, 4, bytes(4), bytes(answer6)[:1232]), INSIDE_TCP))
    assert found.raw == bytes(icmp(OWN, FAR, 3, 3, bytes(4), bytes(answer4)[:548]))
    assert len(found.raw) == 576
    assert found.may_be_fragmented


@pytest.mark.parametrize(("quoted", "expected"), [(1211, 1279), (1212, 1280), (1213, 1280), (1472, 1280)])
def test_error_inwards_is_cut_at_1280(quoted: int, expected: int) -> None:
    """RFC 4443, section 2.4: IPv6 with its ICMP (48) and a header of 40 instead of 20 leave room for 1192 more."""
    body = Raw(bytes(n % 256 for n in range(3000)))
    sent6, sent4 = IPv6(**OUT6) / UDP(**OUT_PORTS) / body, IP(**OUT4, flags="DF") / UDP(**OUT_PORTS4) / body
    found = checked(inwards(icmp(ROUTER, OWN, 3, 4, mtu(1500), bytes(sent4)[:quoted]), INSIDE))
    assert len(found.raw) == expected
    assert found.raw == bytes(icmpv6(ROUTER6, CLIENT, 2, 0, mtu(1520), bytes(sent6)[: expected - 48]))


@pytest.mark.parametrize(("quoted", "expected"), [(567, 575), (568, 576), (569, 576), (1232, 576)])
def test_error_outwards_is_cut_at_576(quoted: int, expected: int) -> None:
    """RFC 1812, section 4.3.2.3."""
    body = Raw(bytes(n % 256 for n in range(1300)))
    answer6, answer4 = (
        IPv6(**BACK6) / UDP(**BACK_PORTS) / body,
        IP(**BACK4, id=0, flags="DF") / UDP(**BACK_PORTS4) / body,
    )
    found = checked(outwards(icmpv6(CLIENT, FAR6, 2, 0, mtu(1300), bytes(answer6)[:quoted]), INSIDE))
    assert len(found.raw) == expected
    assert found.raw == bytes(icmp(OWN, FAR, 3, 4, mtu(1280), bytes(answer4)[: expected - 28]))


@pytest.mark.parametrize("error", [1, 0x8000, 0xFFFE])
def test_wrong_checksums_of_errors_stay_as_wrong(error: int) -> None:
    """The message's own, and the one that the quoted packet had (which the message's own covers: it stays right)."""
    right, sent = bytes(icmp(ROUTER, OWN, 3, 1, bytes(4), bytes(SENT4))), bytes(SENT6)
    found = checked(inwards(spoilt(right, 22, error), INSIDE)).raw
    assert found == spoilt(bytes(icmpv6(ROUTER6, CLIENT, 1, 0, bytes(4), sent)), 42, error)
    message = icmp(ROUTER, OWN, 3, 1, bytes(4), spoilt(bytes(SENT4), 26, error))
    assert checked(inwards(message, INSIDE)).raw == bytes(
        icmpv6(ROUTER6, CLIENT, 1, 0, bytes(4), spoilt(sent, 46, error))
    )

    right, answer = bytes(icmpv6(CLIENT, FAR6, 1, 4, bytes(4), bytes(ANSWER6))), bytes(ANSWER4)
    found = checked(outwards(spoilt(right, 42, error), INSIDE)).raw
    assert found == spoilt(bytes(icmp(OWN, FAR, 3, 3, bytes(4), answer)), 22, error)
    message = icmpv6(CLIENT, FAR6, 1, 4, bytes(4), spoilt(bytes(ANSWER6), 46, error))
    assert checked(outwards(message, INSIDE)).raw == bytes(icmp(OWN, FAR, 3, 3, bytes(4), spoilt(answer, 26, error)))


def spoilt(raw: bytes, at: int, error: int) -> bytes:
    """Wrong by `error`, in the arithmetic of RFC 1071."""
    value = (int.from_bytes(raw[at : at + 2]) + error) % 0xFFFF
    return raw[:at] + value.to_bytes(2) + raw[at + 2 :]


def test_headers_of_errors_are_translated_like_any_other() -> None:
    built = icmp(ROUTER, OWN, 11, 0, bytes(4), bytes(SENT4))
    built.tos, built.ttl, built.id, built.flags = 0xC0, 33, 99, "DF"
    expected = icmpv6(ROUTER6, CLIENT, 3, 0, bytes(4), bytes(SENT6))
    expected.tc, expected.hlim = 0xC0, 33
    assert checked(inwards(built, INSIDE)).raw == bytes(expected)
    assert checked(inwards(built, INSIDE)).flow.destination == INSIDE.source


@given(
    version=st.sampled_from([4, 6]),
    head=st.tuples(st.sampled_from([1, 2, 3, 4, 11, 12]), st.integers(0, 16), st.binary(min_size=4, max_size=4)),
    kind=st.sampled_from([TCP(), UDP(), ICMP(), ICMPv6EchoRequest(), IPv6ExtHdrFragment() / UDP(), IP()]),
    damage=st.dictionaries(st.integers(0, 70), st.integers(0, 255), max_size=4),
    size=st.integers(0, 90),
)
def test_whatever_is_quoted_is_translated_or_refused(
    version: int, head: tuple[int, int, bytes], kind: Any, damage: dict[int, int], size: int
) -> None:
    """Lengths that cannot be, headers cut short, messages of no query: a packet never raises."""
    quote = bytearray(bytes((IP(**OUT4) if version == 4 else IPv6(**BACK6)) / kind / Raw(bytes(range(40))))[:size])
    for at, value in damage.items():
        quote[at : at + 1] = bytes([value]) if at < len(quote) else b""
    build, ends = (icmp, (ROUTER, OWN)) if version == 4 else (icmpv6, (CLIENT, FAR6))
    packet = sound(version, build(*ends, head[0], head[1], head[2], bytes(quote)))
    if version == 4:
        found = to_ipv6(packet, Flow(58, IPv6Address(ROUTER6), 0, INSIDE.source, 0), INSIDE)
    else:
        about = outside_flow(INSIDE, ADDRESS, PORT).reversed()
        found = to_ipv4(packet, Flow(1, ADDRESS, 0, IPv4Address(FAR), 0), about)
    assert isinstance(found, Reason) or isinstance(read(found.version, found.raw), Packet)
