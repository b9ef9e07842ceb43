"""Return to sender: answers to what a NAT gateway sent over a peering go back over it, whatever the route tables say.

https://docs.aws.amazon.com/vpc/latest/userguide/nat-gateway-basics.html

What a NAT gateway has sent is remembered where it enters the peer VPC; an answer is recognised
when it leaves a subnet there, before the route table is asked.
"""

from __future__ import annotations

from dataplane.reference import peering
from dataplane.reference.flow_memory import FlowMemory
from dataplane.reference.inventory import Inventory
from dataplane.reference.journey import NAT, Journey
from dataplane.reference.lifetimes import limits_of_nat_gateways


def remember(journey: Journey, inventory: Inventory, memory: FlowMemory, name: str, peer: str) -> None:
    """A packet enters the VPC `peer` by the peering `name`."""
    if NAT not in journey.through:
        return
    limits = limits_of_nat_gateways(inventory.lab.settings)
    number = inventory.names.intern("vpc-peering", name)
    done = memory.see(_owner(inventory, name, peer), journey.packet, journey.now_ms, limits, at=number)
    if done:
        journey.note(number, done)


def _owner(inventory: Inventory, name: str, entered: str) -> int:
    """Who remembers: the peering, for each VPC it leads into."""
    return inventory.names.intern("return-to-sender", f"{name} into {entered}")


def way_back(journey: Journey, inventory: Inventory, memory: FlowMemory, vpc: str) -> str | None:
    """The peering that a packet goes back by which leaves a subnet of `vpc`; None: the route table decides."""
    limits = limits_of_nat_gateways(inventory.lab.settings)
    for name, declared in inventory.lab.peerings.items():
        if vpc not in (declared.requester, declared.accepter) or not peering.is_active(inventory, name):
            continue
        peer = declared.accepter if declared.requester == vpc else declared.requester
        if not any(journey.packet.destination in each.addresses for each in inventory.gateways_of(peer)):
            continue
        if memory.see_answer(_owner(inventory, name, vpc), journey.packet, journey.now_ms, limits):
            journey.note(inventory.names.intern("vpc-peering", name), "known")
            return name
    return None
