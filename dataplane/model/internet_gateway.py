"""Internet gateway: between a VPC and the internet.

For IPv4 it translates addresses one to one and remembers nothing: going out, a private source that has a public
address becomes that address; coming in, the other way round. IPv6 passes as it is. Packets to or from private
addresses (RFC 1918, RFC 6598) stay where they are.
https://docs.aws.amazon.com/vpc/latest/userguide/VPC_Internet_Gateway.html

    out: route -> came by gateway or peering? drop -> redirected on the way in? drop -> private destination? drop
         -> source to public -> MTU 1500 -> internet
    in:  internet -> private source? drop -> destination to private -> gateway route table, if it has one
         -> delivery inside the VPC, by address

A *gateway route table* sends what comes in for a subnet to a network interface instead, for inspection. A subnet whose
incoming traffic is redirected may not go out through the gateway directly.
https://docs.aws.amazon.com/vpc/latest/userguide/gateway-route-tables.html

Deviations from AWS:
- Outgoing packets lose one of their TTL, and one that has none left is dropped silently: AWS does not document it, and
  traceroutes from instances show nothing there (`settings.internet_gateway_ttl`).
- "The internet" is the hosts of the lab file and the public addresses of its VPCs.
- Bring-your-own pools on a gateway route table do not exist here.
- An IPv4 address outside must belong to an attached interface; AWS does not say so of IPv6. What comes in for an IPv6
  address that nobody has goes by the gateway's table, and what an interface sends from one that no attached interface
  has is dropped.
- A gateway route for a whole VPC block redirects what comes in for its target's own subnet too, but lets that subnet go
  out directly: its target must.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from dataplane.errors import Problem
from dataplane.limits import INTERNET_MTU
from dataplane.model import _gateway_routes
from dataplane.model._cidr import PRIVATE, Network, host_network
from dataplane.model._fields import doc, within
from dataplane.model._route_target import RouteTarget
from dataplane.program import Enter, Guard, Hop, Node, Path, Program, Rewrite, Route, Side, Test, TtlAction, Via
from dataplane.verdict import Reason

if TYPE_CHECKING:
    from dataplane.topology import Topology

INTERNET = "internet"
"""The label of the internet's lookup is ``internet/route``, that of its routes ``internet``."""
PRIVATE_SET = "internet-gateway/private"


@dataclass(frozen=True, slots=True, kw_only=True)
class InternetGateway:
    """An internet gateway, attached to the VPC it is written in."""

    route_table: str | None = field(
        default=None, metadata=doc("its gateway route table, for what comes in; null: delivery by address", "ingress")
    )

    def check(self, topology: Topology, vpc: str) -> Iterator[Problem]:
        """Yield what AWS would refuse."""
        if self.route_table is not None:
            yield from within("route_table", _gateway_routes.check(topology, vpc, self.route_table))

    def lower(self, topology: Topology, program: Program, vpc: str) -> None:
        """Make both ways, and the internet's routes to IPv6 addresses of the VPC."""
        number = program.names.intern("internet-gateway", vpc)
        realm = program.names.intern("vpc", vpc)
        here = label(vpc)
        deliver = f"vpc:{vpc}/deliver"
        redirects = () if self.route_table is None else _gateway_routes.redirected(topology, vpc, self.route_table)
        if self.route_table is not None:
            deliver = _gateway_routes.lower(topology, program, vpc, self.route_table, f"{here}/in/table")
        program.sets[PRIVATE_SET] = list(PRIVATE)
        program.maps.setdefault(here, [])
        program.nodes |= {
            **guards(topology, program, vpc, here, number, f"{here}/out/destination", redirects),
            f"{here}/out/destination": Guard(
                object=number,
                test=Test.DESTINATION_IN,
                table=PRIVATE_SET,
                family=4,
                negate=True,
                reason=Reason.PRIVATE_DESTINATION,
                next=f"{here}/out/translate",
            ),
            f"{here}/out/translate": Rewrite(
                object=number,
                map=here,
                side=Side.SOURCE,
                reason=Reason.PUBLIC_SOURCE_MISSING,
                next=f"{here}/out/hop",
            ),
            f"{here}/out/hop": Hop(object=number, mtu=INTERNET_MTU, ttl=ttl_action(topology), next=f"{here}/out/cross"),
            f"{here}/out/cross": into_internet(program, number),
            f"{here}/in": Guard(
                object=number,
                test=Test.SOURCE_IN,
                table=PRIVATE_SET,
                family=4,
                negate=True,
                reason=Reason.PRIVATE_SOURCE,
                next=f"{here}/in/translate",
            ),
            f"{here}/in/translate": Rewrite(
                object=number,
                map=here,
                side=Side.DESTINATION,
                reason=Reason.PUBLIC_DESTINATION_MISSING,
                next=f"{here}/in/cross",
            ),
            f"{here}/in/cross": Enter(object=number, realm=realm, via=Via.GATEWAY, next=deliver),
        }
        if topology.vpc(vpc).egress_only_internet_gateway is None:
            add_internet_routes6(topology, program, vpc, f"{here}/in")


def label(vpc: str) -> str:
    """The gateway's label, also that of its translations in `Program.maps`."""
    return f"internet-gateway:{vpc}"


def ttl_action(topology: Topology) -> TtlAction:
    """What a gateway to the internet does to the TTL."""
    return TtlAction.SILENT if topology.lab.settings.internet_gateway_ttl == "decrement" else TtlAction.KEEP


def into_internet(program: Program, number: int) -> Enter:
    """The node where a packet leaves the VPC through gateway `number`."""
    internet = program.names.intern("internet", INTERNET)
    return Enter(object=number, realm=internet, via=Via.GATEWAY, path=Path.OUTSIDE, next=f"{INTERNET}/route")


def guards(
    topology: Topology,
    program: Program,
    vpc: str,
    here: str,
    number: int,
    following: str,
    redirects: tuple[_gateway_routes.Redirect, ...] = (),
) -> dict[str, Node]:
    """What every gateway to the internet looks at first, from ``HERE/out`` on: where the packet has been, and whose
    it is."""
    sources6 = f"{here}/ipv6"
    program.sets[sources6] = [
        host_network(address)
        for interface in topology.interfaces_of_vpc(vpc)
        if interface.kind != "network-interface"  # one that is not attached: whoever sends so is not it
        for address in interface.addresses6
    ]
    families = sorted({redirect.family for redirect in redirects})
    steps = [f"{here}/out/redirected:{family}" for family in families]
    steps.append(f"{here}/out/source")
    nodes: dict[str, Node] = {
        f"{here}/out": Guard(
            object=number,
            test=Test.VIA,
            via=Via.PEERING | Via.GATEWAY,
            negate=True,
            reason=Reason.EDGE_TO_EDGE,
            next=steps[0],
        ),
        f"{here}/out/source": Guard(
            object=number, test=Test.SOURCE_IN, table=sources6, family=6, reason=Reason.GATEWAY_SPOOFED, next=following
        ),
    }
    for family, step, next_step in zip(families, steps, steps[1:], strict=False):
        subnets = (each.subnet for each in redirects if each.family == family)
        nodes[step] = Guard(
            object=number,
            test=Test.FROM_SUBNET,
            subnets=tuple(program.names.intern("subnet", f"{vpc}/{subnet}") for subnet in subnets),
            family=family,
            negate=True,
            reason=Reason.EDGE_REDIRECTED,
            next=next_step,
        )
    return nodes


def add_internet_route(program: Program, vpc: str, prefix: Network) -> None:
    """Let the internet find `prefix` at the internet gateway of `vpc`."""
    _add_route(program, prefix, label(vpc), f"{label(vpc)}/in")


def add_internet_routes6(topology: Topology, program: Program, vpc: str, node: str) -> None:
    """Let the internet find the IPv6 blocks of `vpc` at `node`."""
    declared = topology.vpc(vpc)
    gateway = label(vpc) if declared.internet_gateway is not None else f"egress-only-internet-gateway:{vpc}"
    for cidr in declared.ipv6_cidrs:
        _add_route(program, cidr, gateway, node)


def _add_route(program: Program, prefix: Network, gateway: str, node: str) -> None:
    rule = program.names.intern("route", f"internet {prefix} -> {gateway}")
    program.fibs.setdefault(INTERNET, []).append(Route(prefix=prefix, node=node, rule=rule))


class InternetGatewayTarget(RouteTarget):
    """The internet gateway of the VPC."""

    word = "internet-gateway"
    is_named = False

    def check(self, topology: Topology, vpc: str, destination: Network) -> Iterator[Problem]:
        """Yield a problem when the VPC has none."""
        if topology.vpc(vpc).internet_gateway is None:
            yield Problem(
                "",
                f"VPC {vpc} has no internet gateway",
                "Gateway.NotAttached",
                f"write internet_gateway: {{}} under vpcs.{vpc}, or target: blackhole",
            )

    def label(self, topology: Topology, vpc: str) -> str | None:
        """The way out."""
        return f"{label(vpc)}/out" if topology.vpc(vpc).internet_gateway is not None else None
