"""NAT gateways: connections from inside get an own source port; answers find them by it.

TCP, UDP and ICMP queries are translated; ports are 1024 to 65535, at most 55000 connections per destination address,
port and protocol; which port is AWS's choice, so it is adopted where proposed and checked. Filtering is by address and
port of the far end. https://docs.aws.amazon.com/vpc/latest/userguide/nat-gateway-basics.html
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

from dataplane.reference.lifetimes import NAT_GATEWAY, Lifetime, Stage
from dataplane.reference.inventory import NatGateway
from dataplane.reference.packets import ICMP, TCP, UDP, Flow, Packet
from dataplane.reference.translation import translate, translate_quoted
from dataplane.verdict import Reason

PORTS = range(1024, 65536)
MOST_PER_DESTINATION = 55_000


class InadmissiblePortError(AssertionError):
    """A proposed port breaks a rule of AWS: the engine that proposed it is wrong."""


@dataclass(slots=True)
class Connection:
    """One connection: as the client sends it, and the port it has outside (None: chosen, but not yet seen)."""

    inside: Flow
    port: int | None
    life: Lifetime

    def outside(self, gateway: NatGateway) -> Flow:
        """As the gateway sends it."""
        port = self.port if self.port is not None else 0
        if self.inside.protocol == ICMP:
            return replace(self.inside, source=gateway.address, source_port=port, destination_port=port)
        return replace(self.inside, source=gateway.address, source_port=port)


class NatTables:
    """The connections of all NAT gateways."""

    def __init__(self) -> None:
        self._connections: dict[int, dict[Flow, Connection]] = {}

    def live(self, gateway: int, now_ms: int) -> Iterator[Connection]:
        """The connections a gateway has now."""
        for connection in self._connections.get(gateway, {}).values():
            if not connection.life.is_over(now_ms, NAT_GATEWAY):
                yield connection

    def outbound(self, gateway: NatGateway, packet: Packet, now_ms: int, proposed: int | None) -> Packet | Reason:
        """Translate a packet from inside."""
        if packet.protocol not in (TCP, UDP, ICMP):
            return Reason.NAT_PROTOCOL
        if packet.fragment is not None and packet.protocol != UDP:
            return Reason.NAT_FRAGMENT
        if packet.is_icmp_error:
            return self._outbound_error(gateway, packet, now_ms)
        connections = self._connections.setdefault(gateway.number, {})
        found = connections.get(packet.flow)
        if found is None or found.life.is_over(now_ms, NAT_GATEWAY) or found.life.is_reopened_by(packet):
            if packet.protocol == TCP and not packet.opens_tcp:
                return Reason.NAT_NO_SESSION
            connections.pop(packet.flow, None)
            if len(self._rivals(gateway, packet.flow, now_ms)) >= MOST_PER_DESTINATION:
                return Reason.NAT_PORTS_EXHAUSTED
            found = Connection(packet.flow, None, Lifetime.begin(packet, now_ms))
            connections[packet.flow] = found
        else:
            found.life.see(packet, now_ms, by_opener=True)
        if found.port is None:
            self._settle(gateway, found, now_ms, proposed)
        return translate(packet, found.outside(gateway))

    def inbound(self, gateway: NatGateway, packet: Packet, now_ms: int) -> Packet | Reason:
        """Translate a packet for the gateway's own address: of a connection, or an error about one."""
        about = packet.flow
        if packet.is_icmp_error:
            if packet.quoted is None:
                return Reason.NAT_NO_SESSION
            about = packet.quoted.flow.reversed()
        for connection in self.live(gateway.number, now_ms):
            if connection.port is None or connection.outside(gateway).reversed() != about:
                continue
            inside = connection.inside
            if packet.is_icmp_error:
                error = replace(packet.flow, destination=inside.source)
                return translate_quoted(translate(packet, error), inside)
            connection.life.see(packet, now_ms, by_opener=False)
            return translate(packet, inside.reversed())
        return Reason.NAT_NO_SESSION

    def _outbound_error(self, gateway: NatGateway, packet: Packet, now_ms: int) -> Packet | Reason:
        """An ICMP error from inside, about an answer that came through the gateway (RFC 5508 section 4.2)."""
        about = packet.quoted.flow.reversed() if packet.quoted is not None else None
        for connection in self.live(gateway.number, now_ms):
            if connection.inside == about and connection.port is not None:
                outside = connection.outside(gateway)
                error = replace(packet.flow, source=gateway.address)
                return translate_quoted(translate(packet, error), outside.reversed())
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

    def _settle(self, gateway: NatGateway, connection: Connection, now_ms: int, proposed: int | None) -> None:
        """Choose a port, or adopt the one proposed."""
        rivals = self._rivals(gateway, connection.inside, now_ms)
        taken = {rival.port for rival in rivals if rival is not connection}
        if proposed is None:
            return
        if proposed in taken or proposed not in PORTS:
            raise InadmissiblePortError(f"port {proposed} of NAT gateway {gateway.address} for {connection.inside}")
        connection.port = proposed

    def choose(self, gateway: NatGateway, flow: Flow, now_ms: int) -> int | None:
        """The lowest port that no connection to the same destination has."""
        taken = {rival.port for rival in self._rivals(gateway, flow, now_ms)}
        return next((port for port in PORTS if port not in taken), None)
