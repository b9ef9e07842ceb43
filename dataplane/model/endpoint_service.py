"""Endpoint service: what a provider offers for endpoints to connect to, here a gateway load balancer.

It is offered in the Availability Zones of the load balancer, to those who are allowed, and each endpoint is accepted
or rejected by the provider, unless `acceptance_required` is false.
https://docs.aws.amazon.com/vpc/latest/privatelink/create-gateway-load-balancer-endpoint-service.html
https://docs.aws.amazon.com/vpc/latest/privatelink/configure-endpoint-service.html

Deviations from AWS:
- A service has one load balancer, of its own VPC, and is known in its own Region only.
- The account of the service is always allowed.
- Principals are accounts or everybody; users and roles do not exist here.
- Zones are matched by name: letters mean the same zone in every account of a lab.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from dataplane.errors import Problem
from dataplane.model._fields import doc

if TYPE_CHECKING:
    from dataplane.topology import Topology


@dataclass(frozen=True, slots=True, kw_only=True)
class EndpointService:
    """An endpoint service of a gateway load balancer."""

    gateway_load_balancer: str = field(metadata=doc("the gateway load balancer of this VPC", "inspection"))
    acceptance_required: bool = field(
        default=True, metadata=doc("whether an endpoint works only once it is listed in `accepted`")
    )
    accepted: tuple[str, ...] = field(
        default=(), metadata=doc("endpoints that are accepted, as VPC/ENDPOINT", ["shop/inspect"])
    )
    rejected: tuple[str, ...] = field(
        default=(), metadata=doc("endpoints that are rejected, as VPC/ENDPOINT", ["store/inspect"])
    )
    allowed_principals: tuple[str, ...] = field(
        default=(), metadata=doc('accounts besides its own that may make endpoints: "*", 12 digits or an ARN', ["*"])
    )

    def check(self, topology: Topology, vpc: str, name: str) -> Iterator[Problem]:
        """Yield what AWS would refuse."""
        yield from ()
