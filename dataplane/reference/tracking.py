"""Connection tracking of security groups: one memory per network interface.

A packet of a tracked flow passes whatever the rules say; so does an ICMP error about one. What is not tracked needs a
rule for every packet, answers too, and becomes no tracked flow in the middle of a TCP connection.
https://docs.aws.amazon.com/AWSEC2/latest/UserGuide/security-group-connection-tracking.html
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

from dataplane.reference.flow import Flow
from dataplane.reference.groups import Group
from dataplane.reference.lifetimes import Lifetime
from dataplane.reference.nodes import Interface
from dataplane.reference.packets import TCP, UDP, Packet
from dataplane.reference.room import Room


@dataclass(slots=True)
class Tracked:
    """A tracked flow, from the interface to the far end, and which way it was opened."""

    flow: Flow
    is_outgoing: bool
    life: Lifetime
    rule: int
    """The rule that let it pass at first."""


@dataclass(frozen=True, slots=True)
class Admission:
    """Why an interface's groups let a packet pass."""

    action: str
    """``match``: by memory; ``track``: by a rule, and its flow is tracked from here on; ``permit``: by a rule alone."""
    rule: int
    """The rule; for a known flow the one that had let its first packet pass."""
    may_be_tracked: bool = False
    """Permitted, but a gateway further on may still have its flow tracked."""


class Tracking:
    """The memories of all interfaces."""

    def __init__(self, room: Room) -> None:
        self.room = room
        self._flows: dict[tuple[int, Flow], Tracked] = {}

    def find(self, interface: Interface, flow: Flow, now_ms: int) -> Tracked | None:
        """The tracked flow between the interface and a far end, unless it was idle for too long."""
        found = self._flows.get((interface.number, flow))
        return None if found is None or found.life.is_over(now_ms) else found

    def track(self, interface: Interface, packet: Packet, now_ms: int, *, outgoing: bool, rule: int) -> None:
        """Remember a flow from its first packet on, let in by `rule`; what was between the same ends is over."""
        flow = _from_interface(packet.flow, outgoing)
        former = self._flows.get((interface.number, flow))
        if former is not None:
            former.life.end()
        life = Lifetime.begin(packet, now_ms, interface.limits)
        self.room.take(life)
        self._flows[interface.number, flow] = Tracked(flow, outgoing, life, rule)

    def admit(
        self, interface: Interface, packet: Packet, now_ms: int, *, outgoing: bool, sender: frozenset[Group]
    ) -> Admission | None:
        """Judge a packet that leaves or enters an interface; ICMP errors pass by what they are about. None: refused.

        Raises:
            Dropped: there is no room to track it.
        """
        rule = interface.rules.first_allowing(packet, outgoing=outgoing, sender=sender)
        if packet.is_icmp_error:
            about = packet.about
            tracked = None if about is None else self.find(interface, _from_interface(about, not outgoing), now_ms)
            if tracked is not None:
                return Admission("match", tracked.rule)
            return None if rule is None else Admission("permit", rule.number)
        tracked = self.find(interface, _from_interface(packet.flow, outgoing), now_ms)
        if tracked is not None and not tracked.life.is_reopened_by(packet):
            tracked.life.see(packet, now_ms, interface.limits, by_opener=tracked.is_outgoing == outgoing)
            return Admission("match", tracked.rule)
        if rule is None:
            return None
        if packet.flow.is_reply:  # to nothing: else requests would be let in as answers to it
            return Admission("permit", rule.number)
        if _is_untracked(interface, packet, outgoing=outgoing, sender=sender):
            return Admission("permit", rule.number, may_be_tracked=True)
        self.room.ask(interface.number)
        self.track(interface, packet, now_ms, outgoing=outgoing, rule=rule.number)
        return Admission("track", rule.number)

    def live(self, now_ms: int) -> Iterator[tuple[int, Tracked]]:
        """Every flow tracked now, with the number of its interface."""
        for (number, _), tracked in self._flows.items():
            if not tracked.life.is_over(now_ms):
                yield number, tracked


def _from_interface(flow: Flow, outgoing: bool) -> Flow:
    return flow if outgoing else flow.reversed()


def _is_untracked(interface: Interface, packet: Packet, *, outgoing: bool, sender: frozenset[Group]) -> bool:
    """Whether the packet opens no flow or one that AWS does not track, or may be, by UDP, the response in such a flow.

    The middle of a TCP connection opens none: it may be of one that was not tracked and whose rule is gone, and that is
    "immediately interrupted", whoever sends next.
    """
    if packet.protocol == TCP and not packet.opens_tcp:
        return True
    if packet.protocol not in (TCP, UDP):
        return False
    if interface.rules.leaves_untracked(packet, outgoing=outgoing, sender=sender):
        return True
    if packet.protocol == TCP:
        return False
    request = _as_request(packet)
    return interface.rules.leaves_untracked(request, outgoing=not outgoing, sender=sender)


def _as_request(packet: Packet) -> Packet:
    """What the packet would be the response to."""
    return replace(
        packet,
        source=packet.destination,
        destination=packet.source,
        source_port=packet.destination_port,
        destination_port=packet.source_port,
    )
