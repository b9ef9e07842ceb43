"""What a configuration tells apart: kinds of interfaces, and kinds of protocols and ports.

Two ports are of one kind when every rule of every group and ACL says the same of both; two interfaces when they are in
one subnet, carry the same groups, lie in the same blocks of all that the file mentions, and neither is named by a route
or a target group. Whoever has asked one of a kind has asked all.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Iterator, Mapping
from dataclasses import dataclass, fields, is_dataclass
from ipaddress import IPv4Network, IPv6Network
from itertools import pairwise
from typing import Any

from dataplane.model._cidr import Address, Network, holding
from dataplane.model._probe_ends import Ends, Sender, senders_of
from dataplane.model._route_target import RouteTarget
from dataplane.model._traffic import Traffic
from dataplane.model.check import ICMP, ICMPV6, NEVER_SENT, Check, ProbeProtocol
from dataplane.topology import Topology

TCP, UDP, ALL = 6, 17, -1
_PORTS = range(1, 65536)
_OTHERS = (50, 47, 51, 89, 115)
"""For protocols that no rule names: the first of these that none does stands for all of them."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TrafficClass:
    """Protocol and ports that every rule treats alike."""

    protocol: int
    """IANA number; 1 also stands for ICMPv6 where the addresses are IPv6."""
    ports: tuple[tuple[int, int], ...] = ()
    """Ranges of destination ports, for TCP and UDP."""

    def samples(self) -> tuple[int | None, ...]:
        """Ports that stand for all: the first and the last."""
        return tuple(dict.fromkeys((self.ports[0][0], self.ports[-1][1]))) if self.ports else (None,)


@dataclass(frozen=True, slots=True)
class InterfaceClass:
    """Interfaces that the configuration treats alike."""

    members: tuple[Sender, ...]


def traffic_classes(topology: Topology) -> list[TrafficClass]:
    """Return all kinds of traffic that the rules of a lab tell apart."""
    rules = list(dict.fromkeys(_matches(topology)))
    named = {protocol for protocol, _ in rules if protocol not in (ALL, TCP, UDP, ICMP, ICMPV6, *NEVER_SENT)}
    found = [kind for protocol in (TCP, UDP) for kind in _port_classes(protocol, rules)]
    found.append(TrafficClass(protocol=ICMP))
    found += [TrafficClass(protocol=protocol) for protocol in sorted(named)]
    other = next((protocol for protocol in _OTHERS if protocol not in named), None)
    return found if other is None else [*found, TrafficClass(protocol=other)]


def _matches(topology: Topology) -> Iterator[tuple[int, tuple[int, int] | None]]:
    for each in _everything(topology.lab):
        if isinstance(each, Traffic):
            ports = None if each.ports is None else (each.ports.first, each.ports.last)
            yield each.protocol.number, ports


def _port_classes(protocol: int, rules: Iterable[tuple[int, tuple[int, int] | None]]) -> Iterator[TrafficClass]:
    """Cut the ports at every edge of a rule, and put pieces together that the same rules match."""
    ranges = sorted({ports for number, ports in rules if number == protocol and ports is not None})
    edges = {_PORTS[0], _PORTS[-1] + 1}
    edges |= {edge for first, last in ranges for edge in (first, last + 1) if edge in _PORTS}
    cuts = sorted(edges)
    kinds: dict[tuple[bool, ...], list[tuple[int, int]]] = {}
    for first, after in pairwise(cuts):
        pieces = kinds.setdefault(tuple(low <= first <= high for low, high in ranges), [])
        if pieces and pieces[-1][1] == first - 1:
            pieces[-1] = (pieces[-1][0], after - 1)
        else:
            pieces.append((first, after - 1))
    for pieces in kinds.values():
        yield TrafficClass(protocol=protocol, ports=tuple(pieces))


def interface_classes(topology: Topology) -> list[InterfaceClass]:
    """Return the interfaces that send and receive, those that are treated alike together."""
    blocks = _blocks(topology)
    named = _named(topology)
    kinds: dict[Hashable, list[Sender]] = {}
    for sender in senders_of(topology):
        kinds.setdefault(_signature(topology, sender, blocks, named), []).append(sender)
    return [InterfaceClass(tuple(members)) for members in kinds.values()]


def _signature(topology: Topology, sender: Sender, blocks: list[Network], named: set[str]) -> Hashable:
    addresses = [*addresses_of_sender(topology, sender)]
    inside = tuple(tuple(address in block for block in blocks) for address in addresses)
    if sender.vpc is None:
        return (sender.path if sender.node in topology.lab.aws_services else "internet", inside)
    interface = topology.find_interface(sender.vpc, sender.path)
    assert interface is not None
    if named & {sender.node, sender.path, interface.wanted.name} or not interface.source_dest_check:
        return sender.path
    return (sender.vpc, interface.subnet.name, frozenset(interface.groups), inside)


def addresses_of_sender(topology: Topology, sender: Sender) -> Iterator[Address]:
    """Yield what an interface can be reached by: its first private address, that one's public one, the IPv6 one."""
    if sender.address4 is not None:
        yield sender.address4
    if sender.vpc is not None:
        for public in topology.public_addresses:
            if (public.vpc, public.private) == (sender.vpc, sender.address4):
                yield public.public
    if sender.address6 is not None:
        yield sender.address6


def _blocks(topology: Topology) -> list[Network]:
    """Every block that the lab file mentions, and those of AWS's services."""
    found = {each for each in _everything(topology.lab) if isinstance(each, (IPv4Network, IPv6Network))}
    for service in topology.prefix_lists.values():
        found |= {entry.cidr for entry in service.entries}
    return sorted(found, key=lambda block: (block.version, int(block.network_address), block.prefixlen))


def _named(topology: Topology) -> set[str]:
    """Instances and interfaces that a route leads to, or that are targets of a load balancer."""
    routed = {each.name for each in _everything(topology.lab) if isinstance(each, RouteTarget) and each.name}
    targets = {
        (vpc, target)
        for vpc, declared in topology.lab.vpcs.items()
        for group in declared.target_groups.values()
        for target in group.targets
    }
    by_address = {
        sender.path
        for sender in senders_of(topology)
        for vpc, target in targets
        if sender.address4 is not None
        and target == str(sender.address4)
        and (sender.vpc == vpc or holding(sender.address4, topology.vpc(vpc).cidrs()) is None)
    }
    return routed | {target for _, target in targets} | by_address


def _everything(value: Any) -> Iterator[Any]:
    """Yield a value of the model and all that is in it."""
    yield value
    if isinstance(value, Mapping):
        for each in value.values():
            yield from _everything(each)
    elif isinstance(value, (tuple, list)):
        for each in value:
            yield from _everything(each)
    elif is_dataclass(value) and not isinstance(value, type):
        for each in fields(value):
            yield from _everything(getattr(value, each.name))


@dataclass(frozen=True, slots=True, kw_only=True)
class Question:
    """One claim that stands for all of its kind."""

    check: Check
    sender: InterfaceClass
    receiver: InterfaceClass
    way: int
    """Which of the receiver's addresses, as `addresses_of_sender` yields them."""
    traffic: TrafficClass


def questions(topology: Topology, *, every_sample: bool) -> Iterator[Question]:
    """Yield a question for every pair of interfaces, address and kind of traffic that the lab tells apart.

    With `every_sample`, one for each end of a range of ports.
    """
    kinds, traffic = interface_classes(topology), traffic_classes(topology)
    for source in kinds:
        for destination in kinds:
            sender, receiver = _pair(topology, source, destination)
            if receiver is None:
                continue
            for way, address in enumerate(addresses_of_sender(topology, receiver)):
                if sender.address(address.version) in (None, address):
                    continue
                for each in traffic:
                    for port in each.samples() if every_sample else each.samples()[:1]:
                        number = each.protocol
                        if number == ICMP and address.version == 6:
                            number = ICMPV6
                        ends = Ends(sender.path, str(address))
                        check = Check(can=ends, protocol=ProbeProtocol(number), port=port)
                        yield Question(check=check, sender=source, receiver=destination, way=way, traffic=each)


def can_be_asked(topology: Topology, node: str) -> bool:
    """Whether a lab can let a node send something: what is behind a TAP device sends by itself."""
    instance = topology.lab.instances.get(node)
    return instance is None or instance.attach is None or not instance.attach.startswith("tap:")


def _pair(topology: Topology, source: InterfaceClass, destination: InterfaceClass) -> tuple[Sender, Sender | None]:
    """Two different nodes that stand for the kinds; the first one can be asked, if any of its kind can."""
    sender = next((each for each in source.members if can_be_asked(topology, each.node)), source.members[0])
    others = (each for each in destination.members if each.node != sender.node)
    return sender, next(others, None)
