"""Flows of Gateway Load Balancer endpoints: whose they are, which target they have, and how long they live.

A flow belongs to the endpoint that it came to, in both directions. TCP and UDP are told apart by addresses and ports,
everything else by addresses and protocol. An ICMP error goes with the flow it is about, and with other ICMP between its
own addresses if there is none.
https://docs.aws.amazon.com/elasticloadbalancing/latest/gateway/gateway-load-balancers.html
https://aws.amazon.com/elasticloadbalancing/faqs/ ("5-tuple (for TCP/UDP flows) or 3-tuple (for non-TCP/UDP flows)")
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from ipaddress import IPv4Address, IPv6Address

from dataplane.reference.flow import Flow
from dataplane.reference.lifetimes import Lifetime, Limits
from dataplane.reference.nodes import BalancerNode
from dataplane.reference.packets import TCP, UDP, Packet
from dataplane.verdict import Reason

MOST_COOKIE = 0xFFFF_FFFF
Reduced = tuple[frozenset[IPv4Address | IPv6Address], int]
"""What stickiness looks at: two addresses in no order, and a protocol or 0."""


@dataclass(slots=True, eq=False)
class BalancedFlow:
    """A flow, as whoever opened it sends it."""

    flow: Flow
    life: Lifetime
    stickiness: str
    """What it was to share its target by when it was opened."""
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
    pieces: dict[bool, Packet] = field(default_factory=dict)
    """The first fragment that each side has sent last; True stands for the one that opened the flow."""

    def is_only_about(self, packet: Packet) -> bool:
        """Whether it is an ICMP error about the flow: anybody may say so, and nothing changes because of that."""
        return packet.about is not None and self.is_of(packet.about)

    def is_of(self, flow: Flow) -> bool:
        """Whether a packet with this flow is of it, in either direction."""
        return told_apart(flow) in (self.flow, self.flow.reversed())

    def see(self, packet: Packet, now_ms: int, limits: Limits) -> None:
        """A packet of the flow goes to its target, or comes back from there."""
        self.life.see(packet, now_ms, limits, by_opener=packet.source == self.flow.source)

    def go_in(self, packet: Packet) -> None:
        """A packet goes to its target: later fragments of its datagram will come back."""
        if packet.fragment is not None and not packet.is_later_fragment:
            self.pieces[packet.source == self.flow.source] = packet

    def follow(self, later: Packet) -> Packet | Reason:
        """A later fragment that came back, with what the first one says that its sender has sent."""
        ends = (self.flow.source, self.flow.destination)
        if later.protocol != self.flow.protocol or (later.source, later.destination) not in (ends, ends[::-1]):
            return Reason.GENEVE_FLOW_CHANGED
        first = self.pieces.get(later.source == self.flow.source)
        return Reason.GENEVE_FRAGMENT if first is None else replace(later.follow(first), quoted=None)


def told_apart(flow: Flow) -> Flow:
    """What of a packet says which flow it is of."""
    return flow if flow.protocol in (TCP, UDP) else Flow(flow.protocol, flow.source, 0, flow.destination, 0)


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

    def _of(self, of_packet: Flow, now_ms: int) -> BalancedFlow | None:
        flow = told_apart(of_packet)
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
        """Flows that a new one shares its target with: none that were opened when stickiness was another."""
        wanted = reduced(flow, stickiness)
        if wanted is None:
            return []
        alike = (each for each in self.live(now_ms) if each.stickiness == stickiness)
        return [each for each in alike if reduced(each.flow, stickiness) == wanted]

    def add(self, flow: BalancedFlow) -> None:
        """A new flow, in the place of what was between the same ends."""
        for former in (flow.flow, flow.flow.reversed()):
            if former in self._flows:
                self._flows.pop(former).life.end()
        self._flows[flow.flow] = flow


def takers(flows: BalancedFlows, node: BalancerNode, flow: Flow, now_ms: int) -> frozenset[int]:
    """The targets that a flow may get which has none: those of its companions that keep theirs, else what is free."""
    companions = flows.companions(flow, node.stickiness, now_ms)
    held = {each.target for each in companions if each.is_target_seen}
    kept = frozenset(number for number in held if number in node.targets and node.targets[number].keeps)
    return kept or frozenset(number for number, target in node.targets.items() if target.takes_new)
