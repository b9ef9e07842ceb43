"""What appliances send back to a gateway load balancer, octet by octet: packets in GENEVE of flows that exist."""

from __future__ import annotations

from tests.fuzz import frames
from tests.fuzz.aimed import AIMED, GENEVE, Aimed
from tests.fuzz.octets import Octets
from tests.fuzz.playing import MOVES

OPENINGS = 6
"""Packets sent in the hope that one of them goes to an appliance."""


class Returned(Aimed):
    """An input whose octets are mostly what is in those packets."""

    def run(self) -> None:
        """Begin with a flow that goes through an appliance; then what the octets say."""
        self.begin()
        super().run()

    def begin(self) -> None:
        """Packets that may be inspected: chosen by one octet, as few choices as possible."""
        chance = self.octets.one()
        plain = Octets(bytes(range(chance, 256)) * 4)
        for _ in range(OPENINGS):
            end = plain.among(self.world.ends)
            self._put(end.port, [end.router + end.mac + b"".join(frames.packet(plain, self.world, end))])
            if self.tunnelled():
                return

    def send_back(self) -> None:
        """A packet of them comes back, with any of its octets changed, and its options replaced or not."""
        found = self.tunnelled()
        if found is None:
            return self.packet()
        end, frame = found
        message = bytearray(frame[GENEVE:])
        how = self.octets.one()
        if how & 1:  # other options: their octets, and how long they claim to be
            own = (message[0] & 0x3F) * 4
            options = self.octets.take(self.octets.one() % 80)
            if how & 2:
                options = bytes(message[8 : 8 + own]) + options
            options += bytes(-len(options) % 4)
            message[8 : 8 + own] = options
            if how & 4:
                message[0] = (len(options) // 4) & 0x3F
        for _ in range(self.octets.one() % 6):
            at, value = self.octets.one(), self.octets.one()
            if message:
                message[at % len(message)] = value
        if how & 8:  # another packet inside
            inner = frames.packet(self.octets, self.world, self.octets.among(self.world.ends))
            at = 8 + (message[0] & 0x3F) * 4 if message else 0
            message[at:] = inner[1]
            if how & 16 and len(message) >= 4:
                message[2:4] = inner[0]
        if how & 32:
            del message[self.octets.two() % (len(message) + 1) :]
        ports, size = frame[34:38], 8 + len(message)
        if how & 64:
            ports = self.octets.take(2) + ports[2:]
        body = ports.ljust(4, b"\0") + size.to_bytes(2) + b"\0\0" + bytes(message)
        sender = frame[30:34]
        if how & 128:  # by another one
            end = self.octets.among(self.world.ends)
            sender = end.own4[0] if end.own4 else sender
        return self._say(end, frames.IPV4, frames.headed4(sender, frame[26:30], 17, body))


RETURNS = (*[Returned.send_back] * 16, *[Returned.bounce] * 6, *[Returned.answer] * 4, *MOVES, *AIMED)


def play(data: bytes) -> None:
    """Play an input. Raises AssertionError for what must not happen."""
    Returned(data, RETURNS).run()
