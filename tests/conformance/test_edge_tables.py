"""Gateway route tables: traffic that comes in by the internet gateway goes to an appliance first."""

from __future__ import annotations

import pytest
from scapy.layers.inet import ICMP, IP, TCP, UDP
from scapy.layers.inet6 import ICMPv6EchoRequest, IPv6

from dataplane.verdict import Reason
from tests.conformance.behaviours import behaviour
from tests.conformance.labs import accepted, changed, refused
from tests.conformance.sources import reachability, vpc_guide
from tests.scenario.network import Network

SECTION = "Edge route tables"

PAGE = vpc_guide("gateway-route-tables")
WEB, OTHER, FAR, WEB_PUBLIC, OTHER_PUBLIC = "10.0.1.11", "10.0.2.11", "198.51.100.10", "203.0.113.11", "203.0.113.12"
AT = "vpcs.v.internet_gateway.route_table"

# Subnets web and other, and the appliance fw in one of its own, which everything of web passes both ways.
LAB = """
version: 1
vpcs:
  v:
    cidr: 10.0.0.0/16
    ipv6_cidrs: ["2001:db8:a::/56"]
    internet_gateway: {route_table: edge}
    subnets:
      web: {cidr: 10.0.1.0/24, ipv6_cidr: "2001:db8:a:1::/64", route_table: web}
      other: {cidr: 10.0.2.0/24, route_table: direct}
      middle: {cidr: 10.0.3.0/24, ipv6_cidr: "2001:db8:a:3::/64", route_table: direct}
    route_tables:
      edge: {routes: [{destination: 10.0.1.0/24, target: "instance:fw"}]}
      web: {routes: [{destination: 0.0.0.0/0, target: "instance:fw"}]}
      direct:
        routes:
          - {destination: 0.0.0.0/0, target: internet-gateway}
          - {destination: 10.9.0.0/16, target: "peering:v-p"}
    security_groups: {open: {description: all, ingress: [{protocol: all, source: 0.0.0.0/0},
      {protocol: all, source: "::/0"}]}}
  p:
    cidr: 10.9.0.0/16
    subnets: {net: {cidr: 10.9.1.0/24, route_table: main}}
    route_tables: {main: {routes: [{destination: 10.0.0.0/16, target: "peering:v-p"}]}}
peerings:
  v-p: {requester: v, accepter: p}
instances:
  web: {vpc: v, subnet: web, private_ip: 10.0.1.11, ipv6_address: "2001:db8:a:1::11", security_groups: [open],
    elastic_ip: 203.0.113.11}
  other: {vpc: v, subnet: other, private_ip: 10.0.2.11, security_groups: [open], elastic_ip: 203.0.113.12}
  fw: {vpc: v, subnet: middle, private_ip: 10.0.3.11, ipv6_address: "2001:db8:a:3::11", security_groups: [open],
    elastic_ip: 203.0.113.3, source_dest_check: false}
  peer: {vpc: p, subnet: net, private_ip: 10.9.1.11}
internet:
  hosts: {far: {address: 198.51.100.10, ipv6_address: "2001:db8:99::10"}}
"""
EDGE = '{destination: 10.0.1.0/24, target: "instance:fw"}'
DIRECT = changed(
    LAB,
    (
        '      web: {routes: [{destination: 0.0.0.0/0, target: "instance:fw"}]}',
        "      web: {routes: [{destination: 0.0.0.0/0, target: internet-gateway}]}",
    ),
)


def inbound(public: str) -> IP:
    return IP(src=FAR, dst=public) / TCP(sport=5000, dport=80)


@behaviour(
    "With an edge route for its subnet to an appliance, what the internet sends an instance goes to the appliance, "
    "already translated to the instance's private address",
    source=PAGE,
    item=17,
)
def test_appliance_sees_the_private_address() -> None:
    network = Network(LAB)
    result = network.send("far", inbound(WEB_PUBLIC))
    assert (result.to, result.packet.src, result.packet.dst) == ("fw", FAR, WEB)
    assert network.send("far", inbound(OTHER_PUBLIC)).to == "other"


@behaviour(
    "A subnet whose incoming traffic the edge table redirects cannot use a direct route to the internet gateway",
    source=reachability(),
    item=18,
)
def test_no_way_around_the_appliance() -> None:
    network = Network(DIRECT)
    result = network.send("web", IP(src=WEB, dst=FAR) / TCP(sport=80, dport=5000, flags="SA"))
    assert (result.reason, result.sent) == (Reason.EDGE_REDIRECTED, ())
    assert network.send("other", IP(src=OTHER, dst=FAR) / ICMP()).to == "far"


@behaviour(
    "Through the appliance both ways a connection from the internet works, under the instance's own Elastic IP",
    source=vpc_guide("route-table-options"),
)
def test_round_trip() -> None:
    network = Network(LAB)
    packet = network.send("far", inbound(WEB_PUBLIC)).packet
    assert network.send("fw", packet).to == "web"
    answer = network.send("web", IP(src=WEB, dst=FAR) / TCP(sport=80, dport=5000, flags="SA"))
    assert (answer.to, answer.packet.src) == ("fw", WEB)
    outside = network.send("fw", answer.packet)
    assert (outside.to, outside.packet.src, outside.packet[TCP].sport) == ("far", WEB_PUBLIC, 80)


@behaviour(
    "An appliance without a public address of its own is given nothing from the internet gateway",
    source=reachability(),
)
def test_appliance_needs_a_public_address() -> None:
    network = Network(changed(LAB, ("elastic_ip: 203.0.113.3, ", "")))
    result = network.send("far", inbound(WEB_PUBLIC))
    assert (result.reason, result.sent) == (Reason.EDGE_NO_PUBLIC_ADDRESS, ())


@behaviour(
    "An edge route for the VPC's whole block redirects all subnets but the appliance's and those with their own route",
    silent=True,
    source=PAGE,
)
def test_whole_vpc() -> None:
    whole = '{destination: 10.0.0.0/16, target: "instance:fw"}'
    network = Network(changed(DIRECT, (EDGE, f"{whole}, {{destination: 10.0.2.0/24, target: local}}")))
    assert [network.send("far", inbound(to)).to for to in (WEB_PUBLIC, OTHER_PUBLIC)] == ["fw", "other"]
    assert network.send("far", inbound("203.0.113.3")).to == "fw"
    assert network.send("fw", IP(src="10.0.3.11", dst=FAR) / ICMP()).to == "far"
    assert network.send("other", IP(src=OTHER, dst=FAR) / ICMP()).to == "far"
    assert network.send("web", IP(src=WEB, dst=FAR) / ICMP()).reason is Reason.EDGE_REDIRECTED


@behaviour("Edge routes are for IPv6 blocks of subnets as well", source=PAGE)
def test_ipv6() -> None:
    network = Network(changed(LAB, (EDGE, '{destination: "2001:db8:a:1::/64", target: "instance:fw"}')))
    ping = IPv6(src="2001:db8:99::10", dst="2001:db8:a:1::11") / ICMPv6EchoRequest()
    assert network.send("far", ping).to == "fw"
    assert network.send("far", inbound(WEB_PUBLIC)).to == "web"


@behaviour("What comes by a peering is not redirected by the internet gateway's table", source=PAGE)
def test_peering_is_not_redirected() -> None:
    result = Network(LAB).send("peer", IP(src="10.9.1.11", dst=WEB) / UDP(sport=5, dport=6))
    assert result.to == "web"


@behaviour("An edge route to an interface that is not attached drops", source=PAGE)
def test_target_is_gone() -> None:
    extra = """    network_interfaces:
      extra: {subnet: middle, private_ips: [10.0.3.50], elastic_ips: {10.0.3.50: 203.0.113.50}}
    security_groups: {open"""
    text = changed(
        LAB,
        ("    security_groups: {open", extra),
        (EDGE, "{destination: 10.0.1.0/24, target: network-interface:extra}"),
    )
    result = Network(text).send("far", inbound(WEB_PUBLIC))
    assert (result.reason, result.sent) == (Reason.BLACKHOLE, ())


@behaviour(
    "What is for an Elastic IP of an interface that is not attached is not redirected: the gateway does not take it",
    source=reachability(),
)
def test_elastic_ip_of_a_detached_interface() -> None:
    def text(attachment: str) -> str:
        extra = f"""    network_interfaces:
      extra: {{subnet: web, private_ips: [10.0.1.50], elastic_ips: {{10.0.1.50: 203.0.113.50}}{attachment}}}
    security_groups: {{open"""
        return changed(LAB, ("    security_groups: {open", extra))

    network = Network(text(", attachment: {instance: web, device_index: 1}"))
    for _ in range(2):
        assert network.send("far", inbound("203.0.113.50")).to == "fw"
        network.apply(text(""))
        result = network.send("far", inbound("203.0.113.50"))
        assert (result.reason, result.by) == (Reason.PUBLIC_DESTINATION_MISSING, "internet-gateway v")
        network.apply(text(", attachment: {instance: web, device_index: 1}"))


@behaviour("An edge route is for a whole block of the VPC or of a subnet, and leads to an interface", source=PAGE)
@pytest.mark.parametrize(
    ("destination", "target", "fits"),
    [
        ("10.0.0.0/16", "instance:fw", True),
        ("10.0.2.0/24", "network-interface:fw/eth0", True),
        ("10.0.1.0/24", "local", True),
        ("10.0.1.0/25", "instance:fw", False),
        ("192.0.2.0/24", "instance:fw", False),
        ("0.0.0.0/0", "instance:fw", False),
        ("10.0.1.0/24", "nat-gateway:nat", False),
        ("10.0.1.0/24", "internet-gateway", False),
    ],
)
def test_routes_of_an_edge_table(destination: str, target: str, fits: bool) -> None:
    nat = "    nat_gateways: {nat: {subnet: other, elastic_ip: 203.0.113.9}}\n    security_groups: {open"
    text = changed(
        LAB, (EDGE, f'{{destination: {destination}, target: "{target}"}}'), ("    security_groups: {open", nat)
    )
    if fits:
        accepted(text)
    else:
        assert refused(text)


@behaviour("An edge table has no routes to prefix lists and no propagated ones, and is not the main table", source=PAGE)
def test_what_an_edge_table_is_not() -> None:
    lists = "prefix_lists: {subnets: {entries: [{cidr: 10.0.1.0/24}]}}\n"
    listed = changed(LAB, (EDGE, '{destination: "prefix-list:subnets", target: "instance:fw"}')) + lists
    at = "vpcs.v.route_tables.edge.routes[0].destination"
    assert (at, "InvalidParameterValue") in refused(listed)
    learned = '], propagated_routes: [{destination: 10.0.1.0/24, target: "instance:fw"}]}'
    assert (AT, "InvalidParameterValue") in refused(changed(LAB, (EDGE + "]}", learned)))
    main = changed(LAB, ("      edge: {routes", "      edge: {main: true, routes"))
    assert (AT, "InvalidParameterValue") in refused(main)
