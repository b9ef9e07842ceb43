"""The addresses and ports of NAT gateways: who has which, for which destination.

At each address of a gateway at most 55000 connections live at once to one destination (address, port, protocol), on
ports 1024 to 65535; another destination may use the same port again.
https://docs.aws.amazon.com/vpc/latest/userguide/nat-gateway-basics.html
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from ipaddress import IPv4Address

from dataplane.reference import nat64
from dataplane.reference.checksum import Address
from dataplane.reference.flow import Flow
from dataplane.reference.lifetimes import Lifetime
from dataplane.reference.packets import ICMP

PORTS = range(1024, 65536)
MOST_PER_DESTINATION = 55_000
NOWHERE = IPv4Address(0)

Destination = tuple[int, Address, int]
"""Protocol, address and port (ICMP: kind of query) of a far end, in words of IPv4."""


@dataclass(slots=True, eq=False)
class Connection:
    """One connection: as the client sends it, and the address and port it has outside."""

    inside: Flow
    life: Lifetime
    address: IPv4Address = NOWHERE
    port: int = 0
    is_seen: bool = False
    """Whether address and port have been seen outside. While they have not (the packet died behind the gateway, or
    another gateway changed it), nobody can know them, and these only stand in."""

    @property
    def outside(self) -> Flow:
        """As the gateway sends it."""
        return as_sent(self.inside, self.address, self.port)


def as_sent(inside: Flow, address: IPv4Address, port: int) -> Flow:
    """A client's flow with the gateway's address and port: for ICMP that is the identifier, at both ends."""
    if inside.source.version == 6:
        return nat64.outside_flow(inside, address, port)
    if inside.protocol == ICMP:
        return replace(inside, source=address, source_port=port, destination_port=port)
    return replace(inside, source=address, source_port=port)


def destination_of(outside: Flow) -> Destination:
    """Where a flow leads, as it is outside."""
    kind = outside.query if outside.protocol == ICMP else outside.destination_port
    return outside.protocol, outside.destination, kind


class PortsTaken:
    """The ports that one NAT gateway's connections have."""

    def __init__(self) -> None:
        self._taken: dict[tuple[IPv4Address, Destination], dict[int, Connection]] = {}
        self._lowest: dict[tuple[IPv4Address, Destination], int] = {}
        """Below this none is free."""

    def holder(self, outside: Flow) -> Connection | None:
        """The connection that is `outside` outside, as the gateway sends it."""
        assert isinstance(outside.source, IPv4Address)
        found = self._taken.get((outside.source, destination_of(outside)), {}).get(outside.source_port)
        return found if found is not None and found.outside == outside else None

    def rivals(self, address: IPv4Address, destination: Destination) -> list[Connection]:
        """The connections to a destination at an address."""
        return list(self._taken.get((address, destination), {}).values())

    def count(self, address: IPv4Address, destination: Destination) -> int:
        """How many there are."""
        return len(self._taken.get((address, destination), {}))

    def at(self, address: IPv4Address, destination: Destination, port: int) -> Connection | None:
        """The connection that has a port."""
        return self._taken.get((address, destination), {}).get(port)

    def take_lowest(self, connection: Connection, address: IPv4Address) -> None:
        """Give a connection the lowest free port of an address.

        Not that of its destination: to the gateway itself, under its public address, it would be its own answer.
        """
        place = address, destination_of(connection.outside)
        taken, own = self._taken.get(place, {}), connection.outside.destination_port
        lowest = self._lowest.get(place, PORTS[0])
        port = next(port for port in range(lowest, PORTS.stop) if port not in taken and port != own)
        self._lowest[place] = port
        self.take(connection, address, port)

    def take(self, connection: Connection, address: IPv4Address, port: int) -> None:
        """Give a connection an address and a port that is free."""
        connection.address, connection.port = address, port
        taken = self._taken.setdefault((address, destination_of(connection.outside)), {})
        assert port not in taken, connection
        taken[port] = connection

    def release(self, connection: Connection) -> None:
        """Take from a connection what it has."""
        place = connection.address, destination_of(connection.outside)
        del self._taken[place][connection.port]
        self._lowest[place] = min(connection.port, self._lowest.get(place, PORTS[0]))
