"""Values one step to either side of where a drawn table changes its answer: uniform ones would hardly ever matter."""

from __future__ import annotations

from collections.abc import Iterable
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network

from hypothesis import strategies as st

from dataplane.program import Address, Prefix

BLOCKS: tuple[tuple[type[Prefix], int, int], ...] = (
    (IPv4Network, int(IPv4Address("172.16.0.0")), 32),
    (IPv6Network, int(IPv6Address("2001:db8:aa::")), 128),
)
"""Where drawn prefixes lie: no address around them is one that a router never forwards to."""


@st.composite
def prefixes(draw: st.DrawFn) -> Prefix:
    """A prefix from a small corner of the address space, so that several nest, touch and coincide."""
    kind, base, bits = draw(st.sampled_from(BLOCKS))
    length = bits - draw(st.sampled_from([0, 0, 1, 2, 3, 4, 8, 16, 20, bits]))
    address = base + draw(st.integers(0, 40)) * draw(st.sampled_from([1, 256]))
    return kind((address >> (bits - length) << (bits - length), length))


def around(blocks: Iterable[Prefix]) -> list[Address]:
    """First and last address of each block, and those beside them; for a block that is everything, one in it."""
    found: dict[Address, None] = {}
    for block in blocks:
        kind: type[Address] = IPv4Address if block.version == 4 else IPv6Address
        if block.prefixlen == 0:
            found[kind("192.0.2.1" if block.version == 4 else "2001:db8:bb::1")] = None
            continue
        first, last = int(block.network_address), int(block.broadcast_address)
        found |= dict.fromkeys(kind(n) for n in (first - 1, first, first + 1, last - 1, last, last + 1))
    return list(found)


def beside(values: Iterable[int], *, least: int = 0, most: int = 65535) -> list[int]:
    """Each value and its two neighbours, as far as they exist."""
    return sorted({n for value in values for n in (value - 1, value, value + 1) if least <= n <= most})
