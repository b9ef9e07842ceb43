"""Rules that name a security group: they match who sends, not what an address looks like."""

from __future__ import annotations

import pytest
from scapy.layers.inet import ICMP, IP, TCP, UDP

from dataplane.verdict import Reason
from tests.conformance.behaviours import behaviour
from tests.conformance.labs import changed, refused
from tests.conformance.sources import peering_guide, reachability, vpc_guide
from tests.scenario.network import Network

SECTION = "Security groups"

CLIENT, SERVER, FW, PEER = "10.0.2.11", "10.0.1.11", "10.0.3.11", "10.1.1.11"
RULES = vpc_guide("security-group-rules")

# The server lets in whom the group `client` is on, here or in the peer VPC; fw can be put in the middle.
LAB = """
version: 1
vpcs:
  v:
    cidr: 10.0.0.0/16
    internet_gateway: {}
    subnets:
      servers: {cidr: 10.0.1.0/24}
      clients: {cidr: 10.0.2.0/24, route_table: clients}
      middle: {cidr: 10.0.3.0/24}
    route_tables:
      main: {routes: [{destination: 10.1.0.0/16, target: "peering:v-p"}]}
      clients: {routes: []}
    security_groups:
      client: {description: lets pings of anybody in, ingress: [{protocol: icmp, source: 0.0.0.0/0}]}
      server:
        description: for clients
        ingress:
          - {protocol: tcp, ports: 80, source: "group:client"}
          - {protocol: tcp, ports: 80, source: "group:p/client"}
      all: {description: everything, ingress: [{protocol: all, source: 0.0.0.0/0}]}
  p:
    cidr: 10.1.0.0/16
    subnets: {net: {cidr: 10.1.1.0/24, route_table: net}}
    route_tables: {net: {routes: [{destination: 10.0.0.0/16, target: "peering:v-p"}]}}
    security_groups: {client: {description: of the peer}, other: {description: of the peer}}
peerings: {v-p: {requester: v, accepter: p, status: active}}
instances:
  client: {vpc: v, subnet: clients, private_ip: 10.0.2.11, security_groups: [client]}
  server: {vpc: v, subnet: servers, private_ip: 10.0.1.11, security_groups: [server]}
  fw: {vpc: v, subnet: middle, private_ip: 10.0.3.11, security_groups: [all], source_dest_check: false}
  peer: {vpc: p, subnet: net, private_ip: 10.1.1.11, security_groups: [client]}
"""
HTTP = TCP(sport=5000, dport=80)


def reaches(network: Network, node: str, source: str, body: object = HTTP) -> bool:
    result = network.send(node, IP(src=source, dst=SERVER) / body)
    assert result.reason in (Reason.NONE, Reason.GROUP_INGRESS)
    return bool(result.sent) and result.to == "server"


@behaviour(
    "A rule that names a group admits the interfaces that carry it, and follows them when groups change", source=RULES
)
def test_members() -> None:
    network = Network(LAB)
    assert reaches(network, "client", CLIENT)
    assert not reaches(network, "fw", FW)
    moved = changed(
        LAB, ("private_ip: 10.0.2.11, security_groups: [client]", "private_ip: 10.0.2.11, security_groups: [all]")
    )
    moved = changed(
        moved, ("private_ip: 10.0.3.11, security_groups: [all]", "private_ip: 10.0.3.11, security_groups: [client]")
    )
    network.apply(moved)
    assert not reaches(network, "client", CLIENT, TCP(sport=5001, dport=80))
    assert reaches(network, "fw", FW)


@behaviour("The rules of a group that is referred to are not taken over", source=RULES)
def test_no_import() -> None:
    assert not reaches(Network(LAB), "client", CLIENT, ICMP())


@behaviour(
    "An appliance in the middle takes the sender's groups away: a group reference does not match what it forwards",
    source=reachability(),
)
def test_appliance_in_the_middle() -> None:
    network = Network(
        changed(
            LAB, ("clients: {routes: []}", 'clients: {routes: [{destination: 10.0.1.0/24, target: "instance:fw"}]}')
        )
    )
    forwarded = network.send("client", IP(src=CLIENT, dst=SERVER) / HTTP)
    assert forwarded.to == "fw"
    assert network.send("fw", forwarded.packet).reason is Reason.GROUP_INGRESS
    by_address = changed(
        LAB, ('{protocol: tcp, ports: 80, source: "group:client"}', "{protocol: tcp, ports: 80, source: 10.0.2.0/24}")
    )
    assert Network(by_address).send("fw", forwarded.packet).to == "server"


@behaviour("An interface that forwards for others does not lend them its groups", source=reachability())
def test_forwarder_lends_nothing() -> None:
    member = changed(
        LAB, ("private_ip: 10.0.3.11, security_groups: [all]", "private_ip: 10.0.3.11, security_groups: [client]")
    )
    assert not reaches(Network(member), "fw", "192.0.2.1")
    assert reaches(Network(member), "fw", FW)


@behaviour(
    "A rule may name a group of a peer VPC in the Region; others of the peer are not admitted",
    source=peering_guide("vpc-peering-security-groups"),
)
def test_group_of_a_peer() -> None:
    assert reaches(Network(LAB), "peer", PEER)
    other = changed(
        LAB, ("private_ip: 10.1.1.11, security_groups: [client]", "private_ip: 10.1.1.11, security_groups: [other]")
    )
    assert not reaches(Network(other), "peer", PEER)


@behaviour("Groups of a peer in another Region cannot be named", source=peering_guide("vpc-peering-security-groups"))
def test_group_of_a_peer_abroad() -> None:
    found = refused(changed(LAB, ("status: active}", "status: active, accepter_region: eu-west-1}")))
    assert {path for path, _ in found} == {"vpcs.v.security_groups.server.ingress[1].source"}


@behaviour(
    "When a peering is deleted, a rule that names a group of the peer is stale: it stays, matches nothing, and revives "
    "with the peering",
    source=peering_guide("vpc-peering-security-groups"),
)
def test_stale_reference() -> None:
    network = Network(LAB)
    assert reaches(network, "peer", PEER)
    network.apply(changed(LAB, ("status: active", "status: deleted")))
    assert network.send("peer", IP(src=PEER, dst=SERVER) / HTTP).reason is Reason.BLACKHOLE
    assert reaches(network, "client", CLIENT)
    network.apply(LAB)
    assert reaches(network, "peer", PEER, TCP(sport=5001, dport=80))


@behaviour("An outbound rule that names a group is for the addresses of the interfaces that carry it", source=RULES)
def test_outbound_reference() -> None:
    inbound = "ingress: [{protocol: icmp, source: 0.0.0.0/0}]"
    outbound = 'egress: [{protocol: tcp, ports: 1-100, destination: "group:server"}]'
    text = changed(LAB, (inbound, f"{inbound}, {outbound}"))
    network = Network(text)
    assert reaches(network, "client", CLIENT)
    result = network.send("client", IP(src=CLIENT, dst=FW) / HTTP)
    assert (result.reason, result.sent) == (Reason.GROUP_EGRESS, ())


@behaviour("A NAT gateway takes the sender's groups away", source=reachability())
@pytest.mark.parametrize("through_nat", [False, True])
def test_nat_gateway_in_the_middle(through_nat: bool) -> None:
    nat = "    nat_gateways: {nat: {subnet: middle, connectivity: private, private_ip: 10.0.3.5}}\n"
    text = changed(LAB, ("    security_groups:\n      client", nat + "    security_groups:\n      client"))
    if through_nat:
        text = changed(
            text,
            ("clients: {routes: []}", 'clients: {routes: [{destination: 10.0.1.0/24, target: "nat-gateway:nat"}]}'),
        )
    result = Network(text).send("client", IP(src=CLIENT, dst=SERVER) / HTTP)
    assert result.reason is (Reason.GROUP_INGRESS if through_nat else Reason.NONE)


@behaviour("A rule that names its own group lets members talk to each other with any protocol it says", source=RULES)
def test_self_reference() -> None:
    text = changed(
        LAB, ('{protocol: tcp, ports: 80, source: "group:client"}', "{protocol: udp, ports: 7, source: self}")
    )
    text = changed(
        text, ("private_ip: 10.0.3.11, security_groups: [all]", "private_ip: 10.0.3.11, security_groups: [server]")
    )
    assert reaches(Network(text), "fw", FW, UDP(dport=7))
    assert not reaches(Network(text), "client", CLIENT, UDP(dport=7))
