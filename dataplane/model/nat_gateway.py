"""NAT gateway: lets instances open connections to elsewhere, under its own addresses.

It lives in a subnet, with private addresses there; a public one has an Elastic IP for each. A packet routed to it
leaves again from its subnet with a private address and a port of its own as source; the internet gateway then makes the
Elastic IP of it. Answers find the connection by that port. What matches no connection is dropped; who sends TCP from
inside, on a connection that timed out, gets a reset.
https://docs.aws.amazon.com/vpc/latest/userguide/vpc-nat-gateway.html
https://docs.aws.amazon.com/vpc/latest/userguide/nat-gateway-basics.html

    route -> ingress rules of its subnet's ACL -> source is no interface of the VPC? drop -> MTU 8500 -> source to own
    address and port, MSS of SYNs to what fits -> TTL - 1 (it answers when that was the last) -> egress rules of its
    subnet's ACL -> route table of its subnet

TCP, UDP and ICMP are translated, nothing else; fragments of UDP only. The MTU is for packets as they arrive: larger
ones with DF, and all larger ones of IPv6, are dropped and answered with it; of the others UDP leaves in fragments, and
TCP and ICMP are dropped. 55,000 connections per own address and destination address, port and protocol. Idle
connections end after 350 s.

IPv6 packets to 64:ff9b::/96 become IPv4 to the address in their last 32 bits (NAT64, RFC 7915), and the answers IPv6
again: https://docs.aws.amazon.com/vpc/latest/userguide/nat-gateway-nat64-dns64.html

It counts what CloudWatch shows, under CloudWatch's names:
https://docs.aws.amazon.com/vpc/latest/userguide/metrics-dimensions-nat-gateway.html

Deviations from AWS:
- Regional NAT gateways are refused.
- UDP and ICMP time out like TCP, and how long a closed connection keeps its port is not documented: 60 s here
  (`settings.nat_closing_timeout`).
- Which of its addresses a connection gets is by a hash of its addresses and ports.
- Any TCP packet from inside that belongs to no connection is answered with a reset, also if there never was one.
- The largest MSS is 8460, for a SYN to an IPv6 host 8440: what fits into 8500 bytes as it arrives at the gateway.
- NAT64: its own ICMPv6 errors come from 64:ff9b::/96 with its primary address; packets get identification 0 unless they
  are fragments.
- It is available from the start and always (no pending, failed or deleting state), and has no limit of bandwidth or
  packets per second.
- PeakBytesPerSecond and PeakPacketsPerSecond are not kept: lab time may jump.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from ipaddress import IPv4Address, IPv4Network, IPv6Network
from typing import TYPE_CHECKING, Literal

from dataplane.errors import Problem
from dataplane.limits import NAT_FLOWS_PER_DESTINATION, NAT_IDLE_S, NAT_MTU, NAT_PORTS
from dataplane.model import flow_log, network_acl, subnet
from dataplane.model._cidr import Network, host_network, inside
from dataplane.model._fields import doc, unknown
from dataplane.model._placed import Asked, AskedPublic, PlacedSubnet, WantedInterface
from dataplane.model._route_target import RouteTarget
from dataplane.program import (
    Enter,
    Guard,
    Hop,
    Interface,
    NatPolicy,
    NatSession,
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


NAT64_PREFIX = IPv6Network("64:ff9b::/96")
"""The well-known prefix (RFC 6052)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class NatGateway:
    """A zonal NAT gateway."""

    subnet: str = field(metadata=doc("subnet it lives in; its route table needs a route to where it leads", "public"))
    connectivity: Literal["public", "private"] = field(
        default="public", metadata=doc("public: with Elastic IPs, for the internet; private: for other VPCs", "public")
    )
    elastic_ip: IPv4Address | None = field(
        default=None, metadata=doc("the address the internet sees; of a public one", "203.0.113.10")
    )
    private_ip: IPv4Address | None = field(
        default=None, metadata=doc("its address in the subnet; null: the lowest free one", "10.0.1.5")
    )
    secondary_private_ips: tuple[IPv4Address, ...] = field(
        default=(), metadata=doc("further addresses in the subnet, for more connections", ["10.0.1.6"])
    )
    secondary_elastic_ips: tuple[IPv4Address, ...] = field(
        default=(), metadata=doc("the Elastic IP of each further address, in their order", ["203.0.113.11"])
    )

    def check(self, topology: Topology, vpc: str, name: str) -> Iterator[Problem]:
        """Yield what AWS would refuse."""
        known = topology.vpc(vpc).subnets
        if self.subnet not in known:
            yield unknown("subnet", f"subnet of VPC {vpc}", self.subnet, known, "InvalidSubnetID.NotFound")
        yield from self._check_elastic_ips()
        own = 1 + len(self.secondary_private_ips)
        yield from topology.over_quota("private_ips_per_nat_gateway", own, "secondary_private_ips")
        public = (self.elastic_ip is not None) + len(self.secondary_elastic_ips)
        yield from topology.over_quota("elastic_ips_per_nat_gateway", public, "secondary_elastic_ips")

    def _check_elastic_ips(self) -> Iterator[Problem]:
        if self.connectivity == "private":
            if self.elastic_ip is not None or self.secondary_elastic_ips:
                key = "elastic_ip" if self.elastic_ip is not None else "secondary_elastic_ips"
                message = "a private NAT gateway has no Elastic IPs"
                yield Problem(
                    key, message, "InvalidParameterCombination", "leave it out, or write connectivity: public"
                )
            return
        if self.elastic_ip is None:
            message = "a public NAT gateway needs an Elastic IP"
            yield Problem("", message, "MissingParameter", "write elastic_ip, or connectivity: private")
        if len(self.secondary_elastic_ips) != len(self.secondary_private_ips):
            yield Problem(
                "secondary_elastic_ips",
                f"there are {len(self.secondary_private_ips)} secondary addresses and "
                f"{len(self.secondary_elastic_ips)} Elastic IPs for them",
                "InvalidParameterCombination",
                "a public NAT gateway has one for each",
            )

    def wanted(self, home: PlacedSubnet, name: str) -> WantedInterface:
        """What its interface needs; `home` is its subnet."""
        at = f"vpcs.{home.vpc}.nat_gateways.{name}"
        public = [] if self.elastic_ip is None else [AskedPublic(f"{at}.elastic_ip", None, self.elastic_ip)]
        pairs = zip(self.secondary_private_ips, self.secondary_elastic_ips, strict=False)
        public += [AskedPublic(f"{at}.secondary_elastic_ips[{i}]", *pair) for i, pair in enumerate(pairs)]
        return WantedInterface(
            kind="nat-gateway",
            path=f"{home.vpc}/{name}",
            name=name,
            file_path=at,
            subnet=home,
            primary=None if self.private_ip is None else Asked(f"{at}.private_ip", self.private_ip),
            secondary=tuple(
                Asked(f"{at}.secondary_private_ips[{i}]", address)
                for i, address in enumerate(self.secondary_private_ips)
            ),
            elastic_ips=tuple(public),
        )

    def lower(self, topology: Topology, program: Program, vpc: str, name: str) -> None:
        """Make its interface, without a port, and the way through it."""
        here = label(vpc, name)
        interface = topology.nat_interface(vpc, name)
        home = interface.subnet
        number = program.names.intern("nat-gateway", f"{vpc}/{name}")
        realm = program.names.intern("vpc", vpc)
        addresses = interface.addresses4
        idle, closing = NAT_IDLE_S * 1000, topology.lab.settings.nat_closing_timeout * 1000
        out = flow_log.lower_out(topology, program, interface, number, subnet.leave_label(home))
        gate = network_acl.crossing(program, home, "ingress", f"{here}/own")
        flow_log.lower_in(topology, program, interface, number, f"{here}/in", gate)
        program.sets[here] = [host_network(address) for address in addresses]
        program.interfaces[here] = Interface(
            number=number,
            realm=realm,
            mac=interface.mac,
            address4=addresses[0],
            address6=NAT64_PREFIX[int(addresses[0])],  # where its errors come from, as IPv6 hosts see it
            into=f"{here}/in",
            out=out,
            mtu=NAT_MTU,
            via=Via.NAT | Via.TRACKED,
            **subnet.interface_fields(program, home),
        )
        program.nat_policies[here] = NatPolicy(
            owner=number,
            addresses=addresses,
            port_first=NAT_PORTS.start,
            port_last=NAT_PORTS.stop - 1,
            per_destination=NAT_FLOWS_PER_DESTINATION,
            prefix6=NAT64_PREFIX,
            timeouts=Timeouts.of_gateway(tcp=idle, closing=closing, other=idle),
        )
        program.nodes |= {
            # Answers are addressed to the gateway itself, whoever sends them.
            f"{here}/own": Guard(
                object=number,
                test=Test.DESTINATION_IN,
                table=here,
                otherwise=f"{here}/origin",
                next=f"{here}/translate",
            ),
            f"{here}/origin": Guard(
                object=number,
                test=Test.SOURCE_IN,
                table=_sources(vpc),
                reason=Reason.NAT_FROM_PEER,
                next=f"{here}/translate",
            ),
            f"{here}/translate": NatSession(
                object=number, policy=here, answer_as=here, mtu=NAT_MTU, next=f"{here}/hop"
            ),
            f"{here}/hop": Hop(object=number, ttl=TtlAction.ANSWER, answer_as=here, next=f"{here}/cross"),
            f"{here}/cross": Enter(object=number, realm=realm, interface=here, via=Via.NAT | Via.TRACKED, next=out),
        }
        program.fibs.setdefault(f"vpc:{vpc}/hosts", []).extend(
            Route(prefix=host_network(address), node=f"{here}/in", rule=number) for address in addresses
        )
        subnet.add_neighbour(program, home, interface.mac, addresses, f"{here}/in")


def label(vpc: str, name: str) -> str:
    """The gateway's label."""
    return f"nat-gateway:{vpc}/{name}"


def lower_sources(topology: Topology, program: Program, vpc: str) -> None:
    """Say whose packets gateways of a VPC take: those from an address of an interface there."""
    if topology.vpc(vpc).nat_gateways:
        program.sets[_sources(vpc)] = [
            *(host_network(address) for each in topology.interfaces_of_vpc(vpc) for address in each.addresses4),
            *(host_network(address) for each in topology.interfaces_of_vpc(vpc) for address in each.addresses6),
        ]


def _sources(vpc: str) -> str:
    return f"vpc:{vpc}/interfaces"


class NatGatewayTarget(RouteTarget):
    """A NAT gateway of the VPC."""

    word = "nat-gateway"
    inside_vpc = True

    def check(self, topology: Topology, vpc: str, destination: Network) -> Iterator[Problem]:
        """Yield a problem when there is none of the name, or the route is for IPv6."""
        known = topology.vpc(vpc).nat_gateways
        if self.name not in known:
            yield unknown("", f"NAT gateway of VPC {vpc}", self.name, known, "InvalidNatGatewayID.NotFound")
        elif not isinstance(destination, IPv4Network) and not inside(destination, NAT64_PREFIX):
            yield Problem(
                "",
                f"{destination} is IPv6, of which NAT gateways translate {NAT64_PREFIX} only",
                "InvalidParameterValue",
                f"write destination: {NAT64_PREFIX}, or an egress-only-internet-gateway for the rest",
            )

    def label(self, topology: Topology, vpc: str) -> str | None:
        """Its way in."""
        return f"{label(vpc, self.name)}/in"
