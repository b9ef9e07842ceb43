"""Flows of Gateway Load Balancer endpoints: whose they are, which target they have, and how long they live.

A flow belongs to the endpoint that it came to, in both directions. TCP and UDP are told apart by addresses and ports,
ICMP queries by their identifier, everything else by addresses and protocol (of ICMP: by type too). An ICMP error
goes with the flow it is about, and is one of its own if there is none.
https://docs.aws.amazon.com/elasticloadbalancing/latest/gateway/gateway-load-balancers.html
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from ipaddress import IPv4Address, IPv6Address

from dataplane.reference.lifetimes import Lifetime, Limits
from dataplane.reference.nodes import BalancerNode
from dataplane.reference.packets import TCP, Flow, Packet
from dataplane.reference.resets import acknowledges, next_sequence

MOST_COOKIE = 0xFFFF_FFFF
Reduced = tuple[frozenset[IPv4Address | IPv6Address], int]
"""What stickiness looks at: two addresses in no order, and a protocol or 0."""


@dataclass(slots=True, eq=False)
class BalancedFlow:
    """A flow, as whoever opened it sends it."""

    flow: Flow
    life: Lifetime
    target: int = 0
    """The number of its target."""
    cookie: int = 0
    source_port: int = 0
    """The outer one."""
    is_seen: bool = False
    """Whether cookie and port have been seen outside; while they have not, these only stand in."""
    is_target_seen: bool = False
    """The same of the target."""
    admissible: frozenset[int] = frozenset()
    """Targets it could have had when it got the present one."""
    sends: dict[bool, int] = field(default_factory=dict)
    """TCP: the sequence number that each side goes on with; True stands for the one that opened it."""
    expects: dict[bool, int] = field(default_factory=dict)
    """TCP: the one that each side has last acknowledged."""

    def is_only_about(self, packet: Packet) -> bool:
        """Whether it is an ICMP error about the flow: anybody may say so, and nothing changes because of that."""
        return packet.is_icmp_error and packet.flow != self.flow

    def see(self, packet: Packet, now_ms: int, limits: Limits) -> None:
        """A packet of the flow goes to its target."""
        by_opener = packet.flow == self.flow
        self.life.see(packet, now_ms, limits, by_opener=by_opener)
        if packet.protocol == TCP and not packet.is_later_fragment:
            self.sends[by_opener] = next_sequence(packet)
            acknowledged = acknowledges(packet)
            if acknowledged is not None:
                self.expects[by_opener] = acknowledged


def reduced(flow: Flow, stickiness: str) -> Reduced | None:
    """What stays with one target whatever its ports are; None: nothing but the flow itself."""
    ends = frozenset((flow.source, flow.destination))
    if stickiness == "source_ip_dest_ip":
        return ends, 0
    return (ends, flow.protocol) if stickiness == "source_ip_dest_ip_proto" else None


class BalancedFlows:
    """The flows of one endpoint."""

    def __init__(self) -> None:
        self._flows: dict[Flow, BalancedFlow] = {}
        self._next_cookie = 1

    def find(self, packet: Packet, now_ms: int) -> BalancedFlow | None:
        """The flow that a packet is of, in either direction, or is an ICMP error about."""
        about = None if packet.about is None else self._of(packet.about, now_ms)
        return about or self._of(packet.flow, now_ms)

    def _of(self, flow: Flow, now_ms: int) -> BalancedFlow | None:
        both = (self._flows.get(each) for each in (flow, flow.reversed()))
        return next((each for each in both if each is not None and not each.life.is_over(now_ms)), None)

    def live(self, now_ms: int) -> Iterator[BalancedFlow]:
        """Every flow there is now, the oldest first."""
        return (each for each in self._flows.values() if not each.life.is_over(now_ms))

    def with_cookie(self, cookie: int, now_ms: int) -> BalancedFlow | None:
        """The flow that somebody knows by a cookie."""
        return next((each for each in self.live(now_ms) if each.is_seen and each.cookie == cookie), None)

    def free_cookie(self, now_ms: int) -> int:
        """A cookie that no flow has, and none had for as long as can be."""
        taken = {each.cookie for each in self.live(now_ms)}
        while self._next_cookie in taken:
            self._next_cookie = self._next_cookie % MOST_COOKIE + 1
        found, self._next_cookie = self._next_cookie, self._next_cookie % MOST_COOKIE + 1
        return found

    def companions(self, flow: Flow, stickiness: str, now_ms: int) -> list[BalancedFlow]:
        """Flows that a new one shares its target with."""
        wanted = reduced(flow, stickiness)
        if wanted is None:
            return []
        return [each for each in self.live(now_ms) if reduced(each.flow, stickiness) == wanted]

    def add(self, flow: BalancedFlow) -> None:
        """A new flow, in the place of what was between the same ends."""
        for former in (flow.flow, flow.flow.reversed()):
            if former in self._flows:
                self._flows.pop(former).life.end()
        self._flows[flow.flow] = flow

    def bury(self, now_ms: int) -> list[BalancedFlow]:
        """Forget what has died of silence, and tell."""
        dead = [each for each in self._flows.values() if each.life.is_over(now_ms)]
        for each in dead:
            del self._flows[each.flow]
        return dead


def takers(flows: BalancedFlows, node: BalancerNode, flow: Flow, now_ms: int) -> frozenset[int]:
    """The targets that a flow may get which has none: those of its companions that keep theirs, else what is free."""
    companions = flows.companions(flow, node.stickiness, now_ms)
    held = {each.target for each in companions if each.is_target_seen}
    kept = frozenset(number for number in held if number in node.targets and node.targets[number].keeps)
    return kept or frozenset(number for number, target in node.targets.items() if target.takes_new)
