"""Addresses and CIDR blocks: strictly AWS's notation."""

from __future__ import annotations

from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dataplane.load.addresses import address, network
from dataplane.load.nodes import Scalar
from dataplane.load.scalars import Refused, value_of

V4_NET, V6_NET, ANY_NET = (IPv4Network,), (IPv6Network,), (IPv4Network, IPv6Network)
V4, V6, ANY = (IPv4Address,), (IPv6Address,), (IPv4Address, IPv6Address)


def read(text: str, families: tuple[Any, ...]) -> object:
    node = Scalar(text, True, 1, 1)
    reader = network if families[0] in ANY_NET else address
    return reader(node, value_of(node), families)


@given(st.ip_addresses(), st.integers(0, 128))
def test_every_network_and_address_is_read_back(base: IPv4Address | IPv6Address, length: int) -> None:
    exact = ip_network(f"{base}/{min(length, base.max_prefixlen)}", strict=False)
    assert read(str(exact), ANY_NET) == exact
    assert read(str(base), ANY) == ip_address(str(base))


@pytest.mark.parametrize(
    ("text", "families", "message", "hint"),
    [
        ("10.0.0.1/16", V4_NET, "has bits set beyond /16", "write 10.0.0.0/16"),
        ("2001:db8::1/56", V6_NET, "has bits set beyond /56", "write 2001:db8::/56"),
        ("10.0.0.1", V4_NET, "has no prefix length", "write, for example, 10.0.0.0/16"),
        ("10.0.0.1", ANY_NET, "has no prefix length", "10.0.0.1/32"),
        ("2001:db8::1", ANY_NET, "has no prefix length", "2001:db8::1/128"),
        ("2001:db8::1", V6_NET, "has no prefix length", "write, for example, 2001:db8::/56"),
        ("2001:db8::1", V4_NET, "has no prefix length", "write, for example, 10.0.0.0/16"),
        ("fe80::1%eth0", V6_NET, "is no IPv6 CIDR block", "2001:db8::/56"),
        ("group:web", ANY_NET, "is no IPv4 or IPv6 CIDR block", "10.0.0.0/16"),
        ("10.0.0.0/016", V4_NET, "the prefix length of 10.0.0.0/016 begins with a zero", "write 10.0.0.0/16"),
        ("10.0.0.0/255.255.0.0", V4_NET, "is no IPv4 CIDR block", "10.0.0.0/16"),
        ("10.0.0.0/33", V4_NET, "is no IPv4 CIDR block", ""),
        ("10.0.0.0/", V4_NET, "is no IPv4 CIDR block", ""),
        ("10.0.0.0/-1", V4_NET, "is no IPv4 CIDR block", ""),
        ("10.0.0.0/\u0661\u0666", V4_NET, "is no IPv4 CIDR block", ""),
        ("10.0.0/16", V4_NET, "is no IPv4 CIDR block", ""),
        ("010.0.0.0/16", V4_NET, "is no IPv4 CIDR block", ""),
        ("2001:db8::/56", V4_NET, "is no IPv4 CIDR block", ""),
        ("10.0.0.0/16", V6_NET, "is no IPv6 CIDR block", "2001:db8::/56"),
        ("fe80::1%eth0/64", ANY_NET, "is no IPv4 or IPv6 CIDR block", ""),
        ("10", V4_NET, "10 is no IPv4 CIDR block", ""),
        ("true", V4_NET, "true is no IPv4 CIDR block", ""),
        ("null", V4_NET, "null is no IPv4 CIDR block", ""),
        ("10.0.0.1/32", V4, "is a CIDR block, and an address is wanted", "write 10.0.0.1"),
        ("10.0.0.256", V4, "is no IPv4 address", "10.0.1.10"),
        ("fe80::1%eth0", V6, "is no IPv6 address", "2001:db8::10"),
        ("2001:db8::1", V4, "is no IPv4 address", ""),
        ("167772161", V4, "is no IPv4 address", ""),
    ],
)
def test_refusals(text: str, families: tuple[Any, ...], message: str, hint: str) -> None:
    with pytest.raises(Refused) as caught:
        read(text, families)
    assert message in caught.value.message
    assert hint in caught.value.hint
    assert caught.value.code == "InvalidParameterValue"


def test_hints_have_the_fields_own_example() -> None:
    for text in ("auto", "true", "2001:db8::1"):
        with pytest.raises(Refused) as caught:
            address(Scalar(text, True, 1, 1), value_of(Scalar(text, True, 1, 1)), V4, "203.0.113.20")
        assert caught.value.hint == "write, for example, 203.0.113.20"
    with pytest.raises(Refused) as caught:
        network(Scalar("10.0.2.9", True, 1, 1), "10.0.2.9", V4_NET, "10.0.1.0/24")
    assert caught.value.hint == "write, for example, 10.0.2.0/24"
