"""Target group: the appliances behind a gateway load balancer, and when they get traffic.

Targets are instances of the group's VPC, or private addresses. Each is checked for health; new flows go to healthy ones
only, or, when none is that the node of a zone may send to, to any of these (*fail-open*): each zone decides for itself.
New targets are ``initial`` and get none until they have passed. Which packets belong together is a matter of
`stickiness`.

A flow stays with its target. With ``no_rebalance`` that holds whatever becomes of the target; with ``rebalance`` the
flows of one that is unhealthy, or deregistered for longer than `deregistration_delay`, go to a healthy one, if there is
one.
https://docs.aws.amazon.com/elasticloadbalancing/latest/gateway/target-groups.html
https://docs.aws.amazon.com/elasticloadbalancing/latest/gateway/edit-target-group-attributes.html
https://docs.aws.amazon.com/elasticloadbalancing/latest/gateway/health-checks.html

Deviations from AWS:
- Which target a new flow gets is by a hash of what `stickiness` names of it, each endpoint by itself.
- A target that is not of the load balancer's VPC (an address of a peer) is considered in every zone.
- 300 targets of a load balancer, AWS's quota, are counted with `cross_zone` only, as its FAQ says: else 300 in each
  zone.
- With `stickiness` by addresses flows share their target, and each times out by itself: AWS says that they are one flow
  then, and not whose packets keep it.
- When `stickiness` becomes another, flows keep their targets, and share them with no flow that is opened from then on:
  AWS does not say.
- `matcher` may be any codes from 200 to 599; for gateway load balancers AWS takes 200-399 only.
- Health checks are real connections from the load balancer's nodes, as often as `interval` says; AWS's are more.
  They go by the machine's clock, which `vpclab clock advance` does not move.
- Each node that may send to a target checks it and counts by itself; the target is as well as the least contented of
  them says. The first check that passes makes a new target healthy: for gateway load balancers AWS does not say.
- A flow whose target is neither registered nor has been seen to leave goes to another one.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from ipaddress import IPv4Address
from typing import TYPE_CHECKING, Literal, NamedTuple

from dataplane.errors import Problem
from dataplane.limits import GENEVE_PORT
from dataplane.model._cidr import PRIVATE, holding, reserved
from dataplane.model._fields import doc, unknown, within
from dataplane.program import Member, Program, Spread, Stickiness

if TYPE_CHECKING:
    from dataplane.topology import Topology

Failover = Literal["no_rebalance", "rebalance"]
DELAYS = range(3601)
"""Seconds that `deregistration_delay` may be."""
STATUSES = range(200, 600)
"""HTTP status codes that `matcher` may name."""
LONGEST_PATH = 1024
KEEPING = ("healthy", "initial", "draining")
"""States of targets whose flows stay, where flows leave those that cannot take them."""
STICKINESS = {
    "5_tuple": Stickiness.FIVE_TUPLE,
    "source_ip_dest_ip_proto": Stickiness.THREE_TUPLE,
    "source_ip_dest_ip": Stickiness.TWO_TUPLE,
}


@dataclass(frozen=True, slots=True, kw_only=True)
class HealthCheck:
    """How a load balancer finds out whether a target is healthy: from each of its nodes."""

    protocol: Literal["TCP", "HTTP", "HTTPS"] = field(
        default="TCP",
        metadata=doc("TCP: a connection opens; HTTP, HTTPS: the answer has a status of `matcher`", "HTTP"),
    )
    port: int = field(default=80, metadata=doc("port of the target, 1 to 65535", 80))
    path: str = field(default="/", metadata=doc("path of the HTTP or HTTPS request", "/"))
    interval: int = field(default=10, metadata=doc("seconds between checks of one target, 5 to 300", 10))
    timeout: int = field(default=5, metadata=doc("seconds without an answer that make a check fail, 2 to 120", 5))
    healthy_threshold: int = field(
        default=5, metadata=doc("checks in a row that make an unhealthy target healthy, 2 to 10", 5)
    )
    unhealthy_threshold: int = field(
        default=2, metadata=doc("failed checks in a row that make a healthy target unhealthy, 2 to 10", 2)
    )
    matcher: str = field(
        default="200-399", metadata=doc("HTTP status codes of a healthy target: a code, a range, or several", "200-399")
    )

    def statuses(self) -> tuple[range, ...]:
        """What `matcher` says.

        Raises:
            ValueError: nothing that can be read.
        """
        return tuple(_statuses(part.strip()) for part in self.matcher.split(","))

    def check(self) -> Iterator[Problem]:
        """Yield what AWS would refuse."""
        for key, allowed, default in (
            ("port", range(1, 65536), 80),
            ("interval", range(5, 301), 10),
            ("timeout", range(2, 121), 5),
            ("healthy_threshold", range(2, 11), 5),
            ("unhealthy_threshold", range(2, 11), 2),
        ):
            value = getattr(self, key)
            if value not in allowed:
                message = f"{value} is not from {allowed[0]} to {allowed[-1]}"
                yield Problem(key, message, "InvalidConfigurationRequest", f"the default is {default}")
        if self.timeout > self.interval:
            message = f"{self.timeout} seconds are more than the interval, {self.interval}"
            yield Problem("timeout", message, "InvalidConfigurationRequest", f"write at most {self.interval}")
        if (
            not self.path.startswith("/")
            or len(self.path) > LONGEST_PATH
            or not self.path.isprintable()
            or " " in self.path
        ):
            message = f"{self.path!r} is no path"
            yield Problem("path", message, "InvalidConfigurationRequest", "begin it with /, without blanks")
        try:
            self.statuses()
        except ValueError:
            message = f"{self.matcher!r} says no HTTP status codes from {STATUSES[0]} to {STATUSES[-1]}"
            yield Problem("matcher", message, "InvalidConfigurationRequest", "write, for example, 200-399 or 200,302")


def _statuses(text: str) -> range:
    first, dash, last = text.partition("-")
    if not (first.isascii() and first.isdigit()) or (dash and not (last.isascii() and last.isdigit())):
        raise ValueError(text)
    found = range(int(first), int(last or first) + 1)
    if not found or found[0] not in STATUSES or found[-1] not in STATUSES:
        raise ValueError(text)
    return found


@dataclass(frozen=True, slots=True, kw_only=True)
class PlacedTarget:
    """A registered target."""

    name: str
    """As it is written: an instance, or an address."""
    address: IPv4Address
    zone: str
    """Full name of its Availability Zone; empty for an address outside the VPC."""


class Eligible(NamedTuple):
    """What a registered or former target may do for one node."""

    name: str
    address: IPv4Address
    takes_new: bool
    keeps: bool
    """Whether the flows it has stay."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TargetGroup:
    """A target group of a gateway load balancer."""

    target_type: Literal["instance", "ip"] = field(
        default="instance", metadata=doc("instance: targets are instances; ip: private addresses", "instance")
    )
    targets: tuple[str, ...] = field(
        default=(), metadata=doc("names of instances of this VPC, or private addresses", ["fw-a", "fw-b"])
    )
    protocol: str = field(default="GENEVE", metadata=doc("GENEVE, and nothing else", "GENEVE"))
    port: int = field(default=GENEVE_PORT, metadata=doc("6081, and nothing else", GENEVE_PORT))
    stickiness: Literal["5_tuple", "source_ip_dest_ip_proto", "source_ip_dest_ip"] = field(
        default="5_tuple",
        metadata=doc(
            "which packets go to one target: those of a flow, of two addresses and a protocol, of two addresses"
        ),
    )
    on_deregistration: Failover = field(
        default="no_rebalance", metadata=doc("whether flows of a deregistered target go to another one after its delay")
    )
    on_unhealthy: Failover = field(
        default="no_rebalance", metadata=doc("whether flows of an unhealthy target do; must be as on_deregistration")
    )
    deregistration_delay: int = field(
        default=300, metadata=doc("seconds that a deregistered target is draining, 0 to 3600", 300)
    )
    health_check: HealthCheck = field(default=HealthCheck(), metadata=doc("how targets are checked"))

    @property
    def rebalances(self) -> bool:
        """Whether flows leave a target that cannot take them."""
        return self.on_unhealthy == "rebalance"

    def placed(self, topology: Topology, vpc: str) -> tuple[PlacedTarget, ...]:
        """The registered targets, in the order of the file; those that do not exist are left out."""
        found: dict[str, PlacedTarget] = {}
        for name in self.targets:
            target = (
                self._instance(topology, vpc, name) if self.target_type == "instance" else _address(topology, vpc, name)
            )
            if target is not None:
                found.setdefault(name, target)
        return tuple(found.values())

    def _instance(self, topology: Topology, vpc: str, name: str) -> PlacedTarget | None:
        instance = topology.lab.instances.get(name)
        if instance is None or instance.vpc != vpc:
            return None
        interfaces = topology.interfaces_of(name)
        if not interfaces or interfaces[0].device_index or not interfaces[0].addresses4:
            return None
        return PlacedTarget(name=name, address=interfaces[0].addresses4[0], zone=interfaces[0].subnet.zone)

    def check(self, topology: Topology, vpc: str, name: str) -> Iterator[Problem]:
        """Yield what AWS would refuse."""
        if self.protocol != "GENEVE":
            message = f"targets of a gateway load balancer are spoken to in GENEVE, not {self.protocol}"
            yield Problem("protocol", message, "InvalidConfigurationRequest", "write GENEVE, or leave it out")
        if self.port != GENEVE_PORT:
            message = f"GENEVE goes to port {GENEVE_PORT}, not {self.port}"
            yield Problem("port", message, "InvalidConfigurationRequest", f"write {GENEVE_PORT}, or leave it out")
        for index, target in enumerate(self.targets):
            at = f"targets[{index}]"
            if target in self.targets[:index]:
                yield Problem(at, f"{target} is listed twice", "DuplicateTarget", "remove one of them")
            elif self.target_type == "instance":
                yield from within(at, self._check_instance(topology, vpc, target))
            else:
                yield from within(at, _check_address(topology, vpc, target))
        if self.on_unhealthy != self.on_deregistration:
            yield Problem(
                "on_unhealthy",
                f"{self.on_unhealthy} is not what on_deregistration is, {self.on_deregistration}",
                "InvalidConfigurationRequest",
                f"AWS wants both the same: write {self.on_deregistration} for both, or {self.on_unhealthy}",
            )
        if self.deregistration_delay not in DELAYS:
            message = f"{self.deregistration_delay} is not from {DELAYS[0]} to {DELAYS[-1]} seconds"
            yield Problem("deregistration_delay", message, "InvalidConfigurationRequest", "the default is 300")
        yield from within("health_check", self.health_check.check())
        for zone in dict.fromkeys(each.zone for each in self.placed(topology, vpc)):
            count = sum(each.zone == zone for each in self.placed(topology, vpc))
            yield from topology.over_quota("targets_per_zone", count, "targets")
        balancers = topology.vpc(vpc).gateway_load_balancers.values()
        if any(each.target_group == name and each.cross_zone for each in balancers):
            yield from topology.over_quota("targets_per_balancer", len(self.placed(topology, vpc)), "targets")

    def _check_instance(self, topology: Topology, vpc: str, target: str) -> Iterator[Problem]:
        instances = topology.lab.instances
        if target in instances:
            if instances[target].vpc != vpc:
                message = f"instance {target} is in VPC {instances[target].vpc}, the group in VPC {vpc}"
                yield Problem("", message, "InvalidTarget", "write target_type: ip and its private address")
            return
        mine = [name for name, instance in instances.items() if instance.vpc == vpc]
        problem = unknown("", f"instance of VPC {vpc}", target, mine, "InvalidTarget")
        is_address = _parsed(target) is not None
        yield replace(problem, hint="write target_type: ip for addresses") if is_address else problem

    def lower(self, topology: Topology, program: Program, vpc: str, name: str) -> None:
        """Make the spread of each zone that its load balancer works in."""
        for balancer_name, balancer in topology.vpc(vpc).gateway_load_balancers.items():
            if balancer.target_group != name:
                continue
            zones = tuple(topology.balancer_nodes(vpc, balancer_name))
            for zone in zones:
                program.spreads[spread_label(vpc, name, zone)] = Spread(
                    owner=program.names.intern("target-group", f"{vpc}/{name}"),
                    stickiness=STICKINESS[self.stickiness],
                    members=tuple(
                        Member(
                            number=program.names.intern("target", f"{vpc}/{name}/{each.name}"),
                            address=each.address,
                            takes_new=each.takes_new,
                            keeps=each.keeps,
                        )
                        for each in self.eligible(topology, vpc, name, zone, zones, cross_zone=balancer.cross_zone)
                    ),
                )

    def eligible(
        self, topology: Topology, vpc: str, name: str, zone: str, zones: tuple[str, ...], *, cross_zone: bool
    ) -> list[Eligible]:
        """Who may have flows of the node in `zone`, where the load balancer works in `zones`: registered, then former.

        A target in a zone that is not considered keeps the flows it has.
        """
        state = topology.runtime
        registered = self.placed(topology, vpc)
        states = [state.state_of(vpc, name, each.name) for each in registered]
        considered = [each.zone in ("", *(zones if cross_zone else (zone,))) for each in registered]
        healthy = [is_in and now == "healthy" for is_in, now in zip(considered, states, strict=True)]
        fail_open = [is_in and now != "draining" for is_in, now in zip(considered, states, strict=True)]
        takes = healthy if any(healthy) else fail_open
        stays = not self.rebalances or not any(healthy)
        former = state.former.get((vpc, name), ())
        return [
            *(
                Eligible(each.name, each.address, take, stays or now in KEEPING)
                for each, now, take in zip(registered, states, takes, strict=True)
            ),
            *(Eligible(each.name, each.address, False, stays or not each.drained) for each in former),
        ]


def spread_label(vpc: str, name: str, zone: str) -> str:
    """The label of the spread that the node in a zone uses."""
    return f"target-group:{vpc}/{name}/{zone}"


def _parsed(text: str) -> IPv4Address | None:
    try:
        return IPv4Address(text)
    except ValueError:
        return None


def _check_address(topology: Topology, vpc: str, text: str) -> Iterator[Problem]:
    address, blocks = _parsed(text), [cidr for cidr in topology.vpc(vpc).cidrs() if cidr.version == 4]
    if address is None:
        message = f"{text} is no IPv4 address, as targets of type ip are"
        yield Problem("", message, "InvalidTarget", "write target_type: instance for names of instances")
        return
    if holding(address, (*blocks, *PRIVATE)) is None:
        message = f"{address} is neither in VPC {vpc} nor a private address"
        hint = f"targets are in {', '.join(map(str, (*blocks, *PRIVATE)))}"
        yield Problem("", message, "InvalidTarget", hint)
        return
    peers = [p.other(vpc) for p in topology.lab.peerings.values() if p.is_active and vpc in (p.requester, p.accepter)]
    for near in (vpc, *(peer for peer in peers if peer in topology.lab.vpcs)):
        for interface in topology.interfaces_of_vpc(near):
            if interface.wanted.is_managed and address in interface.addresses4:
                what = f"{interface.kind.replace('-', ' ')} {interface.wanted.name}"
                yield Problem("", f"{address} is that of {what}", "InvalidTarget", "write that of an appliance")
    if holding(address, blocks) is None:
        return
    home = topology.subnet_holding(vpc, address)
    if not home:
        yield Problem("", f"{address} is in VPC {vpc}, but in none of its subnets", "InvalidTarget")
    elif address in set(reserved(topology.subnet(vpc, home).cidr)):
        yield Problem("", f"{address} is AWS's own in subnet {home}", "InvalidTarget", "write that of an appliance")


def _address(topology: Topology, vpc: str, text: str) -> PlacedTarget | None:
    address = _parsed(text)
    if address is None:
        return None
    subnet = topology.subnet_holding(vpc, address)
    return PlacedTarget(name=text, address=address, zone=topology.zone_of(vpc, subnet) if subnet else "")
