"""Connection tracking of a network interface: how long its security groups remember an idle flow.

TCP in seconds since the last packet of an established connection; UDP by whether it was one request with its response
(or one way), or more.
https://docs.aws.amazon.com/AWSEC2/latest/UserGuide/security-group-connection-tracking.html
https://docs.aws.amazon.com/AWSEC2/latest/APIReference/API_ConnectionTrackingSpecificationRequest.html

Deviations from AWS:
- The default for TCP is 432000 s on every instance; AWS has 350 s on its latest instance types.
- A flow through the endpoint of a gateway load balancer, or an instance that sends it on, and only then through a NAT
  gateway is not tracked automatically by the groups before: what comes back from there is another packet.
- A new timeout counts for a flow from its next packet on.
- How many connections an instance may have tracked AWS does not say (it depends on the type; metrics
  conntrack_allowance_available and conntrack_allowance_exceeded). Here a lab has room for 262,144, one for each
  interface or gateway that tracks a connection. Those that packets of one interface have opened are half of that at
  most, and never more than are free for others.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field, fields

from dataplane.errors import Problem
from dataplane.model._fields import doc
from dataplane.model.settings import Settings
from dataplane.program import Timeouts

OTHER_S = 600
"""Idle seconds of protocols that are tracked by their addresses alone."""


def _timeout(default: int, least: int, most: int, what: str) -> int:
    text = f"idle seconds of {what}, {least} to {most}"
    value: int = field(default=default, metadata={**doc(text, default), "range": (least, most)})
    return value


@dataclass(frozen=True, slots=True, kw_only=True)
class ConnectionTracking:
    """Idle timeouts of the flows an interface tracks."""

    tcp_established_timeout: int = _timeout(432_000, 60, 432_000, "an established TCP connection")
    udp_stream_timeout: int = _timeout(180, 60, 180, "a UDP flow of more than one request and response")
    udp_timeout: int = _timeout(30, 30, 60, "any other UDP flow")

    def check(self) -> Iterator[Problem]:
        """Yield what AWS would refuse."""
        for each in fields(self):
            value, (least, most) = getattr(self, each.name), each.metadata["range"]
            if not least <= value <= most:
                message = f"{value} is not from {least} to {most} seconds"
                yield Problem(each.name, message, "InvalidParameterValue", f"AWS's default is {each.default}")

    def timeouts(self, settings: Settings) -> Timeouts:
        """The idle limits of every kind of flow, in milliseconds."""
        return Timeouts(
            tcp_established=self.tcp_established_timeout * 1000,
            tcp_opening=settings.tcp_opening_timeout * 1000,
            tcp_closing=settings.tcp_closing_timeout * 1000,
            udp_single=self.udp_timeout * 1000,
            udp_stream=self.udp_stream_timeout * 1000,
            icmp=settings.icmp_timeout * 1000,
            other=OTHER_S * 1000,
        )
