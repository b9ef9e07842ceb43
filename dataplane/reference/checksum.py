"""The Internet checksum (RFC 1071), always as a sum over everything it covers, never by differences of words.

A packet that was right before a translation is right after it. One that was wrong stays wrong, by as much: a
translator cannot know what was meant, and must not make a damaged packet look sound. The same arithmetic serves what
is cut short (first fragments, the packet an ICMP error quotes), where the sum over what is there is all there is.
"""

from __future__ import annotations

from ipaddress import IPv4Address, IPv6Address

Address = IPv4Address | IPv6Address
MODULUS = 0xFFFF


def word_sum(data: bytes) -> int:
    """The sum of all 16-bit words, modulo 65535; an odd last byte is padded with zero."""
    padded = data if len(data) % 2 == 0 else data + b"\0"
    return sum(int.from_bytes(padded[at : at + 2]) for at in range(0, len(padded), 2)) % MODULUS


def checksum(data: bytes) -> int:
    """What belongs into the checksum field of `data`, whose field holds zero (RFC 1071)."""
    if not any(data):
        return 0xFFFF
    return (MODULUS - word_sum(data)) % MODULUS


def pseudo_header(source: Address, destination: Address, protocol: int, length: int) -> bytes:
    """What TCP, UDP and ICMPv6 sum up besides themselves (RFC 793, RFC 768, RFC 8200 section 8.1)."""
    if source.version == 4:
        return source.packed + destination.packed + bytes([0, protocol]) + length.to_bytes(2)
    return source.packed + destination.packed + length.to_bytes(4) + bytes([0, 0, 0, protocol])


def carried_over(before: bytes, after: bytes, at: int) -> int:
    """The checksum at offset `at` of `after` that is as right, or as wrong, as that of `before`.

    Both begin with what is summed up besides (a pseudo header), if anything.
    """
    rest = after[:at] + b"\0\0" + after[at + 2 :]
    return (word_sum(before) - word_sum(rest)) % MODULUS
