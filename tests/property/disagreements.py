"""Where the two engines are known to disagree, and how to tell: each has a test of its own in `test_disagreements`.

The comparison of an example ends at a known disagreement, because from there on both remember different things. An
entry goes when its disagreement is settled.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

from hypothesis import currently_in_test_context, event

from dataplane.reference.packets import Packet, read

VERSIONS = {b"\x08\x00": 4, b"\x86\xdd": 6}


class IncomparableError(Exception):
    """From here on the engines cannot be compared."""


def _packet(frame: bytes) -> Packet | None:
    version = VERSIONS.get(frame[12:14])
    packet = read(version, frame[14:]) if version else None
    return packet if isinstance(packet, Packet) else None


def _ends(packet: Packet) -> set[tuple[int, int]]:
    """Address and port of both ends of the flow that a packet is of, or about."""
    flow = packet.flow if packet.quoted is None else packet.quoted.flow
    return {(int(flow.source), flow.source_port), (int(flow.destination), flow.destination_port)}


class Difference(NamedTuple):
    """What came of one frame: outcomes as (verdict, reason, object, rule), or lists of emissions."""

    pair: Any
    port: int
    frame: bytes
    fast: Any
    reference: Any

    @property
    def packet(self) -> Packet | None:
        """The packet in the frame."""
        return _packet(self.frame)

    @property
    def left(self) -> list[Packet]:
        """The packets that left in the fast engine, where emissions differ."""
        frames = [bytes.fromhex(emission[3]) for emission in self.fast] if isinstance(self.fast, list) else []
        return [packet for packet in map(_packet, frames) if packet is not None]

    @property
    def sender(self) -> str:
        """The interface that sent it."""
        return str(self.pair.fast.names[self.port])

    def reasons(self) -> set[str]:
        """What both say, for outcomes."""
        return {self.fast[1], self.reference[1]} if isinstance(self.fast, tuple) else set()


def port_that_nobody_has_seen(difference: Difference) -> bool:
    """A guess met the port that a NAT gateway of one engine chose for a packet that died before anybody saw it.

    No disagreement: AWS leaves the choice open, and the reference engine adopts what it can see.
    """
    fast, reference = difference.pair.chosen_ports()
    return difference.packet is not None and bool(_ends(difference.packet) & (fast ^ reference))


def port_between_two_gateways(difference: Difference) -> bool:
    """An answer shows the port that a NAT gateway chose for what another one translated again, before anybody saw it.

    No disagreement, for the same reason: what left the second gateway showed the second one's port.
    """
    fast, reference = difference.pair.chosen_ports()
    return any(_ends(packet) & (fast - reference) for packet in difference.left)


def port_that_a_later_fragment_hides(difference: Difference) -> bool:
    """The first packet of a flow to get through a NAT gateway was a later fragment, which shows no port to adopt.

    No disagreement either: its first fragment died before, at a rule that has changed since.
    """
    packet = difference.packet
    fast, reference = difference.pair.chosen_ports()
    return packet is not None and packet.is_later_fragment and fast != reference


KNOWN: tuple[Callable[[Difference], bool], ...] = (
    port_that_nobody_has_seen,
    port_between_two_gateways,
    port_that_a_later_fragment_hides,
)


def tolerate(difference: Difference) -> None:
    """End the example when the disagreement is a known one.

    Raises:
        IncomparableError: it is.
    """
    for known in KNOWN:
        if known(difference):
            if currently_in_test_context():
                event(f"known disagreement: {known.__name__}")
            raise IncomparableError(known.__name__)
