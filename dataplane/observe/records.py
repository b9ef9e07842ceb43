"""Records of flows as the data plane tells of them, put together and told apart by window."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from ipaddress import IPv4Address, IPv6Address
from typing import NamedTuple

from dataplane.program import Address, Direction, Path

WINDOW_MS = 60_000


class Flow(NamedTuple):
    """What one record is of: packets of one flow that went one way, at one interface."""

    interface: int
    """Its number."""
    direction: Direction
    refused: bool
    """Whether the gates of the interface refused them."""
    source: Address
    destination: Address
    protocol: int
    source_port: int
    destination_port: int
    """Ports are 0 unless it is TCP or UDP."""
    path: Path
    """How they went on, of what left an interface."""


@dataclass(slots=True)
class Count:
    """What one record says of its flow."""

    packets: int
    bytes: int
    """Of IP packets."""
    first_ms: int
    last_ms: int
    tcp_flags: int

    def add(self, other: Count) -> None:
        """Another piece of the same record."""
        self.packets += other.packets
        self.bytes += other.bytes
        self.first_ms = min(self.first_ms, other.first_ms)
        self.last_ms = max(self.last_ms, other.last_ms)
        self.tcp_flags |= other.tcp_flags


@dataclass(slots=True)
class Window:
    """What was seen in one window, or in several next to each other."""

    flows: dict[Flow, Count] = field(default_factory=dict)
    lost: dict[int, int] = field(default_factory=dict)
    """Number of an interface -> packets there that there was no room to record."""
    lost_anywhere: int = 0
    """Packets that may have been lost in it, at any interface: there was no room to remember at which."""

    def add(self, other: Window) -> None:
        """Another window is part of this one."""
        for flow, count in other.flows.items():
            self.count(flow, count)
        for number, packets in other.lost.items():
            self.lost[number] = self.lost.get(number, 0) + packets
        self.lost_anywhere += other.lost_anywhere

    def count(self, flow: Flow, count: Count) -> None:
        """Add a piece of a record."""
        before = self.flows.get(flow)
        if before is None:
            self.flows[flow] = Count(count.packets, count.bytes, count.first_ms, count.last_ms, count.tcp_flags)
        else:
            before.add(count)


def windows_of(rows: Iterable[tuple[int, ...]], lost: Iterable[tuple[int, int, int]]) -> dict[int, Window]:
    """By number of the window: what `fastpath.engine.Engine.take_records` told, in pieces."""
    found: dict[int, Window] = {}
    for row in rows:
        number, point, side, refused, path, family, source, destination, protocol, *rest = row
        address = IPv4Address if family == 4 else IPv6Address
        source_port, destination_port, packets, size, first_ms, last_ms, tcp_flags = rest
        ends = address(source), address(destination), protocol, source_port, destination_port
        flow = Flow(point, Direction(side), bool(refused), *ends, Path(path))
        count = Count(packets, size, first_ms, max(first_ms, last_ms), tcp_flags)
        found.setdefault(number, Window()).count(flow, count)
    for window in found.values():  # a window may have begun for a flow whose packet then went another way
        window.flows = {flow: count for flow, count in window.flows.items() if count.packets}
    for number, point, packets in lost:
        window = found.setdefault(number, Window())
        window.lost[point] = window.lost.get(point, 0) + packets
    return found
