"""Tables of a program, other than nodes, as rows of a Snapshot: their layout is written in `fastpath/snapshot.pyx`."""

from __future__ import annotations

from collections.abc import Iterable
from ipaddress import IPv4Address, IPv4Network, IPv6Address

from dataplane.compile.indexes import Indexes
from dataplane.compile.intervals import CompileError, Rows, intervals
from dataplane.program import (
    GroupPolicy,
    Interface,
    NatPolicy,
    Prefix,
    Program,
    Route,
    Rule,
    Timeouts,
    Translation,
    Tunnel,
)

# tunnel_flag of fastpath/snapshot.pxd
RESETS = 1
RuleRow = tuple[int, ...]
FibRow = tuple[int, list[tuple[int, int]]]


def set_rows(prefixes: Iterable[Prefix]) -> Rows:
    """The intervals of an address set."""
    return intervals((p, 1) for p in set(prefixes))


def fib_rows(label: str, routes: Iterable[Route], at: Indexes) -> tuple[Rows, FibRow]:
    """The intervals of a FIB, and the row that says what their values mean: one line for equal (node, rule)."""
    lines: dict[tuple[int, int], int] = {}
    entries = [(route.prefix, lines.setdefault((at.nodes[route.node], route.rule), len(lines)) + 1) for route in routes]
    try:
        return intervals(entries), (at.fib_tables[label], list(lines))
    except CompileError as error:
        raise CompileError(f"fib {label}: {error}") from None


def map_rows(entries: list[Translation], addresses: list[int]) -> tuple[Rows, Rows]:
    """The intervals of a map, outward and inward; what they lead to is added to `addresses`."""
    outward = [(each.inside, each.outside) for each in entries]
    inward = [(each.outside, each.inside) for each in entries]
    tables = []
    for pairs in (outward, inward):
        rows: list[tuple[Prefix, int]] = []
        for key, value in pairs:
            addresses.append(int(value))
            rows.append((IPv4Network(key), len(addresses)))
        tables.append(intervals(rows))
    return tables[0], tables[1]


def rule_row(r: Rule, program: Program, at: Indexes) -> RuleRow:
    """The row of a rule."""
    if (r.prefix is not None) + bool(r.table) + bool(r.group) != 1:
        raise CompileError(f"rule {program.names[r.rule]} must have exactly one of prefix, table and group")
    icmp_type, icmp_code = r.icmp or (-1, -1)
    port_first, port_last = r.ports or (0, 65535)
    family, first, last, anywhere = 0, 0, 0, False
    if r.prefix is not None:
        family, anywhere = r.prefix.version, r.prefix.prefixlen == 0
        first, last = int(r.prefix.network_address), int(r.prefix.broadcast_address)
    table = at.sets[r.table] + 1 if r.table else 0
    # a TCP or UDP rule without ports is one for all ports
    any_port = r.ports is None or r.ports == (0, 65535)
    ports = (port_first, port_last, icmp_type, icmp_code, any_port, anywhere)
    return (r.rule, r.protocol, r.allow, family, *ports, table, r.group, first, last)


def group_policy_row(p: GroupPolicy, at: Indexes) -> tuple[object, ...]:
    """The row of a group policy."""
    return p.owner, at.filters[p.egress], at.filters[p.ingress], limits_row(p.timeouts)


def nat_policy_row(p: NatPolicy, addresses: list[int]) -> tuple[object, ...]:
    """The row of a NAT policy; its addresses are added to `addresses`."""
    first = len(addresses)
    addresses += [int(a) for a in p.addresses]
    prefix6 = None if p.prefix6 is None else int(p.prefix6.network_address)
    ports = (p.port_first, p.port_last, p.per_destination)
    return (p.owner, first, len(p.addresses), *ports, prefix6, limits_row(p.timeouts))


def flow_policy_rows(program: Program) -> list[tuple[object, ...]]:
    """The rows of all flow policies."""
    return [(policy.owner, limits_row(policy.timeouts)) for policy in program.flow_policies.values()]


def spread_rows(program: Program) -> tuple[list[tuple[int, ...]], list[tuple[int, ...]]]:
    """The rows of all spreads, and of their members."""
    spreads: list[tuple[int, ...]] = []
    members: list[tuple[int, ...]] = []
    for s in program.spreads.values():
        spreads.append((s.owner, s.stickiness, len(members), len(s.members)))
        members += [(m.number, int(m.address), int(m.takes_new), int(m.keeps)) for m in s.members]
    return spreads, members


def tunnel_row(t: Tunnel, at: Indexes) -> tuple[object, ...]:
    """The row of a tunnel."""
    return (
        t.owner,
        t.endpoint_id,
        t.balancer,
        int(t.source),
        at.spreads[t.spread],
        at.nodes[t.resume],
        at.interfaces[t.interface] + 1,
        t.resets * RESETS,
        limits_row(t.timeouts),
    )


def interface_row(i: Interface, at: Indexes) -> tuple[object, ...]:
    """The row of an interface."""
    return (
        i.number,
        i.port,
        i.realm,
        i.subnet,
        i.zone,
        at.numbers(i.groups),
        at.nodes[i.into],
        at.nodes[i.out],
        i.mtu,
        i.via,
        i.mac,
        i.router_mac,
        _number(i.address4),
        _number(i.address6),
        _number(i.router4),
        _number(i.router6),
    )


def limits_row(t: Timeouts) -> tuple[int, ...]:
    """Idle limits."""
    return (t.tcp_established, t.tcp_opening, t.tcp_closing, t.udp_single, t.udp_stream, t.icmp, t.other)


def _number(address: IPv4Address | IPv6Address | None) -> int | None:
    return None if address is None else int(address)
