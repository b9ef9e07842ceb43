"""Frames inside a subnet: who answers ARP and neighbour discovery, and what is never carried."""

from __future__ import annotations

from ipaddress import IPv6Address, ip_address

import pytest
from scapy.layers.inet import ICMP, IP, TCP, UDP
from scapy.layers.inet6 import ICMPv6EchoRequest, ICMPv6ND_NA, ICMPv6ND_NS, ICMPv6NDOptDstLLAddr, IPv6
from scapy.layers.l2 import ARP, Dot1Q, Ether

from dataplane.verdict import Cause, Verdict
from tests.conformance.behaviours import behaviour
from tests.conformance.labs import VPC, changed
from tests.conformance.sources import ec2_guide, rfc, vpc_guide
from tests.scenario.network import Network, Result

SECTION = "Addresses, Ethernet and neighbours"

A1, A2, B1 = "10.0.1.11", "10.0.1.12", "10.0.2.11"
A1_6, A2_6, B1_6 = "2001:db8:a:1::11", "2001:db8:a:1::12", "2001:db8:a:2::11"
BROADCAST = "ff:ff:ff:ff:ff:ff"


def ask(network: Network, node: str, address: str, own: str = A1) -> Result:
    """An ARP request, broadcast as kernels do."""
    question = ARP(op=1, hwsrc=network.mac(node), psrc=own, pdst=address)
    return network.put(node, Ether(src=network.mac(node), dst=BROADCAST) / question)


def solicit(network: Network, node: str, address: str, own: str = A1_6) -> Result:
    """A neighbour solicitation to the target's solicited-node group (RFC 4861, section 7.2.2)."""
    low = ip_address(address).packed[-3:]
    group = str(IPv6Address(ip_address("ff02::1:ff00:0").packed[:-3] + low))
    question = IPv6(src=own, dst=group, hlim=255) / ICMPv6ND_NS(tgt=address)
    to = "33:33:ff:" + low.hex(":")
    return network.put(node, Ether(src=network.mac(node), dst=to) / question)


@behaviour(
    "ARP for an address of the subnet is answered with the MAC of the interface that has it, which sees no ARP",
    source=vpc_guide("VPC_Networking"),
    item=2,
)
def test_arp_for_a_peer() -> None:
    network = Network(VPC)
    result = ask(network, "a1", A2)
    [answer] = result.sent
    assert (result.verdict, answer.node, answer.cause) == (Verdict.SERVE, "a1", Cause.ANSWER)
    assert (answer.packet[ARP].op, answer.packet[ARP].psrc, answer.packet[ARP].hwsrc) == (2, A2, network.mac("a2"))


@behaviour(
    "ARP for the subnet's second address is answered with the router's MAC",
    source=vpc_guide("subnet-sizing"),
)
def test_arp_for_the_router() -> None:
    network = Network(VPC)
    answer = ask(network, "a1", "10.0.1.1").packet[ARP]
    assert (answer.op, answer.psrc, answer.hwsrc) == (2, "10.0.1.1", network.router_mac("a1"))
    assert network.router_mac("a1") not in (network.mac("a1"), network.mac("a2"))


@behaviour(
    "ARP for an address of the subnet that nobody has is not answered, unless the lab's settings say by the router",
    silent=True,
    source=rfc(826),
)
def test_arp_for_nobody() -> None:
    assert ask(Network(VPC), "a1", "10.0.1.99").sent == ()
    network = Network("settings: {arp_for_unassigned: router}\n" + VPC)
    assert ask(network, "a1", "10.0.1.99").packet[ARP].hwsrc == network.router_mac("a1")


@behaviour(
    "A gratuitous ARP for somebody else's address changes nothing: packets go on to who has it",
    source=ec2_guide("using-eni"),
    item=3,
)
@pytest.mark.parametrize("op", [1, 2])
def test_gratuitous_arp(op: int) -> None:
    network = Network(VPC)
    lie = ARP(op=op, hwsrc=network.mac("b2"), psrc=B1, hwdst=BROADCAST, pdst=B1)
    heard = network.put("b2", Ether(src=network.mac("b2"), dst=BROADCAST) / lie).sent
    assert {sent.node for sent in heard} <= {"b2"}  # it may be told that somebody has the address (RFC 5227)
    assert network.send("a1", IP(src=A1, dst=B1) / ICMP()).to == "b1"
    assert ask(network, "b2", B1, "10.0.2.12").packet[ARP].hwsrc == network.mac("b1")


@behaviour(
    "Broadcast, multicast and what is neither IP nor ARP reach no other guest",
    source=vpc_guide("DHCPOptionSet"),
    item=4,
)
@pytest.mark.parametrize(
    ("to", "payload"),
    [
        (BROADCAST, IP(src=A1, dst="255.255.255.255") / UDP(sport=5, dport=6)),
        (BROADCAST, IP(src=A1, dst="10.0.1.255") / UDP(sport=5, dport=6)),
        ("01:00:5e:00:00:fb", IP(src=A1, dst="224.0.0.251") / UDP(sport=5353, dport=5353)),
        ("33:33:00:00:00:fb", IPv6(src=A1_6, dst="ff02::fb") / UDP(sport=5353, dport=5353)),
        (None, IP(src=A1, dst="224.0.0.251") / UDP(sport=5353, dport=5353)),
        (None, Dot1Q(vlan=5) / IP(src=A1, dst=A2) / ICMP()),
        (BROADCAST, b"\x00" * 46),
        (None, b"\x00" * 46),
    ],
    ids=["all", "subnet", "multicast", "ipv6 multicast", "multicast to a MAC", "vlan", "0x88b5", "0x88b5 to a MAC"],
)
def test_only_unicast_ip_is_carried(to: str | None, payload: object) -> None:
    network = Network(VPC)
    ether = Ether(src=network.mac("a1"), dst=to or network.mac("a2"))
    if isinstance(payload, bytes):
        ether.type = 0x88B5  # IEEE's number for local experiments
    result = network.put("a1", ether / payload)
    assert (result.verdict, result.sent) == (Verdict.DROP, ())


@behaviour(
    "Neighbour solicitation for an address of the subnet is answered with the MAC of its interface, which sees none",
    source=vpc_guide("subnet-sizing"),
)
def test_solicitation_for_a_peer() -> None:
    network = Network(VPC)
    [answer] = solicit(network, "a1", A2_6).sent
    assert (answer.node, answer.packet[ICMPv6ND_NA].tgt, answer.packet.hlim) == ("a1", A2_6, 255)
    assert answer.packet[ICMPv6NDOptDstLLAddr].lladdr == network.mac("a2")


@behaviour(
    "The IPv6 router of a subnet answers solicitations for fe80:ec2::1 and for the link-local address of its MAC",
    source=vpc_guide("subnet-sizing"),
)
def test_link_local_addresses_of_the_router() -> None:
    network = Network(VPC)
    mac = network.plane.interface(network.port("a1")).router_mac
    modified = bytes([mac[0] ^ 2, mac[1], mac[2], 0xFF, 0xFE, *mac[3:]])  # RFC 4291, appendix A
    eui = str(IPv6Address(bytes([0xFE, 0x80, *bytes(6)]) + modified))
    for address in ("fe80:ec2::1", eui):
        answer = solicit(network, "a1", address).packet
        assert answer[ICMPv6NDOptDstLLAddr].lladdr == network.router_mac("a1")


@behaviour(
    "Solicitation for an address of the subnet that nobody has is not answered, so a new address is found to be free",
    source=rfc(4862, "5.4"),
)
def test_solicitation_for_nobody() -> None:
    assert solicit(Network(VPC), "a1", "2001:db8:a:1::99").sent == ()
    assert solicit(Network(VPC), "a1", "2001:db8:a:1::99", own="::").sent == ()


@behaviour(
    "The router answers a ping to its address from inside the subnet; that of another subnet does not",
    silent=True,
    source=vpc_guide("subnet-sizing"),
)
def test_ping_of_the_router() -> None:
    network = Network(VPC)
    reply = network.send("a1", IP(src=A1, dst="10.0.1.1") / ICMP(id=7, seq=3) / b"abc").packet
    assert (reply.src, reply.dst, reply[ICMP].type, reply[ICMP].id, reply[ICMP].seq) == ("10.0.1.1", A1, 0, 7, 3)
    assert network.send("a1", IP(src=A1, dst="10.0.2.1") / ICMP()).sent == ()
    for body in (UDP(sport=5, dport=53), TCP(sport=5, dport=80), ICMP(type=0), ICMP(type=13)):
        assert network.send("a1", IP(src=A1, dst="10.0.1.1") / body).sent == ()


@behaviour(
    "Pings of the router pass whatever the security groups and the network ACL say",
    source=vpc_guide("vpc-network-acls"),
)
def test_router_is_not_filtered() -> None:
    text = changed(
        VPC,
        ("route_table: public}", "route_table: public, network_acl: closed}"),
        ("    security_groups:\n", "    network_acls: {closed: {}}\n    security_groups:\n"),
        ('source: "::/0"}]', 'source: "::/0"}]\n        egress: []'),
        ("        ingress: [{protocol: all, source: 0.0.0.0/0}, ", "        ingress: ["),
    )
    assert Network(text).send("a1", IP(src=A1, dst="10.0.1.1") / ICMP()).packet[ICMP].type == 0


@behaviour(
    "A frame to a neighbour's MAC stays in the subnet: the route table is not asked, whatever address it is for",
    source=vpc_guide("gateway-route-tables"),
)
def test_frame_to_a_neighbour_is_not_routed() -> None:
    unchecked = changed(VPC, ("elastic_ip: 203.0.113.12", "elastic_ip: 203.0.113.12, source_dest_check: false"))
    network = Network(unchecked)
    to_a2 = network.plane.interface(network.port("a2")).mac
    assert network.send("a1", IP(src=A1, dst=B1) / ICMP(), to_mac=to_a2).to == "a2"
    network = Network(VPC)  # a2 checks destinations: not its own
    assert network.send("a1", IP(src=A1, dst=B1) / ICMP(), to_mac=to_a2).sent == ()


@behaviour(
    "IPv6 inside a subnet goes from interface to interface like IPv4",
    source=vpc_guide("VPC_Networking"),
)
def test_ipv6_between_neighbours() -> None:
    result = Network(VPC).send("a1", IPv6(src=A1_6, dst=A2_6, hlim=1) / ICMPv6EchoRequest())
    assert (result.to, result.packet.hlim) == ("a2", 1)
