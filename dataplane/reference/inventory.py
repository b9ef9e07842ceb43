"""What there is, in AWS words: interfaces, gateways, tables and rules, derived from the lab file.

Defaults are AWS's and are filled in: the main route table, the default network ACL, the default security group, its
egress rules, the public addresses that AWS assigns.
"""

from __future__ import annotations

from collections.abc import Mapping
from ipaddress import IPv4Address, IPv6Address

from dataplane.model.instance import Instance
from dataplane.model.network_interface import NetworkInterface
from dataplane.model.route_table import RouteTable
from dataplane.names import Names
from dataplane.reference.acl import acls_of
from dataplane.reference.checksum import Address
from dataplane.reference.endpoints import endpoints_of, nodes_of
from dataplane.reference.flow_logs import watched
from dataplane.reference.groups import rules_of
from dataplane.reference.lifetimes import limits_of_interface, limits_of_nat_gateways
from dataplane.reference.nodes import BalancerNode, Endpoint, GatewayEndpoint, Host, Interface, NatGateway, Subnet
from dataplane.reference.public_addresses import public_addresses
from dataplane.reference.routes import Table, tables_of
from dataplane.topology import Topology

Owner = Interface | NatGateway | BalancerNode | Endpoint
"""Who has an interface."""
OF_INSTANCES = ("interface", "network-interface")
"""Kinds of interfaces that AWS has not made for something of its own."""
ROUTER_LINK_LOCAL = IPv6Address("fe80:ec2::1")
"""https://docs.aws.amazon.com/vpc/latest/userguide/subnet-sizing.html"""


class Inventory:
    """Everything in one lab, as declared now."""

    def __init__(self, topology: Topology, names: Names) -> None:
        self.names = names
        self.lab = topology.lab
        self.regions = {vpc: str(topology.region_of(vpc)) for vpc in self.lab.vpcs}
        members = {key: tuple(found) for key, found in _members(topology).items()}
        tables = {vpc: tables_of(self.lab, names, vpc) for vpc in self.lab.vpcs}
        acls = {vpc: acls_of(self.lab.vpcs[vpc], names, vpc) for vpc in self.lab.vpcs}
        self.tables: dict[tuple[str, str], Table] = {
            (vpc, name): table for vpc, found in tables.items() for name, table in found.items()
        }
        self.subnets: dict[tuple[str, str], Subnet] = {}
        for (vpc, name), placed in topology.subnets.items():
            declared = self.lab.vpcs[vpc].subnets[name]
            cidrs = declared.cidrs()
            link_local = () if declared.ipv6_cidr is None else (_eui64(placed.router_mac), ROUTER_LINK_LOCAL)
            self.subnets[vpc, name] = Subnet(
                number=names.intern("subnet", f"{vpc}/{name}"),
                vpc=vpc,
                cidrs=cidrs,
                router_mac=placed.router_mac,
                router=tuple(cidr[1] for cidr in cidrs),
                router_link_local=link_local,
                acl=acls[vpc][declared.network_acl or "default"],
                table=tables[vpc][declared.route_table or _main(self.lab.vpcs[vpc].route_tables)],
            )
        self.watched = watched(topology, names)
        self.public_of = public_addresses(topology)
        """(VPC, private address) -> public address."""
        self.interfaces: list[Interface] = []
        self.nat_gateways: dict[tuple[str, str], NatGateway] = {}
        for each in topology.interfaces:
            vpc = each.subnet.vpc
            subnet = self.subnets[vpc, each.subnet.name]
            if each.kind == "nat-gateway":
                self.nat_gateways[vpc, each.wanted.name] = NatGateway(
                    number=names.intern("nat-gateway", each.path),
                    vpc=vpc,
                    name=each.wanted.name,
                    subnet=subnet,
                    mac=each.mac,
                    addresses=each.addresses4,
                    known_as={self.public_of.get((vpc, a), a): a for a in each.addresses4}
                    | {a: a for a in each.addresses4},
                    limits=limits_of_nat_gateways(self.lab.settings),
                )
                continue
            if each.kind not in OF_INSTANCES:
                continue
            declared_as = self._declared(vpc, each.wanted.is_declared, each.wanted.name)
            groups = declared_as.security_groups or ("default",)
            self.interfaces.append(
                Interface(
                    number=names.intern(each.kind, each.path),
                    path=each.path,
                    declared_name=each.wanted.name if each.wanted.is_declared else "",
                    vpc=vpc,
                    subnet=subnet,
                    mac=each.mac,
                    addresses=(*each.addresses4, *each.addresses6),
                    groups=frozenset((vpc, group) for group in groups),
                    rules=rules_of(self.lab, names, vpc, groups, members, self.regions),
                    limits=limits_of_interface(declared_as.connection_tracking, self.lab.settings),
                    source_dest_check=declared_as.source_dest_check,
                    is_attached=each.is_attached,
                )
            )
        nodes = nodes_of(topology, names, self.subnets)
        self.balancer_nodes = list(nodes.values())
        self.endpoints = endpoints_of(topology, names, self.subnets, nodes)
        self.gateway_endpoints = {
            (vpc, name): GatewayEndpoint(
                number=names.intern("vpc-endpoint", f"{vpc}/{name}"), vpc=vpc, service=each.service
            )
            for vpc, declared in self.lab.vpcs.items()
            for name, each in declared.gateway_endpoints.items()
        }
        self.hosts = [
            Host(
                number=names.intern("interface", f"{name}/eth0"),
                service=name if name in self.lab.aws_services else "",
                addresses=(host.address,) if host.ipv6_address is None else (host.address, host.ipv6_address),
                mac=host.mac,
                router_mac=host.router_mac,
            )
            for name, host in topology.hosts.items()
        ]
        self.ports: dict[int, Interface | BalancerNode | Host] = {h.number: h for h in self.hosts}
        self.ports |= {i.number: i for i in self.interfaces if i.is_attached}
        self.ports |= {node.number: node for node in self.balancer_nodes}
        self.port_of = {f"{name}/eth0": host.number for name, host in zip(topology.hosts, self.hosts, strict=True)}
        self.port_of |= {i.path: i.number for i in self.interfaces if i.is_attached}
        for kind, path in (("internet", "internet"), *(("vpc", vpc) for vpc in self.lab.vpcs)):
            names.intern(kind, path)

    def _declared(self, vpc: str, is_declared: bool, name: str) -> NetworkInterface | Instance:
        return self.lab.vpcs[vpc].network_interfaces[name] if is_declared else self.lab.instances[name]

    # -- who has an address

    def has_interface(self, vpc: str, address: Address) -> bool:
        """Whether an interface of a VPC has a private or IPv6 address; a subnet's router is none."""
        return isinstance(self.owner(vpc, address), Owner)

    def owner(self, vpc: str, address: Address) -> Owner | Subnet | None:
        """Who in a VPC gets what is for a private address; a `Subnet` stands for its router."""
        for interface in self.interfaces:
            if interface.vpc == vpc and address in interface.addresses:
                return interface
        for each in self.managed():
            if each.vpc == vpc and address in each.addresses:
                return each
        return next((s for s in self.subnets.values() if s.vpc == vpc and address in s.router), None)

    def interface(self, vpc: str, name: str) -> Interface | None:
        """The interface of a VPC called ``INSTANCE/ethN``, or declared under a name, attached or not."""
        mine = (each for each in self.interfaces if each.vpc == vpc)
        return next((each for each in mine if name in (each.path, each.declared_name)), None)

    def attached(self, vpc: str, name: str) -> Interface | None:
        """The same, while it is attached."""
        found = self.interface(vpc, name)
        return found if found is not None and found.is_attached else None

    def public_address(self, vpc: str, private: Address) -> IPv4Address | None:
        """The public address of a private one, as long as the interface that has it is attached."""
        if self._is_detached(vpc, private):
            return None
        return next((public for where, public in self.public_of.items() if where == (vpc, private)), None)

    def private_address(self, vpc: str, public: Address) -> IPv4Address | None:
        """The private address of a VPC that a public one belongs to, as long as its interface is attached."""
        found = next((at for (owner, at), mine in self.public_of.items() if (owner, mine) == (vpc, public)), None)
        return None if found is None or self._is_detached(vpc, found) else found

    def _is_detached(self, vpc: str, private: Address) -> bool:
        owner = self.owner(vpc, private)
        return isinstance(owner, Interface) and not owner.is_attached

    def vpc_of_public(self, public: Address) -> str | None:
        """The VPC with an internet gateway that a public address leads to."""
        owners = (vpc for (vpc, _), mine in self.public_of.items() if mine == public)
        return next((vpc for vpc in owners if self.lab.vpcs[vpc].internet_gateway is not None), None)

    def gateways_of(self, vpc: str) -> list[NatGateway]:
        """The NAT gateways of a VPC."""
        return [gateway for (owner, _), gateway in self.nat_gateways.items() if owner == vpc]

    def managed(self) -> list[NatGateway | BalancerNode | Endpoint]:
        """Everybody whose interface AWS owns."""
        return [*self.nat_gateways.values(), *self.balancer_nodes, *self.endpoints.values()]

    def endpoint_of(self, node: BalancerNode, identity: int) -> Endpoint | None:
        """The endpoint with an id that leads to the balancer of `node`, whichever of its nodes."""
        mine = (each for each in self.endpoints.values() if each.identity == identity)
        return next((each for each in mine if each.node and each.node.balancer == node.balancer), None)

    def neighbour(self, subnet: Subnet, mac: bytes) -> Owner | None:
        """The interface in a subnet with a MAC, one that AWS owns included."""
        everyone: list[Owner] = [*self.interfaces, *self.managed()]
        for each in everyone:
            attached = not isinstance(each, Interface) or each.is_attached
            if each.subnet is subnet and each.mac == mac and attached:
                return each
        return None

    def host(self, address: Address) -> Host | None:
        """The internet host with an address."""
        return next((host for host in self.hosts if address in host.addresses), None)

    def has_address6(self, vpc: str, address: Address) -> bool:
        """Whether an attached interface of a VPC has an IPv6 address."""
        return any(address in i.addresses for i in self.interfaces if i.vpc == vpc and i.is_attached)

    def vpc_of_block6(self, address: Address) -> tuple[str | None, str]:
        """The VPC with a gateway to the internet (of either kind) whose IPv6 blocks hold an address, and the block."""
        for vpc, declared in self.lab.vpcs.items():
            if declared.internet_gateway is None and declared.egress_only_internet_gateway is None:
                continue
            for cidr in declared.ipv6_cidrs:
                if address in cidr:
                    return vpc, str(cidr)
        return None, ""


def _main(tables: Mapping[str, RouteTable]) -> str:
    """The main table: the one that says so, else the one called main (which is always there)."""
    return next((name for name, table in tables.items() if table.main), "main")


def _members(topology: Topology) -> dict[tuple[str, str], list[Address]]:
    """(VPC, group) -> the private addresses of interfaces that carry the group."""
    lab, found = topology.lab, dict[tuple[str, str], list[Address]]()
    for each in topology.interfaces:
        if each.kind not in OF_INSTANCES:
            continue
        vpc, name = each.subnet.vpc, each.wanted.name
        declared = lab.vpcs[vpc].network_interfaces[name] if each.wanted.is_declared else lab.instances[name]
        for group in declared.security_groups or ("default",):
            found.setdefault((vpc, group), []).extend([*each.addresses4, *each.addresses6])
    return found


def _eui64(mac: bytes) -> IPv6Address:
    """The link-local address that follows from a MAC (RFC 4291, appendix A)."""
    return IPv6Address(b"\xfe\x80" + bytes(6) + bytes([mac[0] ^ 2]) + mac[1:3] + b"\xff\xfe" + mac[3:])
