"""Gateway endpoint: a way from a VPC to S3 or DynamoDB inside of AWS, without a public address.

It is no interface: it puts a route for the service's prefix list into each of its route tables. A route of one's own
for one of these prefixes wins over it. The service sees the private source address.
https://docs.aws.amazon.com/vpc/latest/privatelink/gateway-endpoints.html
https://docs.aws.amazon.com/vpc/latest/reachability/explanation-codes.html

    out: route -> came by gateway or peering, or source not in the VPC? drop -> TCP or echo request? else drop
         -> flow of another VPC with the same addresses and ports? drop -> **remember** -> MTU 8500 (silent; MSS is
         lowered to fit), TTL - 1 (silent) -> service
    in:  service -> **remembered? else its public way** -> TCP or echo reply? else drop -> MTU and TTL likewise
         -> delivery inside the VPC, by address

DynamoDB's flows are tracked by security groups whatever their rules say:
https://docs.aws.amazon.com/AWSEC2/latest/UserGuide/security-group-connection-tracking.html

Deviations from AWS:
- Endpoint policies other than full access are refused: packets do not show who asks for what.
- IPv4 only.
- The service is one host, which cannot tell VPCs apart: of two with the same addresses and ports at the same time, the
  second one is dropped.
- Idle connections are forgotten after 350 s (TCP; 60 s once closed, `settings.nat_closing_timeout`) or 120 s.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from ipaddress import IPv4Network, IPv6Network
from typing import TYPE_CHECKING, Literal

from dataplane.errors import Problem
from dataplane.limits import ENDPOINT_MTU
from dataplane.model._cidr import inside, overlap
from dataplane.model._fields import doc, unknown
from dataplane.program import (
    Direction,
    Drop,
    Enter,
    Filter,
    FlowGate,
    FlowPolicy,
    GateMode,
    Guard,
    Hop,
    Lookup,
    Path,
    Program,
    Route,
    Rule,
    Side,
    Test,
    Timeouts,
    TtlAction,
    Via,
)
from dataplane.verdict import Reason

if TYPE_CHECKING:
    from dataplane.topology import Topology

FULL_ACCESS = "full-access"
TRACKED = ("dynamodb",)
"""Services whose flows security groups track, whatever their rules say."""
TCP_IDLE_S, OTHER_IDLE_S = 350, 120
TCP, ICMP = 6, 1
SERVED = "vpc-endpoint/served"
"""Begins the labels of what gateway endpoints forward."""
EVERYWHERE, EVERYWHERE6 = IPv4Network("0.0.0.0/0"), IPv6Network("::/0")


@dataclass(frozen=True, slots=True, kw_only=True)
class GatewayEndpoint:
    """A gateway endpoint."""

    service: Literal["s3", "dynamodb"] = field(metadata=doc("s3 or dynamodb; must be among aws_services", "s3"))
    route_tables: tuple[str, ...] = field(default=(), metadata=doc("route tables that lead to it", ["main"]))
    policy: str = field(
        default=FULL_ACCESS, metadata=doc("endpoint policy: full-access, and nothing else", FULL_ACCESS)
    )

    def check(self, topology: Topology, vpc: str, name: str) -> Iterator[Problem]:
        """Yield what AWS would refuse, and policies."""
        lab, declared = topology.lab, topology.vpc(vpc)
        if self.service not in lab.aws_services:
            message = f"the lab has no {self.service}"
            yield Problem("service", message, "InvalidServiceName", f"write aws_services: {{{self.service}: {{}}}}")
        elif topology.region_of(vpc) != lab.region:
            message = f"{self.service} is in {lab.region}, VPC {vpc} in {topology.region_of(vpc)}"
            yield Problem("service", message, "InvalidServiceName", "a gateway endpoint is for its own Region")
        if self.policy != FULL_ACCESS:
            message = "packets do not show who asks for what, so no policy but full access can be enforced"
            yield Problem("policy", message, "", f"write {FULL_ACCESS}, or leave it out")
        known = declared.all_route_tables()
        edge = None if declared.internet_gateway is None else declared.internet_gateway.route_table
        for index, table in enumerate(self.route_tables):
            at = f"route_tables[{index}]"
            others = [e for e, each in declared.gateway_endpoints.items() if e != name and each.service == self.service]
            taken = [each for each in others if table in declared.gateway_endpoints[each].route_tables]
            if table not in known:
                yield unknown(at, f"route table of VPC {vpc}", table, known, "InvalidRouteTableID.NotFound")
            elif table == edge:
                message = f"{table} is the table of the internet gateway, and such a table has no prefix lists"
                yield Problem(at, message, "InvalidParameterValue", "write tables of subnets")
            elif table in self.route_tables[:index]:
                yield Problem(at, f"{table} is listed twice", "RouteAlreadyExists", "remove one of them")
            elif taken and list(declared.gateway_endpoints).index(taken[0]) < list(declared.gateway_endpoints).index(
                name
            ):
                message = f"{table} leads to {self.service} by endpoint {taken[0]} already"
                yield Problem(at, message, "RouteAlreadyExists", "a table has one endpoint for each service")

    def lower(self, topology: Topology, program: Program, vpc: str, name: str) -> None:
        """Make both ways."""
        here, service = label(vpc, name), f"aws-service:{self.service}"
        number = program.names.intern("vpc-endpoint", f"{vpc}/{name}")
        tracked = Via.TRACKED if self.service in TRACKED else Via.NONE
        program.sets[f"vpc:{vpc}/own"] = list(topology.vpc(vpc).cidrs())
        _memory(topology, program, vpc, name)
        for way, echo in (("out", 8), ("back", 0)):
            rules = (("tcp", TCP, None), (f"icmp type {echo}", ICMP, (echo, -1)))
            program.filters[f"{SERVED}/{way}"] = [
                Rule(
                    rule=program.names.intern("vpc-endpoint-rule", f"{way} {words}"),
                    protocol=protocol,
                    icmp=icmp,
                    prefix=EVERYWHERE,
                )
                for words, protocol, icmp in rules
            ]
        hop = Hop(
            object=number,
            mtu=ENDPOINT_MTU,
            answers_mtu=False,
            fragments=False,
            clamps_mss=True,
            ttl=TtlAction.SILENT,
            next=f"{here}/cross",
        )
        program.nodes |= {
            f"{here}/in": Guard(
                object=number,
                test=Test.VIA,
                via=Via.PEERING | Via.GATEWAY | Via.TUNNEL,
                negate=True,
                reason=Reason.ENDPOINT_FROM_OUTSIDE,
                next=f"{here}/source",
            ),
            f"{here}/source": Guard(
                object=number,
                test=Test.SOURCE_IN,
                table=f"vpc:{vpc}/own",
                reason=Reason.ENDPOINT_FROM_OUTSIDE,
                next=f"{here}/served",
            ),
            f"{here}/served": Filter(
                object=number,
                table=f"{SERVED}/out",
                remote=Side.DESTINATION,
                reason=Reason.ENDPOINT_PROTOCOL,
                next=self._lower_conflicts(topology, program, vpc, name, f"{here}/remember"),
            ),
            f"{here}/remember": FlowGate(
                object=number,
                policy=here,
                mode=GateMode.OPEN,
                direction=Direction.EGRESS,
                tracks=bool(tracked),
                next=f"{here}/hop",
            ),
            f"{here}/hop": hop,
            f"{here}/cross": Enter(
                object=number,
                realm=program.names.intern("aws-service", self.service),
                path=Path.SERVICE,
                next=f"{service}/hosts",
            ),
            f"{here}/back": Filter(
                object=number,
                table=f"{SERVED}/back",
                remote=Side.SOURCE,
                reason=Reason.ENDPOINT_PROTOCOL,
                next=f"{here}/back/hop",
            ),
            f"{here}/back/hop": replace(hop, next=f"{here}/back/cross"),
            f"{here}/back/cross": Enter(
                object=number, realm=program.names.intern("vpc", vpc), via=tracked, next=f"vpc:{vpc}/deliver"
            ),
        }

    def _lower_conflicts(self, topology: Topology, program: Program, vpc: str, name: str, following: str) -> str:
        """Make the way of packets of which another VPC may have a flow just like it; return where it begins."""
        here, number = label(vpc, name), program.names.intern("vpc-endpoint", f"{vpc}/{name}")
        own = topology.vpc(vpc).cidrs()
        rivals = [
            (other_vpc, other)
            for other_vpc, other in _endpoints_of(topology, self.service)
            if other_vpc != vpc and any(overlap(a, b) for a in own for b in topology.vpc(other_vpc).cidrs())
        ]
        if rivals:
            program.nodes[f"{here}/conflict"] = Drop(object=number, reason=Reason.ENDPOINT_CONFLICT)
        for other_vpc, other in reversed(rivals):
            gate = FlowGate(
                object=number,
                policy=_memory(topology, program, other_vpc, other),
                mode=GateMode.LOOK,
                direction=Direction.EGRESS,
                otherwise=f"{here}/conflict",
                next=following,
            )
            following = f"{here}/unless:{other_vpc}/{other}"
            program.nodes[following] = gate
        return following


def label(vpc: str, name: str) -> str:
    """The endpoint's label."""
    return f"vpc-endpoint:{vpc}/{name}"


def _endpoints_of(topology: Topology, service: str) -> list[tuple[str, str]]:
    """The gateway endpoints for a service, as VPC and name."""
    return [
        (vpc, name)
        for vpc, declared in topology.lab.vpcs.items()
        for name, endpoint in declared.gateway_endpoints.items()
        if endpoint.service == service
    ]


def _memory(topology: Topology, program: Program, vpc: str, name: str) -> str:
    """Add what an endpoint remembers of flows, and return its label."""
    here, settings = label(vpc, name), topology.lab.settings
    program.flow_policies[here] = FlowPolicy(
        owner=program.names.intern("vpc-endpoint", f"{vpc}/{name}"),
        timeouts=Timeouts.of_gateway(
            tcp=TCP_IDLE_S * 1000, closing=settings.nat_closing_timeout * 1000, other=OTHER_IDLE_S * 1000
        ),
    )
    return here


def lower_returns(topology: Topology, program: Program, service: str, following: str) -> str:
    """Make the way of what a service sends: answers go back through the endpoint that their flow came by.

    All else goes on at `following`; returns where the way begins. Only packets for an address of a VPC with an endpoint
    are looked at; several such VPCs may have one address.
    """
    endpoints = _endpoints_of(topology, service)
    blocks = {cidr for vpc, _ in endpoints for cidr in topology.vpc(vpc).cidrs() if cidr.version == 4}
    if not blocks:
        return following
    here = f"aws-service:{service}/returns"
    number = program.names.intern("aws-service", service)
    program.nodes[here] = Lookup(object=number, fib=here, quiet=True, reason=Reason.OUTSIDE_NO_ROUTE)
    program.fibs[here] = [Route(prefix=block, node=following, rule=0) for block in (EVERYWHERE, EVERYWHERE6)]
    for block in sorted(blocks, key=str):
        node = following
        for vpc, name in reversed(endpoints):
            if any(inside(block, cidr) for cidr in topology.vpc(vpc).cidrs()):
                gate = FlowGate(
                    object=program.names.intern("vpc-endpoint", f"{vpc}/{name}"),
                    policy=_memory(topology, program, vpc, name),
                    mode=GateMode.RESUME,
                    direction=Direction.INGRESS,
                    otherwise=f"{label(vpc, name)}/back",
                    next=node,
                )
                node = f"{here}:{block} {vpc}/{name}"
                program.nodes[node] = gate
        program.fibs[here].append(Route(prefix=block, node=node, rule=0))
    return here
