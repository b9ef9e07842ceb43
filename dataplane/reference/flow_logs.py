"""What flow logs see: each packet at each interface that it leaves or comes to, and what became of it there.

https://docs.aws.amazon.com/vpc/latest/userguide/flow-log-records.html
https://docs.aws.amazon.com/vpc/latest/userguide/flow-logs-limitations.html
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from ipaddress import ip_address
from typing import NamedTuple

from dataplane.names import Names
from dataplane.reference.checksum import Address
from dataplane.reference.packets import TCP, UDP, Packet
from dataplane.topology import Topology
from dataplane.verdict import Reason

WINDOW_MS = 60_000
INSIDE, NEAR_PEER, FAR_PEER, GATEWAY_ENDPOINT, INTERNET = 1, 4, 5, 7, 8
"""Values of traffic-path, as far as there are such ways here."""
LINK_SERVICES = frozenset(
    ip_address(text)
    for text in (
        *("169.254.169.123", "169.254.169.250", "169.254.169.251", "169.254.169.253", "169.254.169.254"),
        *("fd00:ec2::123", "fd00:ec2::250", "fd00:ec2::253", "fd00:ec2::254"),
    )
)
"""Time, Windows licences, DNS, metadata."""
REFUSED = {
    True: (Reason.GROUP_EGRESS, Reason.ACL_EGRESS),
    False: (Reason.GROUP_INGRESS, Reason.ACL_INGRESS),
}
"""What a packet dies of at the gates on its way out (True) of an interface, and on its way in."""
AT_AN_INTERFACE = (*REFUSED[False], Reason.DESTINATION_CHECK)
FIN, SYN, RST, ACK = 1, 2, 4, 16


@dataclass(slots=True)
class Sight:
    """A packet at an interface."""

    interface: int
    leaves: bool
    packet: Packet
    size: int
    """Of the packet, in bytes, whatever pieces it will arrive in."""
    tunnel: tuple[bool, bool]
    """Whether it is in a tunnel then, and whether it has come out of one."""
    path: int = 0
    refused: bool = False


class Record(NamedTuple):
    """What one record is of."""

    window: int
    interface: int
    leaves: bool
    refused: bool
    source: Address
    destination: Address
    protocol: int
    source_port: int
    destination_port: int
    path: int


@dataclass(slots=True)
class Counted:
    """What one record says."""

    packets: int
    bytes: int
    first_ms: int
    last_ms: int
    tcp_flags: int


class FlowRecords:
    """All that was seen since the beginning."""

    def __init__(self) -> None:
        self.found: dict[Record, Counted] = {}

    def note(self, sight: Sight, now_ms: int) -> None:
        """A packet has been seen."""
        packet = sight.packet
        ports = (packet.source_port, packet.destination_port) if packet.protocol in (TCP, UDP) else (0, 0)
        ends = packet.source, packet.destination, packet.protocol, *ports
        record = Record(now_ms // WINDOW_MS, sight.interface, sight.leaves, sight.refused, *ends, sight.path)
        flags, size = flags_of(packet), sight.size
        before = self.found.get(record)
        if before is None:
            self.found[record] = Counted(1, size, now_ms, now_ms, flags)
            return
        before.packets += 1
        before.bytes += size
        before.last_ms = now_ms
        before.tcp_flags |= flags


def flags_of(packet: Packet) -> int:
    """FIN, SYN, RST, and ACK together with SYN only."""
    if packet.protocol != TCP or packet.is_later_fragment:
        return 0
    flags = packet.tcp_flags & (FIN | SYN | RST)
    return flags | ACK if packet.tcp_flags & (SYN | ACK) == SYN | ACK else flags


def watched(topology: Topology, names: Names) -> Mapping[int, frozenset[Address]]:
    """Number of each interface that some flow log watches -> addresses whose packets it does not see there."""
    found = {}
    for each in topology.interfaces:
        home, vpc = each.subnet, topology.lab.vpcs[each.subnet.vpc]
        named = f"{each.kind}:{each.wanted.name}" if each.wanted.is_managed else each.path
        called = {named, each.wanted.name} if each.wanted.is_declared else {named}
        for log in vpc.flow_logs.values():
            if log.network_interface is not None and log.network_interface not in called:
                continue
            if log.network_interface is None and log.subnet not in (None, home.name):
                continue
            kind, path = each.kind, each.path
            if kind == "gateway-load-balancer":
                kind, path = "gateway-load-balancer-node", f"{home.vpc}/{each.wanted.name}/{home.name}"
            unseen = {*LINK_SERVICES, *home.routers, vpc.cidr[2]}
            found[names.intern(kind, path)] = frozenset(unseen)
    return found
