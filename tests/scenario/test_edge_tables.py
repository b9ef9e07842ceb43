"""Gateway route tables, and routes that a route server propagated.

https://docs.aws.amazon.com/vpc/latest/userguide/gateway-route-tables.html
https://docs.aws.amazon.com/vpc/latest/userguide/route-tables-priority.html
"""

from __future__ import annotations

import pytest
from scapy.layers.inet import IP, TCP, UDP
from scapy.layers.inet6 import IPv6

from dataplane.verdict import Reason
from tests.scenario.network import Network

# The example of the page: an internet gateway whose table sends what is for subnet `apps` to a middlebox, which has a
# public address and no source/destination check; the subnet's own way out leads through it too.
LAB = """
version: 1
name: middlebox
vpcs:
  shop:
    cidr: 10.0.0.0/16
    ipv6_cidrs: ["2001:db8:10::/56"]
    internet_gateway: {route_table: ingress}
    subnets:
      edge: {cidr: 10.0.1.0/24, ipv6_cidr: "2001:db8:10:1::/64", availability_zone: a, route_table: edge}
      apps: {cidr: 10.0.2.0/24, ipv6_cidr: "2001:db8:10:2::/64", availability_zone: a, route_table: apps}
      more: {cidr: 10.0.3.0/24, ipv6_cidr: "2001:db8:10:3::/64", availability_zone: a, route_table: edge}
    route_tables:
      ingress:
        routes:
          - {destination: 10.0.2.0/24, target: "network-interface:box"}
          - {destination: "2001:db8:10:2::/64", target: "network-interface:box"}
      edge:
        routes:
          - {destination: 0.0.0.0/0, target: internet-gateway}
          - {destination: "::/0", target: internet-gateway}
      apps: {routes: [{destination: 0.0.0.0/0, target: "network-interface:box"}]}
    security_groups:
      open:
        description: everything
        ingress: [{protocol: all, source: 0.0.0.0/0}, {protocol: all, source: "::/0"}]
    network_interfaces:
      box: {subnet: edge, private_ips: [10.0.1.20], elastic_ips: {10.0.1.20: 203.0.113.21}, security_groups: [open],
        source_dest_check: false, attachment: {instance: fw, device_index: 1}}
instances:
  fw: {vpc: shop, subnet: edge, private_ip: 10.0.1.10, security_groups: [open]}
  app: {vpc: shop, subnet: apps, private_ip: 10.0.2.10, ipv6_address: "2001:db8:10:2::10", elastic_ip: 203.0.113.20,
    security_groups: [open]}
  aside: {vpc: shop, subnet: more, private_ip: 10.0.3.10, ipv6_address: "2001:db8:10:3::10", elastic_ip: 203.0.113.30,
    security_groups: [open]}
internet:
  hosts:
    far: {address: 198.51.100.10, ipv6_address: "2001:db8:99::10"}
"""
APP, FAR, APP6, FAR6 = "10.0.2.10", "198.51.100.10", "2001:db8:10:2::10", "2001:db8:99::10"
TO_APP, TO_ASIDE = IP(src=FAR, dst="203.0.113.20") / UDP(sport=5, dport=6), IP(src=FAR, dst="203.0.113.30") / UDP()
WHOLE = LAB.replace("destination: 10.0.2.0/24, target", "destination: 10.0.0.0/16, target")
"""The route is for the whole VPC."""
DIRECT = LAB.replace('apps: {routes: [{destination: 0.0.0.0/0, target: "network-interface:box"}]}',
                     'apps: {routes: [{destination: 0.0.0.0/0, target: internet-gateway},'
                     ' {destination: "::/0", target: internet-gateway}]}')  # fmt: skip
"""Subnet `apps` has a way out past the middlebox."""


def test_middlebox_gets_what_comes_in_with_the_private_destination() -> None:
    result = Network(LAB).send("far", TO_APP)
    assert (result.to, result.packet.src, result.packet.dst) == ("fw", FAR, APP)
    assert result.sent[0].ether.dst == Network(LAB).plane.interface(Network(LAB).port("fw/eth1")).mac.hex(":")


def test_ipv6_too() -> None:
    result = Network(LAB).send("far", IPv6(src=FAR6, dst=APP6) / UDP())
    assert (result.to, result.packet.dst) == ("fw", APP6)


def test_other_subnets_get_theirs_directly() -> None:
    assert Network(LAB).send("far", TO_ASIDE).to == "aside"


def test_round_trip_through_the_middlebox() -> None:
    """It forwards the packet to its own subnet's router; the answer comes by it too, and leaves as the app's."""
    net = Network(LAB)
    net.send("far", TO_APP)
    assert net.send("fw/eth1", IP(src=FAR, dst=APP) / UDP(sport=5, dport=6)).to == "app"
    answer = net.send("app", IP(src=APP, dst=FAR) / UDP(sport=6, dport=5))
    assert (answer.to, answer.packet.src) == ("fw", APP)
    outside = net.send("fw/eth1", IP(src=APP, dst=FAR) / UDP(sport=6, dport=5))
    assert (outside.to, outside.packet.src) == ("far", "203.0.113.20")


def test_middlebox_without_a_public_address_gets_nothing() -> None:
    """Reachability Analyzer: INGRESS_RTB_NO_PUBLIC_IP. IPv6 needs none."""
    net = Network(LAB.replace("elastic_ips: {10.0.1.20: 203.0.113.21}, ", ""))
    result = net.send("far", TO_APP)
    assert (result.reason, result.sent) == (Reason.EDGE_NO_PUBLIC_ADDRESS, ())
    assert (result.by, result.rule) == (
        "route-table shop/ingress",
        "route shop/ingress 10.0.2.0/24 -> network-interface:box",
    )
    assert net.send("far", IPv6(src=FAR6, dst=APP6) / UDP()).to == "fw"


def test_middlebox_that_is_gone_is_a_blackhole() -> None:
    net = Network(LAB.replace(", attachment: {instance: fw, device_index: 1}", ""))
    result = net.send("far", TO_APP)
    assert (result.reason, result.by) == (Reason.BLACKHOLE, "route-table shop/ingress")
    assert result.rule == "route shop/ingress 10.0.2.0/24 -> network-interface:box"


def test_way_out_past_the_middlebox_is_refused() -> None:
    """Reachability Analyzer: INGRESS_RTB_TRAFFIC_REDIRECTION. The other subnets go out as ever."""
    net = Network(DIRECT)
    result = net.send("app", IP(src=APP, dst=FAR) / UDP())
    assert (result.reason, result.by, result.sent) == (Reason.EDGE_REDIRECTED, "internet-gateway shop", ())
    assert net.send("app", IPv6(src=APP6, dst=FAR6) / UDP()).reason is Reason.EDGE_REDIRECTED
    assert net.send("aside", IP(src="10.0.3.10", dst=FAR) / UDP()).to == "far"


def test_redirection_of_one_family_is_none_of_the_other() -> None:
    net = Network(
        DIRECT.replace('          - {destination: "2001:db8:10:2::/64", target: "network-interface:box"}\n', "")
    )
    assert net.send("app", IP(src=APP, dst=FAR) / UDP()).reason is Reason.EDGE_REDIRECTED
    assert net.send("app", IPv6(src=APP6, dst=FAR6) / UDP()).to == "far"


def test_route_for_the_whole_vpc_redirects_all_but_the_middleboxs_own_subnet() -> None:
    net = Network(WHOLE)
    assert net.send("far", TO_APP).to == net.send("far", TO_ASIDE).to == "fw"
    assert net.send("aside", IP(src="10.0.3.10", dst=FAR) / UDP()).reason is Reason.EDGE_REDIRECTED
    out = net.send("fw/eth1", IP(src="10.0.3.10", dst=FAR) / UDP())
    assert (out.to, out.packet.src) == ("far", "203.0.113.30")


def test_instance_as_target_means_its_first_interface() -> None:
    text = LAB.replace('"network-interface:box"', '"instance:app"').replace(
        "    network_interfaces:\n", "    ignored:\n"
    )
    lines = text.splitlines()
    start = lines.index("    ignored:")
    net = Network(
        "\n".join(lines[:start] + lines[start + 3 :]).replace("destination: 10.0.2.0/24", "destination: 10.0.3.0/24")
    )
    result = net.send("far", TO_ASIDE)
    assert (result.reason, result.by) == (Reason.DESTINATION_CHECK, "interface app/eth0")


PROPAGATED = """
version: 1
name: learned
prefix_lists:
  sites: {max_entries: 2, entries: [{cidr: 172.20.0.0/16}]}
vpcs:
  shop:
    cidr: 10.0.0.0/16
    subnets:
      apps: {cidr: 10.0.2.0/24, availability_zone: a, route_table: apps}
      edge: {cidr: 10.0.1.0/24, availability_zone: a}
    route_tables:
      apps:
        routes: []
        propagated_routes:
          - {destination: 172.20.0.0/16, target: "instance:first"}
          - {destination: 172.20.9.0/24, target: "instance:second"}
          - {destination: 10.0.1.0/24, target: "instance:first"}
          - {destination: 10.0.0.0/8, target: "instance:first"}
    security_groups:
      open: {description: everything, ingress: [{protocol: all, source: 0.0.0.0/0}]}
instances:
  first: {vpc: shop, subnet: edge, private_ip: 10.0.1.11, security_groups: [open], source_dest_check: false}
  second: {vpc: shop, subnet: edge, private_ip: 10.0.1.12, security_groups: [open], source_dest_check: false}
  third: {vpc: shop, subnet: edge, private_ip: 10.0.1.13, security_groups: [open], source_dest_check: false}
  app: {vpc: shop, subnet: apps, private_ip: 10.0.2.10, security_groups: [open]}
"""


def gets(text: str, destination: str) -> str:
    return Network(text).send("app", IP(src=APP, dst=destination) / TCP()).to


@pytest.mark.parametrize(
    ("routes", "winner"),
    [
        ("[]", "first"),
        ('[{destination: 172.20.0.0/16, target: "instance:third"}]', "third"),
        ('[{destination: "prefix-list:sites", target: "instance:third"}]', "third"),
        ('[{destination: 172.0.0.0/8, target: "instance:third"}]', "first"),
    ],
)
def test_of_one_prefix_static_then_prefix_list_then_propagated(routes: str, winner: str) -> None:
    assert gets(PROPAGATED.replace("routes: []", f"routes: {routes}"), "172.20.1.1") == winner


def test_more_specific_propagated_route_wins() -> None:
    static = PROPAGATED.replace("routes: []", 'routes: [{destination: 172.20.0.0/16, target: "instance:third"}]')
    assert gets(static, "172.20.9.255") == "second"


def test_local_wins_over_what_is_propagated_for_the_vpc_itself() -> None:
    """Even when it is more specific (VPN User Guide, "VPN routing options"); a wider one is for all around."""
    assert gets(PROPAGATED, "10.0.1.13") == "third"
    assert gets(PROPAGATED, "10.1.0.1") == "first"


def test_route_is_named_as_propagated() -> None:
    text = PROPAGATED.replace(
        'target: "instance:second"}\n          - {destination: 10.0.1',
        'target: "network-interface:gone"}\n          - {destination: 10.0.1',
    )
    spare = "    network_interfaces: {gone: {subnet: edge, private_ips: [10.0.1.50]}}\n"
    net = Network(text.replace("    security_groups:\n", f"{spare}    security_groups:\n", 1))
    result = net.send("app", IP(src=APP, dst="172.20.9.1") / UDP())
    assert (result.reason, result.rule) == (
        Reason.BLACKHOLE,
        "route shop/apps 172.20.9.0/24 (propagated) -> network-interface:gone",
    )
