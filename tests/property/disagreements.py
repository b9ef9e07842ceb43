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
        version = VERSIONS.get(self.frame[12:14])
        packet = read(version, self.frame[14:]) if version else None
        return packet if isinstance(packet, Packet) else None

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
    packet = difference.packet
    if packet is None:
        return False
    flow = packet.flow if packet.quoted is None else packet.quoted.flow
    ends = {(int(flow.source), flow.source_port), (int(flow.destination), flow.destination_port)}
    fast, reference = difference.pair.chosen_ports()
    return bool(ends & (fast ^ reference))


def port_that_a_later_fragment_hides(difference: Difference) -> bool:
    """The first packet of a flow to get through a NAT gateway was a later fragment, which shows no port to adopt.

    No disagreement either: its first fragment died before, at a rule that has changed since.
    """
    packet = difference.packet
    fast, reference = difference.pair.chosen_ports()
    return packet is not None and packet.is_later_fragment and fast != reference


KNOWN: tuple[Callable[[Difference], bool], ...] = (port_that_nobody_has_seen, port_that_a_later_fragment_hides)


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
