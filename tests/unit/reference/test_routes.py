"""Route lookup of the reference engine: the longest prefix wins, then static over prefix list, blackholes too."""

from __future__ import annotations

from ipaddress import ip_address, ip_network

import pytest

from dataplane.reference.routes import Origin, Route, Table

STATIC, LISTED, LEARNED = Origin.STATIC, Origin.PREFIX_LIST, Origin.PROPAGATED


def table(*routes: tuple[str, str, Origin]) -> Table:
    return Table(1, tuple(Route(ip_network(p), target, n, origin) for n, (p, target, origin) in enumerate(routes, 2)))


@pytest.mark.parametrize(
    ("destination", "target"),
    [
        ("10.0.0.0", "local"),
        ("10.0.255.255", "local"),
        ("9.255.255.255", "internet-gateway"),
        ("10.1.0.0", "internet-gateway"),
        ("198.51.100.127", "internet-gateway"),
        ("198.51.100.128", "blackhole"),
        ("198.51.100.255", "blackhole"),
        ("198.51.101.0", "internet-gateway"),
        ("198.51.100.200", "peering:p"),
    ],
)
def test_longest_prefix_wins_at_its_edges(destination: str, target: str) -> None:
    routes = table(
        ("0.0.0.0/0", "internet-gateway", STATIC),
        ("198.51.100.128/25", "blackhole", STATIC),
        ("198.51.100.200/32", "peering:p", STATIC),
        ("10.0.0.0/16", "local", STATIC),
    )
    found = routes.lookup(ip_address(destination))
    assert found is not None
    assert found.target == target


def test_static_wins_over_prefix_list_whichever_comes_first_in_the_file() -> None:
    for routes in (
        table(("10.9.0.0/16", "a", LISTED), ("10.9.0.0/16", "b", STATIC)),
        table(("10.9.0.0/16", "b", STATIC), ("10.9.0.0/16", "a", LISTED)),
    ):
        found = routes.lookup(ip_address("10.9.1.1"))
        assert found is not None
        assert found.target == "b"


def test_first_of_two_prefix_list_routes_wins() -> None:
    found = table(("10.9.0.0/16", "a", LISTED), ("10.9.0.0/16", "b", LISTED)).lookup(ip_address("10.9.1.1"))
    assert found is not None
    assert found.target == "a"


def test_families_do_not_mix() -> None:
    assert table(("0.0.0.0/0", "internet-gateway", STATIC)).lookup(ip_address("2001:db8::1")) is None
    assert table(("::/0", "internet-gateway", STATIC)).lookup(ip_address("10.0.0.1")) is None


def test_no_route_is_none() -> None:
    assert table(("10.0.0.0/16", "local", STATIC)).lookup(ip_address("198.51.100.1")) is None
