"""What the reference engine answers: outcomes of frames, frames that leave, flows that are remembered."""

from __future__ import annotations

from dataclasses import dataclass

from dataplane.reference.flow import Flow
from dataplane.reference.lifetimes import Stage
from dataplane.reference.proposals import Note
from dataplane.verdict import Cause, Reason, Verdict

NO_OFFLOAD = bytes(12)


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of one received frame; `object` and `rule` are numbers of `Names`."""

    verdict: Verdict
    reason: Reason
    object: int
    rule: int
    trace: tuple[Note, ...] = ()
    """Where asked for, what happened on the way: object, action, rule."""


@dataclass(frozen=True, slots=True)
class Emission:
    """One frame that left: by which port, why, and the index of the received frame it stems from.

    What had waited stems from the frame that released it.
    """

    port: int
    frame: bytes
    cause: Cause
    parent: int
    offload: bytes = NO_OFFLOAD


@dataclass(frozen=True, slots=True)
class Session:
    """A remembered flow, as whoever opened it sends it; `owner` is a number of `Names`."""

    kind: str
    """``group`` at an interface, ``nat`` at a NAT gateway, ``balancer`` at a Gateway Load Balancer endpoint; ``flow``
    at an egress-only gateway, a peering, a gateway endpoint or a node of a balancer."""
    owner: int
    flow: Flow
    stage: Stage
