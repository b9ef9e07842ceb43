"""EC2 instance: a machine with network interfaces, here a network namespace with programs.

Its first interface, ``eth0``, is part of it; further ones are declared as network interfaces and attached to it.
What its programs send and receive is what the network carries.
https://docs.aws.amazon.com/AWSEC2/latest/UserGuide/Instances.html

A device of the user's may stand in for the namespace (``attach``), so that a virtual machine, a container or a program
with a network stack of its own is the instance: ``tap:NAME`` is a TAP device in the namespace that the lab was started
from, which is made where there is none; ``netns:PATH`` is an ``eth0`` inside an existing network namespace. Routes that
are there are not replaced: one in the way of the instance's, such as a default route without a metric, is an error.

Deviations from AWS:
- An instance runs as long as the lab does; it has no type, image or key, and its disk is the machine's.
- Addresses are configured when it starts; there is no DHCP, DNS or metadata service.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from ipaddress import IPv4Address, IPv6Address
from typing import TYPE_CHECKING

from dataplane.errors import Problem
from dataplane.model import network_interface, security_group
from dataplane.model._cidr import Network
from dataplane.model._fields import doc, unknown, within
from dataplane.model._placed import Asked, AskedPublic, PlacedSubnet, WantedInterface
from dataplane.model._route_target import RouteTarget
from dataplane.model.connection_tracking import ConnectionTracking
from dataplane.model.program_spec import ProgramSpec, check_environment
from dataplane.model.subnet import Subnet

if TYPE_CHECKING:
    from dataplane.topology import Topology

_DEVICE_NAME = re.compile(r"(?!\.{1,2}$)[^\s/:%\0]{1,15}")
"""What the kernel takes (dev_valid_name), without the ``%`` by which it makes names of a pattern."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Instance:
    """An instance."""

    vpc: str = field(metadata=doc("VPC of its first interface", "shop"))
    subnet: str = field(metadata=doc("subnet of its first interface", "public"))
    private_ip: IPv4Address | None = field(
        default=None, metadata=doc("primary private address; null: the lowest free one", "10.0.1.10")
    )
    secondary_private_ips: tuple[IPv4Address, ...] = field(
        default=(), metadata=doc("further private addresses", ["10.0.1.11"])
    )
    ipv6_address: IPv6Address | None = field(default=None, metadata=doc("IPv6 address", "2001:db8:0:1::10"))
    elastic_ip: IPv4Address | None = field(
        default=None, metadata=doc("Elastic IP of the primary private address", "203.0.113.20")
    )
    security_groups: tuple[str, ...] = field(default=(), metadata=doc("security groups; []: the default one", ["web"]))
    source_dest_check: bool = field(
        default=True, metadata=doc("whether to drop what is neither from nor for it; false for appliances that forward")
    )
    connection_tracking: ConnectionTracking = field(
        default=ConnectionTracking(), metadata=doc("how long its security groups remember idle flows")
    )
    environment: dict[str, str] = field(
        default_factory=dict, metadata=doc("environment variables of everything run in it", {"STAGE": "test"})
    )
    programs: dict[str, ProgramSpec] = field(default_factory=dict, metadata=doc("programs that run in it, by name"))
    attach: str | None = field(
        default=None,
        metadata=doc(
            "what it is, in place of a namespace of vpclab's: tap:NAME, a TAP device (root only), or netns:PATH, a "
            "network namespace that exists",
            "netns:/run/netns/firewall",
        ),
    )

    def check(self, topology: Topology, name: str) -> Iterator[Problem]:
        """Yield what AWS would refuse."""
        yield from within("environment", check_environment(self.environment))
        for each, program in self.programs.items():
            yield from within(f"programs.{each}", program.check())
        if self.vpc not in topology.lab.vpcs:
            yield unknown("vpc", "VPC", self.vpc, topology.lab.vpcs, "InvalidVpcID.NotFound")
            return
        known = topology.vpc(self.vpc).subnets
        if self.subnet not in known:
            code = "InvalidSubnetID.NotFound"
            yield unknown("subnet", f"subnet of VPC {self.vpc}", self.subnet, known, code)
        yield from within("attach", self._check_attach(topology, name))
        groups = security_group.check_membership(topology, self.vpc, self.security_groups)
        yield from within("security_groups", groups)
        yield from within("connection_tracking", self.connection_tracking.check())

    def _check_attach(self, topology: Topology, name: str) -> Iterator[Problem]:
        """Yield what cannot be attached."""
        if self.attach is None:
            return
        kind, _, which = self.attach.partition(":")
        if kind == "tap":
            if not _DEVICE_NAME.fullmatch(which):
                yield Problem(
                    "", f"{which!r} cannot be the name of a device", "", "write tap:NAME, with 1 to 15 letters"
                )
            if self.programs or self.environment:
                what = "programs" if self.programs else "environment"
                yield Problem(
                    "",
                    f"with a TAP device there is no namespace for its {what}",
                    "",
                    f"remove {what}, or attach a netns",
                )
            if len(topology.interfaces_of(name)) > 1:
                yield Problem("", "a TAP device is one network interface, and it has more", "", "attach a netns")
        elif kind == "netns":
            if not which.startswith("/") or "\0" in which:
                yield Problem("", f"{which!r} is not absolute", "", "write netns:PATH, for example netns:/run/netns/fw")
        else:
            yield Problem("", f"{self.attach!r} is no device", "", "write tap:NAME or netns:PATH")
        for other, instance in topology.lab.instances.items():
            if other == name:
                break
            if instance.attach == self.attach:
                yield Problem("", f"{self.attach} is instance {other} already")

    def wanted(self, home: PlacedSubnet, subnet: Subnet, name: str) -> WantedInterface:
        """What its first interface needs; `home` and `subnet` are its subnet, placed and as declared."""
        at = f"instances.{name}"
        elastic = () if self.elastic_ip is None else (AskedPublic(f"{at}.elastic_ip", None, self.elastic_ip),)
        return WantedInterface(
            kind="interface",
            path=f"{name}/eth0",
            name=name,
            file_path=at,
            subnet=home,
            instance=name,
            primary=None if self.private_ip is None else Asked(f"{at}.private_ip", self.private_ip),
            secondary=tuple(
                Asked(f"{at}.secondary_private_ips[{i}]", address)
                for i, address in enumerate(self.secondary_private_ips)
            ),
            ipv6=() if self.ipv6_address is None else (Asked(f"{at}.ipv6_address", self.ipv6_address),),
            wants_ipv6=subnet.assign_ipv6_address_on_creation,
            groups=self.security_groups or (security_group.DEFAULT,),
            source_dest_check=self.source_dest_check,
            connection_tracking=self.connection_tracking,
            elastic_ips=elastic,
            wants_public=subnet.map_public_ip_on_launch,
        )


class InstanceTarget(RouteTarget):
    """The first interface of an instance of the VPC."""

    word = "instance"
    inside_vpc = True

    def check(self, topology: Topology, vpc: str, destination: Network) -> Iterator[Problem]:
        """Yield a problem when there is none of the name in the VPC."""
        known = [name for name, instance in topology.lab.instances.items() if instance.vpc == vpc]
        if self.name not in known:
            yield unknown("", f"instance of VPC {vpc}", self.name, known, "InvalidInstanceID.NotFound")
            return
        interfaces = topology.interfaces_of(self.name)
        if len(interfaces) > 1:
            yield Problem(
                "",
                f"{self.name} has {len(interfaces)} network interfaces",
                "InvalidInstanceID",
                f"write which one, for example network-interface:{interfaces[0].path}",
            )

    def label(self, topology: Topology, vpc: str) -> str | None:
        """The way into its first interface."""
        interface = topology.find_interface(vpc, f"{self.name}/eth0")
        return f"{network_interface.label(interface)}/in" if interface is not None else None
