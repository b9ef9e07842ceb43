"""Connection tracking of security groups: one memory per network interface.

A packet of a tracked flow passes whatever the rules say; so does an ICMP error about one. What is not tracked needs a
rule for every packet, answers too.
https://docs.aws.amazon.com/AWSEC2/latest/UserGuide/security-group-connection-tracking.html
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

from dataplane.reference.groups import Group
from dataplane.reference.inventory import Interface
from dataplane.reference.lifetimes import INTERFACE, Lifetime
from dataplane.reference.packets import TCP, UDP, Flow, Packet


@dataclass(slots=True)
class Tracked:
    """A tracked flow: as seen in the packets of whoever opened it."""

    flow: Flow
    life: Lifetime


class Untracked:
    """The decision that a flow passes by a rule each time; a gateway further on may still have it tracked."""

    def __init__(self, interface: Interface, packet: Packet) -> None:
        self.interface, self.packet = interface, packet


class Tracking:
    """The memories of all interfaces."""

    def __init__(self) -> None:
        self._flows: dict[tuple[int, Flow], Tracked] = {}

    def find(self, interface: Interface, flow: Flow, now_ms: int) -> Tracked | None:
        """The tracked flow, in either direction, unless it was idle for too long."""
        for way in (flow, flow.reversed()):
            found = self._flows.get((interface.number, way))
            if found is not None and found.life.is_over(now_ms, INTERFACE):
                del self._flows[interface.number, way]
            elif found is not None:
                return found
        return None

    def track(self, interface: Interface, packet: Packet, now_ms: int) -> None:
        """Remember a flow from its first packet on; what was there of the same ends is over."""
        self._flows.pop((interface.number, packet.flow.reversed()), None)
        self._flows[interface.number, packet.flow] = Tracked(packet.flow, Lifetime.begin(packet, now_ms))

    def admit(
        self, interface: Interface, packet: Packet, now_ms: int, *, outgoing: bool, sender: frozenset[Group]
    ) -> bool | Untracked:
        """Judge a packet that leaves or enters an interface: whether it passes, or passes untracked."""
        if packet.is_icmp_error:
            about = packet.quoted.flow if packet.quoted is not None else None
            if about is not None and self.find(interface, about, now_ms) is not None:
                return True
            return bool(interface.rules.allowing(packet, outgoing=outgoing, sender=sender))
        tracked = self.find(interface, packet.flow, now_ms)
        if tracked is not None and not tracked.life.is_reopened_by(packet):
            tracked.life.see(packet, now_ms, by_opener=tracked.flow == packet.flow)
            return True
        if not interface.rules.allowing(packet, outgoing=outgoing, sender=sender):
            return False
        if packet.protocol in (TCP, UDP) and _is_untracked(interface, packet, outgoing=outgoing, sender=sender):
            return Untracked(interface, packet)
        self.track(interface, packet, now_ms)
        return True

    def live(self, now_ms: int) -> Iterator[tuple[int, Tracked]]:
        """Every flow tracked now, with the number of its interface."""
        for (number, _), tracked in self._flows.items():
            if not tracked.life.is_over(now_ms, INTERFACE):
                yield number, tracked


def _is_untracked(interface: Interface, packet: Packet, *, outgoing: bool, sender: frozenset[Group]) -> bool:
    """Whether the packet opens a flow that AWS does not track, or may be the response in one."""
    if interface.rules.leaves_untracked(packet, outgoing=outgoing, sender=sender):
        return True
    if packet.opens_tcp:
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
