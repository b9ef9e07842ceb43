"""IP addresses and CIDR blocks, read strictly: what `ipaddress` takes beyond AWS's notation is refused.

`ipaddress` reads ``10.0.0.1`` as a /32 and ``10.0.0.0/255.255.0.0`` as a /16, and knows zones (``fe80::1%eth0``).
A CIDR block in a lab file has a prefix length, as in every EC2 call:
https://docs.aws.amazon.com/vpc/latest/userguide/vpc-cidr-blocks.html.
"""

from __future__ import annotations

from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network
from typing import Any

from dataplane.load.nodes import Scalar, described
from dataplane.load.scalars import Plain, Refused

FAMILY = {IPv4Address: "IPv4", IPv4Network: "IPv4", IPv6Address: "IPv6", IPv6Network: "IPv6"}
INVALID = "InvalidParameterValue"
"""What EC2 answers to a CIDR or an address that is none."""


def network(node: Scalar, value: Plain, families: tuple[Any, ...], example: str = "") -> IPv4Network | IPv6Network:
    """Return a CIDR block of one of the families, refusing bits beyond the prefix length.

    AWS clears such bits silently in most calls; here they are an error, because they are almost always a slip.
    `example` is one of the field, for the hint.
    """
    wanted = " or ".join(FAMILY[family] for family in families) + " CIDR block"
    example = example or ("2001:db8::/56" if families == (IPv6Network,) else "10.0.0.0/16")
    if not isinstance(value, str):
        raise Refused(f"{described(node)} is no {wanted}", f"write, for example, {example}", INVALID)
    host, slash, length = value.partition("/")
    if not slash and "%" not in value and any(_is(kind, value) for kind in (IPv4Address, IPv6Address)):
        hint = f"write, for example, {_block_of(value, families, example)}"
        raise Refused(f"{described(node)} has no prefix length", hint, INVALID)
    if "%" in host or not length.isascii() or not length.isdigit():
        raise Refused(f"{described(node)} is no {wanted}", f"write, for example, {example}", INVALID)
    try:
        exact = ip_network(value, strict=False)
    except ValueError:
        raise Refused(f"{described(node)} is no {wanted}", f"write, for example, {example}", INVALID) from None
    if type(exact) not in families:
        raise Refused(f"{value} is no {wanted}", f"write, for example, {example}", INVALID)
    if length != str(exact.prefixlen):
        hint = f"write {host}/{exact.prefixlen}"
        raise Refused(f"the prefix length of {value} begins with a zero", hint, INVALID)
    if type(exact.network_address)(host) != exact.network_address:
        raise Refused(f"{value} has bits set beyond /{exact.prefixlen}", f"write {exact}", INVALID)
    return exact


def _block_of(text: str, families: tuple[Any, ...], example: str) -> str:
    """The block that an address was probably to be: a block of either family may be one address, others are larger."""
    found = ip_address(text)
    if len(families) > 1:
        return f"{text}/{found.max_prefixlen}"
    like = ip_network(example)
    return str(ip_network(f"{text}/{like.prefixlen}", strict=False)) if like.version == found.version else example


def address(node: Scalar, value: Plain, families: tuple[Any, ...], example: str = "") -> IPv4Address | IPv6Address:
    """Return an address of one of the families, without prefix length or zone. `example` is one of the field."""
    wanted = " or ".join(FAMILY[family] for family in families) + " address"
    example = example or ("2001:db8::10" if families == (IPv6Address,) else "10.0.1.10")
    text = value if isinstance(value, str) and "%" not in value else ""
    for family in families:
        if _is(family, text):
            found: IPv4Address | IPv6Address = family(text)
            return found
    bare = text.partition("/")[0]
    if "/" in text and any(_is(family, bare) for family in families):
        raise Refused(f"{described(node)} is a CIDR block, and an address is wanted", f"write {bare}", INVALID)
    raise Refused(f"{described(node)} is no {wanted}", f"write, for example, {example}", INVALID)


def _is(family: Any, text: str) -> bool:
    try:
        family(text)
    except ValueError:
        return False
    return True


def in_words(families: tuple[Any, ...]) -> str:
    """Say what is wanted."""
    kind = "CIDR block" if families[0] in (IPv4Network, IPv6Network) else "address"
    return "an " + " or ".join(FAMILY[family] for family in families) + f" {kind}"
