"""Who counts as a hop: a VPC's router does not, gateways do, and only the NAT gateway says so."""

from __future__ import annotations

import pytest
from scapy.layers.inet import ICMP, IP, TCP, UDP
from scapy.layers.inet6 import ICMPv6EchoRequest, IPv6

from dataplane.verdict import Cause, Reason
from tests.conformance.behaviours import behaviour
from tests.conformance.labs import PEERED, VPC
from tests.conformance.sources import ec2_guide, peering_guide, rfc, vpc_guide
from tests.scenario.network import Network

SECTION = "TTL"

A2, B1, FAR = "10.0.1.12", "10.0.2.11", "198.51.100.10"
NAT = "10.0.1.5"
EXPIRES = IP(src=B1, dst=FAR, ttl=1) / UDP(sport=40000, dport=33434)
"""Has no TTL left at the NAT gateway."""
TOO_BIG = IPv6(src="2001:db8:a:1::12", dst="2001:db8:99::10") / UDP(sport=40000, dport=33434) / bytes(1500)
"""Does not fit through the internet gateway."""


@behaviour(
    "A packet between two subnets of a VPC arrives with the TTL it was sent with",
    source=vpc_guide("how-it-works"),
    item=1,
)
@pytest.mark.parametrize("ttl", [1, 64, 255])
def test_between_subnets_it_is_unchanged(ttl: int) -> None:
    result = Network(VPC).send("b1", IP(src=B1, dst=A2, ttl=ttl) / ICMP())
    assert (result.to, result.packet.ttl) == ("a2", ttl)


@behaviour("The hop limit of IPv6 between two subnets of a VPC is unchanged", source=vpc_guide("how-it-works"))
@pytest.mark.parametrize("limit", [1, 64])
def test_hop_limit_is_unchanged(limit: int) -> None:
    packet = IPv6(src="2001:db8:a:2::11", dst="2001:db8:a:1::12", hlim=limit) / ICMPv6EchoRequest()
    result = Network(VPC).send("b1", packet)
    assert (result.to, result.packet.hlim) == ("a2", limit)


@behaviour(
    "A peering is no hop, unless the lab's settings say that it is: the TTL arrives as it was sent",
    silent=True,
    source=peering_guide("what-is-vpc-peering"),
)
def test_over_a_peering() -> None:
    packet = IP(src="10.0.1.11", dst="10.1.1.11", ttl=1) / ICMP()
    assert Network(PEERED).send("a", packet).packet.ttl == 1
    counts = Network("settings: {peering_ttl: decrement}\n" + PEERED)
    assert counts.send("a", packet).sent == ()
    packet.ttl = 2
    assert counts.send("a", packet).packet.ttl == 1


@behaviour(
    "Traceroute to the internet shows nothing at the internet gateway: what has no TTL left there is dropped silently",
    silent=True,
    source=ec2_guide("network_mtu"),
)
def test_internet_gateway_is_silent() -> None:
    network = Network(VPC)
    result = network.send("a2", IP(src=A2, dst=FAR, ttl=1) / UDP(sport=40000, dport=33434))
    assert (result.reason, result.sent) == (Reason.TTL_EXCEEDED, ())
    assert network.send("a2", IP(src=A2, dst=FAR, ttl=2) / UDP(sport=40000, dport=33435)).packet.ttl == 1
    keeps = Network("settings: {internet_gateway_ttl: keep}\n" + VPC)
    assert keeps.send("a2", IP(src=A2, dst=FAR, ttl=1) / UDP(sport=40000, dport=33434)).packet.ttl == 1


@behaviour(
    "Traceroute from behind a NAT gateway shows its private address as the first hop",
    source=vpc_guide("nat-gateway-troubleshooting"),
    item=29,
)
@pytest.mark.parametrize("probe", [UDP(sport=40000, dport=33434), TCP(sport=40000, dport=80), ICMP(id=7)])
def test_nat_gateway_is_the_first_hop(probe: object) -> None:
    network = Network(VPC)
    packet = IP(src=B1, dst=FAR, ttl=1, id=77) / probe
    result = network.send("b1", packet)
    [sent] = result.sent
    assert (sent.node, sent.cause, sent.packet.src, sent.packet.dst) == ("b1", Cause.ERROR, NAT, B1)
    assert (sent.packet[ICMP].type, sent.packet[ICMP].code) == (11, 0)
    assert bytes(sent.ether)[14 + 28 :] == bytes(packet)  # RFC 792: as it came, before translation
    packet.ttl = 3
    assert network.send("b1", packet).packet.ttl == 1  # the NAT gateway and the internet gateway


@behaviour(
    "About packets of one interface the network sends 1,000 ICMP errors at once, and one each millisecond then",
    silent=True,
    source=rfc(4443, "2.4"),
)
@pytest.mark.parametrize(("node", "packet"), [("b1", EXPIRES), ("a2", TOO_BIG)])
def test_errors_are_limited(node: str, packet: IP | IPv6) -> None:
    """RFC 1812, 4.3.2.8, wants the same of IPv4."""
    network = Network(VPC)
    told = [bool(result.sent) for result in network.send_all(node, [packet] * 1_010)]
    assert told == [True] * 1_000 + [False] * 10
    network.wait(0.003)
    told = [bool(result.sent) for result in network.send_all(node, [packet] * 5)]
    assert told == [True] * 3 + [False] * 2


@behaviour(
    "A time exceeded message from a router on the internet reaches the instance with the packet it sent quoted",
    source=rfc(5508, "4.2"),
)
@pytest.mark.parametrize(("node", "own", "public"), [("a2", A2, "203.0.113.12"), ("b1", B1, "203.0.113.10")])
def test_time_exceeded_from_further_on(node: str, own: str, public: str) -> None:
    network = Network(VPC)
    probe = IP(src=own, dst=FAR, ttl=9) / UDP(sport=40000, dport=33434) / b"probe"
    outside = network.send(node, probe).packet
    error = IP(src="198.51.100.77", dst=public) / ICMP(type=11, code=0) / IP(bytes(outside))
    result = network.send("other", error)
    assert (result.to, result.packet.src, result.packet.dst) == (node, "198.51.100.77", own)
    quoted = IP(bytes(result.sent[0].ether)[14 + 28 :])
    assert (quoted.src, quoted.dst, quoted[UDP].sport, quoted[UDP].dport) == (own, FAR, 40000, 33434)


@behaviour(
    "A TTL of 1 is enough for a neighbour in the subnet and for the router's own answer", source=rfc(1122, "3.2.1.7")
)
def test_ttl_inside_a_subnet() -> None:
    network = Network(VPC)
    assert network.send("b1", IP(src=B1, dst="10.0.2.12", ttl=1) / ICMP()).packet.ttl == 1
    assert network.send("b1", IP(src=B1, dst="10.0.2.1", ttl=1) / ICMP()).packet[ICMP].type == 0
