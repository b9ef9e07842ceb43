"""What a gateway remembers of flows that it does not translate: who opened them, and for how long.

Any packet opens a flow, but ICMP that asks nothing: a reply that did would let requests in. What belongs to a flow is
its own packets, their answers, and ICMP errors about it. A SYN begins a closed TCP flow anew on the side that had
opened it; on the other it is of no flow.
"""

from __future__ import annotations

from collections.abc import Iterator

from dataplane.reference.flow import Flow
from dataplane.reference.lifetimes import Lifetime, Limits
from dataplane.reference.packets import Packet
from dataplane.reference.room import Room


class FlowMemory:
    """Flows by owner (a number of `Names`), as the side that opened them sends them."""

    def __init__(self, room: Room) -> None:
        self.room = room
        self._flows: dict[tuple[int, Flow], Lifetime] = {}

    def see(self, owner: int, packet: Packet, now_ms: int, limits: Limits, at: int = 0) -> str:
        """A packet of the side that opens flows: ``open``, ``known`` (an ICMP error about one too), or nothing.

        Raises:
            Dropped: there is no room for another flow, `at` an object that is not the owner.
        """
        if packet.is_icmp_error:
            about = packet.about
            return "" if about is None or self._find(owner, about.reversed(), now_ms) is None else "known"
        if packet.is_icmp and not packet.is_request:
            return ""
        found = self._find(owner, packet.flow, now_ms)
        if found is None or found.is_reopened_by(packet):
            self.room.ask(at or owner)
            if found is not None:
                found.end()
            self._flows[owner, packet.flow] = Lifetime.begin(packet, now_ms, limits)
            self.room.take(self._flows[owner, packet.flow])
            return "open"
        found.see(packet, now_ms, limits, by_opener=True)
        return "known"

    def has(self, owner: int, packet: Packet, now_ms: int) -> bool:
        """Whether the side that opens flows has the one of this packet, which changes nothing."""
        found = self._find(owner, packet.flow, now_ms)
        return found is not None and not found.is_reopened_by(packet)

    def see_answer(self, owner: int, packet: Packet, now_ms: int, limits: Limits) -> bool:
        """Whether a packet of the other side belongs to a flow, which lives on then."""
        if packet.is_icmp_error:
            about = packet.about
            return about is not None and self._find(owner, about, now_ms) is not None
        found = self._find(owner, packet.flow.reversed(), now_ms)
        if found is None or found.is_reopened_by(packet):
            return False
        found.see(packet, now_ms, limits, by_opener=False)
        return True

    def live(self, now_ms: int) -> Iterator[tuple[int, Flow, Lifetime]]:
        """Every flow there is now, with the number of its owner."""
        for (owner, flow), life in self._flows.items():
            if not life.is_over(now_ms):
                yield owner, flow, life

    def _find(self, owner: int, flow: Flow, now_ms: int) -> Lifetime | None:
        found = self._flows.get((owner, flow))
        return None if found is None or found.is_over(now_ms) else found
