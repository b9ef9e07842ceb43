"""Target groups: what AWS refuses, and who may have flows."""

from __future__ import annotations

from ipaddress import IPv4Address
from typing import Any

import pytest

from dataplane.model.target_group import HealthCheck
from dataplane.program import Stickiness
from dataplane.topology.runtime_state import FormerTarget, RuntimeState, TargetHealth, TargetState
from tests.unit.model.building import expect, lab, peered, problems, program, topology
from tests.unit.model.inspection import GROUP, inspected
from tests.unit.model.program_check import lowered

A, B = "us-east-1a", "us-east-1b"


@pytest.mark.parametrize(
    ("group", "path", "code", "words"),
    [
        ({"protocol": "TCP"}, "protocol", "InvalidConfigurationRequest", "GENEVE, not TCP"),
        ({"port": 80}, "port", "InvalidConfigurationRequest", "write 6081"),
        ({"targets": ["fw-1", "fw-1"]}, "targets[1]", "DuplicateTarget", "listed twice"),
        ({"targets": ["fw-3"]}, "targets[0]", "InvalidTarget", "did you mean fw-"),
        ({"targets": ["10.9.1.21"]}, "targets[0]", "InvalidTarget", "write target_type: ip"),
        ({"targets": ["web"]}, "targets[0]", "InvalidTarget", "instance web is in VPC app"),
        ({"target_type": "ip", "targets": ["fw-1"]}, "targets[0]", "InvalidTarget", "no IPv4 address"),
        ({"target_type": "ip", "targets": ["203.0.113.9"]}, "targets[0]", "InvalidTarget", "nor a private address"),
        ({"target_type": "ip", "targets": ["10.9.9.9"]}, "targets[0]", "InvalidTarget", "none of its subnets"),
        ({"target_type": "ip", "targets": ["10.9.1.1"]}, "targets[0]", "InvalidTarget", "AWS's own in subnet fw-a"),
        ({"target_type": "ip", "targets": ["10.9.1.4"]}, "targets[0]", "InvalidTarget", "gateway load balancer gw"),
        ({"on_unhealthy": "rebalance"}, "on_unhealthy", "InvalidConfigurationRequest", "both the same"),
        ({"on_deregistration": "rebalance"}, "on_unhealthy", "InvalidConfigurationRequest", "both the same"),
        ({"deregistration_delay": 3601}, "deregistration_delay", "InvalidConfigurationRequest", "not from 0 to 3600"),
        ({"health_check": {"port": 0}}, "health_check.port", "InvalidConfigurationRequest", "1 to 65535"),
        ({"health_check": {"interval": 4, "timeout": 2}}, "health_check.interval", None, "not from 5 to 300"),
        ({"health_check": {"interval": 301}}, "health_check.interval", None, "not from 5 to 300"),
        ({"health_check": {"timeout": 1}}, "health_check.timeout", None, "not from 2 to 120"),
        ({"health_check": {"timeout": 121, "interval": 200}}, "health_check.timeout", None, "not from 2 to 120"),
        ({"health_check": {"timeout": 11}}, "health_check.timeout", None, "more than the interval, 10"),
        ({"health_check": {"healthy_threshold": 1}}, "health_check.healthy_threshold", None, "not from 2 to 10"),
        ({"health_check": {"unhealthy_threshold": 11}}, "health_check.unhealthy_threshold", None, "not from 2 to 10"),
        ({"health_check": {"path": "status"}}, "health_check.path", None, "begin it with /"),
        ({"health_check": {"path": "/a b"}}, "health_check.path", None, "is no path"),
        ({"health_check": {"path": "/" + "a" * 1024}}, "health_check.path", None, "is no path"),
        ({"health_check": {"matcher": "399-200"}}, "health_check.matcher", None, "no HTTP status codes"),
        ({"health_check": {"matcher": "199"}}, "health_check.matcher", None, "200 to 599"),
        ({"health_check": {"matcher": "200,x"}}, "health_check.matcher", None, "no HTTP status codes"),
    ],
)
def test_what_aws_refuses(group: dict[str, Any], path: str, code: str | None, words: str) -> None:
    expect(lab(**inspected({"group": group})), f"{GROUP}.{path}", code or "InvalidConfigurationRequest", words)


@pytest.mark.parametrize(
    "group",
    [
        {"protocol": "GENEVE", "port": 6081},
        {"target_type": "ip", "targets": ["10.9.1.21", "172.16.0.1", "192.168.0.1", "100.64.0.1", "10.200.0.1"]},
        {"on_unhealthy": "rebalance", "on_deregistration": "rebalance", "deregistration_delay": 0},
        {"health_check": {"interval": 5, "timeout": 5, "matcher": "200, 302,400-404"}},
        {"health_check": {"path": "/" + "a" * 1023}},
    ],
)
def test_what_it_takes(group: dict[str, Any]) -> None:
    assert problems(lab(**inspected({"group": group}))) == []


def test_a_peers_load_balancer_is_no_target() -> None:
    declared = inspected({"group": {"target_type": "ip", "targets": ["10.9.1.21", "10.20.1.10"]}})
    declared["vpcs"]["more"] = {
        "cidr": "10.20.0.0/16",
        "subnets": {"a": {"cidr": "10.20.1.0/24"}},
        "gateway_load_balancers": {
            "gw": {"subnets": ["a"], "private_ips": {"a": "10.20.1.10"}, "target_group": "none"}
        },
        "target_groups": {"none": {}},
    }
    assert problems(lab(**declared)) == []
    peerings = {"link": {"requester": "sec", "accepter": "more"}}
    expect(lab(**declared, peerings=peerings), f"{GROUP}.targets[1]", "InvalidTarget", "gateway load balancer gw")


def test_status_codes_of_a_matcher() -> None:
    wanted = HealthCheck(matcher="200,302-304").statuses()
    assert [code for code in range(600) if any(code in each for each in wanted)] == [200, 302, 303, 304]


def test_too_many_targets_in_a_zone() -> None:
    group = {"target_type": "ip", "targets": ["10.9.1.21", "10.9.1.22", "10.9.2.22"]}
    declared = lab(**inspected({"group": group}), quotas={"targets_per_zone": 1})
    expect(declared, f"{GROUP}.targets", "TooManyTargets", "the quota is 1")


@pytest.mark.parametrize(("cross_zone", "fits"), [(False, True), (True, False)])
def test_too_many_targets_of_a_load_balancer_with_cross_zone(cross_zone: bool, fits: bool) -> None:
    targets = [f"10.9.{zone}.{n}" for zone in (1, 2) for n in range(20, 171)]
    group = {"target_type": "ip", "targets": targets}
    declared = lab(**inspected({"group": group, "balancer": {"cross_zone": cross_zone}}))
    if fits:
        assert problems(declared) == []
    else:
        expect(declared, f"{GROUP}.targets", "TooManyTargets", "302 targets")


def test_targets_in_their_zones() -> None:
    ips = {"target_type": "ip", "targets": ["10.9.2.9", "10.200.0.1"]}
    for group, expected in (
        ({}, [("fw-1", "10.9.1.21", A), ("fw-2", "10.9.2.22", B)]),
        (ips, [("10.9.2.9", "10.9.2.9", B), ("10.200.0.1", "10.200.0.1", "")]),
    ):
        found = topology(**inspected({"group": group}))
        placed = found.vpc("sec").target_groups["fleet"].placed(found, "sec")
        assert [(each.name, str(each.address), each.zone) for each in placed] == expected


# -- who may have flows

THREE = {"target_type": "ip", "targets": ["10.9.1.21", "10.9.1.31", "10.9.2.22"]}
"""Two in zone a, one in zone b."""
REBALANCE = {"on_unhealthy": "rebalance", "on_deregistration": "rebalance"}


def members(
    zone: str, states: dict[str, TargetState], *former: FormerTarget, group: dict[str, Any], **balancer: Any
) -> dict[str, str]:
    """What each may do for the node in a zone: n = takes new flows, k = keeps those it has."""
    found = topology(**inspected({"group": {**THREE, **group}, "balancer": balancer}))
    health = {("sec", "fleet", name): TargetHealth(state=state) for name, state in states.items()}
    state = RuntimeState(health=health, former={("sec", "fleet"): former})
    made = lowered(found.with_runtime(state))
    spread = made.spreads[f"target-group:sec/fleet/{zone}"]
    assert made.names[spread.owner] == ("target-group", "sec/fleet")
    assert all(made.names[each.number].kind == "target" for each in spread.members)
    return {
        made.names[each.number].path.rpartition("/")[2]: "n" * each.takes_new + "k" * each.keeps
        for each in spread.members
    }


ONE, TWO, OTHER = THREE["targets"]


def gone(*, drained: bool) -> FormerTarget:
    return FormerTarget(name="old", address=IPv4Address("10.9.1.99"), zone=A, drained=drained, until_ms=0)


def test_a_healthy_target_outside_the_vpc_is_enough_for_unhealthy_ones_to_get_nothing() -> None:
    """Health checks for your target groups: only "if all targets are unhealthy", all of them are sent to."""
    outside = "10.200.0.1"
    group = {"targets": [ONE, outside]}
    assert members(A, {ONE: "unhealthy"}, group=group) == {ONE: "k", outside: "nk"}
    assert members(A, {ONE: "unhealthy", outside: "unhealthy"}, group=group) == {ONE: "nk", outside: "nk"}


def test_a_node_uses_healthy_targets_of_its_zone() -> None:
    assert members(A, {}, group={}) == {ONE: "nk", TWO: "nk", OTHER: "k"}
    assert members(B, {}, group={}) == {ONE: "k", TWO: "k", OTHER: "nk"}
    assert members(A, {ONE: "unhealthy"}, group={}) == {ONE: "k", TWO: "nk", OTHER: "k"}
    assert members(A, {ONE: "initial"}, group={}) == {ONE: "k", TWO: "nk", OTHER: "k"}


def test_with_cross_zone_it_uses_those_of_all_enabled_zones() -> None:
    assert members(A, {}, group={}, cross_zone=True) == {ONE: "nk", TWO: "nk", OTHER: "nk"}
    only_a = {"cross_zone": True, "subnets": ["fw-a"]}
    assert members(A, {}, group={}, **only_a) == {ONE: "nk", TWO: "nk", OTHER: "k"}


def test_a_zone_where_all_are_unhealthy_fails_open_while_another_one_has_a_healthy_target() -> None:
    sick: dict[str, TargetState] = {ONE: "unhealthy", TWO: "unhealthy"}
    for group in ({}, REBALANCE):
        assert members(A, sick, group=group) == {ONE: "nk", TWO: "nk", OTHER: "k"}
        assert members(B, sick, group=group)[OTHER] == "nk"
        across = {ONE: "k" if group is not REBALANCE else "", TWO: "k" if group is not REBALANCE else "", OTHER: "nk"}
        assert members(A, sick, group=group, cross_zone=True) == across


def test_fail_open_when_none_of_the_group_is_healthy() -> None:
    sick: dict[str, TargetState] = {ONE: "unhealthy", TWO: "initial", OTHER: "unhealthy"}
    assert members(A, sick, group={}) == {ONE: "nk", TWO: "nk", OTHER: "k"}
    assert members(B, sick, group={})[OTHER] == "nk"


def test_a_healthy_target_in_a_zone_that_is_not_enabled_does_not_count() -> None:
    sick: dict[str, TargetState] = {ONE: "unhealthy", TWO: "unhealthy"}
    assert members(A, sick, group={}, subnets=["fw-a"]) == {ONE: "nk", TWO: "nk", OTHER: "k"}


def test_a_target_outside_the_vpc_is_considered_everywhere() -> None:
    group = {"targets": [ONE, "10.200.0.1"]}
    assert members(A, {}, group=group) == {ONE: "nk", "10.200.0.1": "nk"}
    assert members(B, {}, group=group) == {ONE: "k", "10.200.0.1": "nk"}


@pytest.mark.parametrize(
    ("state", "keeps"), [("healthy", True), ("initial", True), ("unhealthy", False), ("draining", True)]
)
def test_with_rebalance_flows_leave_an_unhealthy_target(state: TargetState, keeps: bool) -> None:
    assert ("k" in members(A, {ONE: state}, group=REBALANCE)[ONE]) == keeps
    assert "k" in members(A, {ONE: state}, group={})[ONE]


@pytest.mark.parametrize("drained", [False, True])
def test_a_former_target_takes_nothing_new_and_keeps_its_flows_until_it_is_drained(drained: bool) -> None:
    assert members(A, {}, gone(drained=drained), group={})["old"] == "k"
    assert members(A, {}, gone(drained=drained), group=REBALANCE)["old"] == ("" if drained else "k")


def test_a_former_target_keeps_its_flows_when_nobody_else_can_take_them() -> None:
    assert members(A, {}, gone(drained=True), group={**REBALANCE, "targets": []}) == {"old": "k"}


@pytest.mark.parametrize(
    ("written", "lowered_to"),
    [
        ("5_tuple", Stickiness.FIVE_TUPLE),
        ("source_ip_dest_ip_proto", Stickiness.THREE_TUPLE),
        ("source_ip_dest_ip", Stickiness.TWO_TUPLE),
    ],
)
def test_stickiness(written: str, lowered_to: Stickiness) -> None:
    made = program(**inspected({"group": {"stickiness": written}}))
    assert {spread.stickiness for spread in made.spreads.values()} == {lowered_to}


def test_each_group_is_spread_over_the_zones_of_its_own_load_balancer() -> None:
    """The other one of the VPC, in more zones and across them, has nothing to do with it."""
    declared = inspected({"group": THREE})
    sec = declared["vpcs"]["sec"]
    sec["target_groups"]["more"] = THREE
    sec["gateway_load_balancers"]["more"] = {"subnets": ["fw-a"], "target_group": "more"}
    sec["gateway_load_balancers"]["gw"]["cross_zone"] = True
    made = program(**declared)
    takes = {
        label: [made.names[each.number].path for each in spread.members if each.takes_new]
        for label, spread in made.spreads.items()
    }
    everybody = [f"sec/fleet/{name}" for name in (ONE, TWO, OTHER)]
    assert takes == {
        f"target-group:sec/fleet/{A}": everybody,
        f"target-group:sec/fleet/{B}": everybody,
        f"target-group:sec/more/{A}": [f"sec/more/{ONE}", f"sec/more/{TWO}"],
    }


def test_a_group_without_a_load_balancer_has_no_spread() -> None:
    declared = peered()
    declared["vpcs"]["shop"]["target_groups"] = {"spare": {}}
    assert program(**declared).spreads == {}
