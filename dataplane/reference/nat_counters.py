"""What NAT gateways count, under the names of CloudWatch.

https://docs.aws.amazon.com/vpc/latest/userguide/metrics-dimensions-nat-gateway.html

*Source* is the side of the clients, *destination* everybody else. A packet counts as in when it comes to be translated,
and as out when it goes on; bytes are those of the IP packet on that side. Resets and ICMP errors that a gateway itself
makes count nowhere.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field

SIDES = ("InFromSource", "OutToDestination", "InFromDestination", "OutToSource")


@dataclass(slots=True)
class NatCounters:
    """The counters of one gateway, since ever."""

    packets: Counter[str] = field(default_factory=Counter)
    """By side, as in `SIDES`."""
    octets: Counter[str] = field(default_factory=Counter)
    attempts: int = 0
    """TCP connections opened."""
    established: int = 0
    """TCP connections that became open."""
    exhausted: int = 0
    """Packets for which no port was left."""
    idle_timeouts: int = 0
    """Connections that died of silence, and had not been closed."""

    def count(self, side: str, length: int) -> None:
        """A packet of `length` bytes."""
        assert side in SIDES, side
        self.packets[side] += 1
        self.octets[side] += length

    def as_metrics(self, active: int) -> dict[str, int]:
        """All of it by its name; `active` is how many TCP connections there are that have not been closed."""
        packets, octets = self.packets, self.octets
        came = packets["InFromSource"] + packets["InFromDestination"]
        went = packets["OutToDestination"] + packets["OutToSource"]
        return {
            "ActiveConnectionCount": active,
            **{f"Bytes{side}": octets[side] for side in SIDES},
            "ConnectionAttemptCount": self.attempts,
            "ConnectionEstablishedCount": self.established,
            "ErrorPortAllocation": self.exhausted,
            "IdleTimeoutCount": self.idle_timeouts,
            "PacketsDropCount": came - went,
            **{f"Packets{side}": packets[side] for side in SIDES},
        }
