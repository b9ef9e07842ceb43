"""Addresses and CIDR blocks: the one reader, the one overlap check, and the ranges that rules of AWS speak of."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_network

Address = IPv4Address | IPv6Address
Network = IPv4Network | IPv6Network

PRIVATE: tuple[IPv4Network, ...] = (
    IPv4Network("10.0.0.0/8"),
    IPv4Network("172.16.0.0/12"),
    IPv4Network("192.168.0.0/16"),
    IPv4Network("100.64.0.0/10"),
)
"""RFC 1918, and shared address space (RFC 6598): these never cross an internet gateway."""

NEVER_HOSTS: tuple[IPv4Network, ...] = (
    IPv4Network("0.0.0.0/8"),
    IPv4Network("127.0.0.0/8"),
    IPv4Network("169.254.0.0/16"),
    IPv4Network("224.0.0.0/3"),
)
"""This network, loopback, link-local, multicast and reserved (RFC 6890): no host on the internet has these."""

GLOBAL_UNICAST = IPv6Network("2000::/3")
"""Where the world's IPv6 addresses are from (RFC 4291, 2.4), documentation prefixes included."""


def parse_network(value: object) -> Network:
    """Read a CIDR block, strictly.

    Raises:
        ValueError: not one, no prefix length, or bits set beyond it.
    """
    text = value if isinstance(value, str) else ""
    host, slash, length = text.partition("/")
    try:
        exact = ip_network(text, strict=False)
    except ValueError:
        raise ValueError(f"{value} is no CIDR block; write, for example, 10.0.0.0/16") from None
    if not slash:
        raise ValueError(f"{value} has no prefix length; write {exact}")
    if not length.isascii() or not length.isdigit():
        raise ValueError(f"{value} has no prefix length; write {exact}")
    if length != str(exact.prefixlen):
        raise ValueError(f"the prefix length of {value} begins with a zero; write {host}/{exact.prefixlen}")
    if type(exact.network_address)(host) != exact.network_address:
        raise ValueError(f"{value} has bits set beyond /{exact.prefixlen}; write {exact}")
    return exact


def overlap(one: Network, other: Network) -> bool:
    """Return whether two blocks share an address; blocks of different families never do."""
    if isinstance(one, IPv4Network):
        return isinstance(other, IPv4Network) and one.overlaps(other)
    return isinstance(other, IPv6Network) and one.overlaps(other)


def inside(one: Network, other: Network) -> bool:
    """Return whether `one` lies in `other` (or is the same)."""
    if isinstance(one, IPv4Network):
        return isinstance(other, IPv4Network) and one.subnet_of(other)
    return isinstance(other, IPv6Network) and one.subnet_of(other)


def holding(address: Address, blocks: Iterable[Network]) -> Network | None:
    """Return the first block that holds the address."""
    return next((block for block in blocks if address in block), None)


def is_public(address: IPv4Address) -> bool:
    """Return whether a host on the internet may have the address. Documentation ranges (RFC 5737) may be used."""
    return holding(address, (*PRIVATE, *NEVER_HOSTS)) is None


def host_network(address: Address) -> Network:
    """The /32 or /128 of one address."""
    return IPv4Network(address) if isinstance(address, IPv4Address) else IPv6Network(address)


def reserved(block: Network) -> Iterator[Address]:
    """Yield the addresses AWS keeps in a subnet: the first four and the last.

    https://docs.aws.amazon.com/vpc/latest/userguide/subnet-sizing.html
    """
    for offset in (0, 1, 2, 3, -1):
        if offset < block.num_addresses:  # no subnet is so small, but a file may say so
            yield block[offset]
