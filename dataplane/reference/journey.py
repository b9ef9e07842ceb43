"""A packet on its way: where it is, what it came through, and how it may end."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from dataplane.reference import geneve
from dataplane.reference.checksum import Address
from dataplane.reference.flow_logs import AT_AN_INTERFACE, INSIDE, REFUSED, Sight
from dataplane.reference.fragmentation import cut
from dataplane.reference.groups import Group
from dataplane.reference.nodes import BalancerNode, Endpoint, Host, Interface, NatGateway, Subnet
from dataplane.reference.packets import Packet
from dataplane.reference.proposals import Note, Proposals
from dataplane.verdict import Cause, Reason

GATEWAY, EGRESS_ONLY, PEERING, NAT = "internet gateway", "egress-only gateway", "peering", "NAT gateway"
ENDPOINT, TRACKED_SERVICE = "endpoint", "gateway endpoint whose flows are tracked"

Sender = Interface | NatGateway | Endpoint | BalancerNode | Host
"""Whom packets leave."""


@dataclass(slots=True, kw_only=True)
class Journey:
    """A packet on its way."""

    packet: Packet
    sender: Sender
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
    identification: int = 0
    """Of these fragments, where the packet itself says nothing: it has become IPv6 since."""
    is_tunnelled: bool = False
    """Whether it is a GENEVE packet on its way to a target."""
    was_tunnelled: bool = False
    """Whether it has come out of one."""
    contents: list[bytes] = field(default_factory=list)
    """Pieces of what is in that packet: each but the first, which is in `packet`, goes along in a packet of its own."""
    apart: int = 0
    """Bytes of the whole that are in these pieces, and not in the first one. Flow logs see the whole."""
    untracked: list[Callable[[], None]] = field(default_factory=list)
    """Interfaces that let it pass untracked: what to do should a gateway want it tracked."""
    proposals: Proposals = None
    cause: Cause = Cause.FORWARDED
    places: int = 0
    """Route tables seen."""
    route: int = 0
    """What brought it to where it is: a route, or whoever has its destination."""
    is_made: bool = False
    """Whether the network made it: an ICMP error or a reset."""
    trace: list[Note] = field(default_factory=list)
    """What happened to it so far."""
    watched: Mapping[int, frozenset[Address]] = field(default_factory=dict)
    """Interfaces with flow logs, and addresses whose packets these do not see."""
    seen: list[Sight] = field(default_factory=list)
    """Where flow logs have seen it."""

    def note(self, object: int, action: str, rule: int = 0) -> None:
        """Something has happened to it, at `object` and by `rule` (numbers of `Names`)."""
        self.trace.append((object, action, rule))
        if action == "route":
            self.route = rule

    def pieces(self) -> list[bytes]:
        """The packets that it arrives in."""
        found = [self.packet.raw, *(geneve.around(self.packet, each).raw for each in self.contents)]
        for mtu in self.mtus:
            found = [smaller for piece in found for smaller in cut(piece, mtu, self.identification)]
        return found

    def see(self, interface: int, *, leaves: bool) -> None:
        """It comes to the gates of an interface, out of it or in."""
        unseen = self.watched.get(interface)
        if unseen is None or self.packet.source in unseen or self.packet.destination in unseen:
            return
        if not leaves:
            self.go_on(INSIDE)
        tunnel = self.is_tunnelled, self.was_tunnelled
        self.seen.append(Sight(interface, leaves, self.packet, len(self.packet.raw) + self.apart, tunnel))

    def go_on(self, path: int) -> None:
        """How it goes on from the interface that it left last."""
        if self.seen and self.seen[-1].leaves and not self.seen[-1].path:
            self.seen[-1].path = path

    def end(self, reason: Reason = Reason.NONE) -> None:
        """It has arrived, or died."""
        if reason is Reason.NONE or reason in AT_AN_INTERFACE:
            self.go_on(INSIDE)
        if not self.seen or self.seen[-1].tunnel != (self.is_tunnelled, self.was_tunnelled):
            return
        last = self.seen[-1]
        is_at_its_gates = not last.leaves or last.interface == self.sender.number
        last.refused = is_at_its_gates and reason in REFUSED[last.leaves]

    def have_tracked(self) -> None:
        """A gateway that it comes to has its flow tracked, whatever the rules say."""
        for track in self.untracked:
            track()
        self.untracked.clear()


@dataclass(frozen=True, slots=True)
class WantedError:
    """An ICMP error that is due."""

    about: Packet
    mtu: int = 0
    """The MTU ahead, in bytes; 0: the error is Time Exceeded."""
    by: NatGateway | None = None
    """Who sends it; None: the router of the sender's subnet."""


@dataclass(frozen=True, slots=True)
class WantedReset:
    """A TCP reset that is due."""

    reset: Packet
    by: NatGateway | Endpoint


class Dropped(Exception):
    """A packet died: inside this package only, a packet never raises."""

    def __init__(
        self, reason: Reason, object: int = 0, rule: int = 0, error: WantedError | WantedReset | None = None
    ) -> None:
        super().__init__(reason)
        self.reason, self.object, self.rule, self.error = reason, object, rule, error


class Answered(Exception):
    """The subnet's router took the packet; `answer` is the packet it sends back."""

    def __init__(self, object: int, answer: Packet) -> None:
        super().__init__()
        self.object, self.answer = object, answer
