"""NAT64 at a NAT gateway (RFC 6146, RFC 7915).

https://docs.aws.amazon.com/vpc/latest/userguide/nat-gateway-nat64-dns64.html
"""

from __future__ import annotations

import struct
from ipaddress import ip_address
from typing import Any

import pytest
from scapy.layers.inet import ICMP, IP, TCP, UDP, fragment
from scapy.layers.inet6 import (
    ICMPv6DestUnreach,
    ICMPv6EchoReply,
    ICMPv6EchoRequest,
    ICMPv6PacketTooBig,
    ICMPv6TimeExceeded,
    IPv6,
    IPv6ExtHdrFragment,
    fragment6,
)

from dataplane.trace import PROTOCOL_NAMES
from dataplane.verdict import Cause, Reason, Verdict
from tests.scenario.network import Network, Result

LAB = """
version: 1
name: sixes
vpcs:
  shop:
    cidr: 10.0.0.0/16
    ipv6_cidrs: ["2001:db8:10::/56"]
    internet_gateway: {}
    subnets:
      public: {cidr: 10.0.1.0/24, availability_zone: a, route_table: public}
      private: {cidr: 10.0.2.0/24, ipv6_cidr: "2001:db8:10:2::/64", availability_zone: a, route_table: private}
      old: {cidr: 10.0.3.0/24, availability_zone: b, route_table: old}
    route_tables:
      public: {routes: [{destination: 0.0.0.0/0, target: internet-gateway}]}
      private:
        routes:
          - {destination: 0.0.0.0/0, target: "nat-gateway:nat"}
          - {destination: "64:ff9b::/96", target: "nat-gateway:nat"}
      old: {routes: []}
    security_groups:
      client:
        description: nothing in
        ingress: []
      open:
        description: everything in
        ingress: [{protocol: all, source: 0.0.0.0/0}]
      vpc:
        description: the subnet of the gateway in
        ingress: [{protocol: all, source: 10.0.1.0/24}]
    nat_gateways:
      nat: {subnet: public, elastic_ip: 203.0.113.10, private_ip: 10.0.1.5}
  far:
    cidr: 10.7.0.0/16
    internet_gateway: {}
    subnets:
      shop: {cidr: 10.7.0.0/24, availability_zone: a, route_table: out}
    route_tables:
      out: {routes: [{destination: 0.0.0.0/0, target: internet-gateway}]}
    security_groups:
      open:
        description: everything in
        ingress: [{protocol: all, source: 0.0.0.0/0}]
internet:
  hosts:
    example: {address: 198.51.100.10}
    visitor: {address: 198.51.100.77}
instances:
  far: {vpc: far, subnet: shop, private_ip: 10.7.0.10, elastic_ip: 203.0.113.30, security_groups: [open]}
  six: {vpc: shop, subnet: private, private_ip: 10.0.2.10, ipv6_address: "2001:db8:10:2::10", security_groups: [client]}
  seven: {vpc: shop, subnet: private, private_ip: 10.0.2.11, security_groups: [client]}
  old: {vpc: shop, subnet: old, private_ip: 10.0.3.10, security_groups: [vpc]}
"""
SIX, EXAMPLE, EIP, GATEWAY, OLD = "2001:db8:10:2::10", "198.51.100.10", "203.0.113.10", "10.0.1.5", "10.0.3.10"
FAR, FAR_OLD, FAR_GATEWAY = "64:ff9b::198.51.100.10", "64:ff9b::10.0.3.10", "64:ff9b::10.0.1.5"


@pytest.fixture
def lab() -> Network:
    return Network(LAB)


def same(result: Result, node: str, expected: Any) -> None:
    """The only packet that left, for `node`, is `expected`, byte by byte."""
    assert (result.verdict, result.reason) == (Verdict.FORWARD, Reason.NONE)
    assert result.to == node
    assert bytes(result.packet) == bytes(expected), f"{result.packet!r} is not {expected.__class__(bytes(expected))!r}"


def test_echo_and_its_answer(lab: Network) -> None:
    request = lab.send(
        "six", IPv6(src=SIX, dst=FAR, tc=0x28, fl=99, hlim=64) / ICMPv6EchoRequest(id=7, seq=3, data=b"abc")
    )
    port = request.packet[ICMP].id
    assert 1024 <= port <= 65535
    same(request, "example", IP(src=EIP, dst=EXAMPLE, tos=0x28, id=0, ttl=62) / ICMP(id=port, seq=3) / b"abc")
    reply = lab.send(
        "example", IP(src=EXAMPLE, dst=EIP, tos=0x20, ttl=60, id=77) / ICMP(type=0, id=port, seq=3) / b"abc"
    )
    same(reply, "six", IPv6(src=FAR, dst=SIX, tc=0x20, hlim=59) / ICMPv6EchoReply(id=7, seq=3, data=b"abc"))


def test_tcp_connection(lab: Network) -> None:
    options = [("MSS", 1440), ("WScale", 7)]
    syn = lab.send("six", IPv6(src=SIX, dst=FAR) / TCP(sport=33000, dport=80, flags="S", seq=9, options=options))
    port = syn.packet[TCP].sport
    same(
        syn,
        "example",
        IP(src=EIP, dst=EXAMPLE, id=0, ttl=62) / TCP(sport=port, dport=80, flags="S", seq=9, options=options),
    )
    answer = TCP(sport=80, dport=port, flags="SA", seq=5, ack=10)
    same(
        lab.send("example", IP(src=EXAMPLE, dst=EIP, flags="DF") / answer),
        "six",
        IPv6(src=FAR, dst=SIX, hlim=63) / TCP(sport=80, dport=33000, flags="SA", seq=5, ack=10),
    )
    data = bytes(range(250)) * 5  # DF from 1261 bytes on, of which 40 are headers
    for size, flags in ((1220, 0), (1221, "DF")):
        ack = TCP(sport=33000, dport=80, flags="PA", seq=10, ack=6) / data[:size]
        expected = TCP(sport=port, dport=80, flags="PA", seq=10, ack=6) / data[:size]
        same(
            lab.send("six", IPv6(src=SIX, dst=FAR) / ack),
            "example",
            IP(src=EIP, dst=EXAMPLE, id=0, ttl=62, flags=flags) / expected,
        )


def test_udp_and_its_answer_with_and_without_checksum(lab: Network) -> None:
    query = lab.send("six", IPv6(src=SIX, dst=FAR) / UDP(sport=5353, dport=53) / b"who?")
    port = query.packet[UDP].sport
    same(query, "example", IP(src=EIP, dst=EXAMPLE, id=0, ttl=62) / UDP(sport=port, dport=53) / b"who?")
    expected = IPv6(src=FAR, dst=SIX, hlim=63) / UDP(sport=53, dport=5353) / b"me"
    same(lab.send("example", IP(src=EXAMPLE, dst=EIP) / UDP(sport=53, dport=port) / b"me"), "six", expected)
    same(lab.send("example", IP(src=EXAMPLE, dst=EIP) / UDP(sport=53, dport=port, chksum=0) / b"me"), "six", expected)


def test_fragments_of_udp_both_ways(lab: Network) -> None:
    data = bytes(range(256)) * 12
    whole = IPv6(src=SIX, dst=FAR) / IPv6ExtHdrFragment(id=0xABCD1234) / UDP(sport=5353, dport=53) / data
    results = lab.send_all("six", [IPv6(bytes(piece)) for piece in fragment6(whole, 1280)])
    port = results[0].packet[UDP].sport
    datagram = bytes(IP(src=EIP, dst=EXAMPLE) / UDP(sport=port, dport=53) / data)[20:]
    for result, more in zip(results, ("MF", "MF", 0), strict=True):
        at = result.packet.frag * 8
        part = datagram[at : at + result.packet.len - 20]
        same(result, "example", IP(src=EIP, dst=EXAMPLE, ttl=62, id=0x1234, flags=more, frag=at // 8, proto=17) / part)
    assert sum(result.packet.len - 20 for result in results) == len(datagram)

    pieces = fragment(IP(src=EXAMPLE, dst=EIP, id=0x4321) / UDP(sport=53, dport=port) / data, 1400)
    datagram = bytes(IPv6(src=FAR, dst=SIX) / UDP(sport=53, dport=5353) / data)[40:]
    for piece, result in zip(pieces, lab.send_all("example", pieces), strict=True):
        part = datagram[piece.frag * 8 :][: len(piece) - 20]
        head = IPv6ExtHdrFragment(nh=17, id=0x4321, offset=piece.frag, m=int(piece.flags.MF))
        same(result, "six", IPv6(src=FAR, dst=SIX, nh=44, hlim=63) / head / part)


def test_fragments_that_cannot_be_summed_up_or_are_not_udp(lab: Network) -> None:
    port = lab.send("six", IPv6(src=SIX, dst=FAR) / UDP(sport=5353, dport=53)).packet[UDP].sport
    pieces = fragment(IP(src=EXAMPLE, dst=EIP, id=9) / UDP(sport=53, dport=port, chksum=0) / bytes(3000), 1400)
    assert {result.reason for result in lab.send_all("example", pieces)} == {Reason.NAT_FRAGMENT}
    for upper in (TCP(sport=5, dport=6, flags="S"), ICMPv6EchoRequest(id=3)):
        pieces = fragment6(IPv6(src=SIX, dst=FAR) / IPv6ExtHdrFragment(id=5) / upper / bytes(3000), 1400)
        pieces = [IPv6(bytes(piece)) for piece in pieces]
        assert {result.reason for result in lab.send_all("six", pieces)} == {Reason.NAT_FRAGMENT}


@pytest.mark.parametrize("before", [b"", b"\x33\0\1\4\0\0\0\0"], ids=["alone", "options"])
@pytest.mark.parametrize(
    "upper", [UDP(sport=5, dport=6) / b"abc", TCP(sport=5, dport=6, flags="S")], ids=["udp", "tcp"]
)
def test_what_is_authenticated_does_not_cross(lab: Network, before: bytes, upper: Any) -> None:
    """It is none of the headers that are left behind (RFC 7915, 5.1), and in IPv4 a protocol of its own."""
    header = bytes([17 if UDP in upper else 6, 4]) + bytes(22)  # RFC 4302, 2.2: four words more than two
    packet = IPv6(src=SIX, dst=FAR, nh=0 if before else 51) / (before + header + bytes(upper))
    assert lab.send("six", packet).reason is Reason.NAT_PROTOCOL
    assert lab.send("six", IPv6(src=SIX, dst=FAR) / upper).to == "example"


def test_nor_does_a_fragment_of_it(lab: Network) -> None:
    """In the part of it that is not cut, before the fragment header (RFC 8200, 4.5)."""
    header = bytes([44, 4]) + bytes(22)
    first = IPv6ExtHdrFragment(nh=17, id=5, m=1) / UDP(sport=5, dport=6, len=24, chksum=1) / bytes(8)
    assert lab.send("six", IPv6(src=SIX, dst=FAR, nh=51) / (header + bytes(first))).reason is Reason.NAT_PROTOCOL


def test_too_big_behind_the_internet_gateway_is_told_to_the_client(lab: Network) -> None:
    fits = IPv6(src=SIX, dst=FAR) / UDP(sport=5353, dport=53) / bytes(1472)
    assert len(lab.send("six", fits).packet) == 1500
    result = lab.send("six", IPv6(src=SIX, dst=FAR) / UDP(sport=5353, dport=53) / bytes(1473))
    assert (result.verdict, result.reason, result.by) == (Verdict.DROP, Reason.MTU_EXCEEDED, "internet-gateway shop")
    [sent] = result.sent
    assert (sent.node, sent.cause) == ("six", Cause.ERROR)
    error = sent.packet
    # the router of the gateway's subnet says it, in IPv4: 1500 bytes there are 1520 here
    assert (error.src, error.dst, error[ICMPv6PacketTooBig].mtu) == ("64:ff9b::a00:101", SIX, 1520)
    quoted = bytes(error)[48:]
    whole = bytes(IPv6(src=SIX, dst=FAR, hlim=63) / UDP(sport=5353, dport=53) / bytes(1473))
    assert quoted == whole[: len(quoted)]
    assert len(quoted) == 548 + 20  # as much as the IPv4 error had quoted


def test_too_big_for_the_gateway_itself(lab: Network) -> None:
    """Its MTU is for what arrives, of either version."""
    fits = IPv6(src=SIX, dst=FAR_OLD) / UDP(sport=5353, dport=53) / bytes(8452)
    port = lab.send("six", fits).packet[UDP].sport
    packet = IPv6(src=SIX, dst=FAR_OLD, hlim=9) / UDP(sport=5353, dport=53) / bytes(8453)
    result = lab.send("six", packet)
    assert (result.reason, result.by) == (Reason.MTU_EXCEEDED, "nat-gateway shop/nat")
    [sent] = result.sent
    assert (sent.node, sent.packet.src, sent.packet[ICMPv6PacketTooBig].mtu) == ("six", "64:ff9b::a00:105", 8500)
    assert bytes(sent.packet)[48:] == bytes(packet)[:1232]

    answer = IP(src=OLD, dst=GATEWAY, flags="DF") / UDP(sport=53, dport=port)
    assert len(lab.send("old", answer / bytes(8472)).packet) == 8520
    packet = answer / bytes(8473)
    result = lab.send("old", packet)
    assert (result.reason, result.by) == (Reason.MTU_EXCEEDED, "nat-gateway shop/nat")
    [sent] = result.sent
    assert (sent.node, sent.packet.src, sent.packet[ICMP].nexthopmtu) == ("old", GATEWAY, 8500)
    assert bytes(sent.packet)[28:] == bytes(packet)[:548]


def test_too_big_for_the_gateway_itself_in_fragments(lab: Network) -> None:
    """Without DF a UDP answer is cut as IPv4, and its fragments become IPv6."""
    port = lab.send("six", IPv6(src=SIX, dst=FAR_OLD) / UDP(sport=5353, dport=53)).packet[UDP].sport
    payload = bytes(range(256)) * 34
    sent = lab.send("old", IP(src=OLD, dst=GATEWAY, id=7) / UDP(sport=53, dport=port) / payload).sent
    assert [(each.node, len(each.packet)) for each in sent] == [
        ("six", 48 + 8480),
        ("six", 48 + 8 + len(payload) - 8480),
    ]
    whole = b"".join(bytes(each.packet)[48:] for each in sent)
    expected = IPv6(src=FAR_OLD, dst=SIX) / UDP(sport=53, dport=5353) / payload
    assert whole == bytes(expected)[40:]


def test_hop_limit_ends_at_the_gateway(lab: Network) -> None:
    probe = IPv6(src=SIX, dst=FAR, hlim=1) / UDP(sport=40000, dport=33434) / b"probe"
    result = lab.send("six", probe)
    assert (result.verdict, result.reason, result.by) == (Verdict.DROP, Reason.TTL_EXCEEDED, "nat-gateway shop/nat")
    [sent] = result.sent
    expected = IPv6(src=FAR_GATEWAY, dst=SIX, hlim=64) / ICMPv6TimeExceeded() / probe
    assert (sent.node, bytes(sent.packet)) == ("six", bytes(expected))


def test_the_internet_gateway_behind_it_is_silent(lab: Network) -> None:
    result = lab.send("six", IPv6(src=SIX, dst=FAR, hlim=2) / UDP(sport=40000, dport=33435))
    assert (result.reason, result.sent, result.by) == (Reason.TTL_EXCEEDED, (), "internet-gateway shop")


def test_error_from_outside_reaches_the_client(lab: Network) -> None:
    probe = IPv6(src=SIX, dst=FAR) / UDP(sport=40000, dport=9) / b"x"
    port = lab.send("six", probe).packet[UDP].sport
    quoted = IP(src=EIP, dst=EXAMPLE, id=0, ttl=62) / UDP(sport=port, dport=9) / b"x"
    result = lab.send("example", IP(src=EXAMPLE, dst=EIP) / ICMP(type=3, code=3) / quoted)
    probe.hlim = 62
    same(result, "six", IPv6(src=FAR, dst=SIX, hlim=63) / ICMPv6DestUnreach(code=4) / probe)
    result = lab.send("visitor", IP(src="198.51.100.77", dst=EIP) / ICMP(type=11, code=0) / quoted)
    same(result, "six", IPv6(src="64:ff9b::198.51.100.77", dst=SIX, hlim=63) / ICMPv6TimeExceeded() / probe)
    result = lab.send("example", IP(src=EXAMPLE, dst=EIP) / ICMP(type=4, code=0) / quoted)
    assert (result.reason, result.sent) == (Reason.NAT_PROTOCOL, ())


def test_error_of_the_client_about_an_answer(lab: Network) -> None:
    port = lab.send("six", IPv6(src=SIX, dst=FAR) / UDP(sport=5353, dport=53)).packet[UDP].sport
    answer = lab.send("example", IP(src=EXAMPLE, dst=EIP) / UDP(sport=53, dport=port) / b"me").packet
    result = lab.send("six", IPv6(src=SIX, dst=FAR) / ICMPv6DestUnreach(code=4) / answer)
    quoted = IP(src=EXAMPLE, dst=EIP, id=0, ttl=63) / UDP(sport=53, dport=port) / b"me"
    same(result, "example", IP(src=EIP, dst=EXAMPLE, id=0, ttl=62) / ICMP(type=3, code=3) / quoted)


def test_silent_connection_is_reset_after_350_seconds(lab: Network) -> None:
    port = lab.send("six", IPv6(src=SIX, dst=FAR) / TCP(sport=33000, dport=80)).packet[TCP].sport
    answer = IP(src=EXAMPLE, dst=EIP) / TCP(sport=80, dport=port, flags="SA")
    lab.send("example", answer)
    lab.send("six", IPv6(src=SIX, dst=FAR) / TCP(sport=33000, dport=80, flags="A"))
    lab.wait(349.999)
    assert lab.send("example", answer).to == "six"
    lab.wait(350)
    result = lab.send(
        "six", IPv6(src=SIX, dst=FAR) / TCP(sport=33000, dport=80, flags="A", seq=100, ack=700) / b"hello"
    )
    assert result.reason is Reason.NAT_NO_SESSION
    [sent] = result.sent
    expected = IPv6(src=FAR, dst=SIX, hlim=64) / TCP(sport=80, dport=33000, flags="R", seq=700, ack=0, window=0)
    assert (sent.node, sent.cause, bytes(sent.packet)) == ("six", Cause.RESET, bytes(expected))
    assert lab.send("example", answer).reason is Reason.NAT_NO_SESSION


def test_to_a_host_in_another_subnet_of_the_vpc(lab: Network) -> None:
    syn = lab.send("six", IPv6(src=SIX, dst=FAR_OLD, hlim=64) / TCP(sport=33000, dport=5432))
    port = syn.packet[TCP].sport
    same(syn, "old", IP(src=GATEWAY, dst=OLD, id=0, ttl=63) / TCP(sport=port, dport=5432))
    answer = IP(src=OLD, dst=GATEWAY, flags="DF") / TCP(sport=5432, dport=port, flags="SA")
    same(lab.send("old", answer), "six", IPv6(src=FAR_OLD, dst=SIX, hlim=63) / TCP(sport=5432, dport=33000, flags="SA"))


def test_clients_of_both_families_never_share_a_port(lab: Network) -> None:
    packets: dict[str, list[Any]] = {
        "six": [IPv6(src=SIX, dst=FAR) / UDP(sport=port, dport=53) for port in range(1000, 1300)],
        "seven": [IP(src="10.0.2.11", dst=EXAMPLE) / UDP(sport=port, dport=53) for port in range(1000, 1300)],
    }
    ports = [r.packet[UDP].sport for node, sent in packets.items() for r in lab.send_all(node, sent)]
    assert len(set(ports)) == 600


def test_only_the_well_known_prefix_is_translated() -> None:
    beside = LAB.replace("nat: {subnet: public,", "nat: {subnet: private,").replace("10.0.1.5", "10.0.2.5")
    lab = Network(beside)
    gateway = lab.plane.next_mac(lab.port("six"), ip_address("10.0.2.5"))
    for destination in ("64:ff9b:0:0:0:1::", "64:ff9a:ffff:ffff:ffff:ffff:ffff:ffff", "2001:db8:99::10", "::10.0.2.5"):
        result = lab.send("six", IPv6(src=SIX, dst=destination) / UDP(), to_mac=gateway)
        assert (result.reason, result.by) == (Reason.NAT_PROTOCOL, "nat-gateway shop/nat"), destination
    for last in ("0.0.0.1", "255.255.255.254"):
        result = lab.send("six", IPv6(src=SIX, dst=f"64:ff9b::{last}") / UDP(), to_mac=gateway)
        assert result.reason is not Reason.NAT_PROTOCOL
    result = lab.send("six", IPv6(src=SIX, dst=FAR, nh=132) / bytes(24), to_mac=gateway)
    assert result.reason is Reason.NAT_PROTOCOL  # SCTP


@pytest.mark.parametrize(
    ("protocol", "packets"),
    [("tcp", ("tcp", "tcp")), ("icmp", ("icmpv6", "icmp"))],
)
def test_trace_shows_both_families(lab: Network, protocol: str, packets: tuple[str, str]) -> None:
    trace = lab.trace("six", FAR, protocol=protocol)
    assert trace.reachable
    assert list(trace.forward.path()) == [
        "interface six/eth0",
        "network-acl shop/default",
        "route-table shop/private",
        "network-acl shop/default",
        "nat-gateway shop/nat",
        "network-acl shop/default",
        "route-table shop/public",
        "internet-gateway shop",
        "internet internet",
        "interface example/eth0",
    ]
    assert trace.reply is not None
    assert list(trace.reply.path()) == [
        "interface example/eth0",
        "internet internet",
        "internet-gateway shop",
        "vpc shop",
        "network-acl shop/default",
        "nat-gateway shop/nat",
        "network-acl shop/default",
        "route-table shop/public",
        "vpc shop",
        "network-acl shop/default",
        "interface six/eth0",
    ]
    first, last = trace.forward.hops[0].packet, trace.forward.hops[-1].packet
    assert tuple(PROTOCOL_NAMES[packet.protocol] for packet in (first, last)) == packets
    assert (first.source, last.source, last.destination) == (SIX, EIP, EXAMPLE)
    first, last = trace.reply.hops[0].packet, trace.reply.hops[-1].packet
    assert (first.source, last.source, last.destination) == (EXAMPLE, "64:ff9b::c633:640a", SIX)
    assert lab.plane.engine.statistics()["sessions"] == 0


def test_trace_tells_of_the_error_that_comes_back(lab: Network) -> None:
    trace = lab.trace("six", FAR, protocol="udp", size=1473)
    assert (trace.forward.reason, trace.reply) == (Reason.MTU_EXCEEDED, None)
    assert trace.forward.hops[-1].steps[-1].note == "ICMP error sent to the sender"


def test_counters_count_bytes_of_the_side_they_are_of(lab: Network) -> None:
    port = lab.send("six", IPv6(src=SIX, dst=FAR) / TCP(sport=33000, dport=80)).packet[TCP].sport
    lab.send("example", IP(src=EXAMPLE, dst=EIP) / TCP(sport=80, dport=port, flags="SA"))
    lab.send("six", IPv6(src=SIX, dst=FAR, hlim=1) / TCP(sport=33000, dport=80, flags="A"))
    counted = lab.plane.nat_metrics()["shop/nat"]
    assert (counted["PacketsInFromSource"], counted["BytesInFromSource"]) == (2, 120)
    assert (counted["PacketsOutToDestination"], counted["BytesOutToDestination"]) == (1, 40)
    assert (counted["PacketsInFromDestination"], counted["BytesInFromDestination"]) == (1, 40)
    assert (counted["PacketsOutToSource"], counted["BytesOutToSource"]) == (1, 60)
    assert (counted["PacketsDropCount"], counted["ConnectionAttemptCount"], counted["ActiveConnectionCount"]) == (
        1,
        1,
        1,
    )


def test_a_packet_cut_on_its_way_becomes_as_many_ipv6_fragments(lab: Network) -> None:
    query = lab.send("six", IPv6(src=SIX, dst="64:ff9b::203.0.113.30") / UDP(sport=5353, dport=53))
    port = query.packet[UDP].sport
    data = bytes(range(256)) * 12
    answer = IP(src="10.7.0.10", dst=EIP, id=0x77AA) / UDP(sport=53, dport=port) / data  # its internet gateway cuts it
    result = lab.send("far", answer)
    assert {(sent.node, sent.cause) for sent in result.sent} == {("six", Cause.FRAGMENT)}
    whole = bytes(IPv6(src="64:ff9b::203.0.113.30", dst=SIX) / UDP(sport=53, dport=5353) / data)[40:]
    for sent, (at, size, more) in zip(result.sent, ((0, 1480, 1), (1480, 1480, 1), (2960, 120, 0)), strict=True):
        head = IPv6ExtHdrFragment(nh=17, id=0x77AA, offset=at // 8, m=more)
        expected = IPv6(src="64:ff9b::203.0.113.30", dst=SIX, nh=44, hlim=62) / head / whole[at : at + size]
        assert bytes(sent.packet) == bytes(expected)
    # of one without a checksum the first piece cannot be summed up, and dies like any such fragment
    answer[UDP].chksum = 0
    result = lab.send("far", answer)
    assert (result.reason, result.by, result.sent) == (Reason.NAT_FRAGMENT, "nat-gateway shop/nat", ())


@pytest.mark.parametrize("flags", ["", "DF"])
def test_tcp_and_icmp_that_was_cut_on_its_way_does_not_pass(lab: Network, flags: str) -> None:
    """NAT gateways forward fragments of UDP only, whoever made them (VPC User Guide, "Troubleshoot NAT gateways")."""
    echo = lab.send("seven", IP(src="10.0.2.11", dst="203.0.113.30") / ICMP(id=7)).packet
    reply = IP(src="10.7.0.10", dst=EIP, flags=flags) / ICMP(type=0, id=echo[ICMP].id) / bytes(1473)
    result = lab.send("far", reply)
    expected = (Reason.MTU_EXCEEDED, "internet-gateway far") if flags else (Reason.NAT_FRAGMENT, "nat-gateway shop/nat")
    assert (result.reason, result.by) == expected
    connection = lab.send("seven", IP(src="10.0.2.11", dst="203.0.113.30") / TCP(sport=33000, dport=80)).packet
    segment = IP(src="10.7.0.10", dst=EIP, flags=flags) / TCP(sport=80, dport=connection[TCP].sport, flags="SA")
    result = lab.send("far", segment / bytes(1461))
    assert (result.reason, result.by) == expected


@pytest.mark.parametrize(
    ("inside", "reason"),
    [
        ("127.0.0.1", Reason.DESTINATION_MARTIAN),
        ("169.254.169.254", Reason.DESTINATION_MARTIAN),
        ("224.0.0.1", Reason.DESTINATION_MARTIAN),
        (GATEWAY, Reason.LAND),
    ],
)
def test_what_leads_nowhere_as_ipv4_opens_nothing(lab: Network, inside: str, reason: Reason) -> None:
    """RFC 6052, section 3.1; and from and to one address nothing is ever sent."""
    result = lab.send("six", IPv6(src=SIX, dst=f"64:ff9b::{inside}") / UDP(sport=5, dport=6))
    assert (result.reason, result.by, result.sent) == (reason, "nat-gateway shop/nat", ())
    assert [each for each in lab.plane.engine.sessions() if each["kind"] == "nat"] == []


def test_segments_left_to_the_network_card_cross_whole(lab: Network) -> None:
    syn = lab.send("six", IPv6(src=SIX, dst=FAR) / TCP(sport=33000, dport=80))
    port = syn.packet[TCP].sport
    [interface, outside] = lab.port("six"), lab.port("example")
    data = bytes(range(256)) * 20
    pseudo = in6_pseudo(SIX, FAR, len(data) + 20)
    packet = IPv6(src=SIX, dst=FAR) / TCP(sport=33000, dport=80, flags="A", chksum=pseudo) / data
    offload = struct.pack("<BBHHHHH", 1, 4, 74, 1400, 54, 16, 0)
    _, [sent] = lab.plane.process([lab.frame("six", packet)], [interface], lab.now, [offload])
    assert sent.port == outside
    assert sent.offload == struct.pack("<BBHHHHH", 1, 1, 54, 1400, 34, 16, 0)
    pseudo = in6_pseudo(EIP, EXAMPLE, len(data) + 20)
    expected = (
        IP(src=EIP, dst=EXAMPLE, id=0, flags="DF", ttl=62) / TCP(sport=port, dport=80, flags="A", chksum=pseudo) / data
    )
    assert sent.frame[14:] == bytes(expected)


def in6_pseudo(source: str, destination: str, length: int) -> int:
    """Sum of a TCP pseudo-header, not complemented: what the kernel leaves in a checksum it has not made."""
    words = ip_address(source).packed + ip_address(destination).packed + struct.pack(">II", length, 6)
    total = sum(struct.unpack(f">{len(words) // 2}H", words))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return total
