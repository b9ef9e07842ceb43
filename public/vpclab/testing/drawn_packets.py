"""Packets for a network, drawn from the edges of what it declares."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, fields, is_dataclass
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network
from typing import TYPE_CHECKING

from hypothesis import strategies as st

from dataplane.errors import VpclabError
from dataplane.limits import INTERNET_MTU, NAT_MTU, VPC_MTU
from dataplane.model._traffic import Traffic
from dataplane.probe import ICMP, ICMPV6, TCP, UDP, Probe

if TYPE_CHECKING:
    from dataplane.topology import Topology

_Address = IPv4Address | IPv6Address
_Network = IPv4Network | IPv6Network
_FLAGS = {"SYN": 0x02, "SYN+ACK": 0x12, "ACK": 0x10, "FIN+ACK": 0x11, "RST": 0x04}
_HEADERS = {TCP: 20, UDP: 8, ICMP: 8, ICMPV6: 8}
_FURTHER_PORTS = (1, 1024, 65535)
_TTLS = (64, 64, 64, 64, 64, 1, 2, 255)
_PORTS = range(65536)
_GRE = 47


@dataclass(frozen=True, slots=True, repr=False)
class Sending:
    """A packet and who sends it. Its text form says what is in it."""

    node: str
    """The instance or internet host, or an interface such as ``"web/eth1"``."""
    packet: bytes
    """The IP packet, checksums filled in."""
    summary: str = field(compare=False)

    def __repr__(self) -> str:
        return f"<{self.node} sends {self.summary}>"


@dataclass(frozen=True, slots=True)
class _Edges:
    """What a lab file mentions, and what lies beside it."""

    senders: dict[str, tuple[_Address, ...]]
    held: tuple[_Address, ...]
    """Addresses that somebody has: private and public ones."""
    public: tuple[_Address, ...]
    beside: tuple[_Address, ...]
    """First and last addresses of blocks, and their neighbours."""
    traffic: tuple[tuple[int, int], ...]
    """Protocol and destination port at the ends of what rules name; 0 where there are no ports."""
    traffic_beside: tuple[tuple[int, int], ...]
    """One port beside those, and ports and protocols that no rule names."""


def packets(
    topology: Topology, *, senders: Sequence[str] | None = None, destinations: Sequence[str] | None = None
) -> st.SearchStrategy[Sending]:
    """TCP, UDP, ICMP and other packets of any node of a network to anybody.

    Three in four go to an address that somebody has; the others to the first and last addresses of the blocks that the
    lab file names, and to those beside them. Two in three have the protocol and a port at an end of one of its rules;
    the others are one port beside that, or something that no rule is about. Most are small and from the sender's own
    address; some are spoofed, about to expire, or just smaller, as large or larger than an MTU (1500, 8500 and 9001
    bytes), with and without permission to fragment.

    Args:
        topology: the network (`MemoryNetwork.topology`).
        senders: nodes that send (instances, internet hosts, or interfaces such as ``"web/eth1"``); all when omitted.
        destinations: addresses that packets go to; drawn as above when omitted.

    Raises:
        VpclabError: a sender that the network does not have, or no sender at all.
        ValueError: a destination that is no IP address.
    """
    edges = _edges(topology)
    chosen = list(edges.senders) if senders is None else [_interface(each) for each in senders]
    unknown = [each for each in chosen if each not in edges.senders]
    if unknown or not chosen:
        have = ", ".join(edges.senders)
        raise VpclabError(f"no interface is called {unknown[0]!r}; there are {have}" if unknown else "nobody sends")
    to = None if destinations is None else [_address(each) for each in destinations]
    return _sendings(edges, chosen, to)


@st.composite
def _sendings(
    draw: st.DrawFn,
    edges: _Edges,
    senders: list[str],
    destinations: list[_Address] | None,
) -> Sending:
    interface = draw(st.sampled_from(senders))
    own = edges.senders[interface]
    to: _Address = draw(st.sampled_from(destinations or _aims(draw, edges, own)))
    mine = [each for each in own if each.version == to.version]
    known = [each for each in edges.held if each.version == to.version]
    is_spoofed = not mine or draw(st.integers(0, 9)) == 9
    source = draw(st.sampled_from((known if is_spoofed else mine) or [to]))
    protocol, port = draw(st.sampled_from(edges.traffic_beside if draw(st.integers(0, 2)) == 2 else edges.traffic))
    if protocol in (ICMP, ICMPV6):
        protocol = ICMP if to.version == 4 else ICMPV6
    flags = draw(st.sampled_from(sorted(_FLAGS, key=lambda name: name != "SYN"))) if protocol == TCP else ""
    has_ports = protocol in (TCP, UDP)
    head = (20 if to.version == 4 else 40) + _HEADERS.get(protocol, 0)
    sizes = [size + around - head for size in (INTERNET_MTU, NAT_MTU, VPC_MTU) for around in (-1, 0, 1)]
    probe = Probe(
        source=source,
        destination=to,
        protocol=protocol,
        source_port=draw(st.sampled_from((40_000, 40_000, 1024, port))),
        destination_port=port if has_ports else 0,
        tcp_flags=_FLAGS.get(flags, 0),
        is_reply=draw(st.integers(0, 4)) == 4,
        payload=bytes(draw(st.sampled_from(sizes) if draw(st.integers(0, 3)) == 3 else st.integers(0, 16))),
        ttl=draw(st.sampled_from(_TTLS)),
        dont_fragment=draw(st.booleans()),
    )
    node = interface.removesuffix("/eth0")
    return Sending(node, probe.frame(bytes(6), bytes(6))[14:], _in_words(probe, flags))


def _aims(draw: st.DrawFn, edges: _Edges, own: tuple[_Address, ...]) -> list[_Address]:
    """Addresses of one kind that the sender has a word with: of a family that it has."""
    versions = {each.version for each in own} or {4}
    kinds = [edges.public, edges.held, edges.held, edges.beside]
    usable = [[each for each in kind if each.version in versions and each not in own] for kind in kinds]
    chosen: list[_Address] = draw(st.sampled_from([kind for kind in usable if kind] or [list(own)]))
    return chosen


def _in_words(probe: Probe, flags: str) -> str:
    def end(address: _Address, port: int) -> str:
        return f"[{address}]:{port}" if address.version == 6 else f"{address}:{port}"

    if probe.protocol in (TCP, UDP):
        name = "tcp" if probe.protocol == TCP else "udp"
        ends = f"{end(probe.source, probe.source_port)} > {end(probe.destination, probe.destination_port)}"
    else:
        echo = "echo reply" if probe.is_reply else "echo request"
        name = echo if probe.protocol in (ICMP, ICMPV6) else f"protocol {probe.protocol}"
        ends = f"{probe.source} > {probe.destination}"
    fragment = ", do not fragment" if probe.dont_fragment and probe.source.version == 4 else ""
    return f"{name} {ends}{f' {flags}' if flags else ''}, {len(probe.payload)} bytes, ttl {probe.ttl}{fragment}"


# -- what a network mentions


def _edges(topology: Topology) -> _Edges:
    placed = [each for each in topology.interfaces if each.is_attached]
    senders: dict[str, tuple[_Address, ...]] = {each.path: (*each.addresses4, *each.addresses6) for each in placed}
    for host in topology.hosts.values():
        senders[host.path] = (host.address, *([host.ipv6_address] if host.ipv6_address is not None else []))
    public: list[_Address] = [each.public for each in topology.public_addresses]
    held = [*public, *(address for found in senders.values() for address in found)]
    held += [address for each in topology.interfaces for address in each.addresses4]
    mentioned = list(_mentioned(topology.lab))
    blocks = [each for each in mentioned if isinstance(each, IPv4Network | IPv6Network)]
    named: list[tuple[int, int]] = []
    for each in mentioned:
        if isinstance(each, Traffic) and each.protocol.number >= 0:
            ends = (0, 0) if each.ports is None else (each.ports.first, each.ports.last)
            named += [(each.protocol.number, end) for end in ends]
    near = [(number, end + step) for number, end in named if number in (TCP, UDP) for step in (-1, 1)]
    further = [(number, port) for number in (TCP, UDP) for port in _FURTHER_PORTS] + [(ICMP, 0), (_GRE, 0)]
    others = [each for each in (*near, *further) if each[1] in _PORTS and each not in named]
    beside = [address for block in blocks for address in _around(block)]
    return _Edges(
        senders=senders,
        held=tuple(dict.fromkeys(held)),
        public=tuple(dict.fromkeys(public)),
        beside=tuple(dict.fromkeys(beside or held)),
        traffic=tuple(dict.fromkeys(named or further)),
        traffic_beside=tuple(dict.fromkeys(others)),
    )


def _mentioned(value: object) -> Iterator[object]:
    """Every block and every rule somewhere inside a part of the lab file."""
    if isinstance(value, IPv4Network | IPv6Network | Traffic):
        yield value
    if is_dataclass(value) and not isinstance(value, type):
        for each in fields(value):
            yield from _mentioned(getattr(value, each.name))
    elif isinstance(value, dict):
        for item in value.values():
            yield from _mentioned(item)
    elif isinstance(value, tuple | list):
        for item in value:
            yield from _mentioned(item)


def _around(block: _Network) -> Iterator[_Address]:
    """First and last address of a block, the router's and the last that an interface may have, and those beside it."""
    if block.prefixlen == 0:
        return
    first, last = int(block.network_address), int(block.broadcast_address)
    kind: type[_Address] = IPv4Address if block.version == 4 else IPv6Address
    for number in (first - 1, first, first + 1, first + 4, last - 1, last, last + 1):
        if 0 <= number < 1 << block.max_prefixlen:
            yield kind(number)


def _interface(node: str) -> str:
    return node if "/" in node else f"{node}/eth0"


def _address(text: str) -> _Address:
    return IPv6Address(text) if ":" in text else IPv4Address(text)
