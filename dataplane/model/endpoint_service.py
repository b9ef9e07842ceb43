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

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from dataplane.errors import Problem
from dataplane.model._fields import doc, unknown

if TYPE_CHECKING:
    from dataplane.topology import Topology

ARN = "arn:aws:iam::"
_PRINCIPAL = re.compile(r"\*|[0-9]{12}|arn:aws:iam::[0-9]{12}:root")


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
        known = topology.vpc(vpc).gateway_load_balancers
        if self.gateway_load_balancer not in known:
            what = f"gateway load balancer of VPC {vpc}"
            yield unknown("gateway_load_balancer", what, self.gateway_load_balancer, known, "InvalidParameter")
        mine = [
            f"{consumer}/{endpoint}"
            for consumer, declared in topology.lab.vpcs.items()
            for endpoint, each in declared.gateway_load_balancer_endpoints.items()
            if each.service == f"{vpc}/{name}"
        ]
        for key, listed in (("accepted", self.accepted), ("rejected", self.rejected)):
            for index, endpoint in enumerate(listed):
                at = f"{key}[{index}]"
                if endpoint not in mine:
                    what = f"endpoint of service {vpc}/{name}"
                    yield unknown(at, what, endpoint, mine, "InvalidVpcEndpointId.NotFound")
                elif endpoint in listed[:index]:
                    yield Problem(at, f"{endpoint} is listed twice", "InvalidParameter", "remove one of them")
                elif key == "rejected" and endpoint in self.accepted:
                    message = f"{endpoint} is accepted and rejected"
                    yield Problem(at, message, "InvalidParameter", "remove one of them")
        for index, principal in enumerate(self.allowed_principals):
            if not _PRINCIPAL.fullmatch(principal):
                yield Problem(
                    f"allowed_principals[{index}]",
                    f"{principal} is no account",
                    "InvalidPrincipal",
                    'write "*", 12 digits in quotes, or arn:aws:iam::ACCOUNT:root',
                )

    def allows(self, owner: str, account: str) -> bool:
        """Whether `account` may make endpoints, when the service is that of account `owner`."""
        principals = {principal.removeprefix(ARN).removesuffix(":root") for principal in self.allowed_principals}
        return account == owner or bool(principals & {"*", account})
