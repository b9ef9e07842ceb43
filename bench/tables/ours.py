"""Our tables, made the way a lab makes them."""

from __future__ import annotations

from collections.abc import Sequence
from ipaddress import IPv4Network, IPv6Network
from typing import Any

from bench.tables.traces import Route, RuleLine
from dataplane.compile import intervals
from fastpath.snapshot import Snapshot

_LISTS = (
    *("nodes", "intervals", "fibs", "filters", "group_policies", "nat_policies", "flow_policies", "spreads"),
    *("members", "tunnels", "maps", "number_sets", "numbers", "bridges", "bridge_ports", "addresses", "macs"),
    *("interfaces", "contexts"),
)
_ICMP_ANY, _NO_FAMILY = -1, 0


def snapshot(**rows: Sequence[Any]) -> Snapshot:
    """A Snapshot of nothing but these rows."""
    return Snapshot({**dict.fromkeys(_LISTS, ()), "fragment_timeout": (30000,), **rows}, generation=1)


def networks(rows: Sequence[Route], bits: int) -> list[tuple[IPv4Network | IPv6Network, int]]:
    """Routes as the compiler takes them."""
    kind = IPv4Network if bits == 32 else IPv6Network
    return [(kind((address, length)), hop) for address, length, hop in rows]


def route_table(entries: list[tuple[IPv4Network | IPv6Network, int]]) -> Snapshot:
    """A Snapshot whose table 0 has these routes, with next hops as values."""
    return snapshot(intervals=[intervals(entries)])


def rule_rows(lines: list[RuleLine]) -> dict[str, Sequence[Any]]:
    """Rules numbered from 1, and the tables of those about more than one prefix."""
    tables: list[tuple[list[int], list[int], list[int], list[int]]] = []
    rules = []
    for number, line in enumerate(lines, 1):
        any_port = (line.port_first, line.port_last) == (0, 65535)
        if len(line.prefixes) == 1:
            ((first, length),) = line.prefixes
            family, table, last = 4, 0, first | ((1 << (32 - length)) - 1)
        else:
            tables.append(intervals(networks([(a, n, 1) for a, n in line.prefixes], 32)))
            family, table, first, last, length = _NO_FAMILY, len(tables), 0, 0, 32
        ports = (line.port_first, line.port_last, _ICMP_ANY, _ICMP_ANY, any_port, length == 0)
        rules.append((number, line.protocol, 1, family, *ports, table, 0, first, last))
    return {"intervals": tables, "filters": [rules]}
