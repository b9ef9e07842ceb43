"""What a target of a gateway load balancer gets, to the byte; MTU, MSS, TTL and fragments of what is inside.

https://docs.aws.amazon.com/elasticloadbalancing/latest/gateway/gateway-load-balancers.html (8500 bytes)
https://docs.aws.amazon.com/vpc/latest/privatelink/vpc-limits-endpoints.html (MTU and MSS of endpoints)
RFC 8926, sections 3.4 and 3.5 (GENEVE)
"""

from __future__ import annotations

from typing import Any

import pytest
from scapy.layers.inet import ICMP, IP, TCP, UDP, fragment
from scapy.layers.inet6 import ICMPv6EchoRequest, IPv6, IPv6ExtHdrFragment
from scapy.packet import Raw

from dataplane.verdict import Cause, Reason
from tests.scenario.gwlb import (
    APP,
    APP6,
    DB,
    DB6,
    ENDPOINT_ID,
    FAR,
    LAB,
    NODE_A,
    ONE,
    delivered,
    delivery,
    send_back,
    through,
)
from tests.scenario.network import Network

PING = IP(src=APP, dst=DB, ttl=64) / ICMP(id=7, seq=1) / Raw(bytes(56))


def inside_of(net: Network, packet: Any) -> Any:
    return delivered(net.send("app", packet)).packet


def test_header_and_options_to_the_byte() -> None:
    """As in captures: `vpce-0f583215d2e66b39c` without its leading zero, the second option zero."""
    got = delivered(Network(LAB).send("app", PING))
    assert got.geneve[:8].hex() == "0800080000000000"  # version 0, 8 words of options, no flags, IPv4, VNI 0
    assert got.geneve[8:20].hex() == "01080102f583215d2e66b39c"
    assert got.geneve[20:32].hex() == "010802020000000000000000"
    assert got.geneve[32:36].hex() == "01080301"
    assert len(got.outer) == len(PING) + 68


def test_outer_packet() -> None:
    got = delivered(Network(ONE).send("app", PING))
    outer = IP(got.outer)
    assert (outer.src, outer.dst, outer.ttl, outer.tos, outer.id) == (NODE_A, "10.9.1.21", 255, 0, 0)
    assert (int(outer.flags), outer.frag, outer.proto, outer.len, outer.ihl) == (0, 0, 17, 84 + 68, 5)
    assert outer[UDP].dport == 6081
    assert 49152 <= outer[UDP].sport <= 65535
    assert (outer[UDP].len, got.endpoint) == (84 + 48, ENDPOINT_ID)
    assert outer[UDP].chksum  # that it is right is checked wherever a packet leaves


def test_outer_checksum_that_comes_out_as_zero_is_sent_as_all_ones() -> None:
    """RFC 768; zero would say that there is none. Of the first packet and of those that follow it."""
    net = Network(ONE)

    def outer(payload: bytes) -> Any:
        return IP(delivered(net.send("app", IP(src=APP, dst=DB, proto=253) / Raw(payload))).outer)

    missing = outer(bytes(2))[UDP].chksum  # what has to be added for the sum to be 0xFFFF, and its complement zero
    for fresh in (False, True):
        if fresh:
            net = Network(ONE)
        for _ in range(3):
            assert outer(missing.to_bytes(2))[UDP].chksum == 0xFFFF


def test_packet_inside_is_the_senders_one_hop_further() -> None:
    expected = PING.copy()
    expected.ttl = 63
    assert delivered(Network(LAB).send("app", PING)).inside == bytes(expected)


def test_packet_comes_out_as_it_went_in_two_hops_further() -> None:
    net = Network(LAB)
    expected = PING.copy()
    expected.ttl = 62
    result = through(net, "app", PING)
    assert (result.to, bytes(result.packet)) == ("db", bytes(expected))


def test_ipv6_goes_inside_ipv4() -> None:
    net = Network(LAB)
    ping = IPv6(src=APP6, dst=DB6, hlim=9) / ICMPv6EchoRequest(id=3, data=b"abc")
    net.apply(LAB.replace('{destination: 10.0.3.0/24, target: "vpc-endpoint:inspect"}', (
        '{destination: 10.0.3.0/24, target: "vpc-endpoint:inspect"}\n          '
        '- {destination: "2001:db8:10:3::/64", target: "vpc-endpoint:inspect"}'
    ), 1))  # fmt: skip
    got = delivered(net.send("app", ping))
    assert (got.geneve[:8].hex(), got.outer[0] >> 4, got.source) == ("080086dd00000000", 4, NODE_A)
    expected = IPv6(bytes(ping))
    expected.hlim = 8
    assert got.inside == bytes(expected)
    expected.hlim = 7
    result = send_back(net, got)
    assert (result.to, bytes(result.packet)) == ("db", bytes(expected))


@pytest.mark.parametrize(("ttl", "reason"), [(0, Reason.TTL_ZERO), (1, Reason.TTL_EXCEEDED), (2, Reason.NONE)])
def test_nobody_is_told_of_a_ttl_that_ends_at_the_endpoint(ttl: int, reason: Reason) -> None:
    result = Network(LAB).send("app", IP(src=APP, dst=DB, ttl=ttl) / UDP(sport=1, dport=2))
    assert result.reason is reason
    assert [s.cause for s in result.sent] == ([] if reason else [Cause.FORWARDED])


def test_nor_of_one_that_ends_on_the_way_back() -> None:
    net = Network(LAB)
    result = through(net, "app", IP(src=APP, dst=DB, ttl=2) / UDP(sport=1, dport=2))
    assert (result.reason, result.by, result.sent) == (Reason.TTL_EXCEEDED, "vpc-endpoint shop/inspect", ())
    assert through(net, "app", IP(src=APP, dst=DB, ttl=3) / UDP(sport=1, dport=2)).packet.ttl == 1


@pytest.mark.parametrize("flags", ["", "DF"])
def test_8500_bytes_pass_and_8501_die_silently(flags: str) -> None:
    net = Network(LAB)
    head = IP(src=APP, dst=DB, flags=flags) / UDP(sport=1, dport=2)
    got = delivered(net.send("app", head / Raw(bytes(8472))))
    assert len(got.outer) == 8568
    assert send_back(net, got).to == "db"
    result = net.send("app", head / Raw(bytes(8473)))
    assert (result.reason, result.by, result.sent) == (Reason.MTU_EXCEEDED, "vpc-endpoint shop/inspect", ())


def test_8501_bytes_of_ipv6_die_silently_too() -> None:
    head = IPv6(src=APP6, dst="2001:db8:99::10") / UDP(sport=1, dport=2)
    net = Network(LAB)
    assert len(delivered(net.send("app", head / Raw(bytes(8452)))).inside) == 8500
    result = net.send("app", head / Raw(bytes(8453)))
    assert (result.reason, result.sent) == (Reason.MTU_EXCEEDED, ())


@pytest.mark.parametrize("flags", ["S", "SA"])
@pytest.mark.parametrize(("asked", "left"), [(8961, 8460), (8461, 8460), (8460, 8460), (1460, 1460)])
def test_mss_is_lowered_to_what_fits(flags: str, asked: int, left: int) -> None:
    net = Network(LAB)
    there = net.send("app", IP(src=APP, dst=DB) / TCP(sport=1, dport=2, flags="S", options=[("MSS", asked)]))
    if flags == "SA":
        back = IP(src=DB, dst=APP) / TCP(sport=2, dport=1, flags="SA", ack=1, options=[("MSS", asked)])
        there = net.send("db", back)
    packet = delivered(there).packet
    assert dict(packet[TCP].options)["MSS"] == left
    whole = bytes(packet)
    del packet[TCP].chksum
    assert bytes(packet) == whole  # the checksum was right, and is


def test_mss_of_ipv6_leaves_room_for_its_longer_header() -> None:
    syn = IPv6(src=APP6, dst="2001:db8:99::10") / TCP(
        sport=1, dport=2, flags="S", options=[("NOP", None), ("MSS", 9000)]
    )
    packet = inside_of(Network(LAB), syn)
    assert dict(packet[TCP].options)["MSS"] == 8440
    whole = bytes(packet)
    del packet[TCP].chksum
    assert bytes(packet) == whole


def test_segment_that_opens_nothing_keeps_its_mss() -> None:
    net = Network(LAB)
    net.send("app", IP(src=APP, dst=DB) / TCP(sport=1, dport=2, flags="S"))
    packet = inside_of(net, IP(src=APP, dst=DB) / TCP(sport=1, dport=2, flags="A", options=[("MSS", 9000)]))
    assert dict(packet[TCP].options)["MSS"] == 9000


def test_each_fragment_goes_by_itself_with_its_flow() -> None:
    net = Network(LAB)
    datagram = IP(src=APP, dst=DB, id=77) / UDP(sport=1, dport=2) / Raw(bytes(range(200)) * 10)
    pieces = fragment(datagram, 800)
    got = [delivered(net.send("app", piece)) for piece in pieces]
    assert {each.identity for each in got} == {got[0].identity}
    assert [each.packet.frag for each in got] == [piece.frag for piece in pieces]
    back = [send_back(net, each) for each in got]
    assert [each.to for each in back] == ["db"] * 3
    assert b"".join(bytes(each.packet[IP].payload) for each in back) == bytes(datagram[UDP])


def test_fragment_that_comes_first_waits_for_the_ports() -> None:
    net = Network(LAB)
    first, second = fragment(IP(src=APP, dst=DB, id=77) / UDP(sport=1, dport=2) / Raw(bytes(1600)), 800)[:2]
    assert net.send("app", second).sent == ()
    got = [delivery(sent) for sent in net.send("app", first).sent]
    assert [each.packet.frag for each in got] == [0, 800 // 8]
    assert got[0].identity == got[1].identity


def test_fragments_of_ipv6_likewise() -> None:
    net = Network(LAB)
    udp = bytes(UDP(sport=1, dport=2, len=1032, chksum=5)) + bytes(1024)
    head = IPv6(src=APP6, dst="2001:db8:99::10")
    pieces = [
        head / IPv6ExtHdrFragment(nh=17, id=9, offset=0, m=1) / Raw(udp[:512]),
        head / IPv6ExtHdrFragment(nh=17, id=9, offset=64, m=0) / Raw(udp[512:]),
    ]
    got = [delivered(net.send("app", piece)) for piece in pieces]
    assert got[0].identity == got[1].identity
    assert [send_back(net, each).to for each in got] == ["far", "far"]


def test_later_fragment_of_tcp_without_flow_is_dropped_with_its_first() -> None:
    net = Network(LAB)
    pieces = fragment(IP(src=APP, dst=DB, id=77) / TCP(sport=1, dport=2, flags="A") / Raw(bytes(1600)), 800)
    assert [net.send("app", piece).reason for piece in pieces] == [Reason.BALANCER_NO_FLOW] * 3


def test_fragments_leave_by_the_internet_gateway() -> None:
    net = Network(LAB)
    pieces = fragment(IP(src=APP, dst=FAR, id=77) / UDP(sport=1, dport=2) / Raw(bytes(1600)), 800)
    assert {through(net, "app", piece).to for piece in pieces} == {"far"}
