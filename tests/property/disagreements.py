"""Where the two engines are known to disagree, and how to tell: each has a test of its own in `test_disagreements`.

The comparison of an example ends at a known disagreement, because from there on both remember different things. An
entry goes when its disagreement is settled.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

from hypothesis import event

from dataplane.reference.packets import QUERIES, Packet, read

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


def icmp_that_is_no_query_is_not_tracked(d: Difference) -> bool:
    packet = d.packet
    if packet is None or not packet.is_icmp or packet.is_icmp_error:
        return False
    return packet.icmp_type not in QUERIES[packet.protocol] and isinstance(d.fast, tuple)


KNOWN: tuple[Callable[[Difference], bool], ...] = (icmp_that_is_no_query_is_not_tracked,)


def tolerate(difference: Difference) -> None:
    """End the example when the disagreement is a known one.

    Raises:
        IncomparableError: it is.
    """
    for known in KNOWN:
        if known(difference):
            event(f"known disagreement: {known.__name__}")
            raise IncomparableError(known.__name__)


def tolerate_memories(fast: list[Any], reference: list[Any]) -> None:
    """End the example when what only one engine remembers is a known disagreement: lists of (kind, owner, protocol...).

    Raises:
        IncomparableError: it is.
    """
    known = ""
    if not fast and {row[2] for row in reference} <= {1, 58}:
        known = "ICMP messages that are no queries are not tracked"
    if known:
        event(f"known disagreement: {known}")
        raise IncomparableError(known)
