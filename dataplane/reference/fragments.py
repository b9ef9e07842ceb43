"""Fragments: the first one of a datagram says whose it is; the others follow it, or wait for it.

https://docs.aws.amazon.com/vpc/latest/userguide/vpc-network-acls.html says nothing of them: the rule, the time they
wait (`settings.fragment_timeout`) and how many may are of ours.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from dataplane.reference.checksum import Address
from dataplane.reference.packets import Packet

MOST_WAITING = 64
"""Fragments of one interface that may wait for their first piece at once."""

Key = tuple[int, Address, Address, int, int]
"""Port, source, destination, identification, protocol (IPv6: none, RFC 8200 section 4.5)."""


@dataclass(frozen=True, slots=True)
class Waiting:
    """A fragment that waits: the packet, and the frame it came in."""

    packet: Packet
    frame: bytes


@dataclass(slots=True)
class Datagram:
    """A datagram in pieces."""

    until_ms: int
    """It is remembered for a while from its first piece on that came, whichever that was."""
    first: Packet | None = None
    waiting: list[Waiting] = field(default_factory=list)


class Fragments:
    """The datagrams in pieces of all ports."""

    def __init__(self, timeout_ms: int) -> None:
        self.timeout_ms = timeout_ms
        """How long a datagram is remembered that begins now."""
        self._datagrams: dict[Key, Datagram] = {}
        self._died: list[int] = []

    def datagram(self, port: int, packet: Packet, now_ms: int) -> Datagram | None:
        """The datagram that a fragment is of; None: too many fragments of its interface wait already."""
        piece = packet.fragment
        assert piece is not None
        protocol = packet.protocol if packet.version == 4 else 0
        key = port, packet.source, packet.destination, piece.identification, protocol
        found = self._datagrams.get(key)
        is_alive = found is not None and now_ms < found.until_ms
        has_first = is_alive and found is not None and found.first is not None
        if packet.is_later_fragment and not has_first and self._waiting_at(port, now_ms) >= MOST_WAITING:
            return None
        if found is not None and is_alive:
            return found
        if found is not None:  # too old, and another one begins
            self._died += [port] * len(found.waiting)
        self._datagrams[key] = Datagram(now_ms + self.timeout_ms)
        return self._datagrams[key]

    def _waiting_at(self, port: int, now_ms: int) -> int:
        alive = (each for key, each in self._datagrams.items() if key[0] == port and now_ms < each.until_ms)
        return sum(len(each.waiting) for each in alive)

    def expire(self, now_ms: int) -> list[int]:
        """Forget what is too old; return the port of each fragment that died waiting."""
        over = [key for key, each in self._datagrams.items() if now_ms >= each.until_ms]
        died = self._died + [key[0] for key in over for _ in self._datagrams.pop(key).waiting]
        self._died = []
        return died

    def waiting(self) -> int:
        """How many fragments wait."""
        return sum(len(each.waiting) for each in self._datagrams.values())
