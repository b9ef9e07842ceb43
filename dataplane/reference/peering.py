"""VPC peering: to addresses of the peer VPC only, and for what begins in the VPC itself.

https://docs.aws.amazon.com/vpc/latest/peering/vpc-peering-basics.html
"""

from __future__ import annotations

from dataplane.reference.flow_logs import FAR_PEER, NEAR_PEER
from dataplane.reference.hops import INSIDE_MTU, INTER_REGION_MTU, fit, lose_ttl
from dataplane.reference.inventory import Inventory
from dataplane.reference.journey import GATEWAY, PEERING, Dropped, Journey
from dataplane.verdict import Reason


def is_active(inventory: Inventory, name: str) -> bool:
    """Whether traffic passes; a route to it is a blackhole otherwise."""
    return inventory.lab.peerings[name].status == "active"


def cross(journey: Journey, inventory: Inventory, name: str, vpc: str) -> str:
    """From `vpc` to its peer, whose name is returned.

    Raises:
        Dropped: it may not.
    """
    peering, number = inventory.lab.peerings[name], inventory.names.intern("vpc-peering", name)
    peer = peering.accepter if peering.requester == vpc else peering.requester
    if journey.through & {PEERING, GATEWAY}:
        raise Dropped(Reason.EDGE_TO_EDGE, number)
    if not any(journey.packet.destination in cidr for cidr in inventory.lab.vpcs[peer].cidrs()):
        raise Dropped(Reason.PEER_DESTINATION, number)
    near = inventory.regions[vpc] == inventory.regions[peer]
    settings = inventory.lab.settings
    if settings.peering_ttl == "decrement":
        lose_ttl(journey, number)
    is_told = near or settings.inter_region_too_big == "answer"
    fit(journey, number, INSIDE_MTU if near else INTER_REGION_MTU, about=journey.as_sent if is_told else None)
    if not near:
        journey.groups = frozenset()
    journey.through.add(PEERING)
    journey.subnet = None
    return peer


def enter(journey: Journey, inventory: Inventory, vpc: str, peer: str) -> None:
    """It has come from `vpc` into its peer: so flow logs tell how it went on."""
    journey.go_on(NEAR_PEER if inventory.regions[vpc] == inventory.regions[peer] else FAR_PEER)
