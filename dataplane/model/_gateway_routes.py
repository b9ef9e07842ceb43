"""Gateway route table: what an internet gateway does with packets that come in, after it has translated them.

https://docs.aws.amazon.com/vpc/latest/userguide/gateway-route-tables.html
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Literal, NamedTuple

from dataplane.errors import Problem
from dataplane.model._cidr import inside, overlap
from dataplane.model._fields import unknown
from dataplane.program import Drop, Lookup, Program
from dataplane.program import Route as FibRoute
from dataplane.verdict import Reason

if TYPE_CHECKING:
    from dataplane.model._placed import PlacedInterface
    from dataplane.model.route_table import EffectiveRoute, Route
    from dataplane.topology import Topology

TARGETS = ("local", "network-interface", "instance", "vpc-endpoint", "blackhole")
"""Words of the targets that AWS lets a gateway route table have (and what is left when one is gone)."""


class Redirect(NamedTuple):
    """A subnet of which what comes in goes elsewhere first."""

    subnet: str
    family: Literal[4, 6]


def check(topology: Topology, vpc: str, name: str) -> Iterator[Problem]:
    """Yield why a table cannot be that of the VPC's internet gateway."""
    declared = topology.vpc(vpc)
    tables = declared.all_route_tables()
    if name not in tables:
        yield unknown("", f"route table of VPC {vpc}", name, tables, "InvalidRouteTableID.NotFound")
        return
    if name == declared.main_route_table():
        message = f"{name} is the main table, and a gateway cannot use it"
        yield Problem("", message, "InvalidParameterValue", "write a table of its own")
    if tables[name].propagated_routes:
        message = f"{name} has propagated routes, and a gateway's table may not"
        yield Problem("", message, "InvalidParameterValue", "remove them")


def check_route(topology: Topology, vpc: str, route: Route) -> Iterator[Problem]:
    """Yield why a gateway's table cannot have a route. Paths are relative to the route."""
    declared, code = topology.vpc(vpc), "InvalidParameterValue"
    subnets = [cidr for subnet in declared.subnets.values() for cidr in subnet.cidrs()]
    if route.destination.cidr not in (*declared.cidrs(), *subnets):
        message = f"{route.destination} is neither a block of VPC {vpc} nor of one of its subnets"
        near = [
            str(cidr)
            for cidr in subnets
            if route.destination.cidr is not None and overlap(cidr, route.destination.cidr)
        ]
        hint = f"write {near[0]}" if len(near) == 1 else "a gateway's table has no other routes"
        yield Problem("destination", message, code, hint)
    if route.target.word not in TARGETS:
        message = (
            f"{route.target} is no target of a gateway's table, which leads to network interfaces and endpoints only"
        )
        yield Problem(
            "target", message, code, "write network-interface:NAME, instance:NAME, vpc-endpoint:NAME or local"
        )


def redirected(topology: Topology, vpc: str, name: str) -> tuple[Redirect, ...]:
    """The subnets whose incoming packets the table sends to an interface.

    A route for a whole block of the VPC means all subnets in it but the one that the interface lives in: that one must
    get out directly, or nothing would.
    """
    found = []
    routes = {route.prefix: route for route in _routes(topology, vpc, name)}
    for placed in topology.subnets.values():
        if placed.vpc != vpc:
            continue
        for cidr in placed.cidrs:
            route = routes.get(cidr) or next(route for prefix, route in routes.items() if inside(cidr, prefix))
            target = _target(topology, vpc, route)
            is_home = route.prefix != cidr and target is not None and target.subnet.name == placed.name
            if route.target.word != "local" and not is_home:
                found.append(Redirect(placed.name, 4 if cidr.version == 4 else 6))
    return tuple(found)


def lower(topology: Topology, program: Program, vpc: str, name: str, here: str) -> str:
    """Make the lookup of what comes in, and return its label, which is `here`."""
    number = program.names.intern("route-table", f"{vpc}/{name}")
    nowhere, unseen = f"{here}/blackhole", f"{here}/unseen"
    program.nodes |= {
        here: Lookup(object=number, fib=here, reason=Reason.NO_ROUTE),
        nowhere: Drop(object=number, reason=Reason.BLACKHOLE),
        unseen: Drop(object=number, reason=Reason.EDGE_NO_PUBLIC_ADDRESS),
    }
    program.fibs[here] = []
    for route in _routes(topology, vpc, name):
        node = topology.route_target_label(vpc, route.target) or nowhere
        target = _target(topology, vpc, route)
        is_seen = target is None or not target.is_attached or bool(topology.public_addresses_of(target))
        if route.prefix.version == 4 and not is_seen:
            node = unseen
        rule = program.names.intern("route", f"{vpc}/{name} {route.name}")
        program.fibs[here].append(FibRoute(prefix=route.prefix, node=node, rule=rule))
    return here


def _routes(topology: Topology, vpc: str, name: str) -> list[EffectiveRoute]:
    return list(topology.vpc(vpc).all_route_tables()[name].effective(topology, vpc, name))


def _target(topology: Topology, vpc: str, route: EffectiveRoute) -> PlacedInterface | None:
    if route.target.word == "instance":
        return topology.find_interface(vpc, f"{route.target.name}/eth0")
    if route.target.word == "vpc-endpoint":
        return topology.find_endpoint(vpc, route.target.name)
    return topology.find_interface(vpc, route.target.name) if route.target.word == "network-interface" else None
