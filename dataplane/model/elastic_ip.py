"""Public IPv4 addresses: Elastic IPs, and those AWS assigns by itself.

A public address belongs to one private address of a network interface. It is never configured on the instance:
the internet gateway translates. An Elastic IP is written where it is associated; an instance in a subnet with
``map_public_ip_on_launch`` that has none gets an address for its primary private one.
https://docs.aws.amazon.com/AWSEC2/latest/UserGuide/elastic-ip-addresses-eip.html
https://docs.aws.amazon.com/AWSEC2/latest/UserGuide/using-instance-addressing.html

Deviations from AWS:
- Any address that is not private, reserved or in use may be an Elastic IP.
- Assigned addresses come from 203.0.113.128/25 (then from 198.18.0.0/16), the lowest free one in the order of the file,
  and an instance keeps its address although it has several interfaces.
- Addresses that are allocated but not associated do not exist here.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from ipaddress import IPv4Address
from typing import TYPE_CHECKING

from dataplane.errors import Problem
from dataplane.model import internet_gateway
from dataplane.model._cidr import host_network, is_public
from dataplane.program import Program, Translation

if TYPE_CHECKING:
    from dataplane.topology import Topology


@dataclass(frozen=True, slots=True, kw_only=True)
class PublicAddress:
    """A public address and the private one it stands for."""

    public: IPv4Address
    private: IPv4Address
    vpc: str
    path: str
    """Where in the lab file it was asked for."""
    automatic: bool = False
    """Assigned by AWS, not an Elastic IP."""
    is_attached: bool = True
    """Whether the interface that has the private address is; else the public one leads nowhere, either way."""

    def check(self, topology: Topology) -> Iterator[Problem]:
        """Yield what AWS would refuse. Paths are complete."""
        if self.automatic:
            return
        if not is_public(self.public):
            yield Problem(
                self.path,
                f"{self.public} is no public address",
                "InvalidAddress.NotFound",
                "write, for example, 203.0.113.20",
            )
        if topology.vpc(self.vpc).internet_gateway is None:
            yield Problem(
                self.path,
                f"VPC {self.vpc} has no internet gateway, so {self.public} could not be reached",
                "Gateway.NotAttached",
                f"write internet_gateway: {{}} under vpcs.{self.vpc}",
            )

    def lower(self, topology: Topology, program: Program) -> None:
        """Add the translation, and the internet's route to it. Without a gateway nobody can use it."""
        if topology.vpc(self.vpc).internet_gateway is None:
            return
        if self.is_attached:
            translation = Translation(self.private, self.public)
            program.maps.setdefault(internet_gateway.label(self.vpc), []).append(translation)
        internet_gateway.add_internet_route(program, self.vpc, host_network(self.public))
