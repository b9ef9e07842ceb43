"""Blocks of a pcapng file (draft-ietf-opsawg-pcapng): a section with its interfaces, in our byte order."""

from __future__ import annotations

import struct

NANOSECONDS = 9
"""``if_tsresol``: timestamps count 10**-9 s."""
INBOUND, OUTBOUND = 1, 2
"""``epb_flags``, as seen from the interface."""

_SECTION, _INTERFACE, _STATISTICS, _PACKET = 0x0A0D0D0A, 1, 5, 6
ETHERNET, RAW_IP = 1, 101
"""Link types (LINKTYPE_ETHERNET, LINKTYPE_RAW): what the packets of an interface begin with."""
_END_OF_OPTIONS = b"\0\0\0\0"
_PACKET_HEAD = struct.Struct("=IIIIIII")
_PACKET_TAIL = struct.Struct("=HHIHHI")
_FIXED_BYTES = _PACKET_HEAD.size + _PACKET_TAIL.size


def section(application: str) -> bytes:
    """The first block; `application` is who wrote the file."""
    return _block(_SECTION, struct.pack("=IHHq", 0x1A2B3C4D, 1, 0, -1) + _options((4, application.encode())))


def interface(name: str, description: str, *, capture_length: int, link_type: int = ETHERNET) -> bytes:
    """An interface; packets name them by their order, from 0. `capture_length` in bytes, 0 for no limit."""
    body = struct.pack("=HHI", link_type, 0, capture_length)
    return _block(_INTERFACE, body + _options((2, name.encode()), (3, description.encode()), (9, bytes([NANOSECONDS]))))


def packet(frame: bytes, *, time_ns: int, length: int, direction: int, interface: int = 0, comment: str = "") -> bytes:
    """A captured frame; `time_ns` since 1970, `length` in bytes as it was before it was cut to what is captured."""
    if comment:
        body = struct.pack("=IIIII", interface, time_ns >> 32, time_ns & 0xFFFFFFFF, len(frame), length)
        body += frame + bytes(-len(frame) % 4)
        return _block(_PACKET, body + _options((1, comment.encode()), (2, struct.pack("=I", direction))))
    captured = len(frame)
    padding = -captured % 4
    size = _FIXED_BYTES + captured + padding
    head = _PACKET_HEAD.pack(_PACKET, size, interface, time_ns >> 32, time_ns & 0xFFFFFFFF, captured, length)
    return b"".join((head, frame, bytes(padding), _PACKET_TAIL.pack(2, 4, direction, 0, 0, size)))


def statistics(*, start_ns: int, end_ns: int, received: int, dropped: int) -> bytes:
    """The last block: packets seen by the capture, and those it lost because it did not keep up."""
    body = struct.pack("=III", 0, end_ns >> 32, end_ns & 0xFFFFFFFF)
    options = (
        (2, struct.pack("=II", start_ns >> 32, start_ns & 0xFFFFFFFF)),
        (3, struct.pack("=II", end_ns >> 32, end_ns & 0xFFFFFFFF)),
        (4, struct.pack("=Q", received)),
        (7, struct.pack("=Q", dropped)),
    )
    return _block(_STATISTICS, body + _options(*options))


def _block(kind: int, body: bytes) -> bytes:
    size = len(body) + 12
    return struct.pack("=II", kind, size) + body + struct.pack("=I", size)


def _options(*options: tuple[int, bytes]) -> bytes:
    packed = (struct.pack("=HH", code, len(value)) + value + bytes(-len(value) % 4) for code, value in options)
    return b"".join(packed) + _END_OF_OPTIONS
