"""A packet on its way: where it is, what it came through, and how it may end."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from dataplane.reference.groups import Group
from dataplane.reference.nat import Proposals
from dataplane.reference.nodes import Host, Interface, NatGateway, Subnet
from dataplane.reference.packets import Packet
from dataplane.verdict import Cause, Reason

GATEWAY, PEERING, NAT = "internet gateway", "peering", "NAT gateway"


@dataclass(slots=True, kw_only=True)
class Journey:
    """A packet on its way."""

    packet: Packet
    sender: Interface | NatGateway | Host
    """The interface it last left: routers tell it what is wrong with the packet."""
    as_sent: Packet
    """As it left the sender: what an error quotes."""
    now_ms: int
    source_mac: bytes | None = None
    """Of the frame it is in, as long as that is the guest's own; None: the router of the receiver's subnet."""
    subnet: Subnet | None = None
    """Where it is now; None: in no subnet."""
    groups: frozenset[Group] = frozenset()
    """Security groups of its sender, as long as AWS knows them."""
    through: set[str] = field(default_factory=set)
    """What it came through."""
    mtus: list[int] = field(default_factory=list)
    """MTUs that it is too large for, in the order met: it leaves in fragments."""
    untracked: list[Callable[[], None]] = field(default_factory=list)
    """Interfaces that let it pass untracked: what to do should a gateway want it tracked."""
    proposals: Proposals = None
    cause: Cause = Cause.FORWARDED
    places: int = 0
    """Route tables seen."""
    from_router: bool = False
    """Whether the network made it: an ICMP error about what has just gone through."""


@dataclass(frozen=True, slots=True)
class WantedError:
    """An ICMP error that is due."""

    about: Packet
    mtu: int = 0
    """The MTU ahead, in bytes; 0: the error is Time Exceeded."""
    by: NatGateway | None = None
    """Who sends it; None: the router of the sender's subnet."""


class Dropped(Exception):
    """A packet died: inside this package only, a packet never raises."""

    def __init__(self, reason: Reason, object: int = 0, rule: int = 0, error: WantedError | None = None) -> None:
        super().__init__(reason)
        self.reason, self.object, self.rule, self.error = reason, object, rule, error


class Answered(Exception):
    """The subnet's router took the packet; `answer` is the packet it sends back."""

    def __init__(self, object: int, answer: Packet) -> None:
        super().__init__()
        self.object, self.answer = object, answer
