"""Targets of a Gateway Load Balancer: which of them take new flows, and which keep those they have.

What a node of the balancer considers are the registered targets of its own Availability Zone, or of all zones the
balancer is enabled in, with cross-zone load balancing. Of these the healthy ones take new flows. Where none of them is
healthy, every one does (it fails open), whatever another zone has; targets that are draining never do.
https://docs.aws.amazon.com/elasticloadbalancing/latest/gateway/gateway-load-balancers.html
https://docs.aws.amazon.com/elasticloadbalancing/latest/gateway/health-checks.html

Existing flows stay, whatever becomes of their target; with `rebalance` they leave one that is unhealthy or drained, for
a healthy one.
https://docs.aws.amazon.com/elasticloadbalancing/latest/gateway/edit-target-group-attributes.html
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from ipaddress import IPv4Address

from dataplane.names import Names
from dataplane.topology import Topology

HEALTHY, INITIAL, DRAINING = "healthy", "initial", "draining"
ANY_ZONE = ""
"""Of a target outside the balancer's VPC."""


@dataclass(frozen=True, slots=True)
class Target:
    """A target, registered or not any more, as one node of a balancer sees it."""

    number: int
    address: IPv4Address
    takes_new: bool
    keeps: bool
    """Whether the flows that it has stay with it, even if others take new ones."""


@dataclass(frozen=True, slots=True)
class _Registered:
    name: str
    address: IPv4Address
    zone: str
    state: str


def targets_of(topology: Topology, names: Names, vpc: str, balancer: str, zone: str) -> Mapping[int, Target]:
    """The targets of a balancer of `vpc`, by number, as its node in `zone` sees them."""
    declared = topology.lab.vpcs[vpc].gateway_load_balancers[balancer]
    name = declared.target_group
    group = topology.lab.vpcs[vpc].target_groups[name]
    enabled = {topology.subnets[vpc, subnet].zone for subnet in declared.subnets}
    registered = list(_registered(topology, vpc, name))
    considered = [each for each in registered if each.zone in (ANY_ZONE, *(enabled if declared.cross_zone else [zone]))]
    healthy = {each.name for each in considered if each.state == HEALTHY}
    takers = healthy or {each.name for each in considered if each.state != DRAINING}
    stay = group.on_unhealthy == "no_rebalance" or not healthy

    def number(target: str) -> int:
        return names.intern("target", f"{vpc}/{name}/{target}")

    found = {}
    for former in topology.runtime.former.get((vpc, name), ()):
        keeps = stay or not former.drained
        found[number(former.name)] = Target(number(former.name), former.address, takes_new=False, keeps=keeps)
    for each in registered:
        keeps = stay or each.state in (HEALTHY, INITIAL, DRAINING)
        found[number(each.name)] = Target(number(each.name), each.address, each.name in takers, keeps)
    return found


def _registered(topology: Topology, vpc: str, name: str) -> Iterator[_Registered]:
    group = topology.lab.vpcs[vpc].target_groups[name]
    for target in group.targets:
        known = topology.runtime.health.get((vpc, name, target))
        state = HEALTHY if known is None else known.state
        if group.target_type == "instance":
            first = next(i for i in topology.interfaces if i.is_attached and i.path == f"{target}/eth0")
            yield _Registered(target, first.addresses4[0], first.subnet.zone, state)
            continue
        address = IPv4Address(target)
        homes = (s for s in topology.subnets.values() if s.vpc == vpc and address in s.cidr)
        yield _Registered(target, address, next((home.zone for home in homes), ANY_ZONE), state)
