"""Tables and traffic of benchmarks come from a seed, and have the shape they claim."""

from __future__ import annotations

from collections import Counter

import pytest

from bench.tables import traces
from bench.tables.ours import networks, route_table, rule_rows, snapshot


@pytest.fixture(autouse=True)
def nothing_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    """Made anew here, whatever an earlier run has left."""
    for name in ("internet_routes", "internet6_routes"):
        monkeypatch.setattr(traces, name, getattr(traces, name).__wrapped__)


def test_the_same_seed_gives_the_same_table() -> None:
    assert traces.internet_routes(1, 500) == traces.internet_routes(1, 500)
    assert traces.internet_routes(1, 500) != traces.internet_routes(2, 500)


def test_an_internet_table_has_its_size_a_default_and_mostly_24s() -> None:
    rows = traces.internet_routes(1, 5000).rows
    lengths = Counter(length for _, length, _ in rows)
    assert len(rows) == len({(a, n) for a, n, _ in rows}) == 5000
    assert lengths[0] == 1
    assert 0.5 < lengths[24] / len(rows) < 0.7
    assert all(a & ((1 << (32 - n)) - 1) == 0 for a, n, _ in rows)


@pytest.mark.parametrize("kind", traces.KINDS)
def test_traffic_finds_what_a_plain_search_finds(kind: str) -> None:
    routes = traces.internet_routes(1, 200)
    table = route_table(networks(routes.rows, 32))
    for address in traces.addresses(routes, kind, 100, 1):
        best = max((n, hop) for a, n, hop in routes.rows if address >> (32 - n) == a >> (32 - n))
        assert table.find(0, 4, address) == best[1]


def test_ipv6_addresses_are_in_the_table_of_their_routes() -> None:
    routes = traces.internet6_routes(1, 200)
    table = route_table(networks(routes.rows, 128))
    assert all(table.find(0, 6, address) for address in traces.addresses(routes, "random", 100, 1))


def test_most_packets_fall_into_a_rule() -> None:
    lines = traces.rule_lines(1, 50)
    packets = traces.rule_packets(lines, 500, 1)
    inside = sum(
        any(
            line.protocol in (-1, protocol)
            and line.port_first <= port <= line.port_last
            and any(address >> (32 - n) == a >> (32 - n) for a, n in line.prefixes)
            for line in lines
        )
        for protocol, address, port in packets
    )
    assert 0.75 < inside / len(packets) < 0.9


def test_a_rule_about_many_prefixes_has_a_table() -> None:
    rows = rule_rows(traces.rule_lines(1, 3, 5))
    assert len(rows["intervals"]) == len(rows["filters"][0]) == 3
    assert snapshot(**rows).bytes > 0
