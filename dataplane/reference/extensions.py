"""IPv6 extension headers (RFC 8200 section 4): the way from the IPv6 header to the transport header.

Hop-by-hop options stand first or nowhere, there is one fragment header at most, and packets that still want to
choose their own way (routing header with segments left, RFC 5095) are refused, as are chains of more than eight.
"""

from __future__ import annotations

from dataclasses import dataclass

from dataplane.verdict import Reason

HOP_BY_HOP, ROUTING, FRAGMENT, AUTHENTICATION, DESTINATION_OPTIONS = 0, 43, 44, 51, 60
MOST_HEADERS = 8


@dataclass(frozen=True, slots=True)
class UpperLayer:
    """Where the chain of headers ends."""

    protocol: int
    at: int
    """Offset of what follows the chain."""
    fragment_header: int
    """Offset of the fragment header; 0: none."""
    passed: frozenset[int]
    """Types of the headers on the way."""


def find_upper_layer(raw: bytes) -> UpperLayer | Reason:
    """Follow the chain; what is wrong with it otherwise. Behind a later fragment's header there is no chain."""
    protocol, at, fragment_header = raw[6], 40, 0
    passed: set[int] = set()
    for count in range(MOST_HEADERS + 1):
        if protocol not in (HOP_BY_HOP, ROUTING, FRAGMENT, AUTHENTICATION, DESTINATION_OPTIONS):
            return UpperLayer(protocol, at, fragment_header, frozenset(passed))
        out_of_place = (protocol == HOP_BY_HOP and count > 0) or (protocol == FRAGMENT and fragment_header)
        if out_of_place or at + 8 > len(raw) or (protocol == ROUTING and raw[at + 3] > 0):
            return Reason.IP_EXTENSION
        passed.add(protocol)
        if protocol == FRAGMENT:
            fragment_header, size = at, 8
        elif protocol == AUTHENTICATION:
            size = (raw[at + 1] + 2) * 4
        else:
            size = (raw[at + 1] + 1) * 8
        protocol = raw[at]
        at += size
        if at > len(raw):
            return Reason.IP_EXTENSION
        if fragment_header and int.from_bytes(raw[fragment_header + 2 : fragment_header + 4]) & 0xFFF8:
            return UpperLayer(protocol, at, fragment_header, frozenset(passed))
    return Reason.IP_EXTENSION
