from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dataplane.model._route_target import RouteTarget
from dataplane.model.route_table import RouteDestination
from dataplane.program import Drop, Lookup
from dataplane.verdict import Reason
from tests.unit.model.building import expect, instance, lab, peered, problems, program, routes, topology, vpc

LISTS = {
    "partners": {"entries": [{"cidr": "198.51.100.0/24"}, {"cidr": "192.0.2.0/24"}]},
    "inside": {"entries": [{"cidr": "10.0.3.0/24"}]},
    "six": {"family": "ipv6", "entries": [{"cidr": "2001:db8:5::/48"}]},
}


def sections(*declared: tuple[str, str], **fields: Any) -> dict[str, Any]:
    """VPC shop with everything a route can lead to, and these routes in its main table."""
    table = {"routes": [{"destination": destination, "target": target} for destination, target in declared]}
    shop: dict[str, Any] = {
        "internet_gateway": {},
        "ipv6_cidrs": ["2001:db8::/56"],
        "subnets": {
            "one": {"cidr": "10.0.1.0/24", "ipv6_cidr": "2001:db8:0:1::/64"},
            "two": {"cidr": "10.0.2.0/24"},
        },
        "nat_gateways": {"nat": {"subnet": "one", "elastic_ip": "203.0.113.10"}},
        "network_interfaces": {
            "inner": {"subnet": "two", "attachment": {"instance": "fw", "device_index": 1}, "source_dest_check": False},
            "spare": {"subnet": "two"},
        },
        "route_tables": {"main": table},
    }
    found = peered(**{**shop, **fields})
    found["vpcs"]["far"] = vpc("10.9.0.0/16")
    found["peerings"]["others"] = {"requester": "store", "accepter": "far"}
    found["instances"] = {"fw": instance(), "web": instance("two")}
    found["prefix_lists"] = LISTS
    return found


@pytest.mark.parametrize("text", ["10.0.0.0/8", "::/0", "prefix-list:partners"])
def test_a_destination_is_read_and_written_alike(text: str) -> None:
    assert str(RouteDestination.parse(text)) == text


@pytest.mark.parametrize("text", ["10.0.0.1/8", "10.0.0.0", "prefix-list", "prefix-list:", "", 7, "x"])
def test_what_is_no_destination(text: object) -> None:
    with pytest.raises(ValueError, match=";"):
        RouteDestination.parse(text)


TARGETS = [
    "internet-gateway",
    "nat-gateway:nat",
    "peering:link",
    "network-interface:fw/eth1",
    "instance:web",
    "local",
    "blackhole",
]


@pytest.mark.parametrize("text", TARGETS)
def test_a_target_is_read_and_written_alike(text: str) -> None:
    assert str(RouteTarget.parse(text)) == text


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("internet-gatway", "did you mean internet-gateway?"),
        ("transit-gateway:tgw", "a lab has no transit gateways"),
        ("nat-gateway", "write nat-gateway:NAME"),
        ("nat-gateway:", "write nat-gateway:NAME"),
        ("local:x", "write local"),
        ("10.0.0.1", "write one of"),
        (None, "write one of"),
    ],
)
def test_what_is_no_target(text: object, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        RouteTarget.parse(text)


def test_targets_of_one_name_and_different_kinds_differ() -> None:
    assert RouteTarget.parse("instance:x") != RouteTarget.parse("peering:x")
    assert RouteTarget.parse("local") != RouteTarget.parse("blackhole")


@pytest.mark.parametrize(
    ("destination", "target", "key", "code", "words"),
    [
        ("0.0.0.0/0", "nat-gateway:nta", "target", "InvalidNatGatewayID.NotFound", "did you mean nat?"),
        ("10.1.0.0/16", "peering:lnk", "target", "InvalidVpcPeeringConnectionID.NotFound", "did you mean link?"),
        ("10.1.0.0/16", "peering:others", "target", "InvalidVpcPeeringConnectionID.NotFound", "not of VPC shop"),
        ("0.0.0.0/0", "instance:fww", "target", "InvalidInstanceID.NotFound", "did you mean fw?"),
        ("0.0.0.0/0", "instance:fw", "target", "InvalidInstanceID", "network-interface:fw/eth0"),
        (
            "0.0.0.0/0",
            "network-interface:fw/eth2",
            "target",
            "InvalidNetworkInterfaceID.NotFound",
            "did you mean fw/eth",
        ),
        (
            "prefix-list:partner",
            "internet-gateway",
            "destination",
            "InvalidPrefixListID.NotFound",
            "did you mean partners?",
        ),
        ("2001:db8:5::/48", "nat-gateway:nat", "target", "InvalidParameterValue", "translate 64:ff9b::/96 only"),
        ("prefix-list:six", "nat-gateway:nat", "target", "InvalidParameterValue", "translate 64:ff9b::/96 only"),
        ("169.254.169.0/24", "instance:web", "destination", "InvalidParameterValue", "inside 169.254.168.0/22"),
        ("169.254.168.0/22", "instance:web", "destination", "InvalidParameterValue", "AWS reserves"),
        ("fd00:ec2::/32", "internet-gateway", "destination", "InvalidParameterValue", "inside fd00:ec2::/32"),
        ("fd00:ec2::254/128", "internet-gateway", "destination", "InvalidParameterValue", "inside fd00:ec2::/32"),
        ("10.0.0.0/16", "internet-gateway", "target", "InvalidParameterValue", "cannot replace local"),
        ("10.0.0.0/16", "peering:link", "target", "InvalidParameterValue", "cannot replace local"),
        ("10.0.2.0/24", "internet-gateway", "target", "InvalidParameterValue", "cannot take it from local"),
        ("10.0.2.0/24", "peering:link", "target", "InvalidParameterValue", "cannot take it from local"),
        ("10.0.2.0/25", "nat-gateway:nat", "destination", "InvalidParameterValue", "write 10.0.2.0/24"),
        ("10.0.3.0/24", "nat-gateway:nat", "destination", "InvalidParameterValue", "for a whole subnet"),
        ("prefix-list:inside", "nat-gateway:nat", "destination", "InvalidParameterValue", "for a whole subnet"),
        ("10.5.0.0/16", "local", "target", "InvalidParameterValue", "is no CIDR block of VPC shop"),
        ("prefix-list:partners", "local", "target", "InvalidParameterValue", "is no CIDR block of VPC shop"),
        ("10.0.2.0/24", "local", "target", "InvalidParameterValue", "cannot take it from local"),
    ],
)
def test_routes_aws_refuses(destination: str, target: str, key: str, code: str, words: str) -> None:
    declared = lab(**sections((destination, target)))
    expect(declared, f"vpcs.shop.route_tables.main.routes[0].{key}", code, words)


def test_route_to_an_internet_gateway_that_is_not_there() -> None:
    table = {"main": {"routes": [{"destination": "0.0.0.0/0", "target": "internet-gateway"}]}}
    declared = lab(vpcs={"shop": vpc(route_tables=table)})
    expect(declared, "vpcs.shop.route_tables.main.routes[0].target", "Gateway.NotAttached", "internet_gateway: {}")


def test_route_to_a_kind_of_target_the_vpc_has_none_of() -> None:
    table = {"main": {"routes": [{"destination": "0.0.0.0/0", "target": "nat-gateway:nat"}]}}
    declared = lab(vpcs={"shop": vpc(route_tables=table)})
    path = "vpcs.shop.route_tables.main.routes[0].target"
    expect(declared, path, "InvalidNatGatewayID.NotFound", "there is no NAT gateway of VPC shop")


def test_two_routes_to_one_destination() -> None:
    declared = lab(**sections(("0.0.0.0/0", "internet-gateway"), ("0.0.0.0/0", "nat-gateway:nat")))
    expect(declared, "vpcs.shop.route_tables.main.routes[1].destination", "RouteAlreadyExists", "or routes[0]")


@pytest.mark.parametrize(("count", "fits"), [(2, True), (3, False)])
def test_quota_counts_the_families_apart_and_prefix_lists_by_their_size(count: int, fits: bool) -> None:
    some = [(f"192.0.{n}.0/24", "internet-gateway") for n in range(count)]
    six = [(f"2001:db8:{n}::/48", "internet-gateway") for n in range(100, 102)]
    declared = lab(**sections(*some, *six), quotas={"routes_per_table": 2})
    path = "vpcs.shop.route_tables.main.routes"
    assert [each.path for each in problems(declared)] == ([] if fits else [path])
    listed = lab(**sections(("prefix-list:partners", "internet-gateway")), quotas={"routes_per_table": 1})
    expect(listed, path, "RouteLimitExceeded", "2 routes")


def test_an_ipv6_prefix_list_counts_towards_the_quota_of_ipv6_routes_alone() -> None:
    """VPC User Guide, "Amazon VPC quotas": that of routes is enforced separately for IPv4 and IPv6."""
    six = [(f"2001:db8:{n}::/48", "internet-gateway") for n in range(100, 102)]
    listed = ("prefix-list:six", "internet-gateway")
    beside = sections(("192.0.2.0/24", "internet-gateway"), listed)
    assert problems(lab(**beside, quotas={"routes_per_table": 1})) == []
    over = lab(**sections(*six, listed), quotas={"routes_per_table": 2})
    expect(over, "vpcs.shop.route_tables.main.routes", "RouteLimitExceeded", "3 routes")


def test_each_target_leads_to_its_construct() -> None:
    lowered = program(
        **sections(
            ("0.0.0.0/0", "internet-gateway"),
            ("::/0", "internet-gateway"),
            ("192.0.2.0/25", "nat-gateway:nat"),
            ("10.1.0.0/16", "peering:link"),
            ("10.50.0.0/16", "network-interface:fw/eth1"),
            ("10.51.0.0/16", "network-interface:inner"),
            ("10.52.0.0/16", "instance:web"),
            ("10.53.0.0/16", "blackhole"),
            ("10.54.0.0/16", "network-interface:spare"),
            ("prefix-list:partners", "peering:link"),
        )
    )
    assert routes(lowered, "route-table:shop/main") == {
        "10.0.0.0/16": "vpc:shop/deliver",
        "2001:db8::/56": "vpc:shop/deliver",
        "0.0.0.0/0": "internet-gateway:shop/out",
        "::/0": "internet-gateway:shop/out",
        "192.0.2.0/25": "nat-gateway:shop/nat/in",
        "10.1.0.0/16": "vpc-peering:link/from:shop",
        "10.50.0.0/16": "interface:fw/eth1/in",
        "10.51.0.0/16": "interface:fw/eth1/in",
        "10.52.0.0/16": "interface:web/eth0/in",
        "10.53.0.0/16": "route-table:shop/main/blackhole",
        "10.54.0.0/16": "route-table:shop/main/blackhole",
        "198.51.100.0/24": "vpc-peering:link/from:shop",
        "192.0.2.0/24": "vpc-peering:link/from:shop",
        "169.254.168.0/22": "route-table:shop/main/never",
        "fd00:ec2::/32": "route-table:shop/main/never",
    }
    table = lowered.nodes["route-table:shop/main"]
    assert isinstance(table, Lookup)
    assert table.reason is Reason.NO_ROUTE
    blackhole, never = (lowered.nodes[f"route-table:shop/main/{end}"] for end in ("blackhole", "never"))
    assert isinstance(blackhole, Drop)
    assert isinstance(never, Drop)
    assert (blackhole.reason, never.reason) == (Reason.BLACKHOLE, Reason.DESTINATION_MARTIAN)


@pytest.mark.parametrize("status", ["pending-acceptance", "deleted", "failed"])
def test_a_peering_that_is_not_active_is_a_blackhole(status: str) -> None:
    declared = sections(("10.1.0.0/16", "peering:link"))
    declared["peerings"]["link"]["status"] = status
    assert routes(program(**declared), "route-table:shop/main")["10.1.0.0/16"].endswith("/blackhole")


@pytest.mark.parametrize("target", ["nat-gateway:nat", "network-interface:inner", "instance:web", "blackhole"])
@pytest.mark.parametrize("destination", ["10.0.0.0/16", "10.0.2.0/24"])
def test_what_may_take_a_block_from_local(destination: str, target: str) -> None:
    found = routes(program(**sections((destination, target))), "route-table:shop/main")
    assert found[destination] != "vpc:shop/deliver"


def test_local_may_be_written_down() -> None:
    assert problems(lab(**sections(("10.0.0.0/16", "local"), ("2001:db8::/56", "local")))) == []


def test_a_static_route_wins_over_one_of_a_prefix_list_and_the_first_list_over_the_second() -> None:
    lists = {**LISTS, "again": {"entries": [{"cidr": "198.51.100.0/24"}]}}
    declared = sections(
        ("prefix-list:partners", "internet-gateway"),
        ("prefix-list:again", "peering:link"),
        ("192.0.2.0/24", "nat-gateway:nat"),
    )
    found = routes(program(**{**declared, "prefix_lists": lists}), "route-table:shop/main")
    assert found["192.0.2.0/24"] == "nat-gateway:shop/nat/in"
    assert found["198.51.100.0/24"] == "internet-gateway:shop/out"


def test_routes_have_names() -> None:
    lowered = program(**sections(("0.0.0.0/0", "internet-gateway"), ("prefix-list:partners", "peering:link")))
    names = {str(each.prefix): lowered.names[each.rule].path for each in lowered.fibs["route-table:shop/main"]}
    assert names["0.0.0.0/0"] == "shop/main 0.0.0.0/0 -> internet-gateway"
    assert names["10.0.0.0/16"] == "shop/main 10.0.0.0/16 -> local"
    assert names["192.0.2.0/24"] == "shop/main 192.0.2.0/24 (prefix-list:partners) -> peering:link"


@given(st.lists(st.tuples(st.integers(0, 31), st.sampled_from(TARGETS)), max_size=8, unique_by=lambda pair: pair[0]))
def test_any_table_has_each_prefix_once_and_local_unless_replaced(drawn: list[tuple[int, str]]) -> None:
    declared = [(f"10.{100 + n}.0.0/16", target) for n, target in drawn if target != "local"]
    table = topology(**sections(*declared))
    effective = list(table.vpc("shop").route_tables["main"].effective(table, "shop", "main"))
    prefixes = [str(each.prefix) for each in effective]
    assert sorted(prefixes) == sorted({"10.0.0.0/16", "2001:db8::/56", *(destination for destination, _ in declared)})


@pytest.mark.parametrize(
    ("destination", "target", "key", "words"),
    [
        ("169.254.169.0/24", "network-interface:fw/eth0", "destination", "reserved by AWS"),
        ("172.20.0.0/16", "internet-gateway", "target", "propagates no routes"),
        ("172.20.0.0/16", "nat-gateway:nat", "target", "propagates no routes"),
    ],
)
def test_what_is_not_propagated(destination: str, target: str, key: str, words: str) -> None:
    table = {"main": {"propagated_routes": [{"destination": destination, "target": target}]}}
    path = f"vpcs.shop.route_tables.main.propagated_routes[0].{key}"
    expect(lab(**sections(route_tables=table)), path, "InvalidParameterValue", words)


def test_a_prefix_is_propagated_once() -> None:
    learned = [{"destination": "172.20.0.0/16", "target": "network-interface:spare"}] * 2
    found = lab(**sections(route_tables={"main": {"propagated_routes": learned}}))
    path = "vpcs.shop.route_tables.main.propagated_routes[1].destination"
    expect(found, path, "RouteAlreadyExists", "propagated already")


def test_propagated_routes_are_a_hundred_at_most() -> None:
    learned = [{"destination": f"172.20.{n}.0/24", "target": "network-interface:spare"} for n in range(101)]
    found = lab(**sections(route_tables={"main": {"propagated_routes": learned}}))
    expect(found, "vpcs.shop.route_tables.main.propagated_routes", "RouteLimitExceeded", "100")


def test_propagated_routes_are_counted_for_each_family_by_itself() -> None:
    destinations = [f"172.20.{n}.0/24" for n in range(60)] + [f"2001:db8:9:{n}::/64" for n in range(60)]
    learned = [{"destination": destination, "target": "network-interface:spare"} for destination in destinations]
    assert problems(lab(**sections(route_tables={"main": {"propagated_routes": learned}}))) == []
    learned += [{**learned[-1], "destination": f"2001:db8:a:{n}::/64"} for n in range(41)]
    found = lab(**sections(route_tables={"main": {"propagated_routes": learned}}))
    expect(found, "vpcs.shop.route_tables.main.propagated_routes", "RouteLimitExceeded", "101 propagated routes")


def test_static_before_prefix_list_before_propagated_and_local_before_all_that_is_propagated() -> None:
    """VPC User Guide, "Route tables and route priority"; Site-to-Site VPN User Guide for what lies inside the VPC."""
    table = {
        "routes": [
            {"destination": "prefix-list:partners", "target": "nat-gateway:nat"},
            {"destination": "192.0.2.0/24", "target": "internet-gateway"},
        ],
        "propagated_routes": [
            {"destination": destination, "target": "network-interface:inner"}
            for destination in ("192.0.2.0/24", "198.51.100.0/24", "172.20.0.0/16", "10.0.1.0/24", "10.0.2.128/25")
        ],
    }
    found = routes(program(**sections(route_tables={"main": table})), "route-table:shop/main")
    assert found["192.0.2.0/24"] == "internet-gateway:shop/out"
    assert found["198.51.100.0/24"] == "nat-gateway:shop/nat/in"
    assert found["172.20.0.0/16"] == "interface:fw/eth1/in"
    assert not {"10.0.1.0/24", "10.0.2.128/25"} & set(found)
