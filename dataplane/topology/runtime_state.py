"""RuntimeState: what happens to a lab while it runs, and no file says: the health of targets, and who has left.

Health checks and deregistrations make it, lowering reads it (`Topology.runtime`), and a change of topology carries it
over. Words and reason codes are those of DescribeTargetHealth:
https://docs.aws.amazon.com/elasticloadbalancing/latest/gateway/health-checks.html
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from ipaddress import IPv4Address
from typing import TYPE_CHECKING, Final, Literal

if TYPE_CHECKING:
    from dataplane.model.target_group import PlacedTarget
    from dataplane.topology.resolved import Topology

TargetState = Literal["initial", "healthy", "unhealthy", "draining", "unused"]
"""AWS's words for how a target is."""

TargetKey = tuple[str, str, str]
"""VPC, target group and target."""
GroupKey = tuple[str, str]
"""VPC and target group."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TargetHealth:
    """How a registered target is."""

    state: TargetState
    reason: str = ""
    """AWS's code for why it is not healthy, e.g. ``Target.Timeout``."""
    description: str = ""


HEALTHY: Final = TargetHealth(state="healthy")
INITIAL: Final = TargetHealth(
    state="initial", reason="Elb.RegistrationInProgress", description="Target registration is in progress"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class FormerTarget:
    """A target that has been deregistered."""

    name: str
    address: IPv4Address
    zone: str
    """Full name of its Availability Zone; empty for one outside the load balancer's VPC."""
    drained: bool
    """Whether its deregistration delay is over."""
    until_ms: int
    """When it is over, in lab time."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RuntimeState:
    """The state of everything that changes by itself."""

    health: Mapping[TargetKey, TargetHealth] = field(default_factory=dict)
    """What is missing counts as healthy."""
    former: Mapping[GroupKey, tuple[FormerTarget, ...]] = field(default_factory=dict)
    """Deregistered targets, whose flows may still be theirs."""

    def state_of(self, vpc: str, group: str, target: str) -> TargetState:
        """The state of a registered target."""
        return self.health.get((vpc, group, target), HEALTHY).state


def carry_over(old: Topology, new: Topology, now_ms: int) -> RuntimeState:
    """The state of `new` when it takes over from `old` at `now_ms`.

    Targets that stay keep their health; new ones begin as ``initial``, if any health is known at all. One that has left
    its group drains until the group's deregistration delay is over; one that comes back meanwhile is registered again.
    A group that is gone is forgotten.
    """
    before, after = _registered(old), _registered(new)
    known, health = old.runtime.health, {}
    for group, targets in after.items():
        for name in targets:
            key = (*group, name)
            was_there = name in before.get(group, {})
            if was_there and key in known:
                health[key] = known[key]
            elif known and not was_there:
                health[key] = INITIAL
    former = {}
    for group, targets in after.items():
        delay_ms = new.vpc(group[0]).target_groups[group[1]].deregistration_delay * 1000
        left = [
            FormerTarget(
                name=each.name,
                address=each.address,
                zone=each.zone,
                drained=delay_ms == 0,
                until_ms=now_ms + delay_ms,
            )
            for each in before.get(group, {}).values()
            if each.name not in targets
        ]
        gone = {each.name for each in left}
        earlier = [f for f in old.runtime.former.get(group, ()) if f.name not in targets and f.name not in gone]
        if earlier or left:
            former[group] = (*earlier, *left)
    return RuntimeState(health=health, former=former)


def advance(topology: Topology, now_ms: int) -> RuntimeState | None:
    """The state at `now_ms`: those whose delay is over are drained. None when nothing changes."""
    state = topology.runtime
    former = {
        group: tuple(replace(each, drained=each.drained or each.until_ms <= now_ms) for each in those)
        for group, those in state.former.items()
    }
    return None if former == dict(state.former) else replace(state, former=former)


def _registered(topology: Topology) -> dict[GroupKey, dict[str, PlacedTarget]]:
    return {
        (vpc, name): {each.name: each for each in group.placed(topology, vpc)}
        for vpc, declared in topology.lab.vpcs.items()
        for name, group in declared.target_groups.items()
    }
