"""Route tables: which table, which route, and what a route leads to."""

from __future__ import annotations

import pytest
from scapy.layers.inet import ICMP, IP, UDP
from scapy.layers.inet6 import ICMPv6EchoRequest, IPv6

from dataplane.verdict import Reason
from tests.conformance.behaviours import behaviour
from tests.conformance.labs import changed
from tests.conformance.sources import ec2_api, ec2_guide, reachability, vpc_guide, vpn_guide
from tests.scenario.network import Network

SECTION = "Route tables"

A1, A2, B1 = "10.0.1.11", "10.0.1.12", "10.0.2.11"
PRIORITY = vpc_guide("route-tables-priority")
SUBNETS = vpc_guide("subnet-route-tables")

# Subnets a and b; in a third one two appliances that forward for others, fw and spare. ROUTES is a's table.
LAB = """
version: 1
vpcs:
  v:
    cidr: 10.0.0.0/16
    ipv6_cidrs: ["2001:db8:a::/56"]
    internet_gateway: {}
    subnets:
      a: {cidr: 10.0.1.0/24, ipv6_cidr: "2001:db8:a:1::/64", route_table: a}
      b: {cidr: 10.0.2.0/24, ipv6_cidr: "2001:db8:a:2::/64"}
      middle: {cidr: 10.0.3.0/24, ipv6_cidr: "2001:db8:a:3::/64"}
    route_tables:
      a:
        routes: [ROUTES]
    security_groups: {open: {description: all, ingress: [{protocol: all, source: 0.0.0.0/0},
      {protocol: all, source: "::/0"}]}}
instances:
  a1: {vpc: v, subnet: a, private_ip: 10.0.1.11, ipv6_address: "2001:db8:a:1::11", security_groups: [open]}
  a2: {vpc: v, subnet: a, private_ip: 10.0.1.12, security_groups: [open]}
  b1: {vpc: v, subnet: b, private_ip: 10.0.2.11, ipv6_address: "2001:db8:a:2::11", security_groups: [open]}
  fw: {vpc: v, subnet: middle, private_ip: 10.0.3.11, ipv6_address: "2001:db8:a:3::11", security_groups: [open],
    source_dest_check: false, elastic_ip: 203.0.113.3}
  spare: {vpc: v, subnet: middle, private_ip: 10.0.3.12, security_groups: [open], source_dest_check: false}
internet:
  hosts: {far: {address: 198.51.100.10, ipv6_address: "2001:db8:99::10"}}
"""


def lab(*routes: str) -> str:
    """The lab with these routes in a's table, each written ``DESTINATION -> TARGET``."""
    written = []
    for route in routes:
        destination, _, target = route.partition(" -> ")
        written.append(f'{{destination: "{destination}", target: "{target}"}}')
    return LAB.replace("ROUTES", ", ".join(written))


def receiver(network: Network, destination: str, source: str = A1) -> str:
    """Who gets a datagram of a1; empty: nobody."""
    result = network.send("a1", IP(src=source, dst=destination) / UDP(sport=5, dport=6))
    return result.to if result.sent else ""


@behaviour(
    "Of two routes for an address the one with the longer prefix is used, in whatever order they are", source=PRIORITY
)
def test_longest_prefix() -> None:
    routes = ["192.0.2.0/24 -> instance:fw", "192.0.2.128/25 -> instance:spare", "0.0.0.0/0 -> blackhole"]
    for order in (routes, routes[::-1]):
        network = Network(lab(*order))
        assert [receiver(network, f"192.0.2.{n}") for n in (127, 128, 255)] == ["fw", "spare", "spare"]


@behaviour("A subnet without a route table of its own uses the main one", source=SUBNETS)
def test_main_table() -> None:
    own, main = "      a:\n", "      a:\n        main: true\n"
    text = lab("192.0.2.0/24 -> instance:fw")
    probe = IP(src=B1, dst="192.0.2.1") / UDP(sport=5, dport=6)
    assert Network(text).send("b1", probe).reason is Reason.NO_ROUTE
    assert Network(changed(text, (own, main))).send("b1", probe).to == "fw"


@behaviour("A route for 0.0.0.0/0 says nothing about IPv6", source=SUBNETS)
def test_families_are_apart() -> None:
    probe = IPv6(src="2001:db8:a:1::11", dst="2001:db8:99::10") / ICMPv6EchoRequest()
    result = Network(lab("0.0.0.0/0 -> internet-gateway")).send("a1", probe)
    assert (result.reason, result.sent) == (Reason.NO_ROUTE, ())
    assert Network(lab("::/0 -> internet-gateway")).send("a1", probe).to == "far"


@behaviour("A packet for which there is no route is dropped, and nobody is told", source=reachability())
def test_no_route() -> None:
    result = Network(lab()).send("a1", IP(src=A1, dst="198.51.100.10") / UDP(sport=5, dport=6))
    assert (result.reason, result.sent) == (Reason.NO_ROUTE, ())


@behaviour(
    "A blackhole route that is more specific than a live one wins, and drops",
    source=ec2_api("Route"),
    item=14,
)
def test_blackhole_wins() -> None:
    network = Network(lab("0.0.0.0/0 -> instance:fw", "192.0.2.0/24 -> blackhole"))
    result = network.send("a1", IP(src=A1, dst="192.0.2.7") / UDP(sport=5, dport=6))
    assert (result.reason, result.sent) == (Reason.BLACKHOLE, ())
    assert receiver(network, "192.0.3.7") == "fw"


@behaviour("A route whose target is detached is a blackhole", source=ec2_api("Route"))
def test_detached_target() -> None:
    def text(attached: bool) -> str:
        attachment = "attachment: {instance: fw, device_index: 1}, " if attached else ""
        extra = f"    network_interfaces: {{extra: {{subnet: middle, {attachment}source_dest_check: false,\n"
        extra += "      security_groups: [open]}}\n    security_groups:"
        routes = lab("0.0.0.0/0 -> instance:spare", "192.0.2.0/24 -> network-interface:extra")
        return changed(routes, ("    security_groups:", extra))

    network = Network(text(attached=True))
    assert receiver(network, "192.0.2.7") == "fw"
    network.apply(text(attached=False))
    result = network.send("a1", IP(src=A1, dst="192.0.2.7") / UDP(sport=5, dport=6))
    assert (result.reason, result.sent) == (Reason.BLACKHOLE, ())


@behaviour(
    "With subnet B's block routed to an appliance, what goes to B passes it, and what stays in the subnet does not",
    source=SUBNETS,
    item=16,
)
def test_more_specific_than_local() -> None:
    network = Network(lab("10.0.2.0/24 -> instance:fw"))
    seen = network.send("a1", IP(src=A1, dst=B1) / ICMP())
    assert (seen.to, seen.packet.src, seen.packet.dst) == ("fw", A1, B1)
    assert network.send("a1", IP(src=A1, dst=A2) / ICMP()).to == "a2"
    assert network.send("fw", IP(src=A1, dst=B1) / ICMP()).to == "b1"  # its own subnet's table is another


@behaviour("The target of local may be replaced: then an appliance gets all traffic between subnets", source=SUBNETS)
def test_replaced_local() -> None:
    network = Network(lab("10.0.0.0/16 -> instance:fw"))
    assert [receiver(network, to) for to in (B1, "10.0.3.12", A2)] == ["fw", "fw", "a2"]
    network.apply(lab("10.0.0.0/16 -> local"))
    assert [receiver(network, to) for to in (B1, "10.0.3.12", A2)] == ["b1", "spare", "a2"]


@behaviour(
    "Hosts of one subnet cannot be steered through an appliance by a route", source=vpc_guide("route-table-options")
)
def test_own_subnet_is_not_routed() -> None:
    network = Network(lab("10.0.1.0/24 -> instance:fw"))
    assert receiver(network, A2) == "a2"


@behaviour("A changed route decides about the next packet of a flow that is open", source=ec2_guide("ena-nitro-perf"))
def test_changed_route() -> None:
    network = Network(lab("192.0.2.0/24 -> instance:fw"))
    assert [receiver(network, "192.0.2.7") for _ in range(3)] == ["fw"] * 3
    network.apply(lab("192.0.2.0/24 -> instance:spare"))
    assert receiver(network, "192.0.2.7") == "spare"
    network.apply(lab())
    assert receiver(network, "192.0.2.7") == ""


@behaviour(
    "A static route is used before a propagated one for the same prefix, and one of a prefix list before it too",
    source=PRIORITY,
    item=12,
)
@pytest.mark.parametrize("destination", ["192.0.2.0/24", "prefix-list:list"])
def test_static_before_propagated(destination: str) -> None:
    text = lab(f"{destination} -> instance:fw") + "prefix_lists: {list: {entries: [{cidr: 192.0.2.0/24}]}}\n"
    learned = 'propagated_routes: [{destination: 192.0.2.0/24, target: "instance:spare"}]\n    security_groups:'
    text = changed(text, ("    security_groups:", "        " + learned))
    assert receiver(Network(text), "192.0.2.7") == "fw"
    alone = changed(text, (f'{{destination: "{destination}", target: "instance:fw"}}', ""))
    assert receiver(Network(alone), "192.0.2.7") == "spare"


@behaviour(
    "A propagated route inside the VPC's block loses to local, though it is more specific",
    source=vpn_guide("VPNRoutingTypes"),
    item=13,
)
def test_propagated_inside_the_vpc() -> None:
    learned = 'propagated_routes: [{destination: 10.0.2.0/24, target: "instance:spare"}]\n    security_groups:'
    network = Network(changed(lab(), ("    security_groups:", "        " + learned)))
    assert receiver(network, B1) == "b1"


@behaviour("The IPv6 block of a subnet may be routed to an appliance like its IPv4 block", source=SUBNETS)
def test_ipv6_more_specific_than_local() -> None:
    network = Network(lab("2001:db8:a:2::/64 -> instance:fw"))
    probe = IPv6(src="2001:db8:a:1::11", dst="2001:db8:a:2::11") / ICMPv6EchoRequest()
    assert network.send("a1", probe).to == "fw"
    assert receiver(network, B1) == "b1"
