"""What a trace tells: Trace -> Walk -> Hop -> Step, as values and as JSON (`dataplane.trace_text` draws them).

A *trace* is the story of one packet and of the answer to it. Each direction is a *walk*: the ordered *hops*
the packet made, each hop one object the user declared (an interface, a network ACL, a route table, a
gateway), with the *steps* taken inside it, and at the end a verdict. These are plain values, made by
`dataplane.engine` from the numbers the fast path returns; nothing here looks at live state.

JSON form (stable; keys are only ever added)::

    {"version": 1, "source": "app", "destination": "web", "reachable": true,
     "forward": WALK, "reply": WALK or null, "story": false}
    WALK  {"verdict": "FORWARD", "reason": "NONE", "text": "not dropped", "aws_code": "",
           "object": NAME or null, "rule": NAME or null, "note": "", "hops": [HOP, ...],
           "assumed": ["fw"], "astray": ""}
    HOP   {"object": NAME, "steps": [STEP, ...]}
    STEP  {"action": "permit", "rule": NAME or null, "packet": PACKET, "note": ""}
    NAME  {"kind": "network-acl", "path": "shop/edge"}
    PACKET {"protocol": 6, "source": "10.0.2.10", "destination": "10.0.1.10", "source_port": 40000,
            "destination_port": 80, "icmp": [type, code] or null, "ttl": 64, "length_bytes": 40}

The story of a real packet (``vpclab trace --live``) has ``"story": true`` and is one direction: ``reply`` is null and
``reachable`` false, whatever became of it; the answer is a story of its own. FORWARD is delivered only if ``astray`` is
empty.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from itertools import groupby
from typing import Any

from dataplane.names import Name
from dataplane.verdict import REASON_TEXT, Reason, Verdict, aws_code

JSON_VERSION = 1
LARGEST_TRACED = 65000
"""Bytes of payload that fit into any packet, whatever its headers."""
PROTOCOL_NAMES = {1: "icmp", 6: "tcp", 17: "udp", 58: "icmpv6"}


class Action(StrEnum):
    """What happened in one step."""

    SEND = "send"
    """The packet starts here, from this interface."""
    CHECK = "check"
    """A condition (source check, no edge-to-edge, ...) was looked at and held."""
    SKIP = "skip"
    """A filter that does not apply: the packet does not cross the subnet's border."""
    PERMIT = "permit"
    """A filter rule let it pass."""
    TRACK = "track"
    """A security group rule allowed a new flow, which is tracked from here on."""
    MATCH = "match"
    """It belongs to a tracked flow; the rule is the one that first allowed the flow."""
    OPEN = "open"
    """A gateway remembers a new flow, without any rule."""
    KNOWN = "known"
    """It belongs to a flow that a gateway remembers."""
    ENCAPSULATE = "encapsulate"
    """It went to a target of a load balancer, inside another packet; the rule is the target."""
    DECAPSULATE = "decapsulate"
    """It came back from the target, out of that packet."""
    RETURN = "return"
    """A target is taken to send it back as it is."""
    SEND_ON = "send-on"
    """An instance is taken to send on what is not its own."""
    ROUTE = "route"
    """A route was chosen."""
    TRANSLATE = "translate"
    """Addresses or ports were rewritten."""
    CROSS = "cross"
    """It left one network (VPC, internet) for another."""
    HOP = "hop"
    """A gateway counted the TTL down and looked at the MTU."""
    FRAGMENT = "fragment"
    """It was cut into pieces that fit the MTU ahead."""
    DELIVER = "deliver"
    """It left through this interface's port."""
    ANSWER = "answer"
    """The router answers it itself."""
    HOLD = "hold"
    """A fragment that waits for the first one of its datagram."""
    DROP = "drop"
    """It died here."""


QUIET = frozenset({Action.CHECK, Action.SKIP, Action.HOP})
"""Steps that only say "nothing to see": left out of paths and, unless everything is asked for, of texts."""
TOLD = "ICMP error sent to the sender"
"""Note of a step in which a gateway answers what it dropped, and the answer gets through."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Packet:
    """The headers of a packet as they are at one step; ports are None where the protocol has none."""

    protocol: int
    source: str
    destination: str
    source_port: int | None = None
    destination_port: int | None = None
    icmp: tuple[int, int] | None = None
    """(type, code) of ICMP and ICMPv6."""
    ttl: int = 0
    length_bytes: int = 0
    """Length of the IP packet in bytes."""

    def __str__(self) -> str:
        return f"{_endpoint(self.source, self.source_port)} > {_endpoint(self.destination, self.destination_port)}"

    def describe(self) -> str:
        """Protocol and addresses, e.g. ``tcp 10.0.2.10:40000 > 10.0.1.10:80``."""
        text = f"{protocol_name(self.protocol)} {self}"
        return text if self.icmp is None else f"{text} (type {self.icmp[0]}, code {self.icmp[1]})"


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """One thing that happened to the packet, and the packet as it was afterwards."""

    action: Action
    rule: Name | None = None
    """The route, ACL entry or security group rule that decided; None where no rule is involved."""
    packet: Packet
    note: str = ""
    """A few extra words, e.g. ``"MTU 1500"``."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Hop:
    """All consecutive steps at one object."""

    object: Name
    steps: tuple[Step, ...]

    @property
    def packet(self) -> Packet:
        """The packet as it left this hop."""
        return self.steps[-1].packet


@dataclass(frozen=True, slots=True, kw_only=True)
class Walk:
    """One direction: the hops in order, and what became of the packet."""

    hops: tuple[Hop, ...]
    verdict: Verdict
    reason: Reason = Reason.NONE
    object: Name | None = None
    """Where the walk ended: the interface that received it, or the object that dropped it."""
    rule: Name | None = None
    """The rule that decided a drop; None when it is the lack of one (no route, no rule that allows)."""
    note: str = ""
    """A few extra words about a drop, e.g. whose rules were looked at in vain."""
    assumed: tuple[str, ...] = ()
    """Instances on the way that were taken to send on what is not their own."""
    astray: str = ""
    """The interface that got it last, and why that is not the end of its way as far as one can tell; else empty."""

    @property
    def delivered(self) -> bool:
        """True when the packet arrived at an interface that it is for, or was answered by the router."""
        return self.verdict in (Verdict.FORWARD, Verdict.SERVE) and not self.astray

    @property
    def decided_by(self) -> Name | None:
        """The rule that decided, or the object that had none that applies."""
        return self.rule or self.object

    @property
    def aws_code(self) -> str:
        """AWS's code for what the packet died of; empty where AWS has none."""
        if not self.hops:
            return REASON_TEXT[self.reason].aws_code
        packet = self.hops[-1].packet
        return aws_code(self.reason, packet.source, packet.destination)

    def path(self) -> tuple[str, ...]:
        """The objects passed, as ``kind path``, without those where nothing but quiet checks happened."""
        return tuple(str(hop.object) for hop in self.hops if any(step.action not in QUIET for step in hop.steps))


@dataclass(frozen=True, slots=True, kw_only=True)
class Trace:
    """A packet and the answer to it, traced through live state without changing it."""

    source: str
    """As asked for: a node name or an address."""
    destination: str
    forward: Walk
    reply: Walk | None = None
    """None when the packet did not arrive, so nobody answers; and of the story of a real packet."""
    is_story: bool = False
    """Of a packet that was really sent: the answer, if there was one, is a story of its own."""

    @property
    def reachable(self) -> bool:
        """True when the packet arrives and the answer comes back; a story does not tell (false in JSON)."""
        if not self.forward.delivered:
            return False
        return self.forward.verdict is Verdict.SERVE if self.reply is None else self.reply.delivered

    @property
    def _walks(self) -> list[Walk]:
        return [self.forward] if self.reply is None else [self.forward, self.reply]

    @property
    def assumed(self) -> tuple[str, ...]:
        """Instances on the ways there and back that were taken to send on what is not their own."""
        return tuple(dict.fromkeys(name for walk in self._walks for name in walk.assumed))

    @property
    def is_certain(self) -> bool:
        """True when it hangs on no instance on the way, nor on a target, whether real packets fare the same."""
        return not (self.assumed or self.deciding_walk.astray or any(map(_returns, self._walks)))

    @property
    def deciding_walk(self) -> Walk:
        """The direction that failed, or the forward one when none did."""
        return self.reply if self.reply is not None and self.forward.delivered and not self.reachable else self.forward

    def to_json(self) -> dict[str, Any]:
        """The JSON form described in the module's docstring."""
        return {
            "version": JSON_VERSION,
            "source": self.source,
            "destination": self.destination,
            "reachable": self.reachable and not self.is_story,
            "forward": _walk_to_json(self.forward),
            "reply": None if self.reply is None else _walk_to_json(self.reply),
            "story": self.is_story,
        }

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> Trace:
        """Read back what `to_json` wrote.

        Raises:
            ValueError: written by another version, or not a trace.
        """
        if value.get("version") != JSON_VERSION:
            raise ValueError(f"trace of version {value.get('version')!r}, this is version {JSON_VERSION}")
        try:
            return cls(
                source=value["source"],
                destination=value["destination"],
                forward=_walk_from_json(value["forward"]),
                reply=None if value["reply"] is None else _walk_from_json(value["reply"]),
                is_story=value.get("story", False),
            )
        except (KeyError, TypeError) as error:
            raise ValueError(f"not a trace: {error}") from None


def hops_of(steps: Iterable[tuple[Name, Step]]) -> tuple[Hop, ...]:
    """Group (object, step) pairs, in walking order, into hops."""
    return tuple(
        Hop(object=name, steps=tuple(step for _, step in group)) for name, group in groupby(steps, lambda pair: pair[0])
    )


def _returns(walk: Walk) -> bool:
    return any(step.action is Action.RETURN for hop in walk.hops for step in hop.steps)


def protocol_name(number: int) -> str:
    """``tcp``, ``udp``, ``icmp``, ``icmpv6`` or ``protocol N``."""
    return PROTOCOL_NAMES.get(number, f"protocol {number}")


def _endpoint(address: str, port: int | None) -> str:
    if port is None:
        return address
    return f"[{address}]:{port}" if ":" in address else f"{address}:{port}"


# -- JSON ----------------------------------------------------------------------------------------------


def _name_to_json(name: Name | None) -> dict[str, str] | None:
    return None if name is None else {"kind": name.kind, "path": name.path}


def _name_from_json(value: Mapping[str, str] | None) -> Name | None:
    return None if value is None else Name(value["kind"], value["path"])


def _packet_to_json(packet: Packet) -> dict[str, Any]:
    return {
        "protocol": packet.protocol,
        "source": packet.source,
        "destination": packet.destination,
        "source_port": packet.source_port,
        "destination_port": packet.destination_port,
        "icmp": None if packet.icmp is None else list(packet.icmp),
        "ttl": packet.ttl,
        "length_bytes": packet.length_bytes,
    }


def _packet_from_json(value: Mapping[str, Any]) -> Packet:
    icmp = value["icmp"]
    return Packet(**{**value, "icmp": None if icmp is None else (icmp[0], icmp[1])})


def _walk_to_json(walk: Walk) -> dict[str, Any]:
    return {
        "verdict": walk.verdict.name,
        "reason": walk.reason.name,
        "text": REASON_TEXT[walk.reason].text,
        "aws_code": walk.aws_code,
        "object": _name_to_json(walk.object),
        "rule": _name_to_json(walk.rule),
        "note": walk.note,
        "hops": [
            {
                "object": _name_to_json(hop.object),
                "steps": [
                    {
                        "action": step.action.value,
                        "rule": _name_to_json(step.rule),
                        "packet": _packet_to_json(step.packet),
                        "note": step.note,
                    }
                    for step in hop.steps
                ],
            }
            for hop in walk.hops
        ],
        "assumed": list(walk.assumed),
        "astray": walk.astray,
    }


def _walk_from_json(value: Mapping[str, Any]) -> Walk:
    return Walk(
        hops=tuple(
            Hop(
                object=Name(hop["object"]["kind"], hop["object"]["path"]),
                steps=tuple(
                    Step(
                        action=Action(step["action"]),
                        rule=_name_from_json(step["rule"]),
                        packet=_packet_from_json(step["packet"]),
                        note=step["note"],
                    )
                    for step in hop["steps"]
                ),
            )
            for hop in value["hops"]
        ),
        verdict=Verdict[value["verdict"]],
        reason=Reason[value["reason"]],
        object=_name_from_json(value["object"]),
        rule=_name_from_json(value["rule"]),
        note=value["note"],
        assumed=tuple(value.get("assumed", ())),
        astray=value.get("astray", ""),
    )
