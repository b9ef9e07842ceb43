"""What another engine made of a frame, as far as AWS leaves it open: ports, targets, cookies that may be adopted."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from ipaddress import IPv4Address

from dataplane.reference import geneve
from dataplane.reference.packets import Packet, read
from dataplane.verdict import Reason

VERSIONS = {b"\x08\x00": 4, b"\x86\xdd": 6}
FULL, OWN_FULL = "no room", "no room for what is told of it"
"""Of what is told: there was no room at an object to open a connection. In the place of a rule: how many notes of that
object are before it, as a packet may come to one again."""
Note = tuple[int, str, int]
"""Of a trace: object, what happened there, rule."""


@dataclass(frozen=True, slots=True)
class Tunnelled:
    """A packet on its way to a target of a Gateway Load Balancer: what is around it."""

    source: IPv4Address
    source_port: int
    target: IPv4Address
    label: geneve.Label


@dataclass(frozen=True, slots=True)
class Proposed:
    """What one received frame has come to."""

    packets: tuple[Packet, ...]
    """That left; those that are in GENEVE packets too."""
    tunnelled: tuple[Tunnelled, ...]
    targets: frozenset[int]
    """Numbers of targets that are known to have been chosen, whether a packet has left or not."""
    refused: frozenset[tuple[int, int]]
    """Where it found no room to open a connection, and how much had been told of that object by then."""
    refused_own: frozenset[int]
    """Where an ICMP error or a reset about it found none."""


Proposals = Proposed | None
"""None: nobody proposes."""


def read_proposals(frames: Sequence[bytes], told: Sequence[Note] = ()) -> Proposed:
    """Read frames that left, as far as they can be read, and what is told of their way."""
    found = [read(VERSIONS[frame[12:14]], frame[14:]) for frame in frames if frame[12:14] in VERSIONS]
    packets = [each for each in found if isinstance(each, Packet)]
    tunnelled, inside = [], []
    for outer in packets:
        if not geneve.is_geneve(outer) or outer.is_later_fragment:
            continue
        label = geneve.read_label(outer)
        if label is not None:
            assert isinstance(outer.source, IPv4Address)
            assert isinstance(outer.destination, IPv4Address)
            tunnelled.append(Tunnelled(outer.source, outer.source_port, outer.destination, label))
        content = geneve.unwrap(_joined(outer, packets))
        if not isinstance(content, Reason):
            inside.append(content.packet)
    targets = frozenset(rule for _, action, rule in told if action == "encapsulate")
    refused = frozenset((at, before) for at, action, before in told if action == FULL)
    refused_own = frozenset(at for at, action, _ in told if action == OWN_FULL)
    return Proposed((*packets, *inside), tuple(tunnelled), targets, refused, refused_own)


def _joined(first: Packet, packets: Sequence[Packet]) -> Packet:
    """The datagram that `first` is a fragment of, if all its pieces are there."""
    if first.fragment is None:
        return first
    body = first.raw[first.transport :]
    pieces = {p.fragment.offset: p for p in packets if p.fragment and p.raw[4:6] == first.raw[4:6]}
    while (piece := pieces.get(len(body))) is not None:
        body += piece.raw[piece.transport :]
    return replace(first, raw=first.raw[: first.transport] + body)
