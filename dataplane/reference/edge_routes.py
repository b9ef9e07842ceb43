"""Gateway route tables: what an internet gateway does with packets that come in, after it has translated them.

A route for a subnet, or for a whole block of the VPC, sends them to a Gateway Load Balancer endpoint first, or to a
network interface, which must have a public address itself (asked of IPv4 packets). Whose incoming packets are
redirected may not go out by the gateway directly.
https://docs.aws.amazon.com/vpc/latest/userguide/gateway-route-tables.html
https://docs.aws.amazon.com/vpc/latest/reachability/explanation-codes.html (INGRESS_RTB_NO_PUBLIC_IP,
INGRESS_RTB_TRAFFIC_REDIRECTION)
"""

from __future__ import annotations

from dataplane.reference.inventory import Inventory
from dataplane.reference.journey import Dropped, Journey
from dataplane.reference.nodes import Endpoint, Interface, Subnet
from dataplane.reference.routes import BLACKHOLE, LOCAL, Route, Table
from dataplane.verdict import Reason


def redirect(journey: Journey, inventory: Inventory, vpc: str) -> Interface | Endpoint | None:
    """The interface or endpoint that a packet is sent to; None: it is delivered by address.

    Raises:
        Dropped: the interface is not there, or has no public address.
    """
    table = _table(inventory, vpc)
    if table is None:
        return None
    route = table.lookup(journey.packet.destination)
    if route is None:
        raise Dropped(Reason.NO_ROUTE, table.number)
    journey.note(table.number, "route", route.number)
    target = _target(inventory, vpc, route)
    if isinstance(target, Endpoint):
        return target
    if route.target != LOCAL and (target is None or not target.is_attached):
        raise Dropped(Reason.BLACKHOLE, table.number, route.number)
    if target is not None and journey.packet.version == 4 and not _has_public_address(inventory, target):
        raise Dropped(Reason.EDGE_NO_PUBLIC_ADDRESS, table.number, route.number)
    return target


def is_redirected(inventory: Inventory, vpc: str, subnet: Subnet | None, version: int) -> bool:
    """Whether what comes in for a subnet, in packets of a version, goes elsewhere first."""
    table = _table(inventory, vpc)
    if table is None or subnet is None:
        return False
    for cidr in subnet.cidrs:
        if cidr.version != version:
            continue
        route = table.lookup(cidr.network_address)
        assert route is not None, "each block of a VPC has a route local at least"
        target = _target(inventory, vpc, route)
        is_home = route.prefix != cidr and target is not None and target.subnet is subnet
        return route.target != LOCAL and not is_home
    return False


def _table(inventory: Inventory, vpc: str) -> Table | None:
    gateway = inventory.lab.vpcs[vpc].internet_gateway
    return None if gateway is None or gateway.route_table is None else inventory.tables[vpc, gateway.route_table]


def _target(inventory: Inventory, vpc: str, route: Route) -> Interface | Endpoint | None:
    """The interface that a route leads to, attached or not, or the endpoint."""
    kind, _, name = route.target.partition(":")
    if kind == "vpc-endpoint":
        return inventory.endpoints[vpc, name]
    if kind == "instance":
        return inventory.interface(vpc, f"{name}/eth0")
    assert kind in ("network-interface", BLACKHOLE, LOCAL), kind
    return inventory.interface(vpc, name) if kind == "network-interface" else None


def _has_public_address(inventory: Inventory, interface: Interface) -> bool:
    return any((interface.vpc, address) in inventory.public_of for address in interface.addresses)
