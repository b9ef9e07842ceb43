"""Spreads of flows over members, and the tunnels that lead to them."""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum
from ipaddress import IPv4Address
from typing import NamedTuple

from dataplane.program.policies import Timeouts


class Stickiness(IntEnum):
    """What of a packet decides which member of a spread its flow gets; both directions give the same."""

    FIVE_TUPLE = 5
    """Addresses, protocol and ports."""
    THREE_TUPLE = 3
    """Addresses and protocol."""
    TWO_TUPLE = 2
    """Addresses."""


class Member(NamedTuple):
    """One of those that flows are spread over."""

    number: int
    address: IPv4Address
    takes_new: bool
    """Whether new flows may go to it."""
    keeps: bool
    """Whether those that it has stay with it; else they go to another one that takes new ones."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Spread:
    """SPREAD: flows over members, as evenly as a hash does it; `owner` is the number of the group they form.

    A flow of a member that is not listed any more goes to another one.
    """

    owner: int
    stickiness: Stickiness = Stickiness.FIVE_TUPLE
    members: tuple[Member, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Tunnel:
    """The way from an endpoint to a spread and back, in GENEVE (RFC 8926) with AWS's options.

    `owner` is the number of the endpoint: flows are its own. `endpoint_id` (64 bits) stands in every packet. `balancer`
    is the number of the object that packets come back to, `source` its address. `interface` is the endpoint's own (a
    label of `Program.interfaces`): resets leave by it. `resume`: the node where a packet goes on that has come back.
    """

    owner: int
    endpoint_id: int
    balancer: int
    interface: str
    source: IPv4Address
    spread: str
    resume: str
    resets: bool = False
    """Whether the senders of TCP that belongs to no flow are told."""
    timeouts: Timeouts
