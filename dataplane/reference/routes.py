"""Route tables: every route is looked at, the longest prefix wins.

For one prefix a static route (``local`` included, unless a route takes its place) wins over a route of a prefix list,
that over one of a gateway endpoint, and that over a propagated one; of several of a kind the first in the file. What is
propagated for addresses of the VPC itself counts for nothing, however specific. 169.254.168.0/22 and fd00:ec2::/32 are
never forwarded.
https://docs.aws.amazon.com/vpc/latest/userguide/route-tables-priority.html
https://docs.aws.amazon.com/vpc/latest/userguide/subnet-route-tables.html
https://docs.aws.amazon.com/vpc/latest/privatelink/gateway-endpoints.html (routing)
https://docs.aws.amazon.com/vpn/latest/s2svpn/VPNRoutingTypes.html (propagated routes and ``local``)
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from enum import IntEnum
from ipaddress import IPv4Network, IPv6Network

from dataplane.model.lab_file import LabFile
from dataplane.model.route_table import RouteTable
from dataplane.names import Names
from dataplane.reference.checksum import Address
from dataplane.reference.prefix_lists import blocks_of, blocks_of_service, managed_list

Network = IPv4Network | IPv6Network
RESERVED: tuple[Network, ...] = (IPv4Network("169.254.168.0/22"), IPv6Network("fd00:ec2::/32"))
LOCAL, BLACKHOLE, NOT_FORWARDED = "local", "blackhole", "not forwarded"


class Origin(IntEnum):
    """Where a route comes from; of one prefix the highest wins."""

    PROPAGATED = 0
    GATEWAY_ENDPOINT = 1
    PREFIX_LIST = 2
    STATIC = 3


@dataclass(frozen=True, slots=True)
class Route:
    """One route: `target` as it is written in a lab file, e.g. ``nat-gateway:nat``."""

    prefix: Network
    target: str
    number: int
    origin: Origin


@dataclass(frozen=True, slots=True)
class Table:
    """A route table."""

    number: int
    routes: tuple[Route, ...]

    def lookup(self, destination: Address) -> Route | None:
        """The route that a packet takes; None when there is none."""
        best = None
        for route in self.routes:
            if route.prefix.version != destination.version or destination not in route.prefix:
                continue
            if best is None or _rank(route) > _rank(best):
                best = route
        return best


def _rank(route: Route) -> tuple[int, Origin]:
    return route.prefix.prefixlen, route.origin


def tables_of(lab: LabFile, names: Names, vpc: str) -> dict[str, Table]:
    """The tables of a VPC by name, the main one included whether it is declared or not."""
    declared = dict(lab.vpcs[vpc].route_tables)
    if not any(table.main for table in declared.values()):
        declared.setdefault("main", RouteTable(main=True))
    return {
        name: Table(names.intern("route-table", f"{vpc}/{name}"), tuple(_routes(lab, names, vpc, name, table)))
        for name, table in declared.items()
    }


def _routes(lab: LabFile, names: Names, vpc: str, name: str, table: RouteTable) -> Iterator[Route]:
    def number(words: str) -> int:
        return names.intern("route", f"{vpc}/{name} {words}")

    written = {route.destination.cidr for route in table.routes}
    for cidr in lab.vpcs[vpc].cidrs():
        if cidr not in written:
            yield Route(cidr, LOCAL, number(f"{cidr} -> local"), Origin.STATIC)
    for route in table.routes:
        prefix, target = route.destination.cidr, str(route.target)
        if prefix is not None:
            yield Route(prefix, target, number(f"{prefix} -> {target}"), Origin.STATIC)
            continue
        for block in blocks_of(lab, route.destination.prefix_list):
            words = f"{block} ({route.destination}) -> {target}"
            yield Route(block, target, number(words), Origin.PREFIX_LIST)
    for endpoint, declared in lab.vpcs[vpc].gateway_endpoints.items():
        for block in blocks_of_service(lab, declared.service) if name in declared.route_tables else ():
            target = f"vpc-endpoint:{endpoint}"
            words = f"{block} (prefix-list:{managed_list(lab, declared.service)}) -> {target}"
            yield Route(block, target, number(words), Origin.GATEWAY_ENDPOINT)
    for learned in table.propagated_routes:
        prefix = learned.destination
        if not any(_is_inside(prefix, cidr) for cidr in lab.vpcs[vpc].cidrs()):
            words = f"{prefix} (propagated) -> {learned.target}"
            yield Route(prefix, str(learned.target), number(words), Origin.PROPAGATED)
    for block in RESERVED:
        yield Route(block, NOT_FORWARDED, number(f"{block} -> {NOT_FORWARDED}"), Origin.STATIC)


def _is_inside(prefix: Network, block: Network) -> bool:
    return prefix.version == block.version and prefix.network_address in block and prefix.prefixlen >= block.prefixlen
