"""Public NAT gateway: lets instances without a public address open connections to the internet.

It lives in a subnet, with a private address there and an Elastic IP. A packet routed to it leaves again from its
subnet with its private address and a port of its own as source; the internet gateway then makes the Elastic IP of it.
Answers find the connection by that port. What matches no connection is dropped.
https://docs.aws.amazon.com/vpc/latest/userguide/vpc-nat-gateway.html
https://docs.aws.amazon.com/vpc/latest/userguide/nat-gateway-basics.html

    route -> ingress rules of its subnet's ACL -> came by peering? drop -> source to own address and port -> MTU 8500,
    TTL - 1 (it answers when that was the last) -> egress rules of its subnet's ACL -> route table of its subnet

TCP, UDP and ICMP are translated, nothing else; fragments of UDP only. 55,000 connections per destination address, port
and protocol. Idle connections end after 350 s.

Deviations from AWS:
- Answers come back by the route tables of the far end; AWS brings them back even where a peer VPC has no route.
- A packet of a connection that has ended is dropped; AWS answers packets from inside with a reset.
- NAT64, secondary addresses, private and regional NAT gateways are refused.
- How long a closed connection keeps its port is not documented: 60 s here.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from ipaddress import IPv4Address, IPv4Network
from typing import TYPE_CHECKING

from dataplane.errors import Problem
from dataplane.limits import NAT_FLOWS_PER_DESTINATION, NAT_MTU, NAT_PORTS, NAT_TIMEOUTS
from dataplane.model import network_acl, subnet
from dataplane.model._cidr import Network, host_network
from dataplane.model._fields import doc, unknown
from dataplane.model._placed import Asked, AskedPublic, PlacedSubnet, WantedInterface
from dataplane.model._route_target import RouteTarget
from dataplane.program import Enter, Guard, Hop, Interface, NatPolicy, NatSession, Program, Route, Test, TtlAction, Via
from dataplane.verdict import Reason

if TYPE_CHECKING:
    from dataplane.topology import Topology


@dataclass(frozen=True, slots=True, kw_only=True)
class NatGateway:
    """A public NAT gateway."""

    subnet: str = field(
        metadata=doc("subnet it lives in; its route table needs a route to the internet gateway", "public")
    )
    elastic_ip: IPv4Address = field(metadata=doc("the address the internet sees", "203.0.113.10"))
    private_ip: IPv4Address | None = field(
        default=None, metadata=doc("its address in the subnet; null: the lowest free one", "10.0.1.5")
    )

    def check(self, topology: Topology, vpc: str, name: str) -> Iterator[Problem]:
        """Yield what AWS would refuse."""
        known = topology.vpc(vpc).subnets
        if self.subnet not in known:
            yield unknown("subnet", f"subnet of VPC {vpc}", self.subnet, known, "InvalidSubnetID.NotFound")

    def wanted(self, home: PlacedSubnet, name: str) -> WantedInterface:
        """What its interface needs; `home` is its subnet."""
        at = f"vpcs.{home.vpc}.nat_gateways.{name}"
        return WantedInterface(
            kind="nat-gateway",
            path=f"{home.vpc}/{name}",
            name=name,
            file_path=at,
            subnet=home,
            primary=None if self.private_ip is None else Asked(f"{at}.private_ip", self.private_ip),
            elastic_ips=(AskedPublic(f"{at}.elastic_ip", None, self.elastic_ip),),
        )

    def lower(self, topology: Topology, program: Program, vpc: str, name: str) -> None:
        """Make its interface, without a port, and the way through it."""
        here = label(vpc, name)
        interface = topology.nat_interface(vpc, name)
        home = interface.subnet
        number = program.names.intern("nat-gateway", f"{vpc}/{name}")
        realm = program.names.intern("vpc", vpc)
        address = interface.addresses4[0]
        leave = subnet.leave_label(home)
        program.sets[here] = [host_network(address)]
        program.interfaces[here] = Interface(
            number=number,
            realm=realm,
            mac=interface.mac,
            address4=address,
            into=f"{here}/in",
            out=leave,
            mtu=NAT_MTU,
            **subnet.interface_fields(program, home),
        )
        program.nat_policies[here] = NatPolicy(
            owner=number,
            addresses=(address,),
            port_first=NAT_PORTS.start,
            port_last=NAT_PORTS.stop - 1,
            per_destination=NAT_FLOWS_PER_DESTINATION,
            timeouts=NAT_TIMEOUTS,
        )
        program.nodes |= {
            f"{here}/in": network_acl.crossing(program, home, "ingress", f"{here}/own"),
            # An answer that comes back over a peering is addressed to the gateway itself; that one may pass.
            f"{here}/own": Guard(
                object=number,
                test=Test.DESTINATION_IN,
                table=here,
                otherwise=f"{here}/origin",
                next=f"{here}/translate",
            ),
            f"{here}/origin": Guard(
                object=number,
                test=Test.VIA,
                via=Via.PEERING,
                negate=True,
                reason=Reason.NAT_FROM_PEER,
                next=f"{here}/translate",
            ),
            f"{here}/translate": NatSession(object=number, policy=here, next=f"{here}/hop"),
            f"{here}/hop": Hop(object=number, mtu=NAT_MTU, ttl=TtlAction.ANSWER, answer_as=here, next=f"{here}/cross"),
            f"{here}/cross": Enter(object=number, realm=realm, interface=here, via=Via.NAT, next=leave),
        }
        program.fibs.setdefault(f"vpc:{vpc}/hosts", []).append(
            Route(prefix=host_network(address), node=f"{here}/in", rule=number)
        )
        subnet.add_neighbour(program, home, interface.mac, (address,), f"{here}/in")


def label(vpc: str, name: str) -> str:
    """The gateway's label."""
    return f"nat-gateway:{vpc}/{name}"


class NatGatewayTarget(RouteTarget):
    """A NAT gateway of the VPC."""

    word = "nat-gateway"
    inside_vpc = True

    def check(self, topology: Topology, vpc: str, destination: Network) -> Iterator[Problem]:
        """Yield a problem when there is none of the name, or the route is for IPv6."""
        known = topology.vpc(vpc).nat_gateways
        if self.name not in known:
            yield unknown("", f"NAT gateway of VPC {vpc}", self.name, known, "InvalidNatGatewayID.NotFound")
        elif not isinstance(destination, IPv4Network):
            yield Problem(
                "",
                f"{destination} is IPv6, and NAT gateways translate IPv4 only here",
                "InvalidParameterValue",
                "remove the route: NAT64 does not exist here",
            )

    def label(self, topology: Topology, vpc: str) -> str | None:
        """Its way in."""
        return f"{label(vpc, self.name)}/in"
