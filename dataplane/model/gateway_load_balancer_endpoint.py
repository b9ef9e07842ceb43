"""Gateway load balancer endpoint: where a route leads to for inspection, in a subnet of the VPC that wants it.

What is routed to it goes to the load balancer of its service, through an appliance and back, and leaves the endpoint
unchanged: from then on the route table *of the endpoint's subnet* decides. So it lives in another subnet than those
whose routes lead to it. It has no security group; the network ACL of its subnet applies.
https://docs.aws.amazon.com/vpc/latest/privatelink/gateway-load-balancer-endpoints.html
https://docs.aws.amazon.com/elasticloadbalancing/latest/gateway/getting-started.html

    in:   route -> not available? drop -> ingress rules of its subnet's ACL -> MTU 8500 (silent; MSS is lowered to fit),
          TTL - 1 (silent) -> **load balancer node of its zone**
    back: **from the node** -> MTU 8500 (silent), TTL - 1 (silent) -> inside its subnet? delivery, else -> egress rules
          of its subnet's ACL -> route table of its subnet

Routes lead to it from subnets, from an internet gateway's table, and, for whole subnets, instead of `local`. What is
sent to the endpoint's own address dies there.

Deviations from AWS:
- The id is derived from the name, unless it is written.
- A route of its own subnet's table cannot lead to it. AWS tells to have it in another subnet than the servers, and does
  not say what becomes of one that is not.
- It takes IPv6 where its load balancer does, and has no IPv6 address: flow logs show its IPv4 address only. AWS gives
  it one, and so wants an IPv6 block of its subnet.
- An endpoint that is not available keeps its address and drops what is routed to it.
- What a TTL loses at an endpoint is not documented: one on each way, as captures show.
- The status of a flow is kept at the endpoint: two endpoints of one service never share a flow.
- An ICMP error about what has left an endpoint (too large for the internet gateway behind it) comes from the router of
  the endpoint's subnet and is routed by that subnet's table, past the appliances.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from hashlib import blake2b
from ipaddress import IPv4Address
from typing import TYPE_CHECKING, Literal

from dataplane.errors import Problem
from dataplane.limits import BALANCER_OTHER_IDLE_S, BALANCER_TCP_IDLE_DEFAULT_S, ENDPOINT_MTU
from dataplane.model import flow_log, gateway_load_balancer, subnet, target_group
from dataplane.model._cidr import Network, host_network
from dataplane.model._fields import doc, unknown
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

_ID = re.compile(r"vpce-0?[0-9a-f]{16}")
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
        return self.made_id(vpc, name)

    @staticmethod
    def made_id(vpc: str, name: str) -> str:
        """The id of an endpoint for which none is written."""
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

    def is_dualstack(self, topology: Topology) -> bool:
        """Whether its load balancer takes IPv6; true while there is none."""
        provider, _, service_name = self.service.partition("/")
        declared = topology.lab.vpcs.get(provider)
        service = None if declared is None else declared.endpoint_services.get(service_name)
        if declared is None or service is None:
            return True
        balancer = declared.gateway_load_balancers.get(service.gateway_load_balancer)
        return balancer is None or balancer.dualstack

    def check(self, topology: Topology, vpc: str, name: str) -> Iterator[Problem]:
        """Yield what AWS would refuse."""
        declared = topology.vpc(vpc)
        if self.subnet not in declared.subnets:
            known = declared.subnets
            yield unknown("subnet", f"subnet of VPC {vpc}", self.subnet, known, "InvalidSubnetID.NotFound")
        yield from self._check_service(topology, vpc, name)
        yield from self._check_id(topology, vpc, name)
        if name in declared.gateway_endpoints:
            yield Problem("", f"a gateway endpoint is called {name} too", "", "write another name")

    def _check_service(self, topology: Topology, vpc: str, name: str) -> Iterator[Problem]:
        lab, declared = topology.lab, topology.vpc(vpc)
        known = [f"{v}/{s}" for v, each in lab.vpcs.items() for s in each.endpoint_services]
        if self.service not in known:
            yield unknown("service", "endpoint service", self.service, known, "InvalidServiceName")
            return
        provider, service = topology.endpoint_service(self.service)
        if topology.region_of(provider) != topology.region_of(vpc):
            message = f"service {self.service} is in {topology.region_of(provider)}, VPC {vpc} in another Region"
            yield Problem("service", message, "InvalidServiceName", "a service is known in its own Region only")
            return
        if not service.allows(lab.vpcs[provider].account, declared.account):
            message = f"service {self.service} does not allow account {declared.account}"
            hint = f"write vpcs.{provider}.endpoint_services.{self.service.partition('/')[2]}.allowed_principals"
            yield Problem("service", message, "InvalidServiceName", hint)
        balancer = lab.vpcs[provider].gateway_load_balancers.get(service.gateway_load_balancer)
        if balancer is None or self.subnet not in declared.subnets:
            return
        zone, zones = (
            topology.zone_of(vpc, self.subnet),
            topology.balancer_nodes(provider, service.gateway_load_balancer),
        )
        if zones and zone not in zones:
            yield Problem(
                "subnet",
                f"service {self.service} is not offered in {zone}, where subnet {self.subnet} is",
                "InvalidParameter",
                f"its load balancer has nodes in {', '.join(zones)}",
            )
        for other, earlier in declared.gateway_load_balancer_endpoints.items():
            if other == name:
                break
            is_same = earlier.service == self.service and earlier.subnet in declared.subnets
            if is_same and topology.zone_of(vpc, earlier.subnet) == zone:
                message = f"{other} is an endpoint of service {self.service} in {zone} already"
                hint = "a VPC has one for each service and Availability Zone"
                yield Problem("subnet", message, "DuplicateSubnetsInSameZone", hint)

    def _check_id(self, topology: Topology, vpc: str, name: str) -> Iterator[Problem]:
        if self.id is None:
            return
        if not _ID.fullmatch(self.id):
            message = f"{self.id} is no endpoint id"
            hint = f"write vpce-, 0 and 16 hexadecimal digits, as {GatewayLoadBalancerEndpoint.made_id(vpc, name)}"
            yield Problem("id", message, "InvalidVpcEndpointId.Malformed", hint)
            return
        for other_vpc, declared in topology.lab.vpcs.items():
            for other, each in declared.gateway_load_balancer_endpoints.items():
                path, is_valid = (other_vpc, other), each.id is None or _ID.fullmatch(each.id)
                if path != (vpc, name) and is_valid and each.endpoint_id(*path) == self.endpoint_id(vpc, name):
                    yield Problem("id", f"endpoint {other_vpc}/{other} has {self.id} too", "", "write another one")

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
        out = flow_log.lower_out(topology, program, interface, number, leave)
        gate = subnet.entering(program, home, f"{here}/addressed")
        flow_log.lower_in(topology, program, interface, number, f"{here}/own", gate)
        program.interfaces[here] = Interface(
            number=number,
            realm=realm,
            mac=interface.mac,
            address4=interface.addresses4[0],
            into=leave,  # errors about what has left it: its subnet's router sends them back the way of that subnet
            out=out,
            mtu=ENDPOINT_MTU,
            via=Via.ENDPOINT,
            **subnet.interface_fields(program, home),
        )
        program.nodes |= {
            f"{here}/addressed": Drop(object=number, reason=Reason.ENDPOINT_ADDRESSED),
        }
        program.fibs.setdefault(f"vpc:{vpc}/hosts", []).extend(
            Route(prefix=host_network(address), node=f"{here}/own", rule=number) for address in interface.addresses4
        )
        subnet.add_neighbour(program, home, interface.mac, interface.addresses4, f"{here}/own")
        if self.status(topology, vpc, name) != "available":
            program.nodes[f"{here}/in"] = Drop(object=number, reason=Reason.ENDPOINT_UNAVAILABLE)
            return
        gate = subnet.entering(program, home, f"{here}/hop")
        flow_log.lower_in(topology, program, interface, number, f"{here}/in", gate)
        program.nodes |= {
            f"{here}/hop": Hop(
                object=number,
                mtu=ENDPOINT_MTU,
                answers_mtu=False,
                fragments=False,
                clamps_mss=True,
                ttl=TtlAction.SILENT,
                next=f"{here}/tunnel",
            ),
            f"{here}/back": Hop(
                object=number,
                mtu=ENDPOINT_MTU,
                answers_mtu=False,
                fragments=False,
                ttl=TtlAction.SILENT,
                next=f"{here}/back/cross",
            ),
            f"{here}/back/cross": Enter(object=number, realm=realm, interface=here, via=Via.ENDPOINT, next=out),
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
                next=flow_log.lower_out(
                    topology,
                    program,
                    node,
                    gateway_load_balancer.node_number(program, node),
                    subnet.leave_label(node.subnet),
                ),
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
        """Yield a problem when there is none of the name, or the route is for IPv6 and the load balancer is not."""
        declared = topology.vpc(vpc)
        known = declared.gateway_load_balancer_endpoints
        if self.name in known:
            if destination.version == 6 and not known[self.name].is_dualstack(topology):
                message = f"{destination} is IPv6, and the load balancer of {self.name} takes IPv4 only"
                yield Problem("", message, "InvalidParameterValue", "write dualstack: true there")
        elif self.name in declared.gateway_endpoints:
            message = f"{self.name} is a gateway endpoint, to which no route is written"
            hint = f"write the table in vpcs.{vpc}.gateway_endpoints.{self.name}.route_tables"
            yield Problem("", message, "InvalidParameterValue", hint)
        else:
            what = f"gateway load balancer endpoint of VPC {vpc}"
            yield unknown("", what, self.name, known, "InvalidVpcEndpointId.NotFound")

    def check_table(self, topology: Topology, vpc: str, table: str) -> Iterator[Problem]:
        """Yield a problem when the endpoint's own subnet uses the table: what it has let pass would come again."""
        endpoint = topology.find_endpoint(vpc, self.name)
        if endpoint is not None and endpoint.subnet.route_table == table:
            yield Problem(
                "",
                f"{self.name} is in subnet {endpoint.subnet.name}, which uses this table",
                "",
                "an endpoint is in another subnet than those whose routes lead to it",
            )

    def label(self, topology: Topology, vpc: str) -> str | None:
        """Its way in."""
        return f"{label(vpc, self.name)}/in"
