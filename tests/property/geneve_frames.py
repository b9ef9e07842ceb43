"""Frames in GENEVE as appliances get them, and as those send them back that have nothing against a packet.

Nothing here knows how the engines build GENEVE; offsets are those of RFC 791, RFC 768 and RFC 8926, section 3.4.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from ipaddress import IPv4Address

from tests.property.test_memo import TYPES, internet_sum

PORT = 6081
LAYOUT = ((8, b"\x01\x08\x01\x02"), (20, b"\x01\x08\x02\x02"), (32, b"\x01\x08\x03\x01"))
"""Where options begin, and how: endpoint, attachment, cookie."""
PROTOCOLS = {4: b"\x08\x00", 6: b"\x86\xdd"}


def is_geneve(frame: bytes) -> bool:
    """Whether there is a packet in GENEVE in a frame, or the beginning of one."""
    is_udp = frame[12:14] == TYPES[4] and len(frame) >= 14 + 68 and frame[14] == 0x45 and frame[23] == 17
    return is_udp and frame[36:38] == PORT.to_bytes(2) and not int.from_bytes(frame[20:22]) & 0x1FFF


def is_as_sent(frame: bytes) -> bool:
    """Whether the options of a frame in GENEVE are those that balancers send: somebody may have passed others on."""
    message = frame[42:]
    return message[0] & 0x3F == 8 and all(message[at : at + 4] == option for at, option in LAYOUT)


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


def by_another(packet: bytes, source: str) -> bytes:
    """EtherType and IPv4 packet without options, as somebody else sends it."""
    raw = bytearray(packet[2:])
    raw[10:12], raw[12:16] = b"\0\0", IPv4Address(source).packed
    raw[10:12] = struct.pack(">H", internet_sum(bytes(raw[:20])))
    return packet[:2] + bytes(raw)


def instead(frame: bytes, packet: bytes) -> bytes:
    """As `bounce`, with another packet in the place of the one inside."""
    raw = frame[14:]
    message = rebuilt(raw[28:], options_of(raw[28:]), packet)
    return TYPES[4] + headed(raw[16:20], raw[12:16], datagram_with(raw[20:28], message))


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


def datagram_with(old: bytes, message: bytes) -> bytes:
    """A datagram between the same ports, without a checksum."""
    return old[:4] + (8 + len(message)).to_bytes(2) + b"\0\0" + message
