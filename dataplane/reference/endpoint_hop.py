"""The hop of a Gateway Load Balancer endpoint: into GENEVE and to a target, and back out of it.

    there: ACL of the endpoint's subnet -> MTU 8500, TTL - 1 -> GENEVE -> from the node of the balancer, to the target
    back:  ACL of the node's subnet -> out of GENEVE -> TTL - 1 -> from the endpoint, by its subnet's route table

Nobody is told when a packet dies here: neither of the MTU, nor of the TTL, nor of what is wrong with GENEVE.
https://docs.aws.amazon.com/vpc/latest/privatelink/vpc-limits-endpoints.html (MTU, MSS)
https://docs.aws.amazon.com/elasticloadbalancing/latest/gateway/gateway-load-balancers.html
"""

from __future__ import annotations

from dataclasses import replace

from dataplane.reference import geneve, resets
from dataplane.reference.balanced_flows import BalancedFlow
from dataplane.reference.balancer import Balancers
from dataplane.reference.flow_logs import INSIDE
from dataplane.reference.hops import ENDPOINT_MTU, fit_endpoint, lose_ttl
from dataplane.reference.interfaces import enter_subnet
from dataplane.reference.inventory import Inventory
from dataplane.reference.journey import ENDPOINT, Dropped, Journey, WantedReset
from dataplane.reference.mss import clamp
from dataplane.reference.nodes import BalancerNode, Endpoint
from dataplane.reference.packets import Flow, Packet, check_addresses
from dataplane.verdict import Reason

REPLIES = {1: {8: 0, 13: 14}, 58: {128: 129}}
"""Request of ICMP: its reply."""


def go_in(journey: Journey, endpoint: Endpoint, balancers: Balancers) -> BalancerNode:
    """What has been routed to an endpoint: afterwards it is on its way from a node to a target, in GENEVE.

    Raises:
        Dropped: the endpoint or its balancer does not take it.
    """
    node = endpoint.node
    if node is None or (journey.packet.version == 6 and not node.dualstack):
        raise Dropped(Reason.ENDPOINT_UNAVAILABLE, endpoint.number, journey.route)
    journey.see(endpoint.number, leaves=False)
    enter_subnet(journey, endpoint.subnet)
    lose_ttl(journey, endpoint.number)
    fit_endpoint(journey, endpoint.number)
    journey.packet = clamp(journey.packet, ENDPOINT_MTU)
    if journey.is_tunnelled:
        raise Dropped(Reason.GENEVE_NESTED, node.balancer)
    admitted = balancers.admit(endpoint, node, journey.packet, journey.now_ms, journey.proposals)
    if isinstance(admitted, Reason):
        tells = admitted is Reason.BALANCER_NO_FLOW and node.resets and resets.is_due(journey.packet)
        reset = WantedReset(resets.build_reset(journey.packet), endpoint) if tells else None
        raise Dropped(admitted, node.balancer, error=reset)
    flow, target = admitted
    label = geneve.Label(endpoint.identity, flow.cookie)
    first, *rest = journey.pieces()
    journey.apart = len(journey.packet.raw) - len(first)
    journey.packet = geneve.wrap(first, label, node.address, flow.source_port, target.address)
    journey.contents, journey.mtus, journey.identification = rest, [], 0
    journey.note(endpoint.number, "encapsulate", target.number)
    _begin(journey, node)
    journey.is_tunnelled = True
    journey.through = set()
    journey.see(node.number, leaves=True)
    return node


def come_back(journey: Journey, node: BalancerNode, inventory: Inventory, balancers: Balancers) -> Endpoint:
    """What a target has sent to a node: afterwards it is on its way from the endpoint that it had come to.

    Raises:
        Dropped: it does not go on from there.
    """
    outer = journey.packet
    if journey.is_tunnelled or journey.was_tunnelled:
        raise Dropped(Reason.GENEVE_NESTED, node.balancer)
    if outer.fragment is not None or len(journey.pieces()) > 1:
        raise Dropped(Reason.GENEVE_FRAGMENT, node.balancer)
    inside = geneve.unwrap(outer)
    if isinstance(inside, Reason):
        raise Dropped(inside, node.balancer)
    endpoint = inventory.endpoint_of(node, inside.label.endpoint)
    if endpoint is None or endpoint.node is None:
        raise Dropped(Reason.GENEVE_COOKIE_UNKNOWN, node.balancer)
    flow = balancers.of(endpoint).with_cookie(inside.label.cookie, journey.now_ms)
    if flow is None:
        raise Dropped(Reason.GENEVE_COOKIE_UNKNOWN, node.balancer)
    target = endpoint.node.targets.get(flow.target)
    if target is None or outer.source != target.address:
        raise Dropped(Reason.GENEVE_SENDER, node.balancer)
    if outer.source_port != flow.source_port:
        raise Dropped(Reason.GENEVE_PORTS, node.balancer)
    packet = _of_flow(inside.packet, flow)
    if packet is None:
        raise Dropped(Reason.GENEVE_FLOW_CHANGED, node.balancer)
    wrong = check_addresses(packet)
    if wrong is not None:  # of an error, which may be anybody's who can be a sender at all
        raise Dropped(wrong, node.balancer)
    journey.note(endpoint.number, "decapsulate", target.number)
    journey.packet, journey.was_tunnelled = packet, True
    lose_ttl(journey, endpoint.number)
    _begin(journey, endpoint)
    journey.through = {ENDPOINT}
    journey.see(endpoint.number, leaves=True)
    return endpoint


def _begin(journey: Journey, sender: BalancerNode | Endpoint) -> None:
    """Another packet begins its way: what AWS knew of the one before is lost."""
    journey.go_on(INSIDE)
    journey.sender, journey.as_sent, journey.source_mac = sender, journey.packet, None
    journey.subnet, journey.groups = sender.subnet, frozenset()
    journey.is_made = False
    journey.untracked.clear()


def _of_flow(packet: Packet, flow: BalancedFlow) -> Packet | None:
    """A packet that came back, if it is of the flow, in either direction, or an ICMP error about it; None: it is not.

    A later fragment has no ports: it is of the flow if addresses and protocol are, and gets the flow's.
    """
    both = (flow.flow, flow.flow.reversed())
    if packet.is_later_fragment:
        mine = next((f for f in both if _ends(f) == (packet.protocol, packet.source, packet.destination)), None)
        return None if mine is None else _with_ports(packet, mine)
    return packet if packet.about in both or packet.flow in both else None


def _ends(flow: Flow) -> tuple[object, ...]:
    return flow.protocol, flow.source, flow.destination


def _with_ports(later: Packet, flow: Flow) -> Packet:
    """A later fragment with what its flow says of ports, or of the type of an ICMP message."""
    if not later.is_icmp:
        return replace(later, source_port=flow.source_port, destination_port=flow.destination_port)
    kind = flow.query - 256 if flow.query >= 256 else flow.query
    if flow.is_reply:
        kind = REPLIES[later.protocol].get(kind, kind)
    return replace(
        later, source_port=flow.source_port, destination_port=flow.destination_port, icmp_type=kind, icmp_code=0
    )
