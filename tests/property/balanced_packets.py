"""What an appliance sends back of a packet in GENEVE: the same with its addresses swapped, or anything else changed.

Nothing here knows how the engines build GENEVE; offsets are those of RFC 791, RFC 768 and RFC 8926, section 3.4.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from ipaddress import ip_address
from typing import Any

from hypothesis import strategies as st
from scapy.layers.inet import ICMP, IP, TCP, UDP, fragment
from scapy.layers.inet6 import ICMPv6EchoRequest, IPv6

from tests.property.lab_packets import Draw, error_about
from tests.property.nat64_packets import cut6
from tests.property.test_memo import TYPES, internet_sum

PORT = 6081
ENDPOINT, ATTACHMENT, COOKIE = b"\x01\x08\x01", b"\x01\x08\x02", b"\x01\x08\x03"
PROTOCOLS = {4: b"\x08\x00", 6: b"\x86\xdd"}
UNKNOWN = (
    b"\x01\x09\x01\x00",
    b"\x01\x08\x04\x01abcd",
    b"\xff\xff\x80\x02" + bytes(8),
    b"\x01\x08\x01\x01\x00\x00\x00\x07",
)
"""Options nobody knows; the last is one of the endpoint with a size that it never has."""
S3, DYNAMODB = "52.216.0.10", "52.94.0.10"

TALKERS = (
    ("c/eth0", "10.0.2.10", "198.51.100.10"),
    ("c/eth0", "10.0.2.10", "10.0.1.10"),
    ("c/eth0", "10.0.2.10", "10.1.1.10"),
    ("c/eth0", "2001:db8:10:2::10", "2001:db8:99::10"),
    ("c/eth0", "2001:db8:10:2::10", "2001:db8:10:1::10"),
    ("a/eth0", "10.0.1.10", "198.51.100.10"),
    ("a/eth0", "10.0.1.10", "10.0.2.10"),
    ("a/eth0", "10.0.1.10", "10.0.3.10"),
    ("a/eth0", "2001:db8:10:1::10", "2001:db8:99::10"),
    ("t/eth0", "10.0.1.10", "198.51.100.10"),
    ("t/eth0", "2001:db8:30:1::10", "2001:db8:99::10"),
    ("e/eth0", "10.1.1.10", "10.0.1.10"),
    ("e/eth0", "10.1.1.10", "10.1.2.10"),
    ("example/eth0", "198.51.100.10", "203.0.113.20"),
    ("example/eth0", "198.51.100.10", "203.0.113.22"),
    ("example/eth0", "2001:db8:99::10", "2001:db8:10:2::10"),
    ("example/eth0", "2001:db8:99::10", "2001:db8:10:1::10"),
)
"""Who may have something to say to whom through load balancers (`balanced_labs`)."""
CUSTOMERS = (
    ("a/eth0", "10.0.1.10", S3),
    ("t/eth0", "10.0.1.10", S3),
    ("c/eth0", "10.0.2.10", S3),
    ("c/eth0", "10.0.2.10", DYNAMODB),
    ("e/eth0", "10.1.1.10", S3),
    ("b/eth0", "10.0.1.11", DYNAMODB),
)
"""The same through gateway endpoints."""
FIXED = {"sport": 40000, "dport": 443}
"""Ports that two VPCs with the same addresses may well use at a time."""
SIZES = (0, 0, 0, 5, 1473, 2900, 8432, 8433, 8460, 8472, 8473, 8900)


def is_geneve(frame: bytes) -> bool:
    """Whether there is a packet in GENEVE in a frame, or the beginning of one."""
    is_udp = frame[12:14] == TYPES[4] and len(frame) >= 14 + 68 and frame[14] == 0x45 and frame[23] == 17
    return is_udp and frame[36:38] == PORT.to_bytes(2) and not int.from_bytes(frame[20:22]) & 0x1FFF


def inside(frame: bytes) -> bytes:
    """The packet inside, of what an engine has sent."""
    return frame[14 + 36 + (frame[42] & 0x3F) * 4 :]


def as_received(frame: bytes) -> bytes:
    """A frame whose packet is what is inside that of another frame; empty when there is none."""
    packet = inside(frame)
    return bytes(12) + PROTOCOLS[packet[0] >> 4] + packet if packet and packet[0] >> 4 in PROTOCOLS else b""


def bounce(frame: bytes) -> bytes:
    """EtherType and packet that an appliance sends back which has nothing against it: addresses swapped, ports not."""
    raw = frame[14:]
    return TYPES[4] + headed(raw[16:20], raw[12:16], raw[20:])


def instead(frame: bytes, packet: bytes) -> bytes:
    """As `bounce`, with another packet in the place of the one inside."""
    raw = frame[14:]
    message = rebuilt(raw[28:], options_of(raw[28:]), packet)
    return TYPES[4] + headed(raw[16:20], raw[12:16], _datagram(raw[20:28], message))


def headed(source: bytes, destination: bytes, datagram: bytes, *, ttl: int = 64) -> bytes:
    """A UDP datagram with an IPv4 header in front."""
    start = struct.pack(">BBHHHBBH", 0x45, 0, 20 + len(datagram), 0, 0x4000, ttl, 17, 0) + source + destination
    return start[:10] + struct.pack(">H", internet_sum(start)) + start[12:] + datagram


def rejoined(frames: Sequence[bytes]) -> bytes | None:
    """The frame of a packet that came in these, whole or in pieces; None: some is missing."""
    whole = next((frame for frame in frames if is_geneve(frame)), None)
    if whole is None or not int.from_bytes(whole[20:22]) & 0x3FFF:
        return whole
    offset = {
        int.from_bytes(f[20:22]) & 0x1FFF: f[34:] for f in frames if f[12:14] == TYPES[4] and f[18:20] == whole[18:20]
    }
    body = b""
    while (piece := offset.get(len(body) // 8)) is not None:
        body += piece
    if len(body) < int.from_bytes(whole[38:40]):
        return None
    return whole[:14] + headed(whole[26:30], whole[30:34], body)


def opening(draw: Draw, *, services: bool, balancers: bool) -> tuple[str, int, bytes]:
    """The first packet of a conversation: by whom, its version and bytes."""
    both = (*(TALKERS if balancers else ()), *(CUSTOMERS if services else ()))
    node, source, destination = draw(st.sampled_from(both))
    is_served = destination in (S3, DYNAMODB)
    kind = draw(
        st.sampled_from(["tcp", "tcp", "tcp", "query", "udp"] if is_served else ["tcp", "udp", "udp", "query", "gre"])
    )
    size = draw(st.sampled_from(SIZES)) if draw(st.integers(0, 2)) == 0 else 0
    ports = FIXED if draw(st.booleans()) else {"sport": draw(st.sampled_from([1, 40001, 65535])), "dport": 80}
    ttl = draw(st.sampled_from([64, 64, 64, 64, 64, 4, 3, 2, 1]))
    flags = draw(st.sampled_from(["", "", "DF"]))
    upper: Any = UDP(**ports) / bytes(size)
    if kind == "tcp":
        options = [("MSS", draw(st.sampled_from([536, 8440, 8460, 8461, 8961])))]
        upper = TCP(**ports, flags=draw(st.sampled_from(["S", "S", "S", "S", "A", "R"])), options=options) / bytes(size)
    if ":" in source:
        upper = ICMPv6EchoRequest(id=1, data=bytes(size)) if kind == "query" else upper
        head6 = IPv6(src=source, dst=destination, hlim=ttl)
        if kind == "gre":
            head6.nh, upper = 47, bytes(16 + size)
        return node, 6, bytes(head6 / upper)
    upper = ICMP(id=1) / bytes(size) if kind == "query" else upper
    head = IP(src=source, dst=destination, id=draw(st.integers(0, 3)), ttl=ttl, flags=flags)
    if kind == "gre":
        head.proto, upper = 47, bytes(16 + size)
    return node, 4, bytes(head / upper)


# -- what somebody does who is up to no good, or broken


def options_of(message: bytes) -> list[bytes]:
    """The options of a GENEVE message that is well formed."""
    found, at, end = [], 8, 8 + (message[0] & 0x3F) * 4
    while at < end:
        size = 4 + (message[at + 3] & 0x1F) * 4
        found.append(message[at : at + size])
        at += size
    return found


def rebuilt(message: bytes, options: Sequence[bytes], packet: bytes | None = None) -> bytes:
    """A message with other options, and perhaps another packet inside."""
    body = message[8 + (message[0] & 0x3F) * 4 :] if packet is None else packet
    words = b"".join(options)
    return bytes([message[0] & 0xC0 | len(words) // 4]) + message[1:8] + words + body


def tampered(draw: Draw, frame: bytes, nodes: Sequence[str]) -> tuple[str, list[bytes]]:
    """What was changed, and EtherType and packet of what is sent back for a frame; `nodes`: addresses of nodes."""
    raw, kind = frame[14:], draw(st.sampled_from(sorted([*HEADER, *OPTIONS, *OUTER, *INSIDE])))
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
        return kind, [TYPES[4] + headed(source, destination, _datagram(datagram, each)) for each in several]
    return kind, [TYPES[4] + headed(source, destination, _datagram(datagram, message))]


def _datagram(old: bytes, message: bytes) -> bytes:
    """A datagram between the same ports, without a checksum."""
    return old[:4] + (8 + len(message)).to_bytes(2) + b"\0\0" + message


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
    changed = draw(st.sampled_from(["swapped", "source", "destination"]))
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
    from tests.property.test_memo import swap_ends

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
