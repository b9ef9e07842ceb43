"""Gateway route tables: what AWS refuses, and which subnets are redirected."""

from __future__ import annotations

from typing import Any

import pytest

from dataplane.model._gateway_routes import redirected
from dataplane.program import Drop, Guard
from dataplane.program import Test as GuardTest
from dataplane.verdict import Reason
from tests.unit.model.building import chain, expect, instance, lab, program, routes, topology, vpc


def shop(*declared: tuple[str, str], **fields: Any) -> dict[str, Any]:
    edge = {"routes": [{"destination": destination, "target": target} for destination, target in declared]}
    subnets = {
        "one": {"cidr": "10.0.1.0/24", "ipv6_cidr": "2001:db8:0:1::/64"},
        "two": {"cidr": "10.0.2.0/24"},
        "three": {"cidr": "10.0.3.0/24"},
    }
    return vpc(
        **{
            "internet_gateway": {"route_table": "edge"},
            "ipv6_cidrs": ["2001:db8::/56"],
            "subnets": subnets,
            "route_tables": {"edge": edge},
            **fields,
        }
    )


def sections(*declared: tuple[str, str], public: bool = True, **fields: Any) -> dict[str, Any]:
    elastic = {"elastic_ip": "203.0.113.20"} if public else {}
    firewall = instance("two", source_dest_check=False, **elastic)
    return {"vpcs": {"shop": shop(*declared, **fields)}, "instances": {"fw": firewall}}


@pytest.mark.parametrize(
    ("declared", "key", "words"),
    [
        (("0.0.0.0/0", "instance:fw"), "destination", "neither a block of VPC shop nor of one of its subnets"),
        (("10.0.2.0/25", "instance:fw"), "destination", "write 10.0.2.0/24"),
        (("10.0.1.0/24", "nat-gateway:nat"), "target", "leads to network interfaces and endpoints only"),
    ],
)
def test_routes_a_gateway_may_not_have(declared: tuple[str, str], key: str, words: str) -> None:
    nat: dict[str, Any] = {"nat_gateways": {"nat": {"subnet": "two", "elastic_ip": "203.0.113.10"}}}
    found = lab(**sections(declared, **nat))
    expect(found, f"vpcs.shop.route_tables.edge.routes[0].{key}", "InvalidParameterValue", words)


def test_the_main_table_is_no_gateways() -> None:
    found = lab(**sections(internet_gateway={"route_table": "main"}))
    expect(found, "vpcs.shop.internet_gateway.route_table", "InvalidParameterValue", "main is the main table")


def test_a_table_of_a_gateway_has_no_propagated_routes() -> None:
    learned = [{"destination": "172.20.0.0/16", "target": "instance:fw"}]
    found = lab(**sections(route_tables={"edge": {"propagated_routes": learned}}))
    expect(found, "vpcs.shop.internet_gateway.route_table", "InvalidParameterValue", "has propagated routes")


def test_nobody_is_called_so() -> None:
    found = lab(**sections(internet_gateway={"route_table": "edgy"}))
    expect(found, "vpcs.shop.internet_gateway.route_table", "InvalidRouteTableID.NotFound", "did you mean edge?")


@pytest.mark.parametrize(
    ("declared", "subnets"),
    [
        ([], set()),
        ([("10.0.1.0/24", "instance:fw")], {("one", 4)}),
        ([("10.0.1.0/24", "blackhole")], {("one", 4)}),
        ([("2001:db8:0:1::/64", "instance:fw")], {("one", 6)}),
        # what is written for the interface's own subnet means it too
        ([("10.0.2.0/24", "instance:fw")], {("two", 4)}),
        # a whole block: every subnet in it, but the interface's own
        ([("10.0.0.0/16", "instance:fw")], {("one", 4), ("three", 4)}),
        ([("10.0.0.0/16", "instance:fw"), ("10.0.1.0/24", "instance:fw")], {("one", 4), ("three", 4)}),
    ],
)
def test_which_subnets_are_redirected(declared: list[tuple[str, str]], subnets: set[tuple[str, int]]) -> None:
    found = redirected(topology(**sections(*declared)), "shop", "edge")
    assert {(each.subnet, each.family) for each in found} == subnets


def test_a_redirected_subnet_may_not_leave_directly() -> None:
    lowered = program(**sections(("10.0.1.0/24", "instance:fw")))
    guard = chain(lowered, "internet-gateway:shop/out")[1]
    assert isinstance(guard, Guard)
    assert (guard.test, [lowered.names[n].path for n in guard.subnets], guard.family) == (
        GuardTest.FROM_SUBNET,
        ["shop/one"],
        4,
    )
    assert (guard.negate, guard.reason) == (True, Reason.EDGE_REDIRECTED)


def test_an_interface_without_public_address_gets_ipv6_only() -> None:
    lowered = program(**sections(("10.0.1.0/24", "instance:fw"), ("2001:db8:0:1::/64", "instance:fw"), public=False))
    found = routes(lowered, "internet-gateway:shop/in/table")
    assert found["2001:db8:0:1::/64"] == "interface:fw/eth0/in"
    end = lowered.nodes[found["10.0.1.0/24"]]
    assert isinstance(end, Drop)
    assert end.reason is Reason.EDGE_NO_PUBLIC_ADDRESS
