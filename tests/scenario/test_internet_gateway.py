"""Internet gateway: stateless 1:1 translation of addresses, any protocol (VPC User Guide, "Internet gateways")."""

from __future__ import annotations

import pytest
from scapy.layers.inet import (
    ICMP,
    IP,
    TCP,
    UDP,
    IPOption,
    IPOption_EOL,
    IPOption_NOP,
    IPOption_Router_Alert,
    IPOption_RR,
)
from scapy.layers.inet6 import ICMPv6EchoRequest, IPv6

from dataplane.verdict import Cause, Reason, Verdict
from tests.scenario.labs import SHOP
from tests.scenario.network import Network


@pytest.fixture
def shop() -> Network:
    return Network(SHOP)


def test_outside_sees_the_elastic_ip_and_the_same_port(shop: Network) -> None:
    result = shop.send("web", IP(src="10.0.1.10", dst="198.51.100.10", ttl=64) / TCP(sport=4321, dport=80))
    assert (result.verdict, result.to) == (Verdict.FORWARD, "example")
    seen = result.packet
    assert (seen.src, seen.dst, seen[TCP].sport, seen[TCP].dport) == ("203.0.113.20", "198.51.100.10", 4321, 80)
    assert seen.ttl == 63  # the internet gateway counts as one hop and never says so


def test_inside_sees_its_private_address(shop: Network) -> None:
    result = shop.send("visitor", IP(src="198.51.100.77", dst="203.0.113.20") / TCP(sport=5555, dport=80))
    assert result.to == "web"
    seen = result.packet
    assert (seen.src, seen.dst, seen[TCP].dport) == ("198.51.100.77", "10.0.1.10", 80)


def test_a_udp_checksum_that_becomes_zero_is_all_ones(shop: Network) -> None:
    """RFC 768: zero says that there is none. A walk, and then packets of a flow that is known."""

    def query(source: str, payload: bytes) -> IP:
        return IP(bytes(IP(src=source, dst="198.51.100.10", ttl=64) / UDP(sport=5000, dport=53) / payload))

    payload = query("203.0.113.20", bytes(2))[UDP].chksum.to_bytes(2)  # the sum it lacks to 0xFFFF
    assert query("10.0.1.10", payload)[UDP].chksum != 0xFFFF
    for _ in range(3):
        seen = shop.send("web", query("10.0.1.10", payload)).packet
        assert (seen.src, seen[UDP].chksum) == ("203.0.113.20", 0xFFFF)


@pytest.mark.parametrize("protocol", [4, 47, 50, 132, 253])
def test_any_protocol_number_passes(shop: Network, protocol: int) -> None:
    result = shop.send("web", IP(src="10.0.1.10", dst="198.51.100.10", proto=protocol) / b"whatever it is")
    assert (result.to, result.packet.src, bytes(result.packet.payload)) == (
        "example",
        "203.0.113.20",
        b"whatever it is",
    )


def test_source_without_public_address_is_dropped_silently(shop: Network) -> None:
    result = shop.send("bare", IP(src="10.0.1.11", dst="198.51.100.10") / ICMP())
    assert (result.verdict, result.reason, result.sent) == (Verdict.DROP, Reason.PUBLIC_SOURCE_MISSING, ())
    assert result.by == "internet-gateway shop"


def test_unmapped_public_destination_is_nowhere(shop: Network) -> None:
    result = shop.send("visitor", IP(src="198.51.100.77", dst="203.0.113.99") / ICMP())
    assert (result.reason, result.sent) == (Reason.OUTSIDE_NO_ROUTE, ())


@pytest.mark.parametrize("destination", ["10.99.0.1", "172.16.0.1", "192.168.1.1", "100.64.0.1"])
def test_private_destinations_do_not_leave(shop: Network, destination: str) -> None:
    result = shop.send("web", IP(src="10.0.1.10", dst=destination) / UDP(dport=9))
    assert (result.reason, result.sent) == (Reason.PRIVATE_DESTINATION, ())


def test_error_from_outside_is_translated_inside_and_out(shop: Network) -> None:
    shop.send("web", IP(src="10.0.1.10", dst="198.51.100.10") / UDP(sport=7000, dport=9) / b"x")
    quoted = IP(src="203.0.113.20", dst="198.51.100.10") / UDP(sport=7000, dport=9) / b"x"
    result = shop.send("example", IP(src="198.51.100.10", dst="203.0.113.20") / ICMP(type=3, code=3) / quoted)
    assert result.to == "web"
    error = result.packet
    assert (error.dst, error["IPerror"].src, error["IPerror"].dst) == ("10.0.1.10", "10.0.1.10", "198.51.100.10")
    inner = IP(bytes(error[ICMP].payload))
    assert bytes(inner) == bytes(IP(src="10.0.1.10", dst="198.51.100.10") / UDP(sport=7000, dport=9) / b"x")


def test_hairpin_through_public_addresses(shop: Network) -> None:
    # web's rule for ping names the group of the app: through public addresses nobody is in a group
    result = shop.send("web", IP(src="10.0.1.10", dst="203.0.113.10") / ICMP())
    assert result.reason is Reason.NAT_NO_SESSION  # the NAT gateway's own address answers nobody
    result = shop.send("web", IP(src="10.0.1.10", dst="203.0.113.20") / TCP(sport=999, dport=80))
    assert (result.to, result.packet.src, result.packet.dst) == ("web", "203.0.113.20", "10.0.1.10")


def test_ipv6_is_not_translated(shop: Network) -> None:
    result = shop.send("web", IPv6(src="2001:db8:10:1::10", dst="2001:db8:99::10") / ICMPv6EchoRequest())
    assert (result.to, result.packet.src, result.packet.hlim) == ("example", "2001:db8:10:1::10", 63)


def test_udp_checksum_of_zero_stays_zero(shop: Network) -> None:
    result = shop.send("web", IP(src="10.0.1.10", dst="198.51.100.10") / UDP(sport=1, dport=2, chksum=0) / b"data")
    assert result.packet[UDP].chksum == 0


def test_too_big_with_df_is_told_by_the_subnet_router(shop: Network) -> None:
    big = IP(src="10.0.1.10", dst="198.51.100.10", flags="DF") / ICMP(id=3) / bytes(1572)
    result = shop.send("web", big)
    assert (result.verdict, result.reason) == (Verdict.DROP, Reason.MTU_EXCEEDED)
    [sent] = result.sent
    assert (sent.node, sent.cause, sent.packet.src, sent.packet.dst) == ("web", Cause.ERROR, "10.0.1.1", "10.0.1.10")
    assert (sent.packet[ICMP].type, sent.packet[ICMP].code, sent.packet[ICMP].nexthopmtu) == (3, 4, 1500)
    assert bytes(sent.ether)[14 + 28 :] == bytes(big)[: 576 - 28]  # as the guest sent it


def test_too_big_without_df_leaves_in_fragments(shop: Network) -> None:
    body = bytes(UDP(sport=1, dport=2) / (bytes(range(256)) * 12))
    result = shop.send("web", IP(src="10.0.1.10", dst="198.51.100.10", id=77, proto=17) / body)
    assert result.verdict is Verdict.FORWARD
    assert all(s.cause is Cause.FRAGMENT and len(s.packet) <= 1500 for s in result.sent)
    assert [s.packet.frag * 8 for s in result.sent] == [0, 1480, 2960]
    payload = b"".join(bytes(s.packet.payload) for s in result.sent)
    assert len(payload) == len(body)
    assert payload[8:] == body[8:]
    assert {s.packet.id for s in result.sent} == {77}


def test_ipv6_too_big(shop: Network) -> None:
    big = IPv6(src="2001:db8:10:1::10", dst="2001:db8:99::10") / ICMPv6EchoRequest(data=bytes(1500))
    result = shop.send("web", big)
    [sent] = result.sent
    assert (result.reason, sent.node, sent.packet.src) == (Reason.MTU_EXCEEDED, "web", "2001:db8:10:1::1")
    assert (sent.packet["ICMPv6PacketTooBig"].mtu, len(sent.packet)) == (1500, 1280)


def test_fragments_carry_the_options_they_must_and_the_last_takes_all_that_fits(shop: Network) -> None:
    """RFC 791, section 3.1: an option without the copy bit stands in the first fragment only."""
    options = [IPOption_Router_Alert(), IPOption_RR(length=7, routers=["0.0.0.0"])]
    body = bytes(range(256)) * 12
    result = shop.send("web", IP(src="10.0.1.10", dst="198.51.100.10", id=7, proto=253, options=options) / body)
    first, *others = [sent.packet for sent in result.sent]
    assert [type(o) for o in first.options] == [IPOption_Router_Alert, IPOption_RR, IPOption_EOL]
    assert [[type(o) for o in each.options] for each in others] == [[IPOption_Router_Alert]] * len(others)
    assert [(each.ihl, each.frag * 8, len(each.payload)) for each in (first, *others)] == [
        (8, 0, 1464),
        (6, 1464, 1472),
        (6, 2936, 136),
    ]
    assert b"".join(bytes(each.payload) for each in (first, *others)) == body


def test_options_that_are_copied_are_padded_anew(shop: Network) -> None:
    """RFC 791, section 3.1: bytes that only align are not copied; a header ends with a word."""
    security = IPOption(b"\x82\x0b" + bytes(range(1, 10)))
    options = [IPOption_NOP(), IPOption_NOP(), security]
    packet = IP(src="10.0.1.10", dst="198.51.100.10", id=7, proto=253, options=options) / bytes(2000)
    first, second = (sent.packet for sent in shop.send("web", packet).sent)
    assert (first.ihl, bytes(first)[20:36]) == (9, b"\x01\x01" + bytes(security) + bytes(3))
    assert (second.ihl, bytes(second)[20:32]) == (8, bytes(security) + bytes(1))


def test_pieces_of_a_fragment_are_all_followed_by_more_unless_it_was_the_last(shop: Network) -> None:
    head = {"src": "10.0.1.10", "dst": "198.51.100.10", "id": 7, "proto": 17}
    body = bytes(UDP(sport=5, dport=6, len=3208) / bytes(3200))
    pieces = [IP(**head, flags="MF") / body[:1600], IP(**head, frag=200) / body[1600:]]
    sent = [each.packet for piece in pieces for each in shop.send("web", piece).sent]
    assert [(each.frag * 8, str(each.flags)) for each in sent] == [(0, "MF"), (1480, "MF"), (1600, "MF"), (3080, "")]
