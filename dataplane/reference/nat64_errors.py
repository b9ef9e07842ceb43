"""ICMP errors of one version in words of the other: type, code, and the 32 bits behind the checksum.

Those bits hold an MTU, a pointer into the quoted header, or nothing. What has no counterpart is None: such an error is
dropped. RFC 7915, sections 4.2 (Figure 3) and 5.2 (Figure 6).

Deviation: lengths of RFC 4884 extensions are not carried over. The field becomes zero like all that is unused, so that
an extension counts as the last bytes of what is quoted.
"""

from __future__ import annotations

Message = tuple[int, int, int]
"""Type, code, the 32 bits behind the checksum."""

UNREACHABLE6 = {0: 1, 1: 10, 2: 1, 3: 1, 4: 3}
"""Code of ICMPv6 unreachable (type 1): code of ICMP unreachable (type 3). No route, beyond the scope and address
unreachable are "host unreachable"; prohibited is "host prohibited"; port is port."""
UNREACHABLE4 = {0: 0, 1: 0, 3: 4, 5: 0, 6: 0, 7: 0, 8: 0, 9: 1, 10: 1, 11: 0, 12: 0, 13: 1, 15: 1}
"""The other way round. Protocol (2) and fragmentation needed (4) are other types of ICMPv6; 14 has no counterpart."""

POINTERS6 = {0: 0, 1: 1, 4: 2, 5: 2, 6: 9, 7: 8} | dict.fromkeys(range(8, 24), 12) | dict.fromkeys(range(24, 40), 16)
"""Figure 6: byte of the IPv6 header: byte of the IPv4 header. Version, traffic class, payload length (total length),
next header (protocol), hop limit (TTL), source, destination; the flow label has no counterpart."""
POINTERS4 = {0: 0, 1: 1, 2: 4, 3: 4, 8: 7, 9: 6} | dict.fromkeys(range(12, 16), 8) | dict.fromkeys(range(16, 20), 24)
"""Figure 3: the other way round; identification, flags, offset, checksum and options have no counterpart."""

NEXT_HEADER = 6
"""Where the IPv6 header has the next header."""
LEAST_MTU6 = 1280
"""Every link of IPv6 has that much (RFC 8200, section 5)."""
GROWTH = 20
"""Bytes that an IPv6 header is longer than an IPv4 header."""


def to_icmp(icmp_type: int, code: int, rest: int) -> Message | None:
    """An ICMPv6 error as an ICMP error (RFC 7915, section 5.2)."""
    match icmp_type, code:
        case 1, _ if code in UNREACHABLE6:
            return 3, UNREACHABLE6[code], 0
        case 2, _:  # packet too big: fragmentation needed, whose MTU has 16 bits
            return 3, 4, min(max(rest - GROWTH, 0), 0xFFFF)
        case 3, _:
            return 11, code, 0
        case 4, 0 if rest in POINTERS6:
            return 12, 0, POINTERS6[rest] << 24
        case 4, 1:  # unrecognized next header: protocol unreachable
            return 3, 2, 0
    return None


def to_icmpv6(icmp_type: int, code: int, rest: int) -> Message | None:
    """An ICMP error as an ICMPv6 error (RFC 7915, section 4.2)."""
    match icmp_type, code:
        case 3, 2:  # protocol unreachable: unrecognized next header
            return 4, 1, NEXT_HEADER
        case 3, 4:  # an MTU of zero (routers older than RFC 1191) is the least too
            return 2, 0, max(LEAST_MTU6, (rest & 0xFFFF) + GROWTH)
        case 3, _ if code in UNREACHABLE4:
            return 1, UNREACHABLE4[code], 0
        case 11, _:
            return 3, code, 0
        case 12, 0 | 2 if rest >> 24 in POINTERS4:
            return 4, 0, POINTERS4[rest >> 24]
    return None
