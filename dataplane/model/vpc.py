"""VPC: a network of your own, with its addresses, in one Region.

Inside, packets are delivered by address, whatever the subnet; no other VPC has anything to do with these addresses,
so two VPCs with one CIDR block may stand side by side. A VPC has one primary IPv4 block, perhaps further ones, and
perhaps IPv6 blocks; each is routed `local` by all of its route tables.
https://docs.aws.amazon.com/vpc/latest/userguide/configure-your-vpc.html
https://docs.aws.amazon.com/vpc/latest/userguide/vpc-cidr-blocks.html

    from a route `local`, a gateway or a peering -> **delivery**: the interface that has the address -> its subnet's ACL

The TTL stays as it is, and the MTU is 9001.

Deviations from AWS:
- A block with bits set beyond its prefix length is an error; AWS clears them silently.
- 240.0.0.0/4 is refused too: nothing is forwarded there.
- IPv6 blocks are of global unicast addresses (2000::/3), chosen by the user, and no two VPCs overlap.
- About packets of one interface the network sends 1,000 ICMP errors at once, and one each millisecond then (RFC 4443,
  2.4 (f)). AWS names no limit.
- Default VPCs, DHCP option sets, DNS attributes and tenancy do not exist here.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from ipaddress import IPv4Network, IPv6Network
from itertools import islice
from typing import TYPE_CHECKING

from dataplane.errors import Problem
from dataplane.limits import GATEWAY_ENDPOINTS_PER_VPC as MOST_ENDPOINTS
from dataplane.model import network_acl, route_table, security_group
from dataplane.model._cidr import Network, overlap
from dataplane.model._fields import doc, within
from dataplane.model._vpc_blocks import check_blocks
from dataplane.model.egress_only_internet_gateway import EgressOnlyInternetGateway
from dataplane.model.endpoint_service import EndpointService
from dataplane.model.flow_log import FlowLog
from dataplane.model.gateway_endpoint import GatewayEndpoint
from dataplane.model.gateway_load_balancer import GatewayLoadBalancer
from dataplane.model.gateway_load_balancer_endpoint import GatewayLoadBalancerEndpoint
from dataplane.model.internet_gateway import InternetGateway
from dataplane.model.nat_gateway import NatGateway
from dataplane.model.network_acl import NetworkAcl
from dataplane.model.network_interface import NetworkInterface
from dataplane.model.route_table import RouteTable
from dataplane.model.security_group import SecurityGroup
from dataplane.model.subnet import Subnet
from dataplane.model.target_group import TargetGroup
from dataplane.program import Lookup, Program
from dataplane.verdict import Reason

if TYPE_CHECKING:
    from dataplane.topology import Topology

_ACCOUNT = re.compile(r"[0-9]{12}")
KEPT_BY_NAME = (
    "subnets",
    "route_tables",
    "network_acls",
    "security_groups",
    "nat_gateways",
    "network_interfaces",
    "gateway_load_balancers",
    "target_groups",
    "endpoint_services",
    "gateway_load_balancer_endpoints",
    "gateway_endpoints",
    "flow_logs",
)
"""Keys of what a VPC has several of, each with checks of its own."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Vpc:
    """A VPC and everything in it."""

    cidr: IPv4Network = field(metadata=doc("primary IPv4 CIDR block, /16 to /28", "10.0.0.0/16"))
    secondary_cidrs: tuple[IPv4Network, ...] = field(
        default=(), metadata=doc("further IPv4 CIDR blocks, /16 to /28", ["100.64.0.0/16"])
    )
    ipv6_cidrs: tuple[IPv6Network, ...] = field(
        default=(), metadata=doc("IPv6 CIDR blocks, /44 to /60 in steps of 4", ["2001:db8:0:0::/56"])
    )
    account: str = field(default="123456789012", metadata=doc("12 digits of the account it belongs to", "123456789012"))
    internet_gateway: InternetGateway | None = field(
        default=None, metadata=doc("{}: it has an internet gateway; null: it has none")
    )
    egress_only_internet_gateway: EgressOnlyInternetGateway | None = field(
        default=None, metadata=doc("{}: it has an egress-only internet gateway, for IPv6; null: it has none")
    )
    subnets: dict[str, Subnet] = field(default_factory=dict, metadata=doc("subnets by name"))
    route_tables: dict[str, RouteTable] = field(
        default_factory=dict, metadata=doc("route tables by name; main is there anyway, with local routes only")
    )
    network_acls: dict[str, NetworkAcl] = field(
        default_factory=dict, metadata=doc("network ACLs by name; default is there anyway and lets everything pass")
    )
    security_groups: dict[str, SecurityGroup] = field(
        default_factory=dict,
        metadata=doc("security groups by name; default is there anyway: in from itself, out to everywhere"),
    )
    nat_gateways: dict[str, NatGateway] = field(default_factory=dict, metadata=doc("NAT gateways by name"))
    network_interfaces: dict[str, NetworkInterface] = field(
        default_factory=dict, metadata=doc("network interfaces besides the first one of each instance, by name")
    )
    gateway_load_balancers: dict[str, GatewayLoadBalancer] = field(
        default_factory=dict, metadata=doc("gateway load balancers by name")
    )
    target_groups: dict[str, TargetGroup] = field(
        default_factory=dict, metadata=doc("target groups of gateway load balancers, by name")
    )
    endpoint_services: dict[str, EndpointService] = field(
        default_factory=dict, metadata=doc("endpoint services by name: what lets endpoints reach a load balancer")
    )
    gateway_load_balancer_endpoints: dict[str, GatewayLoadBalancerEndpoint] = field(
        default_factory=dict, metadata=doc("gateway load balancer endpoints by name")
    )
    gateway_endpoints: dict[str, GatewayEndpoint] = field(
        default_factory=dict, metadata=doc("gateway endpoints by name: ways to S3 and DynamoDB inside of AWS")
    )
    flow_logs: dict[str, FlowLog] = field(
        default_factory=dict, metadata=doc("flow logs by name: who talked to whom, in files")
    )

    # -- derived of this VPC alone

    def cidrs(self) -> tuple[Network, ...]:
        """All blocks, the primary one first."""
        return (self.cidr, *self.secondary_cidrs, *self.ipv6_cidrs)

    def all_route_tables(self) -> dict[str, RouteTable]:
        """Route tables, the main one included."""
        if self.main_route_table() in self.route_tables:
            return self.route_tables
        return {route_table.MAIN: RouteTable(main=True), **self.route_tables}

    def main_route_table(self) -> str:
        """The name of the main table."""
        return next((name for name, table in self.route_tables.items() if table.main), route_table.MAIN)

    def all_network_acls(self) -> dict[str, NetworkAcl]:
        """Network ACLs, the default one included."""
        return {network_acl.DEFAULT: NetworkAcl.default(ipv6=bool(self.ipv6_cidrs)), **self.network_acls}

    def all_security_groups(self) -> dict[str, SecurityGroup]:
        """Security groups, the default one included."""
        return {security_group.DEFAULT: SecurityGroup.default(), **self.security_groups}

    def free_block(self, like: Network) -> Network | None:
        """The first block of the same family and size that no subnet overlaps, if it is among the first thousands."""
        taken = [block for subnet in self.subnets.values() for block in subnet.cidrs()]
        for parent in self.cidrs():
            if parent.version != like.version or parent.prefixlen > like.prefixlen:
                continue
            candidates: Iterable[Network] = parent.subnets(new_prefix=like.prefixlen)
            for candidate in islice(candidates, 4096):
                if not any(overlap(candidate, block) for block in taken):
                    return candidate
        return None

    # -- checks

    def check(self, topology: Topology, name: str) -> Iterator[Problem]:
        """Yield what AWS would refuse about the VPC and everything in it."""
        yield from check_blocks(self)
        yield from self._check_others(topology, name)
        yield from self._check_counts(topology, name)
        mains = [table for table, declared in self.route_tables.items() if declared.main]
        for table in mains[1:]:
            yield Problem(
                f"route_tables.{table}.main",
                f"{mains[0]} is the main table already",
                "InvalidParameterValue",
                "a VPC has one main table",
            )
        if self.internet_gateway is not None:
            yield from within("internet_gateway", self.internet_gateway.check(topology, name))
        if self.egress_only_internet_gateway is not None:
            problems = self.egress_only_internet_gateway.check(topology, name)
            yield from within("egress_only_internet_gateway", problems)
        if not _ACCOUNT.fullmatch(self.account):
            message = f"{self.account} is no account"
            yield Problem("account", message, "InvalidParameterValue", "write 12 digits, in quotes")
        for key in KEPT_BY_NAME:
            for each, construct in getattr(self, key).items():
                yield from within(f"{key}.{each}", construct.check(topology, name, each))

    def _check_counts(self, topology: Topology, name: str) -> Iterator[Problem]:
        for quota, count, path in (
            ("subnets_per_vpc", len(self.subnets), "subnets"),
            ("ipv4_cidrs_per_vpc", 1 + len(self.secondary_cidrs), "secondary_cidrs"),
            ("ipv6_cidrs_per_vpc", len(self.ipv6_cidrs), "ipv6_cidrs"),
            ("route_tables_per_vpc", len(self.all_route_tables()), "route_tables"),
            ("network_acls_per_vpc", len(self.all_network_acls()), "network_acls"),
            ("gateway_load_balancers_per_vpc", len(self.gateway_load_balancers), "gateway_load_balancers"),
            ("endpoints_per_vpc", len(self.gateway_load_balancer_endpoints), "gateway_load_balancer_endpoints"),
        ):
            yield from topology.over_quota(quota, count, path)
        if len(self.gateway_endpoints) > MOST_ENDPOINTS:
            message = f"{len(self.gateway_endpoints)} gateway endpoints of a VPC, and {MOST_ENDPOINTS} is the most"
            yield Problem("gateway_endpoints", message, "VpcEndpointLimitExceeded", "no quota raises it")
        mine = [peering for peering in topology.lab.peerings.values() if name in (peering.requester, peering.accepter)]
        pending = sum(peering.status == "pending-acceptance" and peering.requester == name for peering in mine)
        yield from topology.over_quota("active_peerings_per_vpc", sum(peering.is_active for peering in mine), "")
        yield from topology.over_quota("pending_peerings_per_vpc", pending, "")

    def _check_others(self, topology: Topology, name: str) -> Iterator[Problem]:
        """IPv6 addresses are the world's: no two VPCs share one."""
        for other, declared in topology.lab.vpcs.items():
            if other == name:
                return
            for index, mine in enumerate(self.ipv6_cidrs):
                for theirs in declared.ipv6_cidrs:
                    if overlap(mine, theirs):
                        yield Problem(
                            f"ipv6_cidrs[{index}]", f"{mine} overlaps {theirs} of VPC {other}", "InvalidVpc.Range"
                        )

    # -- lowering

    def lower(self, topology: Topology, program: Program, name: str) -> None:
        """Make delivery by address, and everything in the VPC."""
        hosts = f"vpc:{name}/hosts"
        program.fibs.setdefault(hosts, [])
        program.nodes[f"vpc:{name}/deliver"] = Lookup(
            object=program.names.intern("vpc", name), fib=hosts, reason=Reason.DESTINATION_UNKNOWN
        )
        if self.internet_gateway is not None:
            self.internet_gateway.lower(topology, program, name)
        if self.egress_only_internet_gateway is not None:
            self.egress_only_internet_gateway.lower(topology, program, name)
        for constructs in (
            self.subnets,
            self.all_route_tables(),
            self.all_network_acls(),
            self.nat_gateways,
            self.target_groups,
            self.gateway_load_balancers,
            self.gateway_load_balancer_endpoints,
            self.gateway_endpoints,
        ):
            for each, construct in constructs.items():
                construct.lower(topology, program, name, each)
