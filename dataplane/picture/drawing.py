"""What of a topology is drawn where.

Every subnet whose table leads anywhere has a place for its routes, from which links go; a table with local routes only
is a word in the subnet. Gateways of a VPC are in the VPC; NAT gateways, endpoints and nodes of load balancers in their
subnet.
"""

from __future__ import annotations

from collections.abc import Iterator

from dataplane.model._placed import PlacedHost, PlacedInterface, PlacedSubnet
from dataplane.model._route_target import RouteTarget
from dataplane.picture.places import Link, Picture, Place
from dataplane.topology import Topology

INTERNET = "internet"
_LABELS = 3
"""Destinations written at a link; of more, how many."""


def draw(topology: Topology, *, name: str = "") -> Picture:
    """Draw a topology. `name` is what to call it, if the lab file does not say."""
    places = list(_places(topology))
    links = list(_links(topology))
    if any(link.target.startswith("blackhole ") for link in links):
        targets = dict.fromkeys(link.target for link in links if link.target.startswith("blackhole "))
        places += [
            Place(key=key, kind="blackhole", title="blackhole", inside=f"vpc {key.partition(' ')[2]}")
            for key in targets
        ]
    return Picture(name=topology.lab.name or name, places=tuple(places), links=tuple(links))


# -- places ----------------------------------------------------------------------------------------------


def _places(topology: Topology) -> Iterator[Place]:
    if topology.hosts:
        yield Place(key=INTERNET, kind="internet", title="internet")
    for host in topology.hosts.values():
        yield _host(topology, host)
    regions = dict.fromkeys(topology.region_of(vpc).name for vpc in topology.lab.vpcs)
    for region in regions:
        yield Place(key=f"region {region}", kind="region", title=f"Region {region}")
        for vpc in topology.lab.vpcs:
            if topology.region_of(vpc).name == region:
                yield from _vpc(topology, vpc, region)
    for name, peering in topology.lab.peerings.items():
        ends = [topology.region_of(each).name for each in (peering.requester, peering.accepter)]
        lines = (f"{peering.requester} - {peering.accepter}", *([] if peering.is_active else [peering.status]))
        inside = f"region {ends[0]}" if ends[0] == ends[1] else ""
        yield Place(key=f"peering {name}", kind="peering", title=f"peering {name}", lines=lines, inside=inside)


def _host(topology: Topology, host: PlacedHost) -> Place:
    kind = "aws-service" if host.name in topology.lab.aws_services else "internet-host"
    lines = [str(each) for each in (host.address, host.ipv6_address) if each is not None]
    return Place(key=f"{kind} {host.name}", kind=kind, title=host.name, lines=tuple(lines))


def _vpc(topology: Topology, name: str, region: str) -> Iterator[Place]:
    vpc, key = topology.vpc(name), f"vpc {name}"
    blocks = " ".join(str(each) for each in vpc.cidrs())
    yield Place(key=key, kind="vpc", title=f"VPC {name}", lines=(blocks,), inside=f"region {region}")
    if vpc.internet_gateway is not None:
        yield Place(key=f"internet-gateway {name}", kind="internet-gateway", title="internet gateway", inside=key)
    if vpc.egress_only_internet_gateway is not None:
        title = "egress-only internet gateway"
        yield Place(
            key=f"egress-only-internet-gateway {name}", kind="egress-only-internet-gateway", title=title, inside=key
        )
    for endpoint, declared in vpc.gateway_endpoints.items():
        path = f"{name}/{endpoint}"
        yield Place(
            key=f"vpc-endpoint {path}",
            kind="gateway-endpoint",
            title=f"gateway endpoint {endpoint}",
            lines=(declared.service,),
            inside=key,
        )
    mine = [placed for placed in topology.subnets.values() if placed.vpc == name]
    for zone in dict.fromkeys(placed.zone for placed in mine):
        here = f"availability-zone {name}/{zone}"
        yield Place(key=here, kind="availability-zone", title=f"Availability Zone {zone}", inside=key)
        for placed in mine:
            if placed.zone == zone:
                yield from _subnet(topology, placed, here)


def _subnet(topology: Topology, subnet: PlacedSubnet, inside: str) -> Iterator[Place]:
    key, has_routes = f"subnet {subnet.path}", bool(list(_routes(topology, subnet.vpc, subnet.route_table)))
    lines = [" ".join(str(each) for each in subnet.cidrs)]
    if not has_routes:
        lines.append(f"routes {subnet.route_table}: local only")
    if topology.vpc(subnet.vpc).subnets[subnet.name].network_acl is not None:
        lines.append(f"network ACL {subnet.network_acl}")
    yield Place(key=key, kind="subnet", title=f"subnet {subnet.name}", lines=tuple(lines), inside=inside)
    if has_routes:
        yield Place(key=f"routes {subnet.path}", kind="routes", title=f"routes {subnet.route_table}", inside=key)
    for interface in topology.interfaces_of_vpc(subnet.vpc):
        if interface.subnet.name == subnet.name:
            yield _interface(topology, interface, key)


def _interface(topology: Topology, interface: PlacedInterface, inside: str) -> Place:
    public = topology.public_addresses_of(interface)
    lines = [f"{each} = {public[each]}" if each in public else str(each) for each in interface.addresses4]
    lines += [str(each) for each in interface.addresses6]
    name, kind = interface.wanted.name, interface.kind
    match kind:
        case "nat-gateway":
            title = f"NAT gateway {name}"
        case "gateway-load-balancer":
            title = f"gateway load balancer {name}"
        case "vpc-endpoint":
            title = f"endpoint {name}"
        case _:
            first = interface.is_attached and interface.device_index == 0
            kind = "instance" if first else "network-interface"
            title = interface.instance if first else interface.path if interface.is_attached else name
            lines += ["not attached"] if not interface.is_attached else []
            lines += [f"groups {', '.join(interface.groups)}"] if interface.groups else []
            if first and topology.lab.instances[title].attach is not None:
                lines.append(str(topology.lab.instances[title].attach))
    return Place(key=_key(interface), kind=kind, title=title, lines=tuple(lines), inside=inside)


def _key(interface: PlacedInterface) -> str:
    if interface.kind in ("interface", "network-interface"):
        first = interface.is_attached and interface.device_index == 0
        return f"instance {interface.instance}" if first else f"network-interface {interface.path}"
    return f"{interface.kind} {interface.path}"


# -- links -----------------------------------------------------------------------------------------------


def _links(topology: Topology) -> Iterator[Link]:
    for host in topology.hosts.values():
        yield Link(source=INTERNET, target=_host(topology, host).key, directed=False)
    for name, vpc in topology.lab.vpcs.items():
        for gateway, declared in (
            ("internet-gateway", vpc.internet_gateway),
            ("egress-only-internet-gateway", vpc.egress_only_internet_gateway),
        ):
            if declared is not None and topology.hosts:
                is_way_in = gateway == "internet-gateway"
                yield Link(source=f"{gateway} {name}", target=INTERNET, directed=not is_way_in)
        if vpc.internet_gateway is not None and vpc.internet_gateway.route_table is not None:
            table = vpc.internet_gateway.route_table
            yield from _route_links(topology, name, table, f"internet-gateway {name}", said=f"{table}: ")
        for endpoint, of in vpc.gateway_endpoints.items():
            yield Link(source=f"vpc-endpoint {name}/{endpoint}", target=f"aws-service {of.service}")
    for subnet in topology.subnets.values():
        yield from _route_links(topology, subnet.vpc, subnet.route_table, f"routes {subnet.path}")
    for interface in topology.interfaces:
        yield from _interface_links(topology, interface)


def _interface_links(topology: Topology, interface: PlacedInterface) -> Iterator[Link]:
    vpc, name, zone = interface.subnet.vpc, interface.wanted.name, interface.subnet.zone
    if interface.is_attached and interface.device_index > 0:
        yield Link(source=f"instance {interface.instance}", target=_key(interface), directed=False)
    elif interface.kind == "vpc-endpoint":
        service = topology.vpc(vpc).gateway_load_balancer_endpoints[name].service
        owner, offered = topology.endpoint_service(service)
        nodes = topology.balancer_nodes(owner, offered.gateway_load_balancer)
        for node in [nodes[zone]] if zone in nodes else nodes.values():
            yield Link(source=_key(interface), target=_key(node), label=service)
    elif interface.kind == "gateway-load-balancer":
        balancer = topology.vpc(vpc).gateway_load_balancers[name]
        group = topology.vpc(vpc).target_groups[balancer.target_group]
        for target in topology.interfaces_of_vpc(vpc):
            is_target = target.instance in group.targets or any(str(a) in group.targets for a in target.addresses4)
            if target.is_attached and is_target and (balancer.cross_zone or target.subnet.zone == zone):
                if target.instance in group.targets and target.device_index > 0:
                    continue
                yield Link(source=_key(interface), target=_key(target), label=balancer.target_group)


def _route_links(topology: Topology, vpc: str, table: str, source: str, *, said: str = "") -> Iterator[Link]:
    found: dict[str, list[str]] = {}
    dead: set[str] = set()
    for target, label in _routes(topology, vpc, table):
        key = key_of_target(topology, vpc, target)
        labels = found.setdefault(key, [])
        if label not in labels:
            labels.append(label)
        if topology.route_target_label(vpc, target) is None:
            dead.add(key)
    for key, labels in found.items():
        more = [f"{len(labels) - _LABELS} more"] if len(labels) > _LABELS else []
        label = said + ", ".join([*labels[:_LABELS], *more])
        yield Link(source=source, target=key, label=label, active=key not in dead)


def _routes(topology: Topology, vpc: str, table: str) -> Iterator[tuple[RouteTarget, str]]:
    """The routes of a table that lead away: target and destination."""
    for route in topology.vpc(vpc).all_route_tables()[table].effective(topology, vpc, table):
        if route.target.word != "local":
            of_list = route.origin.startswith("prefix-list:")
            yield route.target, route.origin.partition(":")[2] if of_list else str(route.prefix)


def key_of_target(topology: Topology, vpc: str, target: RouteTarget) -> str:
    """Return the key of the place that a route leads to."""
    match target.word:
        case "internet-gateway" | "egress-only-internet-gateway" | "blackhole":
            return f"{target.word} {vpc}"
        case "peering" | "instance":
            return f"{target.word} {target.name}"
        case "network-interface":
            interface = topology.find_interface(vpc, target.name)
            return f"{target.word} {target.name}" if interface is None else _key(interface)
        case _:
            return f"{target.word} {vpc}/{target.name}"
