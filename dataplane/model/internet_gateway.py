"""Internet gateway: between a VPC and the internet.

For IPv4 it translates addresses one to one and remembers nothing: going out, a private source that has a public
address becomes that address; coming in, the other way round. IPv6 passes as it is. Packets to or from private
addresses (RFC 1918, RFC 6598) stay where they are.
https://docs.aws.amazon.com/vpc/latest/userguide/VPC_Internet_Gateway.html

    out: route -> came by gateway or peering? drop -> private destination? drop -> source to public -> MTU 1500
         -> internet
    in:  internet -> private source? drop -> destination to private -> delivery inside the VPC, by address

Deviations from AWS:
- Outgoing packets lose one of their TTL, and one that has none left is dropped silently: AWS does not document it, and
  traceroutes from instances show nothing there.
- "The internet" is the hosts of the lab file and the public addresses of its VPCs.
- Gateway route tables, and with them bring-your-own pools, do not exist here.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

from dataplane.errors import Problem
from dataplane.limits import INTERNET_MTU
from dataplane.model._cidr import PRIVATE, Network, host_network
from dataplane.model._route_target import RouteTarget
from dataplane.program import Enter, Guard, Hop, Program, Rewrite, Route, Side, Test, TtlAction, Via
from dataplane.verdict import Reason

if TYPE_CHECKING:
    from dataplane.topology import Topology

INTERNET = "internet"
"""The label of the internet's lookup is ``internet/route``, that of its routes ``internet``."""
PRIVATE_SET = "internet-gateway/private"


@dataclass(frozen=True, slots=True, kw_only=True)
class InternetGateway:
    """An internet gateway, attached to the VPC it is written in. It has nothing to set."""

    def check(self, topology: Topology, vpc: str) -> Iterator[Problem]:
        """Yield nothing: there is nothing to get wrong."""
        yield from ()

    def lower(self, topology: Topology, program: Program, vpc: str) -> None:
        """Make both ways, and the internet's routes to IPv6 addresses of the VPC."""
        number = program.names.intern("internet-gateway", vpc)
        internet = program.names.intern("internet", INTERNET)
        realm = program.names.intern("vpc", vpc)
        here = label(vpc)
        sources6 = f"{here}/ipv6"
        program.sets[PRIVATE_SET] = list(PRIVATE)
        program.sets[sources6] = [
            host_network(address) for interface in topology.interfaces_of_vpc(vpc) for address in interface.addresses6
        ]
        program.maps.setdefault(here, [])
        program.nodes |= {
            f"{here}/out": Guard(
                object=number,
                test=Test.VIA,
                via=Via.PEERING | Via.GATEWAY,
                negate=True,
                reason=Reason.EDGE_TO_EDGE,
                next=f"{here}/out/destination",
            ),
            f"{here}/out/destination": Guard(
                object=number,
                test=Test.DESTINATION_IN,
                table=PRIVATE_SET,
                family=4,
                negate=True,
                reason=Reason.PRIVATE_DESTINATION,
                next=f"{here}/out/source",
            ),
            f"{here}/out/source": Guard(
                object=number,
                test=Test.SOURCE_IN,
                table=sources6,
                family=6,
                reason=Reason.GATEWAY_SPOOFED,
                next=f"{here}/out/translate",
            ),
            f"{here}/out/translate": Rewrite(
                object=number,
                map=here,
                side=Side.SOURCE,
                reason=Reason.PUBLIC_SOURCE_MISSING,
                next=f"{here}/out/hop",
            ),
            f"{here}/out/hop": Hop(object=number, mtu=INTERNET_MTU, ttl=TtlAction.SILENT, next=f"{here}/out/cross"),
            f"{here}/out/cross": Enter(object=number, realm=internet, via=Via.GATEWAY, next=f"{INTERNET}/route"),
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
            f"{here}/in/cross": Enter(object=number, realm=realm, via=Via.GATEWAY, next=f"vpc:{vpc}/deliver"),
        }
        for cidr in topology.vpc(vpc).ipv6_cidrs:
            add_internet_route(program, vpc, cidr)


def label(vpc: str) -> str:
    """The gateway's label, also that of its translations in `Program.maps`."""
    return f"internet-gateway:{vpc}"


def add_internet_route(program: Program, vpc: str, prefix: Network) -> None:
    """Let the internet find `prefix` at the gateway of `vpc`."""
    rule = program.names.intern("route", f"internet {prefix} -> internet-gateway:{vpc}")
    program.fibs.setdefault(INTERNET, []).append(Route(prefix=prefix, node=f"{label(vpc)}/in", rule=rule))


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
