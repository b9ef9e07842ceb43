"""NAT gateways and other VPCs: what they do for peers, what they do not, and private ones."""

from __future__ import annotations

import pytest
from scapy.layers.inet import ICMP, IP, TCP, UDP

from dataplane.verdict import Reason
from tests.conformance.behaviours import behaviour
from tests.conformance.labs import changed, refused
from tests.conformance.sources import reachability, vpc_guide
from tests.scenario.network import Network

SECTION = "NAT gateways"

CLIENT, SERVER, FAR, NAT = "10.0.1.11", "10.1.1.11", "198.51.100.10", "10.0.2.5"
BASICS = vpc_guide("nat-gateway-basics")

# VPC a: a client behind a NAT gateway; VPC b: a server whose route table knows nothing of a.
LAB = """
version: 1
vpcs:
  a:
    cidr: 10.0.0.0/16
    internet_gateway: {}
    subnets:
      clients: {cidr: 10.0.1.0/24, route_table: clients}
      nat: {cidr: 10.0.2.0/24, route_table: nat}
    route_tables:
      clients: {routes: [{destination: 0.0.0.0/0, target: "nat-gateway:nat"}]}
      nat:
        routes:
          - {destination: 0.0.0.0/0, target: internet-gateway}
          - {destination: 10.1.0.0/16, target: "peering:a-b"}
    nat_gateways: {nat: {subnet: nat, elastic_ip: 203.0.113.10, private_ip: 10.0.2.5}}
    security_groups: &open {open: {description: all, ingress: [{protocol: all, source: 0.0.0.0/0}]}}
  b:
    cidr: 10.1.0.0/16
    subnets: {net: {cidr: 10.1.1.0/24, route_table: net}}
    route_tables: {net: {routes: []}}
    security_groups: *open
peerings: {a-b: {requester: a, accepter: b}}
instances:
  client: {vpc: a, subnet: clients, private_ip: 10.0.1.11, security_groups: [open]}
  other: {vpc: a, subnet: nat, private_ip: 10.0.2.11, security_groups: [open]}
  server: {vpc: b, subnet: net, private_ip: 10.1.1.11, security_groups: [open]}
internet:
  hosts: {far: {address: 198.51.100.10}}
"""
PRIVATE = changed(LAB, ("elastic_ip: 203.0.113.10", "connectivity: private"))
TO_PEER = ("routes: []", 'routes: [{destination: 0.0.0.0/0, target: "peering:a-b"}]')


@behaviour(
    "A client of a peer VPC is not served by a NAT gateway; through a NAT gateway to a peer without a route back works",
    source=BASICS,
    item=30,
)
def test_peering_and_nat() -> None:
    result = Network(changed(LAB, TO_PEER)).send("server", IP(src=SERVER, dst=FAR) / UDP(sport=5, dport=53))
    assert result.sent == ()
    network = Network(LAB)
    seen = network.send("client", IP(src=CLIENT, dst=SERVER) / TCP(sport=5000, dport=80))
    assert (seen.to, seen.packet.src) == ("server", NAT)
    answer = IP(src=SERVER, dst=NAT) / TCP(sport=80, dport=seen.packet[TCP].sport, flags="SA")
    back = network.send("server", answer)
    assert (back.to, back.packet.src, back.packet.dst, back.packet[TCP].dport) == ("client", SERVER, CLIENT, 5000)


@behaviour(
    "A NAT gateway transmits only what originates from network interfaces within its VPC",
    source=reachability(),
)
def test_source_in_the_vpc() -> None:
    router = changed(LAB, ("private_ip: 10.0.1.11,", "private_ip: 10.0.1.11, source_dest_check: false,"))
    network = Network(router)
    own = [CLIENT, "10.0.2.11"]  # its own, and of another interface that it is a router for
    for source in own:
        assert network.send("client", IP(src=source, dst=FAR) / UDP(sport=5, dport=53)).to == "far"
    # nobody's, a subnet router's, a peer's, somebody's on the internet
    for source in ("10.0.1.12", "10.0.1.1", SERVER, "192.0.2.50"):
        result = network.send("client", IP(src=source, dst=FAR) / UDP(sport=5, dport=53))
        assert (result.reason, result.sent) == (Reason.NAT_FROM_PEER, ())


@behaviour("A NAT gateway knows an interface by all of its addresses, as long as it has them", source=reachability())
def test_sources_change() -> None:
    more = changed(LAB, ("private_ip: 10.0.1.11,", "private_ip: 10.0.1.11, secondary_private_ips: [10.0.1.20],"))
    network = Network(more)
    packet = IP(src="10.0.1.20", dst=FAR) / UDP(sport=5, dport=53)
    assert network.send("client", packet).to == network.send("client", packet).to == "far"
    spoofs = changed(LAB, ("private_ip: 10.0.1.11,", "private_ip: 10.0.1.11, source_dest_check: false,"))
    network.apply(spoofs)
    assert network.send("client", packet).reason is Reason.NAT_FROM_PEER
    network.apply(more)
    assert network.send("client", packet).to == "far"


@behaviour("What a NAT gateway sends over a peering has its private address, not its Elastic IP", source=BASICS)
def test_private_address_over_a_peering() -> None:
    seen = Network(LAB).send("client", IP(src=CLIENT, dst=SERVER) / ICMP(id=7))
    assert (seen.to, seen.packet.src) == ("server", NAT)


@behaviour("Only NAT gateways get answers from a peer without a route back", source=BASICS)
def test_only_nat_gateways() -> None:
    network = Network(LAB)
    assert network.send("other", IP(src="10.0.2.11", dst=SERVER) / UDP(sport=5, dport=53)).to == "server"
    answer = network.send("server", IP(src=SERVER, dst="10.0.2.11") / UDP(sport=53, dport=5))
    assert (answer.reason, answer.sent) == (Reason.NO_ROUTE, ())
    unasked = network.send("server", IP(src=SERVER, dst=NAT) / UDP(sport=53, dport=5))
    assert (unasked.reason, unasked.sent) == (Reason.NO_ROUTE, ())


@behaviour(
    "A network ACL of the peer's subnet stops answers to a NAT gateway that no route was needed for", source=BASICS
)
def test_acl_of_the_peer() -> None:
    acl = "    network_acls: {in: {ingress: [{rule: 1, protocol: all, cidr: 0.0.0.0/0, action: allow}]}}\n"
    text = changed(
        LAB,
        ("    security_groups: *open\n", acl + "    security_groups: *open\n"),
        ("route_table: net}", "route_table: net, network_acl: in}"),
    )
    network = Network(text)
    port = network.send("client", IP(src=CLIENT, dst=SERVER) / UDP(sport=5, dport=53)).packet[UDP].sport
    answer = network.send("server", IP(src=SERVER, dst=NAT) / UDP(sport=53, dport=port))
    assert (answer.reason, answer.sent) == (Reason.ACL_EGRESS, ())


@behaviour("ICMP errors of a peer without a route back reach the client behind a NAT gateway", source=BASICS)
def test_errors_from_the_peer() -> None:
    network = Network(LAB)
    seen = network.send("client", IP(src=CLIENT, dst=SERVER) / UDP(sport=5, dport=53)).packet
    error = network.send("server", IP(src=SERVER, dst=NAT) / ICMP(type=3, code=3) / IP(bytes(seen)))
    quoted = IP(bytes(error.sent[0].ether)[14 + 28 :])
    assert (error.to, quoted.src, quoted.dst, quoted[UDP].sport) == ("client", CLIENT, SERVER, 5)


@behaviour(
    "A route that a peer has for itself does not matter for answers to a NAT gateway", silent=True, source=BASICS
)
@pytest.mark.parametrize(
    "routes", ["{destination: 10.0.0.0/16, target: blackhole}", '{destination: 10.0.0.0/16, target: "peering:a-b"}']
)
def test_routes_of_the_peer(routes: str) -> None:
    network = Network(changed(LAB, ("routes: []", f"routes: [{routes}]")))
    port = network.send("client", IP(src=CLIENT, dst=SERVER) / UDP(sport=5, dport=53)).packet[UDP].sport
    assert network.send("server", IP(src=SERVER, dst=NAT) / UDP(sport=53, dport=port)).to == "client"


@behaviour("A private NAT gateway translates to its private address for other VPCs", source=BASICS)
def test_private_nat_gateway() -> None:
    network = Network(PRIVATE)
    seen = network.send("client", IP(src=CLIENT, dst=SERVER) / UDP(sport=5, dport=53))
    assert (seen.to, seen.packet.src) == ("server", NAT)
    answer = network.send("server", IP(src=SERVER, dst=NAT) / UDP(sport=53, dport=seen.packet[UDP].sport))
    assert (answer.to, answer.packet.dst, answer.packet[UDP].dport) == ("client", CLIENT, 5)


@behaviour(
    "What a private NAT gateway sends to an internet gateway is dropped there", source=vpc_guide("vpc-nat-gateway")
)
def test_private_nat_gateway_and_the_internet() -> None:
    result = Network(PRIVATE).send("client", IP(src=CLIENT, dst=FAR) / UDP(sport=5, dport=53))
    assert (result.reason, result.sent) == (Reason.PUBLIC_SOURCE_MISSING, ())


@behaviour("A private NAT gateway has no Elastic IP, and a public one cannot be without", source=BASICS)
def test_elastic_ips_of_nat_gateways() -> None:
    both = changed(LAB, ("elastic_ip: 203.0.113.10", "connectivity: private, elastic_ip: 203.0.113.10"))
    assert ("vpcs.a.nat_gateways.nat.elastic_ip", "InvalidParameterCombination") in refused(both)
    assert ("vpcs.a.nat_gateways.nat", "MissingParameter") in refused(changed(LAB, ("elastic_ip: 203.0.113.10, ", "")))
