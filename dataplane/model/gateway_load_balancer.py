"""Gateway load balancer: sends all traffic of its endpoints through appliances and back, unchanged.

It has a node, an interface of AWS's, in a subnet of each of its Availability Zones. A packet that reaches an endpoint
in a zone goes, whole, inside a GENEVE packet (RFC 8926) from the node of that zone to a target; what the target sends
back to the node leaves by the same endpoint. All protocols and ports, IPv4 and IPv6; the outer packet is IPv4. Flows
keep their target, in both directions.
https://docs.aws.amazon.com/elasticloadbalancing/latest/gateway/gateway-load-balancers.html
https://docs.aws.amazon.com/elasticloadbalancing/latest/gateway/introduction.html
https://aws.amazon.com/blogs/networking-and-content-delivery/integrate-your-custom-logic-or-appliance-with-aws-gateway-load-balancer/

    there: endpoint -> MTU 8500, TTL - 1 -> **target and cookie of the flow, GENEVE around it** -> from the node
           -> egress rules of its subnet's ACL -> route table of its subnet -> the target's interface and groups
    back:  target -> ingress rules of the ACL of the node's subnet -> **flow of this cookie, GENEVE off** -> endpoint

The outer packet has source port 49152 to 65535, the same for a flow in both directions, destination port 6081, and the
options 0x0108/1 (endpoint), 0x0108/2 (zero) and 0x0108/3 (flow cookie), as captures of real ones show. What comes back
must come from the flow's target, to the same port, with the same endpoint and cookie, and be of the same flow inside.
Nodes answer nothing else; their health checks are real connections from the nodes' addresses.

TCP begins a flow with SYN only. Idle, TCP flows end after `tcp_idle_timeout`, others after 120 s; no reset leaves then,
only, with `send_tcp_reset`, for the next segment.

Deviations from AWS:
- `send_tcp_reset` is the listener's attribute; those of target groups (`send_tcp_reset.on_unhealthy`,
  `send_tcp_reset.on_deregistration`) are not there. It may go with every `stickiness` and with ``rebalance``.
- A TCP connection that is closed, or that an end or its target has reset, is over for the next SYN; other segments are
  of it until it was idle for 60 s (`settings.balancer_closing_timeout`). AWS does not document it.
- `dualstack` is true unless said otherwise: AWS's default is IPv4 only. For it AWS wants IPv6 blocks of the load
  balancer's VPC and subnets; here they need none, as packets between them and targets are IPv4.
- What is neither TCP nor UDP is told apart by protocol and addresses, so all pings between two hosts are one flow, as
  AWS's FAQ says ("3-tuple (for non-TCP/UDP flows)"); of GRE and SCTP it says too that they may land on several targets.
- Later fragments that come back are dropped, as those that an appliance made are, unless a first fragment of the same
  sender has come in with that flow before: whether an appliance has cut anything besides is not looked at.
- The first answer of UDP may come as late as the flow lives; AWS wants it within 30 s.
- A subnet may be taken away from a load balancer by `vpclab apply`; AWS does not allow that.
- Load balancers cannot be made without a target group, and have no listener of their own: it has nothing to say.
- A target group belongs to the VPC of its load balancer.
- A packet to a target does not go through another endpoint, and one from a target that does, and is inspected there
  itself, dies at its load balancer: one GENEVE packet is opened on the way (`GENEVE_NESTED`). AWS documents neither.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from ipaddress import IPv4Address
from typing import TYPE_CHECKING

from dataplane.errors import Problem
from dataplane.limits import (
    BALANCER_FREE_ADDRESSES,
    BALANCER_OTHER_IDLE_S,
    BALANCER_TCP_IDLE_DEFAULT_S,
    BALANCER_TCP_IDLE_S,
    VPC_MTU,
)
from dataplane.model import flow_log, subnet
from dataplane.model._cidr import host_network
from dataplane.model._fields import doc, unknown, within
from dataplane.model._placed import Asked, PlacedInterface, PlacedSubnet, WantedInterface
from dataplane.program import (
    Context,
    Decapsulate,
    Direction,
    Emit,
    FlowGate,
    FlowPolicy,
    GateMode,
    Interface,
    Program,
    Route,
    Timeouts,
)
from dataplane.verdict import Reason

if TYPE_CHECKING:
    from dataplane.topology import Topology

AWS_ADDRESSES = 5
"""How many addresses of a subnet are AWS's own."""


@dataclass(frozen=True, slots=True, kw_only=True)
class GatewayLoadBalancer:
    """A gateway load balancer."""

    subnets: tuple[str, ...] = field(metadata=doc("a subnet of each Availability Zone it works in", ["fw-a", "fw-b"]))
    target_group: str = field(metadata=doc("the target group that gets everything", "fleet"))
    private_ips: dict[str, IPv4Address] = field(
        default_factory=dict,
        metadata=doc("subnet: address of its node there; others get the lowest free one", {"fw-a": "10.9.1.10"}),
    )
    cross_zone: bool = field(default=False, metadata=doc("whether a node may use targets of other zones than its own"))
    tcp_idle_timeout: int = field(
        default=BALANCER_TCP_IDLE_DEFAULT_S,
        metadata=doc("idle seconds after which a TCP flow ends, 60 to 6000; 350 unless stickiness is 5_tuple", 350),
    )
    send_tcp_reset: bool = field(
        default=False, metadata=doc("whether who sends TCP of a flow that timed out, or is unknown, is sent a reset")
    )
    dualstack: bool = field(default=True, metadata=doc("whether it takes IPv6 too; false: IPv4 only"))

    def check(self, topology: Topology, vpc: str, name: str) -> Iterator[Problem]:
        """Yield what AWS would refuse."""
        declared = topology.vpc(vpc)
        if not self.subnets:
            message = "it has no subnet, and so no node"
            yield Problem("subnets", message, "ValidationError", "write a subnet of each Availability Zone")
        for index in range(len(self.subnets)):
            yield from within(f"subnets[{index}]", self._check_subnet(topology, vpc, name, index))
        for each in self.private_ips:
            if each not in self.subnets:
                yield Problem(
                    f"private_ips.{each}",
                    f"{each} is none of its subnets",
                    "InvalidConfigurationRequest",
                    f"its subnets are {', '.join(self.subnets)}",
                )
        if self.target_group not in declared.target_groups:
            known = declared.target_groups
            yield unknown("target_group", f"target group of VPC {vpc}", self.target_group, known, "TargetGroupNotFound")
        for other, balancer in declared.gateway_load_balancers.items():
            if other == name:
                break
            if balancer.target_group == self.target_group:
                message = f"{self.target_group} is the target group of {other} already"
                hint = "a target group is of one load balancer"
                yield Problem("target_group", message, "TargetGroupAssociationLimit", hint)
        if self.tcp_idle_timeout not in BALANCER_TCP_IDLE_S:
            yield Problem(
                "tcp_idle_timeout",
                f"{self.tcp_idle_timeout} is not from {BALANCER_TCP_IDLE_S[0]} to {BALANCER_TCP_IDLE_S[-1]} seconds",
                "InvalidConfigurationRequest",
                f"the default is {BALANCER_TCP_IDLE_DEFAULT_S}",
            )

    def _check_subnet(self, topology: Topology, vpc: str, name: str, index: int) -> Iterator[Problem]:
        known, each, earlier = topology.vpc(vpc).subnets, self.subnets[index], self.subnets[:index]
        if each not in known:
            yield unknown("", f"subnet of VPC {vpc}", each, known, "SubnetNotFound")
            return
        if each in earlier:
            yield Problem("", f"{each} is listed twice", "InvalidConfigurationRequest", "remove one of them")
            return
        zone = topology.zone_of(vpc, each)
        for other in earlier:
            if other in known and topology.zone_of(vpc, other) == zone:
                yield Problem(
                    "",
                    f"{each} is in {zone}, as {other} is",
                    "InvalidConfigurationRequest",
                    "a load balancer has one subnet in each Availability Zone",
                )
                return
        home = topology.subnet(vpc, each)
        taken = sum(
            len(interface.addresses4)
            for interface in topology.interfaces_of_vpc(vpc)
            if interface.subnet is home
            and not (interface.kind == "gateway-load-balancer" and interface.wanted.name == name)
        )
        free = home.cidr.num_addresses - AWS_ADDRESSES - taken
        if free < BALANCER_FREE_ADDRESSES:
            yield Problem(
                "",
                f"subnet {home.path} has {free} free addresses, and {BALANCER_FREE_ADDRESSES} are needed",
                "InvalidSubnet",
                f"{home.cidr} is too small: use a larger one",
            )

    def wanted(self, home: PlacedSubnet, name: str) -> WantedInterface:
        """What its node in subnet `home` needs."""
        at = f"vpcs.{home.vpc}.gateway_load_balancers.{name}"
        address = self.private_ips.get(home.name)
        return WantedInterface(
            kind="gateway-load-balancer",
            path=f"{home.vpc}/{name}-{home.zone}",
            name=name,
            file_path=at,
            subnet=home,
            primary=None if address is None else Asked(f"{at}.private_ips.{home.name}", address),
        )

    def lower(self, topology: Topology, program: Program, vpc: str, name: str) -> None:
        """Make the interface of each node, with the port of the health checks behind it."""
        balancer = number(program, vpc, name)
        timeouts = Timeouts.of_gateway(
            tcp=BALANCER_TCP_IDLE_DEFAULT_S * 1000,
            closing=topology.lab.settings.balancer_closing_timeout * 1000,
            other=BALANCER_OTHER_IDLE_S * 1000,
        )
        for interface in topology.balancer_nodes(vpc, name).values():
            self._lower_node(topology, program, interface, balancer, timeouts)

    def _lower_node(
        self, topology: Topology, program: Program, interface: PlacedInterface, balancer: int, timeouts: Timeouts
    ) -> None:
        home, here, number = interface.subnet, node_label(interface), node_number(program, interface)
        program.flow_policies[here] = FlowPolicy(owner=number, timeouts=timeouts)
        program.interfaces[here] = Interface(
            number=number,
            port=number,
            realm=program.names.intern("vpc", home.vpc),
            mac=interface.mac,
            address4=interface.addresses4[0],
            into=f"{here}/in",
            out=f"{here}/out",
            mtu=VPC_MTU,
            **subnet.interface_fields(program, home),
        )
        entry, neighbours = f"{here}/out", subnet.label(home)
        out = flow_log.lower_out(topology, program, interface, number, f"{here}/out/subnet")
        gate = subnet.entering(program, home, f"{here}/in/tunnel")
        flow_log.lower_in(topology, program, interface, number, f"{here}/in", gate)
        program.contexts.append(Context(number=number, interface=here, entry=entry, neighbours=neighbours))
        program.nodes |= {
            f"{here}/out": FlowGate(
                object=number, policy=here, mode=GateMode.OPEN, direction=Direction.EGRESS, next=out
            ),
            f"{here}/out/subnet": subnet.outgoing(program, home, number),
            f"{here}/in/tunnel": Decapsulate(object=balancer, owner=balancer, otherwise=f"{here}/in/probes"),
            f"{here}/in/probes": FlowGate(
                object=number,
                policy=here,
                mode=GateMode.REQUIRE,
                direction=Direction.INGRESS,
                reason=Reason.ENDPOINT_ADDRESSED,
                next=f"{here}/in/emit",
            ),
            f"{here}/in/emit": Emit(object=number, interface=here),
        }
        program.fibs.setdefault(f"vpc:{home.vpc}/hosts", []).extend(
            Route(prefix=host_network(address), node=f"{here}/in", rule=number) for address in interface.addresses4
        )
        subnet.add_neighbour(program, home, interface.mac, interface.addresses4, f"{here}/in")


def number(program: Program, vpc: str, name: str) -> int:
    """The number of a load balancer, which its nodes share."""
    return program.names.intern("gateway-load-balancer", f"{vpc}/{name}")


def node_number(program: Program, interface: PlacedInterface) -> int:
    """The number of a node's interface and port."""
    home = interface.subnet
    return program.names.intern("gateway-load-balancer-node", f"{home.vpc}/{interface.wanted.name}/{home.name}")


def node_label(interface: PlacedInterface) -> str:
    """The label of a node's interface."""
    return f"gateway-load-balancer:{interface.path}"
