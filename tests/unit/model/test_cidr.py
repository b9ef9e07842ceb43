"""The shared address arithmetic against slow and obvious answers."""

from __future__ import annotations

from ipaddress import IPv4Network, IPv6Network, ip_address

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dataplane.model._cidr import host_network, inside, is_public, overlap, parse_network, reserved

# A space so small that every address can be looked at: 10.0.0.0/26 and 2001:db8::/122.
SMALL4 = st.builds(
    lambda length, at: IPv4Network((int(ip_address("10.0.0.0")) + (at >> (32 - length) << (32 - length)), length)),
    st.integers(26, 32),
    st.integers(0, 63),
)
SMALL6 = st.builds(
    lambda length, at: IPv6Network((int(ip_address("2001:db8::")) + (at >> (128 - length) << (128 - length)), length)),
    st.integers(122, 128),
    st.integers(0, 63),
)
SMALL = st.one_of(SMALL4, SMALL6)


@given(SMALL, SMALL)
def test_overlap_is_a_shared_address(one: IPv4Network | IPv6Network, other: IPv4Network | IPv6Network) -> None:
    assert overlap(one, other) == bool(set(one) & set(other))


@given(SMALL, SMALL)
def test_inside_is_every_address(one: IPv4Network | IPv6Network, other: IPv4Network | IPv6Network) -> None:
    assert inside(one, other) == (set(one) <= set(other))


@given(SMALL)
def test_a_block_is_read_and_written_alike(block: IPv4Network | IPv6Network) -> None:
    assert parse_network(str(block)) == block


@pytest.mark.parametrize(
    ("value", "words"),
    [
        ("10.0.0.0", "no prefix length; write 10.0.0.0/32"),
        ("2001:db8::1", "no prefix length; write 2001:db8::1/128"),
        ("10.0.0.1/24", "bits set beyond /24; write 10.0.0.0/24"),
        ("2001:db8::1/64", "write 2001:db8::/64"),
        ("10.0.0.0/255.0.0.0", "no prefix length; write 10.0.0.0/8"),
        ("10.0.0.0/33", "is no CIDR block; write, for example"),
        ("10.0.0/8", "is no CIDR block"),
        ("fe80::1%eth0/64", "is no CIDR block|bits set"),
        ("", "is no CIDR block"),
        (10, "is no CIDR block"),
        (None, "is no CIDR block"),
    ],
)
def test_what_is_no_block(value: object, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        parse_network(value)


@pytest.mark.parametrize(
    ("address", "public"),
    [
        ("9.255.255.255", True),
        ("10.0.0.0", False),
        ("10.255.255.255", False),
        ("11.0.0.0", True),
        ("100.63.255.255", True),
        ("100.64.0.0", False),
        ("100.127.255.255", False),
        ("100.128.0.0", True),
        ("126.255.255.255", True),
        ("127.0.0.1", False),
        ("169.253.255.255", True),
        ("169.254.0.1", False),
        ("172.15.255.255", True),
        ("172.16.0.0", False),
        ("172.31.255.255", False),
        ("172.32.0.0", True),
        ("192.167.255.255", True),
        ("192.168.0.0", False),
        ("203.0.113.10", True),
        ("223.255.255.255", True),
        ("224.0.0.0", False),
        ("255.255.255.255", False),
        ("0.0.0.1", False),
    ],
)
def test_public_addresses_at_the_edges_of_all_ranges(address: str, public: bool) -> None:
    assert is_public(ip_address(address)) == public  # type: ignore[arg-type]


def test_addresses_aws_keeps() -> None:
    assert [str(each) for each in reserved(IPv4Network("10.0.1.0/28"))] == [
        "10.0.1.0",
        "10.0.1.1",
        "10.0.1.2",
        "10.0.1.3",
        "10.0.1.15",
    ]
    assert [str(each) for each in reserved(IPv6Network("2001:db8::/64"))][-1] == "2001:db8::ffff:ffff:ffff:ffff"


def test_the_network_of_one_address() -> None:
    assert str(host_network(ip_address("10.0.0.1"))) == "10.0.0.1/32"
    assert str(host_network(ip_address("2001:db8::1"))) == "2001:db8::1/128"
