"""ICMP errors of one family as errors of the other, with the packets they quote (RFC 7915, 4.2, 4.3, 5.2, 5.3)."""

from __future__ import annotations

import struct
from typing import Any

import pytest
from scapy.layers.inet import ICMP, IP, TCP, UDP
from scapy.layers.inet6 import ICMPv6EchoReply, ICMPv6EchoRequest, IPv6, IPv6ExtHdrFragment, in6_chksum
from scapy.utils import checksum

from dataplane.verdict import Reason
from tests.unit.fastpath.two_families import FAR, FOUR, OWN, SIX, TwoFamilies, shown

ROUTER4, ROUTER6 = "192.0.2.1", "64:ff9b::192.0.2.1"
DATA = bytes(range(256)) * 6

# type, code, the 32 bits behind the checksum; the same in the other family
TO_SIX = [
    *(((3, code, 0), (1, 0, 0)) for code in (0, 1, 5, 6, 7, 8, 11, 12)),
    *(((3, code, 0), (1, 1, 0)) for code in (9, 10, 13, 15)),
    ((3, 2, 0), (4, 1, 6)),
    ((3, 3, 0), (1, 4, 0)),
    ((3, 4, 1400), (2, 0, 1420)),
    ((3, 4, 1261), (2, 0, 1281)),
    ((3, 4, 1260), (2, 0, 1280)),
    ((3, 4, 576), (2, 0, 1280)),
    ((3, 4, 0), (2, 0, 1280)),
    ((3, 4, 65535), (2, 0, 65555)),
    ((11, 0, 0), (3, 0, 0)),
    ((11, 1, 0), (3, 1, 0)),
    *(
        ((12, code, old << 24), (4, 0, new))
        for code in (0, 2)
        for old, new in {0: 0, 1: 1, 2: 4, 3: 4, 8: 7, 9: 6, 12: 8, 13: 8, 15: 8, 16: 24, 19: 24}.items()  # figure 3
    ),
]
TO_FOUR = [
    *(((1, code, 0), (3, 1, 0)) for code in (0, 2, 3)),
    ((1, 1, 0), (3, 10, 0)),
    ((1, 4, 0), (3, 3, 0)),
    ((2, 0, 1500), (3, 4, 1480)),
    ((2, 0, 1280), (3, 4, 1260)),
    ((2, 0, 65555), (3, 4, 65535)),
    ((2, 0, 70000), (3, 4, 65535)),
    ((2, 0, 19), (3, 4, 0)),
    ((3, 0, 0), (11, 0, 0)),
    ((3, 1, 0), (11, 1, 0)),
    ((4, 1, 40), (3, 2, 0)),
    *(
        ((4, 0, old), (12, 0, new << 24))
        for old, new in {0: 0, 1: 1, 4: 2, 5: 2, 6: 9, 7: 8, 8: 12, 23: 12, 24: 16, 39: 16}.items()  # figure 6
    ),
]
UNTRANSLATABLE = {
    "four": [(3, 14, 0), (3, 16, 0), (4, 0, 0), (12, 1, 0), *((12, 0, at << 24) for at in (4, 7, 10, 11, 20, 255))],
    "six": [(1, 5, 0), (1, 6, 0), (4, 2, 0), *((4, 0, at) for at in (2, 3, 40, 256, 1 << 24)), (100, 0, 0)],
}


@pytest.fixture
def lab() -> TwoFamilies:
    return TwoFamilies()


def with_sum(head: Any, body: bytes) -> bytes:
    """An ICMP message behind its IP header, checksum filled in."""
    value = in6_chksum(58, head / body, body) if isinstance(head, IPv6) else checksum(body)
    return bytes(head / (body[:2] + struct.pack(">H", value) + body[4:]))


def message(said: tuple[int, int, int], quoted: bytes) -> bytes:
    kind, code, rest = said
    return struct.pack(">BBHI", kind, code, 0, rest) + quoted


def request(kind: str, family: int, port: int, size: int) -> bytes:
    """A packet of the flow, as it left the sender (6) and as it left the translator (4)."""
    mine = 1000 if family == 6 else port
    upper: Any = {"tcp": TCP(sport=mine, dport=80, flags="A"), "udp": UDP(sport=mine, dport=80)}.get(kind)
    if kind == "icmp":
        upper = ICMPv6EchoRequest(id=mine, data=DATA[:size]) if family == 6 else ICMP(id=mine) / DATA[:size]
    else:
        upper = upper / DATA[:size]
    if family == 6:
        return bytes(IPv6(src=SIX, dst=FAR, tc=3, hlim=9) / upper)
    return bytes(IP(src=OWN, dst=FOUR, tos=3, ttl=9, id=0, flags="DF" if 20 + len(upper) > 1260 else "") / upper)


def answer(kind: str, family: int, port: int, size: int) -> bytes:
    """A packet of the other direction, as it left the translator (6) and as it arrived there (4)."""
    mine = 1000 if family == 6 else port
    upper: Any = {"tcp": TCP(sport=80, dport=mine, flags="A"), "udp": UDP(sport=80, dport=mine)}.get(kind)
    if kind == "icmp":
        upper = ICMPv6EchoReply(id=mine, data=DATA[:size]) if family == 6 else ICMP(type=0, id=mine) / DATA[:size]
    else:
        upper = upper / DATA[:size]
    if family == 6:
        return bytes(IPv6(src=FAR, dst=SIX, tc=3, hlim=9) / upper)
    return bytes(IP(src=FOUR, dst=OWN, tos=3, ttl=9, id=0, flags="DF" if 20 + len(upper) > 1260 else "") / upper)


@pytest.mark.parametrize("kind", ["tcp", "udp", "icmp"])
def test_errors_from_outside(lab: TwoFamilies, kind: str) -> None:
    port = lab.flow(kind)
    for size in (0, 20, 500, 1400):
        for cut in (28, 548, 1480):
            quoted4 = request(kind, 4, port, size)[:cut]
            quoted6 = request(kind, 6, port, size)[: len(quoted4) + 20][: 1280 - 48]
            for said4, said6 in TO_SIX:
                sent = with_sum(IP(src=ROUTER4, dst=OWN, ttl=33, proto=1), message(said4, quoted4))
                expected = with_sum(IPv6(src=ROUTER6, dst=SIX, hlim=33, nh=58), message(said6, quoted6))
                got = lab.translated("four", sent)
                assert got == expected, f"{said4}, {size}, {cut}: {shown(got)} is not {shown(expected)}"


@pytest.mark.parametrize("kind", ["tcp", "udp", "icmp"])
def test_errors_from_inside(lab: TwoFamilies, kind: str) -> None:
    port = lab.flow(kind)
    for size in (0, 20, 500, 1400):
        for cut in (48, 568, 1232):
            quoted6 = answer(kind, 6, port, size)[:cut]
            quoted4 = answer(kind, 4, port, size)[: len(quoted6) - 20][: 576 - 28]
            for said6, said4 in TO_FOUR:
                sent = with_sum(IPv6(src=SIX, dst=FAR, hlim=33, nh=58), message(said6, quoted6))
                expected = with_sum(IP(src=OWN, dst=FOUR, ttl=33, proto=1, id=0), message(said4, quoted4))
                got = lab.translated("six", sent)
                assert got == expected, f"{said6}, {size}, {cut}: {shown(got)} is not {shown(expected)}"


def test_errors_without_a_counterpart_die(lab: TwoFamilies) -> None:
    port = lab.flow("udp")
    for said in UNTRANSLATABLE["four"]:
        sent = with_sum(IP(src=ROUTER4, dst=OWN, proto=1), message(said, request("udp", 4, port, 8)))
        assert lab.send("four", sent) == (Reason.NAT_PROTOCOL, []), said
    for said in UNTRANSLATABLE["six"]:
        sent = with_sum(IPv6(src=SIX, dst=FAR, nh=58), message(said, answer("udp", 6, port, 8)))
        assert lab.send("six", sent) == (Reason.NAT_PROTOCOL, []), said


def test_an_error_about_no_flow_dies_as_such_whatever_it_says(lab: TwoFamilies) -> None:
    port = lab.flow("udp")
    for said in ((3, 3, 0), (3, 14, 0)):
        sent = with_sum(IP(src=ROUTER4, dst=OWN, proto=1), message(said, request("udp", 4, port ^ 1, 8)))
        assert lab.send("four", sent) == (Reason.NAT_NO_SESSION, [])


@pytest.mark.parametrize("wrong", [1, 0x1234, 0xFFFE])
def test_a_wrong_checksum_of_an_error_stays_wrong_by_as_much(lab: TwoFamilies, wrong: int) -> None:
    port = lab.flow("udp")
    right = with_sum(IP(src=ROUTER4, dst=OWN, proto=1), message((11, 0, 0), request("udp", 4, port, 800)))
    expected = int.from_bytes(lab.translated("four", right)[42:44])
    bad = (int.from_bytes(right[22:24]) + wrong) % 0xFFFF
    got = lab.translated("four", right[:22] + bad.to_bytes(2) + right[24:])
    assert (int.from_bytes(got[42:44]) - expected) % 0xFFFF == wrong % 0xFFFF


def test_quoted_udp_without_a_checksum_stays_without(lab: TwoFamilies) -> None:
    port = lab.flow("udp")
    quoted4 = IP(src=OWN, dst=FOUR, id=0) / UDP(sport=port, dport=80, chksum=0) / b"abc"
    quoted6 = IPv6(src=SIX, dst=FAR) / UDP(sport=1000, dport=80, chksum=0) / b"abc"
    sent = with_sum(IP(src=ROUTER4, dst=OWN, proto=1), message((3, 3, 0), bytes(quoted4)))
    expected = with_sum(IPv6(src=ROUTER6, dst=SIX, nh=58), message((1, 4, 0), bytes(quoted6)))
    assert lab.translated("four", sent) == expected


def test_quoted_fragments(lab: TwoFamilies) -> None:
    port = lab.flow("udp")
    first4 = IP(src=OWN, dst=FOUR, id=0x1234, flags="MF", len=1300) / UDP(sport=port, dport=80, chksum=7, len=4000)
    sent = with_sum(IP(src=ROUTER4, dst=OWN, proto=1), message((11, 1, 0), bytes(first4)))
    got = IPv6(lab.translated("four", sent))
    quoted = bytes(got)[48:]
    # the fragment header counts in the payload length
    expected = IPv6(src=SIX, dst=FAR, nh=44, plen=1280 + 8) / IPv6ExtHdrFragment(nh=17, id=0x1234, m=1)
    assert quoted[:48] == bytes(expected)
    assert struct.unpack(">HHH", quoted[48:54]) == (1000, 80, 4000)
    first6 = IPv6(src=FAR, dst=SIX, nh=44, plen=1288) / IPv6ExtHdrFragment(nh=17, id=0x91234, m=1)
    sent = with_sum(
        IPv6(src=SIX, dst=FAR, nh=58), message((3, 1, 0), bytes(first6 / UDP(sport=80, dport=1000, chksum=7, len=4000)))
    )
    quoted = lab.translated("six", sent)[28:]
    assert quoted[:20] == bytes(IP(src=FOUR, dst=OWN, id=0x1234, flags="MF", len=1300, proto=17))
    assert struct.unpack(">HHH", quoted[20:26]) == (80, port, 4000)


def test_quoted_options_and_extension_headers_are_left_behind(lab: TwoFamilies) -> None:
    port = lab.flow("udp")
    plain = bytes(IP(src=OWN, dst=FOUR, id=0) / UDP(sport=port, dport=80) / b"abc")
    with_options = (
        bytes([0x46]) + plain[1:2] + struct.pack(">H", len(plain) + 4) + plain[4:20] + b"\1\1\1\0" + plain[20:]
    )
    sent = with_sum(IP(src=ROUTER4, dst=OWN, proto=1), message((3, 3, 0), with_options))
    quoted6 = bytes(IPv6(src=SIX, dst=FAR) / UDP(sport=1000, dport=80) / b"abc")
    expected = with_sum(IPv6(src=ROUTER6, dst=SIX, nh=58), message((1, 4, 0), quoted6))
    assert lab.translated("four", sent) == expected
