"""AWS service: S3 or DynamoDB of the lab's Region, for which a machine with programs of yours stands.

It has one public address, which the internet reaches, and VPCs by their internet gateway or a gateway endpoint. All
its prefixes are in the AWS-managed prefix list ``com.amazonaws.REGION.SERVICE``, which security group rules and routes
may name; it counts as one entry.
https://docs.aws.amazon.com/vpc/latest/userguide/working-with-aws-managed-prefix-lists.html
https://docs.aws.amazon.com/vpc/latest/privatelink/gateway-endpoints.html

    out: guest -> source check -> answer to a gateway endpoint? through it, else -> the internet's routes

Deviations from AWS:
- It is what your programs make of it. Every address but its own is nobody's.
- Prefixes are IPv4, and are a few unless written down.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from ipaddress import IPv4Address, IPv4Network
from typing import TYPE_CHECKING

from dataplane.errors import Problem
from dataplane.model._fields import doc
from dataplane.model.program_spec import ProgramSpec
from dataplane.program import Program

if TYPE_CHECKING:
    from dataplane.topology import Topology

SERVICES = {"s3": (IPv4Network("52.216.0.0/15"),), "dynamodb": (IPv4Network("52.94.0.0/22"),)}
"""Those with gateway endpoints, each with prefixes that are really its own (in us-east-1)."""
HOST = 10
"""Which address of its first prefix a service has, unless it says so."""


@dataclass(frozen=True, slots=True, kw_only=True)
class AwsService:
    """A service of AWS."""

    address: IPv4Address | None = field(
        default=None, metadata=doc("its public address; null: the tenth of its first prefix", "52.216.0.10")
    )
    prefixes: tuple[IPv4Network, ...] = field(
        default=(), metadata=doc("its prefix list; []: a part of the real one", ["52.216.0.0/15"])
    )
    environment: dict[str, str] = field(
        default_factory=dict, metadata=doc("environment variables of everything run in it", {"STAGE": "test"})
    )
    programs: dict[str, ProgramSpec] = field(default_factory=dict, metadata=doc("programs that run in it, by name"))

    def all_prefixes(self, name: str) -> tuple[IPv4Network, ...]:
        """Its prefix list; `name` is what it is called."""
        return self.prefixes or SERVICES.get(name, (IPv4Network("198.51.100.0/24"),))

    def host_address(self, name: str) -> IPv4Address:
        """Its public address; `name` is what it is called."""
        if self.address is not None:
            return self.address
        first = self.all_prefixes(name)[0]
        return first[min(HOST, first.num_addresses - 1)]

    def check(self, topology: Topology, name: str) -> Iterator[Problem]:
        """Yield what could not be."""
        yield from ()

    def lower(self, topology: Topology, program: Program, name: str) -> None:
        """Make both ways, and the internet's routes to it."""
