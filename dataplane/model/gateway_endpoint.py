"""Gateway endpoint: a way from a VPC to S3 or DynamoDB inside of AWS, without a public address.

It is no interface: it puts a route for the service's prefix list into each of its route tables. A route of one's own
for one of these prefixes wins over it. The service sees the private source address.
https://docs.aws.amazon.com/vpc/latest/privatelink/gateway-endpoints.html
https://docs.aws.amazon.com/vpc/latest/reachability/explanation-codes.html

    out: route -> came by gateway or peering, or source not in the VPC? drop -> TCP or echo request? else drop
         -> flow of another VPC with the same addresses and ports? drop -> **remember** -> MTU 8500 (silent; MSS is
         lowered to fit), TTL - 1 (silent) -> service
    in:  service -> **remembered? else its public way** -> TCP or echo reply? else drop -> MTU and TTL likewise
         -> delivery inside the VPC, by address

DynamoDB's flows are tracked by security groups whatever their rules say:
https://docs.aws.amazon.com/AWSEC2/latest/UserGuide/security-group-connection-tracking.html

Deviations from AWS:
- Endpoint policies other than full access are refused: packets do not show who asks for what.
- IPv4 only.
- The service is one host, which cannot tell VPCs apart: of two with the same addresses and ports at the same time, the
  second one is dropped.
- Idle connections are forgotten after 350 s (TCP; 60 s once closed, `settings.nat_closing_timeout`) or 120 s.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal

from dataplane.errors import Problem
from dataplane.model._fields import doc
from dataplane.program import Program

if TYPE_CHECKING:
    from dataplane.topology import Topology


@dataclass(frozen=True, slots=True, kw_only=True)
class GatewayEndpoint:
    """A gateway endpoint."""

    service: Literal["s3", "dynamodb"] = field(metadata=doc("s3 or dynamodb; must be among aws_services", "s3"))
    route_tables: tuple[str, ...] = field(default=(), metadata=doc("route tables that lead to it", ["main"]))
    policy: Literal["full-access"] = field(
        default="full-access", metadata=doc("endpoint policy: full-access, nothing else", "full-access")
    )

    def check(self, topology: Topology, vpc: str, name: str) -> Iterator[Problem]:
        """Yield what AWS would refuse."""
        yield from ()

    def lower(self, topology: Topology, program: Program, vpc: str, name: str) -> None:
        """Make both ways."""
