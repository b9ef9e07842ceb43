"""Longest prefix match as intervals, against a scan over all prefixes."""

from __future__ import annotations

from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_network

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dataplane.compile import CompileError, intervals
from dataplane.program import Address, Prefix
from fastpath.snapshot import Snapshot

TABLES = """intervals fibs filters group_policies nat_policies maps number_sets numbers bridges
bridge_ports addresses macs interfaces contexts flow_policies spreads members tunnels"""
EMPTY: dict[str, list[object]] = {"fragment_timeout": [30_000], **{name: [] for name in TABLES.split()}}


def snapshot_of(entries: list[tuple[Prefix, int]]) -> Snapshot:
    rows: dict[str, list[object]] = {**EMPTY, "nodes": [(0,) * 13], "intervals": [intervals(entries)]}
    return Snapshot(rows, generation=1)


def scan(entries: list[tuple[Prefix, int]], address: Address) -> int:
    """The obvious twin: look at every prefix, keep the longest that holds the address."""
    best, value = -1, 0
    for prefix, number in entries:
        if prefix.version == address.version and address in prefix and prefix.prefixlen > best:
            best, value = prefix.prefixlen, number
    return value


def networks(kind: type, bits: int) -> st.SearchStrategy[Prefix]:
    def build(address: int, length: int) -> Prefix:
        return kind((address >> (bits - length) << (bits - length) if length else 0, length))

    # few distinct addresses, so that prefixes nest, touch and coincide
    near = st.integers(0, 40).map(lambda n: (10 << (bits - 8)) + n)
    return st.builds(build, st.one_of(near, st.integers(0, 2**bits - 1)), st.integers(0, bits))


prefix_lists = st.lists(st.one_of(networks(IPv4Network, 32), networks(IPv6Network, 128)), max_size=24, unique=True).map(
    lambda prefixes: [(p, n) for n, p in enumerate(prefixes, 1)]
)


@given(prefix_lists, st.data())
def test_intervals_find_what_a_scan_finds(entries: list[tuple[Prefix, int]], data: st.DataObject) -> None:
    snapshot = snapshot_of(entries)
    edges: list[Address] = [IPv4Address(0), IPv4Address(2**32 - 1), IPv6Address(0), IPv6Address(2**128 - 1)]
    for prefix, _ in entries:
        kind: type[Address] = IPv4Address if prefix.version == 4 else IPv6Address
        top = 2**prefix.max_prefixlen
        first, last = int(prefix.network_address), int(prefix.broadcast_address)
        edges += [kind(n % top) for n in (first - 1, first, first + 1, last - 1, last, last + 1)]
    for address in edges:
        assert snapshot.find(0, address.version, int(address)) == scan(entries, address), address


def test_more_specific_prefix_wins_and_ends() -> None:
    entries = [(ip_network("10.0.0.0/8"), 1), (ip_network("10.1.0.0/16"), 2), (ip_network("10.1.2.3/32"), 3)]
    snapshot = snapshot_of(entries)
    for text, value in {
        "9.255.255.255": 0,
        "10.0.0.0": 1,
        "10.1.2.2": 2,
        "10.1.2.3": 3,
        "10.1.2.4": 2,
        "10.2.0.0": 1,
        "11.0.0.0": 0,
    }.items():
        assert snapshot.find(0, 4, int(IPv4Address(text))) == value, text


def test_default_route_covers_everything_of_its_family_only() -> None:
    snapshot = snapshot_of([(ip_network("0.0.0.0/0"), 7)])
    assert snapshot.find(0, 4, 0) == snapshot.find(0, 4, 2**32 - 1) == 7
    assert snapshot.find(0, 6, 1) == 0


def test_equal_prefixes_are_refused() -> None:
    with pytest.raises(CompileError, match="two entries"):
        intervals([(ip_network("10.0.0.0/8"), 1), (ip_network("10.0.0.0/8"), 2)])


def test_touching_prefixes_of_one_value_are_one_interval() -> None:
    starts, values, _, _ = intervals([(ip_network("10.0.0.0/25"), 1), (ip_network("10.0.0.128/25"), 1)])
    assert (len(starts), values) == (2, [1, 0])
