"""The quickstart lab, declared in Python: the twin of examples/quickstart.yaml."""

from __future__ import annotations

from ipaddress import IPv4Address, IPv4Network
from typing import Any, Literal

from dataplane.model._probe_ends import Ends
from dataplane.model._rule_peer import RulePeer
from dataplane.model._traffic import PortRange, Protocol
from dataplane.model.check import Check, ProbeProtocol, Waypoint
from dataplane.model.instance import Instance
from dataplane.model.internet_gateway import InternetGateway
from dataplane.model.internet_host import InternetHost
from dataplane.model.lab_file import Internet, LabFile
from dataplane.model.nat_gateway import NatGateway
from dataplane.model.network_acl import NetworkAcl, NetworkAclRule
from dataplane.model.program_spec import ProgramSpec, ReadyTcp
from dataplane.model.route_table import RouteTable
from dataplane.model.security_group import IngressRule, SecurityGroup
from dataplane.model.subnet import Subnet
from dataplane.model.vpc import Vpc
from dataplane.model.vpc_peering import VpcPeering
from tests.unit.model.building import route

HTTP = ProgramSpec(
    command=("python3", "-m", "http.server", "80", "--directory", "/srv"), ready=ReadyTcp(tcp=80), restart="always"
)


def entry(
    number: int, action: Literal["allow", "deny"], protocol: str, ports: str | None = None, cidr: str = "0.0.0.0/0"
) -> NetworkAclRule:
    return NetworkAclRule(
        rule=number,
        action=action,
        protocol=Protocol.parse(protocol),
        ports=None if ports is None else PortRange.parse(ports),
        cidr=IPv4Network(cidr),
    )


def claim(*, can: str = "", cannot: str = "", protocol: str = "tcp", **fields: Any) -> Check:
    return Check(
        can=Ends.parse(can) if can else None,
        cannot=Ends.parse(cannot) if cannot else None,
        protocol=ProbeProtocol.parse(protocol),
        **fields,
    )


def admit(protocol: str, source: str, ports: int | None = None) -> IngressRule:
    return IngressRule(
        protocol=Protocol.parse(protocol),
        ports=None if ports is None else PortRange(ports, ports),
        source=RulePeer.parse(source),
    )


SHOP = Vpc(
    cidr=IPv4Network("10.0.0.0/16"),
    internet_gateway=InternetGateway(),
    subnets={
        "public": Subnet(cidr=IPv4Network("10.0.1.0/24"), route_table="public", network_acl="edge"),
        "private": Subnet(cidr=IPv4Network("10.0.2.0/24"), availability_zone="b", route_table="private"),
    },
    route_tables={
        "public": RouteTable(
            routes=(route("0.0.0.0/0", "internet-gateway"), route("10.1.0.0/16", "peering:shop-store"))
        ),
        "private": RouteTable(
            routes=(route("0.0.0.0/0", "nat-gateway:nat"), route("10.1.0.0/16", "peering:shop-store"))
        ),
    },
    nat_gateways={"nat": NatGateway(subnet="public", elastic_ip=IPv4Address("203.0.113.10"))},
    network_acls={
        "edge": NetworkAcl(
            ingress=(
                entry(90, "deny", "tcp", "22"),
                entry(100, "allow", "tcp", "80"),
                entry(110, "allow", "all", cidr="10.0.0.0/15"),
                entry(120, "allow", "tcp", "1024-65535"),
                entry(130, "allow", "udp", "1024-65535"),
                entry(140, "allow", "icmp"),
            ),
            egress=(entry(100, "deny", "tcp", "25"), entry(110, "allow", "all")),
        )
    },
    security_groups={
        "web": SecurityGroup(
            description="HTTP from anywhere, pings from those we know",
            ingress=(admit("tcp", "0.0.0.0/0", 80), admit("icmp", "group:app"), admit("icmp", "group:store/db")),
        ),
        "app": SecurityGroup(
            description="only for web", ingress=(admit("tcp", "group:web", 8080), admit("icmp", "group:web"))
        ),
    },
)

STORE = Vpc(
    cidr=IPv4Network("10.1.0.0/16"),
    subnets={"data": Subnet(cidr=IPv4Network("10.1.1.0/24"))},
    route_tables={"main": RouteTable(routes=(route("10.0.0.0/16", "peering:shop-store"),))},
    security_groups={
        "db": SecurityGroup(
            description="only for app",
            ingress=(admit("tcp", "group:shop/app", 5432), admit("icmp", "group:shop/app")),
        )
    },
)

QUICKSTART = LabFile(
    version=1,
    name="quickstart",
    vpcs={"shop": SHOP, "store": STORE},
    peerings={"shop-store": VpcPeering(requester="shop", accepter="store")},
    instances={
        "web": Instance(
            vpc="shop",
            subnet="public",
            private_ip=IPv4Address("10.0.1.10"),
            elastic_ip=IPv4Address("203.0.113.20"),
            security_groups=("web",),
            programs={"http": HTTP},
        ),
        "app": Instance(vpc="shop", subnet="private", private_ip=IPv4Address("10.0.2.10"), security_groups=("app",)),
        "db": Instance(vpc="store", subnet="data", private_ip=IPv4Address("10.1.1.10"), security_groups=("db",)),
    },
    internet=Internet(
        hosts={
            "example": InternetHost(address=IPv4Address("198.51.100.10"), programs={"http": HTTP}),
            "visitor": InternetHost(address=IPv4Address("198.51.100.77")),
        }
    ),
    checks=(
        claim(
            can="visitor -> web",
            port=80,
            via=Waypoint("internet-gateway", "shop"),
            because="everyone may browse",
        ),
        claim(cannot="visitor -> web", port=22, because="nobody logs in from the internet"),
        claim(cannot="visitor -> web", protocol="icmp"),
        claim(
            can="app -> example",
            port=80,
            via=Waypoint("nat-gateway", "shop/nat"),
            source_seen=IPv4Address("203.0.113.10"),
        ),
        claim(can="web -> app", port=8080, because="web asks app"),
        claim(can="app -> db", port=5432, via=Waypoint("peering", "shop-store"), because="app stores in db"),
        claim(cannot="web -> db", port=5432, because="only app may"),
        claim(cannot="db -> example", port=80, because="data does not leave"),
    ),
)
