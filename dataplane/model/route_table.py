"""Route table: where packets that leave a subnet go.

Every subnet uses one: its own, else the VPC's main table. Each table has a route `local` for every CIDR block of the
VPC. The longest prefix wins; for one prefix a static route wins over one of a prefix list, and that over a propagated
one. IPv4 and IPv6 do not mix.
https://docs.aws.amazon.com/vpc/latest/userguide/VPC_Route_Tables.html
https://docs.aws.amazon.com/vpc/latest/userguide/subnet-route-tables.html
https://docs.aws.amazon.com/vpc/latest/userguide/route-tables-priority.html

    subnet S, leaving -> egress rules of S's ACL -> **route table of S** -> gateway, NAT gateway, peering, interface
                                                                       \\-> local: delivery inside the VPC

A gateway endpoint puts a route for the prefix list of its service into each of its tables.

A route whose target is gone or not active is a *blackhole*: it still wins, and drops. The same is written as target
``blackhole``.

Deviations from AWS:
- Tables have a name; the main one is that with ``main: true``, else the one called ``main``, which is there whether
  declared or not.
- Two prefix-list routes with one prefix: AWS chooses at random; here the first in the file wins.
- Link-local addresses: AWS reserves 169.254.168.0/22 and refuses routes to it. Here no packet is forwarded to any of
  169.254.0.0/16, though a route to another part of it is accepted.
- Propagated routes are written down: what a VPC route server has learned from an appliance. Virtual private gateways do
  not exist here.
- A propagated route never takes anything from `local`, however specific it is, and no gateway's table has any. AWS says
  the first of routes from VPN and Direct Connect only, and lets a route server propagate to gateways' tables.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from ipaddress import IPv4Network, IPv6Network
from typing import TYPE_CHECKING, NamedTuple

from dataplane.errors import Problem
from dataplane.model import _gateway_routes, prefix_list
from dataplane.model._cidr import Network, inside, overlap, parse_network
from dataplane.model._fields import doc, within
from dataplane.model._route_target import RouteTarget
from dataplane.program import Drop, Lookup, Program
from dataplane.program import Route as FibRoute
from dataplane.verdict import Reason

if TYPE_CHECKING:
    from dataplane.topology import Topology

MAIN = "main"
"""The main table, unless another one says that it is."""
LEARNED_FROM = ("network-interface", "instance")
"""Words of the targets that a propagated route may have."""
TAKES_LOCAL = (
    "only a NAT gateway, a network interface, an instance or a gateway load balancer endpoint can (or blackhole, when "
    "it is gone)"
)
UNROUTABLE: tuple[Network, ...] = (IPv4Network("169.254.168.0/22"), IPv6Network("fd00:ec2::/32"))
"""Reserved for AWS services: routes to these, or inside them, are refused
(https://docs.aws.amazon.com/vpc/latest/userguide/subnet-route-tables.html)."""


@dataclass(frozen=True, slots=True)
class RouteDestination:
    """A CIDR block or ``prefix-list:NAME``."""

    cidr: Network | None = None
    prefix_list: str = ""

    @classmethod
    def parse(cls, value: object) -> RouteDestination:
        """Read a destination.

        Raises:
            ValueError: not one.
        """
        word, colon, name = str(value).partition(":")
        if word == "prefix-list":
            if not colon or not name:
                raise ValueError(f"{value} lacks a name; write prefix-list:NAME")
            return cls(prefix_list=name)
        return cls(cidr=parse_network(value))

    def __str__(self) -> str:
        return str(self.cidr) if self.cidr is not None else f"prefix-list:{self.prefix_list}"

    def prefixes(self, topology: Topology) -> Iterator[Network]:
        """The blocks meant; none when the prefix list is not there."""
        if self.cidr is not None:
            yield self.cidr
            return
        found = topology.prefix_list(self.prefix_list)
        for entry in found.entries if found is not None else ():
            yield entry.cidr


@dataclass(frozen=True, slots=True, kw_only=True)
class Route:
    """One route."""

    destination: RouteDestination = field(metadata=doc("CIDR block or prefix-list:NAME", "0.0.0.0/0"))
    target: RouteTarget = field(
        metadata=doc(
            "internet-gateway, egress-only-internet-gateway, nat-gateway:NAME, peering:NAME, network-interface:NAME or "
            "INSTANCE/ethN, instance:NAME, vpc-endpoint:NAME (of a gateway load balancer), local or blackhole",
            "internet-gateway",
        )
    )

    def weight(self, topology: Topology, version: int) -> int:
        """What the route counts towards the quota of IPv4 (4) or IPv6 (6) routes of its table."""
        if self.destination.cidr is not None:
            return int(self.destination.cidr.version == version)
        found = topology.prefix_list(self.destination.prefix_list)
        return found.weight if found is not None and found.version == version else 0

    def check(self, topology: Topology, vpc: str, *, of_gateway: bool = False) -> Iterator[Problem]:
        """Yield what AWS would refuse about the route itself; `of_gateway`: the table is an internet gateway's."""
        destination = self.destination
        refused = False
        for problem in _gateway_routes.check_route(topology, vpc, self) if of_gateway else ():
            yield problem
            refused = True
        if refused:
            return
        if destination.prefix_list:
            yield from within("destination", prefix_list.check_reference(topology, vpc, destination.prefix_list))
            if self.target.word == "vpc-endpoint":
                message = f"a prefix list cannot be the destination of a route to an endpoint, as {self.target} is"
                yield Problem("destination", message, "InvalidParameterValue", "write a route for each block")
                return
        for prefix in destination.prefixes(topology):
            found = [*self._check_prefix(topology, vpc, prefix, of_gateway)]
            if not refused:  # a prefix list is reported once, not for each entry
                yield from found
            refused = refused or bool(found)
        if not refused:
            family = next(destination.prefixes(topology), IPv4Network("0.0.0.0/0"))
            yield from within("target", self.target.check(topology, vpc, family))

    def _check_prefix(self, topology: Topology, vpc: str, prefix: Network, of_gateway: bool) -> Iterator[Problem]:
        for block in UNROUTABLE:
            if inside(prefix, block):
                yield Problem(
                    "destination",
                    f"{prefix} is inside {block}, which AWS reserves for its services",
                    "InvalidParameterValue",
                    "remove the route: instances reach these addresses without one",
                )
                return
        declared = topology.vpc(vpc)
        local = next((cidr for cidr in declared.cidrs() if inside(prefix, cidr)), None)
        if local is None:
            if isinstance(self.target, LocalTarget):
                yield Problem(
                    "target",
                    f"{prefix} is no CIDR block of VPC {vpc}, so it is not local",
                    "InvalidParameterValue",
                    f"local routes are for {', '.join(map(str, declared.cidrs()))} and are there by themselves",
                )
            return
        if prefix != local:
            if not any(prefix in subnet.cidrs() for subnet in declared.subnets.values()):
                near = [str(c) for s in declared.subnets.values() for c in s.cidrs() if overlap(c, prefix)]
                yield Problem(
                    "destination",
                    f"{prefix} is inside the VPC's {local}, but no subnet has exactly this CIDR block",
                    "InvalidParameterValue",
                    f"write {near[0]}" if near else "a route more specific than local must be for a whole subnet",
                )
            elif not self.target.inside_vpc and not (of_gateway and isinstance(self.target, LocalTarget)):
                yield Problem(
                    "target",
                    f"{prefix} is inside the VPC, and {self.target} cannot take it from local",
                    "InvalidParameterValue",
                    TAKES_LOCAL,
                )
        elif not self.target.inside_vpc and not isinstance(self.target, LocalTarget):
            yield Problem(
                "target",
                f"{prefix} is the VPC's own block, and {self.target} cannot replace local",
                "InvalidParameterValue",
                TAKES_LOCAL,
            )


@dataclass(frozen=True, slots=True, kw_only=True)
class PropagatedRoute:
    """A route that a VPC route server has propagated; it leads to the interface of the appliance it was learned from.

    https://docs.aws.amazon.com/vpc/latest/userguide/route-server-how-it-works.html
    """

    destination: IPv4Network | IPv6Network = field(metadata=doc("CIDR block", "172.20.0.0/16"))
    target: RouteTarget = field(
        metadata=doc("network-interface:NAME or INSTANCE/ethN, or instance:NAME", "instance:router")
    )

    def check(self, topology: Topology, vpc: str) -> Iterator[Problem]:
        """Yield what AWS would refuse about the route itself."""
        cidr = self.destination
        if any(inside(cidr, block) for block in UNROUTABLE):
            message = f"{cidr} is reserved by AWS for its services"
            yield Problem("destination", message, "InvalidParameterValue", "remove the route")
        if self.target.word not in LEARNED_FROM:
            message = f"{self.target} propagates no routes"
            hint = "write network-interface:NAME or instance:NAME"
            yield Problem("target", message, "InvalidParameterValue", hint)
            return
        yield from within("target", self.target.check(topology, vpc, cidr))


class EffectiveRoute(NamedTuple):
    """One prefix of a table: where it leads, and how the route reads."""

    prefix: Network
    target: RouteTarget
    name: str
    """E.g. ``0.0.0.0/0 -> internet-gateway``."""
    origin: str = "static"
    """``local``, ``static``, ``prefix-list:NAME`` or ``propagated``."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RouteTable:
    """A route table."""

    main: bool = field(
        default=False,
        metadata=doc("whether subnets that name no table use this one; the table called main is by itself"),
    )
    routes: tuple[Route, ...] = field(default=(), metadata=doc("routes besides local"))
    propagated_routes: tuple[PropagatedRoute, ...] = field(
        default=(), metadata=doc("routes that a route server has propagated; static ones win over them")
    )

    def check(self, topology: Topology, vpc: str, name: str) -> Iterator[Problem]:
        """Yield what AWS would refuse."""
        seen: dict[RouteDestination, int] = {}
        gateway = topology.vpc(vpc).internet_gateway
        of_gateway = gateway is not None and gateway.route_table == name
        for index, route in enumerate(self.routes):
            at = f"routes[{index}]"
            yield from within(at, route.check(topology, vpc, of_gateway=of_gateway))
            if not of_gateway:
                yield from within(f"{at}.target", route.target.check_table(topology, vpc, name))
            if route.destination in seen:
                yield Problem(
                    f"{at}.destination",
                    f"the table has a route to {route.destination} already",
                    "RouteAlreadyExists",
                    f"remove this one or routes[{seen[route.destination]}]",
                )
            seen.setdefault(route.destination, index)
        for index, learned in enumerate(self.propagated_routes):
            yield from within(f"propagated_routes[{index}]", learned.check(topology, vpc))
            earlier = [each.destination for each in self.propagated_routes[:index]]
            if learned.destination in earlier:
                yield Problem(
                    f"propagated_routes[{index}].destination",
                    f"{learned.destination} is propagated already",
                    "RouteAlreadyExists",
                    f"a route server propagates the best one: remove this or [{earlier.index(learned.destination)}]",
                )
        for version in (4, 6):
            propagated = sum(learned.destination.version == version for learned in self.propagated_routes)
            yield from topology.over_quota("propagated_routes_per_table", propagated, "propagated_routes")
            count = sum(route.weight(topology, version) for route in self.routes)
            count += sum(1 for _ in _endpoints(topology, vpc, name)) if version == 4 else 0
            yield from topology.over_quota("routes_per_table", count, "routes")

    def effective(self, topology: Topology, vpc: str, name: str) -> Iterator[EffectiveRoute]:
        """The table, which is called `name`, as it is looked up: one route per prefix.

        Static ones before those of prefix lists, of which gateway endpoints' are last, before propagated ones, of which
        none takes anything from `local`.
        """
        found: dict[Network, EffectiveRoute] = {}
        for route in self.routes:
            cidr = route.destination.cidr
            if cidr is not None:
                found.setdefault(cidr, EffectiveRoute(cidr, route.target, f"{cidr} -> {route.target}"))
        for cidr in topology.vpc(vpc).cidrs():
            found.setdefault(cidr, EffectiveRoute(cidr, LocalTarget(), f"{cidr} -> local", "local"))
        for route in self.routes:
            if route.destination.prefix_list:
                for cidr in route.destination.prefixes(topology):
                    text = f"{cidr} ({route.destination}) -> {route.target}"
                    found.setdefault(cidr, EffectiveRoute(cidr, route.target, text, str(route.destination)))
        for endpoint, service in _endpoints(topology, vpc, name):
            target, origin = (
                RouteTarget.parse(f"vpc-endpoint:{endpoint}"),
                f"prefix-list:{topology.managed_list(service)}",
            )
            for cidr in RouteDestination.parse(origin).prefixes(topology):
                found.setdefault(cidr, EffectiveRoute(cidr, target, f"{cidr} ({origin}) -> {target}", origin))
        for learned in self.propagated_routes:
            prefix = learned.destination
            if not any(inside(prefix, cidr) for cidr in topology.vpc(vpc).cidrs()):
                text = f"{prefix} (propagated) -> {learned.target}"
                found.setdefault(prefix, EffectiveRoute(prefix, learned.target, text, "propagated"))
        yield from found.values()

    def lower(self, topology: Topology, program: Program, vpc: str, name: str) -> None:
        """Make the lookup that subnets refer to."""
        path, here = f"{vpc}/{name}", label(vpc, name)
        number = program.names.intern("route-table", path)
        blackhole = f"{here}/blackhole"
        never = f"{here}/never"
        program.nodes[here] = Lookup(object=number, fib=here, reason=Reason.NO_ROUTE)
        program.nodes[blackhole] = Drop(object=number, reason=Reason.BLACKHOLE)
        program.fibs[here] = [
            FibRoute(
                prefix=route.prefix,
                node=topology.route_target_label(vpc, route.target) or blackhole,
                rule=program.names.intern("route", f"{path} {route.name}"),
            )
            for route in self.effective(topology, vpc, name)
        ]
        # "Packets destined for addresses in [these ranges] will not be forwarded", whatever wider route there is.
        program.nodes[never] = Drop(object=number, reason=Reason.DESTINATION_MARTIAN)
        program.fibs[here] += [
            FibRoute(prefix=block, node=never, rule=program.names.intern("route", f"{path} {block} -> not forwarded"))
            for block in UNROUTABLE
        ]


def _endpoints(topology: Topology, vpc: str, name: str) -> Iterator[tuple[str, str]]:
    """The gateway endpoints that have put routes into table `name`, each with its service."""
    for endpoint, declared in topology.vpc(vpc).gateway_endpoints.items():
        if name in declared.route_tables:
            yield endpoint, declared.service


def label(vpc: str, name: str) -> str:
    """The label of a table's lookup."""
    return f"route-table:{vpc}/{name}"


class LocalTarget(RouteTarget):
    """Delivery inside the VPC."""

    word = "local"
    is_named = False

    def check(self, topology: Topology, vpc: str, destination: Network) -> Iterator[Problem]:
        """Nothing: the route has looked at its destination."""
        yield from ()

    def label(self, topology: Topology, vpc: str) -> str | None:
        """The VPC's delivery."""
        return f"vpc:{vpc}/deliver"


class BlackholeTarget(RouteTarget):
    """Nobody."""

    word = "blackhole"
    is_named = False
    inside_vpc = True  # what is left when the interface or NAT gateway of such a route is deleted

    def check(self, topology: Topology, vpc: str, destination: Network) -> Iterator[Problem]:
        """Nothing."""
        yield from ()

    def label(self, topology: Topology, vpc: str) -> str | None:
        """None."""
        return None
