"""Subnet: a part of a VPC's addresses, in one Availability Zone.

Interfaces of one subnet reach each other directly; what leaves goes to the subnet's router, passes the egress rules of
its network ACL and is looked up in its route table. The first four addresses of an IPv4 block and the last are AWS's:
the router is the second (``.1``). An IPv6 block likewise; its router has link-local addresses too.
https://docs.aws.amazon.com/vpc/latest/userguide/configure-subnets.html
https://docs.aws.amazon.com/vpc/latest/userguide/subnet-sizing.html

    guest -> ... groups -> to a neighbour's MAC? to it, else
      -> inside the subnet? delivery, else -> **egress rules of the ACL** -> answer to a NAT gateway over a peering?
      back over it, else -> **route table**

Deviations from AWS:
- Every subnet has an IPv4 block; IPv6-only subnets are refused.
- The router answers pings to its first address of each family, from inside the subnet, and nothing else. Router
  solicitations are not answered and nothing is advertised: instances have their IPv6 address and route from the start.
- Addresses AWS would choose are the lowest free ones, in the order of the file: NAT gateways, network interfaces,
  instances.
- ARP for an address that nobody has is not answered (`settings.arp_for_unassigned`).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network
from typing import TYPE_CHECKING, TypedDict

from dataplane.errors import Problem
from dataplane.model import network_acl, route_table, vpc_peering
from dataplane.model._cidr import Address, Network, host_network, inside, overlap
from dataplane.model._fields import doc, unknown
from dataplane.model._placed import PlacedSubnet
from dataplane.program import Bridge, Guard, Node, Program, Route, Serve, Test

if TYPE_CHECKING:
    from dataplane.topology import Topology


@dataclass(frozen=True, slots=True, kw_only=True)
class Subnet:
    """A subnet."""

    cidr: IPv4Network = field(metadata=doc("IPv4 CIDR block, /16 to /28, inside one of the VPC's", "10.0.1.0/24"))
    availability_zone: str = field(default="a", metadata=doc("letter or full name of its Availability Zone", "a"))
    route_table: str | None = field(default=None, metadata=doc("its route table; null: the main one", "public"))
    network_acl: str | None = field(default=None, metadata=doc("its network ACL; null: the default one", "edge"))
    ipv6_cidr: IPv6Network | None = field(
        default=None,
        metadata=doc("IPv6 CIDR block, /44 to /64 in steps of 4, inside one of the VPC's", "2001:db8:0:1::/64"),
    )
    map_public_ip_on_launch: bool = field(
        default=False, metadata=doc("whether instances without an Elastic IP get a public IPv4 address")
    )
    assign_ipv6_address_on_creation: bool = field(
        default=False, metadata=doc("whether interfaces that name no IPv6 address get one")
    )

    def cidrs(self) -> tuple[Network, ...]:
        """All blocks."""
        return (self.cidr,) if self.ipv6_cidr is None else (self.cidr, self.ipv6_cidr)

    def check(self, topology: Topology, vpc: str, name: str) -> Iterator[Problem]:
        """Yield what AWS would refuse."""
        declared = topology.vpc(vpc)
        if not 16 <= self.cidr.prefixlen <= 28:
            yield Problem(
                "cidr",
                f"{self.cidr} is a /{self.cidr.prefixlen}",
                "InvalidSubnet.Range",
                "an IPv4 block of a subnet is from /16 to /28",
            )
        if self.ipv6_cidr is not None and self.ipv6_cidr.prefixlen not in range(44, 65, 4):
            yield Problem(
                "ipv6_cidr",
                f"{self.ipv6_cidr} is a /{self.ipv6_cidr.prefixlen}",
                "InvalidSubnet.Range",
                "an IPv6 block of a subnet is /44, /48, /52, /56, /60 or /64",
            )
        for key, cidr in (("cidr", self.cidr), ("ipv6_cidr", self.ipv6_cidr)):
            if cidr is not None:
                yield from self._check_block(topology, vpc, name, key, cidr)
        try:
            topology.region_of(vpc).zone(self.availability_zone)
        except ValueError as error:
            message, _, hint = str(error).partition("; ")
            yield Problem("availability_zone", message, "InvalidParameterValue", hint)
        tables = declared.all_route_tables()
        if self.route_table is not None and self.route_table not in tables:
            code = "InvalidRouteTableID.NotFound"
            yield unknown("route_table", f"route table of VPC {vpc}", self.route_table, tables, code)
        acls = declared.all_network_acls()
        if self.network_acl is not None and self.network_acl not in acls:
            code = "InvalidNetworkAclID.NotFound"
            yield unknown("network_acl", f"network ACL of VPC {vpc}", self.network_acl, acls, code)
        if self.assign_ipv6_address_on_creation and self.ipv6_cidr is None:
            yield Problem(
                "assign_ipv6_address_on_creation",
                "the subnet has no IPv6 block to assign from",
                "InvalidParameterCombination",
                "write ipv6_cidr, or leave this out",
            )

    def _check_block(self, topology: Topology, vpc: str, name: str, key: str, cidr: Network) -> Iterator[Problem]:
        declared = topology.vpc(vpc)
        mine = [block for block in declared.cidrs() if block.version == cidr.version]
        if not any(inside(cidr, block) for block in mine):
            blocks = ", ".join(map(str, mine))
            yield Problem(
                key,
                f"{cidr} is not inside a block of VPC {vpc}",
                "InvalidSubnet.Range",
                f"the VPC has {blocks}" if mine else f"write vpcs.{vpc}.ipv6_cidrs",
            )
        for earlier, other in declared.subnets.items():
            if earlier == name:
                return
            for block in other.cidrs():
                if overlap(cidr, block):
                    free = declared.free_block(cidr)
                    yield Problem(
                        key,
                        f"{cidr} overlaps {block} of subnet {earlier}",
                        "InvalidSubnet.Conflict",
                        f"{free} is free" if free else f"no /{cidr.prefixlen} is free",
                    )

    def lower(self, topology: Topology, program: Program, vpc: str, name: str) -> None:
        """Make the router, the way out, and the tables interfaces add themselves to."""
        placed = topology.subnet(vpc, name)
        here = label(placed)
        number = program.names.intern("subnet", placed.path)
        leave = leave_label(placed)
        routers: tuple[Address, ...] = placed.routers
        program.sets[f"{here}/routers"] = [host_network(address) for address in routers]
        program.sets[here] = list(self.cidrs())
        program.bridges.setdefault(here, [])
        program.neighbours.setdefault(here, []).extend((host_network(a), placed.router_mac) for a in routers)
        if topology.lab.settings.arp_for_unassigned == "router":
            program.neighbours[here] += [(cidr, placed.router_mac) for cidr in self.cidrs()]
        hosts = program.fibs.setdefault(f"vpc:{vpc}/hosts", [])
        hosts += [
            Route(prefix=host_network(address), node=router_label(placed), rule=number)
            for address in (placed.router4, placed.router6)
            if address is not None
        ]
        routed = vpc_peering.lower_returns(topology, program, vpc, leave, route_table.label(vpc, placed.route_table))
        program.nodes |= {
            router_label(placed): Serve(object=number),
            leave: Guard(
                object=number,
                test=Test.DESTINATION_IN,
                table=here,
                negate=True,
                otherwise=f"vpc:{vpc}/deliver",
                next=f"{leave}/acl",
            ),
            f"{leave}/acl": network_acl.crossing(program, placed, "egress", routed),
        }


class InterfaceFields(TypedDict):
    """What every interface in a subnet has of it."""

    subnet: int
    zone: int
    router_mac: bytes
    router4: IPv4Address
    router6: IPv6Address | None


def interface_fields(program: Program, placed: PlacedSubnet) -> InterfaceFields:
    """Return the part of a `dataplane.program.Interface` that its subnet decides."""
    return {
        "subnet": program.names.intern("subnet", placed.path),
        "zone": program.names.intern("availability-zone", placed.zone),
        "router_mac": placed.router_mac,
        "router4": placed.router4,
        "router6": placed.router6,
    }


def add_neighbour(program: Program, placed: PlacedSubnet, mac: bytes, addresses: Iterable[Address], into: str) -> None:
    """Let the subnet find an interface: by address (ARP, neighbour discovery) and by MAC (frames go to node `into`)."""
    here = label(placed)
    program.bridges.setdefault(here, []).append((mac, into))
    program.neighbours.setdefault(here, []).extend((host_network(address), mac) for address in addresses)


def outgoing(program: Program, placed: PlacedSubnet, number: int) -> Bridge:
    """The node for packets that interface `number` sends: to a neighbour, or out of the subnet."""
    return Bridge(object=number, table=label(placed), next=leave_label(placed))


def label(placed: PlacedSubnet) -> str:
    """The label of the subnet's tables: blocks, bridge, neighbours."""
    return f"subnet:{placed.path}"


def leave_label(placed: PlacedSubnet) -> str:
    """The node for packets handed to the subnet's router."""
    return f"{label(placed)}/leave"


def router_label(placed: PlacedSubnet) -> str:
    """The node for packets addressed to the subnet's router."""
    return f"{label(placed)}/router"


def entering(program: Program, placed: PlacedSubnet, following: str) -> Node:
    """The node for packets to an interface of the subnet, on their way to node `following`."""
    return network_acl.crossing(program, placed, "ingress", following)
