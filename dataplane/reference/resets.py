"""TCP resets of NAT gateways and endpoints, for what belongs to a connection that they do not know (any more).

They look as if they came from the far end (RFC 9293, section 3.10.7.1).
https://docs.aws.amazon.com/vpc/latest/userguide/nat-gateway-troubleshooting.html
"""

from __future__ import annotations

from dataplane.reference.checksum import checksum, pseudo_header
from dataplane.reference.packets import ACK, FIN, RST, SYN, TCP, Flow, Packet, read
from dataplane.verdict import Reason

TTL = 64


def is_due(packet: Packet) -> bool:
    """Whether a packet of no connection is answered so: TCP, and no reset itself."""
    return packet.protocol == TCP and packet.fragment is None and not packet.tcp_flags & RST


def end_of(packet: Packet) -> int:
    """The sequence number that follows a segment."""
    segment = packet.raw[packet.transport :]
    length = len(segment) - (segment[12] >> 4) * 4
    return (int.from_bytes(segment[4:8]) + length + bool(packet.tcp_flags & SYN) + bool(packet.tcp_flags & FIN)) % 2**32


def build_reset(about: Packet) -> Packet:
    """The reset that a segment gets: "in such a way as to be acceptable to the TCP that sent" it."""
    acknowledges = about.tcp_flags & ACK
    acknowledged = int.from_bytes(about.raw[about.transport + 8 :][:4])
    return build_farewell(about.flow, (end_of(about), acknowledged if acknowledges else None))


def build_farewell(flow: Flow, ends: tuple[int, int | None]) -> Packet:
    """The reset for who sends the packets of `flow`.

    `ends`: the sequence numbers that follow what it has sent, and what it has got (None: nothing).
    """
    own, far = ends
    sequence, acknowledgment, answer = (0, own, RST | ACK) if far is None else (far, 0, RST)
    tcp = flow.destination_port.to_bytes(2) + flow.source_port.to_bytes(2)
    tcp += sequence.to_bytes(4) + acknowledgment.to_bytes(4) + bytes([5 << 4, answer, 0, 0, 0, 0, 0, 0])
    covered = pseudo_header(flow.destination, flow.source, TCP, len(tcp))
    tcp = tcp[:16] + checksum(covered + tcp).to_bytes(2) + tcp[18:]
    ends_of_it = flow.destination.packed + flow.source.packed
    version = flow.source.version
    if version == 4:
        header = b"\x45\0" + (20 + len(tcp)).to_bytes(2) + bytes(4) + bytes([TTL, TCP, 0, 0]) + ends_of_it
        header = header[:10] + checksum(header).to_bytes(2) + header[12:]
    else:
        header = b"\x60\0\0\0" + len(tcp).to_bytes(2) + bytes([TCP, TTL]) + ends_of_it
    reset = read(version, header + tcp)
    assert not isinstance(reset, Reason), reset
    return reset
