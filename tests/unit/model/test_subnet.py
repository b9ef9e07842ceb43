from __future__ import annotations

from typing import Any

import pytest

from dataplane.program import Bridge, Filter, Guard, Serve
from tests.unit.model.building import expect, instance, lab, program, shape, shop, topology, vpc

V6: dict[str, Any] = {"ipv6_cidrs": ["2001:db8::/56"]}


@pytest.mark.parametrize(
    ("subnets", "path", "code", "words"),
    [
        ({"one": {"cidr": "10.0.0.0/29"}}, "one.cidr", "InvalidSubnet.Range", "from /16 to /28"),
        ({"one": {"cidr": "10.1.0.0/24"}}, "one.cidr", "InvalidSubnet.Range", "the VPC has 10.0.0.0/16"),
        (
            {"one": {"cidr": "10.0.1.0/24"}, "two": {"cidr": "10.0.1.128/25"}},
            "two.cidr",
            "InvalidSubnet.Conflict",
            "10.0.0.0/25 is free",
        ),
        (
            {"one": {"cidr": "10.0.0.0/16"}, "two": {"cidr": "10.0.1.0/24"}},
            "two.cidr",
            "InvalidSubnet.Conflict",
            "no /24 is free",
        ),
        (
            {"one": {"cidr": "10.0.1.0/24", "ipv6_cidr": "2001:db8:1::/64"}},
            "one.ipv6_cidr",
            "InvalidSubnet.Range",
            "the VPC has 2001:db8::/56",
        ),
        (
            {"one": {"cidr": "10.0.1.0/24", "ipv6_cidr": "2001:db8::/62"}},
            "one.ipv6_cidr",
            "InvalidSubnet.Range",
            "/44, /48, /52, /56, /60 or /64",
        ),
        (
            {
                "one": {"cidr": "10.0.1.0/24", "ipv6_cidr": "2001:db8:0:1::/64"},
                "two": {"cidr": "10.0.2.0/24", "ipv6_cidr": "2001:db8:0:1::/64"},
            },
            "two.ipv6_cidr",
            "InvalidSubnet.Conflict",
            "2001:db8::/64 is free",
        ),
        (
            {"one": {"cidr": "10.0.1.0/24", "route_table": "publik"}},
            "one.route_table",
            "InvalidRouteTableID.NotFound",
            "did you mean public?",
        ),
        (
            {"one": {"cidr": "10.0.1.0/24", "network_acl": "edg"}},
            "one.network_acl",
            "InvalidNetworkAclID.NotFound",
            "did you mean edge?",
        ),
        (
            {"one": {"cidr": "10.0.1.0/24", "assign_ipv6_address_on_creation": True}},
            "one.assign_ipv6_address_on_creation",
            "InvalidParameterCombination",
            "no IPv6 block",
        ),
    ],
)
def test_what_aws_refuses(subnets: dict[str, Any], path: str, code: str, words: str) -> None:
    declared = shop(subnets=subnets, route_tables={"public": {}}, network_acls={"edge": {}}, **V6)
    expect(declared, f"vpcs.shop.subnets.{path}", code, words)


def test_ipv6_block_in_a_vpc_without_ipv6() -> None:
    declared = shop(subnets={"one": {"cidr": "10.0.1.0/24", "ipv6_cidr": "2001:db8::/64"}})
    expect(declared, "vpcs.shop.subnets.one.ipv6_cidr", "InvalidSubnet.Range", "write vpcs.shop.ipv6_cidrs")


def test_a_whole_block_may_be_free() -> None:
    both = {"one": {"cidr": "10.0.0.0/16"}, "two": {"cidr": "10.0.0.0/16"}}
    declared = shop(secondary_cidrs=["10.1.0.0/16"], subnets=both)
    expect(declared, "vpcs.shop.subnets.two.cidr", "InvalidSubnet.Conflict", "10.1.0.0/16 is free")


def test_a_subnet_may_lie_in_a_secondary_block() -> None:
    topology(vpcs={"shop": vpc(secondary_cidrs=["100.64.0.0/16"], subnets={"one": {"cidr": "100.64.1.0/24"}})})


def test_more_instances_than_addresses() -> None:
    instances = {f"i{n}": instance() for n in range(12)}
    declared = lab(vpcs={"shop": vpc(subnets={"one": {"cidr": "10.0.1.0/28"}})}, instances=instances)
    expect(declared, "instances.i11", "InsufficientFreeAddressesInSubnet", "10.0.1.0/28 has 11")


def test_way_out_of_a_subnet() -> None:
    lowered = program(vpcs={"shop": vpc()})
    assert shape(lowered, "subnet:shop/one/leave") == ["Guard", "Filter ACL_EGRESS", "Lookup NO_ROUTE"]
    leave = lowered.nodes["subnet:shop/one/leave"]
    assert isinstance(leave, Guard)
    assert (leave.otherwise, leave.negate) == ("vpc:shop/deliver", True)
    crossing = lowered.nodes["subnet:shop/one/leave/acl"]
    assert isinstance(crossing, Filter)
    assert crossing.table == "network-acl:shop/default/egress"
    assert isinstance(lowered.nodes["subnet:shop/one/router"], Serve)


def test_neighbours_are_the_interfaces_and_the_router() -> None:
    subnets = {"one": {"cidr": "10.0.1.0/24", "ipv6_cidr": "2001:db8:0:1::/64"}}
    sections: dict[str, Any] = {
        "vpcs": {"shop": vpc(subnets=subnets, **V6)},
        "instances": {"web": instance(private_ip="10.0.1.9", ipv6_address="2001:db8:0:1::9")},
    }
    placed = topology(**sections)
    lowered = program(**sections)
    home, mac = placed.subnet("shop", "one"), placed.interfaces[0].mac
    known = {str(prefix): owner for prefix, owner in lowered.neighbours["subnet:shop/one"]}
    assert known == {
        "10.0.1.9/32": mac,
        "2001:db8:0:1::9/128": mac,
        "10.0.1.1/32": home.router_mac,
        "2001:db8:0:1::1/128": home.router_mac,
        "fe80:ec2::1/128": home.router_mac,
        f"{home.router_link_local}/128": home.router_mac,
    }
    assert lowered.bridges["subnet:shop/one"] == [(mac, "interface:web/eth0/in")]
    bridge = lowered.nodes["interface:web/eth0/out/subnet"]
    assert isinstance(bridge, Bridge)
    assert (bridge.table, bridge.next) == ("subnet:shop/one", "subnet:shop/one/leave")


def test_a_subnet_without_ipv6_has_no_ipv6_router() -> None:
    home = topology(vpcs={"shop": vpc()}).subnet("shop", "one")
    assert home.router6 is None
    assert [str(address) for address in home.routers] == ["10.0.1.1"]
