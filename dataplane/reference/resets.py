"""TCP resets of NAT gateways, for what belongs to a connection that they do not know (any more).

They look as if they came from the far end (RFC 9293, section 3.10.7.1).
https://docs.aws.amazon.com/vpc/latest/userguide/nat-gateway-troubleshooting.html
"""

from __future__ import annotations

from dataplane.reference.checksum import checksum, pseudo_header
from dataplane.reference.packets import ACK, FIN, RST, SYN, TCP, Packet, read
from dataplane.verdict import Reason

TTL = 64


def is_due(packet: Packet) -> bool:
    """Whether a packet of no connection is answered so: TCP, and no reset itself."""
    return packet.protocol == TCP and packet.fragment is None and not packet.tcp_flags & RST


def build_reset(about: Packet) -> Packet:
    """The reset that a segment gets: "in such a way as to be acceptable to the TCP that sent" it."""
    segment, flags = about.raw[about.transport :], about.tcp_flags
    if flags & ACK:
        sequence, acknowledgment, answer = int.from_bytes(segment[8:12]), 0, RST
    else:
        length = len(segment) - (segment[12] >> 4) * 4 + bool(flags & SYN) + bool(flags & FIN)
        sequence, acknowledgment, answer = 0, (int.from_bytes(segment[4:8]) + length) % 2**32, RST | ACK
    tcp = segment[2:4] + segment[0:2] + sequence.to_bytes(4) + acknowledgment.to_bytes(4)
    tcp += bytes([5 << 4, answer, 0, 0, 0, 0, 0, 0])
    covered = pseudo_header(about.destination, about.source, TCP, len(tcp))
    tcp = tcp[:16] + checksum(covered + tcp).to_bytes(2) + tcp[18:]
    ends = about.destination.packed + about.source.packed
    if about.version == 4:
        header = b"\x45\0" + (20 + len(tcp)).to_bytes(2) + bytes(4) + bytes([TTL, TCP, 0, 0]) + ends
        header = header[:10] + checksum(header).to_bytes(2) + header[12:]
    else:
        header = b"\x60\0\0\0" + len(tcp).to_bytes(2) + bytes([TCP, TTL]) + ends
    reset = read(about.version, header + tcp)
    assert not isinstance(reset, Reason), reset
    return reset
