"""Targets of load balancers as rows: words of DescribeTargetHealth, and what their flows have carried.

https://docs.aws.amazon.com/elasticloadbalancing/latest/APIReference/API_TargetHealth.html
"""

from __future__ import annotations

from ipaddress import IPv4Address
from typing import Any

from scapy.layers.inet import IP, UDP

from dataplane.topology.runtime_state import FormerTarget, RuntimeState, TargetHealth
from lab.targets import targets
from tests.scenario.gwlb import APP, DB, LAB, ONE, delivered, send_back
from tests.scenario.network import Network

FLEET = ("security", "fleet")


def state(network: Network, *former: FormerTarget, **health: TargetHealth) -> None:
    known = {(*FLEET, name): each for name, each in health.items()}
    made = RuntimeState(health=known, former={FLEET: former})
    network.plane.apply(network.plane.topology.with_runtime(made))


def former(name: str, address: str, *, drained: bool) -> FormerTarget:
    return FormerTarget(name=name, address=IPv4Address(address), zone="us-east-1a", drained=drained, until_ms=0)


def row(target: str, address: str, zone: str | None = "us-east-1a", **fields: Any) -> dict[str, Any]:
    common = {"target_group": "security/fleet", "load_balancers": ["security/inspection"], "zone": zone}
    words = {"state": "healthy", "reason": None, "description": None, "flows": 0, "packets": 0, "bytes": 0}
    return {"target": target, "address": address, **common, **words, **fields}


def test_every_registered_target_has_a_row_in_the_order_of_the_file() -> None:
    spare = LAB.replace(
        "    endpoint_services:", "      spare: {target_type: ip, targets: [10.0.2.99]}\n    endpoint_services:", 1
    )
    network = Network(spare, engine="fast")
    unwell = TargetHealth(state="unhealthy", reason="Target.Timeout", description="Request timed out")
    state(network, fw2=unwell)
    assert targets(network.plane) == [
        row("fw1", "10.9.1.21"),
        row("fw2", "10.9.1.22", state="unhealthy", reason="Target.Timeout", description="Request timed out"),
        row("fw3", "10.9.2.23", "us-east-1b"),
        row("10.0.2.99", "10.0.2.99", None) | {"target_group": "security/spare", "load_balancers": []},
    ], "an address outside the VPC is in no zone, and nobody has the group in use"


def test_what_the_flows_of_a_target_carry_is_counted_both_ways() -> None:
    """Each packet once, of all its flows."""
    network = Network(ONE, engine="fast")
    for port, there, back in ((1, 1, 0), (2, 3, 2)):
        ways = [("app", IP(src=APP, dst=DB) / UDP(sport=port, dport=53) / bytes(72))] * there
        ways += [("db", IP(src=DB, dst=APP) / UDP(sport=53, dport=port) / bytes(172))] * back
        for node, packet in ways:
            send_back(network, delivered(network.send(node, packet)))
    [found] = targets(network.plane)
    assert (found["flows"], found["packets"], found["bytes"]) == (2, 6, 4 * 100 + 2 * 200)


def test_who_leaves_is_draining_until_its_delay_is_over_and_unused_while_flows_stay() -> None:
    network = Network(ONE, engine="fast")
    delivered(network.send("app", IP(src=APP, dst=DB) / UDP(sport=1, dport=53)))
    network.apply(LAB.replace("targets: [fw1, fw2, fw3]", "targets: [fw3]"))

    def told(*gone: FormerTarget) -> list[tuple[Any, ...]]:
        state(network, *gone)
        rows = targets(network.plane)
        return [(each["target"], each["address"], each["state"], each["reason"], each["description"]) for each in rows]

    fw3 = ("fw3", "10.9.2.23", "healthy", None, None)
    draining = ("draining", "Target.DeregistrationInProgress", "Target deregistration is in progress")
    unused = ("unused", "Target.NotRegistered", "Target is not registered to the target group")
    fw1, fw2 = ("fw1", "10.9.1.21"), ("fw2", "10.9.1.22")
    assert told(former(*fw1, drained=False), former(*fw2, drained=False)) == [fw3, (*fw1, *draining), (*fw2, *draining)]
    assert told(former(*fw1, drained=True), former(*fw2, drained=True)) == [fw3, (*fw1, *unused)], "fw2 has no flow"
    [_, found] = targets(network.plane)
    assert (found["flows"], found["zone"]) == (1, "us-east-1a")
    network.wait(400)
    assert told(former(*fw1, drained=True)) == [fw3], "its flow is over"
