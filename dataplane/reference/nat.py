"""NAT gateways: connections from inside get an own source port; answers find them by it.

TCP, UDP and ICMP queries are translated; ports are 1024 to 65535, at most 55000 connections per destination address,
port and protocol; which port is AWS's choice, so it is adopted where proposed and checked. Filtering is by address and
port of the far end. https://docs.aws.amazon.com/vpc/latest/userguide/nat-gateway-basics.html
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

from dataplane.reference.lifetimes import Lifetime
from dataplane.reference.nodes import NatGateway
from dataplane.reference.packets import ICMP, QUERIES, TCP, UDP, Flow, Packet
from dataplane.reference.translation import translate, translate_quoted
from dataplane.verdict import Reason

PORTS = range(1024, 65536)
MOST_PER_DESTINATION = 55_000

Proposals = list[Packet] | None
"""The packets that another engine let out for the same packet, whose choice of a port is to be adopted; None: nobody
proposes."""


class InadmissiblePortError(AssertionError):
    """A proposed port breaks a rule of AWS: the engine that proposed it is wrong."""


@dataclass(slots=True)
class Connection:
    """One connection: as the client sends it, and the port it has outside."""

    inside: Flow
    life: Lifetime
    port: int = 0
    is_seen: bool = False
    """Whether the port has been seen outside. While it has not (the packet died behind the gateway), nobody can
    know it, and `port` only stands in for it."""

    def outside(self, gateway: NatGateway) -> Flow:
        """As the gateway sends it."""
        if self.inside.protocol == ICMP:
            return replace(self.inside, source=gateway.address, source_port=self.port, destination_port=self.port)
        return replace(self.inside, source=gateway.address, source_port=self.port)


def _refuse(packet: Packet) -> Reason | None:
    """What no NAT gateway translates, in either direction: IPv6 too, and of ICMP all but queries and errors."""
    if packet.version != 4 or packet.protocol not in (TCP, UDP, ICMP):
        return Reason.NAT_PROTOCOL
    if packet.fragment is not None and packet.protocol != UDP:
        return Reason.NAT_FRAGMENT
    is_strange = packet.protocol == ICMP and packet.icmp_type not in QUERIES[ICMP] and not packet.is_icmp_error
    return Reason.NAT_PROTOCOL if is_strange else None


def _opens(packet: Packet) -> bool:
    """Whether a packet from inside may begin a connection: a SYN, a query, or anything of UDP.

    What belongs to a TCP connection that the gateway does not know gets a reset from AWS, and no new connection.
    """
    if packet.protocol == TCP:
        return packet.opens_tcp
    return packet.protocol == UDP or QUERIES[ICMP].get(packet.icmp_type) == packet.icmp_type


class NatTables:
    """The connections of all NAT gateways."""

    def __init__(self) -> None:
        self._connections: dict[int, dict[Flow, Connection]] = {}

    def live(self, gateway: int, now_ms: int) -> Iterator[Connection]:
        """The connections a gateway has now."""
        for connection in self._connections.get(gateway, {}).values():
            if not connection.life.is_over(now_ms):
                yield connection

    def all(self, now_ms: int) -> Iterator[tuple[int, Connection]]:
        """The connections there are now, with the number of their gateway."""
        for gateway in self._connections:
            for connection in self.live(gateway, now_ms):
                yield gateway, connection

    def outbound(self, gateway: NatGateway, packet: Packet, now_ms: int, proposals: Proposals) -> Packet | Reason:
        """Translate a packet from inside."""
        if (refused := _refuse(packet)) is not None:
            return refused
        if packet.is_icmp_error:
            return self._outbound_error(gateway, packet, now_ms, proposals)
        connections = self._connections.setdefault(gateway.number, {})
        found = connections.get(packet.flow)
        if found is None or found.life.is_over(now_ms) or found.life.is_reopened_by(packet):
            if not _opens(packet):
                return Reason.NAT_NO_SESSION
            connections.pop(packet.flow, None)
            if len(self._rivals(gateway, packet.flow, now_ms)) >= MOST_PER_DESTINATION:
                return Reason.NAT_PORTS_EXHAUSTED
            found = Connection(packet.flow, Lifetime.begin(packet, now_ms, gateway.limits))
            connections[packet.flow] = found
        else:
            found.life.see(packet, now_ms, gateway.limits, by_opener=True)
        if not found.is_seen:
            self._settle(gateway, found, now_ms, proposals)
        return translate(packet, found.outside(gateway))

    def inbound(self, gateway: NatGateway, packet: Packet, now_ms: int, *, from_router: bool) -> Packet | Reason:
        """Translate a packet for the gateway's own address: of a connection, or an error about one.

        `from_router`: it is an error that the network made, about what has just gone through.
        """
        if (refused := _refuse(packet)) is not None:
            return refused
        about = packet.flow
        if packet.is_icmp_error:
            if packet.quoted is None or not packet.quoted.is_identified:
                return Reason.NAT_NO_SESSION
            about = packet.quoted.flow.reversed()
        for connection in self.live(gateway.number, now_ms):
            if not (connection.is_seen or from_router) or connection.outside(gateway).reversed() != about:
                continue
            inside = connection.inside
            if connection.life.is_reopened_by(packet):
                return Reason.NAT_NO_SESSION  # nobody opens a connection from outside
            if packet.is_icmp_error:
                error = replace(packet.flow, destination=inside.source)
                return translate_quoted(translate(packet, error), inside)
            connection.life.see(packet, now_ms, gateway.limits, by_opener=False)
            return translate(packet, inside.reversed())
        return Reason.NAT_NO_SESSION

    def _outbound_error(
        self, gateway: NatGateway, packet: Packet, now_ms: int, proposals: Proposals
    ) -> Packet | Reason:
        """An ICMP error from inside, about an answer that came through the gateway (RFC 5508, section 4.2)."""
        if packet.quoted is None or not packet.quoted.is_identified:
            return Reason.NAT_NO_SESSION
        about = packet.quoted.flow.reversed()
        for connection in self.live(gateway.number, now_ms):
            if connection.inside == about:
                for each in proposals or ():
                    if not connection.is_seen and each.quoted is not None:
                        connection.port, connection.is_seen = each.quoted.flow.destination_port, True
                error = replace(packet.flow, source=gateway.address)
                return translate_quoted(translate(packet, error), connection.outside(gateway).reversed())
        return Reason.NAT_NO_SESSION

    def _rivals(self, gateway: NatGateway, flow: Flow, now_ms: int) -> list[Connection]:
        """Connections to the same destination address, port and protocol."""
        return [
            each
            for each in self.live(gateway.number, now_ms)
            if (each.inside.protocol, each.inside.destination, each.inside.query)
            == (flow.protocol, flow.destination, flow.query)
            and (flow.protocol == ICMP or each.inside.destination_port == flow.destination_port)
        ]

    def _settle(self, gateway: NatGateway, connection: Connection, now_ms: int, proposals: Proposals) -> None:
        """Choose a port (the lowest that no connection to the same destination has), or adopt the one proposed."""
        rivals = self._rivals(gateway, connection.inside, now_ms)
        taken = {rival.port for rival in rivals if rival is not connection}
        connection.port = next(port for port in PORTS if port not in taken)
        if proposals is None:
            connection.is_seen = True
            return
        protocol = connection.inside.protocol
        seen = [p.source_port for p in proposals if p.protocol == protocol and not p.is_later_fragment]
        if not seen:
            return
        known = {rival.port for rival in rivals if rival is not connection and rival.is_seen}
        if seen[0] in known or seen[0] not in PORTS:
            raise InadmissiblePortError(f"port {seen[0]} of NAT gateway {gateway.address} for {connection.inside}")
        connection.port, connection.is_seen = seen[0], True
