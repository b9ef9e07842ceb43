"""Gateway load balancer endpoint: where a route leads to for inspection, in a subnet of the VPC that wants it.

What is routed to it goes to the load balancer of its service, through an appliance and back, and leaves the endpoint
unchanged: from then on the route table *of the endpoint's subnet* decides. So it lives in another subnet than those
whose routes lead to it. It has no security group; the network ACL of its subnet applies.
https://docs.aws.amazon.com/vpc/latest/privatelink/gateway-load-balancer-endpoints.html
https://docs.aws.amazon.com/elasticloadbalancing/latest/gateway/getting-started.html

    in:   route -> not available? drop -> ingress rules of its subnet's ACL -> MTU 8500 (silent; MSS is lowered to fit),
          TTL - 1 (silent) -> **load balancer node of its zone**
    back: **from the node** -> TTL - 1 (silent) -> inside its subnet? delivery, else -> egress rules of its subnet's ACL
          -> route table of its subnet

Routes lead to it from subnets, from an internet gateway's table, and, for whole subnets, instead of `local`. What is
sent to the endpoint's own address dies there.

Deviations from AWS:
- The id is derived from the name, unless it is written.
- An endpoint that is not available keeps its address and drops what is routed to it.
- What a TTL loses at an endpoint is not documented: one on each way, as captures show.
- The status of a flow is kept at the endpoint: two endpoints of one service never share a flow.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from hashlib import blake2b
from ipaddress import IPv4Address
from typing import TYPE_CHECKING, Literal

from dataplane.errors import Problem
from dataplane.limits import BALANCER_OTHER_IDLE_S, BALANCER_TCP_IDLE_DEFAULT_S, ENDPOINT_MTU
from dataplane.model import gateway_load_balancer, subnet, target_group
from dataplane.model._cidr import Network, host_network
from dataplane.model._fields import doc
from dataplane.model._placed import Asked, PlacedSubnet, WantedInterface
from dataplane.model._route_target import RouteTarget
from dataplane.program import (
    Drop,
    Encapsulate,
    Enter,
    Hop,
    Interface,
    Program,
    Route,
    Timeouts,
    TtlAction,
    Tunnel,
    Via,
)
from dataplane.verdict import Reason

if TYPE_CHECKING:
    from dataplane.topology import Topology

Status = Literal["available", "pendingAcceptance", "rejected"]


@dataclass(frozen=True, slots=True, kw_only=True)
class GatewayLoadBalancerEndpoint:
    """A gateway load balancer endpoint."""

    service: str = field(metadata=doc("the endpoint service, as VPC/NAME", "security/inspection"))
    subnet: str = field(metadata=doc("subnet it lives in; its route table says where packets go afterwards", "gwlbe"))
    private_ip: IPv4Address | None = field(
        default=None, metadata=doc("its address in the subnet; null: the lowest free one", "10.0.3.10")
    )
    id: str | None = field(
        default=None,
        metadata=doc("vpce- and 16 hexadecimal digits, or 0 and 16; null: made of its name", "vpce-0f583215d2e66b39c"),
    )

    def identifier(self, vpc: str, name: str) -> str:
        """Its id: ``vpce-`` and 16 or 17 hexadecimal digits."""
        if self.id is not None:
            return self.id
        return f"vpce-0{blake2b(f'{vpc}/{name}'.encode(), digest_size=8).hexdigest()}"

    def endpoint_id(self, vpc: str, name: str) -> int:
        """Its id as it stands in every GENEVE packet: 64 bits."""
        return int(self.identifier(vpc, name).removeprefix("vpce-"), 16)

    def status(self, topology: Topology, vpc: str, name: str) -> Status:
        """What has become of it at its service."""
        _, service = topology.endpoint_service(self.service)
        path = f"{vpc}/{name}"
        if path in service.rejected:
            return "rejected"
        return "available" if not service.acceptance_required or path in service.accepted else "pendingAcceptance"

    def check(self, topology: Topology, vpc: str, name: str) -> Iterator[Problem]:
        """Yield what AWS would refuse."""
        yield from ()

    def wanted(self, home: PlacedSubnet, name: str) -> WantedInterface:
        """What its interface needs; `home` is its subnet."""
        at = f"vpcs.{home.vpc}.gateway_load_balancer_endpoints.{name}"
        return WantedInterface(
            kind="vpc-endpoint",
            path=f"{home.vpc}/{name}",
            name=name,
            file_path=at,
            subnet=home,
            primary=None if self.private_ip is None else Asked(f"{at}.private_ip", self.private_ip),
        )

    def lower(self, topology: Topology, program: Program, vpc: str, name: str) -> None:
        """Make its interface, without a port, and both ways through it."""
        here, interface = label(vpc, name), topology.endpoint_interface(vpc, name)
        home = interface.subnet
        number = program.names.intern("vpc-endpoint", f"{vpc}/{name}")
        realm = program.names.intern("vpc", vpc)
        leave = subnet.leave_label(home)
        program.interfaces[here] = Interface(
            number=number,
            realm=realm,
            mac=interface.mac,
            address4=interface.addresses4[0],
            into=f"{here}/own",
            out=leave,
            mtu=ENDPOINT_MTU,
            via=Via.ENDPOINT,
            **subnet.interface_fields(program, home),
        )
        program.nodes |= {
            f"{here}/own": subnet.entering(program, home, f"{here}/addressed"),
            f"{here}/addressed": Drop(object=number, reason=Reason.ENDPOINT_ADDRESSED),
        }
        program.fibs.setdefault(f"vpc:{vpc}/hosts", []).extend(
            Route(prefix=host_network(address), node=f"{here}/own", rule=number) for address in interface.addresses4
        )
        subnet.add_neighbour(program, home, interface.mac, interface.addresses4, f"{here}/own")
        if self.status(topology, vpc, name) != "available":
            program.nodes[f"{here}/in"] = Drop(object=number, reason=Reason.ENDPOINT_UNAVAILABLE)
            return
        program.nodes |= {
            f"{here}/in": subnet.entering(program, home, f"{here}/hop"),
            f"{here}/hop": Hop(
                object=number,
                mtu=ENDPOINT_MTU,
                answers_mtu=False,
                fragments=False,
                clamps_mss=True,
                ttl=TtlAction.SILENT,
                next=f"{here}/tunnel",
            ),
            f"{here}/back": Enter(
                object=number, realm=realm, interface=here, via=Via.ENDPOINT, next=f"{here}/back/hop"
            ),
            f"{here}/back/hop": Hop(object=number, ttl=TtlAction.SILENT, next=leave),
        }
        self._lower_tunnel(topology, program, vpc, name)

    def _lower_tunnel(self, topology: Topology, program: Program, vpc: str, own_name: str) -> None:
        here, number = label(vpc, own_name), program.names.intern("vpc-endpoint", f"{vpc}/{own_name}")
        zone = topology.zone_of(vpc, self.subnet)
        provider, service = topology.endpoint_service(self.service)
        name = service.gateway_load_balancer
        balancer = topology.vpc(provider).gateway_load_balancers[name]
        group = topology.vpc(provider).target_groups[balancer.target_group]
        node = topology.balancer_nodes(provider, name)[zone]
        balancer_number = gateway_load_balancer.number(program, provider, name)
        idle = balancer.tcp_idle_timeout if group.stickiness == "5_tuple" else BALANCER_TCP_IDLE_DEFAULT_S
        program.tunnels[here] = Tunnel(
            owner=number,
            endpoint_id=self.endpoint_id(vpc, own_name),
            balancer=balancer_number,
            interface=here,
            source=node.addresses4[0],
            spread=target_group.spread_label(provider, balancer.target_group, zone),
            resume=f"{here}/back",
            resets=balancer.send_tcp_reset,
            timeouts=Timeouts.of_gateway(
                tcp=idle * 1000,
                closing=topology.lab.settings.balancer_closing_timeout * 1000,
                other=BALANCER_OTHER_IDLE_S * 1000,
            ),
        )
        program.nodes |= {
            f"{here}/tunnel": Encapsulate(object=balancer_number, tunnel=here, next=f"{here}/node"),
            f"{here}/node": Enter(
                object=gateway_load_balancer.node_number(program, node),
                realm=program.names.intern("vpc", provider),
                interface=gateway_load_balancer.node_label(node),
                next=subnet.leave_label(node.subnet),
            ),
        }


def label(vpc: str, name: str) -> str:
    """The endpoint's label."""
    return f"vpc-endpoint:{vpc}/{name}"


class VpcEndpointTarget(RouteTarget):
    """A gateway load balancer endpoint of the VPC."""

    word = "vpc-endpoint"
    inside_vpc = True

    def check(self, topology: Topology, vpc: str, destination: Network) -> Iterator[Problem]:
        """Yield a problem when there is none of the name."""
        yield from ()

    def label(self, topology: Topology, vpc: str) -> str | None:
        """Its way in."""
        return f"{label(vpc, self.name)}/in"
