"""ReferencePlane: decides packets from what is declared, slowly, in AWS words. The oracle of the fast engine.

It has the face of `dataplane.engine.DataPlane`: frames in, outcomes and emissions out, time as an argument. Everything
about packets it works out by itself; only what a lab file resolves to (addresses, MACs) is the topology's. With the
same `Names` its numbers are those of the other engine.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import replace

from dataplane.names import Names
from dataplane.reference import own_packets
from dataplane.reference.checksum import Address
from dataplane.reference.error_limit import AT_ONCE, ErrorLimit
from dataplane.reference.fragments import Fragments, Waiting
from dataplane.reference.hops import INSIDE_MTU, INTERNET_MTU
from dataplane.reference.inventory import Inventory
from dataplane.reference.journey import Answered, Dropped, Journey
from dataplane.reference.neighbours import answer_arp, answer_solicitation, is_neighbour_discovery, mac_of
from dataplane.reference.nodes import Host
from dataplane.reference.outcomes import Emission, Outcome, Session
from dataplane.reference.packets import Packet, check_addresses, read
from dataplane.reference.proposals import VERSIONS, Note, Proposals, read_proposals
from dataplane.reference.room import SESSIONS, Room
from dataplane.reference.router import Receiver, Router
from dataplane.topology import Topology
from dataplane.verdict import Cause, Reason, Verdict

ARP, VLAN = b"\x08\x06", (b"\x81\x00", b"\x88\xa8")
TYPES = {version: kind for kind, version in VERSIONS.items()}


class ReferencePlane:
    """One lab's packets, decided.

    Args:
        topology: what is declared.
        names: numbers given so far; a new set when omitted.
        sessions: how many connections there is room for.
        errors: most ICMP errors at once about packets of one port.
    """

    def __init__(
        self, topology: Topology, *, names: Names | None = None, sessions: int = SESSIONS, errors: int = AT_ONCE
    ) -> None:
        self.names = Names() if names is None else names
        self.now_ms = 0
        self._fragments = Fragments(topology.lab.settings.fragment_timeout * 1000)
        self._emissions: list[Emission] = []
        self.drops: dict[int, Counter[Reason]] = {}
        """What died, by port and reason."""
        self.topology = topology
        self.router = Router(Inventory(topology, self.names), Room(sessions), ErrorLimit(errors))
        self._gateways = {each.number for each in self.router.inventory.nat_gateways.values()}
        """Every NAT gateway there ever was."""

    def apply(self, topology: Topology) -> None:
        """Change over to another topology: what is remembered of flows stays."""
        self.router.inventory = Inventory(topology, self.names)
        self._gateways |= {each.number for each in self.router.inventory.nat_gateways.values()}
        self._fragments.timeout_ms = topology.lab.settings.fragment_timeout * 1000
        self.topology = topology

    def process(
        self,
        frames: Sequence[bytes],
        ports: Sequence[int],
        now_ms: int,
        proposals: Sequence[Sequence[bytes]] | None = None,
        *,
        told: Sequence[Sequence[Note]] | None = None,
        traced: bool = False,
    ) -> tuple[list[Outcome], list[Emission]]:
        """Receive `frames`, each through its port, at `now_ms`; one Outcome per frame, and all that left, in order.

        Args:
            frames: Ethernet frames.
            ports: the port of each.
            now_ms: lab time in milliseconds.
            proposals: for each frame, the frames that another engine forwarded for it. What AWS leaves open (the port
                and address of a NAT gateway; target, cookie and port of a flow that is balanced) is adopted from them.
            told: for each frame, what that engine says happened on the way: of a packet that has not left, this tells
                which target it was for, and where there was no room for its connection.
            traced: outcomes tell what happened on the way.

        Raises:
            InadmissiblePortError: what was proposed breaks a rule of AWS.
            InadmissibleChoiceError: likewise.
            RoomError: there was room for a connection, or there was none.
        """
        self.now_ms = max(self.now_ms, now_ms)
        self._emissions = []
        outcomes = []
        for number, (frame, port) in enumerate(zip(frames, ports, strict=True)):
            proposed = None
            if proposals is not None:
                proposed = read_proposals(proposals[number], () if told is None else told[number])
            outcome = self._receive(frame, port, number, proposed)
            outcomes.append(outcome if traced else replace(outcome, trace=()))
            if outcome.verdict is Verdict.DROP:
                self._count(port, outcome.reason)
        return outcomes, self._emissions

    def advance(self, now_ms: int) -> tuple[list[Outcome], list[Emission]]:
        """Let time pass: what died of it. Nothing is sent because of that alone."""
        self.now_ms = max(self.now_ms, now_ms)
        died = self._fragments.expire(self.now_ms)
        for port in died:
            self._count(port, Reason.FRAGMENT_TIMEOUT)
        return [Outcome(Verdict.DROP, Reason.FRAGMENT_TIMEOUT, 0, 0)] * len(died), []

    # -- what is asked of it besides

    def port(self, interface: str) -> int:
        """The port number of an interface, e.g. ``"web/eth0"``.

        Raises:
            KeyError: no such interface in the present topology.
        """
        return self.router.inventory.port_of[interface]

    def interface(self, port: int) -> Receiver:
        """The interface behind a port."""
        return self.router.inventory.ports[port]

    def next_mac(self, port: int, destination: Address) -> bytes:
        """The MAC a host behind `port` would send to for `destination`: its neighbour's, or the router's."""
        node = self.interface(port)
        inside = isinstance(node, Host) or node.subnet.holds(destination)
        return (mac_of(self.router.inventory, node, destination) if inside else None) or node.router_mac

    def sessions(self) -> list[Session]:
        """What is remembered of flows now."""
        tracked = [
            Session("group", number, each.flow if each.is_outgoing else each.flow.reversed(), each.life.stage)
            for number, each in self.router.tracking.live(self.now_ms)
        ]
        translated = [
            Session("nat", number, each.inside, each.life.stage) for number, each in self.router.nat.all(self.now_ms)
        ]
        balanced = [
            Session("balancer", number, each.flow, each.life.stage)
            for number, each in self.router.balancers.all(self.now_ms)
        ]
        memories = (self.router.egress_only, self.router.sent_by_nat, self.router.to_services, self.router.probes)
        return [
            *tracked,
            *translated,
            *balanced,
            *(
                Session("flow", number, flow, life.stage)
                for m in memories
                for number, flow, life in m.live(self.now_ms)
            ),
        ]

    def nat_metrics(self) -> dict[str, dict[str, int]]:
        """By NAT gateway (``VPC/NAME``), what CloudWatch would show of it now; those that are gone are still there."""
        return {self.names[each].path: self.router.nat.metrics(each, self.now_ms) for each in self._gateways}

    @property
    def fragments_waiting(self) -> int:
        """How many fragments wait for the first of their datagram."""
        return self._fragments.waiting()

    def _count(self, port: int, reason: Reason) -> None:
        self.drops.setdefault(port, Counter())[reason] += 1

    # -- one frame

    def _receive(self, frame: bytes, port: int, parent: int, proposals: Proposals) -> Outcome:
        node = self.router.inventory.ports.get(port)
        if node is None:
            return _drop(Reason.CONTEXT_UNKNOWN)
        reason = self._check_frame(frame, node)
        if reason is not None:
            return _drop(reason, port)
        if frame[12:14] == ARP:
            return self._answer(node, answer_arp(self.router.inventory, node, frame[14:]), parent)
        version = VERSIONS[frame[12:14]]
        if version == 4 and frame[0] & 1:
            return _drop(Reason.L2_MULTICAST, port)
        packet = read(version, frame[14:])
        if isinstance(packet, Reason):
            return _drop(packet, port)
        if len(packet.raw) > (INTERNET_MTU if isinstance(node, Host) else INSIDE_MTU):
            return _drop(Reason.MTU_EXCEEDED, port)
        if is_neighbour_discovery(packet):
            return self._answer(node, answer_solicitation(self.router.inventory, node, packet), parent)
        if frame[0] & 1:
            return _drop(Reason.L2_MULTICAST, port)
        wrong = check_addresses(packet)
        if wrong is not None:
            return _drop(wrong, port)
        if packet.fragment is None:
            return self._forward(packet, frame, node, parent, proposals)
        return self._receive_fragment(packet, frame, node, parent, proposals)

    def _check_frame(self, frame: bytes, node: Receiver) -> Reason | None:
        """Only unicast from the interface's own MAC to its router's or a neighbour's, and questions to everybody."""
        if len(frame) < 14:
            return Reason.RUNT_FRAME
        if frame[6:12] != node.mac:
            return Reason.SOURCE_MAC_SPOOFED
        if frame[12:14] in VLAN:
            return Reason.VLAN_TAGGED
        if frame[12:14] != ARP and frame[12:14] not in VERSIONS:
            return Reason.ETHERTYPE_UNSUPPORTED
        if frame[0] & 1 or frame[:6] == node.router_mac or frame[12:14] == ARP:
            return None
        known = not isinstance(node, Host) and self.router.inventory.neighbour(node.subnet, frame[:6]) is not None
        return None if known else Reason.L2_DESTINATION_UNKNOWN

    def _receive_fragment(
        self, packet: Packet, frame: bytes, node: Receiver, parent: int, proposals: Proposals
    ) -> Outcome:
        datagram = self._fragments.datagram(node.number, packet, self.now_ms)
        if datagram is None:
            return _drop(Reason.FRAGMENT_LIMIT, node.number)
        if packet.is_later_fragment:
            if datagram.first is None:
                datagram.waiting.append(Waiting(packet, frame))
                return Outcome(Verdict.HOLD, Reason.NONE, node.number, 0)
            return self._forward(packet.follow(datagram.first), frame, node, parent, proposals)
        datagram.first = packet
        outcome = self._forward(packet, frame, node, parent, proposals)
        waiting, datagram.waiting = datagram.waiting, []
        for each in waiting:
            released = each.packet.follow(packet)
            came_of_it = self._forward(released, each.frame, node, parent, proposals, cause=Cause.RELEASED)
            if came_of_it.verdict is Verdict.DROP:
                self._count(node.number, came_of_it.reason)
        return outcome

    def _forward(
        self,
        packet: Packet,
        frame: bytes,
        node: Receiver,
        parent: int,
        proposals: Proposals,
        cause: Cause = Cause.FORWARDED,
    ) -> Outcome:
        journey = Journey(
            packet=packet,
            sender=node,
            as_sent=packet,
            source_mac=frame[6:12],
            now_ms=self.now_ms,
            proposals=proposals,
            cause=cause,
            watched=self.router.inventory.watched,
        )
        self.router.room.begin(journey, node.number)
        try:
            receiver = self.router.send(journey, frame[:6])
        except Answered as answered:
            self.router.record(journey)
            reply = node.mac + node.router_mac + TYPES[packet.version] + answered.answer.raw
            self._emissions.append(Emission(node.number, reply, Cause.ANSWER, parent))
            journey.note(answered.object, "answer")
            return Outcome(Verdict.SERVE, Reason.NONE, answered.object, 0, tuple(journey.trace))
        except Dropped as dropped:
            self.router.record(journey, dropped.reason)
            if dropped.error is not None:
                sent = own_packets.send(dropped.error, journey, self.router, node.number)
                if isinstance(sent, Reason):
                    self._count(node.number, sent)
                elif sent is not None:
                    self._arrive(*sent, parent)
            journey.note(dropped.object, "drop", dropped.rule)
            return Outcome(Verdict.DROP, dropped.reason, dropped.object, dropped.rule, tuple(journey.trace))
        self.router.record(journey)
        self._arrive(journey, receiver, parent)
        journey.note(receiver.number, "deliver")
        return Outcome(Verdict.FORWARD, Reason.NONE, receiver.number, 0, tuple(journey.trace))

    # -- frames that leave

    def _answer(self, node: Receiver, answer: bytes | Reason, parent: int) -> Outcome:
        if isinstance(answer, Reason):
            return _drop(answer, node.number)
        self._emissions.append(Emission(node.number, answer, Cause.ANSWER, parent))
        return Outcome(Verdict.SERVE, Reason.NONE, node.number, 0, ((node.number, "answer", 0),))

    def _arrive(self, journey: Journey, receiver: Receiver, parent: int) -> None:
        pieces = journey.pieces()
        cause = Cause.FRAGMENT if len(pieces) > 1 else journey.cause
        mac = journey.source_mac or receiver.router_mac
        for piece in pieces:
            frame = receiver.mac + mac + TYPES[journey.packet.version] + piece
            self._emissions.append(Emission(receiver.number, frame, cause, parent))


def _drop(reason: Reason, object: int = 0) -> Outcome:
    return Outcome(Verdict.DROP, reason, object, 0, ((object, "drop", 0),))
