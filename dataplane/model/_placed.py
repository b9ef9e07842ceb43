"""Subnets, interfaces and hosts in their place: what a lab file declares, with everything that follows from it.

Constructs say what they want (`WantedInterface`); the topology gives addresses and MACs (`PlacedInterface`).
"""

from __future__ import annotations

from dataclasses import dataclass, field
from hashlib import blake2b
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network
from typing import Literal, NamedTuple

from dataplane.model._cidr import Address, Network
from dataplane.model.connection_tracking import ConnectionTracking

ROUTER_LINK_LOCAL = IPv6Address("fe80:ec2::1")
"""Where the router of every subnet is found, besides the address derived from its MAC
(https://docs.aws.amazon.com/vpc/latest/userguide/subnet-sizing.html)."""


def mac_of(path: str, attempt: int = 0) -> bytes:
    """A locally administered unicast MAC that follows from a name alone."""
    text = f"{path}#{attempt}" if attempt else path
    return b"\x02" + blake2b(text.encode(), digest_size=5).digest()


def link_local(mac: bytes) -> IPv6Address:
    """The modified EUI-64 link-local address of a MAC (RFC 4291, appendix A)."""
    return IPv6Address(b"\xfe\x80" + bytes(6) + bytes([mac[0] ^ 2]) + mac[1:3] + b"\xff\xfe" + mac[3:])


@dataclass(frozen=True, slots=True, kw_only=True)
class PlacedSubnet:
    """A subnet."""

    vpc: str
    name: str
    cidr: IPv4Network
    ipv6_cidr: IPv6Network | None
    zone: str
    """Full name of its Availability Zone."""
    route_table: str
    network_acl: str
    router_mac: bytes

    @property
    def path(self) -> str:
        """``shop/public``."""
        return f"{self.vpc}/{self.name}"

    @property
    def cidrs(self) -> tuple[Network, ...]:
        """All blocks."""
        return (self.cidr,) if self.ipv6_cidr is None else (self.cidr, self.ipv6_cidr)

    @property
    def router4(self) -> IPv4Address:
        """The router: ``.1``."""
        return self.cidr[1]

    @property
    def router6(self) -> IPv6Address | None:
        """The router's address inside the IPv6 block: ``::1``."""
        return None if self.ipv6_cidr is None else self.ipv6_cidr[1]

    @property
    def router_link_local(self) -> IPv6Address:
        """The router's address for default routes, from its MAC."""
        return link_local(self.router_mac)

    @property
    def routers(self) -> tuple[Address, ...]:
        """Every address of the router."""
        if self.router6 is None:
            return (self.router4,)
        return (self.router4, self.router6, self.router_link_local, ROUTER_LINK_LOCAL)


class Asked(NamedTuple):
    """An address somebody wrote down, and where."""

    path: str
    address: Address


class AskedPublic(NamedTuple):
    """An Elastic IP, and the private address it is for (None: the primary one)."""

    path: str
    private: IPv4Address | None
    public: IPv4Address


@dataclass(frozen=True, slots=True, kw_only=True)
class WantedInterface:
    """An interface as declared."""

    kind: Literal["interface", "network-interface", "nat-gateway", "gateway-load-balancer", "vpc-endpoint"]
    """``interface`` has a port; a ``network-interface`` is one that is not attached."""
    path: str
    """``web/eth0``; ``shop/NAME`` for NAT gateways, endpoints and what is not attached; ``shop/NAME-ZONE`` for the node
    of a gateway load balancer in a zone."""
    name: str
    """Name it was declared by."""
    file_path: str
    """``instances.web``."""
    subnet: PlacedSubnet
    instance: str = ""
    device_index: int = 0
    primary: Asked | None = None
    """None: the lowest free address."""
    secondary: tuple[Asked, ...] = ()
    ipv6: tuple[Asked, ...] = ()
    wants_ipv6: bool = False
    """An address is to be chosen when none is named."""
    groups: tuple[str, ...] = ()
    source_dest_check: bool = True
    connection_tracking: ConnectionTracking = field(default_factory=ConnectionTracking)
    elastic_ips: tuple[AskedPublic, ...] = ()
    wants_public: bool = False
    """A public address is to be chosen for the primary private one when it has none."""

    @property
    def is_declared(self) -> bool:
        """Whether it is a network interface in its own right, not the first one of an instance."""
        return self.kind == "network-interface" or self.device_index > 0

    @property
    def is_managed(self) -> bool:
        """Whether AWS made it for something else: a NAT gateway, a load balancer or an endpoint."""
        return self.kind not in ("interface", "network-interface")

    @property
    def asked(self) -> tuple[Asked, ...]:
        """Every private address that was written down."""
        return (*([self.primary] if self.primary is not None else []), *self.secondary, *self.ipv6)


@dataclass(frozen=True, slots=True, kw_only=True)
class PlacedInterface:
    """An interface with its addresses. `addresses4` is empty when the subnet has none left (a problem)."""

    wanted: WantedInterface
    addresses4: tuple[IPv4Address, ...]
    """Private IPv4 addresses, the primary one first."""
    addresses6: tuple[IPv6Address, ...]
    mac: bytes

    @property
    def kind(self) -> str:
        """``interface``, ``network-interface`` (not attached), ``nat-gateway``, ``gateway-load-balancer`` (one of its
        nodes) or ``vpc-endpoint``."""
        return self.wanted.kind

    @property
    def path(self) -> str:
        """What users call it, e.g. ``web/eth0``."""
        return self.wanted.path

    @property
    def subnet(self) -> PlacedSubnet:
        """Where it lives."""
        return self.wanted.subnet

    @property
    def instance(self) -> str:
        """The instance it belongs to, or an empty text."""
        return self.wanted.instance

    @property
    def device_index(self) -> int:
        """0 for the first interface of an instance."""
        return self.wanted.device_index

    @property
    def device(self) -> str:
        """What it is called inside the instance."""
        return f"eth{self.wanted.device_index}"

    @property
    def groups(self) -> tuple[str, ...]:
        """Its security groups, of its own VPC."""
        return self.wanted.groups

    @property
    def source_dest_check(self) -> bool:
        """Whether it drops what is neither from nor for it."""
        return self.wanted.source_dest_check

    @property
    def is_attached(self) -> bool:
        """Whether it is of an instance."""
        return self.wanted.kind == "interface"


@dataclass(frozen=True, slots=True, kw_only=True)
class PlacedHost:
    """A host on the internet."""

    name: str
    address: IPv4Address
    ipv6_address: IPv6Address | None
    mac: bytes
    router_mac: bytes

    @property
    def path(self) -> str:
        """The name of its interface, e.g. ``example/eth0``."""
        return f"{self.name}/eth0"

    @property
    def router_link_local(self) -> IPv6Address:
        """What an IPv6 default route leads to."""
        return link_local(self.router_mac)
