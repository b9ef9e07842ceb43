"""How long an idle flow is remembered (milliseconds), and how a TCP flow gets from one stage to the next.

Documented by AWS: 432000 s for TCP, 30 s and 180 s for UDP, 600 s for other protocols at an interface
(https://docs.aws.amazon.com/AWSEC2/latest/UserGuide/security-group-connection-tracking.html), 350 s at a NAT gateway
(https://docs.aws.amazon.com/vpc/latest/userguide/nat-gateway-basics.html). Of ours, as AWS does not say: 60 s for TCP
that opens or closes, 30 s for ICMP.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import Enum

from dataplane.reference.packets import ACK, FIN, ICMP, ICMPV6, RST, TCP, UDP, Packet


class Stage(Enum):
    """How far a flow has come."""

    OPENING = "opening"
    """TCP: one side has not acknowledged anything yet."""
    OPEN = "open"
    CLOSING = "closing"
    """TCP: both sides have sent FIN, or one RST."""
    SINGLE = "single"
    """UDP: one way, or one request and its responses."""
    STREAM = "stream"
    """UDP: more than one request with responses."""
    QUERY = "query"
    """ICMP."""
    OTHER = "other"


@dataclass(frozen=True, slots=True)
class Limits:
    """Idle limits in milliseconds."""

    opening: int
    open: int
    closing: int
    single: int
    stream: int
    query: int
    other: int


INTERFACE = Limits(
    opening=60_000,
    open=432_000_000,
    closing=60_000,
    single=30_000,
    stream=180_000,
    query=30_000,
    other=600_000,
)
NAT_GATEWAY = Limits(
    opening=350_000,
    open=350_000,
    closing=60_000,
    single=350_000,
    stream=350_000,
    query=350_000,
    other=350_000,
)


@dataclass(slots=True)
class Lifetime:
    """The life of one flow: who has spoken, who is through, and when somebody last spoke.

    True stands for the one that opened it, False for the other.
    """

    stage: Stage
    last_ms: int
    spoke: set[bool] = field(default_factory=set)
    acknowledged: set[bool] = field(default_factory=set)
    """TCP: who has sent an ACK."""
    finished: set[bool] = field(default_factory=set)
    """TCP: who has sent FIN."""

    @classmethod
    def begin(cls, packet: Packet, now_ms: int) -> Lifetime:
        """A flow that begins with this packet."""
        stages = {TCP: Stage.OPENING, UDP: Stage.SINGLE, ICMP: Stage.QUERY, ICMPV6: Stage.QUERY}
        life = cls(stages.get(packet.protocol, Stage.OTHER), now_ms)
        life.see(packet, now_ms, by_opener=True)
        return life

    def is_over(self, now_ms: int, limits: Limits) -> bool:
        """Whether it has been idle for too long."""
        limit: int = getattr(limits, self.stage.value)
        return now_ms - self.last_ms >= limit

    def is_reopened_by(self, packet: Packet) -> bool:
        """Whether a SYN comes after the end: that is a new flow, not part of this one."""
        return self.stage is Stage.CLOSING and packet.opens_tcp

    def see(self, packet: Packet, now_ms: int, *, by_opener: bool) -> None:
        """A packet of the flow has passed."""
        self.last_ms = now_ms
        if packet.protocol == UDP and by_opener and False in self.spoke:
            self.stage = Stage.STREAM
        self.spoke.add(by_opener)
        if packet.protocol == TCP and not packet.is_later_fragment:
            self._see_tcp(packet.tcp_flags, by_opener)

    def _see_tcp(self, flags: int, by_opener: bool) -> None:
        if flags & FIN:
            self.finished.add(by_opener)
        if flags & ACK:
            self.acknowledged.add(by_opener)
        if flags & RST or len(self.finished) == 2:
            self.stage = Stage.CLOSING
        elif self.stage is Stage.OPENING and len(self.acknowledged) == 2:
            self.stage = Stage.OPEN  # both sides have been heard by the other, also when both began (RFC 793, 3.4)
