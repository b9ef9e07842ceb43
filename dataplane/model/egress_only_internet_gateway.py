"""Egress-only internet gateway: lets IPv6 connections out of a VPC, and only their answers in.
https://docs.aws.amazon.com/vpc/latest/userguide/egress-only-internet-gateway.html
https://docs.aws.amazon.com/AWSEC2/latest/UserGuide/security-group-connection-tracking.html

It changes no address, and remembers each flow that goes out. What comes in and is of no such flow is dropped silently.
Security groups track every flow through it, whatever their rules say. What comes out of a gateway load balancer
endpoint, it does not take: https://docs.aws.amazon.com/vpc/latest/privatelink/gateway-load-balancer-endpoints.html

    out: route -> came by gateway or peering? drop -> source in the VPC? else drop -> came through a gateway load
         balancer endpoint? drop -> **remember** -> MTU 1500 -> internet
    in:  internet -> **remembered? else drop** -> delivery inside the VPC, by address

Deviations from AWS:
- Where a VPC has an internet gateway too, a packet from outside enters by the one that the route table of its
  destination's subnet would send the answer to; AWS does not say how it tells them apart.
- How long an idle flow is remembered is not documented: 350 s for TCP (60 s once closed), 120 s for all else
  (`settings.egress_only_tcp_timeout`, `settings.nat_closing_timeout`, `settings.egress_only_other_timeout`).
- TTL as at an internet gateway (`settings.internet_gateway_ttl`).
- The middle of a TCP connection that goes out is remembered like its beginning. An ICMPv6 reply that nobody has asked
  for goes out, as all does, and is not remembered.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from ipaddress import IPv6Network
from typing import TYPE_CHECKING

from dataplane.errors import Problem
from dataplane.limits import INTERNET_MTU
from dataplane.model import internet_gateway
from dataplane.model._cidr import Network
from dataplane.model._route_target import RouteTarget
from dataplane.program import (
    Direction,
    Enter,
    FlowGate,
    FlowPolicy,
    GateMode,
    Guard,
    Hop,
    Lookup,
    Program,
    Route,
    Side,
    Test,
    Timeouts,
    Via,
)
from dataplane.verdict import Reason

if TYPE_CHECKING:
    from dataplane.topology import Topology

EVERYWHERE6 = IPv6Network("::/0")


@dataclass(frozen=True, slots=True, kw_only=True)
class EgressOnlyInternetGateway:
    """An egress-only internet gateway of the VPC it is written in. It has nothing to set."""

    def check(self, topology: Topology, vpc: str) -> Iterator[Problem]:
        """Yield what AWS would refuse."""
        if not topology.vpc(vpc).ipv6_cidrs:
            message = f"VPC {vpc} has no IPv6 block, and an egress-only internet gateway is for IPv6"
            yield Problem("", message, "InvalidParameterValue", f"write vpcs.{vpc}.ipv6_cidrs, or leave it out")

    def lower(self, topology: Topology, program: Program, vpc: str) -> None:
        """Make both ways."""
        here = label(vpc)
        number = program.names.intern(WORD, vpc)
        realm = program.names.intern("vpc", vpc)
        settings = topology.lab.settings
        tcp, other = settings.egress_only_tcp_timeout * 1000, settings.egress_only_other_timeout * 1000
        program.flow_policies[here] = FlowPolicy(
            owner=number,
            timeouts=Timeouts.of_gateway(tcp=tcp, closing=settings.nat_closing_timeout * 1000, other=other),
        )
        program.nodes |= {
            **internet_gateway.guards(topology, program, vpc, here, number, f"{here}/out/inspected"),
            f"{here}/out/inspected": Guard(
                object=number,
                test=Test.VIA,
                via=Via.ENDPOINT,
                negate=True,
                reason=Reason.EGRESS_ONLY_ENDPOINT,
                next=f"{here}/out/remember",
            ),
            f"{here}/out/remember": FlowGate(
                object=number,
                policy=here,
                mode=GateMode.OPEN,
                direction=Direction.EGRESS,
                tracks=True,
                next=f"{here}/out/hop",
            ),
            f"{here}/out/hop": Hop(
                object=number,
                mtu=INTERNET_MTU,
                ttl=internet_gateway.ttl_action(topology),
                next=f"{here}/out/cross",
            ),
            f"{here}/out/cross": internet_gateway.into_internet(program, number),
            f"{here}/in": FlowGate(
                object=number,
                policy=here,
                mode=GateMode.REQUIRE,
                direction=Direction.INGRESS,
                reason=Reason.EGRESS_ONLY_NO_SESSION,
                next=f"{here}/in/cross",
            ),
            f"{here}/in/cross": Enter(
                object=number, realm=realm, via=Via.GATEWAY | Via.TRACKED, next=f"vpc:{vpc}/deliver"
            ),
        }
        _lower_choice(topology, program, vpc, number)


def _lower_choice(topology: Topology, program: Program, vpc: str, number: int) -> None:
    """By which gateway a packet enters: the one that its destination's subnet would answer through."""
    here, declared = label(vpc), topology.vpc(vpc)
    default = f"{internet_gateway.label(vpc)}/in" if declared.internet_gateway is not None else f"{here}/in"
    choice = f"{here}/choice"
    program.nodes[choice] = Lookup(object=number, fib=choice, quiet=True, reason=Reason.EGRESS_ONLY_NO_SESSION)
    program.fibs[choice] = [Route(prefix=EVERYWHERE6, node=default, rule=0)]
    for placed in topology.subnets.values():
        if placed.vpc != vpc or placed.ipv6_cidr is None:
            continue
        answers = f"{choice}:{placed.name}"
        table = declared.all_route_tables()[placed.route_table]
        found = {
            route.prefix: f"{here}/in" if route.target.word == WORD else default
            for route in table.effective(topology, vpc, placed.route_table)
            if route.prefix.version == 6
        }
        found.setdefault(EVERYWHERE6, default)
        program.fibs[choice].append(Route(prefix=placed.ipv6_cidr, node=answers, rule=0))
        program.fibs[answers] = [Route(prefix=prefix, node=node, rule=0) for prefix, node in found.items()]
        program.nodes[answers] = Lookup(
            object=number, fib=answers, side=Side.SOURCE, quiet=True, reason=Reason.EGRESS_ONLY_NO_SESSION
        )
    internet_gateway.add_internet_routes6(topology, program, vpc, choice)


def label(vpc: str) -> str:
    """The gateway's label."""
    return f"{WORD}:{vpc}"


WORD = "egress-only-internet-gateway"


class EgressOnlyInternetGatewayTarget(RouteTarget):
    """The egress-only internet gateway of the VPC."""

    word = WORD
    is_named = False

    def check(self, topology: Topology, vpc: str, destination: Network) -> Iterator[Problem]:
        """Yield a problem when the VPC has none, or the route is for IPv4."""
        if topology.vpc(vpc).egress_only_internet_gateway is None:
            yield Problem(
                "",
                f"VPC {vpc} has no egress-only internet gateway",
                "InvalidGatewayID.NotFound",
                f"write {WORD.replace('-', '_')}: {{}} under vpcs.{vpc}, or target: blackhole",
            )
        elif destination.version != 6:
            message = f"{destination} is IPv4, and egress-only internet gateways are for IPv6"
            yield Problem("", message, "InvalidParameterValue", "write nat-gateway:NAME for IPv4")

    def label(self, topology: Topology, vpc: str) -> str | None:
        """The way out."""
        return f"{label(vpc)}/out" if topology.vpc(vpc).egress_only_internet_gateway is not None else None
