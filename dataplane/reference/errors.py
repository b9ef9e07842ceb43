"""ICMP errors that routers send: Fragmentation Needed, Packet Too Big, Time Exceeded (RFC 792, RFC 1191, RFC 4443).

They quote as much of the packet as fits into 576 bytes (RFC 1812, section 4.3.2.3), or 1280 for IPv6 (RFC 4443).
"""

from __future__ import annotations

from dataplane.reference.checksum import Address, carried_over, checksum, pseudo_header
from dataplane.reference.packets import ECHO, ICMP, ICMPV6, Packet, read
from dataplane.verdict import Reason

SIZE, SIZE6 = 576, 1280
TTL = 64


def may_be_answered(packet: Packet) -> bool:
    """Whether a router may send an error about the packet at all (RFC 1122, section 3.2.2)."""
    if packet.is_later_fragment:
        return False
    if packet.is_icmp:
        return packet.icmp_type not in (3, 4, 5, 11, 12) if packet.protocol == ICMP else packet.icmp_type >= 128
    return True


def build_error(source: Address, about: Packet, mtu: int) -> Packet:
    """The error about a packet, to its source: too large for `mtu` bytes, or (0) that its time is exceeded."""
    if about.version == 4:
        head = bytes([3, 4]) + b"\0\0\0\0" + mtu.to_bytes(2) if mtu else bytes([11, 0]) + bytes(6)
        return _as_packet(4, build(source, about.source, ICMP, head + about.raw[: SIZE - 28]))
    head = (bytes([2, 0]) + b"\0\0" + mtu.to_bytes(4)) if mtu else bytes([3, 0]) + bytes(6)
    return _as_packet(6, build(source, about.source, ICMPV6, head + about.raw[: SIZE6 - 48]))


def build_echo_reply(request: Packet) -> Packet:
    """What a subnet's router answers to a ping: the same packet, turned round."""
    raw, at = bytearray(request.raw), request.transport
    raw[at], raw[8 if request.version == 4 else 7] = ECHO[request.protocol][1], TTL
    first = 12 if request.version == 4 else 8
    ends = request.destination.packed + request.source.packed
    raw[first : first + len(ends)] = ends
    if request.version == 4:
        raw[10:12] = b"\0\0"
        raw[10:12] = checksum(bytes(raw[:at])).to_bytes(2)
    raw[at + 2 : at + 4] = carried_over(request.raw[at:], bytes(raw[at:]), 2).to_bytes(2)  # the ends sum up the same
    return _as_packet(request.version, bytes(raw))


def build(source: Address, destination: Address, protocol: int, message: bytes, ttl: int = TTL) -> bytes:
    """The packet with an ICMP message, and its checksums."""
    if source.version == 4:
        message = message[:2] + checksum(message).to_bytes(2) + message[4:]
        header = b"\x45\0" + (20 + len(message)).to_bytes(2) + bytes(4) + bytes([ttl, protocol, 0, 0])
        header += source.packed + destination.packed
        header = header[:10] + checksum(header).to_bytes(2) + header[12:]
    else:
        covered = pseudo_header(source, destination, protocol, len(message))
        message = message[:2] + checksum(covered + message).to_bytes(2) + message[4:]
        header = b"\x60\0\0\0" + len(message).to_bytes(2) + bytes([protocol, ttl])
        header += source.packed + destination.packed
    return header + message


def _as_packet(version: int, raw: bytes) -> Packet:
    packet = read(version, raw)
    assert not isinstance(packet, Reason), packet
    return packet
