"""The course of one probe: which frames are its own, what became of each, and how far it and the answer came.

Frames are told apart by their flow. What leaves for a frame of the probe is the probe too, under the addresses and
ports that it has by then; so a NAT gateway, a tunnel to a target or a kernel that forwards are followed without knowing
them. Either engine can tell what became of a frame: the words are the same.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from enum import StrEnum
from ipaddress import ip_address
from typing import TYPE_CHECKING, Protocol

from dataplane.analysis.headers import Flow, Headers, read_headers
from dataplane.model.check import Resolved
from dataplane.names import Name, Names
from dataplane.trace import Action
from dataplane.verdict import Cause, Reason, Verdict

if TYPE_CHECKING:
    from dataplane.model._cidr import Address
    from dataplane.topology import Topology

_ITSELF = frozenset({Cause.FORWARDED, Cause.FRAGMENT, Cause.RELEASED})


class Happened(Protocol):
    """What became of a frame: `Outcome` of either engine."""

    @property
    def verdict(self) -> Verdict:
        """How it ended."""

    @property
    def reason(self) -> Reason:
        """Why, if it died."""

    @property
    def object(self) -> int:
        """Where, as a number of `Names`."""

    @property
    def rule(self) -> int:
        """By which rule."""

    @property
    def trace(self) -> tuple[tuple[int, str, int], ...]:
        """Object, action and rule of each step."""


class Left(Protocol):
    """A frame that left: `Emission` of either engine."""

    @property
    def port(self) -> int:
        """By which port."""

    @property
    def frame(self) -> bytes:
        """The frame."""

    @property
    def cause(self) -> Cause:
        """Why."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """One thing that decided something on the way."""

    object: Name
    action: str
    """One of `dataplane.trace.Action`."""
    rule: Name | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Leg:
    """One frame of the probe or of the answer, from the interface that sent it to what became of it."""

    is_answer: bool
    sender: Name
    packet: str
    """Protocol, addresses and ports as sent."""
    steps: tuple[Step, ...]
    verdict: Verdict
    reason: Reason
    object: Name | None
    rule: Name | None
    receiver: Name | None
    """The interface that got it."""
    received: str
    """The packet as it arrived; empty when it did not."""

    def repeats(self, other: Leg) -> bool:
        """Whether it is the same packet again, with the same end: flows are known by then, so steps may differ."""
        return replace(self, steps=()) == replace(other, steps=())


class Found(StrEnum):
    """How far a probe came."""

    ANSWERED = "answered"
    """It arrived, and the answer came back."""
    BLOCKED = "blocked"
    """It, or the answer to it, was dropped by the network: `Course.blocked_by` says where."""
    ARRIVED = "arrived"
    """It arrived, and nobody answered."""
    LOST = "lost"
    """It, or the answer, went to an instance on the way, which did not send it on, or answered it itself."""
    UNSENT = "unsent"
    """It was never sent."""


@dataclass(slots=True)
class Course:
    """What became of one probe. `see` is told of every frame; those of others are passed over."""

    topology: Topology
    names: Names
    resolved: Resolved
    source_port: int
    """Of the probe; the identifier of an echo."""
    owners: Mapping[str, frozenset[Address]]
    """The addresses of each interface (`Topology.own_addresses`)."""
    legs: list[Leg] = field(default_factory=list)
    source_seen: str = ""
    """The source address that the destination saw; empty when nothing arrived."""
    refused: bool = False
    """The answer was a TCP reset: nobody listens."""
    trouble: str = ""
    """Why it was not sent, or what else an operating system said."""
    assumed: list[str] = field(default_factory=list)
    """Instances that were taken to send on what they got."""
    stand_in: bool = False
    """No program answered at the destination: the answer was made in its place."""
    _there: set[Flow] = field(default_factory=set)
    _back: set[Flow] = field(default_factory=set)
    _arrived: bool = False
    _answered: bool = False

    def __post_init__(self) -> None:
        self._there.add(self.sent_as)

    @property
    def sent_as(self) -> Flow:
        """The flow of the probe as it leaves its sender."""
        r = self.resolved
        ports = (self.source_port, r.port) if r.protocol in (1, 6, 17, 58) else (0, 0)
        return Flow(r.protocol, r.source.packed, r.destination.packed, *ports)

    def is_probe(self, flow: Flow | None) -> bool:
        """Whether a flow is the probe's own, as it was sent or has become on its way."""
        return flow in self._there and flow not in self._back

    def is_of_answer(self, headers: Headers) -> bool:
        """Whether a frame is the answer's."""
        return self._own(headers) in self._back

    def _own(self, headers: Headers) -> Flow | None:
        """The flow by which a frame is ours: its own, or that of what is in it."""
        for flow in (headers.flow, headers.inside):
            if flow is not None and (flow in self._there or flow in self._back):
                return flow
        return None

    @property
    def blocked_by(self) -> Leg | None:
        """The leg that the network ended, if one was."""
        if self.answered_instead is not None:
            return None
        return next((leg for leg in self.legs if leg.verdict is Verdict.DROP), None)

    @property
    def answered_instead(self) -> Name | None:
        """Who on the way made an answer, of a probe that its destination never got."""
        if self._arrived:
            return None
        answerer = next((leg.sender for leg in self.legs if leg.is_answer), None)
        return answerer if answerer is None or self._has_owner else None

    @property
    def _has_owner(self) -> bool:
        """Whether the destination is the address of anybody here; behind an appliance may be others."""
        wanted = self.resolved.destination
        mine = any(wanted in addresses for addresses in self.owners.values())
        return mine or any(wanted == each.public for each in self.topology.public_addresses)

    @property
    def is_decided(self) -> bool:
        """Whether nothing more can come."""
        return self._answered or self.answered_instead is not None or self.blocked_by is not None

    @property
    def found(self) -> Found:
        """How far it came, as far as is known now."""
        if self.answered_instead is not None:
            return Found.LOST
        if self._answered:
            return Found.ANSWERED
        if self.blocked_by is not None:
            return Found.BLOCKED
        if not self.legs:
            return Found.UNSENT
        if self._arrived and not any(leg.is_answer for leg in self.legs):
            return Found.ARRIVED
        return Found.LOST

    def see(self, port: int, frame: bytes, happened: Happened, left: Iterable[Left], headers: Headers) -> bool:
        """Take in what became of a frame received through a port; whether it was one of ours.

        What a kernel sends again, because nobody answered, and comes to the same end, is told once.
        """
        flow = self._own(headers)
        if flow is None:
            return headers.asked is not None and self._see_question(port, happened, headers)
        is_answer = flow in self._back
        receiver, after = None, None
        inside = is_tunnelled(happened)
        for each in left:
            if each.cause not in _ITSELF:
                continue
            was = read_headers(each.frame)
            now = was.inside if inside else was.flow
            if now is None:
                continue
            receiver, after = self.names[each.port], now
            (self._back if is_answer else self._there).add(now)
            if not is_answer:
                self._back.add(now.reversed())
            if not inside and ip_address(now.destination) in self.owners.get(receiver.path, ()):
                self._come(is_answer, receiver, was)
        if happened.verdict is Verdict.SERVE and not is_answer:
            self._arrived = self._answered = True  # by a router's own address
        leg = self._leg(is_answer, port, flow, happened, receiver, after)
        if not any(leg.repeats(each) for each in self.legs):
            self.legs.append(leg)
        return True

    def _see_question(self, port: int, happened: Happened, headers: Headers) -> bool:
        """The neighbour that the sender's kernel asks for before it can send: nobody has the address."""
        r = self.resolved
        if (
            headers.asked != r.destination.packed
            or happened.verdict is not Verdict.DROP
            or self.names[port].path != r.sender.path
            or any(leg.verdict is Verdict.DROP for leg in self.legs)
        ):
            return False
        flow = Flow(r.protocol, r.source.packed, r.destination.packed, self.source_port, r.port)
        self.legs.append(self._leg(False, port, flow, happened, None, None))
        return True

    def _come(self, is_answer: bool, receiver: Name, headers: Headers) -> None:
        assert headers.flow is not None
        if not is_answer:
            self._arrived = True
            self.source_seen = self.source_seen or str(ip_address(headers.flow.source))
        elif receiver.path.partition("/")[0] == self.resolved.sender.node:
            self._answered = True
            self.refused = headers.refuses

    def _leg(
        self, is_answer: bool, port: int, flow: Flow, happened: Happened, receiver: Name | None, after: Flow | None
    ) -> Leg:
        return Leg(
            is_answer=is_answer,
            sender=self.names[port],
            packet=str(flow),
            steps=tuple(
                Step(object=self.names[at], action=action, rule=self.names[rule] if rule else None)
                for at, action, rule in happened.trace
            ),
            verdict=happened.verdict,
            reason=happened.reason,
            object=self.names[happened.object] if happened.object else None,
            rule=self.names[happened.rule] if happened.rule else None,
            receiver=receiver,
            received="" if after is None else str(after),
        )


def is_tunnelled(happened: Happened) -> bool:
    """Whether what left is inside a GENEVE packet, on its way to a target."""
    ways = [action for _, action, _ in happened.trace if action in (Action.ENCAPSULATE, Action.DECAPSULATE)]
    return bool(ways) and ways[-1] == Action.ENCAPSULATE
