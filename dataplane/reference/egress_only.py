"""Egress-only internet gateways: IPv6 out, and of what comes in only what answers it.

https://docs.aws.amazon.com/vpc/latest/userguide/egress-only-internet-gateway.html

What came through a Gateway Load Balancer endpoint does not leave by them:
https://docs.aws.amazon.com/vpc/latest/privatelink/gateway-load-balancer-endpoints.html

Where a VPC has an internet gateway too, AWS does not say which of them a packet from outside comes by. Here the route
table of the subnet it is for decides: it enters where the answer would leave.
"""

from __future__ import annotations

from dataplane.reference.flow_memory import FlowMemory
from dataplane.reference.hops import cross_into_internet
from dataplane.reference.inventory import Inventory
from dataplane.reference.journey import EGRESS_ONLY, ENDPOINT, GATEWAY, PEERING, Dropped, Journey
from dataplane.reference.lifetimes import limits_of_egress_only
from dataplane.reference.packets import Packet
from dataplane.verdict import Reason

WORD = "egress-only-internet-gateway"


def leave(journey: Journey, inventory: Inventory, memory: FlowMemory, vpc: str) -> None:
    """Out of a VPC.

    Raises:
        Dropped: it may not.
    """
    gateway, packet = inventory.names.intern(WORD, vpc), journey.packet
    if journey.through & {PEERING, GATEWAY}:
        raise Dropped(Reason.EDGE_TO_EDGE, gateway)
    if not inventory.has_address6(vpc, packet.source):
        raise Dropped(Reason.GATEWAY_SPOOFED, gateway)
    if ENDPOINT in journey.through:
        raise Dropped(Reason.EGRESS_ONLY_ENDPOINT, gateway)
    done = memory.see(gateway, packet, journey.now_ms, limits_of_egress_only(inventory.lab.settings))
    if done:
        journey.note(gateway, done)
    memory.room.have_tracked(journey, gateway)
    cross_into_internet(journey, inventory, gateway)


def is_entrance(inventory: Inventory, vpc: str, packet: Packet) -> bool:
    """Whether a packet from the internet comes into a VPC by this gateway, and not by the internet gateway."""
    declared = inventory.lab.vpcs[vpc]
    if declared.egress_only_internet_gateway is None or packet.version != 6:
        return False
    if declared.internet_gateway is None:
        return True
    for subnet in inventory.subnets.values():
        if subnet.vpc == vpc and subnet.holds(packet.destination):
            answer = subnet.table.lookup(packet.source)
            return answer is not None and answer.target == WORD
    return False


def enter(journey: Journey, inventory: Inventory, memory: FlowMemory, vpc: str) -> None:
    """Into a VPC, from the internet.

    Raises:
        Dropped: nobody inside has asked for it.
    """
    gateway = inventory.names.intern(WORD, vpc)
    limits = limits_of_egress_only(inventory.lab.settings)
    if not memory.see_answer(gateway, journey.packet, journey.now_ms, limits):
        raise Dropped(Reason.EGRESS_ONLY_NO_SESSION, gateway)
    journey.note(gateway, "known")
    journey.through |= {GATEWAY, EGRESS_ONLY}
    journey.subnet, journey.groups = None, frozenset()
