"""What is sent on: what becomes of a packet at somebody who does not have its destination.

What programs do is taken for granted, and said: a target of a load balancer sends back what it gets, and an instance
with one interface that carries what is not its own sends it on by that interface. Of an instance with several nobody
can tell: which one it takes, and whether, its own routes decide.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from ipaddress import ip_address
from typing import TYPE_CHECKING, Any, Protocol

from dataplane.analysis.headers import forwarded, sent_back, time_to_live
from dataplane.names import Names

if TYPE_CHECKING:
    from dataplane.model._cidr import Address
    from dataplane.topology import Topology


class HasMac(Protocol):
    """An interface of either engine."""

    @property
    def mac(self) -> bytes:
        """Its MAC."""


class Plane(Protocol):
    """Either engine, as far as it tells in which frame somebody sends a packet."""

    names: Names
    topology: Topology

    def interface(self, port: int) -> HasMac:
        """Whose port it is."""

    def next_mac(self, port: int, destination: Address) -> bytes:
        """The MAC that a host there sends to."""


def goes_to_target(rows: Iterable[Mapping[str, Any]]) -> bool:
    """Whether what leaves at the end of a traced way is inside a GENEVE packet, on its way to a target."""
    ways = [row["detail"] for row in rows if row["detail"] in ("encapsulated", "decapsulated")]
    return ways[-1:] == ["encapsulated"]


def back_from_target(plane: Plane, port: int, outer: bytes) -> bytes:
    """The frame in which a target of a load balancer sends back the one it got."""
    return sent_back(outer, plane.interface(port).mac, plane.next_mac(port, ip_address(outer[26:30])))


def sent_on(plane: Plane, port: int, frame: bytes, destination: Address) -> bytes | None:
    """The frame in which an instance sends on the one it got; None where nobody can tell."""
    node = plane.names[port].path.partition("/")[0]
    topology = plane.topology
    if node not in topology.lab.instances or len(topology.interfaces_of(node)) != 1 or time_to_live(frame) < 2:
        return None
    return forwarded(frame, plane.interface(port).mac, plane.next_mac(port, destination))
