"""NAT64: IPv6 hosts reach IPv4 addresses as 64:ff9b::/96 through a NAT gateway."""

from __future__ import annotations

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
)

from dataplane.verdict import Reason
from tests.conformance.behaviours import behaviour
from tests.conformance.labs import accepted, changed, refused
from tests.conformance.sources import rfc, vpc_guide
from tests.scenario.network import Network

SECTION = "NAT64"

PAGE = vpc_guide("nat-gateway-nat64-dns64")
HOST, FAR, PUBLIC, NAT = "2001:db8:a:2::11", "198.51.100.10", "203.0.113.10", "10.0.1.5"
FAR64, NAT64, INNER64 = "64:ff9b::c633:640a", "64:ff9b::a00:105", "64:ff9b::a00:10c"
"""198.51.100.10, the NAT gateway's 10.0.1.5 and the instance 10.0.1.12 in the well-known prefix (RFC 6052)."""

LAB = """
version: 1
vpcs:
  v:
    cidr: 10.0.0.0/16
    ipv6_cidrs: ["2001:db8:a::/56"]
    internet_gateway: {}
    subnets:
      public: {cidr: 10.0.1.0/24, route_table: public}
      private: {cidr: 10.0.2.0/24, ipv6_cidr: "2001:db8:a:2::/64", route_table: private}
    route_tables:
      public: {routes: [{destination: 0.0.0.0/0, target: internet-gateway}]}
      private: {routes: [{destination: "64:ff9b::/96", target: "nat-gateway:nat"}]}
    nat_gateways: {nat: {subnet: public, elastic_ip: 203.0.113.10, private_ip: 10.0.1.5}}
    security_groups:
      open: {description: all, ingress: [{protocol: all, source: 0.0.0.0/0}, {protocol: all, source: "::/0"}]}
      host: {description: out only, ingress: []}
instances:
  host: {vpc: v, subnet: private, private_ip: 10.0.2.11, ipv6_address: "2001:db8:a:2::11", security_groups: [host]}
  inner: {vpc: v, subnet: public, private_ip: 10.0.1.12, security_groups: [open]}
internet:
  hosts: {far: {address: 198.51.100.10}, other: {address: 198.51.100.77}}
"""


def out(body: object, **fields: object) -> IPv6:
    return IPv6(src=HOST, dst=FAR64, **fields) / body


@behaviour(
    "An IPv6 host that connects to 64:ff9b::/96 with an IPv4 address in it reaches that address, which sees IPv4 from "
    "the NAT gateway; the host sees answers from 64:ff9b::/96",
    source=PAGE,
    item=31,
)
def test_connection() -> None:
    network = Network(LAB)
    seen = network.send("host", out(TCP(sport=5000, dport=80, seq=1)))
    assert (seen.to, seen.packet.version, seen.packet.src, seen.packet.dst) == ("far", 4, PUBLIC, FAR)
    assert (seen.packet[TCP].dport, str(seen.packet[TCP].flags)) == (80, "S")
    answer = IP(src=FAR, dst=PUBLIC) / TCP(sport=80, dport=seen.packet[TCP].sport, flags="SA", seq=9, ack=2)
    back = network.send("far", answer)
    assert (back.to, back.packet.version, back.packet.src, back.packet.dst) == ("host", 6, FAR64, HOST)
    tcp = back.packet[TCP]
    assert (tcp.sport, tcp.dport, str(tcp.flags), tcp.seq, tcp.ack) == (80, 5000, "SA", 9, 2)


@behaviour("NAT64 reaches other subnets of the VPC as well, from the NAT gateway's private address", source=PAGE)
def test_inside_the_vpc() -> None:
    network = Network(LAB)
    seen = network.send("host", IPv6(src=HOST, dst=INNER64) / UDP(sport=5, dport=53) / b"abc")
    assert (seen.to, seen.packet.src, seen.packet.dst) == ("inner", NAT, "10.0.1.12")
    answer = IP(src="10.0.1.12", dst=NAT) / UDP(sport=53, dport=seen.packet[UDP].sport) / b"xyz"
    back = network.send("inner", answer)
    assert (back.to, back.packet.src, back.packet[UDP].dport, bytes(back.packet[UDP].payload)) == (
        "host",
        INNER64,
        5,
        b"xyz",
    )


@behaviour("Pings are translated between ICMPv6 and ICMP, both ways", source=rfc(7915, "4.2"))
def test_ping() -> None:
    network = Network(LAB)
    seen = network.send("host", out(ICMPv6EchoRequest(id=7, seq=3, data=b"abc")))
    icmp = seen.packet[ICMP]
    assert (seen.to, seen.packet.src, icmp.type, icmp.seq, bytes(icmp.payload)) == ("far", PUBLIC, 8, 3, b"abc")
    back = network.send("far", IP(src=FAR, dst=PUBLIC) / ICMP(type=0, id=icmp.id, seq=3) / b"abc").packet
    echo = back[ICMPv6EchoReply]
    assert (back.src, back.dst, echo.id, echo.seq, echo.data) == (FAR64, HOST, 7, 3, b"abc")


@behaviour("The security group and network ACL of an IPv6 host have to allow 64:ff9b::/96", source=PAGE)
def test_filters_see_the_prefix() -> None:
    only = ', egress: [{protocol: all, destination: "64:ff9b::/96"}]}'
    closed = ', egress: [{protocol: all, destination: 0.0.0.0/0}, {protocol: all, destination: "2001:db8::/32"}]}'
    host = "host: {description: out only, ingress: []}"
    assert Network(changed(LAB, (host, host[:-1] + only))).send("host", out(UDP(sport=5, dport=53))).to == "far"
    result = Network(changed(LAB, (host, host[:-1] + closed))).send("host", out(UDP(sport=5, dport=53)))
    assert result.reason is Reason.GROUP_EGRESS
    acl = """    network_acls:
      prefix:
        egress: [{rule: 1, protocol: all, cidr: "64:ff9b::/96", action: allow}]
        ingress: [{rule: 1, protocol: all, cidr: "64:ff9b::/96", action: ACTION}]
    security_groups"""
    for action in ("allow", "deny"):
        text = changed(LAB, ("    security_groups", acl.replace("ACTION", action)))
        network = Network(changed(text, ("route_table: private}", "route_table: private, network_acl: prefix}")))
        port = network.send("host", out(UDP(sport=5, dport=53))).packet[UDP].sport
        back = network.send("far", IP(src=FAR, dst=PUBLIC) / UDP(sport=53, dport=port))
        assert back.reason is (Reason.NONE if action == "allow" else Reason.ACL_INGRESS)


@behaviour("A route for IPv6 to a NAT gateway is for 64:ff9b::/96 or a part of it", source=PAGE)
def test_routes() -> None:
    accepted(changed(LAB, ('"64:ff9b::/96"', '"64:ff9b::c633:6400/120"')))
    for destination in ("::/0", "2001:db8:99::/48", "64:ff9b::/95", "64:ff9b:1::/48"):
        found = refused(changed(LAB, ('"64:ff9b::/96"', f'"{destination}"')))
        assert {path for path, _ in found} == {"vpcs.v.route_tables.private.routes[0].target"}


@behaviour(
    "The traffic class and hop limit of an IPv6 packet become TOS and TTL, less one hop; back likewise",
    source=rfc(7915, "5.1"),
)
def test_header() -> None:
    network = Network(LAB)
    seen = network.send("host", out(UDP(sport=5, dport=53), hlim=64, tc=0xB8, fl=0x12345)).packet
    assert (seen.tos, seen.ttl) == (0xB8, 62)  # the NAT gateway and the internet gateway
    answer = IP(src=FAR, dst=PUBLIC, tos=0x28, ttl=50) / UDP(sport=53, dport=seen[UDP].sport)
    back = network.send("far", answer).packet
    assert (back.tc, back.fl, back.nh) == (0x28, 0, 17)
    assert back.hlim == 49  # the NAT gateway


@behaviour("Small packets made by NAT64 may be fragmented further on, larger ones may not", source=rfc(7915, "5.1"))
def test_do_not_fragment() -> None:
    network = Network(LAB)
    for length, flags in ((1260, ""), (1261, "DF")):
        packet = network.send("host", out(UDP(sport=5, dport=53) / bytes(length - 28))).packet
        assert (len(packet), str(packet.flags)) == (length, flags)


@behaviour("A UDP datagram without a checksum gets one on its way to an IPv6 host", source=rfc(7915, "4.5"))
def test_no_udp_checksum() -> None:
    network = Network(LAB)
    port = network.send("host", out(UDP(sport=5, dport=53))).packet[UDP].sport
    back = network.send("far", IP(src=FAR, dst=PUBLIC) / UDP(sport=53, dport=port, chksum=0) / b"abc").packet
    expected = IPv6(bytes(IPv6(src=FAR64, dst=HOST) / UDP(sport=53, dport=5) / b"abc"))
    assert back[UDP].chksum == expected[UDP].chksum != 0


@behaviour("Fragments of a UDP datagram without a checksum do not come to an IPv6 host", source=rfc(7915, "4.5"))
def test_no_udp_checksum_in_fragments() -> None:
    network = Network(LAB)
    port = network.send("host", out(UDP(sport=5, dport=53))).packet[UDP].sport
    pieces = fragment(IP(src=FAR, dst=PUBLIC, id=9) / UDP(sport=53, dport=port, chksum=0) / bytes(600), 320)
    assert {(r.reason, r.sent) for r in network.send_all("far", pieces)} == {(Reason.NAT_FRAGMENT, ())}


@behaviour(
    "An IPv4 packet too big message comes to an IPv6 host as packet too big, 20 bytes more", source=rfc(7915, "4.2")
)
@pytest.mark.parametrize(("mtu4", "mtu6"), [(1400, 1420), (1260, 1280), (576, 1280), (0, 1280)])
def test_fragmentation_needed(mtu4: int, mtu6: int) -> None:
    network = Network(LAB)
    sent = network.send("host", out(UDP(sport=5, dport=53) / bytes(1400))).packet
    error = IP(src="198.51.100.77", dst=PUBLIC) / ICMP(type=3, code=4, nexthopmtu=mtu4) / IP(bytes(sent))
    back = network.send("other", error)
    assert (back.to, back.packet.src, back.packet[ICMPv6PacketTooBig].mtu) == ("host", "64:ff9b::c633:644d", mtu6)
    quoted = IPv6(bytes(back.packet[ICMPv6PacketTooBig].payload))
    assert (quoted.src, quoted.dst, quoted[UDP].sport, quoted[UDP].dport) == (HOST, FAR64, 5, 53)


@behaviour(
    "A packet too big for the internet behind NAT64 is answered with packet too big, MTU 1520", source=rfc(7915, "4.2")
)
def test_too_big_for_the_internet() -> None:
    [sent] = Network(LAB).send("host", out(UDP(sport=5, dport=53) / bytes(1473))).sent
    assert (sent.node, sent.packet[ICMPv6PacketTooBig].mtu, len(sent.packet) <= 1280) == ("host", 1520, True)
    assert Network(LAB).send("host", out(UDP(sport=5, dport=53) / bytes(1472))).to == "far"


@behaviour(
    "A NAT gateway carries 8500 bytes of IPv6 as well: larger packets from the host are told that MTU, whatever they "
    "become; from the other side 8500 bytes of IPv4 pass, and of more UDP is fragmented",
    source=vpc_guide("nat-gateway-basics"),
)
def test_mtu_of_what_arrives() -> None:
    network = Network(LAB)
    to_inner = IPv6(src=HOST, dst=INNER64) / UDP(sport=5, dport=53)
    seen = network.send("host", to_inner / bytes(8500 - 48)).packet
    assert (len(seen), seen.src) == (8480, NAT)
    [sent] = network.send("host", to_inner / bytes(8501 - 48)).sent
    assert (sent.node, sent.packet.src, sent.packet[ICMPv6PacketTooBig].mtu) == ("host", NAT64, 8500)
    back = IP(src="10.0.1.12", dst=NAT, flags="DF") / UDP(sport=53, dport=seen[UDP].sport)
    assert len(network.send("inner", back / bytes(8500 - 28)).packet) == 8520
    [sent] = network.send("inner", back / bytes(8501 - 28)).sent
    assert (sent.node, sent.packet.src, sent.packet[ICMP].nexthopmtu) == ("inner", NAT, 8500)
    back.flags, back.id = "", 9
    pieces = network.send("inner", back / bytes(8501 - 28)).sent
    assert [(s.node, len(s.packet), s.packet[IPv6ExtHdrFragment].id) for s in pieces] == [
        ("host", 48 + 8480, 9),
        ("host", 48 + 1, 9),
    ]


@behaviour(
    "With NAT64 a SYN asks for no segments that arrive at the NAT gateway in more than 8500 bytes: 8460 in IPv4, 8440 "
    "in IPv6",
    source=vpc_guide("nat-gateway-basics"),
)
def test_mss() -> None:
    network, options = Network(LAB), [("MSS", 8941)]
    syn = network.send("host", out(TCP(sport=5, dport=80, options=options))).packet
    answer = TCP(sport=80, dport=syn[TCP].sport, flags="SA", options=options)
    back = network.send("far", IP(src=FAR, dst=PUBLIC) / answer).packet
    assert [dict(each[TCP].options)["MSS"] for each in (syn, back)] == [8460, 8440]
    for seen in (syn, back):
        summed = seen[TCP].chksum
        del seen[TCP].chksum
        assert type(seen)(bytes(seen))[TCP].chksum == summed


@behaviour("IPv4 errors about what NAT64 sent come to the host as ICMPv6 errors", source=rfc(7915, "4.2"))
@pytest.mark.parametrize(
    ("type4", "code4", "layer", "code6"),
    [
        (3, 0, ICMPv6DestUnreach, 0),
        (3, 1, ICMPv6DestUnreach, 0),
        (3, 3, ICMPv6DestUnreach, 4),
        (3, 13, ICMPv6DestUnreach, 1),
        (11, 0, ICMPv6TimeExceeded, 0),
    ],
)
def test_errors(type4: int, code4: int, layer: type, code6: int) -> None:
    network = Network(LAB)
    sent = network.send("host", out(UDP(sport=5, dport=33434))).packet
    error = IP(src="198.51.100.77", dst=PUBLIC) / ICMP(type=type4, code=code4) / IP(bytes(sent))
    back = network.send("other", error)
    assert (back.to, back.packet.src, back.packet[layer].code) == ("host", "64:ff9b::c633:644d", code6)


@behaviour("ICMPv6 errors of the host come to the IPv4 end as ICMP errors about what it sent", source=rfc(7915, "5.2"))
@pytest.mark.parametrize(
    ("error6", "type4", "code4", "mtu4"),
    [
        (ICMPv6DestUnreach(code=0), 3, 1, 0),
        (ICMPv6DestUnreach(code=1), 3, 10, 0),
        (ICMPv6DestUnreach(code=4), 3, 3, 0),
        (ICMPv6PacketTooBig(mtu=1300), 3, 4, 1280),
        (ICMPv6TimeExceeded(code=1), 11, 1, 0),
    ],
)
def test_errors_of_hosts(error6: object, type4: int, code4: int, mtu4: int) -> None:
    network = Network(LAB)
    port = network.send("host", out(UDP(sport=5, dport=53))).packet[UDP].sport
    answer = IP(src=FAR, dst=PUBLIC) / UDP(sport=53, dport=port) / b"abc"
    seen = network.send("far", answer).packet
    result = network.send("host", out(error6 / IPv6(bytes(seen))))
    icmp = result.packet[ICMP]
    quoted = IP(bytes(result.sent[0].ether)[14 + 28 :])
    assert (result.to, result.packet.src, icmp.type, icmp.code, icmp.nexthopmtu or 0) == (
        "far",
        PUBLIC,
        type4,
        code4,
        mtu4,
    )
    assert (quoted.src, quoted.dst, bytes(quoted.payload)) == (FAR, PUBLIC, bytes(IP(bytes(answer)).payload))


@behaviour(
    "Traceroute of an IPv6 host shows the NAT gateway in 64:ff9b::/96",
    silent=True,
    source=vpc_guide("nat-gateway-troubleshooting"),
)
def test_nat_gateway_is_a_hop() -> None:
    [sent] = Network(LAB).send("host", out(UDP(sport=5, dport=33434), hlim=1)).sent
    assert (sent.node, sent.packet.src, sent.packet.dst, sent.packet[ICMPv6TimeExceeded].code) == (
        "host",
        NAT64,
        HOST,
        0,
    )


@behaviour("NAT64 translates fragments of UDP, and drops those of TCP and ICMP", source=rfc(7915, "5.1.1"))
def test_fragments() -> None:
    network = Network(LAB)
    body = bytes(IPv6(bytes(out(UDP(sport=5, dport=53) / bytes(range(248)))))[UDP])
    first = out(IPv6ExtHdrFragment(nh=17, id=0x10007, m=1)) / body[:128]
    later = out(IPv6ExtHdrFragment(nh=17, id=0x10007, offset=16)) / body[128:]
    seen = [result.packet for result in network.send_all("host", [first, later])]
    assert [(p.frag, str(p.flags), p.id) for p in seen] == [(0, "MF", 7), (16, "", 7)]
    assert bytes(seen[0].payload)[8:] + bytes(seen[1].payload) == body[8:]
    pieces = fragment(IP(src=FAR, dst=PUBLIC, id=9) / UDP(sport=53, dport=seen[0][UDP].sport) / bytes(300), 160)
    back = [result.packet[IPv6ExtHdrFragment] for result in network.send_all("far", pieces)]
    assert [(f.offset, f.m, f.id) for f in back] == [(p.frag, int("MF" in p.flags), 9) for p in pieces]
    for next_header, whole in ((6, TCP(sport=5, dport=80)), (58, ICMPv6EchoRequest(id=7))):
        piece = out(IPv6ExtHdrFragment(nh=next_header, id=next_header, m=1)) / (bytes(whole) + bytes(64))[:64]
        assert network.send("host", piece).reason is Reason.NAT_FRAGMENT


@behaviour(
    "Through NAT64 an idle connection is reset after 350 seconds, by IPv6",
    source=vpc_guide("nat-gateway-troubleshooting"),
)
def test_reset() -> None:
    network = Network(LAB)
    port = network.send("host", out(TCP(sport=5000, dport=80))).packet[TCP].sport
    network.send("far", IP(src=FAR, dst=PUBLIC) / TCP(sport=80, dport=port, flags="SA"))
    network.send("host", out(TCP(sport=5000, dport=80, flags="A")))
    network.wait(350)
    [sent] = network.send("host", out(TCP(sport=5000, dport=80, flags="A", seq=2, ack=77))).sent
    tcp = sent.packet[TCP]
    assert (sent.node, sent.packet.src, sent.packet.dst) == ("host", FAR64, HOST)
    assert (tcp.sport, tcp.dport, str(tcp.flags), tcp.seq) == (80, 5000, "R", 77)
