"""VPC peering: two VPCs route to each other by private addresses.

Both sides need routes to the other's CIDR blocks, which may not overlap. It is not transitive: packets must be for the
peer itself, and what came through a gateway or another peering goes no further.
https://docs.aws.amazon.com/vpc/latest/peering/vpc-peering-basics.html

    route -> came by gateway or peering? drop -> destination in the peer? else drop -> MTU 9001 (8500 between Regions)
    -> sent by a NAT gateway? **remember** -> delivery inside the peer VPC, by address

Within a Region, security groups of one side may name groups of the other. What a NAT gateway sends over a peering is
remembered, and the answers to it go back over the peering whatever the route tables of the peer VPC say (AWS calls it
return to sender): https://docs.aws.amazon.com/vpc/latest/userguide/nat-gateway-basics.html

Deviations from AWS:
- A VPC is in the Region of the lab unless a peering says otherwise (``accepter_region``); it is in one only.
- An inter-Region packet that is too large is answered as by other gateways; AWS does not document what happens
  (`settings.inter_region_too_big`). The TTL stays as it is (`settings.peering_ttl`).
- Flows of NAT gateways are remembered for 350 s of silence, as by the NAT gateway itself; AWS does not say how long.
- A request does not expire.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from ipaddress import IPv4Address, IPv4Network, IPv6Network
from typing import TYPE_CHECKING, Literal

from dataplane.errors import Problem
from dataplane.limits import INTER_REGION_MTU, NAT_IDLE_S, VPC_MTU
from dataplane.model._cidr import Network, host_network, overlap
from dataplane.model._fields import doc, unknown
from dataplane.model._route_target import RouteTarget
from dataplane.model.region import Region
from dataplane.program import (
    Direction,
    Enter,
    FlowGate,
    FlowPolicy,
    GateMode,
    Guard,
    Hop,
    Lookup,
    Path,
    Program,
    Route,
    Test,
    Timeouts,
    TtlAction,
    Via,
)
from dataplane.verdict import Reason

if TYPE_CHECKING:
    from dataplane.topology import Topology

EVERYWHERE, EVERYWHERE6 = IPv4Network("0.0.0.0/0"), IPv6Network("::/0")
LIVE = ("active", "provisioning", "pending-acceptance")
"""Statuses of a peering that stands in the way of another one."""


@dataclass(frozen=True, slots=True, kw_only=True)
class VpcPeering:
    """A peering connection."""

    requester: str = field(metadata=doc("VPC that asked", "shop"))
    accepter: str = field(metadata=doc("VPC that was asked", "store"))
    status: Literal[
        "active",
        "pending-acceptance",
        "initiating-request",
        "provisioning",
        "failed",
        "expired",
        "rejected",
        "deleting",
        "deleted",
    ] = field(
        default="active", metadata=doc("traffic passes only when active; routes are blackholes otherwise", "active")
    )
    accepter_region: Region | None = field(
        default=None, metadata=doc("Region of the accepter; null: that of the requester", "eu-west-1")
    )

    @property
    def is_active(self) -> bool:
        """Whether traffic passes."""
        return self.status == "active"

    def other(self, vpc: str) -> str:
        """The VPC at the other end."""
        return self.accepter if vpc == self.requester else self.requester

    def check(self, topology: Topology, name: str) -> Iterator[Problem]:
        """Yield what AWS would refuse."""
        vpcs = topology.lab.vpcs
        ends = (("requester", self.requester), ("accepter", self.accepter))
        missing = [(field_name, vpc) for field_name, vpc in ends if vpc not in vpcs]
        for field_name, vpc in missing:
            yield unknown(field_name, "VPC", vpc, vpcs, "InvalidVpcID.NotFound")
        if missing:
            return
        if self.requester == self.accepter:
            yield Problem("accepter", f"VPC {self.accepter} cannot peer with itself", "InvalidParameterValue")
            return
        yield from self._check_regions(topology)
        yield from self._check_cidrs(topology)
        yield from self._check_only_one(topology, name)

    def _check_regions(self, topology: Topology) -> Iterator[Problem]:
        region = topology.region_of(self.accepter)
        if self.accepter_region is not None and self.accepter_region != region:
            message = f"VPC {self.accepter} is in {region} by another peering"
            yield Problem("accepter_region", message, "InvalidVpcID.NotFound", f"write {region}")
        elif self.accepter_region is None and region != topology.region_of(self.requester):
            message = f"VPC {self.accepter} is in {region}, {self.requester} in {topology.region_of(self.requester)}"
            yield Problem("", message, "InvalidVpcID.NotFound", f"write accepter_region: {region}")

    def _check_cidrs(self, topology: Topology) -> Iterator[Problem]:
        if self.status not in LIVE:
            return
        for one in topology.vpc(self.requester).cidrs():
            for other in topology.vpc(self.accepter).cidrs():
                if overlap(one, other):
                    yield Problem(
                        "",
                        f"{one} of VPC {self.requester} and {other} of VPC {self.accepter} overlap",
                        "",
                        "peer VPCs need CIDR blocks that do not overlap, even those not in use",
                    )

    def _check_only_one(self, topology: Topology, name: str) -> Iterator[Problem]:
        if self.status not in LIVE:
            return
        ends = {self.requester, self.accepter}
        for earlier, peering in topology.lab.peerings.items():
            if earlier == name:
                return
            if peering.status in LIVE and {peering.requester, peering.accepter} == ends:
                yield Problem(
                    "",
                    f"VPCs {self.requester} and {self.accepter} have a peering already, {earlier}",
                    "VpcPeeringConnectionAlreadyExists",
                    "remove one of them",
                )

    def lower(self, topology: Topology, program: Program, name: str) -> None:
        """Make both ways, when it is active."""
        if not self.is_active:
            return
        number = program.names.intern("vpc-peering", name)
        near = topology.region_of(self.requester) == topology.region_of(self.accepter)
        settings = topology.lab.settings
        for origin in (self.requester, self.accepter):
            here, peer = label(name, origin), self.other(origin)
            program.sets[here] = list(topology.vpc(peer).cidrs())
            program.nodes |= {
                here: Guard(
                    object=number,
                    test=Test.VIA,
                    via=Via.PEERING | Via.GATEWAY,
                    negate=True,
                    reason=Reason.EDGE_TO_EDGE,
                    next=f"{here}/destination",
                ),
                f"{here}/destination": Guard(
                    object=number,
                    test=Test.DESTINATION_IN,
                    table=here,
                    reason=Reason.PEER_DESTINATION,
                    next=f"{here}/hop",
                ),
                f"{here}/hop": Hop(
                    object=number,
                    mtu=VPC_MTU if near else INTER_REGION_MTU,
                    answers_mtu=near or settings.inter_region_too_big == "answer",
                    ttl=TtlAction.SILENT if settings.peering_ttl == "decrement" else TtlAction.KEEP,
                    next=f"{here}/translated" if topology.vpc(origin).nat_gateways else f"{here}/cross",
                ),
                f"{here}/translated": Guard(
                    object=number, test=Test.VIA, via=Via.NAT, otherwise=f"{here}/cross", next=f"{here}/remember"
                ),
                f"{here}/remember": FlowGate(
                    object=number,
                    policy=_memory(topology, program, name, peer),
                    mode=GateMode.OPEN,
                    direction=Direction.INGRESS,
                    next=f"{here}/cross",
                ),
                f"{here}/cross": Enter(
                    object=number,
                    realm=program.names.intern("vpc", peer),
                    via=Via.PEERING,
                    keep_groups=near,
                    path=Path.NEAR if near else Path.FAR,
                    next=f"vpc:{peer}/deliver",
                ),
            }


def label(name: str, origin: str) -> str:
    """The label of the way from VPC `origin` to its peer."""
    return f"vpc-peering:{name}/from:{origin}"


def _memory(topology: Topology, program: Program, name: str, entered: str) -> str:
    """Add what a peering remembers of flows that entered the VPC `entered`, and return its label."""
    here = f"vpc-peering:{name}/into:{entered}"
    idle, closing = NAT_IDLE_S * 1000, topology.lab.settings.nat_closing_timeout * 1000
    program.flow_policies[here] = FlowPolicy(
        owner=program.names.intern("return-to-sender", f"{name} into {entered}"),
        timeouts=Timeouts.of_gateway(tcp=idle, closing=closing, other=idle),
    )
    return here


def lower_returns(topology: Topology, program: Program, vpc: str, leave: str, table: str) -> str:
    """Make the way of packets that leave a subnet of `vpc`: answers to NAT gateways of peers go back to them.

    `leave` is the label of the subnet's way out, `table` that of its route table; returns where the way begins. Only
    packets for an address of such a gateway are looked at; two peers may have one address, for they may have one block.
    """
    senders: dict[IPv4Address, list[str]] = {}
    for name, peering in topology.lab.peerings.items():
        if vpc in (peering.requester, peering.accepter) and peering.is_active:
            for interface in topology.interfaces_of_vpc(peering.other(vpc)):
                for address in interface.addresses4 if interface.kind == "nat-gateway" else ():
                    senders.setdefault(address, []).append(name)
    if not senders:
        return table
    here = f"{leave}/returns"
    program.nodes[here] = Lookup(
        object=program.names.intern("vpc", vpc), fib=here, quiet=True, reason=Reason.DESTINATION_UNKNOWN
    )
    program.fibs[here] = [Route(prefix=block, node=table, rule=0) for block in (EVERYWHERE, EVERYWHERE6)]
    for address, names in senders.items():
        node = table
        for name in reversed(names):
            following, node = node, f"{here}:{name}{'' if node == table else f' before {node}'}"
            program.nodes[node] = FlowGate(
                object=program.names.intern("vpc-peering", name),
                policy=_memory(topology, program, name, vpc),
                mode=GateMode.RESUME,
                direction=Direction.EGRESS,
                otherwise=label(name, vpc),
                next=following,
            )
        program.fibs[here].append(Route(prefix=host_network(address), node=node, rule=0))
    return here


class PeeringTarget(RouteTarget):
    """A peering of the VPC."""

    word = "peering"

    def check(self, topology: Topology, vpc: str, destination: Network) -> Iterator[Problem]:
        """Yield a problem when there is none of the name, or it is between others."""
        mine = {name: p for name, p in topology.lab.peerings.items() if vpc in (p.requester, p.accepter)}
        if self.name in mine:
            return
        code = "InvalidVpcPeeringConnectionID.NotFound"
        if self.name in topology.lab.peerings:
            peering = topology.lab.peerings[self.name]
            ends = f"VPCs {peering.requester} and {peering.accepter}"
            yield Problem(
                "", f"{self.name} is between {ends}, not of VPC {vpc}", code, "a route leads to a peering of its VPC"
            )
        else:
            yield unknown("", f"peering of VPC {vpc}", self.name, mine, code)

    def label(self, topology: Topology, vpc: str) -> str | None:
        """The way to the peer, while the peering is active."""
        return label(self.name, vpc) if topology.lab.peerings[self.name].is_active else None
