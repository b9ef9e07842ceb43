"""Gateway load balancer endpoints: what AWS refuses, routes to them, and the way through."""

from __future__ import annotations

from ipaddress import IPv4Address
from typing import Any

import pytest

from dataplane.model._gateway_routes import redirected
from dataplane.model._route_target import RouteTarget
from dataplane.program import Enter, Hop, TtlAction, Via
from tests.unit.model.building import chain, expect, lab, problems, program, routes, shape, topology
from tests.unit.model.inspection import ENDPOINT, ROUTE, app, inspected, security

HERE = "vpc-endpoint:app/ep"
ID = "vpce-0f583215d2e66b39c"


def test_it_is_placed_in_its_subnet() -> None:
    found = topology(**inspected(shop={"endpoint": {"private_ip": "10.0.2.10"}}))
    interface = found.endpoint_interface("app", "ep")
    assert (interface.kind, interface.path, interface.subnet.name) == ("vpc-endpoint", "app/ep", "ends")
    assert interface.addresses4 == (IPv4Address("10.0.2.10"),)
    assert found.find_interface("app", "ep") is None


@pytest.mark.parametrize(
    ("endpoint", "path", "code", "words"),
    [
        ({"subnet": "endz"}, "subnet", "InvalidSubnetID.NotFound", "did you mean ends?"),
        ({"service": "sec/inspekt"}, "service", "InvalidServiceName", "did you mean sec/inspect?"),
        ({"service": "inspect"}, "service", "InvalidServiceName", "sec/inspect"),
        ({"subnet": "far"}, "subnet", "InvalidParameter", "not offered in us-east-1c"),
        ({"id": "vpce-1234"}, "id", "InvalidVpcEndpointId.Malformed", "16 hexadecimal digits"),
        ({"id": "vpce-1f583215d2e66b39c"}, "id", "InvalidVpcEndpointId.Malformed", "is no endpoint id"),
        ({"private_ip": "10.0.1.9"}, "private_ip", "InvalidParameterValue", "it is in subnet web"),
        ({"private_ip": "10.0.2.1"}, "private_ip", "InvalidParameterValue", "reserved by AWS"),
    ],
)
def test_what_aws_refuses(endpoint: dict[str, Any], path: str, code: str, words: str) -> None:
    expect(lab(**inspected(shop={"endpoint": endpoint})), f"{ENDPOINT}.{path}", code, words)


def test_one_for_each_service_and_zone_of_a_vpc() -> None:
    two = {name: {"service": "sec/inspect", "subnet": "ends"} for name in ("ep", "eq")}
    declared = lab(**inspected(shop={"gateway_load_balancer_endpoints": two}))
    path = "vpcs.app.gateway_load_balancer_endpoints.eq.subnet"
    expect(declared, path, "DuplicateSubnetsInSameZone", "ep is an endpoint of service sec/inspect in us-east-1a")


def test_a_service_is_known_in_its_region_only() -> None:
    link = {"requester": "sec", "accepter": "app", "accepter_region": "eu-west-1"}
    declared = lab(**inspected(), peerings={"link": link})
    expect(declared, f"{ENDPOINT}.service", "InvalidServiceName", "in its own Region only")


def test_an_endpoint_of_another_kind_has_another_name() -> None:
    """Routes and ids go by it, whatever kind of endpoint it is."""
    declared = inspected(shop={"gateway_endpoints": {"ep": {"service": "s3"}}}, aws_services={"s3": {}})
    expect(lab(**declared), ENDPOINT, "", "a gateway endpoint is called ep too; write another name")
    declared["vpcs"]["app"]["gateway_endpoints"] = {"other": {"service": "s3"}}
    assert problems(lab(**declared)) == []


def test_an_ipv6_route_to_an_endpoint_without_a_service_is_not_what_is_wrong() -> None:
    """Whether its load balancer takes IPv6 is known once there is one."""
    shop = {"ipv6_cidrs": ["2001:db8::/56"], "route": {"destination": "2001:db8:ffff::/48"}}
    only_four = {"balancer": {"dualstack": False}}
    path = f"{ROUTE}.target"
    expect(lab(**inspected(only_four, shop=shop)), path, "InvalidParameterValue", "write dualstack: true there")
    for service in ("sec/inspekt", "sek/inspect"):
        declared = lab(**inspected(only_four, shop={**shop, "endpoint": {"service": service}}))
        expect(declared, f"{ENDPOINT}.service", "InvalidServiceName", "did you mean sec/inspect?")


def test_quota_of_endpoints() -> None:
    declared = lab(**inspected(), quotas={"endpoints_per_vpc": 1})
    assert problems(declared) == []
    two = {"ep": {"service": "sec/inspect", "subnet": "ends"}, "eq": {"service": "sec/more", "subnet": "ends"}}
    services = {name: {"gateway_load_balancer": "gw", "acceptance_required": False} for name in ("inspect", "more")}
    more = inspected({"endpoint_services": services}, {"gateway_load_balancer_endpoints": two})
    path = "vpcs.app.gateway_load_balancer_endpoints"
    expect(lab(**more, quotas={"endpoints_per_vpc": 1}), path, "VpcEndpointLimitExceeded", "the quota is 1")


def test_two_endpoints_never_have_one_id() -> None:
    ends = {
        "ep": {"service": "sec/inspect", "subnet": "ends", "id": ID},
        "eq": {"service": "sec/more", "subnet": "ends", "id": ID.replace("-0", "-")},
    }
    services = {name: {"gateway_load_balancer": "gw", "acceptance_required": False} for name in ("inspect", "more")}
    found = problems(lab(**inspected({"endpoint_services": services}, {"gateway_load_balancer_endpoints": ends})))
    assert {each.path for each in found} == {f"vpcs.app.gateway_load_balancer_endpoints.{e}.id" for e in ("ep", "eq")}


def test_nor_do_endpoints_of_two_vpcs_that_one_load_balancer_serves() -> None:
    """Appliances tell endpoints apart by the id in the GENEVE header, and by nothing else."""
    declared = inspected(shop={"endpoint": {"id": ID}})
    declared["vpcs"]["twin"] = {
        "cidr": "10.0.0.0/16",
        "subnets": {"ends": {"cidr": "10.0.2.0/24"}},
        "gateway_load_balancer_endpoints": {"ep": {"service": "sec/inspect", "subnet": "ends", "id": ID}},
    }
    found = {each.path for each in problems(lab(**declared))}
    assert found == {f"vpcs.{vpc}.gateway_load_balancer_endpoints.ep.id" for vpc in ("app", "twin")}


@pytest.mark.parametrize(
    ("written", "number"), [(ID, 0xF583215D2E66B39C), ("vpce-f583215d2e66b39c", 0xF583215D2E66B39C)]
)
def test_the_id_that_is_written(written: str, number: int) -> None:
    tunnel = program(**inspected(shop={"endpoint": {"id": written}})).tunnels[HERE]
    assert tunnel.endpoint_id == number


def test_the_id_that_follows_from_the_name_stays_the_same() -> None:
    endpoint = topology(**inspected()).vpc("app").gateway_load_balancer_endpoints["ep"]
    assert endpoint.identifier("app", "ep") == "vpce-01d1bf9ecedb1bf42"
    assert endpoint.endpoint_id("app", "ep") == 0x1D1BF9ECEDB1BF42


# -- routes


@pytest.mark.parametrize(
    ("route", "path", "code", "words"),
    [
        ({"target": "vpc-endpoint:eq"}, "target", "InvalidVpcEndpointId.NotFound", "there is ep"),
        ({"destination": "prefix-list:far"}, "destination", "InvalidParameterValue", "a prefix list cannot"),
        ({"destination": "10.0.1.0/25"}, "destination", "InvalidParameterValue", "write 10.0.1.0/24"),
    ],
)
def test_routes_aws_refuses(route: dict[str, Any], path: str, code: str, words: str) -> None:
    lists = {"far": {"entries": [{"cidr": "198.51.100.0/24"}]}}
    expect(lab(**inspected(shop={"route": route}), prefix_lists=lists), f"{ROUTE}.{path}", code, words)


@pytest.mark.parametrize("destination", ["10.0.3.0/24", "10.0.0.0/16", "172.16.0.0/12"])
def test_routes_aws_takes(destination: str) -> None:
    lowered = program(**inspected(shop={"route": {"destination": destination}}))
    assert routes(lowered, "route-table:app/web")[destination] == f"{HERE}/in"


def test_no_route_of_its_own_subnet_leads_to_it() -> None:
    tables = {"ends": {"routes": [{"destination": "0.0.0.0/0", "target": "vpc-endpoint:ep"}]}, "web": {}, "edge": {}}
    path = "vpcs.app.route_tables.ends.routes[0].target"
    expect(lab(**inspected(shop={"route_tables": tables})), path, "", "ep is in subnet ends")


def test_an_ipv4_load_balancer_takes_no_ipv6_routes() -> None:
    shop = {"route": {"destination": "::/0"}}
    assert problems(lab(**inspected(shop=shop))) == []
    declared = lab(**inspected({"balancer": {"dualstack": False}}, shop))
    expect(declared, f"{ROUTE}.target", "InvalidParameterValue", "takes IPv4 only")


def test_a_gateways_table_leads_to_it() -> None:
    found = topology(**inspected())
    assert [each.subnet for each in redirected(found, "app", "edge")] == ["web"]
    assert routes(program(**inspected()), "internet-gateway:app/in/table")["10.0.1.0/24"] == f"{HERE}/in"


def test_a_gateways_table_that_sends_everything_to_it_lets_its_own_subnet_out() -> None:
    edge = {"routes": [{"destination": "10.0.0.0/16", "target": "vpc-endpoint:ep"}]}
    found = topology(**inspected(shop={"route_tables": {**app()["route_tables"], "edge": edge}}))
    assert [each.subnet for each in redirected(found, "app", "edge")] == ["web", "far"]


def test_a_gateways_table_takes_a_subnet_back_to_local() -> None:
    edge = {
        "routes": [
            {"destination": "10.0.0.0/16", "target": "vpc-endpoint:ep"},
            {"destination": "10.0.1.0/24", "target": "local"},
        ]
    }
    found = topology(**inspected(shop={"route_tables": {**app()["route_tables"], "edge": edge}}))
    assert [each.subnet for each in redirected(found, "app", "edge")] == ["far"]


def test_the_target_is_read_and_written() -> None:
    assert str(RouteTarget.parse("vpc-endpoint:ep")) == "vpc-endpoint:ep"


# -- the way through


def test_the_way_to_the_load_balancer() -> None:
    lowered = program(**inspected())
    assert shape(lowered, f"{HERE}/in")[:4] == ["Filter ACL_INGRESS", "Hop", "Encapsulate", "Enter"]
    _, hop, _, enter = chain(lowered, f"{HERE}/in")[:4]
    assert isinstance(hop, Hop)
    assert (hop.mtu, hop.fragments, hop.answers_mtu, hop.clamps_mss, hop.ttl) == (
        8500,
        False,
        False,
        True,
        TtlAction.SILENT,
    )
    assert isinstance(enter, Enter)
    assert (enter.interface, enter.via, enter.keep_groups) == (
        "gateway-load-balancer:sec/gw-us-east-1a",
        Via.NONE,
        False,
    )
    assert enter.next == "subnet:sec/fw-a/leave"


def test_the_way_back_is_routed_from_its_own_subnet() -> None:
    lowered = program(**inspected())
    assert lowered.tunnels[HERE].resume == f"{HERE}/back"
    hop, enter = chain(lowered, f"{HERE}/back")[:2]
    assert isinstance(enter, Enter)
    assert isinstance(hop, Hop)
    assert (enter.interface, enter.via, enter.keep_groups) == (HERE, Via.ENDPOINT, False)
    assert (hop.mtu, hop.answers_mtu, hop.fragments) == (8500, False, False)
    assert (hop.ttl, enter.next) == (TtlAction.SILENT, "subnet:app/ends/leave")


def test_its_tunnel() -> None:
    tunnel = program(**inspected({"balancer": {"tcp_idle_timeout": 60, "send_tcp_reset": True}})).tunnels[HERE]
    assert (tunnel.source, tunnel.spread) == (IPv4Address("10.9.1.4"), "target-group:sec/fleet/us-east-1a")
    assert tunnel.resets
    assert tunnel.timeouts.tcp_established == 60_000
    assert (tunnel.timeouts.tcp_closing, tunnel.timeouts.other) == (60_000, 120_000)


def test_the_idle_timeout_is_for_flows_of_five_tuples_only() -> None:
    sec = {"balancer": {"tcp_idle_timeout": 60}, "group": {"stickiness": "source_ip_dest_ip"}}
    assert program(**inspected(sec)).tunnels[HERE].timeouts.tcp_established == 350_000


def test_one_that_is_not_available_drops_what_is_routed_to_it() -> None:
    lowered = program(**inspected({"service": {"acceptance_required": True}}))
    assert shape(lowered, f"{HERE}/in") == ["Drop ENDPOINT_UNAVAILABLE"]
    assert lowered.tunnels == {}


def test_nothing_is_for_its_own_address() -> None:
    lowered = program(**inspected())
    assert routes(lowered, "vpc:app/hosts")["10.0.2.4/32"] == f"{HERE}/own"
    assert shape(lowered, f"{HERE}/own") == ["Filter ACL_INGRESS", "Drop ENDPOINT_ADDRESSED"]


def test_two_endpoints_of_one_balancer_share_its_number() -> None:
    declared = inspected()
    declared["vpcs"]["more"] = {**app(), "cidr": "10.0.0.0/16"}
    lowered = program(**declared)
    assert len({tunnel.balancer for tunnel in lowered.tunnels.values()}) == 1
    assert len({tunnel.endpoint_id for tunnel in lowered.tunnels.values()}) == 2


def test_accounts_are_twelve_digits() -> None:
    declared = lab(vpcs={"sec": security(account="12345")}, instances=inspected()["instances"] | {})
    assert ("vpcs.sec.account", "InvalidParameterValue") in [(p.path, p.code) for p in problems(declared)]
