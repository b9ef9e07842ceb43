"""Gateway Load Balancers: each flow gets a target, a cookie and an outer source port, and keeps them.

Which ones is AWS's choice, so they are adopted where proposed and checked: the target must be one that may have the
flow, the cookie free at its endpoint, the port one that GENEVE has (RFC 8926, section 3.3).
https://docs.aws.amazon.com/elasticloadbalancing/latest/gateway/gateway-load-balancers.html
https://docs.aws.amazon.com/elasticloadbalancing/latest/gateway/target-groups.html
"""

from __future__ import annotations

from collections.abc import Iterator

from dataplane.reference.balanced_flows import BalancedFlow, BalancedFlows, takers, told_apart
from dataplane.reference.flow import Flow
from dataplane.reference.geneve import SOURCE_PORTS
from dataplane.reference.lifetimes import Lifetime
from dataplane.reference.nodes import BalancerNode, Endpoint
from dataplane.reference.packets import TCP, Packet
from dataplane.reference.proposals import Proposals, Tunnelled
from dataplane.reference.room import Room
from dataplane.reference.targets import Target
from dataplane.verdict import Reason


class InadmissibleChoiceError(AssertionError):
    """A proposed target, cookie or port breaks a rule of AWS: the engine that proposed it is wrong.

    Args:
        choice: what was proposed, and why it cannot be.
        flow: what it was proposed for.
    """

    def __init__(self, choice: str, flow: Flow) -> None:
        super().__init__(f"{choice}, for {flow}")
        self.flow = flow


class Balancers:
    """The flows of all endpoints."""

    def __init__(self, room: Room) -> None:
        self._room = room
        self._endpoints: dict[int, BalancedFlows] = {}

    def of(self, endpoint: Endpoint) -> BalancedFlows:
        """The flows of an endpoint."""
        return self._endpoints.setdefault(endpoint.number, BalancedFlows())

    def all(self, now_ms: int) -> Iterator[tuple[int, BalancedFlow]]:
        """The flows there are now, with the number of their endpoint."""
        for number, flows in self._endpoints.items():
            for flow in flows.live(now_ms):
                yield number, flow

    def admit(
        self, endpoint: Endpoint, node: BalancerNode, packet: Packet, now_ms: int, proposals: Proposals
    ) -> tuple[BalancedFlow, Target] | Reason:
        """The flow of a packet that has come to an endpoint, and the target it goes to.

        Raises:
            Dropped: there is no room for it.
        """
        flows = self.of(endpoint)
        found = flows.find(packet, now_ms)
        if found is not None and found.is_only_about(packet):
            _settle(flows, endpoint, node, found, now_ms, proposals)
            target = node.targets.get(found.target)
            return Reason.BALANCER_NO_TARGET if target is None else (found, target)
        is_new = found is None or found.life.is_reopened_by(packet)
        if is_new and packet.protocol == TCP and not packet.opens_tcp:
            return Reason.BALANCER_NO_FLOW
        if found is None or is_new:
            begun = Lifetime.begin(packet, now_ms, node.limits)
            new = BalancedFlow(told_apart(packet.flow), begun, node.stickiness)
            if not self._give_target(flows, node, new, now_ms):
                return Reason.BALANCER_NO_TARGET
            self._room.ask(node.balancer)
            self._room.take(new.life, joins=True)
            new.cookie = flows.free_cookie(now_ms)
            new.source_port = SOURCE_PORTS[new.cookie % len(SOURCE_PORTS)]
            flows.add(new)
            found = new
        elif not _has_target(node, found):
            is_moved = self._give_target(flows, node, found, now_ms)
            if not is_moved and found.target not in node.targets:
                return Reason.BALANCER_NO_TARGET
        found.see(packet, now_ms, node.limits)
        found.go_in(packet)
        _settle(flows, endpoint, node, found, now_ms, proposals)
        return found, node.targets[found.target]

    @staticmethod
    def _give_target(flows: BalancedFlows, node: BalancerNode, flow: BalancedFlow, now_ms: int) -> bool:
        """Give a flow a target, the lowest number of those it may have; False: it may have none."""
        possible = takers(flows, node, flow.flow, now_ms)
        if possible:
            flow.admissible, flow.target, flow.is_target_seen = possible, min(possible), False
        return bool(possible)


def _has_target(node: BalancerNode, flow: BalancedFlow) -> bool:
    """Whether a flow stays with its target."""
    return flow.target in node.targets and node.targets[flow.target].keeps


def _settle(
    flows: BalancedFlows, endpoint: Endpoint, node: BalancerNode, flow: BalancedFlow, now_ms: int, proposals: Proposals
) -> None:
    """Adopt what is proposed; when nobody proposes, what was chosen counts."""
    if proposals is None:
        flow.is_seen = flow.is_target_seen = True
        return
    seen = next((packet for packet in proposals.tunnelled if packet.label.endpoint == endpoint.identity), None)
    if not flow.is_target_seen:
        _adopt_target(flows, node, flow, now_ms, seen, proposals.targets)
    if not flow.is_seen and seen is not None:
        _adopt_cookie(flows, node, flow, now_ms, seen)


def _adopt_target(
    flows: BalancedFlows,
    node: BalancerNode,
    flow: BalancedFlow,
    now_ms: int,
    seen: Tunnelled | None,
    told: frozenset[int],
) -> None:
    """The target whose address the packet went to; of one that was not seen to leave, what is told."""
    if seen is not None:
        proposed = {number for number, target in node.targets.items() if target.address == seen.target}
    else:
        proposed = {number for number in told if number in node.targets}
        if not proposed:
            return
    possible = sorted(proposed & flow.admissible)
    if not possible:
        where = seen.target if seen is not None else sorted(proposed)
        raise InadmissibleChoiceError(f"target {where}, but may be {sorted(flow.admissible)}", flow.flow)
    flow.target = next((number for number in possible if number in told), possible[0])
    flow.is_target_seen = True
    for other in flows.companions(flow.flow, node.stickiness, now_ms):
        if not other.is_target_seen and flow.target in other.admissible:
            other.target, other.is_target_seen = flow.target, True


def _adopt_cookie(flows: BalancedFlows, node: BalancerNode, flow: BalancedFlow, now_ms: int, seen: Tunnelled) -> None:
    holder = flows.with_cookie(seen.label.cookie, now_ms)
    if holder is not None and holder is not flow:
        raise InadmissibleChoiceError(f"cookie {seen.label.cookie:#x}, which {holder.flow} has", flow.flow)
    flow.cookie, flow.is_seen = seen.label.cookie, True
    if seen.source == node.address:  # else a NAT gateway has changed it
        if seen.source_port not in SOURCE_PORTS:
            raise InadmissibleChoiceError(f"outer source port {seen.source_port}", flow.flow)
        flow.source_port = seen.source_port
