"""Checksums that were left to a device."""

from __future__ import annotations


def complete_checksum(frame: bytes, start: int, offset: int) -> bytes:
    """Fill in a partial checksum: over `frame[start:]`, whose checksum field `offset` bytes on has the pseudo header's.

    The ones' complement sum of 16-bit words is the number they form, modulo 65535: one division in place of a loop.
    """
    covered = frame[start:]
    if offset + 2 > len(covered):
        return frame
    total = int.from_bytes(covered + bytes(len(covered) % 2), "big") % 0xFFFF
    # 0 means "no checksum" to UDP, and its complement is equally right.
    checksum = (~total & 0xFFFF) or 0xFFFF
    field = start + offset
    return frame[:field] + checksum.to_bytes(2, "big") + frame[field + 2 :]
