"""Who takes part: subnets, network interfaces, NAT gateways, hosts of the internet, with what is declared of them.

Names are numbers of `Names`, as everywhere.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network

from dataplane.reference.acl import Acl
from dataplane.reference.checksum import Address
from dataplane.reference.groups import GroupRules
from dataplane.reference.lifetimes import Limits
from dataplane.reference.routes import Table
from dataplane.reference.targets import Target


@dataclass(frozen=True, slots=True, kw_only=True)
class Subnet:
    """A subnet: its blocks, router, network ACL and route table."""

    number: int
    vpc: str
    cidrs: tuple[IPv4Network | IPv6Network, ...]
    router_mac: bytes
    router: tuple[Address, ...]
    """The second address of each block: these answer."""
    router_link_local: tuple[IPv6Address, ...]
    acl: Acl
    table: Table

    def holds(self, address: Address) -> bool:
        """Whether an address is inside."""
        return any(address in cidr for cidr in self.cidrs)

    def is_router(self, address: Address) -> bool:
        """Whether an address is one of its router's."""
        return address in self.router or address in self.router_link_local


@dataclass(frozen=True, slots=True, kw_only=True)
class Interface:
    """A network interface of an instance, or one that is not attached (`is_attached`)."""

    number: int
    path: str
    """``web/eth0``."""
    declared_name: str
    """Of a network interface; empty for the first one of an instance."""
    vpc: str
    subnet: Subnet
    mac: bytes
    addresses: tuple[Address, ...]
    groups: frozenset[tuple[str, str]]
    """VPC and name of its security groups."""
    rules: GroupRules
    limits: Limits
    """How long it remembers idle flows."""
    source_dest_check: bool
    is_attached: bool

    @property
    def router_mac(self) -> bytes:
        """The MAC of its subnet's router."""
        return self.subnet.router_mac


@dataclass(frozen=True, slots=True, kw_only=True)
class NatGateway:
    """A NAT gateway: its interface, which AWS owns."""

    number: int
    vpc: str
    name: str
    subnet: Subnet
    mac: bytes
    addresses: tuple[IPv4Address, ...]
    """The primary one first."""
    known_as: Mapping[IPv4Address, IPv4Address]
    """Its addresses as they may be seen outside, the public ones included -> the private ones."""
    limits: Limits

    @property
    def address(self) -> IPv4Address:
        """The primary address, where its ICMP errors come from."""
        return self.addresses[0]


@dataclass(frozen=True, slots=True, kw_only=True)
class BalancerNode:
    """A node of a Gateway Load Balancer: its interface in one Availability Zone, which AWS owns."""

    number: int
    balancer: int
    """The number of the balancer itself, of which it is one node."""
    vpc: str
    subnet: Subnet
    mac: bytes
    address: IPv4Address
    dualstack: bool
    """Whether its balancer takes IPv6."""
    resets: bool
    """Whether the sender of TCP of no flow is told."""
    stickiness: str
    """Of its target group: which flows go to one target."""
    targets: Mapping[int, Target]
    """By number, as this node sees them."""
    limits: Limits

    @property
    def addresses(self) -> tuple[Address, ...]:
        """Its only address."""
        return (self.address,)

    @property
    def router_mac(self) -> bytes:
        """The MAC of its subnet's router."""
        return self.subnet.router_mac


@dataclass(frozen=True, slots=True, kw_only=True)
class Endpoint:
    """A Gateway Load Balancer endpoint: its interface, which AWS owns."""

    number: int
    vpc: str
    name: str
    subnet: Subnet
    mac: bytes
    addresses: tuple[Address, ...]
    identity: int
    """The digits of its id, as a number: it stands in every packet to a target."""
    node: BalancerNode | None
    """The node that it leads to, in its own Availability Zone; None: it is not available."""


@dataclass(frozen=True, slots=True, kw_only=True)
class GatewayEndpoint:
    """A gateway endpoint, which is no interface."""

    number: int
    vpc: str
    service: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Host:
    """A host on the internet, or one that stands for a service of AWS."""

    number: int
    service: str = ""
    addresses: tuple[Address, ...]
    mac: bytes
    router_mac: bytes
