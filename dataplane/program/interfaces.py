"""Interfaces and contexts: where packets come from and go to."""

from __future__ import annotations

from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address

from dataplane.program.words import Via


@dataclass(frozen=True, slots=True, kw_only=True)
class Interface:
    """Where packets come from and go to. Numbers are from `Names`; 0 means none.

    `port` is the number of the port behind it (0 for interfaces without one, such as a NAT gateway's).
    `into` is the node for packets addressed to it, `out` the node for packets it sends.
    """

    number: int
    port: int = 0
    realm: int
    subnet: int = 0
    zone: int = 0
    mac: bytes
    router_mac: bytes
    address4: IPv4Address | None = None
    address6: IPv6Address | None = None
    router4: IPv4Address | None = None
    router6: IPv6Address | None = None
    groups: tuple[int, ...] = ()
    into: str
    out: str
    mtu: int
    via: Via = Via.NONE
    """What packets that it sends of its own count as having come through."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Context:
    """A virtual ingress: frames of port `number` enter as interface `interface`.

    `neighbours` (a label of `Program.neighbours`) answers ARP and neighbour discovery.
    """

    number: int
    interface: str
    entry: str
    neighbours: str
