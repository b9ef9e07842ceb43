from __future__ import annotations

from typing import Any

import pytest

from dataplane.program import Filter, FlowPolicy, Hop, TtlAction
from tests.unit.model.building import expect, lab, peered, program, topology, vpc
from tests.unit.model.inspection import inspected


@pytest.mark.parametrize("value", [0, -1, 86401])
def test_times_are_from_a_second_to_a_day(value: int) -> None:
    expect(lab(settings={"icmp_timeout": value}), "settings.icmp_timeout", "InvalidParameterValue", "the default is 30")


def test_every_setting_has_a_default_that_changes_nothing() -> None:
    sections: dict[str, Any] = {"vpcs": {"shop": vpc(internet_gateway={})}, "instances": {}}
    assert topology(**sections).lab.settings == topology(settings={}, **sections).lab.settings


@pytest.mark.parametrize(("word", "action"), [("decrement", TtlAction.SILENT), ("keep", TtlAction.KEEP)])
def test_gateways_to_the_internet_may_keep_the_ttl(word: str, action: TtlAction) -> None:
    gateways: dict[str, Any] = {
        "internet_gateway": {},
        "egress_only_internet_gateway": {},
        "ipv6_cidrs": ["2001:db8::/56"],
    }
    lowered = program(vpcs={"shop": vpc(**gateways)}, settings={"internet_gateway_ttl": word})
    for label in ("internet-gateway:shop/out/hop", "egress-only-internet-gateway:shop/out/hop"):
        hop = lowered.nodes[label]
        assert isinstance(hop, Hop)
        assert hop.ttl is action


def test_a_peering_may_count_as_a_hop_and_be_silent() -> None:
    sections = peered()
    sections["peerings"]["link"]["accepter_region"] = "eu-west-1"
    lowered = program(**sections, settings={"peering_ttl": "decrement", "inter_region_too_big": "silent"})
    hop = lowered.nodes["vpc-peering:link/from:shop/hop"]
    assert isinstance(hop, Hop)
    assert (hop.ttl, hop.answers_mtu, hop.mtu) == (TtlAction.SILENT, False, 8500)


def test_free_addresses_may_be_answered_with_the_router() -> None:
    silent, loud = (
        program(vpcs={"shop": vpc()}, settings={"arp_for_unassigned": word}).neighbours["subnet:shop/one"]
        for word in ("silent", "router")
    )
    assert {str(prefix) for prefix, _ in loud} - {str(prefix) for prefix, _ in silent} == {"10.0.1.0/24"}


def test_free_ipv6_addresses_may_be_answered_with_the_router_too() -> None:
    subnets = {"one": {"cidr": "10.0.1.0/24", "ipv6_cidr": "2001:db8:0:1::/64"}}
    shop = vpc(ipv6_cidrs=["2001:db8::/56"], subnets=subnets)
    answered = program(vpcs={"shop": shop}, settings={"arp_for_unassigned": "router"}).neighbours["subnet:shop/one"]
    [router] = {mac for prefix, mac in answered if str(prefix) == "10.0.1.1/32"}
    assert {str(prefix): mac for prefix, mac in answered}["2001:db8:0:1::/64"] == router


def test_timers_reach_what_they_are_about() -> None:
    times = {
        "nat_closing_timeout": 7,
        "egress_only_tcp_timeout": 8,
        "egress_only_other_timeout": 9,
        "fragment_timeout": 10,
    }
    gateways: dict[str, Any] = {
        "egress_only_internet_gateway": {},
        "ipv6_cidrs": ["2001:db8::/56"],
        "internet_gateway": {},
    }
    nat: dict[str, Any] = {"nat_gateways": {"nat": {"subnet": "one", "elastic_ip": "203.0.113.10"}}}
    lowered = program(vpcs={"shop": vpc(**gateways, **nat)}, settings=times)
    policy = lowered.flow_policies["egress-only-internet-gateway:shop"]
    assert isinstance(policy, FlowPolicy)
    limits = policy.timeouts
    assert (limits.tcp_established, limits.tcp_opening, limits.tcp_closing) == (8_000, 8_000, 7_000)
    assert {limits.udp_single, limits.udp_stream, limits.icmp, limits.other} == {9_000}
    assert lowered.nat_policies["nat-gateway:shop/nat"].timeouts.tcp_closing == 7_000
    assert lowered.fragment_timeout == 10_000
    assert isinstance(lowered.nodes["nat-gateway:shop/nat/in"], Filter)


def test_a_closing_connection_is_kept_as_long_by_a_balancer_and_by_a_peering_as_their_settings_say() -> None:
    settings = {"tcp_closing_timeout": 5, "nat_closing_timeout": 7, "balancer_closing_timeout": 11}
    made = program(**inspected(), settings=settings)
    assert made.tunnels["vpc-endpoint:app/ep"].timeouts.tcp_closing == 11_000
    nodes = [made.flow_policies[label] for label in made.flow_policies if label.startswith("gateway-load-balancer:")]
    assert [policy.timeouts.tcp_closing for policy in nodes] == [11_000, 11_000]
    gateway = {"nat": {"subnet": "one", "connectivity": "private"}}
    remembered = program(**peered(nat_gateways=gateway), settings=settings).flow_policies["vpc-peering:link/into:store"]
    assert remembered.timeouts.tcp_closing == 7_000


def test_inside_a_region_the_sender_of_what_is_too_large_is_always_told() -> None:
    hop = program(**peered(), settings={"inter_region_too_big": "silent"}).nodes["vpc-peering:link/from:shop/hop"]
    assert isinstance(hop, Hop)
    assert (hop.answers_mtu, hop.mtu) == (True, 9001)
