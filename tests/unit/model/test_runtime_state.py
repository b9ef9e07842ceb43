"""What targets are like, and who has left: how it outlives a change of the lab, and how it ends."""

from __future__ import annotations

from ipaddress import IPv4Address
from typing import Any

from dataplane.topology import Topology
from dataplane.topology.runtime_state import FormerTarget, RuntimeState, TargetHealth, advance, carry_over
from tests.unit.model.building import topology
from tests.unit.model.inspection import inspected

FLEET = ("sec", "fleet")
UNHEALTHY = TargetHealth(state="unhealthy", reason="Target.Timeout")
HEALTHY = TargetHealth(state="healthy")


def fleet(*targets: str, delay: int = 300, **sections: Any) -> Topology:
    return topology(**inspected({"group": {"targets": targets, "deregistration_delay": delay}}, **sections))


def left(name: str, address: str, zone: str = "us-east-1b", *, until_ms: int, drained: bool = False) -> FormerTarget:
    return FormerTarget(name=name, address=IPv4Address(address), zone=zone, drained=drained, until_ms=until_ms)


def test_at_first_nothing_is_known_and_everybody_counts_as_healthy() -> None:
    state = fleet("fw-1").runtime
    assert state == RuntimeState()
    assert state.state_of("sec", "fleet", "fw-1") == "healthy"


def test_another_state_leaves_the_topology_as_it_was() -> None:
    before = fleet("fw-1")
    state = RuntimeState(health={(*FLEET, "fw-1"): UNHEALTHY})
    after = before.with_runtime(state)
    assert (before.runtime, after.runtime) == (RuntimeState(), state)
    assert after.interfaces is before.interfaces


def test_who_stays_keeps_its_health_and_who_is_new_begins() -> None:
    old = fleet("fw-1").with_runtime(RuntimeState(health={(*FLEET, "fw-1"): UNHEALTHY}))
    state = carry_over(old, fleet("fw-1", "fw-2"), 1000)
    assert state.health[*FLEET, "fw-1"] == UNHEALTHY
    assert (state.health[*FLEET, "fw-2"].state, state.health[*FLEET, "fw-2"].reason) == (
        "initial",
        "Elb.RegistrationInProgress",
    )


def test_without_health_checks_new_targets_count_as_healthy_too() -> None:
    assert carry_over(fleet("fw-1"), fleet("fw-1", "fw-2"), 1000) == RuntimeState()


def test_who_leaves_drains_for_the_delay_of_its_group() -> None:
    known = RuntimeState(health={(*FLEET, name): HEALTHY for name in ("fw-1", "fw-2")})
    old = fleet("fw-1", "fw-2").with_runtime(known)
    new = fleet("fw-1", delay=60)
    state = carry_over(old, new, 5000)
    assert state.former == {FLEET: (left("fw-2", "10.9.2.22", until_ms=65_000),)}
    assert set(state.health) == {(*FLEET, "fw-1")}
    draining = new.with_runtime(state)
    assert advance(draining, 64_999) is None
    drained = advance(draining, 65_000)
    assert drained is not None
    assert drained.former == {FLEET: (left("fw-2", "10.9.2.22", until_ms=65_000, drained=True),)}
    assert advance(new.with_runtime(drained), 10**9) is None


def test_without_a_delay_it_is_drained_at_once() -> None:
    state = carry_over(fleet("fw-1", "fw-2"), fleet("fw-1", delay=0), 5000)
    assert state.former == {FLEET: (left("fw-2", "10.9.2.22", until_ms=5000, drained=True),)}


def test_who_left_earlier_is_still_known() -> None:
    first = fleet("fw-2")
    second = first.with_runtime(carry_over(fleet("fw-1", "fw-2"), first, 0))
    third = carry_over(second, fleet(), 10_000)
    assert third.former[FLEET] == (
        left("fw-1", "10.9.1.21", "us-east-1a", until_ms=300_000),
        left("fw-2", "10.9.2.22", until_ms=310_000),
    )


def test_who_comes_back_is_registered_again() -> None:
    known = RuntimeState(health={(*FLEET, name): HEALTHY for name in ("fw-1", "fw-2")})
    without = fleet("fw-1")
    drained = without.with_runtime(carry_over(fleet("fw-1", "fw-2").with_runtime(known), without, 0))
    state = carry_over(drained, fleet("fw-1", "fw-2"), 1000)
    assert state.former == {}
    assert state.health[*FLEET, "fw-2"].state == "initial"


def test_an_instance_that_is_deleted_leaves_its_group_with_the_address_it_had() -> None:
    new = inspected({"group": {"targets": ["fw-1"]}})
    del new["instances"]["fw-2"]
    state = carry_over(fleet("fw-1", "fw-2"), topology(**new), 0)
    assert state.former == {FLEET: (left("fw-2", "10.9.2.22", until_ms=300_000),)}


def test_a_group_that_is_gone_is_forgotten() -> None:
    known = RuntimeState(health={(*FLEET, "fw-1"): UNHEALTHY})
    nothing = topology(vpcs={"sec": {"cidr": "10.9.0.0/16"}})
    assert carry_over(fleet("fw-1").with_runtime(known), nothing, 0) == RuntimeState()
