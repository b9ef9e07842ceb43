from __future__ import annotations

from typing import Any

import pytest

from dataplane.program import Direction, FlowGate, GateMode, Lookup, Side
from dataplane.verdict import Reason
from tests.unit.model.building import chain, expect, lab, program, routes, shape, vpc

HERE = "egress-only-internet-gateway:shop"


def shop(**fields: Any) -> dict[str, Any]:
    subnets = {
        "one": {"cidr": "10.0.1.0/24", "ipv6_cidr": "2001:db8:0:1::/64", "route_table": "out"},
        "two": {"cidr": "10.0.2.0/24", "ipv6_cidr": "2001:db8:0:2::/64"},
    }
    tables = {"out": {"routes": [{"destination": "::/0", "target": "egress-only-internet-gateway"}]}}
    found = vpc(ipv6_cidrs=["2001:db8::/56"], egress_only_internet_gateway={}, subnets=subnets, route_tables=tables)
    return {**found, **fields}


def test_it_needs_ipv6() -> None:
    declared = lab(vpcs={"shop": vpc(egress_only_internet_gateway={})})
    expect(declared, "vpcs.shop.egress_only_internet_gateway", "InvalidParameterValue", "ipv6_cidrs")


def test_a_route_needs_one() -> None:
    declared = lab(vpcs={"shop": shop(egress_only_internet_gateway=None)})
    path = "vpcs.shop.route_tables.out.routes[0].target"
    expect(declared, path, "InvalidGatewayID.NotFound", "has no egress-only internet gateway")


def test_it_is_for_ipv6_only() -> None:
    tables = {"out": {"routes": [{"destination": "0.0.0.0/0", "target": "egress-only-internet-gateway"}]}}
    path = "vpcs.shop.route_tables.out.routes[0].target"
    expect(lab(vpcs={"shop": shop(route_tables=tables)}), path, "InvalidParameterValue", "0.0.0.0/0 is IPv4")


def test_the_way_out_remembers_and_the_way_in_requires() -> None:
    lowered = program(vpcs={"shop": shop()})
    assert shape(lowered, f"{HERE}/out")[:5] == [
        "Guard EDGE_TO_EDGE",
        "Guard GATEWAY_SPOOFED",
        "Guard EGRESS_ONLY_ENDPOINT",
        "FlowGate",
        "Hop",
    ]
    out, into = chain(lowered, f"{HERE}/out")[3], lowered.nodes[f"{HERE}/in"]
    assert isinstance(out, FlowGate)
    assert isinstance(into, FlowGate)
    assert (out.mode, out.direction, out.tracks) == (GateMode.OPEN, Direction.EGRESS, True)
    assert (into.mode, into.direction, into.reason) == (
        GateMode.REQUIRE,
        Direction.INGRESS,
        Reason.EGRESS_ONLY_NO_SESSION,
    )
    assert out.policy == into.policy


@pytest.mark.parametrize(
    ("gateway", "default"), [({"internet_gateway": {}}, "internet-gateway:shop/in"), ({}, f"{HERE}/in")]
)
def test_who_comes_in_is_judged_by_the_gateway_the_answer_would_take(gateway: dict[str, Any], default: str) -> None:
    lowered = program(vpcs={"shop": shop(**gateway)})
    [choice] = routes(lowered, "internet").values()
    first = lowered.nodes[choice]
    assert isinstance(first, Lookup)
    assert first.quiet
    by_subnet = routes(lowered, first.fib)
    assert by_subnet["::/0"] == default
    answers = lowered.nodes[by_subnet["2001:db8:0:1::/64"]]
    assert isinstance(answers, Lookup)
    assert (answers.side, answers.quiet) == (Side.SOURCE, True)
    assert routes(lowered, answers.fib)["::/0"] == f"{HERE}/in"
    other = lowered.nodes[by_subnet["2001:db8:0:2::/64"]]
    assert isinstance(other, Lookup)
    assert routes(lowered, other.fib)["::/0"] == default
