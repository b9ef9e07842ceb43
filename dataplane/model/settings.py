"""Settings: what AWS does not document, and somebody may know better.

Each has a default that fits what AWS's pages and public measurements show, and is named under "Deviations from AWS" of
the construct it is about. Times are in seconds.

AWS documents the other timers, which are set per interface (`connection_tracking`) or not at all:
https://docs.aws.amazon.com/AWSEC2/latest/UserGuide/security-group-connection-tracking.html
https://docs.aws.amazon.com/vpc/latest/userguide/nat-gateway-basics.html

Deviations from AWS:
- All of it: AWS has no such switches.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field, fields
from typing import Literal

from dataplane.errors import Problem
from dataplane.model._fields import doc

LONGEST = 86400


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """Behaviour that AWS leaves open."""

    internet_gateway_ttl: Literal["decrement", "keep"] = field(
        default="decrement",
        metadata=doc("whether (egress-only) internet gateways count as a hop; at the last one a packet dies silently"),
    )
    peering_ttl: Literal["keep", "decrement"] = field(
        default="keep", metadata=doc("whether a peering counts as a hop; at the last one a packet dies silently")
    )
    inter_region_too_big: Literal["answer", "silent"] = field(
        default="answer", metadata=doc("whether the sender of a packet too large for an inter-Region peering is told")
    )
    arp_for_unassigned: Literal["silent", "router"] = field(
        default="silent",
        metadata=doc("what ARP and neighbour discovery say of a free address of the subnet: nothing, or the router"),
    )
    tcp_opening_timeout: int = field(
        default=60, metadata=doc("idle seconds of a TCP connection that is not yet open, at an interface")
    )
    tcp_closing_timeout: int = field(
        default=60, metadata=doc("idle seconds of a TCP connection that is closed, at an interface")
    )
    icmp_timeout: int = field(default=30, metadata=doc("idle seconds of an ICMP query, at an interface"))
    nat_closing_timeout: int = field(
        default=60, metadata=doc("idle seconds of a closed TCP connection, at a NAT or egress-only gateway")
    )
    egress_only_tcp_timeout: int = field(
        default=350, metadata=doc("idle seconds of TCP at an egress-only internet gateway")
    )
    egress_only_other_timeout: int = field(
        default=120, metadata=doc("idle seconds of everything else at an egress-only internet gateway")
    )
    balancer_closing_timeout: int = field(
        default=60, metadata=doc("idle seconds of a closed TCP connection, at a gateway load balancer")
    )
    fragment_timeout: int = field(
        default=30, metadata=doc("seconds that fragments wait for the first one of their datagram, or follow it")
    )

    def check(self) -> Iterator[Problem]:
        """Yield times that make no sense."""
        for each in fields(self):
            value = getattr(self, each.name)
            if isinstance(value, int) and not 1 <= value <= LONGEST:
                message = f"{value} is not from 1 to {LONGEST} seconds"
                yield Problem(each.name, message, "InvalidParameterValue", f"the default is {each.default}")
