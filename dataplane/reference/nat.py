"""NAT gateways: connections from inside get an own address and source port; answers find them by it.

TCP, UDP and ICMP queries are translated, from IPv6 to 64:ff9b::/96 too; which of its addresses and ports a gateway
takes is AWS's choice, so it is adopted where proposed and checked. Filtering is by address and port of the far end.
https://docs.aws.amazon.com/vpc/latest/userguide/nat-gateway-basics.html
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from ipaddress import IPv4Address

from dataplane.reference import nat64
from dataplane.reference.checksum import Address
from dataplane.reference.flow import Flow
from dataplane.reference.lifetimes import Lifetime, Stage
from dataplane.reference.nat_counters import NatCounters
from dataplane.reference.nat_ports import MOST_PER_DESTINATION, PORTS, Connection, PortsTaken, as_sent, destination_of
from dataplane.reference.nodes import NatGateway
from dataplane.reference.packets import ICMP, ICMPV6, NEVER_FORWARDED, QUERIES, TCP, UDP, Packet
from dataplane.reference.proposals import Proposals
from dataplane.reference.room import Room
from dataplane.reference.translation import translate, translate_quoted
from dataplane.verdict import Reason


class InadmissiblePortError(AssertionError):
    """A proposed address and port break a rule of AWS: the engine that proposed them is wrong."""


def _refuse(packet: Packet) -> Reason | None:
    """What no NAT gateway translates, in either direction: of ICMP all but queries and errors, of IPv6 nearly all."""
    if packet.version == 6:
        return nat64.refuse(packet)
    if packet.protocol not in (TCP, UDP, ICMP):
        return Reason.NAT_PROTOCOL
    if packet.fragment is not None and packet.protocol != UDP:
        return Reason.NAT_FRAGMENT
    is_strange = packet.protocol == ICMP and packet.icmp_type not in QUERIES[ICMP] and not packet.is_icmp_error
    return Reason.NAT_PROTOCOL if is_strange else None


def _leads_nowhere(gateway: NatGateway, packet: Packet) -> Reason | None:
    """Why nobody can have the IPv4 address that an IPv6 packet is for: it never is one, or it is the gateway's own."""
    embedded = nat64.embedded(packet.destination) if packet.version == 6 else None
    if embedded is None:
        return None
    if any(embedded in block for block in NEVER_FORWARDED[4]):
        return Reason.DESTINATION_MARTIAN
    return Reason.LAND if embedded in gateway.addresses else None


def _opens(packet: Packet) -> bool:
    """Whether a packet from inside may begin a connection: a SYN, a query, or anything of UDP.

    What belongs to a TCP connection that the gateway does not know gets a reset from AWS, and no new connection.
    """
    if packet.protocol == TCP:
        return packet.opens_tcp
    return packet.protocol == UDP or packet.is_request


class _Memory:
    """What one NAT gateway remembers."""

    def __init__(self) -> None:
        self.by_client: dict[Flow, Connection] = {}
        self.ports = PortsTaken()
        self.counters = NatCounters()

    def find(self, inside: Flow, now_ms: int) -> Connection | None:
        """The connection of a client's flow; one that has died of silence is forgotten."""
        found = self.by_client.get(inside)
        if found is not None and found.life.is_over(now_ms):
            self.forget(found, of_silence=True)
            return None
        return found

    def forget(self, connection: Connection, *, of_silence: bool) -> None:
        """A connection is over."""
        if of_silence and connection.life.stage is not Stage.CLOSING:
            self.counters.idle_timeouts += 1
        connection.life.end()
        del self.by_client[connection.inside]
        self.ports.release(connection)

    def expire(self, now_ms: int, connections: list[Connection] | None = None) -> None:
        """Forget what has died of silence, among `connections` or all."""
        for each in list(self.by_client.values()) if connections is None else connections:
            if each.life.is_over(now_ms):
                self.forget(each, of_silence=True)

    def see(self, connection: Connection, packet: Packet, now_ms: int, gateway: NatGateway, *, by_client: bool) -> None:
        """A packet of a connection passes."""
        before = connection.life.stage
        connection.life.see(packet, now_ms, gateway.limits, by_opener=by_client)
        if before is Stage.OPENING and connection.life.stage is Stage.OPEN:
            self.counters.established += 1


class NatTables:
    """The connections of all NAT gateways."""

    def __init__(self, room: Room) -> None:
        self._room = room
        self._memories: dict[int, _Memory] = {}

    def counters(self, gateway: NatGateway) -> NatCounters:
        """What a gateway has counted."""
        return self._memory(gateway.number).counters

    def metrics(self, gateway: int, now_ms: int) -> dict[str, int]:
        """What CloudWatch would show of a gateway now, under its names; it may be gone."""
        memory = self._memory(gateway)
        memory.expire(now_ms)
        tcp = (each for each in memory.by_client.values() if each.inside.protocol == TCP)
        return memory.counters.as_metrics(sum(each.life.stage is not Stage.CLOSING for each in tcp))

    def all(self, now_ms: int) -> Iterator[tuple[int, Connection]]:
        """The connections there are now, with the number of their gateway."""
        for gateway, memory in self._memories.items():
            for connection in memory.by_client.values():
                if not connection.life.is_over(now_ms):
                    yield gateway, connection

    def outbound(self, gateway: NatGateway, packet: Packet, now_ms: int, proposals: Proposals) -> Packet | Reason:
        """Translate a packet from inside.

        Raises:
            Dropped: there is no room for its connection.
        """
        if (refused := _refuse(packet) or _leads_nowhere(gateway, packet)) is not None:
            return refused
        if packet.is_icmp_error:
            return self._outbound_error(gateway, packet, now_ms, proposals)
        memory = self._memory(gateway.number)
        found = memory.find(packet.flow, now_ms)
        is_gone = found is not None and found.address not in gateway.addresses
        if found is not None and not is_gone and not found.life.is_reopened_by(packet):
            memory.see(found, packet, now_ms, gateway, by_client=True)
        elif not _opens(packet):
            return Reason.NAT_NO_SESSION
        else:
            if found is not None:
                self._room.ask(gateway.number)
                memory.forget(found, of_silence=False)
            if found is None or is_gone:
                found = self._open(gateway, packet, now_ms)
            else:
                found = self._reopen(gateway, packet, now_ms, found)
            if found is None:
                return Reason.NAT_PORTS_EXHAUSTED
        self._settle(gateway, found, now_ms, proposals)
        if packet.version == 6:
            return nat64.to_ipv4(packet, found.outside)
        return translate(packet, found.outside)

    def inbound(
        self, gateway: NatGateway, packet: Packet, now_ms: int, *, is_ours: bool, in_pieces: bool = False
    ) -> Packet | Reason:
        """Translate a packet for an address of the gateway: of a connection, or an error about one.

        `is_ours`: the network made it, or another NAT gateway has changed it; both know what nobody has seen outside.
        `in_pieces`: a gateway before has cut it.
        """
        if (refused := _refuse(packet)) is not None:
            return refused
        outside, memory = packet.flow.reversed(), self._memory(gateway.number)
        if packet.is_icmp_error:
            if packet.about is None:
                return Reason.NAT_NO_SESSION
            outside = packet.about
        found = memory.ports.holder(outside)
        if found is None or found.life.is_over(now_ms) or not (found.is_seen or is_ours):
            return Reason.NAT_NO_SESSION
        if found.life.is_reopened_by(packet):
            return Reason.NAT_NO_SESSION  # nobody opens a connection from outside
        if in_pieces and packet.is_unsummed and found.inside.source.version == 6:
            return Reason.NAT_FRAGMENT  # the first piece cannot be summed up (RFC 7915, section 4.5)
        after = _to_client(packet, found.inside)
        if isinstance(after, Packet) and not packet.is_icmp_error:
            memory.see(found, packet, now_ms, gateway, by_client=False)
        return after

    def _outbound_error(
        self, gateway: NatGateway, packet: Packet, now_ms: int, proposals: Proposals
    ) -> Packet | Reason:
        """An ICMP error from inside, about an answer that came through the gateway (RFC 5508, section 4.2)."""
        if packet.about is None:
            return Reason.NAT_NO_SESSION
        found = self._memory(gateway.number).find(packet.about.reversed(), now_ms)
        if found is None or found.address not in gateway.addresses:
            return Reason.NAT_NO_SESSION
        if not found.is_seen:
            packets = () if proposals is None else proposals.packets
            answers = [each.quoted.flow for each in packets if each.quoted is not None]
            self._adopt(gateway, found, now_ms, [(flow.destination, flow.destination_port) for flow in answers])
        if packet.version == 6:
            far = nat64.embedded(packet.destination)
            assert far is not None, "others have been refused"
            return nat64.to_ipv4(packet, Flow(ICMP, found.address, 0, far, 0), found.outside.reversed())
        error = replace(packet.flow, source=found.address)
        return translate_quoted(translate(packet, error), found.outside.reversed())

    def _memory(self, gateway: int) -> _Memory:
        return self._memories.setdefault(gateway, _Memory())

    def _open(self, gateway: NatGateway, packet: Packet, now_ms: int) -> Connection | None:
        """A new connection, at the first address that has room; None: none has."""
        memory = self._memory(gateway.number)
        places = [(address, destination_of(as_sent(packet.flow, address, 0))) for address in gateway.addresses]
        if all(memory.ports.count(*place) >= MOST_PER_DESTINATION for place in places):
            for place in places:
                memory.expire(now_ms, memory.ports.rivals(*place))
        for place in places:
            if memory.ports.count(*place) < MOST_PER_DESTINATION:
                self._room.ask(gateway.number)
                found = self._begin(gateway, packet, now_ms)
                memory.ports.take_lowest(found, place[0])
                return found
        memory.counters.exhausted += 1
        return None

    def _reopen(self, gateway: NatGateway, packet: Packet, now_ms: int, former: Connection) -> Connection:
        """A connection that was closed begins again, with the address and port it had (RFC 7857, section 2.1)."""
        found = self._begin(gateway, packet, now_ms)
        self._memory(gateway.number).ports.take(found, former.address, former.port)
        found.is_seen = former.is_seen
        return found

    def _begin(self, gateway: NatGateway, packet: Packet, now_ms: int) -> Connection:
        """A connection that has no port yet."""
        memory = self._memory(gateway.number)
        found = Connection(packet.flow, Lifetime.begin(packet, now_ms, gateway.limits))
        self._room.take(found.life, joins=True)
        memory.by_client[packet.flow] = found
        memory.counters.attempts += packet.protocol == TCP
        return found

    def _settle(self, gateway: NatGateway, connection: Connection, now_ms: int, proposals: Proposals) -> None:
        """Adopt address and port that are proposed; when nobody proposes, what was chosen counts."""
        if connection.is_seen:
            return
        if proposals is None:
            connection.is_seen = True
            return
        protocol = connection.outside.protocol
        seen = [p for p in proposals.packets if p.version == 4 and p.protocol == protocol and not p.is_later_fragment]
        ends = [(p.source, p.source_port) for p in seen if not p.is_icmp_error]
        self._adopt(gateway, connection, now_ms, ends)

    def _adopt(self, gateway: NatGateway, connection: Connection, now_ms: int, seen: list[tuple[Address, int]]) -> None:
        """Adopt the first address and port seen that are the gateway's own, not those another one made of them."""
        memory = self._memory(gateway.number)
        for source, port in seen:
            address = gateway.known_as.get(source) if isinstance(source, IPv4Address) else None
            if address is None:
                continue
            place = address, destination_of(connection.outside)
            memory.ports.release(connection)
            if memory.ports.count(*place) >= MOST_PER_DESTINATION:
                memory.expire(now_ms, memory.ports.rivals(*place))
            other = memory.ports.at(*place, port)
            if other is not None and other.life.is_over(now_ms):
                memory.forget(other, of_silence=True)
                other = None
            is_taken = other is not None and other.is_seen
            if is_taken or port not in PORTS or memory.ports.count(*place) >= MOST_PER_DESTINATION:
                raise InadmissiblePortError(f"port {port} of {address} for {connection.inside}")
            if other is not None:
                memory.ports.release(other)
            memory.ports.take(connection, address, port)
            connection.is_seen = True
            if other is not None:
                memory.ports.take_lowest(other, address)
            return


def _to_client(packet: Packet, inside: Flow) -> Packet | Reason:
    """A packet from outside as a client gets it."""
    if inside.source.version == 6:
        if packet.is_icmp_error:
            assert isinstance(packet.source, IPv4Address)
            error = Flow(ICMPV6, nat64.embed(packet.source), 0, inside.source, 0)
            return nat64.to_ipv6(packet, error, inside)
        return nat64.to_ipv6(packet, inside.reversed())
    if packet.is_icmp_error:
        return translate_quoted(translate(packet, replace(packet.flow, destination=inside.source)), inside)
    return translate(packet, inside.reversed())
