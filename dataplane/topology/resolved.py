"""The resolved lab: what constructs ask each other, answered in one place."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from dataclasses import fields
from functools import cached_property
from ipaddress import IPv4Address

from dataplane.errors import Problem
from dataplane.model import prefix_list
from dataplane.model._cidr import Address
from dataplane.model._placed import PlacedHost, PlacedInterface, PlacedSubnet
from dataplane.model._route_target import RouteTarget
from dataplane.model.endpoint_service import EndpointService
from dataplane.model.lab_file import LabFile
from dataplane.model.prefix_list import PrefixList
from dataplane.model.region import Region
from dataplane.model.vpc import Vpc
from dataplane.model.vpc_peering import VpcPeering
from dataplane.names import Names
from dataplane.program import Program
from dataplane.topology.lowering import lower
from dataplane.topology.placing import (
    place_hosts,
    place_interfaces,
    place_subnets,
    public_addresses,
    regions_of,
    wanted_interfaces,
)
from dataplane.topology.runtime_state import RuntimeState


class Topology:
    """A lab file in its resolved form. Made by `dataplane.topology.build`, which also checks it."""

    def __init__(self, lab: LabFile) -> None:
        self.lab = lab
        self._regions = regions_of(lab)
        self.subnets = place_subnets(lab, self._regions)
        """By (VPC, name), in file order."""
        self.interfaces = place_interfaces(list(wanted_interfaces(lab, self.subnets)))
        """Of instances, network interfaces that are not attached, NAT gateways, load balancers and endpoints."""
        self.hosts = place_hosts(lab)
        """Internet hosts and those of AWS's services, by name."""
        self.public_addresses = public_addresses(lab, self.interfaces)
        """Elastic IPs and assigned ones."""
        self.runtime = RuntimeState()
        """What has become of targets since; nothing is known at first."""
        self._by_vpc: dict[str, list[PlacedInterface]] = {vpc: [] for vpc in lab.vpcs}
        self._members: dict[tuple[str, str], list[Address]] = {}
        self._elastic_ips: dict[IPv4Address, str] = {}
        self._asked: dict[tuple[str, Address], str] = {}
        for interface in self.interfaces:
            vpc = interface.subnet.vpc
            self._by_vpc[vpc].append(interface)
            for group in interface.groups:
                members = self._members.setdefault((vpc, group), [])
                members += [*interface.addresses4, *interface.addresses6]
            for elastic in interface.wanted.elastic_ips:
                self._elastic_ips.setdefault(elastic.public, elastic.path)
            for asked in interface.wanted.asked:
                self._asked.setdefault((vpc, asked.address), asked.path)

    # -- what there is

    def vpc(self, name: str) -> Vpc:
        """The VPC as declared."""
        return self.lab.vpcs[name]

    def subnet(self, vpc: str, name: str) -> PlacedSubnet:
        """A subnet in its place."""
        return self.subnets[vpc, name]

    def host(self, name: str) -> PlacedHost:
        """An internet host in its place."""
        return self.hosts[name]

    @cached_property
    def own_addresses(self) -> dict[str, frozenset[Address]]:
        """Interface -> its private addresses, or those of an internet host or service."""
        found: dict[str, frozenset[Address]] = {
            each.path: frozenset((*each.addresses4, *each.addresses6)) for each in self.interfaces if each.is_attached
        }
        for host in self.hosts.values():
            found[host.path] = frozenset(a for a in (host.address, host.ipv6_address) if a is not None)
        return found

    def interfaces_of_vpc(self, vpc: str) -> list[PlacedInterface]:
        """Every interface in a VPC, those of NAT gateways included."""
        return self._by_vpc[vpc]

    def interfaces_of(self, instance: str) -> list[PlacedInterface]:
        """The interfaces of an instance, by device index."""
        vpc = self.lab.instances[instance].vpc
        found = [each for each in self._by_vpc[vpc] if each.is_attached and each.instance == instance]
        return sorted(found, key=lambda each: each.device_index)

    def find_interface(self, vpc: str, name: str) -> PlacedInterface | None:
        """An interface of a VPC by path (``web/eth0``) or by the name it was declared with."""
        for each in self._by_vpc[vpc]:
            if each.wanted.is_managed:
                continue
            if (each.is_attached and each.path == name) or (each.wanted.is_declared and each.wanted.name == name):
                return each
        return None

    def nat_interface(self, vpc: str, name: str) -> PlacedInterface:
        """The interface of a NAT gateway."""
        return next(i for i in self._by_vpc[vpc] if i.kind == "nat-gateway" and i.wanted.name == name)

    def balancer_nodes(self, vpc: str, name: str) -> dict[str, PlacedInterface]:
        """The interfaces of a gateway load balancer, by the full name of their Availability Zone."""
        mine = (i for i in self._by_vpc[vpc] if i.kind == "gateway-load-balancer" and i.wanted.name == name)
        return {each.subnet.zone: each for each in mine}

    def endpoint_service(self, path: str) -> tuple[str, EndpointService]:
        """The VPC that offers the endpoint service VPC/NAME, and the service.

        Raises:
            KeyError: there is none.
        """
        vpc, _, name = path.partition("/")
        return vpc, self.lab.vpcs[vpc].endpoint_services[name]

    def find_endpoint(self, vpc: str, name: str) -> PlacedInterface | None:
        """The interface of a gateway load balancer endpoint, if there is one."""
        return next((i for i in self._by_vpc[vpc] if i.kind == "vpc-endpoint" and i.wanted.name == name), None)

    def endpoint_interface(self, vpc: str, name: str) -> PlacedInterface:
        """The interface of a gateway load balancer endpoint."""
        return next(i for i in self._by_vpc[vpc] if i.kind == "vpc-endpoint" and i.wanted.name == name)

    def with_runtime(self, state: RuntimeState) -> Topology:
        """The same lab in another state."""
        other = copy.copy(self)
        other.runtime = state
        return other

    def region_of(self, vpc: str) -> Region:
        """The Region a VPC is in."""
        return self._regions[vpc]

    def zone_of(self, vpc: str, subnet: str) -> str:
        """The full name of a subnet's Availability Zone."""
        return self.subnets[vpc, subnet].zone

    # -- who has an address

    def private_address_at(self, vpc: str, address: Address) -> str:
        """Where in the lab file a private address was first written down."""
        return self._asked[vpc, address]

    def elastic_ip_at(self, address: IPv4Address) -> str:
        """Where in the lab file an Elastic IP was first written down."""
        return self._elastic_ips[address]

    def subnet_holding(self, vpc: str, address: Address) -> str:
        """The subnet of a VPC that an address lies in, or an empty text."""
        mine = (placed for placed in self.subnets.values() if placed.vpc == vpc)
        return next((placed.name for placed in mine if any(address in cidr for cidr in placed.cidrs)), "")

    def public_addresses_of(self, interface: PlacedInterface) -> dict[IPv4Address, IPv4Address]:
        """The public addresses of an interface: private -> public."""
        vpc = interface.subnet.vpc
        return {
            p.private: p.public for p in self.public_addresses if p.vpc == vpc and p.private in interface.addresses4
        }

    # -- security groups

    def group_members(self, vpc: str, group: str) -> list[Address]:
        """The private addresses of the interfaces that carry a group."""
        return self._members.get((vpc, group), [])

    def groups_visible(self, vpc: str, other: str) -> bool:
        """Whether rules in `vpc` may match groups of `other` now."""
        return vpc == other or any(p.is_active for p in self._near_peerings(vpc, other))

    def check_group_reference(self, vpc: str, other: str) -> Iterator[Problem]:
        """Yield why a rule in `vpc` cannot name a group of VPC `other`."""
        peerings = self._near_peerings(vpc, other)
        if any(p.status in ("active", "deleting", "deleted") for p in peerings):
            return
        if self.region_of(vpc) != self.region_of(other):
            where = f"VPC {other} is in {self.region_of(other)}, and groups are known in their Region only"
            yield Problem("", where, "InvalidGroup.NotFound", "write the CIDR block instead")
        elif peerings:
            where = f"the peering with VPC {other} is {peerings[0].status}"
            yield Problem("", where, "InvalidGroup.NotFound", "groups of a peer are known once the peering is active")
        else:
            where = f"VPCs {vpc} and {other} have no peering"
            yield Problem("", where, "InvalidGroup.NotFound", "write the CIDR block instead, or a peering")

    def _near_peerings(self, vpc: str, other: str) -> list[VpcPeering]:
        """Peerings of two VPCs in one Region."""
        if self.region_of(vpc) != self.region_of(other):
            return []
        return [p for p in self.lab.peerings.values() if {p.requester, p.accepter} == {vpc, other}]

    # -- routes and quotas

    @property
    def prefix_lists(self) -> dict[str, PrefixList]:
        """Prefix lists by name, AWS's own included."""
        managed = {
            self.managed_list(name): service.prefix_list(name) for name, service in self.lab.aws_services.items()
        }
        return {**managed, **self.lab.prefix_lists}

    def prefix_list(self, name: str) -> PrefixList | None:
        """A prefix list, one of AWS's own perhaps."""
        return self.prefix_lists.get(name)

    def managed_list(self, service: str) -> str:
        """The name of the prefix list of an AWS service in the lab's Region."""
        return f"{prefix_list.MANAGED}{self.lab.region}.{service}"

    def route_target_label(self, vpc: str, target: RouteTarget) -> str | None:
        """The node that a route of a VPC leads to; None for a blackhole."""
        return target.label(self, vpc)

    def too_many(self, quota: str, paths: list[str]) -> Iterator[Problem]:
        """Yield a problem at the first of `paths` that is one too many."""
        limit: int = getattr(self.lab.quotas, quota)
        if len(paths) > limit:
            yield from self.over_quota(quota, len(paths), paths[max(limit, 0)])

    def over_quota(self, quota: str, count: int, path: str) -> Iterator[Problem]:
        """Yield a problem at `path` when `count` is more than a quota allows."""
        limit: int = getattr(self.lab.quotas, quota)
        if count <= limit:
            return
        metadata = next(each.metadata for each in fields(self.lab.quotas) if each.name == quota)
        most = metadata["max"]
        hint = f"write quotas: {{{quota}: {count}}} to raise it" if most is None or count <= most else ""
        what = metadata["doc"].partition(" (")[0]
        yield Problem(path, f"{count} {what}, and the quota is {limit}", metadata["code"], hint)

    # -- lowering

    def lower(self, names: Names) -> Program:
        """The neutral program of this lab; `names` keeps the numbers of what it has seen before."""
        return lower(self, names).program
