"""What an appliance sends back that is up to no good, or broken: a packet in GENEVE with anything changed about it.

Nothing here knows how the engines build GENEVE; offsets are those of RFC 791, RFC 768 and RFC 8926, section 3.4.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from ipaddress import ip_address
from typing import Any

from hypothesis import strategies as st
from scapy.layers.inet import IP, fragment

from tests.property.geneve_frames import as_received, datagram_with, headed, options_of, rebuilt
from tests.property.lab_packets import Draw, error_about
from tests.property.nat64_packets import cut6
from tests.property.test_memo import TYPES, internet_sum, swap_ends

ENDPOINT, ATTACHMENT, COOKIE = b"\x01\x08\x01", b"\x01\x08\x02", b"\x01\x08\x03"
UNKNOWN = (
    b"\x01\x09\x01\x00",
    b"\x01\x08\x04\x01abcd",
    b"\xff\xff\x80\x02" + bytes(8),
    b"\x01\x08\x01\x01\x00\x00\x00\x07",
)
"""Options nobody knows; the last is one of the endpoint with a size that it never has."""


def tampered(draw: Draw, frame: bytes, nodes: Sequence[str]) -> tuple[str, list[bytes]]:
    """What was changed, and EtherType and packet of what is sent back for a frame; `nodes`: addresses of nodes."""
    raw, kind = frame[14:], draw(st.sampled_from([*sorted([*HEADER, *OPTIONS, *OUTER, *INSIDE]), *OFTEN]))
    source, destination, datagram = raw[16:20], raw[12:16], raw[20:]
    message = datagram[8:]
    if kind in OUTER:
        return kind, OUTER[kind](draw, source, destination, datagram, nodes)
    if kind in HEADER:
        message = HEADER[kind](draw, message)
    elif kind in OPTIONS:
        message = rebuilt(message, OPTIONS[kind](draw, options_of(message)))
    else:
        found = INSIDE[kind](draw, as_received(frame))
        packets = found if isinstance(found, list) else [found]
        several = [rebuilt(message, options_of(message), packet) for packet in packets]
        return kind, [TYPES[4] + headed(source, destination, datagram_with(datagram, each)) for each in several]
    return kind, [TYPES[4] + headed(source, destination, datagram_with(datagram, message))]


def _byte(at: int, *values: int) -> Any:
    return lambda draw, message: message[:at] + bytes([draw(st.sampled_from(values))]) + message[at + 1 :]


HEADER: dict[str, Any] = {
    "version": lambda draw, m: bytes([m[0] | draw(st.sampled_from([0x40, 0x80]))]) + m[1:],
    "bits": _byte(1, 0x80, 0x40, 0xC0, 0x3F),
    "network": lambda draw, m: m[:4] + b"\x12\x34\x56" + m[7:],
    "protocol type": lambda draw, m: (
        m[:2] + draw(st.sampled_from([b"\x65\x58", b"\x86\xdd", b"\x08\x00", b"\0\0"])) + m[4:]
    ),
    "length of options": lambda draw, m: bytes([m[0] & 0xC0 | draw(st.sampled_from([0, 1, 6, 7, 9, 13, 63]))]) + m[1:],
    "cut": lambda draw, m: m[: draw(st.sampled_from([0, 1, 7, 8, 39, 40, 41, 59, 60, 67, 68, len(m) - 1]))],
    "nothing": lambda draw, m: m,
}
"""Changes of the header, or of all of it."""


def _instead(kind: bytes, *values: bytes) -> Any:
    def change(draw: Draw, options: list[bytes]) -> list[bytes]:
        data = draw(st.sampled_from(values))
        return [kind + bytes([len(data) // 4]) + data if each[:3] == kind else each for each in options]

    return change


def _other_cookie(draw: Draw, options: list[bytes]) -> list[bytes]:
    old = next(int.from_bytes(each[4:8]) for each in options if each[:3] == COOKIE)
    return _instead(COOKIE, *((old ^ bit).to_bytes(4) for bit in (1, 1 << 31)), bytes(4), bytes(8))(draw, options)


def _some_more(draw: Draw, options: list[bytes]) -> list[bytes]:
    at = draw(st.integers(0, len(options)))
    return [*options[:at], draw(st.sampled_from([*UNKNOWN, *options])), *options[at:]]


OPTIONS: dict[str, Any] = {
    "cookie": _other_cookie,
    "endpoint": _instead(ENDPOINT, bytes(8), bytes(7) + b"\x01", bytes(4), b"\xff" * 8),
    "attachment": _instead(ATTACHMENT, b"\xff" * 8, bytes(4)),
    "order": lambda draw, options: draw(st.permutations(options)),
    "missing": lambda draw, options: [each for each in options if each[2] != draw(st.sampled_from([1, 2, 3]))],
    "none": lambda draw, options: [],
    "more": _some_more,
    "twice": lambda draw, options: [*options, *options],
    "critical": lambda draw, options: [each[:2] + bytes([each[2] | 0x80]) + each[3:] for each in options],
    "reserved bits": lambda draw, options: [each[:3] + bytes([each[3] | 0xE0]) + each[4:] for each in options],
}
"""Changes of the options."""


def _ports(draw: Draw, source: bytes, destination: bytes, datagram: bytes, nodes: Sequence[str]) -> list[bytes]:
    changed = draw(st.sampled_from(["swapped", "source", "source", "source", "destination"]))
    other = draw(st.sampled_from([b"\xc0\x00", b"\xff\xff", b"\0\1"]))
    ports = {
        "swapped": datagram[2:4] + datagram[:2],
        "source": other + datagram[2:4],
        "destination": datagram[:2] + other,
    }
    return [TYPES[4] + headed(source, destination, ports[changed] + datagram[4:])]


def _addresses(draw: Draw, source: bytes, destination: bytes, datagram: bytes, nodes: Sequence[str]) -> list[bytes]:
    other = ip_address(draw(st.sampled_from([*nodes, "10.8.2.23", "10.1.1.10"]))).packed
    if draw(st.booleans()):
        return [TYPES[4] + headed(other, destination, datagram)]
    return [TYPES[4] + headed(source, other, datagram)]


def _checksum(draw: Draw, source: bytes, destination: bytes, datagram: bytes, nodes: Sequence[str]) -> list[bytes]:
    return [
        TYPES[4]
        + headed(source, destination, datagram[:6] + draw(st.sampled_from([b"\0\0", b"\x12\x34"])) + datagram[8:])
    ]


def _ttl(draw: Draw, source: bytes, destination: bytes, datagram: bytes, nodes: Sequence[str]) -> list[bytes]:
    return [TYPES[4] + headed(source, destination, datagram, ttl=draw(st.sampled_from([1, 2, 255])))]


def _pieces(draw: Draw, source: bytes, destination: bytes, datagram: bytes, nodes: Sequence[str]) -> list[bytes]:
    whole = bytearray(headed(source, destination, datagram))
    whole[6] &= 0xBF
    cut = draw(st.sampled_from([48, 64, 512]))
    return [TYPES[4] + bytes(piece) for piece in fragment(IP(bytes(whole)), cut)]


def _udp_length(draw: Draw, source: bytes, destination: bytes, datagram: bytes, nodes: Sequence[str]) -> list[bytes]:
    length = draw(st.sampled_from([8, 15, 16, 48, 68, len(datagram) - 1, len(datagram) - 8]))
    return [TYPES[4] + headed(source, destination, datagram[:4] + max(8, length).to_bytes(2) + datagram[6:])]


OUTER: dict[str, Any] = {
    "ports": _ports,
    "addresses": _addresses,
    "checksum": _checksum,
    "outer TTL": _ttl,
    "outer fragments": _pieces,
    "UDP length": _udp_length,
}
"""Changes of the packet around."""
OFTEN = (*["ports"] * 6, *["addresses"] * 3, *["outer fragments"] * 4, *["tuple"] * 2)
"""What is found out last, so that much else must be right for it: drawn more often."""


def _tuple(draw: Draw, frame: bytes) -> bytes:
    packet = bytearray(frame[14:])
    ends, ports = (slice(12, 20), 20) if packet[0] >> 4 == 4 else (slice(8, 40), 40)
    at = draw(st.sampled_from([*range(ends.start, ends.stop), ports, ports + 1, ports + 3, 9 if ports == 20 else 6]))
    packet[at % len(packet)] ^= draw(st.sampled_from([1, 2, 0x17]))
    return _summed(packet)


def _summed(packet: bytearray) -> bytes:
    if packet[0] >> 4 == 4:
        packet[10:12] = b"\0\0"
        packet[10:12] = struct.pack(">H", internet_sum(bytes(packet[: (packet[0] & 15) * 4])))
    return bytes(packet)


def _turned(draw: Draw, frame: bytes) -> bytes:
    """The other way round: the appliance answers itself."""
    return swap_ends(frame)[2:]


def _reset(draw: Draw, frame: bytes) -> bytes:
    packet, at = bytearray(frame[14:]), 20 if frame[12:14] == TYPES[4] else 40
    protocol = packet[9] if at == 20 else packet[6]
    if protocol == 6 and len(packet) > at + 13:
        packet[at + 13] = draw(st.sampled_from([4, 20, 17, 16]))
    return bytes(packet)


def _in_pieces(draw: Draw, frame: bytes) -> list[bytes]:
    packet = frame[14:]
    if frame[12:14] == TYPES[6]:
        return draw(st.permutations(cut6(packet, draw(st.integers(1, 3)), 16)))[:3]
    whole = IP(packet)
    whole.flags, whole.id = 0, draw(st.integers(1, 3))
    whole.chksum = whole.len = None
    pieces = fragment(IP(bytes(whole)), 16) if len(packet) < 500 else fragment(IP(bytes(whole)), 1400)
    return draw(st.permutations([bytes(piece) for piece in pieces]))[:3]


INSIDE: dict[str, Any] = {
    "tuple": _tuple,
    "turned": _turned,
    "error": lambda draw, frame: error_about(draw, frame),
    "reset": _reset,
    "inner fragments": _in_pieces,
    "inner TTL": lambda draw, frame: _summed(bytearray(_with_ttl(frame[14:], draw(st.sampled_from([0, 1, 2, 255]))))),
    "longer": lambda draw, frame: frame[14:] + bytes(3),
    "garbage": lambda draw, frame: frame[14 : 14 + draw(st.integers(0, 24))] + bytes(draw(st.integers(0, 30))),
    "martian": lambda draw, frame: _martian(frame[14:]),
}
"""Changes of the packet inside, or of several that are sent for it."""


def _with_ttl(packet: bytes, ttl: int) -> bytes:
    at = 8 if packet[0] >> 4 == 4 else 7
    return packet[:at] + bytes([ttl]) + packet[at + 1 :]


def _martian(packet: bytes) -> bytes:
    if packet[0] >> 4 == 4:
        return _summed(bytearray(packet[:12] + b"\x7f\0\0\1" + packet[16:]))
    return packet[:8] + bytes(15) + b"\1" + packet[24:]
