"""Blocks of a pcapng file (draft-ietf-opsawg-pcapng): a section with its interfaces, in our byte order."""

from __future__ import annotations

import struct
import sys
from collections.abc import Iterator
from typing import NamedTuple

NANOSECONDS = 9
"""``if_tsresol``: timestamps count 10**-9 s."""
INBOUND, OUTBOUND = 1, 2
"""``epb_flags``, as seen from the interface."""

SECTION, INTERFACE, STATISTICS, PACKET = 0x0A0D0D0A, 1, 5, 6
"""Kinds of blocks."""
ETHERNET, RAW_IP = 1, 101
"""Link types (LINKTYPE_ETHERNET, LINKTYPE_RAW): what the packets of an interface begin with."""
_MAGIC = 0x1A2B3C4D
_ORDER = sys.byteorder
_END_OF_OPTIONS = b"\0\0\0\0"
_PACKET_HEAD = struct.Struct("=IIIIIII")
_PACKET_TAIL = struct.Struct("=HHIHHI")
_FIXED_BYTES = _PACKET_HEAD.size + _PACKET_TAIL.size


def section(application: str) -> bytes:
    """The first block; `application` is who wrote the file."""
    return _block(SECTION, struct.pack("=IHHq", _MAGIC, 1, 0, -1) + _options((4, application.encode())))


def interface(name: str, description: str, *, capture_length: int, link_type: int = ETHERNET) -> bytes:
    """An interface; packets name them by their order, from 0. `capture_length` in bytes, 0 for no limit."""
    body = struct.pack("=HHI", link_type, 0, capture_length)
    return _block(INTERFACE, body + _options((2, name.encode()), (3, description.encode()), (9, bytes([NANOSECONDS]))))


def packet(frame: bytes, *, time_ns: int, length: int, direction: int, interface: int = 0, comment: str = "") -> bytes:
    """A captured frame; `time_ns` since 1970, `length` in bytes as it was before it was cut to what is captured."""
    if comment:
        body = struct.pack("=IIIII", interface, time_ns >> 32, time_ns & 0xFFFFFFFF, len(frame), length)
        body += frame + bytes(-len(frame) % 4)
        return _block(PACKET, body + _options((1, comment.encode()), (2, struct.pack("=I", direction))))
    captured = len(frame)
    padding = -captured % 4
    size = _FIXED_BYTES + captured + padding
    head = _PACKET_HEAD.pack(PACKET, size, interface, time_ns >> 32, time_ns & 0xFFFFFFFF, captured, length)
    return b"".join((head, frame, bytes(padding), _PACKET_TAIL.pack(2, 4, direction, 0, 0, size)))


def statistics(*, start_ns: int, end_ns: int, received: int, dropped: int, interface: int = 0) -> bytes:
    """The last block of an interface: packets that the capture saw there, and those it lost by not keeping up."""
    body = struct.pack("=III", interface, end_ns >> 32, end_ns & 0xFFFFFFFF)
    options = (
        (2, struct.pack("=II", start_ns >> 32, start_ns & 0xFFFFFFFF)),
        (3, struct.pack("=II", end_ns >> 32, end_ns & 0xFFFFFFFF)),
        (4, struct.pack("=Q", received)),
        (7, struct.pack("=Q", dropped)),
    )
    return _block(STATISTICS, body + _options(*options))


class Interface(NamedTuple):
    """An interface of a file that is read."""

    name: str
    link_type: int


class Captured(NamedTuple):
    """A packet of a file that is read."""

    interface: Interface
    time_ns: int
    data: bytes
    outgoing: bool
    comment: str


def whole_blocks(octets: bytes) -> Iterator[tuple[int, bytes]]:
    """Kind and bytes of each block, as far as they are whole; in our byte order."""
    at = 0
    while at + 12 <= len(octets):
        kind, size = struct.unpack_from("=II", octets, at)
        if size < 12 or size % 4:
            raise ValueError(f"no pcapng: a block of {size} bytes")
        if at + size > len(octets):
            return
        yield kind, octets[at : at + size]
        at += size


def dropped_of(block: bytes) -> int:
    """How many packets a statistics block says were lost."""
    return sum(int.from_bytes(value, _ORDER) for code, value in _options_at(block, 20) if code == 7)


class Reader:
    """Reads files that this module wrote, piece by piece."""

    def __init__(self) -> None:
        self.interfaces: list[Interface] = []
        self._is_ours = False

    def packets(self, blocks: bytes) -> Iterator[Captured]:
        """The packets in the next blocks of the file.

        Raises:
            ValueError: it is not one of ours.
        """
        if not self._is_ours:
            if len(blocks) < 28 or struct.unpack_from("=I", blocks)[0] != SECTION:
                raise ValueError("no pcapng file")
            if struct.unpack_from("=I", blocks, 8)[0] != _MAGIC:
                raise ValueError("written on a machine of the other byte order")
            self._is_ours = True
        for kind, block in whole_blocks(blocks):
            if kind == INTERFACE:
                options = dict(_options_at(block, 16))
                if options.get(9, bytes([6])) != bytes([NANOSECONDS]):
                    raise ValueError("times are not in nanoseconds: not a capture of vpclab's")
                link_type: int = struct.unpack_from("=H", block, 8)[0]
                self.interfaces.append(Interface(options.get(2, b"").decode(errors="replace"), link_type))
            elif kind == PACKET:
                yield self._packet(block)

    def _packet(self, block: bytes) -> Captured:
        if len(block) < 32:
            raise ValueError("a packet block that is too short")
        number, high, low, captured, _ = struct.unpack_from("=IIIII", block, 8)
        if number >= len(self.interfaces) or 32 + captured > len(block):
            raise ValueError("a packet of no interface, or longer than its block")
        options = dict(_options_at(block, 28 + captured + -captured % 4))
        outgoing = int.from_bytes(options.get(2, b""), _ORDER) & 3 == OUTBOUND
        comment = options.get(1, b"").decode(errors="replace")
        return Captured(self.interfaces[number], high << 32 | low, block[28 : 28 + captured], outgoing, comment)


def _options_at(block: bytes, at: int) -> Iterator[tuple[int, bytes]]:
    while at + 4 <= len(block) - 4:
        code, size = struct.unpack_from("=HH", block, at)
        if code == 0:
            return
        yield code, block[at + 4 : at + 4 + size]
        at += 4 + size + -size % 4


def _block(kind: int, body: bytes) -> bytes:
    size = len(body) + 12
    return struct.pack("=II", kind, size) + body + struct.pack("=I", size)


def _options(*options: tuple[int, bytes]) -> bytes:
    packed = (struct.pack("=HH", code, len(value)) + value + bytes(-len(value) % 4) for code, value in options)
    return b"".join(packed) + _END_OF_OPTIONS
