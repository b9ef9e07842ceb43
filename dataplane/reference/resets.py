"""TCP resets of NAT gateways and load balancers, for what belongs to a connection they do not know (any more).

They look as if they came from the far end (RFC 9293, section 3.10.7.1).
https://docs.aws.amazon.com/vpc/latest/userguide/nat-gateway-troubleshooting.html
"""

from __future__ import annotations

from dataplane.reference.checksum import checksum, pseudo_header
from dataplane.reference.flow import Flow
from dataplane.reference.packets import ACK, FIN, RST, SYN, TCP, Packet, read
from dataplane.verdict import Reason

TTL = 64


def is_due(packet: Packet) -> bool:
    """Whether a packet of no connection is answered so: TCP, and no reset itself."""
    return packet.protocol == TCP and not packet.is_later_fragment and not packet.tcp_flags & RST


def build_reset(about: Packet) -> Packet:
    """The reset that a segment gets: "in such a way as to be acceptable to the TCP that sent" it."""
    segment, flags = about.raw[about.transport :], about.tcp_flags
    if flags & ACK:
        return _build(about.flow.reversed(), int.from_bytes(segment[8:12]), 0, RST)
    return _build(about.flow.reversed(), 0, next_sequence(about), RST | ACK)


def next_sequence(packet: Packet) -> int:
    """The sequence number that the sender of a segment goes on with."""
    segment, flags = packet.raw[packet.transport :], packet.tcp_flags
    length = len(segment) - (segment[12] >> 4) * 4 + bool(flags & SYN) + bool(flags & FIN)
    return (int.from_bytes(segment[4:8]) + length) % 2**32


def _build(flow: Flow, sequence: int, acknowledgment: int, answer: int) -> Packet:
    tcp = flow.source_port.to_bytes(2) + flow.destination_port.to_bytes(2) + sequence.to_bytes(4)
    tcp += acknowledgment.to_bytes(4)
    tcp += bytes([5 << 4, answer, 0, 0, 0, 0, 0, 0])
    covered = pseudo_header(flow.source, flow.destination, TCP, len(tcp))
    tcp = tcp[:16] + checksum(covered + tcp).to_bytes(2) + tcp[18:]
    ends = flow.source.packed + flow.destination.packed
    if flow.source.version == 4:
        header = b"\x45\0" + (20 + len(tcp)).to_bytes(2) + bytes(4) + bytes([TTL, TCP, 0, 0]) + ends
        header = header[:10] + checksum(header).to_bytes(2) + header[12:]
    else:
        header = b"\x60\0\0\0" + len(tcp).to_bytes(2) + bytes([TCP, TTL]) + ends
    reset = read(flow.source.version, header + tcp)
    assert not isinstance(reset, Reason), reset
    return reset
