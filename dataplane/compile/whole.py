"""A program packed as a whole: labels become indexes, prefixes intervals, rules rows."""

from __future__ import annotations

from collections.abc import Sequence

from dataplane.compile import rows
from dataplane.compile.indexes import Indexes
from dataplane.compile.intervals import intervals
from dataplane.compile.node_rows import DROP, node_row
from dataplane.program import Bridge, Program
from dataplane.verdict import Reason

NODE_0 = (DROP, 0, 0, 0, Reason.DESTINATION_UNKNOWN, 0, 0, 0, 0, 0, 0, 0, 0)


def whole(program: Program, at: Indexes) -> dict[str, Sequence[object]]:
    """The rows of all tables."""
    found: dict[str, Sequence[object]] = {}
    tables = [rows.set_rows(prefixes) for prefixes in program.sets.values()]
    fibs = [rows.fib_rows(label, routes, at) for label, routes in program.fibs.items()]
    tables += [table for table, _ in fibs]
    macs: dict[bytes, int] = {}
    for entries in program.neighbours.values():
        tables.append(
            intervals((prefix, 0 if mac is None else macs.setdefault(mac, len(macs)) + 1) for prefix, mac in entries)
        )
    addresses: list[int] = []
    found["nat_policies"] = [rows.nat_policy_row(policy, addresses) for policy in program.nat_policies.values()]
    for translations in program.maps.values():
        tables += rows.map_rows(translations, addresses)
    found["maps"] = [(at.map_tables + 2 * n, at.map_tables + 2 * n + 1) for n in range(len(program.maps))]
    found["nodes"] = [NODE_0, *(node_row(node, at) for node in program.nodes.values())]
    found["intervals"] = tables
    found["fibs"] = [row for _, row in fibs]
    found["filters"] = [[rows.rule_row(rule, program, at) for rule in rules] for rules in program.filters.values()]
    found["group_policies"] = [rows.group_policy_row(policy, at) for policy in program.group_policies.values()]
    found["flow_policies"] = rows.flow_policy_rows(program)
    found["fragment_timeout"] = [program.fragment_timeout]
    found["spreads"], found["members"] = rows.spread_rows(program)
    found["tunnels"] = [rows.tunnel_row(program.tunnels[label], at) for label in at.tunnel_order]
    found["interfaces"] = [rows.interface_row(i, at) for i in program.interfaces.values()]
    found["addresses"] = addresses
    found["macs"] = list(macs)
    found |= _links(program, at)
    number_sets: list[tuple[int, int]] = []
    members: list[int] = []
    for numbers in at.number_sets:
        number_sets.append((len(members), len(numbers)))
        members += numbers
    found["number_sets"], found["numbers"] = number_sets, members
    return found


def _links(program: Program, at: Indexes) -> dict[str, Sequence[object]]:
    """Bridges, and the contexts, each with the bridge that its frames come to before their destination matters."""
    bridges: list[tuple[int, int]] = []
    ports: list[tuple[int, int]] = []
    for entries in program.bridges.values():
        bridges.append((len(ports), len(entries)))
        ports += sorted((int.from_bytes(mac), at.nodes[node]) for mac, node in entries)
    contexts = []
    for c in program.contexts:
        own = at.interfaces[c.interface] + 1, at.nodes[c.entry], at.neighbours[c.neighbours]
        contexts.append((c.number, *own, _bridge(program, c.entry, at)))
    return {"bridges": bridges, "bridge_ports": ports, "contexts": contexts}


def _bridge(program: Program, label: str, at: Indexes) -> int:
    """Index + 1 of the bridge along the chain of `next` from a node on; 0: there is none."""
    seen = set()
    while label and label not in seen:
        seen.add(label)
        at.before_bridges.add(label)
        node = program.nodes[label]
        if isinstance(node, Bridge):
            return at.bridges[node.table] + 1
        label = getattr(node, "next", "")
    return 0
