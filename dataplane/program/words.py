"""Words that nodes and tables of a program share."""

from __future__ import annotations

from enum import IntEnum, IntFlag
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network

Address = IPv4Address | IPv6Address
Prefix = IPv4Network | IPv6Network


class Via(IntFlag):
    """What a packet has come through on its way to here."""

    NONE = 0
    GATEWAY = 1
    """An internet gateway (either direction)."""
    PEERING = 2
    NAT = 4
    ENDPOINT = 8
    TUNNEL = 16
    TRACKED = 32
    """Something that has every flow through it tracked, whatever the rules of groups say."""


class Test(IntEnum):
    """What a Guard looks at."""

    SOURCE_IN = 1
    DESTINATION_IN = 2
    VIA = 3
    """True when the packet came through any of the given via bits."""
    FROM_SUBNET = 4
    """True when the packet is in one of the given subnets, or has just left it."""


class Side(IntEnum):
    """Which address of a packet a node works on."""

    SOURCE = 1
    DESTINATION = 2


class Direction(IntEnum):
    """Relative to the interface that owns a policy."""

    EGRESS = 1
    INGRESS = 2


class Path(IntEnum):
    """How a packet that left an interface goes on, as records tell it."""

    NONE = 0
    """It went nowhere, or nobody knows."""
    INSIDE = 1
    """To another interface of its realm."""
    NEAR = 4
    """To a realm of the same place."""
    FAR = 5
    SERVICE = 7
    OUTSIDE = 8


class GateMode(IntEnum):
    """What a FlowGate does with a packet of a flow it does not know."""

    OPEN = 1
    """Remember the flow, and let it pass."""
    REQUIRE = 2
    """Drop."""
    RESUME = 3
    """Let it pass; packets of known flows take another way."""
    LOOK = 4
    """The same, and a flow that is known is none the fresher for it."""


class TtlAction(IntEnum):
    """What a hop does to the TTL or hop limit."""

    KEEP = 0
    SILENT = 1
    """Decrement; when it runs out, drop without a word."""
    ANSWER = 2
    """Decrement; when it runs out, drop and send Time Exceeded."""
