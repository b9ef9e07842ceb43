"""Gateway endpoints: what is refused, the routes they put into tables, and both ways through."""

from __future__ import annotations

from typing import Any

import pytest

from dataplane.program import Enter, FlowGate, GateMode, Hop, Via
from dataplane.verdict import Reason
from tests.unit.model.building import chain, expect, lab, peered, problems, program, routes, shape, topology, vpc

PATH = "vpcs.shop.gateway_endpoints.s3"
HERE = "vpc-endpoint:shop/s3"


def sections(endpoint: dict[str, Any] | None = None, **fields: Any) -> dict[str, Any]:
    """A VPC with an endpoint for S3 in its main table."""
    endpoints = {"s3": {"service": "s3", "route_tables": ["main"], **(endpoint or {})}}
    return {"vpcs": {"shop": vpc(**{"gateway_endpoints": endpoints, **fields})}, "aws_services": {"s3": {}}}


@pytest.mark.parametrize(
    ("endpoint", "path", "code", "words"),
    [
        ({"service": "dynamodb"}, "service", "InvalidServiceName", "write aws_services: {dynamodb: {}}"),
        ({"policy": "read-only"}, "policy", "", "no policy but full access"),
        ({"route_tables": ["mainz"]}, "route_tables[0]", "InvalidRouteTableID.NotFound", "did you mean main?"),
        ({"route_tables": ["main", "main"]}, "route_tables[1]", "RouteAlreadyExists", "listed twice"),
        ({"route_tables": ["edge"]}, "route_tables[0]", "InvalidParameterValue", "has no prefix lists"),
    ],
)
def test_what_is_refused(endpoint: dict[str, Any], path: str, code: str, words: str) -> None:
    fields = {"route_tables": {"edge": {}}, "internet_gateway": {"route_table": "edge"}}
    expect(lab(**sections(endpoint, **fields)), f"{PATH}.{path}", code, words)


@pytest.mark.parametrize(("count", "is_much"), [(255, False), (256, True)])
def test_a_vpc_has_so_many_whatever_the_quota(count: int, is_much: bool) -> None:
    endpoints = {f"e{number}": {"service": "s3"} for number in range(count)}
    declared = lab(**sections(gateway_endpoints=endpoints), quotas={"gateway_endpoints_per_region": 300})
    if is_much:
        expect(declared, "vpcs.shop.gateway_endpoints", "VpcEndpointLimitExceeded", "255 is the most")
    else:
        assert problems(declared) == []


def test_a_table_has_one_endpoint_for_each_service() -> None:
    endpoints = {name: {"service": "s3", "route_tables": ["main"]} for name in ("s3", "more")}
    declared = lab(**sections(gateway_endpoints=endpoints))
    expect(declared, "vpcs.shop.gateway_endpoints.more.route_tables[0]", "RouteAlreadyExists", "by endpoint s3 already")


def test_it_is_for_its_own_region() -> None:
    declared: dict[str, Any] = peered()
    declared["peerings"]["link"]["accepter_region"] = "eu-west-1"
    declared["vpcs"]["store"]["gateway_endpoints"] = {"s3": {"service": "s3"}}
    path = "vpcs.store.gateway_endpoints.s3.service"
    expect(lab(**declared, aws_services={"s3": {}}), path, "InvalidServiceName", "is in us-east-1")


def test_no_route_is_written_to_it() -> None:
    tables = {"main": {"routes": [{"destination": "0.0.0.0/0", "target": "vpc-endpoint:s3"}]}}
    path = "vpcs.shop.route_tables.main.routes[0].target"
    declared = lab(**sections(route_tables=tables))
    expect(declared, path, "InvalidParameterValue", "vpcs.shop.gateway_endpoints.s3.route_tables")


def test_quota_of_endpoints_and_of_routes() -> None:
    assert problems(lab(**sections(), quotas={"gateway_endpoints_per_region": 1, "routes_per_table": 1})) == []
    endpoints = {name: {"service": "s3"} for name in ("s3", "more")}
    declared = lab(**sections(gateway_endpoints=endpoints), quotas={"gateway_endpoints_per_region": 1})
    expect(declared, "vpcs.shop.gateway_endpoints.more", "VpcEndpointLimitExceeded", "the quota is 1")


@pytest.mark.parametrize(("destination", "fits"), [("198.51.100.0/24", False), ("2001:db8:5::/48", True)])
def test_its_route_counts_as_one_ipv4_route_of_each_of_its_tables(destination: str, fits: bool) -> None:
    """VPC User Guide, "AWS-managed prefix lists": the weight of the list of S3 is 1."""
    tables = {"main": {"routes": [{"destination": destination, "target": "blackhole"}]}}
    declared = lab(**sections(route_tables=tables), quotas={"routes_per_table": 1})
    path = "vpcs.shop.route_tables.main.routes"
    assert [(each.path, each.code) for each in problems(declared)] == ([] if fits else [(path, "RouteLimitExceeded")])


def test_it_puts_its_prefix_list_into_its_tables() -> None:
    lowered = program(**sections(route_tables={"main": {}, "other": {}}))
    assert routes(lowered, "route-table:shop/main")["52.216.0.0/15"] == f"{HERE}/in"
    assert "52.216.0.0/15" not in routes(lowered, "route-table:shop/other")


def test_the_main_table_has_it_too_when_nobody_has_declared_it() -> None:
    assert routes(program(**sections()), "route-table:shop/main")["52.216.0.0/15"] == f"{HERE}/in"


@pytest.mark.parametrize("destination", ["52.216.0.0/15", "prefix-list:mine"])
def test_a_route_of_ones_own_wins(destination: str) -> None:
    tables = {"main": {"routes": [{"destination": destination, "target": "blackhole"}]}}
    mine = {"mine": {"entries": [{"cidr": "52.216.0.0/15"}]}}
    lowered = program(**sections(route_tables=tables), prefix_lists=mine)
    assert routes(lowered, "route-table:shop/main")["52.216.0.0/15"] == "route-table:shop/main/blackhole"


def test_a_route_reads_as_that_of_a_prefix_list() -> None:
    found = topology(**sections())
    table = found.vpc("shop").all_route_tables()["main"]
    last = [*table.effective(found, "shop", "main")][-1]
    assert last.name == "52.216.0.0/15 (prefix-list:com.amazonaws.us-east-1.s3) -> vpc-endpoint:s3"


def test_the_way_out() -> None:
    lowered = program(**sections())
    assert shape(lowered, f"{HERE}/in") == [
        "Guard ENDPOINT_FROM_OUTSIDE",
        "Guard ENDPOINT_FROM_OUTSIDE",
        "Filter ENDPOINT_PROTOCOL",
        "FlowGate",
        "Hop",
        "Enter",
        "Lookup OUTSIDE_NO_ROUTE",
    ]
    *_, gate, hop, _, _ = chain(lowered, f"{HERE}/in")
    assert isinstance(gate, FlowGate)
    assert isinstance(hop, Hop)
    assert (gate.mode, gate.tracks) == (GateMode.OPEN, False)
    assert (hop.mtu, hop.fragments, hop.answers_mtu, hop.clamps_mss) == (8500, False, False, True)
    assert routes(lowered, "aws-service:s3/hosts") == {"52.216.0.10/32": "aws-service:s3/in"}


def test_the_way_back() -> None:
    lowered = program(**sections())
    assert shape(lowered, "aws-service:s3/out")[:2] == ["Guard SOURCE_CHECK", "Lookup OUTSIDE_NO_ROUTE"]
    node = lowered.nodes[routes(lowered, "aws-service:s3/returns")["10.0.0.0/16"]]
    assert isinstance(node, FlowGate)
    assert (node.mode, node.otherwise, node.next) == (GateMode.RESUME, f"{HERE}/back", "aws-service:s3/public")
    assert shape(lowered, f"{HERE}/back")[:3] == ["Filter ENDPOINT_PROTOCOL", "Hop", "Enter"]


def test_only_tcp_and_pings_pass() -> None:
    lowered = program(**sections())
    filters = {way: lowered.filters[f"vpc-endpoint/served/{way}"] for way in ("out", "back")}
    found = {way: [(each.protocol, each.icmp) for each in rules] for way, rules in filters.items()}
    assert found == {"out": [(6, None), (1, (8, -1))], "back": [(6, None), (1, (0, -1))]}


def test_flows_to_dynamodb_are_tracked() -> None:
    declared = sections({"service": "dynamodb"})
    lowered = program(**{**declared, "aws_services": {"dynamodb": {}}})
    gate, back = lowered.nodes[f"{HERE}/remember"], lowered.nodes[f"{HERE}/back/cross"]
    assert isinstance(gate, FlowGate)
    assert isinstance(back, Enter)
    assert gate.tracks
    assert back.via == Via.TRACKED


def test_vpcs_with_the_same_addresses_ask_each_others_memory_first() -> None:
    declared = sections()
    declared["vpcs"]["twin"] = declared["vpcs"]["shop"]
    declared["vpcs"]["far"] = {**declared["vpcs"]["shop"], "cidr": "10.1.0.0/16", "subnets": {}}
    lowered = program(**declared)
    asked = chain(lowered, f"{HERE}/in")[3]
    assert isinstance(asked, FlowGate)
    assert (asked.mode, asked.policy) == (GateMode.LOOK, "vpc-endpoint:twin/s3")
    assert shape(lowered, asked.otherwise) == [f"Drop {Reason.ENDPOINT_CONFLICT.name}"]
    assert isinstance(chain(lowered, "vpc-endpoint:far/s3/in")[4], Hop)
    returns = routes(lowered, "aws-service:s3/returns")
    first = lowered.nodes[returns["10.0.0.0/16"]]
    assert isinstance(first, FlowGate)
    second = lowered.nodes[first.next]
    assert isinstance(second, FlowGate)
    assert [first.otherwise, second.otherwise] == [f"{HERE}/back", "vpc-endpoint:twin/s3/back"]
