"""Cut an IPv4 packet into fragments (RFC 791, section 3.2)."""

from __future__ import annotations

from dataplane.reference.checksum import checksum

COPIED = 0x80
"""Options with this bit stand in every fragment, the others in the first only."""


def cut(raw: bytes, mtu: int) -> list[bytes]:
    """The pieces of a packet, none of them longer than `mtu` bytes."""
    if len(raw) <= mtu:
        return [raw]
    header, word = (raw[0] & 15) * 4, int.from_bytes(raw[6:8])
    offset, more, body = (word & 0x1FFF) * 8, word & 0x2000, raw[header:]
    pieces, at, head = [], 0, raw[:header]
    while at < len(body):
        room = (mtu - len(head)) // 8 * 8
        part = body[at : at + room] if len(body) - at > mtu - len(head) else body[at:]
        last = at + len(part) == len(body)
        pieces.append(_piece(head, part, (offset + at) // 8 | (more if last else 0x2000)))
        at += len(part)
        head = raw[:20] + _copied_options(raw[20:header])
    return pieces


def _copied_options(options: bytes) -> bytes:
    kept, at = b"", 0
    while at < len(options) and options[at] != 0:
        size = 1 if options[at] == 1 else options[at + 1]
        if options[at] & COPIED:
            kept += options[at : at + size]
        at += size
    return kept + bytes(-len(kept) % 4)


def _piece(head: bytes, body: bytes, word: int) -> bytes:
    length = len(head) + len(body)
    header = bytes([0x40 | len(head) // 4]) + head[1:2] + length.to_bytes(2) + head[4:6] + word.to_bytes(2)
    header += head[8:10] + b"\0\0" + head[12:]
    return header[:10] + checksum(header).to_bytes(2) + header[12:] + body
