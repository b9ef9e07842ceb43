"""Which targets take flows: zones, health, failing open, rebalancing.

https://docs.aws.amazon.com/elasticloadbalancing/latest/gateway/health-checks.html
https://docs.aws.amazon.com/elasticloadbalancing/latest/gateway/edit-target-group-attributes.html
https://docs.aws.amazon.com/elasticloadbalancing/latest/gateway/gateway-load-balancers.html (cross-zone)
"""

from __future__ import annotations

import pytest
from scapy.layers.inet import IP, TCP, UDP

from dataplane.verdict import Reason
from tests.scenario.gwlb import (
    APP,
    DB,
    EVERYBODY,
    IN_A,
    LAB,
    NODE_A,
    balancer,
    delivered,
    group,
    send_back,
    set_state,
    targets_of_flows,
)
from tests.scenario.network import Network

QUERY = IP(src=APP, dst=DB) / UDP(sport=5000, dport=53)
SYN = IP(src=APP, dst=DB) / TCP(sport=40000, dport=80, flags="S")
ACK = IP(src=APP, dst=DB) / TCP(sport=40000, dport=80, flags="A")
CROSS_ZONE = balancer(cross_zone="true")
REBALANCE = {"on_deregistration": "rebalance", "on_unhealthy": "rebalance"}
WITHOUT = {name: LAB.replace("[fw1, fw2, fw3]", f"[{', '.join(sorted(EVERYBODY - {name}))}]") for name in EVERYBODY}


def one_flow(text: str) -> tuple[Network, str, str]:
    """A lab with a flow, the flow's target, and the other target of its zone."""
    net = Network(text)
    target = delivered(net.send("app", QUERY)).target
    [other] = IN_A - {target}
    return net, target, other


def test_only_targets_of_the_endpoints_zone() -> None:
    assert targets_of_flows(Network(LAB)) <= IN_A


def test_of_all_zones_with_cross_zone() -> None:
    net = Network(CROSS_ZONE)
    set_state(net, {"fw1": "unhealthy", "fw2": "initial", "fw3": "healthy"})
    got = [delivered(net.send("app", IP(src=APP, dst=DB) / UDP(sport=n, dport=9))) for n in range(1, 9)]
    assert {each.target for each in got} == {"fw3"}
    assert {each.source for each in got} == {NODE_A}
    assert send_back(net, got[0]).to == "db"


@pytest.mark.parametrize("elsewhere", ["healthy", "unhealthy"])
def test_zone_without_healthy_targets_fails_open(elsewhere: str) -> None:
    """ "Load balancing and health check decisions are always independent among zones." """
    net = Network(LAB)
    set_state(net, {"fw1": "unhealthy", "fw2": "unhealthy", "fw3": elsewhere})
    assert targets_of_flows(net) <= IN_A


def test_with_cross_zone_another_zones_healthy_target_is_enough() -> None:
    net = Network(CROSS_ZONE)
    set_state(net, {"fw1": "unhealthy", "fw2": "unhealthy", "fw3": "healthy"})
    assert targets_of_flows(net) == {"fw3"}


def test_zone_that_is_not_enabled_is_not_asked() -> None:
    text = LAB.replace("subnets: [fw-a, fw-b], private_ips: {fw-a: 10.9.1.10, fw-b: 10.9.2.10}",
                       "subnets: [fw-a], private_ips: {fw-a: 10.9.1.10}, cross_zone: true")  # fmt: skip
    net = Network(text)
    set_state(net, {"fw1": "unhealthy", "fw2": "unhealthy", "fw3": "healthy"})
    assert targets_of_flows(net) <= IN_A  # it fails open: whether fw3 is healthy is nothing to it
    set_state(net, {"fw1": "unhealthy", "fw2": "healthy", "fw3": "healthy"})
    assert targets_of_flows(net, first=5000) == {"fw2"}


@pytest.mark.parametrize("targets", ["[]", "[fw3]"])
def test_zone_without_targets_drops(targets: str) -> None:
    result = Network(LAB.replace("[fw1, fw2, fw3]", targets)).send("app", QUERY)
    assert (result.reason, result.sent) == (Reason.BALANCER_NO_TARGET, ())
    assert result.by == "gateway-load-balancer security/inspection"


@pytest.mark.parametrize("state", ["initial", "unhealthy", "draining", "unused"])
def test_only_healthy_targets_take_new_flows(state: str) -> None:
    net = Network(LAB)
    set_state(net, {"fw1": state, "fw2": "healthy"})
    assert targets_of_flows(net, 20) == {"fw2"}


def test_what_is_not_known_of_a_target_counts_as_healthy() -> None:
    net = Network(LAB)
    set_state(net, {"fw1": "unhealthy"})
    assert targets_of_flows(net, 20) == {"fw2"}


def test_draining_targets_take_nothing_even_then() -> None:
    net = Network(LAB)
    set_state(net, {"fw1": "draining", "fw2": "unhealthy", "fw3": "unhealthy"})
    assert targets_of_flows(net, 20) == {"fw2"}


@pytest.mark.parametrize("address", ["10.9.1.21", "10.9.2.23"])
def test_address_as_target(address: str) -> None:
    text = LAB.replace("fleet: {targets: [fw1, fw2, fw3]}", f'fleet: {{target_type: ip, targets: ["{address}"]}}')
    result = Network(text).send("app", QUERY)
    if address == "10.9.1.21":
        assert delivered(result).target == "fw1"
    else:  # it is of the other zone
        assert result.reason is Reason.BALANCER_NO_TARGET
        assert delivered(Network(balancer(text, cross_zone="true")).send("app", QUERY)).target == "fw3"


# -- flows that exist


@pytest.mark.parametrize("state", ["initial", "unhealthy", "draining"])
def test_flows_stay_where_they_are(state: str) -> None:
    net, target, other = one_flow(LAB)
    set_state(net, {target: state, other: "healthy"})
    got = delivered(net.send("app", QUERY))
    assert got.target == target
    assert send_back(net, got).to == "db"


@pytest.mark.parametrize("drained", [False, True])
def test_even_with_a_target_that_has_left(drained: bool) -> None:
    net, target, other = one_flow(LAB)
    net.apply(WITHOUT[target])
    set_state(net, former={target: (f"10.9.1.2{target[-1]}", drained)})
    got = delivered(net.send("app", QUERY))
    assert got.target == target
    assert send_back(net, got).to == "db"
    assert targets_of_flows(net, 20) == {other}


@pytest.mark.parametrize("state", ["initial", "draining", "healthy"])
def test_rebalancing_leaves_them_with_a_target_that_may_still_work(state: str) -> None:
    net, target, other = one_flow(group(**REBALANCE))
    set_state(net, {target: state, other: "healthy"})
    assert delivered(net.send("app", QUERY)).target == target


def test_rebalancing_moves_them_away_from_an_unhealthy_one() -> None:
    net, target, other = one_flow(group(**REBALANCE))
    before = delivered(net.send("app", QUERY))
    set_state(net, {target: "unhealthy", other: "healthy"})
    after = delivered(net.send("app", QUERY))
    assert (after.target, after.identity) == (other, before.identity)
    assert send_back(net, after).to == "db"
    assert send_back(net, before).reason is Reason.GENEVE_SENDER
    set_state(net, {target: "healthy", other: "healthy"})
    assert delivered(net.send("app", QUERY)).target == other


def test_in_the_middle_of_a_connection_too() -> None:
    net = Network(group(**REBALANCE))
    target = delivered(net.send("app", SYN)).target
    [other] = IN_A - {target}
    set_state(net, {target: "unhealthy"})
    assert delivered(net.send("app", ACK)).target == other


@pytest.mark.parametrize(("drained", "stays"), [(False, True), (True, False)])
def test_rebalancing_waits_for_the_deregistration_delay(drained: bool, stays: bool) -> None:
    net, target, other = one_flow(group(**REBALANCE))
    net.apply(group(**REBALANCE).replace("[fw1, fw2, fw3]", f"[{other}, fw3]"))
    set_state(net, former={target: (f"10.9.1.2{target[-1]}", drained)})
    assert delivered(net.send("app", QUERY)).target == (target if stays else other)


def test_rebalancing_stays_when_there_is_nowhere_to_go() -> None:
    net, target, other = one_flow(group(**REBALANCE))
    set_state(net, {target: "unhealthy", other: "unhealthy", "fw3": "healthy"})
    assert delivered(net.send("app", QUERY)).target == target
    assert targets_of_flows(net) <= IN_A


def test_rebalancing_stays_where_nobody_is_healthy() -> None:
    """Not to those that get new flows because nobody is, be they new."""
    text = group(**REBALANCE)
    net = Network(text.replace("[fw1, fw2, fw3]", "[fw1, fw3]"))
    set_state(net, {"fw1": "unhealthy", "fw3": "healthy"})
    assert targets_of_flows(net) == {"fw1"}
    net.apply(text)
    for state in ("initial", "unhealthy", "unused", "draining"):
        set_state(net, {"fw1": "unhealthy", "fw2": state, "fw3": "healthy"})
        assert targets_of_flows(net) == {"fw1"}
    set_state(net, {"fw1": "unhealthy", "fw2": "healthy", "fw3": "unhealthy"})
    assert targets_of_flows(net) == {"fw2"}


def test_target_that_vanished_without_a_trace_is_replaced() -> None:
    net, target, other = one_flow(LAB)
    before = delivered(net.send("app", QUERY))
    net.apply(WITHOUT[target])
    assert send_back(net, before).reason is Reason.GENEVE_SENDER
    after = delivered(net.send("app", QUERY))
    assert (after.target, after.identity) == (other, before.identity)


def test_and_if_nobody_can_replace_it_the_packet_dies() -> None:
    net, target, other = one_flow(LAB)
    net.apply(WITHOUT[target])
    set_state(net, {other: "draining", "fw3": "healthy"})
    assert net.send("app", QUERY).reason is Reason.BALANCER_NO_TARGET


def test_flows_move_together_where_they_stick_together() -> None:
    net = Network(group(stickiness="source_ip_dest_ip", **REBALANCE))
    flows = [IP(src=APP, dst=DB) / UDP(sport=n, dport=9) for n in range(1, 6)]
    [target] = {delivered(net.send("app", each)).target for each in flows}
    [other] = IN_A - {target}
    set_state(net, {target: "unhealthy"})
    assert {delivered(net.send("app", each)).target for each in flows} == {other}


def test_new_flows_go_where_those_that_they_stick_to_have_moved() -> None:
    net = Network(group(stickiness="source_ip_dest_ip", **REBALANCE))
    target = delivered(net.send("app", QUERY)).target
    [other] = IN_A - {target}
    set_state(net, {target: "unhealthy"})
    assert delivered(net.send("app", QUERY)).target == other
    set_state(net, {target: "healthy"})
    assert targets_of_flows(net, 5) == {other}


def test_another_address_of_the_same_target_gets_the_flow() -> None:
    text = LAB.replace("targets: [fw1, fw2, fw3]", "targets: [fw1]")
    net = Network(text)
    before = delivered(net.send("app", QUERY))
    net.apply(text.replace("private_ip: 10.9.1.21", "private_ip: 10.9.1.99"))
    after = delivered(net.send("app", QUERY))
    assert (after.destination, after.identity) == ("10.9.1.99", before.identity)
    assert send_back(net, after).to == "db"


def test_equal_flows_of_both_failover_settings_survive_a_change_of_the_lab() -> None:
    net, target, _ = one_flow(LAB)
    before = delivered(net.send("app", QUERY))
    net.apply(LAB.replace("cidr: 10.9.2.0/24", "cidr: 10.9.2.0/25"))
    after = delivered(net.send("app", QUERY))
    assert (after.target, after.identity) == (target, before.identity)
