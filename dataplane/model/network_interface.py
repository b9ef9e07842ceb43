"""Network interface (ENI): where packets enter and leave the network.

It lives in a subnet and has private addresses (a primary IPv4 one, perhaps more, perhaps IPv6), security groups and
the source/destination check, which drops what is not from or for an address of its own. Every instance has a first one
of its own; further ones are declared here and attached. Not attached, an interface keeps its addresses and drops.
https://docs.aws.amazon.com/AWSEC2/latest/UserGuide/using-eni.html

    out: guest -> to the subnet's router? it answers -> source check -> egress rules of the groups -> subnet
    in:  ingress rules of the ACL, unless from the same subnet -> ingress rules of the groups -> destination check
         -> guest

Deviations from AWS:
- An interface is attached only in its own VPC and Availability Zone, at a device index from 1 to 14.
- How many interfaces and addresses there may be does not depend on an instance type.
- What a guest sends in packets of more than 9001 bytes is dropped in silence where it comes in, as hardware does with
  frames that are too long for it. AWS documents the MTU, not what becomes of larger packets.
- Delegated prefixes do not exist here. The MAC is derived from the name and stays the same.
- Fragments that leave an interface are not limited (AWS: 1,024 packets per second).
- An interface remembers flows as long as it stays attached where it is. Attached to another instance, it begins anew,
  and an address that moves to another interface is judged by that one's groups and memory; AWS does not document it.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from ipaddress import IPv4Address, IPv6Address
from typing import TYPE_CHECKING

from dataplane.errors import Problem
from dataplane.limits import VPC_MTU
from dataplane.model import flow_log, security_group, subnet
from dataplane.model._cidr import Address, Network, host_network
from dataplane.model._fields import did_you_mean, doc, unknown, within
from dataplane.model._placed import Asked, AskedPublic, PlacedInterface, PlacedSubnet, WantedInterface
from dataplane.model._route_target import RouteTarget
from dataplane.model.connection_tracking import ConnectionTracking
from dataplane.model.subnet import Subnet
from dataplane.program import (
    Context,
    Direction,
    Drop,
    Emit,
    Enter,
    GroupSession,
    Guard,
    Interface,
    Program,
    Route,
    Test,
)
from dataplane.verdict import Reason

if TYPE_CHECKING:
    from dataplane.topology import Topology

DEVICE_INDEXES = range(1, 15)


@dataclass(frozen=True, slots=True, kw_only=True)
class Attachment:
    """Which instance an interface belongs to."""

    instance: str = field(metadata=doc("the instance", "fw"))
    device_index: int = field(metadata=doc("1 and up; the device inside is called eth1 and so on", 1))


@dataclass(frozen=True, slots=True, kw_only=True)
class NetworkInterface:
    """A network interface besides the first one of an instance."""

    subnet: str = field(metadata=doc("subnet it lives in", "public"))
    private_ips: tuple[IPv4Address, ...] = field(
        default=(), metadata=doc("private IPv4 addresses, the primary one first; []: the lowest free one", ["10.0.1.7"])
    )
    ipv6_addresses: tuple[IPv6Address, ...] = field(default=(), metadata=doc("IPv6 addresses", ["2001:db8:0:1::7"]))
    security_groups: tuple[str, ...] = field(default=(), metadata=doc("security groups; []: the default one", ["web"]))
    source_dest_check: bool = field(
        default=True, metadata=doc("whether to drop what is neither from nor for it; false for appliances that forward")
    )
    connection_tracking: ConnectionTracking = field(
        default=ConnectionTracking(), metadata=doc("how long its security groups remember idle flows")
    )
    elastic_ips: dict[IPv4Address, IPv4Address] = field(
        default_factory=dict, metadata=doc("private address: its Elastic IP", {"10.0.1.7": "203.0.113.27"})
    )
    attachment: Attachment | None = field(default=None, metadata=doc("instance it belongs to; null: none"))

    def check(self, topology: Topology, vpc: str, name: str) -> Iterator[Problem]:
        """Yield what AWS would refuse."""
        known = topology.vpc(vpc).subnets
        if self.subnet not in known:
            yield unknown("subnet", f"subnet of VPC {vpc}", self.subnet, known, "InvalidSubnetID.NotFound")
        groups = security_group.check_membership(topology, vpc, self.security_groups)
        yield from within("security_groups", groups)
        yield from within("connection_tracking", self.connection_tracking.check())
        if self.attachment is not None:
            yield from within("attachment", self._check_attachment(topology, vpc, name, self.attachment))

    def _check_attachment(self, topology: Topology, vpc: str, name: str, attachment: Attachment) -> Iterator[Problem]:
        instances = topology.lab.instances
        instance = instances.get(attachment.instance)
        if attachment.device_index not in DEVICE_INDEXES:
            yield Problem(
                "device_index",
                f"{attachment.device_index} is not from 1 to {DEVICE_INDEXES[-1]}",
                "InvalidParameterValue",
                "0 is the instance's own first interface",
            )
        if instance is None:
            yield unknown("instance", "instance", attachment.instance, instances, "InvalidInstanceID.NotFound")
            return
        if instance.vpc != vpc:
            message = f"{attachment.instance} is in VPC {instance.vpc}, the interface in VPC {vpc}"
            yield Problem("instance", message, "InvalidParameterCombination")
            return
        for other, earlier in topology.vpc(vpc).network_interfaces.items():
            if other == name:
                break
            if earlier.attachment == attachment:
                yield Problem(
                    "device_index",
                    f"{attachment.instance} has {other} at device index {attachment.device_index} already",
                    "InvalidParameterValue",
                    "write another number",
                )
        zones = [
            topology.zone_of(vpc, each) for each in (self.subnet, instance.subnet) if each in topology.vpc(vpc).subnets
        ]
        if len(set(zones)) == 2:
            message = f"{attachment.instance} is in {zones[1]}, the interface in {zones[0]}"
            yield Problem("instance", message, "InvalidParameterCombination", "both must be in one Availability Zone")

    def wanted(self, home: PlacedSubnet, declared: Subnet, name: str) -> WantedInterface:
        """What it needs; `home` and `declared` are its subnet, placed and as declared."""
        at = f"vpcs.{home.vpc}.network_interfaces.{name}"
        asked = tuple(Asked(f"{at}.private_ips[{i}]", address) for i, address in enumerate(self.private_ips))
        to = self.attachment
        return WantedInterface(
            kind="network-interface" if to is None else "interface",
            path=f"{home.vpc}/{name}" if to is None else f"{to.instance}/eth{to.device_index}",
            name=name,
            file_path=at,
            subnet=home,
            instance="" if to is None else to.instance,
            device_index=0 if to is None else to.device_index,
            primary=asked[0] if asked else None,
            secondary=asked[1:],
            ipv6=tuple(Asked(f"{at}.ipv6_addresses[{i}]", a) for i, a in enumerate(self.ipv6_addresses)),
            wants_ipv6=declared.assign_ipv6_address_on_creation,
            groups=self.security_groups or (security_group.DEFAULT,),
            source_dest_check=self.source_dest_check,
            connection_tracking=self.connection_tracking,
            elastic_ips=tuple(
                AskedPublic(f"{at}.elastic_ips.{private}", private, public)
                for private, public in self.elastic_ips.items()
            ),
        )


def label(interface: PlacedInterface) -> str:
    """The label of an interface: of its `Program.interfaces`, own addresses and group policy."""
    return f"{interface.kind}:{interface.path}"


def lower_interface(topology: Topology, program: Program, interface: PlacedInterface) -> None:
    """Make both ways of an attached interface, or a drop for one that is not.

    All that is read is the interface as it is placed, the lab's settings and flow logs, and the VPC's primary block:
    `dataplane.topology.lowering` takes what this made from an earlier topology as long as these are equal.
    """
    home, here = interface.subnet, label(interface)
    number = program.names.intern(interface.kind, interface.path)
    addresses: tuple[Address, ...] = (*interface.addresses4, *interface.addresses6)
    hosts = program.fibs.setdefault(f"vpc:{home.vpc}/hosts", [])
    # one that is not attached decides by itself: the route to it is no rule
    rule = number if interface.is_attached else 0
    hosts += [Route(prefix=host_network(address), node=f"{here}/in", rule=rule) for address in addresses]
    if not interface.is_attached:
        program.nodes[f"{here}/in"] = Drop(object=number, reason=Reason.PORT_DOWN)
        # nobody answers for it, and its addresses are not free either
        nobody = program.neighbours.setdefault(subnet.label(home), [])
        nobody += [(host_network(address), None) for address in addresses]
        return
    program.sets[here] = [host_network(address) for address in addresses]
    timeouts = interface.wanted.connection_tracking.timeouts(topology.lab.settings)
    security_group.add_policy(program, here, number, home.vpc, interface.groups, timeouts)
    subnet.add_neighbour(program, home, interface.mac, addresses, f"{here}/in")
    program.interfaces[here] = Interface(
        number=number,
        port=number,
        realm=program.names.intern("vpc", home.vpc),
        mac=interface.mac,
        address4=interface.addresses4[0],
        address6=next(iter(interface.addresses6), None),
        groups=tuple(security_group.group_number(program, home.vpc, group) for group in interface.groups),
        into=f"{here}/in",
        out=f"{here}/out",
        mtu=VPC_MTU,
        **subnet.interface_fields(program, home),
    )
    program.contexts.append(Context(number=number, interface=here, entry=f"{here}/out", neighbours=subnet.label(home)))
    _lower_out(topology, program, interface, number)
    _lower_in(topology, program, interface, number)


def _lower_out(topology: Topology, program: Program, interface: PlacedInterface, number: int) -> None:
    home, here = interface.subnet, label(interface)
    checked = interface.source_dest_check
    gates = flow_log.lower_out(topology, program, interface, number, f"{here}/out/groups")
    program.nodes |= {
        f"{here}/out": Guard(
            object=number,
            test=Test.DESTINATION_IN,
            table=f"{subnet.label(home)}/routers",
            negate=True,
            otherwise=subnet.router_label(home),
            next=f"{here}/out/source",
        ),
        f"{here}/out/groups": GroupSession(
            object=number, policy=here, direction=Direction.EGRESS, next=f"{here}/out/subnet"
        ),
        f"{here}/out/subnet": subnet.outgoing(program, home, number),
    }
    program.nodes[f"{here}/out/source"] = Guard(
        object=number,
        test=Test.SOURCE_IN,
        table=here,
        reason=Reason.SOURCE_CHECK if checked else Reason.NONE,
        otherwise="" if checked else f"{here}/out/foreign",
        next=gates,
    )
    if not checked:
        # what it forwards for others does not carry its groups
        program.nodes[f"{here}/out/foreign"] = Enter(
            object=number,
            realm=program.names.intern("vpc", home.vpc),
            interface=here,
            keep_groups=False,
            next=gates,
        )


def _lower_in(topology: Topology, program: Program, interface: PlacedInterface, number: int) -> None:
    home, here = interface.subnet, label(interface)
    checked = interface.source_dest_check
    gate = subnet.entering(program, home, f"{here}/in/groups")
    flow_log.lower_in(topology, program, interface, number, f"{here}/in", gate)
    program.nodes |= {
        f"{here}/in/groups": GroupSession(
            object=number,
            policy=here,
            direction=Direction.INGRESS,
            next=f"{here}/in/destination" if checked else f"{here}/in/emit",
        ),
        f"{here}/in/emit": Emit(object=number, interface=here),
    }
    if checked:
        program.nodes[f"{here}/in/destination"] = Guard(
            object=number,
            test=Test.DESTINATION_IN,
            table=here,
            reason=Reason.DESTINATION_CHECK,
            next=f"{here}/in/emit",
        )


class NetworkInterfaceTarget(RouteTarget):
    """A network interface of the VPC: ``NAME``, or ``INSTANCE/ethN`` where it is attached."""

    word = "network-interface"
    inside_vpc = True

    def check(self, topology: Topology, vpc: str, destination: Network) -> Iterator[Problem]:
        """Yield a problem when there is none of the name."""
        declared = topology.vpc(vpc).network_interfaces
        if self.name not in declared and topology.find_interface(vpc, self.name) is None:
            known = [*declared, *(each.path for each in topology.interfaces_of_vpc(vpc) if each.is_attached)]
            message = f"no network interface of VPC {vpc} is called {self.name}"
            hint = did_you_mean(self.name, known)
            yield Problem("", message, "InvalidNetworkInterfaceID.NotFound", hint)

    def label(self, topology: Topology, vpc: str) -> str | None:
        """Its way in, while it is attached."""
        interface = topology.find_interface(vpc, self.name)
        return f"{label(interface)}/in" if interface is not None and interface.is_attached else None
