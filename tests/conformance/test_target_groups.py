"""Target groups of gateway load balancers: who may be a target, health, and flows of targets that fail or leave."""

from __future__ import annotations

import pytest
from scapy.layers.inet import IP, TCP, UDP

from dataplane.verdict import Reason
from tests.conformance.behaviours import behaviour
from tests.conformance.labs import accepted, changed, refused
from tests.conformance.sources import balancer_guide
from tests.scenario.gwlb import (
    APP,
    DB,
    FAR,
    IN_A,
    LAB,
    delivered,
    group,
    send_back,
    set_state,
    targets_of_flows,
)
from tests.scenario.network import Network

SECTION = "Gateway load balancers"

GROUPS, HEALTH = balancer_guide("target-groups"), balancer_guide("health-checks")
AT = "vpcs.security.target_groups.fleet"
QUERY = IP(src=APP, dst=DB) / UDP(sport=5000, dport=53)
SYN = IP(src=APP, dst=DB) / TCP(sport=40000, dport=80, flags="S")
REBALANCE = {"on_deregistration": "rebalance", "on_unhealthy": "rebalance"}


def one_flow(text: str) -> tuple[Network, str, str]:
    """A lab with a flow, the flow's target, and the other target of its zone."""
    network = Network(text)
    target = delivered(network.send("app", QUERY)).target
    [other] = IN_A - {target}
    return network, target, other


def deregister(network: Network, text: str, target: str, *, drained: bool) -> None:
    """Take a target of zone a out of its group; `drained`: its delay is over."""
    [other] = IN_A - {target}
    network.apply(changed(text, ("[fw1, fw2, fw3]", f"[{other}, fw3]")))
    set_state(network, former={target: (f"10.9.1.2{target[-1]}", drained)})


# -- health


@behaviour("New flows go to healthy targets only", source=HEALTH)
@pytest.mark.parametrize("state", ["initial", "unhealthy", "draining", "unused"])
def test_healthy_targets(state: str) -> None:
    network = Network(LAB)
    set_state(network, {"fw1": state, "fw2": "healthy"})
    assert targets_of_flows(network, 20) == {"fw2"}


@behaviour(
    "When all targets are unhealthy new flows go to any of them, and stay there while others recover", source=HEALTH
)
def test_fail_open() -> None:
    network = Network(LAB)
    set_state(network, dict.fromkeys(("fw1", "fw2", "fw3"), "unhealthy"))
    first = delivered(network.send("app", QUERY))
    assert first.target in IN_A
    [other] = IN_A - {first.target}
    set_state(network, {first.target: "unhealthy", other: "healthy", "fw3": "healthy"})
    assert delivered(network.send("app", QUERY)).target == first.target
    assert targets_of_flows(network, 20) == {other}


@behaviour("Without a target nothing passes a gateway load balancer: there is no way around", source=HEALTH)
def test_no_targets() -> None:
    network = Network(changed(LAB, ("[fw1, fw2, fw3]", "[]")))
    for node, packet in (("app", QUERY), ("app", SYN), ("far", IP(src=FAR, dst="203.0.113.20") / TCP(flags="S"))):
        result = network.send(node, packet)
        assert (result.reason, result.sent) == (Reason.BALANCER_NO_TARGET, ())


@behaviour(
    "That a target is unhealthy is nothing to what it sends back: packets of its flows go on",
    silent=True,
    source=HEALTH,
)
def test_unhealthy_target_sends_back() -> None:
    network = Network(LAB)
    got = delivered(network.send("app", QUERY))
    set_state(network, {got.target: "unhealthy"})
    assert send_back(network, got).to == "db"


# -- flows of a target that fails or leaves


@behaviour("By default flows stay with a target that fails, and only new ones avoid it", source=GROUPS)
def test_failed_target() -> None:
    network, target, other = one_flow(LAB)
    set_state(network, {target: "unhealthy", other: "healthy"})
    assert delivered(network.send("app", QUERY)).target == target
    assert targets_of_flows(network, 20) == {other}


@behaviour("By default flows stay with a target that is deregistered, after its delay too", source=GROUPS)
@pytest.mark.parametrize("drained", [False, True])
def test_deregistered_target(drained: bool) -> None:
    network, target, other = one_flow(LAB)
    deregister(network, LAB, target, drained=drained)
    got = delivered(network.send("app", QUERY))
    assert (got.target, send_back(network, got).to) == (target, "db")
    assert targets_of_flows(network, 20) == {other}


@behaviour("With rebalance the flows of a target that fails go to a healthy one", source=GROUPS)
def test_rebalance_when_unhealthy() -> None:
    network, target, other = one_flow(group(**REBALANCE))
    set_state(network, {target: "unhealthy", other: "healthy"})
    got = delivered(network.send("app", QUERY))
    assert (got.target, send_back(network, got).to) == (other, "db")


@behaviour("With rebalance the flows of a deregistered target go to another one when its delay is over", source=GROUPS)
@pytest.mark.parametrize("drained", [False, True])
def test_rebalance_when_deregistered(drained: bool) -> None:
    text = group(**REBALANCE)
    network, target, other = one_flow(text)
    deregister(network, text, target, drained=drained)
    assert delivered(network.send("app", QUERY)).target == (other if drained else target)


@behaviour(
    "A flow that has gone to another target keeps its cookie and source port, and the old target has no say in it",
    silent=True,
    source=GROUPS,
)
def test_identity_of_a_rebalanced_flow() -> None:
    network, target, other = one_flow(group(**REBALANCE))
    before = delivered(network.send("app", QUERY))
    set_state(network, {target: "unhealthy", other: "healthy"})
    after = delivered(network.send("app", QUERY))
    assert after.identity == before.identity
    assert send_back(network, before).reason is Reason.GENEVE_SENDER


@behaviour(
    "With rebalance flows go to healthy targets only: when all are unhealthy they stay, and new ones go to any for "
    "their life",
    source=HEALTH,
)
@pytest.mark.parametrize("other_state", ["unhealthy", "initial", "unused"])
def test_rebalance_when_all_are_unhealthy(other_state: str) -> None:
    network, target, other = one_flow(group(**REBALANCE))
    states = {target: "unhealthy", "fw3": "unhealthy"}
    set_state(network, states | {other: other_state})
    first = [delivered(network.send("app", IP(src=APP, dst=DB) / UDP(sport=n, dport=9))).target for n in range(20)]
    set_state(network, states | {other: "unhealthy"})
    again = [delivered(network.send("app", IP(src=APP, dst=DB) / UDP(sport=n, dport=9))).target for n in range(20)]
    assert again == first
    assert delivered(network.send("app", QUERY)).target == target
    set_state(network, states | {other: "healthy"})
    assert {delivered(network.send("app", IP(src=APP, dst=DB) / UDP(sport=n, dport=9))).target for n in range(20)} == {
        other
    }


@behaviour("With rebalance and nowhere to go, flows stay", silent=True, source=GROUPS)
def test_rebalance_with_nowhere_to_go() -> None:
    network, target, other = one_flow(group(**REBALANCE))
    set_state(network, {target: "unhealthy", other: "unhealthy", "fw3": "healthy"})
    assert delivered(network.send("app", QUERY)).target == target


@behaviour("A target group is for GENEVE to port 6081, and nothing else", source=GROUPS)
def test_protocol_and_port() -> None:
    accepted(group(protocol="GENEVE", port=6081))
    assert (f"{AT}.protocol", "InvalidConfigurationRequest") in refused(group(protocol="UDP"))
    assert (f"{AT}.port", "InvalidConfigurationRequest") in refused(group(port=6082))


@behaviour("Both failover attributes have to have one value", source=GROUPS)
@pytest.mark.parametrize("attribute", ["on_deregistration", "on_unhealthy"])
def test_failover_attributes(attribute: str) -> None:
    accepted(group(**REBALANCE))
    assert (f"{AT}.on_unhealthy", "InvalidConfigurationRequest") in refused(group(**{attribute: "rebalance"}))


@behaviour("A deregistered target drains for 0 to 3600 seconds", source=GROUPS)
def test_deregistration_delay() -> None:
    for seconds in (0, 300, 3600):
        accepted(group(deregistration_delay=seconds))
    assert (f"{AT}.deregistration_delay", "InvalidConfigurationRequest") in refused(group(deregistration_delay=3601))


@behaviour(
    "Targets by address are of the VPC, or of 10/8, 100.64/10, 172.16/12 or 192.168/16: never public", source=GROUPS
)
@pytest.mark.parametrize(
    ("address", "fits"),
    [
        ("10.9.1.21", True),
        ("10.200.0.1", True),
        ("100.64.0.1", True),
        ("100.127.255.254", True),
        ("172.31.255.254", True),
        ("192.168.0.1", True),
        ("100.128.0.1", False),
        ("172.32.0.1", False),
        ("203.0.113.99", False),
    ],
)
def test_addresses(address: str, fits: bool) -> None:
    text = changed(LAB, ("fleet: {targets: [fw1, fw2, fw3]}", f'fleet: {{target_type: ip, targets: ["{address}"]}}'))
    if fits:
        accepted(text)
    else:
        assert (f"{AT}.targets[0]", "InvalidTarget") in refused(text)


@behaviour("A target by address gets packets as one by name does", source=GROUPS)
def test_target_by_address() -> None:
    text = changed(LAB, ("fleet: {targets: [fw1, fw2, fw3]}", 'fleet: {target_type: ip, targets: ["10.9.1.22"]}'))
    network = Network(text)
    got = delivered(network.send("app", QUERY))
    assert (got.target, send_back(network, got).to) == ("fw2", "db")


@behaviour("The address of a load balancer is no target", source=HEALTH)
def test_load_balancer_as_target() -> None:
    text = changed(LAB, ("fleet: {targets: [fw1, fw2, fw3]}", 'fleet: {target_type: ip, targets: ["10.9.2.10"]}'))
    assert (f"{AT}.targets[0]", "InvalidTarget") in refused(text)


@behaviour(
    "Health checks are TCP, HTTP or HTTPS, each 5 to 300 seconds, with 2 to 120 for an answer and 2 to 10 in a row",
    source=HEALTH,
)
def test_health_check_settings() -> None:
    for fine in ("protocol: HTTP, port: 65535", "interval: 5, timeout: 2", "interval: 300, timeout: 120",
                 "healthy_threshold: 2, unhealthy_threshold: 10", "protocol: HTTPS, path: /up, port: 443"):  # fmt: skip
        accepted(group(health_check=f"{{{fine}}}"))
    for key, wrong in (
        ("protocol", "UDP"),
        ("port", "0"),
        ("interval", "4"),
        ("interval", "301"),
        ("timeout", "1"),
        ("timeout", "121"),
        ("healthy_threshold", "1"),
        ("unhealthy_threshold", "11"),
    ):
        paths = {path for path, _ in refused(group(health_check=f"{{{key}: {wrong}}}"))}
        assert f"{AT}.health_check.{key}" in paths


@behaviour("The timeout of a health check is not longer than its interval", source=HEALTH)
def test_health_check_timeout() -> None:
    accepted(group(health_check="{interval: 20, timeout: 20}"))
    assert refused(group(health_check="{interval: 20, timeout: 21}"))
