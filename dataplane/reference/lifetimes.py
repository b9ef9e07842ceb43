"""How long an idle flow is remembered (milliseconds), and how a TCP flow gets from one stage to the next.

Documented by AWS: 432000 s for TCP, 30 s and 180 s for UDP, all configurable, and 600 s for other protocols at an
interface (https://docs.aws.amazon.com/AWSEC2/latest/UserGuide/security-group-connection-tracking.html), 350 s at a NAT
gateway (https://docs.aws.amazon.com/vpc/latest/userguide/nat-gateway-basics.html). All else is in the lab's `settings`.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from enum import Enum

from dataplane.model.connection_tracking import ConnectionTracking
from dataplane.model.gateway_load_balancer import GatewayLoadBalancer
from dataplane.model.settings import Settings
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

    def of(self, stage: Stage) -> int:
        """The limit of a flow at some stage."""
        limit: int = getattr(self, stage.value)
        return limit


OTHER_MS, NAT_GATEWAY_MS, BALANCER_TCP_MS, BALANCER_OTHER_MS = 600_000, 350_000, 350_000, 120_000

GATEWAY_ENDPOINT_TCP_MS, GATEWAY_ENDPOINT_OTHER_MS = 350_000, 120_000


def limits_of_interface(tracking: ConnectionTracking, settings: Settings) -> Limits:
    """What a network interface's security groups remember."""
    return Limits(
        opening=settings.tcp_opening_timeout * 1000,
        open=tracking.tcp_established_timeout * 1000,
        closing=settings.tcp_closing_timeout * 1000,
        single=tracking.udp_timeout * 1000,
        stream=tracking.udp_stream_timeout * 1000,
        query=settings.icmp_timeout * 1000,
        other=OTHER_MS,
    )


def limits_of_nat_gateways(settings: Settings) -> Limits:
    """What NAT gateways remember, whatever the protocol; also of what they sent over a peering."""
    return _two_limits(NAT_GATEWAY_MS, NAT_GATEWAY_MS, settings)


def limits_of_gateway_endpoints(settings: Settings) -> Limits:
    """What gateway endpoints remember."""
    return _two_limits(GATEWAY_ENDPOINT_TCP_MS, GATEWAY_ENDPOINT_OTHER_MS, settings)


def limits_of_egress_only(settings: Settings) -> Limits:
    """What egress-only internet gateways remember."""
    return _two_limits(settings.egress_only_tcp_timeout * 1000, settings.egress_only_other_timeout * 1000, settings)


def limits_of_balancer(balancer: GatewayLoadBalancer, stickiness: str, settings: Settings) -> Limits:
    """What endpoints of a Gateway Load Balancer remember. Its own timeout for TCP counts with 5-tuple stickiness only.

    https://docs.aws.amazon.com/elasticloadbalancing/latest/gateway/gateway-load-balancers.html (idle timeout)
    """
    tcp = balancer.tcp_idle_timeout * 1000 if stickiness == "5_tuple" else BALANCER_TCP_MS
    limits = _two_limits(tcp, BALANCER_OTHER_MS, settings)
    return replace(limits, closing=settings.balancer_closing_timeout * 1000)


def limits_of_probes(settings: Settings) -> Limits:
    """How long the nodes of a balancer remember what they have asked."""
    limits = _two_limits(BALANCER_TCP_MS, BALANCER_OTHER_MS, settings)
    return replace(limits, closing=settings.balancer_closing_timeout * 1000)


def _two_limits(tcp: int, rest: int, settings: Settings) -> Limits:
    closing = settings.nat_closing_timeout * 1000
    return Limits(opening=tcp, open=tcp, closing=closing, single=rest, stream=rest, query=rest, other=rest)


@dataclass(slots=True)
class Lifetime:
    """The life of one flow: who has spoken, who is through, and when somebody last spoke.

    How long it may be idle is settled by its last packet: limits that are changed later count from the next one on.
    True stands for the one that opened it, False for the other.
    """

    stage: Stage
    last_ms: int
    limit_ms: int = 0
    spoke: set[bool] = field(default_factory=set)
    acknowledged: set[bool] = field(default_factory=set)
    """TCP: who has sent an ACK."""
    finished: set[bool] = field(default_factory=set)
    """TCP: who has sent FIN."""

    @classmethod
    def begin(cls, packet: Packet, now_ms: int, limits: Limits) -> Lifetime:
        """A flow that begins with this packet."""
        stages = {TCP: Stage.OPENING, UDP: Stage.SINGLE, ICMP: Stage.QUERY, ICMPV6: Stage.QUERY}
        life = cls(stages.get(packet.protocol, Stage.OTHER), now_ms)
        life.see(packet, now_ms, limits, by_opener=True)
        return life

    def is_over(self, now_ms: int) -> bool:
        """Whether it has been idle for too long."""
        return now_ms - self.last_ms >= self.limit_ms

    def end(self) -> None:
        """Another flow takes its place."""
        self.limit_ms = 0

    def is_reopened_by(self, packet: Packet) -> bool:
        """Whether a SYN comes after the end: that is a new flow, not part of this one."""
        return self.stage is Stage.CLOSING and packet.opens_tcp

    def see(self, packet: Packet, now_ms: int, limits: Limits, *, by_opener: bool) -> None:
        """A packet of the flow has passed."""
        self.last_ms = now_ms
        if packet.protocol == UDP and by_opener and False in self.spoke:
            self.stage = Stage.STREAM
        self.spoke.add(by_opener)
        if packet.protocol == TCP and not packet.is_later_fragment:
            self._see_tcp(packet.tcp_flags, by_opener)
        self.limit_ms = limits.of(self.stage)

    def _see_tcp(self, flags: int, by_opener: bool) -> None:
        if flags & FIN:
            self.finished.add(by_opener)
        if flags & ACK:
            self.acknowledged.add(by_opener)
        if flags & RST or len(self.finished) == 2:
            self.stage = Stage.CLOSING
        elif self.stage is Stage.OPENING and len(self.acknowledged) == 2:
            self.stage = Stage.OPEN  # both sides have been heard by the other, also when both began (RFC 793, 3.4)
