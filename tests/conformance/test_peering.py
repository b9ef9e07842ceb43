"""VPC peering: between two VPCs, by private addresses, and no further."""

from __future__ import annotations

import pytest
from scapy.layers.inet import ICMP, IP, TCP, UDP
from scapy.layers.inet6 import ICMPv6EchoRequest, IPv6

from dataplane.verdict import Reason
from tests.conformance.behaviours import behaviour
from tests.conformance.labs import PEERED, changed, refused
from tests.conformance.sources import peering_guide, vpc_guide
from tests.scenario.network import Network

SECTION = "VPC peering"

A, B, C, FAR = "10.0.1.11", "10.1.1.11", "10.2.1.11", "198.51.100.10"
BASICS = peering_guide("vpc-peering-basics")
PARTIAL = peering_guide("peering-configurations-partial-access")

# B - A - C, with routes of everybody to everybody by way of A, which has an internet gateway and a NAT gateway.
STAR = """
version: 1
vpcs:
  a:
    cidr: 10.0.0.0/16
    internet_gateway: {}
    subnets: {net: {cidr: 10.0.1.0/24, route_table: net}, nat: {cidr: 10.0.9.0/24, route_table: net}}
    route_tables:
      net:
        routes:
          - {destination: 10.1.0.0/16, target: "peering:a-b"}
          - {destination: 10.2.0.0/16, target: "peering:a-c"}
          - {destination: 0.0.0.0/0, target: internet-gateway}
    nat_gateways: {nat: {subnet: nat, elastic_ip: 203.0.113.9, private_ip: 10.0.9.5}}
    security_groups: &open {open: {description: all, ingress: [{protocol: all, source: 0.0.0.0/0}]}}
  b:
    cidr: 10.1.0.0/16
    subnets: {net: {cidr: 10.1.1.0/24, route_table: net}}
    route_tables: {net: {routes: [{destination: 0.0.0.0/0, target: "peering:a-b"}]}}
    security_groups: *open
  c:
    cidr: 10.2.0.0/16
    subnets: {net: {cidr: 10.2.1.0/24, route_table: net}}
    route_tables: {net: {routes: [{destination: 0.0.0.0/0, target: "peering:a-c"}]}}
    security_groups: *open
peerings: {a-b: {requester: a, accepter: b}, a-c: {requester: a, accepter: c}}
instances:
  a: {vpc: a, subnet: net, private_ip: 10.0.1.11, security_groups: [open], elastic_ip: 203.0.113.11}
  b: {vpc: b, subnet: net, private_ip: 10.1.1.11, security_groups: [open]}
  c: {vpc: c, subnet: net, private_ip: 10.2.1.11, security_groups: [open]}
internet: {hosts: {far: {address: 198.51.100.10}}}
"""

# Two peers of A with one block; which of them an address means is A's route table's to say.
TWINS = """
version: 1
vpcs:
  a:
    cidr: 10.0.0.0/16
    subnets: {net: {cidr: 10.0.1.0/24, route_table: net}}
    route_tables: {net: {routes: [ROUTES]}}
    security_groups: &open {open: {description: all, ingress: [{protocol: all, source: 0.0.0.0/0}]}}
  b: &twin
    cidr: 10.1.0.0/16
    subnets: {net: {cidr: 10.1.2.0/24, route_table: net}}
    route_tables: {net: {routes: [{destination: 10.0.0.0/16, target: "peering:a-b"}]}}
    security_groups: *open
  c:
    <<: *twin
    route_tables: {net: {routes: [{destination: 10.0.0.0/16, target: "peering:a-c"}]}}
peerings: {a-b: {requester: a, accepter: b}, a-c: {requester: a, accepter: c}}
instances:
  a: {vpc: a, subnet: net, private_ip: 10.0.1.11, security_groups: [open]}
  b: {vpc: b, subnet: net, private_ip: 10.1.2.11, security_groups: [open]}
  c: {vpc: c, subnet: net, private_ip: 10.1.2.11, security_groups: [open]}
"""


@behaviour(
    "Of two routes to peers the one with the longer prefix is used",
    source=vpc_guide("route-tables-priority"),
    item=11,
    section="Route tables",
)
def test_longest_prefix() -> None:
    routes = ['{destination: 10.1.0.0/16, target: "peering:a-b"}', '{destination: 10.1.2.0/24, target: "peering:a-c"}']
    for order in (routes, routes[::-1]):
        network = Network(TWINS.replace("ROUTES", ", ".join(order)))
        assert network.send("a", IP(src=A, dst="10.1.2.11") / ICMP()).to == "c"
    network = Network(TWINS.replace("ROUTES", routes[0]))
    assert network.send("a", IP(src=A, dst="10.1.2.11") / ICMP()).to == "b"


@behaviour(
    "Answers over a peering follow the answering side's own route table, wherever the request came from", source=PARTIAL
)
def test_no_reverse_path_check() -> None:
    """Requests of b are taken though a's route to their source leads to c, where the answers go."""
    network = Network(TWINS.replace("ROUTES", '{destination: 10.1.0.0/16, target: "peering:a-c"}'))
    assert network.send("b", IP(src="10.1.2.11", dst=A) / ICMP(id=7)).to == "a"
    assert network.send("a", IP(src=A, dst="10.1.2.11") / ICMP(type=0, id=7)).to == "c"


@behaviour(
    "A peering is not transitive: B reaches neither C nor the internet by way of A, nor uses A's NAT gateway",
    source=peering_guide("invalid-peering-configurations"),
    item=37,
)
@pytest.mark.parametrize("destination", [C, FAR, "203.0.113.11"])
def test_not_transitive(destination: str) -> None:
    network = Network(STAR)
    assert network.send("b", IP(src=B, dst=A) / ICMP()).to == "a"
    result = network.send("b", IP(src=B, dst=destination) / ICMP())
    assert (result.reason, result.sent) == (Reason.PEER_DESTINATION, ())
    nat = network.send("b", IP(src=B, dst="10.0.9.5") / UDP(sport=5, dport=53))
    assert nat.sent == ()


@behaviour("Both sides of a peering need routes: with one, requests arrive and answers are dropped", source=BASICS)
def test_one_sided_route() -> None:
    network = Network(changed(PEERED, ('          - {destination: 10.0.0.0/16, target: "peering:a-b"}\n', "")))
    assert network.send("a", IP(src=A, dst=B) / ICMP(id=7)).to == "b"
    result = network.send("b", IP(src=B, dst=A) / ICMP(type=0, id=7))
    assert (result.reason, result.sent) == (Reason.NO_ROUTE, ())


@behaviour(
    "A peering changes no address: each side sees the other's private ones", source=peering_guide("what-is-vpc-peering")
)
def test_addresses() -> None:
    network = Network(PEERED)
    seen = network.send("a", IP(src=A, dst=B) / TCP(sport=5000, dport=80)).packet
    assert (seen.src, seen.dst, seen[TCP].sport) == (A, B, 5000)
    seen = network.send("b", IP(src=B, dst=A) / TCP(sport=80, dport=5000, flags="SA")).packet
    assert (seen.src, seen.dst) == (B, A)


@behaviour("Only an active peering carries traffic; routes to any other are blackholes", source=BASICS)
@pytest.mark.parametrize(
    "status", ["pending-acceptance", "provisioning", "expired", "rejected", "failed", "deleting", "deleted"]
)
def test_states(status: str) -> None:
    network = Network(PEERED)
    assert network.send("a", IP(src=A, dst=B) / ICMP(id=7)).to == "b"
    network.apply(changed(PEERED, ("accepter: b}", f"accepter: b, status: {status}}}")))
    for node, source, destination in (("a", A, B), ("b", B, A)):
        result = network.send(node, IP(src=source, dst=destination) / ICMP(id=7))
        assert (result.reason, result.sent) == (Reason.BLACKHOLE, ())


@behaviour("VPCs with overlapping blocks are not peered, be it of parts nobody uses", source=BASICS)
@pytest.mark.parametrize(
    "block", ["cidr: 10.0.0.0/16", "cidr: 10.0.128.0/17", "cidr: 10.1.0.0/16\n    secondary_cidrs: [10.0.200.0/24]"]
)
def test_overlap(block: str) -> None:
    text = changed(
        PEERED,
        ("cidr: 10.1.0.0/16\n    ipv6_cidrs", f"{block}\n    ipv6_cidrs"),
        ("cidr: 10.1.1.0/24", "cidr: 10.1.1.0/24"),
    )
    assert any(path.startswith("peerings.a-b") for path, _ in refused(text))


@behaviour("Two VPCs have one peering", source=BASICS)
@pytest.mark.parametrize("ends", ["requester: a, accepter: b", "requester: b, accepter: a"])
def test_one_peering(ends: str) -> None:
    found = refused(changed(PEERED, ("  a-b: {requester", f"  again: {{{ends}}}\n  a-b: {{requester")))
    assert {code for _, code in found} == {"VpcPeeringConnectionAlreadyExists"}


@behaviour("IPv6 crosses a peering by routes of its own", source=BASICS)
def test_ipv6() -> None:
    ping = IPv6(src="2001:db8:a:1::11", dst="2001:db8:b:1::11") / ICMPv6EchoRequest()
    assert Network(PEERED).send("a", ping).to == "b"
    without = changed(PEERED, ('          - {destination: "2001:db8:b::/56", target: "peering:a-b"}\n', ""))
    assert Network(without).send("a", ping).reason is Reason.NO_ROUTE
    assert Network(without).send("a", IP(src=A, dst=B) / ICMP()).to == "b"


@behaviour(
    "What comes by a peering is delivered by address: no route table of the VPC it enters is asked",
    source=vpc_guide("gateway-route-tables"),
)
def test_delivery_by_address() -> None:
    back = '- {destination: 10.0.0.0/16, target: "peering:a-b"}'
    to_fw = '- {destination: 10.1.0.0/16, target: "instance:fw"}'
    fw = "  fw: {vpc: b, subnet: net, private_ip: 10.1.1.12, source_dest_check: false}\n"
    text = changed(PEERED, (back, f"{to_fw}\n          {back}"), ("instances:\n", "instances:\n" + fw))
    assert Network(text).send("a", IP(src=A, dst=B) / ICMP()).to == "b"


@behaviour("An address of the peer VPC that nobody has is nowhere", source=BASICS)
def test_nobody() -> None:
    result = Network(PEERED).send("a", IP(src=A, dst="10.1.1.99") / ICMP())
    assert (result.reason, result.sent) == (Reason.DESTINATION_UNKNOWN, ())
