"""Cut a packet into fragments: IPv4 as routers do (RFC 791, section 3.2), IPv6 where IPv4 fragments were translated.

No router cuts IPv6; but what was cut as IPv4 and then translated arrives as the same pieces (RFC 7915, section 4.1).
"""

from __future__ import annotations

from dataplane.reference.checksum import checksum

COPIED = 0x80
"""Options with this bit stand in every fragment, the others in the first only."""


FRAGMENT = 44
"""The fragment header (RFC 8200, section 4.5)."""


def cut(raw: bytes, mtu: int, identification: int = 0) -> list[bytes]:
    """The pieces of a packet, none of them longer than `mtu` bytes.

    `identification` is that of IPv6 fragments, as long as the packet has no fragment header.
    """
    if raw[0] >> 4 == 6:
        return _cut6(raw, mtu, identification)
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


def _cut6(raw: bytes, mtu: int, identification: int) -> list[bytes]:
    if raw[6] != FRAGMENT:
        header = raw[:4] + (len(raw) - 32).to_bytes(2) + bytes([FRAGMENT]) + raw[7:40]
        raw = header + bytes([raw[6], 0, 0, 0]) + identification.to_bytes(4) + raw[40:]
    if len(raw) <= mtu:
        return [raw]
    head, word, body = raw[:48], int.from_bytes(raw[42:44]), raw[48:]
    offset, more, room = word & 0xFFF8, word & 1, (mtu - 48) // 8 * 8
    pieces, at = [], 0
    while at < len(body):
        part = body[at : at + room] if len(body) - at > mtu - 48 else body[at:]
        is_last = at + len(part) == len(body)
        word = (offset + at) | (more if is_last else 1)
        pieces.append(head[:4] + (8 + len(part)).to_bytes(2) + head[6:42] + word.to_bytes(2) + head[44:] + part)
        at += len(part)
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
