"""Frames made from the octets of a fuzzed input: whole ones that fit the world they are sent in, answers to what was
received, errors about it, pieces of it, what appliances send back, and all of those with octets changed.

Nothing here is shared with the engine but the layout of headers: RFC 791, 8200, 9293, 768, 792, 4443, 8926.
"""

from __future__ import annotations

import itertools
import struct
from collections.abc import Sequence

from tests.fuzz.octets import Octets
from tests.fuzz.worlds import End, World

PORTS = (443, 80, 22, 0, 1, 79, 81, 1023, 1024, 6081, 32768, 40000, 65535, 53)
SIZES = (
    0,
    0,
    0,
    1,
    5,
    8,
    24,
    536,
    1232,
    1400,
    1452,
    1472,
    1473,
    2900,
    8432,
    8433,
    8473,
    8960,
    8999,
    9100,
    20000,
    60000,
)
TTLS = (64, 64, 64, 255, 1, 2, 3, 4, 0)
TCP_FLAGS = (0x02, 0x02, 0x10, 0x12, 0x18, 0x11, 0x04, 0x14, 0x00, 0x01, 0x03, 0x3F, 0x10, 0x42)
TCP_OPTIONS = (
    b"",
    b"",
    b"\2\4\x22\xd8",
    b"\2\4\xff\xff",
    b"\1\1\2\4\5\xb4\1\1",
    b"\2\0\0\0",
    b"\2\4",
    b"\0\0\0\0",
    b"\x13\xff\0\0",
)
IP_OPTIONS = (
    b"",
    b"",
    b"",
    b"\x94\4\0\0",
    b"\7\7\4\0\0\0\0\0",
    b"\x83\7\4\x0a\0\2\1\0",
    b"\1\1\1\1",
    b"\x44\0\0\0",
    b"\x89\xff\4\0",
)
PROTOCOLS = ("tcp", "tcp", "tcp", "udp", "udp", "udp", "query", "query", "icmp", "other", "geneve")
OTHERS = (47, 50, 132, 0, 43, 44, 51, 59, 60, 255, 2, 89)
EXTENSIONS = (
    b"",
    b"",
    b"",
    b"\0",
    b"\x3c",
    b"\x2b",
    b"\x33",
    b"\x2c",
    b"\x3c\x3c\x3c\x3c\x3c\x3c\x3c\x3c\x3c\x3c",
    b"\0\x2b\x2c\x3c",
    b"\x87",
    b"\x2c\x3c",
)
IPV4, IPV6, ARP = b"\x08\x00", b"\x86\xdd", b"\x08\x06"
TYPES = (b"\x81\x00", b"\x88\xa8", b"\x91\x00", b"\x00\x26", IPV4, IPV6, ARP)
"""EtherTypes that a frame may have in the place of its own."""


def total(octets: bytes, start: int = 0) -> int:
    """The Internet checksum (RFC 1071) over some octets and what came before."""
    if len(octets) & 1:
        octets += b"\0"
    value = start + sum(struct.unpack(f">{len(octets) // 2}H", octets))
    while value >> 16:
        value = (value >> 16) + (value & 0xFFFF)
    return value


def headed4(
    source: bytes,
    destination: bytes,
    proto: int,
    body: bytes,
    *,
    ttl: int = 64,
    options: bytes = b"",
    field: int = 0,
    number: int = 1,
) -> bytes:
    """An IPv4 packet with a right header checksum."""
    words = 5 + len(options) // 4
    head = struct.pack(">BBHHHBBH", 0x40 | words, 0, (words * 4 + len(body)) & 0xFFFF, number, field, ttl, proto, 0)
    head += source + destination + options
    return head[:10] + struct.pack(">H", total(head) ^ 0xFFFF) + head[12:] + body


def headed6(source: bytes, destination: bytes, proto: int, body: bytes, *, ttl: int = 64) -> bytes:
    """An IPv6 packet."""
    return struct.pack(">IHBB", 0x60000000, len(body) & 0xFFFF, proto, ttl) + source + destination + body


def summed(source: bytes, destination: bytes, proto: int, body: bytes, at: int) -> bytes:
    """A transport segment with its checksum, which covers a pseudo-header too."""
    body = body[:at] + b"\0\0" + body[at + 2 :]
    value = total(body, total(source + destination) + proto + len(body)) ^ 0xFFFF
    return body[:at] + struct.pack(">H", value or 0xFFFF) + body[at + 2 :]


def segment(octets: Octets, kind: str, six: bool, source: bytes, destination: bytes) -> tuple[int, bytes]:
    """What an IP packet carries: its protocol and octets."""
    size = octets.among(SIZES) if octets.rarely(4) else octets.one() % 9
    data = bytes(size)
    if kind == "tcp":
        options = octets.among(TCP_OPTIONS)
        head = struct.pack(">HHIIBBHHH", octets.among(PORTS), octets.among(PORTS), octets.one() << 24, octets.one(),
                           (5 + (len(options) + 3) // 4) << 4, octets.among(TCP_FLAGS), 65535, 0, 0)  # fmt: skip
        return 6, summed(source, destination, 6, head + options + bytes(-len(options) % 4) + data, 16)
    if kind in ("udp", "geneve"):
        to = 6081 if kind == "geneve" else octets.among(PORTS)
        if kind == "geneve":
            data = octets.take(octets.one() % 48) + data
        head = struct.pack(">HHHH", octets.among(PORTS), to, (8 + len(data)) & 0xFFFF, 0)
        return 17, summed(source, destination, 17, head + data, 6) if octets.one() % 8 else head + data
    if kind == "other":
        return octets.among(OTHERS), octets.take(octets.one() % 24) + data
    if kind == "query":
        type_ = octets.among((128, 128, 129) if six else (8, 8, 0, 13, 17))
        body = struct.pack(">BBHHH", type_, 0, 0, octets.one() % 3, 0) + data
    else:
        kinds = (1, 2, 3, 4, 133, 134, 135, 136, 137, 143, 130) if six else (3, 3, 4, 5, 11, 12, 9, 10, 30)
        body = (
            struct.pack(">BBHI", octets.among(kinds), octets.one() % 16, 0, octets.two())
            + octets.take(octets.one() % 64)
            + data
        )
    if six:
        return 58, summed(source, destination, 58, body, 2)
    return 1, body[:2] + struct.pack(">H", total(body) ^ 0xFFFF) + body[4:]


def chained(octets: Octets, kinds: bytes, proto: int, body: bytes) -> tuple[int, bytes]:
    """Extension headers in front of what an IPv6 packet carries (RFC 8200, section 4)."""
    for kind in reversed(kinds):
        if kind == 44:
            body = struct.pack(">BBHI", proto, 0, octets.among((0, 1, 8, 9, 0xFFF8, 0x100)), octets.one() % 4) + body
        elif kind == 51:
            body = struct.pack(">BB", proto, 1) + bytes(10) + body
        else:
            body = struct.pack(">BB", proto, 0) + bytes(6) + body
        proto = kind
    return proto, body


def address(octets: Octets, own: Sequence[bytes], everybody: Sequence[bytes]) -> bytes:
    """Mostly one of somebody's own."""
    at = octets.one()
    return own[at % len(own)] if own and at < 240 else everybody[at % len(everybody)]


def packet(octets: Octets, world: World, end: End) -> tuple[bytes, bytes]:
    """EtherType and packet of somebody who has something to say."""
    six = bool(end.own6) and octets.one() % 3 == 0
    everybody = world.addresses6 if six else world.addresses4
    source = address(octets, end.own6 if six else end.own4, everybody)
    destination = everybody[octets.one() % len(everybody)]
    proto, body = segment(octets, octets.among(PROTOCOLS), six, source, destination)
    ttl = octets.among(TTLS) if octets.rarely(4) else 64
    if six:
        proto, body = chained(octets, octets.among(EXTENSIONS) if octets.rarely(4) else b"", proto, body)
        return IPV6, headed6(
            source, destination, proto, body, ttl=255 if proto == 58 and body[0] in range(133, 138) else ttl
        )
    options = octets.among(IP_OPTIONS) if octets.rarely(4) else b""
    field = octets.among((0x4000, 0x2000, 0x2001, 1, 2, 0x1FFF, 0x3FFF, 0x8000)) if octets.rarely(4) else 0
    return IPV4, headed4(
        source, destination, proto, body, ttl=ttl, options=options, field=field, number=octets.one() % 4
    )


def question(octets: Octets, world: World, end: End) -> tuple[bytes, bytes]:
    """An ARP frame, or a neighbour solicitation (RFC 4861, 4.3): a request, a reply, or nearly one."""
    if end.own6 and octets.one() & 1:
        own = octets.among(end.own6)
        asked = octets.among(world.addresses6)
        body = struct.pack(">BBHI", octets.among((135, 135, 135, 136)), 0, 0, 0) + asked + b"\1\1" + end.mac
        body = body[: octets.among((32, 32, 32, 24, 23))]
        to = octets.among((asked, bytes.fromhex("ff0200000000000000000001ff") + asked[13:]))
        return IPV6, headed6(own, to, 58, summed(own, to, 58, body, 2), ttl=octets.among((255, 255, 255, 64)))
    source = address(octets, end.own4, world.addresses4)
    target = octets.among(world.addresses4)
    body = struct.pack(">HHBBH", 1, 0x0800, 6, 4, octets.among((1, 1, 2, 3))) + end.mac + source + bytes(6) + target
    return ARP, body[: octets.among((28, 28, 28, 27, 8, 0))]


def from_port(type_: bytes, raw: bytes, more: int) -> bytes:
    """The same packet of TCP or UDP from a port so many further on; others as they are."""
    at = 40 if type_ == IPV6 else (raw[0] & 15) * 4
    proto = raw[6 if type_ == IPV6 else 9]
    if proto not in (6, 17) or len(raw) < at + (20 if proto == 6 else 8):
        return raw
    ends = raw[8:40] if type_ == IPV6 else raw[12:20]
    port = (int.from_bytes(raw[at : at + 2]) + more) & 0xFFFF
    body = summed(ends, b"", proto, port.to_bytes(2) + raw[at + 2 :], 16 if proto == 6 else 6)
    return raw[:at] + body


def pieces(octets: Octets, type_: bytes, whole: bytes) -> list[bytes]:
    """A packet in two or three fragments, in some order, one of them perhaps missing, or twice."""
    first, step = octets.among((8, 16, 24, 1480)), octets.among((8, 16, 64, 1480))
    number = octets.one() % 3
    head = 20 if type_ == IPV4 else 40
    body, made = whole[head:], []
    cuts = [0, first, first + step, len(body)] if len(body) > first + step else [0, first, len(body)]
    for start, stop in itertools.pairwise(cuts):
        more = stop < len(body)
        if type_ == IPV4:
            made.append(
                headed4(
                    whole[12:16],
                    whole[16:20],
                    whole[9],
                    body[start:stop],
                    number=number,
                    field=start // 8 | (0x2000 if more else 0),
                )
            )
        else:
            fragment = struct.pack(">BBHI", whole[6], 0, start | more, number) + body[start:stop]
            made.append(headed6(whole[8:24], whole[24:40], 44, fragment))
    order = octets.one()
    made = made[order % len(made) :] + made[: order % len(made)]
    if order & 0x40:
        made.reverse()
    return made[: -1 if order & 0x80 and len(made) > 1 else None]


def answered(frame: bytes, flags: int) -> tuple[bytes, bytes]:
    """What comes back for a packet: ends swapped; of TCP with other flags, of echo with a reply."""
    type_, raw = frame[12:14], bytearray(frame[14:])
    if type_ == IPV4 and len(raw) >= 20:
        raw[12:16], raw[16:20] = raw[16:20], raw[12:16]
        at, proto, ends = (raw[0] & 15) * 4, raw[9], bytes(raw[12:20])
    elif type_ == IPV6 and len(raw) >= 40:
        raw[8:24], raw[24:40] = raw[24:40], raw[8:24]
        at, proto, ends = 40, raw[6], bytes(raw[8:40])
    else:
        return type_, bytes(raw)
    body = bytes(raw[at:])
    if len(body) < 8:
        return type_, bytes(raw)
    if proto in (6, 17):
        body = body[2:4] + body[:2] + body[4:]
        if proto == 6 and len(body) >= 20:
            body = body[:13] + bytes([flags]) + body[14:]
        body = summed(ends, b"", proto, body, 16 if proto == 6 else 6) if proto == 17 or len(body) >= 20 else body
    elif proto == 1 and body[0] == 8:
        body = b"\0" + body[1:2] + b"\0\0" + body[4:]
        body = body[:2] + struct.pack(">H", total(body) ^ 0xFFFF) + body[4:]
    elif proto == 58 and body[0] == 128:
        body = summed(ends, b"", 58, b"\x81" + body[1:], 2)
    return type_, bytes(raw[:at]) + body


def complaint(octets: Octets, world: World, frame: bytes) -> tuple[bytes, bytes]:
    """An ICMP error about a packet that was received."""
    raw = frame[14:]
    quote = raw[: octets.among((28, 28, 48, 48, 20, 27, 40, 8, 0, 548, 1232))]
    if frame[12:14] == IPV6 and len(raw) >= 40:
        kind, code = octets.among(((1, 0), (1, 4), (2, 0), (3, 0), (3, 1), (4, 0), (4, 1))), octets.one()
        body = (
            struct.pack(
                ">BBHI", kind[0], kind[1] if code < 200 else code, 0, octets.among((0, 1280, 1500, 70000, 4, 7, 41))
            )
            + quote
        )
        source = raw[24:40] if octets.one() < 200 else octets.among(world.addresses6)
        return IPV6, headed6(source, raw[8:24], 58, summed(source, raw[8:24], 58, body, 2))
    if len(raw) < 20:
        return IPV4, raw
    kind = octets.among(((3, 1), (3, 3), (3, 4), (11, 0), (11, 1), (12, 0), (4, 0), (5, 1), (3, 13)))
    body = (
        struct.pack(">BBHHH", *kind, 0, octets.among((0, 0x0100, 0x1000, 12)), octets.among((0, 68, 1280, 1480, 65535)))
        + quote
    )
    source = raw[16:20] if octets.one() < 200 else octets.among(world.addresses4)
    return IPV4, headed4(source, raw[12:16], 1, body[:2] + struct.pack(">H", total(body) ^ 0xFFFF) + body[4:])


def bounced(octets: Octets, frame: bytes) -> tuple[bytes, bytes]:
    """A packet in GENEVE as an appliance sends it back; perhaps with the answer inside."""
    if frame[12:14] != IPV4 or len(frame) < 14 + 28:
        return frame[12:14], frame[14:]
    return returned(frame, answers=octets.rarely(6))


def returned(frame: bytes, *, answers: bool) -> tuple[bytes, bytes]:
    """A packet in GENEVE that comes back: addresses swapped, ports not.

    `answers`: with the answer of the far end in the place of the packet inside, as if it had come in here.
    """
    raw = frame[14:]
    body = raw[20:]
    if answers:
        inner = body[8 + 8 + (body[8] & 0x3F) * 4 :] if len(body) > 8 else b""
        if len(inner) >= 20:
            body = (
                body[: len(body) - len(inner)]
                + answered(bytes(12) + (IPV4 if inner[0] >> 4 == 4 else IPV6) + inner, 0x12)[1]
            )
    return IPV4, headed4(raw[16:20], raw[12:16], 17, body)


def repaired(type_: bytes, raw: bytes) -> bytes:
    """A packet whose octets were changed, with a right sum in its IPv4 header: or every change would die of that."""
    if type_ != IPV4 or len(raw) < 20:
        return raw
    size = min(max(20, (raw[0] & 15) * 4), len(raw))
    head = raw[:10] + b"\0\0" + raw[12:size]
    return raw[:10] + struct.pack(">H", total(head) ^ 0xFFFF) + raw[12:]


def changed(octets: Octets, type_: bytes, raw: bytes) -> bytes:
    """A packet with up to three octets changed, cut short, or longer."""
    made = bytearray(raw)
    for _ in range(octets.one() % 4):
        how, at, value = octets.one(), octets.one(), octets.one()
        if not made:
            break
        at = at % min(len(made), 128) if how & 3 else len(made) - 1 - at % len(made)
        if how & 0x0C == 0:
            made[at] ^= 1 << (value & 7)
        else:
            made[at] = value
    size = octets.one()
    if size >= 0xE0:
        del made[octets.one() % (len(made) + 1) :]
    elif size >= 0xD0:
        made += octets.take(octets.one() % 16)
    return repaired(type_, bytes(made)) if octets.one() % 4 else bytes(made)
