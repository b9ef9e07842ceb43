"""Behaviours that no test asserts, each with the reason. Their rows say so."""

from __future__ import annotations

from tests.conformance.behaviours import Behaviour
from tests.conformance.sources import privatelink_guide, rfc, vpc_guide

NOT_ASSERTED: tuple[Behaviour, ...] = (
    Behaviour(
        "A GENEVE packet with an option that is critical and not known is dropped",
        source=rfc(8926, "3.5"),
        section="GENEVE",
        not_asserted="vpclab passes over all options it does not know, as targets may send back what they like",
    ),
    Behaviour(
        "A GENEVE packet with a wrong UDP checksum is dropped",
        source=rfc(8926, "3.3"),
        section="GENEVE",
        not_asserted="AWS's own tunnel handler sends wrong ones, so load balancers cannot look at them",
    ),
    Behaviour(
        "Client addresses that a Network Load Balancer preserves are not preserved through an endpoint",
        source=privatelink_guide("gateway-load-balancer-endpoints"),
        section="Endpoints",
        not_asserted="vpclab has no Network Load Balancers",
    ),
    Behaviour(
        "A virtual private gateway's table does not lead to a gateway load balancer endpoint",
        source=vpc_guide("gateway-route-tables"),
        section="Endpoints",
        not_asserted="vpclab has no virtual private gateways",
    ),
    Behaviour(
        "An endpoint policy decides which requests to a service pass a gateway endpoint",
        source=privatelink_guide("vpc-endpoints-access"),
        section="Endpoints",
        not_asserted="packets do not show who asks for what: lab files with a policy but full access are refused",
    ),
)
