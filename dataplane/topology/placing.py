"""Give every subnet, interface and host what the lab file leaves open: addresses, MACs, defaults.

Nothing here refuses: what cannot be placed because a name is unknown is left out, and the checks say why.
"""

from __future__ import annotations

from collections.abc import Iterator
from ipaddress import IPv4Address, IPv4Network, IPv6Address

from dataplane.limits import AUTO_PUBLIC_POOLS
from dataplane.model import network_acl
from dataplane.model._cidr import Address, Network, holding
from dataplane.model._placed import PlacedHost, PlacedInterface, PlacedSubnet, WantedInterface, mac_of
from dataplane.model.elastic_ip import PublicAddress
from dataplane.model.lab_file import LabFile
from dataplane.model.region import Region

SubnetKey = tuple[str, str]
"""VPC and name."""


def regions_of(lab: LabFile) -> dict[str, Region]:
    """The Region of each VPC: the lab's, unless a peering says otherwise of its accepter."""
    regions = dict.fromkeys(lab.vpcs, lab.region)
    for peering in lab.peerings.values():
        if peering.accepter_region is not None and peering.accepter in regions:
            regions[peering.accepter] = peering.accepter_region
    return regions


def place_subnets(lab: LabFile, regions: dict[str, Region]) -> dict[SubnetKey, PlacedSubnet]:
    """All subnets."""
    placed = {}
    for vpc, declared in lab.vpcs.items():
        main, tables, acls = declared.main_route_table(), declared.all_route_tables(), declared.all_network_acls()
        for name, subnet in declared.subnets.items():
            try:
                zone = regions[vpc].zone(subnet.availability_zone)
            except ValueError:
                zone = subnet.availability_zone
            placed[vpc, name] = PlacedSubnet(
                vpc=vpc,
                name=name,
                cidr=subnet.cidr,
                ipv6_cidr=subnet.ipv6_cidr,
                zone=zone,
                route_table=subnet.route_table if subnet.route_table in tables else main,
                network_acl=subnet.network_acl if subnet.network_acl in acls else network_acl.DEFAULT,
                router_mac=mac_of(f"router {vpc}/{name}"),
            )
    return placed


def wanted_interfaces(lab: LabFile, subnets: dict[SubnetKey, PlacedSubnet]) -> Iterator[WantedInterface]:
    """Every interface whose subnet exists, in the order in which addresses are given."""
    for vpc, declared in lab.vpcs.items():
        for name, gateway in declared.nat_gateways.items():
            home = subnets.get((vpc, gateway.subnet))
            if home is not None:
                yield gateway.wanted(home, name)
        for name, balancer in declared.gateway_load_balancers.items():
            for subnet in dict.fromkeys(balancer.subnets):
                home = subnets.get((vpc, subnet))
                if home is not None:
                    yield balancer.wanted(home, name)
        for name, endpoint in declared.gateway_load_balancer_endpoints.items():
            home = subnets.get((vpc, endpoint.subnet))
            if home is not None:
                yield endpoint.wanted(home, name)
        for name, interface in declared.network_interfaces.items():
            home = subnets.get((vpc, interface.subnet))
            if home is not None:
                yield interface.wanted(home, declared.subnets[interface.subnet], name)
    for name, instance in lab.instances.items():
        home = subnets.get((instance.vpc, instance.subnet))
        if home is not None:
            yield instance.wanted(home, lab.vpcs[instance.vpc].subnets[instance.subnet], name)


class _Free:
    """Free addresses of blocks, lowest first; AWS's own are never given."""

    def __init__(self, taken: set[tuple[str, Address]]) -> None:
        self._taken = taken
        self._next: dict[tuple[str, Network], int] = {}

    def take(self, vpc: str, block: Network) -> Address | None:
        """The lowest free address of a block, from now on taken; None when there is none."""
        offset = self._next.get((vpc, block), 4)
        while offset < block.num_addresses - 1:
            address = block[offset]
            offset += 1
            if (vpc, address) not in self._taken:
                self._taken.add((vpc, address))
                self._next[vpc, block] = offset
                return address
        self._next[vpc, block] = offset
        return None


def place_interfaces(wanted: list[WantedInterface]) -> tuple[PlacedInterface, ...]:
    """Give addresses and MACs; those written down first, so that they are not given to others."""
    free = _Free({(each.subnet.vpc, asked.address) for each in wanted for asked in each.asked})
    macs: set[bytes] = set()
    placed = []
    for each in wanted:
        home = each.subnet
        primary = each.primary.address if each.primary is not None else free.take(home.vpc, home.cidr)
        addresses6 = [asked.address for asked in each.ipv6]
        if each.wants_ipv6 and not addresses6 and home.ipv6_cidr is not None:
            chosen = free.take(home.vpc, home.ipv6_cidr)
            addresses6 += [chosen] if chosen is not None else []
        placed.append(
            PlacedInterface(
                wanted=each,
                addresses4=tuple(
                    address
                    for address in (primary, *(asked.address for asked in each.secondary))
                    if isinstance(address, IPv4Address)
                ),
                addresses6=tuple(address for address in addresses6 if isinstance(address, IPv6Address)),
                mac=_unique_mac(each.path, macs),
            )
        )
    return tuple(placed)


def _unique_mac(path: str, taken: set[bytes]) -> bytes:
    attempt = 0
    while (mac := mac_of(path, attempt)) in taken:
        attempt += 1
    taken.add(mac)
    return mac


def place_hosts(lab: LabFile) -> dict[str, PlacedHost]:
    """All internet hosts, and those that stand for AWS's services."""
    addresses: dict[str, tuple[IPv4Address, IPv6Address | None]] = {
        name: (host.address, host.ipv6_address) for name, host in lab.internet.hosts.items()
    }
    for name, service in lab.aws_services.items():
        addresses.setdefault(name, (service.host_address(name), None))
    return {
        name: PlacedHost(
            name=name,
            address=address,
            ipv6_address=ipv6_address,
            mac=mac_of(f"{name}/eth0"),
            router_mac=mac_of(f"router internet/{name}"),
        )
        for name, (address, ipv6_address) in addresses.items()
    }


def public_addresses(lab: LabFile, interfaces: tuple[PlacedInterface, ...]) -> tuple[PublicAddress, ...]:
    """Elastic IPs, then an address for each interface that wants one and has none."""
    found = []
    for interface in interfaces:
        for path, private, public in interface.wanted.elastic_ips:
            inside = private if private is not None else next(iter(interface.addresses4), None)
            if inside is not None:
                vpc = interface.subnet.vpc
                attached = interface.kind != "network-interface"
                found.append(PublicAddress(public=public, private=inside, vpc=vpc, path=path, is_attached=attached))
    taken = {each.public for each in found} | {host.address for host in lab.internet.hosts.values()}
    mapped = {(each.vpc, each.private) for each in found}
    blocks = [cidr for vpc in lab.vpcs.values() for cidr in vpc.cidrs()]
    pool = _pool(taken, blocks)
    for interface in interfaces:
        if not interface.wanted.wants_public or not interface.addresses4:
            continue
        vpc, primary = interface.subnet.vpc, interface.addresses4[0]
        if (vpc, primary) not in mapped:
            path = interface.wanted.file_path
            found.append(PublicAddress(public=next(pool), private=primary, vpc=vpc, path=path, automatic=True))
    return tuple(found)


def _pool(taken: set[IPv4Address], blocks: list[Network]) -> Iterator[IPv4Address]:
    for network in AUTO_PUBLIC_POOLS:
        for address in IPv4Network(network):
            if address not in taken and holding(address, blocks) is None:
                yield address
