"""Routes and prefix lists that EC2 refuses, and what prefix lists do in route tables."""

from __future__ import annotations

import pytest
from scapy.layers.inet import IP, UDP

from dataplane.verdict import Reason
from tests.conformance.behaviours import behaviour
from tests.conformance.labs import accepted, changed, refused
from tests.conformance.sources import ec2_api, vpc_guide
from tests.conformance.test_route_tables import A1, lab, receiver
from tests.scenario.network import Network

SECTION = "Route tables"

SUBNETS = vpc_guide("subnet-route-tables")
LISTS = vpc_guide("managed-prefix-lists")
AT = "vpcs.v.route_tables.a.routes[0]"


def listed(*cidrs: str, target: str = "instance:fw", more: str = "") -> str:
    """A route to a prefix list of these blocks."""
    entries = ", ".join(f'{{cidr: "{cidr}"}}' for cidr in cidrs)
    return lab(f"prefix-list:list -> {target}") + f"prefix_lists: {{list: {{entries: [{entries}]{more}}}}}\n"


@behaviour(
    "A route into 169.254.168.0/22 or fd00:ec2::/32 is refused; a wider one takes no packet for these to its target",
    source=SUBNETS,
    item=15,
)
def test_link_local_services() -> None:
    for destination in (
        "169.254.169.0/24",
        "169.254.168.0/22",
        "169.254.169.254/32",
        "fd00:ec2::/32",
        "fd00:ec2::254/128",
    ):
        assert refused(lab(f"{destination} -> instance:fw")) == {(f"{AT}.destination", "InvalidParameterValue")}
    network = Network(lab("169.254.0.0/16 -> instance:fw"))
    for address in ("169.254.169.254", "169.254.169.253", "169.254.169.123"):
        assert receiver(network, address) == ""


@behaviour("A route more specific than local is for the whole block of a subnet, or refused", source=SUBNETS)
@pytest.mark.parametrize("destination", ["10.0.2.0/25", "10.0.2.0/23", "10.0.2.11/32", "2001:db8:a:2::/65"])
def test_more_specific_than_local(destination: str) -> None:
    assert refused(lab(f"{destination} -> instance:fw")) == {(f"{AT}.destination", "InvalidParameterValue")}


@behaviour("A route more specific than local does not lead out of the VPC", source=SUBNETS)
def test_targets_inside_the_vpc() -> None:
    assert refused(lab("10.0.2.0/24 -> internet-gateway")) == {(f"{AT}.target", "InvalidParameterValue")}
    assert refused(lab("10.0.0.0/16 -> internet-gateway")) == {(f"{AT}.target", "InvalidParameterValue")}
    for target in ("instance:fw", "network-interface:fw/eth0"):
        accepted(lab(f"10.0.2.0/24 -> {target}"))


@behaviour("Local is no target outside of the VPC's blocks", source=vpc_guide("route-table-options"))
def test_local_outside() -> None:
    assert refused(lab("192.0.2.0/24 -> local")) == {(f"{AT}.target", "InvalidParameterValue")}


@behaviour("A table has one route for a destination", source=ec2_api("CreateRoute"))
def test_duplicate() -> None:
    found = refused(lab("192.0.2.0/24 -> instance:fw", "192.0.2.0/24 -> instance:spare"))
    assert found == {("vpcs.v.route_tables.a.routes[1].destination", "RouteAlreadyExists")}


@behaviour("A route to an internet gateway needs one attached to the VPC", source=ec2_api("CreateRoute"))
def test_no_gateway() -> None:
    text = changed(lab("0.0.0.0/0 -> internet-gateway"), ("    internet_gateway: {}\n", ""))
    assert (f"{AT}.target", "Gateway.NotAttached") in refused(text)


@behaviour("A route table holds 500 routes of each family besides local", source=vpc_guide("amazon-vpc-limits"))
def test_quota() -> None:
    routes = [f"192.0.{n >> 8}.{n & 255}/32 -> blackhole" for n in range(500)]
    more = [f"2001:db8:ffff::{n:x}/128 -> blackhole" for n in range(500)]
    accepted(lab(*routes, *more))
    assert {code for _, code in refused(lab(*routes, "192.0.3.0/24 -> blackhole"))} == {"RouteLimitExceeded"}


@behaviour(
    "A prefix list counts towards the routes of a table with the entries it may have, not those it has",
    source=LISTS,
    section="Prefix lists",
)
def test_weight() -> None:
    assert {code for _, code in refused(listed("192.0.2.0/24", more=", max_entries: 501"))} == {"RouteLimitExceeded"}
    accepted(listed("192.0.2.0/24", more=", max_entries: 500"))


@behaviour("A route to a prefix list is a route to each of its blocks", source=LISTS, section="Prefix lists")
def test_routes_of_a_list() -> None:
    network = Network(listed("192.0.2.0/25", "198.51.100.0/24"))
    found = [receiver(network, to) for to in ("192.0.2.1", "192.0.2.200", "198.51.100.7")]
    assert found == ["fw", "", "fw"]


@behaviour(
    "For one prefix a static route is used before that of a prefix list; a longer one of a list before a static one",
    source=vpc_guide("route-tables-priority"),
    section="Prefix lists",
)
def test_static_before_list() -> None:
    lists = "prefix_lists: {list: {entries: [{cidr: 192.0.2.0/24}, {cidr: 198.51.100.0/25}]}}\n"
    static = ("192.0.2.0/24 -> instance:spare", "198.51.100.0/24 -> instance:spare")
    for order in ((*static, "prefix-list:list -> instance:fw"), ("prefix-list:list -> instance:fw", *static)):
        network = Network(lab(*order) + lists)
        found = [receiver(network, to) for to in ("192.0.2.1", "198.51.100.1", "198.51.100.200")]
        assert found == ["spare", "fw", "spare"]


@behaviour(
    "Of two prefix lists with one block in a table the route that is written first is used, and stays used",
    silent=True,
    source=vpc_guide("route-tables-priority"),
    section="Prefix lists",
)
def test_equal_blocks_of_two_lists() -> None:
    """AWS chooses at random, and then stays with it."""
    lists = "prefix_lists: {one: {entries: [{cidr: 192.0.2.0/24}]}, two: {entries: [{cidr: 192.0.2.0/24}]}}\n"
    routes = ["prefix-list:one -> instance:fw", "prefix-list:two -> instance:spare"]
    for order, to in ((routes, "fw"), (routes[::-1], "spare")):
        network = Network(lab(*order) + lists)
        assert {receiver(network, f"192.0.2.{n}") for n in range(1, 9)} == {to}


@behaviour("A changed prefix list changes every route to it with the next packet", source=LISTS, section="Prefix lists")
def test_newest_version() -> None:
    network = Network(listed("192.0.2.0/24"))
    assert receiver(network, "192.0.2.1") == "fw"
    network.apply(listed("198.51.100.0/24"))
    result = network.send("a1", IP(src=A1, dst="192.0.2.1") / UDP(sport=5, dport=6))
    assert (result.reason, receiver(network, "198.51.100.1")) == (Reason.NO_ROUTE, "fw")


@behaviour(
    "A prefix list holds blocks of one family, and no more than its maximum", source=LISTS, section="Prefix lists"
)
def test_list_refusals() -> None:
    assert refused(listed("192.0.2.0/24", "2001:db8:7::/48"))
    found = refused(listed("192.0.2.0/24", "198.51.100.0/24", more=", max_entries: 1"))
    assert "PrefixListMaxEntriesExceeded" in {code for _, code in found}
    assert refused(listed("192.0.2.0/24", more=", max_entries: 1001"))
