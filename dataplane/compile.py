"""Pack a Program into a Snapshot: labels become indexes, prefixes become intervals, rules become rows.

This is the only author of a Snapshot's rows (their layout is written in `fastpath/snapshot.pyx`). What it
refuses is a mistake in a construct's `lower`, never a user's, and raises `CompileError`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from ipaddress import IPv4Network, IPv6Address

from dataplane.errors import VpclabError
from dataplane.program import (
    Address,
    Bridge,
    Decapsulate,
    Drop,
    Emit,
    Encapsulate,
    Enter,
    Filter,
    FlowGate,
    GroupPolicy,
    GroupSession,
    Guard,
    Hop,
    Interface,
    Lookup,
    NatPolicy,
    NatSession,
    Node,
    Prefix,
    Program,
    Rewrite,
    Rule,
    Serve,
    Spread,
    Test,
    Timeouts,
    Translation,
    Tunnel,
)
from dataplane.verdict import Reason
from fastpath.classifier import LONG_LIST
from fastpath.snapshot import Snapshot

TCP, UDP = 6, 17
SMALLEST_MTU = 576  # what every IPv4 host must take (RFC 791)
# node_op of fastpath/snapshot.pxd
DROP, GUARD, BRIDGE, FILTER, GROUP_SESSION, NAT_SESSION, LOOKUP, REWRITE, HOP, ENTER, EMIT, SERVE, FLOW_GATE = range(13)
ENCAPSULATE, DECAPSULATE = 13, 14
# node_flag and tunnel_flag
ANSWERS_MTU, DROPS_LARGE, CLAMPS_MSS = 1, 2, 4
RESETS = 1


class CompileError(VpclabError):
    """A Program that cannot be packed: a label nobody defined, two routes for one prefix, a limit of ours."""


def intervals(entries: Iterable[tuple[Prefix, int]]) -> tuple[list[int], list[int], list[int], list[int]]:
    """Turn prefixes with values into disjoint intervals: starts and values, IPv4 then IPv6.

    Longer prefixes win over shorter ones; a value of 0 means "no match", a hole in a wider prefix. Equal prefixes are
    refused.
    """
    entries = list(entries)
    return (*_family(entries, 4, 32), *_family(entries, 6, 128))


def _family(entries: list[tuple[Prefix, int]], version: int, bits: int) -> tuple[list[int], list[int]]:
    ranges = sorted(
        (int(p.network_address), p.prefixlen, int(p.broadcast_address), value)
        for p, value in entries
        if p.version == version
    )
    starts: list[int] = []
    values: list[int] = []

    def begin(at: int, value: int) -> None:
        if at >> bits:
            return
        if starts and starts[-1] == at:
            values[-1] = value
        elif not values or values[-1] != value:
            starts.append(at)
            values.append(value)
        if len(values) > 1 and values[-1] == values[-2]:
            del starts[-1], values[-1]

    enclosing: list[tuple[int, int]] = []  # (last address, value), innermost last
    previous: tuple[int, int] | None = None
    for first, length, last, value in ranges:
        if (first, length) == previous:
            raise CompileError(f"two entries for one prefix /{length} at {first}")
        previous = (first, length)
        while enclosing and enclosing[-1][0] < first:
            end, _ = enclosing.pop()
            begin(end + 1, enclosing[-1][1] if enclosing else 0)
        begin(first, value)
        enclosing.append((last, value))
    while enclosing:
        end, _ = enclosing.pop()
        begin(end + 1, enclosing[-1][1] if enclosing else 0)
    return starts, values


class _Index:
    """Label -> position, in the order of the Program's dict."""

    def __init__(self, what: str, labels: Iterable[str], first: int = 0) -> None:
        self._what = what
        self._at = {label: number for number, label in enumerate(labels, first)}

    def __getitem__(self, label: str) -> int:
        try:
            return self._at[label]
        except KeyError:
            raise CompileError(f"no {self._what} is called {label!r}") from None


class _Packer:
    """One packing: rows grow as tables are met."""

    def __init__(self, program: Program) -> None:
        self.program = program
        self.nodes = _Index("node", program.nodes, first=1)  # node 0 drops
        self.interfaces = _Index("interface", program.interfaces)
        self.group_policies = _Index("group policy", program.group_policies)
        self.nat_policies = _Index("NAT policy", program.nat_policies)
        self.flow_policies = _Index("flow policy", program.flow_policies)
        self.maps = _Index("map", program.maps)
        self.spreads = _Index("spread", program.spreads)
        self.tunnel_order = sorted(program.tunnels, key=lambda label: program.tunnels[label].owner)
        self.tunnels = _Index("tunnel", self.tunnel_order)
        self.members: list[tuple[int, int, int, int]] = []
        self.bridges = _Index("bridge", program.bridges)
        self.filters = _Index("filter", program.filters)
        self.interval_rows: list[tuple[list[int], list[int], list[int], list[int]]] = []
        self.route_rows: dict[tuple[int, int], int] = {}
        self.rule_rows: list[tuple[int, ...]] = []
        self.addresses: list[int] = []
        self.macs: dict[bytes, int] = {}
        self.number_sets: dict[tuple[int, ...], int] = {}
        self.sets = {label: self._table((p, 1) for p in set(ps)) for label, ps in program.sets.items()}
        self.fibs = {label: self._fib(label) for label in program.fibs}
        self.neighbours = {label: self._neighbours(entries) for label, entries in program.neighbours.items()}

    def _table(self, entries: Iterable[tuple[Prefix, int]]) -> int:
        self.interval_rows.append(intervals(entries))
        return len(self.interval_rows) - 1

    def _fib(self, label: str) -> int:
        entries = []
        for route in self.program.fibs[label]:
            row = self.nodes[route.node], route.rule
            entries.append((route.prefix, self.route_rows.setdefault(row, len(self.route_rows)) + 1))
        try:
            return self._table(entries)
        except CompileError as error:
            raise CompileError(f"fib {label}: {error}") from None

    def _mac(self, mac: bytes) -> int:
        return self.macs.setdefault(mac, len(self.macs))

    def _neighbours(self, entries: list[tuple[Prefix, bytes | None]]) -> int:
        return self._table((prefix, 0 if mac is None else self._mac(mac) + 1) for prefix, mac in entries)

    def _set(self, label: str) -> int:
        try:
            return self.sets[label]
        except KeyError:
            raise CompileError(f"no address set is called {label!r}") from None

    # -- nodes

    def _node(self, node: Node) -> tuple[int, ...]:
        pack = _NODES.get(type(node))
        if pack is None:
            raise CompileError(f"no node is packed from {type(node).__name__}")
        fields = {"mode": 0, "family": 0, "flags": 0, "reason": 0, "mtu": 0, "next": 0, "other": 0}
        fields |= {"table": 0, "value": 0, "extra": 0, "via": 0}
        following = getattr(node, "next", "")
        if following:
            fields["next"] = self.nodes[following]
        op, own = pack(self, node)
        fields |= own
        return (op, *fields.values(), node.object)

    def _guard(self, n: Guard) -> tuple[int, Mapping[str, int]]:
        table = self._set(n.table) if n.test in (Test.SOURCE_IN, Test.DESTINATION_IN) else 0
        other = self.nodes[n.otherwise] if n.otherwise else 0
        return GUARD, {
            "mode": n.test,
            "family": n.family,
            "flags": int(n.negate),
            "reason": n.reason,
            "other": other,
            "table": table,
            "value": self._numbers(n.subnets) if n.test is Test.FROM_SUBNET else n.via,
        }

    def _bridge(self, n: Bridge) -> tuple[int, Mapping[str, int]]:
        return BRIDGE, {"table": self.bridges[n.table]}

    def _filter(self, n: Filter) -> tuple[int, Mapping[str, int]]:
        return FILTER, {"mode": n.remote, "reason": n.reason, "table": self.filters[n.table], "value": n.skip_subnet}

    def _group_session(self, n: GroupSession) -> tuple[int, Mapping[str, int]]:
        return GROUP_SESSION, {"mode": n.direction, "table": self.group_policies[n.policy]}

    def _nat_session(self, n: NatSession) -> tuple[int, Mapping[str, int]]:
        return NAT_SESSION, {"table": self.nat_policies[n.policy], "extra": self.interfaces[n.answer_as] + 1}

    def _flow_gate(self, n: FlowGate) -> tuple[int, Mapping[str, int]]:
        return FLOW_GATE, {
            "mode": n.mode,
            "flags": int(n.tracks),
            "reason": n.reason,
            "other": self.nodes[n.otherwise] if n.otherwise else 0,
            "table": self.flow_policies[n.policy],
            "value": n.direction,
        }

    def _lookup(self, n: Lookup) -> tuple[int, Mapping[str, int]]:
        if n.fib not in self.fibs:
            raise CompileError(f"no fib is called {n.fib!r}")
        return LOOKUP, {"mode": n.side, "flags": int(n.quiet), "table": self.fibs[n.fib], "reason": n.reason}

    def _rewrite(self, n: Rewrite) -> tuple[int, Mapping[str, int]]:
        return REWRITE, {"mode": n.side, "table": self.maps[n.map], "reason": n.reason}

    def _hop(self, n: Hop) -> tuple[int, Mapping[str, int]]:
        if n.mtu and not SMALLEST_MTU <= n.mtu <= 65535:
            raise CompileError(f"a hop's MTU is 0 or from {SMALLEST_MTU} to 65535, not {n.mtu}")
        extra = self.interfaces[n.answer_as] + 1 if n.answer_as else 0
        flags = n.answers_mtu * ANSWERS_MTU | (not n.fragments) * DROPS_LARGE | n.clamps_mss * CLAMPS_MSS
        return HOP, {"mode": n.ttl, "flags": flags, "mtu": n.mtu, "extra": extra}

    def _encapsulate(self, n: Encapsulate) -> tuple[int, Mapping[str, int]]:
        return ENCAPSULATE, {"table": self.tunnels[n.tunnel]}

    def _decapsulate(self, n: Decapsulate) -> tuple[int, Mapping[str, int]]:
        return DECAPSULATE, {"value": n.owner, "other": self.nodes[n.otherwise]}

    def _enter(self, n: Enter) -> tuple[int, Mapping[str, int]]:
        extra = self.interfaces[n.interface] + 1 if n.interface else 0
        return ENTER, {"flags": int(n.keep_groups), "table": n.subnet, "value": n.realm, "extra": extra, "via": n.via}

    def _emit(self, n: Emit) -> tuple[int, Mapping[str, int]]:
        return EMIT, {"extra": self.interfaces[n.interface] + 1}

    def _serve(self, n: Serve) -> tuple[int, Mapping[str, int]]:
        return SERVE, {}

    def _drop(self, n: Drop) -> tuple[int, Mapping[str, int]]:
        return DROP, {"reason": n.reason}

    # -- filters and policies

    def _rules(self, rules: Iterable[Rule]) -> tuple[int, int]:
        first = len(self.rule_rows)
        for r in rules:
            self.rule_rows.append(self._rule(r))
        return first, len(self.rule_rows) - first

    def _rule(self, r: Rule) -> tuple[int, ...]:
        if (r.prefix is not None) + bool(r.table) + bool(r.group) != 1:
            raise CompileError(f"rule {self.program.names[r.rule]} must have exactly one of prefix, table and group")
        icmp_type, icmp_code = r.icmp or (-1, -1)
        port_first, port_last = r.ports or (0, 65535)
        family, first, last, anywhere = 0, 0, 0, False
        if r.prefix is not None:
            family, anywhere = r.prefix.version, r.prefix.prefixlen == 0
            first, last = int(r.prefix.network_address), int(r.prefix.broadcast_address)
        table = self._set(r.table) + 1 if r.table else 0
        # a TCP or UDP rule without ports is one for all ports
        any_port = r.ports is None or r.ports == (0, 65535)
        return (
            r.rule,
            r.protocol,
            r.allow,
            family,
            port_first,
            port_last,
            icmp_type,
            icmp_code,
            any_port,
            anywhere,
            table,
            r.group,
            first,
            last,
        )

    def _group_policy(self, p: GroupPolicy) -> tuple[object, ...]:
        return (
            p.owner,
            *self._rules(p.egress),
            *self._rules(p.ingress),
            _open_mask(p.egress),
            _open_mask(p.ingress),
            _limits(p.timeouts),
        )

    def _nat_policy(self, p: NatPolicy) -> tuple[object, ...]:
        first = len(self.addresses)
        self.addresses += [int(a) for a in p.addresses]
        prefix6 = None if p.prefix6 is None else int(p.prefix6.network_address)
        ports = (p.port_first, p.port_last, p.per_destination)
        return (p.owner, first, len(p.addresses), *ports, prefix6, _limits(p.timeouts))

    def _spread(self, s: Spread) -> tuple[int, ...]:
        first = len(self.members)
        self.members += [(m.number, int(m.address), int(m.takes_new), int(m.keeps)) for m in s.members]
        return s.owner, s.stickiness, first, len(s.members)

    def _tunnel(self, t: Tunnel) -> tuple[object, ...]:
        return (
            t.owner,
            t.endpoint_id,
            t.balancer,
            int(t.source),
            self.spreads[t.spread],
            self.nodes[t.resume],
            self.interfaces[t.interface] + 1,
            t.resets * RESETS,
            _limits(t.timeouts),
        )

    def _map(self, entries: list[Translation]) -> tuple[int, int]:
        outward = [(each.inside, each.outside) for each in entries if each.outward]
        inward = [(each.outside, each.inside) for each in entries]
        tables = []
        for pairs in (outward, inward):
            rows = []
            for key, value in pairs:
                self.addresses.append(int(value))
                rows.append((IPv4Network(key), len(self.addresses)))
            tables.append(self._table(rows))
        return tables[0], tables[1]

    # -- interfaces and contexts

    def _numbers(self, numbers: tuple[int, ...]) -> int:
        """Index + 1 of the set of these numbers (groups, subnets); 0 when there are none."""
        return self.number_sets.setdefault(tuple(sorted(numbers)), len(self.number_sets)) + 1 if numbers else 0

    def _interface(self, i: Interface) -> tuple[object, ...]:
        return (
            i.number,
            i.port,
            i.realm,
            i.subnet,
            i.zone,
            self._numbers(i.groups),
            self.nodes[i.into],
            self.nodes[i.out],
            i.mtu,
            i.via,
            i.mac,
            i.router_mac,
            _number(i.address4),
            _number(i.address6),
            _number(i.router4),
            _number(i.router6),
        )

    def pack(self, generation: int, before: Snapshot | None, classify_from: int) -> Snapshot:
        """Build the Snapshot."""
        p = self.program
        nodes: list[tuple[int, ...]] = [(DROP, 0, 0, 0, Reason.DESTINATION_UNKNOWN, 0, 0, 0, 0, 0, 0, 0, 0)]
        nodes += [self._node(node) for node in p.nodes.values()]
        filters = [self._rules(rules) for rules in p.filters.values()]
        group_policies = [self._group_policy(policy) for policy in p.group_policies.values()]
        nat_policies = [self._nat_policy(policy) for policy in p.nat_policies.values()]
        maps = [self._map(entries) for entries in p.maps.values()]
        spreads = [self._spread(spread) for spread in p.spreads.values()]
        tunnels = [self._tunnel(p.tunnels[label]) for label in self.tunnel_order]
        interface_rows = [self._interface(i) for i in p.interfaces.values()]
        bridge_rows: list[tuple[int, int]] = []
        bridge_ports: list[tuple[int, int]] = []
        for entries in p.bridges.values():
            bridge_rows.append((len(bridge_ports), len(entries)))
            bridge_ports += sorted((int.from_bytes(mac), self.nodes[node]) for mac, node in entries)
        bridge_of = {label: self.bridges[node.table] for label, node in p.nodes.items() if isinstance(node, Bridge)}
        contexts = []
        for c in p.contexts:
            bridge = next((bridge_of[label] + 1 for label in self._reach(c.entry) if label in bridge_of), 0)
            contexts.append(
                (c.number, self.interfaces[c.interface] + 1, self.nodes[c.entry], self.neighbours[c.neighbours], bridge)
            )
        number_sets: list[tuple[int, int]] = []
        members: list[int] = []
        for numbers in self.number_sets:
            number_sets.append((len(members), len(numbers)))
            members += numbers
        rows: dict[str, Sequence[object]] = {
            "nodes": nodes,
            "intervals": self.interval_rows,
            "routes": list(self.route_rows),
            "rules": self.rule_rows,
            "filters": filters,
            "group_policies": group_policies,
            "nat_policies": nat_policies,
            "flow_policies": [(policy.owner, _limits(policy.timeouts)) for policy in p.flow_policies.values()],
            "fragment_timeout": [p.fragment_timeout],
            "spreads": spreads,
            "members": self.members,
            "tunnels": tunnels,
            "maps": maps,
            "number_sets": number_sets,
            "numbers": members,
            "bridges": bridge_rows,
            "bridge_ports": bridge_ports,
            "addresses": self.addresses,
            "macs": list(self.macs),
            "interfaces": interface_rows,
            "contexts": contexts,
        }
        return Snapshot(rows, generation=generation, before=before, classify_from=classify_from)

    def _reach(self, label: str) -> Iterable[str]:
        """The chain of `next` from a node: where a frame goes before its destination matters."""
        seen = set()
        while label and label not in seen:
            seen.add(label)
            yield label
            label = getattr(self.program.nodes[label], "next", "")


_NODES: dict[type[Node], Callable[..., tuple[int, Mapping[str, int]]]] = {
    Guard: _Packer._guard,
    Bridge: _Packer._bridge,
    Filter: _Packer._filter,
    GroupSession: _Packer._group_session,
    NatSession: _Packer._nat_session,
    FlowGate: _Packer._flow_gate,
    Lookup: _Packer._lookup,
    Rewrite: _Packer._rewrite,
    Hop: _Packer._hop,
    Encapsulate: _Packer._encapsulate,
    Decapsulate: _Packer._decapsulate,
    Enter: _Packer._enter,
    Emit: _Packer._emit,
    Serve: _Packer._serve,
    Drop: _Packer._drop,
}


def _number(address: Address | IPv6Address | None) -> int | None:
    return None if address is None else int(address)


def _limits(t: Timeouts) -> tuple[int, ...]:
    return (t.tcp_established, t.tcp_opening, t.tcp_closing, t.udp_single, t.udp_stream, t.icmp, t.other)


def _open_mask(rules: Iterable[Rule]) -> int:
    """For which (family, protocol) these rules admit all ports from anywhere: 1 and 2 IPv4 TCP and UDP, 4 and 8 IPv6.

    A flow admitted by such a pair of directions is not tracked (EC2 User Guide, "Untracked connections").
    """
    mask = 0
    for r in rules:
        if r.prefix is None or r.prefix.prefixlen or not r.allow:
            continue
        base = 1 if r.prefix.version == 4 else 4
        if r.protocol == -1:
            mask |= base | base << 1
        elif r.protocol in (TCP, UDP) and (r.ports is None or r.ports == (0, 65535)):
            mask |= base << (r.protocol == UDP)
    return mask


def compile_program(
    program: Program, *, generation: int, before: Snapshot | None = None, classify_from: int = LONG_LIST
) -> Snapshot:
    """Pack `program`. `generation` (1 and up) must grow from Snapshot to Snapshot of one engine.

    What `before` has built for lists of rules that are the same is used again. Lists shorter than `classify_from` are
    looked through rule by rule. Raises CompileError for labels that nobody defined and prefixes defined twice.
    """
    return _Packer(program).pack(generation, before, classify_from)
