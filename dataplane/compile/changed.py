"""What of a Snapshot must be packed anew when a program becomes another one.

Tables that are one object in both programs are the same; of others, the entries are compared. Where an index may mean
another thing than before, or what a row means depends on rows of another table in a way not followed here, the program
is packed as a whole.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from operator import eq
from typing import Any, TypeVar

from dataplane.compile import rows
from dataplane.compile.indexes import Indexes
from dataplane.compile.intervals import Rows
from dataplane.compile.node_rows import node_row
from dataplane.program import Bridge, Prefix, Program, Rule
from dataplane.splices import splices

WHOLE = ("interfaces", "contexts", "neighbours", "bridges", "maps", "nat_policies", "fragment_timeout")
"""Parts of a program whose rows are packed together."""
LABELLED = ("nodes", "sets", "fibs", "filters", "group_policies", "flow_policies", "spreads", "tunnels")

Entry = TypeVar("Entry")
Patch = dict[Any, Any]
"""Names of tables, or indexes of rows -> what is there now."""


class NotInPartsError(Exception):
    """The program must be packed as a whole; the text says why."""


def changed(old: Program, new: Program, at: Indexes) -> Patch:
    """Rows for a Snapshot made of the one of `old`; `at` are the indexes of that.

    Raises:
        NotInPartsError: it cannot be done in parts.
    """
    for part in WHOLE:
        before, after = getattr(old, part), getattr(new, part)
        if before is not after and before != after:
            raise NotInPartsError(part)
    for part in LABELLED:
        before, after = getattr(old, part), getattr(new, part)
        if before is not after and list(before) != list(after):
            raise NotInPartsError(f"labels of {part}")
    if old.tunnels is not new.tunnels and Indexes(new).tunnel_order != at.tunnel_order:
        raise NotInPartsError("order of tunnels")
    sets = different(old.sets, new.sets)
    fibs = {label: rows.fib_rows(label, new.fibs[label], at) for label in different(old.fibs, new.fibs)}
    intervals = {at.sets[label]: rows.set_rows(new.sets[label]) for label in sets}
    intervals |= {at.fib_tables[label]: table for label, (table, _) in fibs.items()}
    patch: Patch = {
        "nodes": _nodes(old, new, at),
        "intervals": intervals,
        "fibs": {at.fibs[label]: row for label, (_, row) in fibs.items()},
        "group_policies": {
            at.group_policies[label]: rows.group_policy_row(new.group_policies[label], at)
            for label in different(old.group_policies, new.group_policies)
        },
    }
    patch["filters"], patch["named"] = _filters(old, new, set(sets), at)
    if different(old.flow_policies, new.flow_policies):
        patch["flow_policies"] = rows.flow_policy_rows(new)
    if different(old.spreads, new.spreads):
        patch["spreads"], patch["members"] = rows.spread_rows(new)
    if different(old.tunnels, new.tunnels):
        patch["tunnels"] = [rows.tunnel_row(new.tunnels[label], at) for label in at.tunnel_order]
    return {table: found for table, found in patch.items() if found or table == "named"}


def different(old: Mapping[str, Entry], new: Mapping[str, Entry]) -> list[str]:
    """The labels of entries that are not equal."""
    if old is new:
        return []
    return [label for label, entry in new.items() if (before := old[label]) is not entry and before != entry]


def _nodes(old: Program, new: Program, at: Indexes) -> dict[int, tuple[int, ...]]:
    found = {}
    for label in different(old.nodes, new.nodes):
        before, after = old.nodes[label], new.nodes[label]
        # which bridge a context has is found along the chain of `next`
        if isinstance(before, Bridge) or isinstance(after, Bridge):
            raise NotInPartsError("a bridge")
        if label in at.before_bridges and getattr(before, "next", "") != getattr(after, "next", ""):
            raise NotInPartsError("the way to a bridge")
        if getattr(before, "subnets", ()) != getattr(after, "subnets", ()):
            raise NotInPartsError("a set of numbers")
        found[at.nodes[label]] = node_row(after, at)
    return found


class _Named(dict[int, Rows]):
    """Index of an address set -> its intervals, made when they are asked for.

    A list that gets classes asks for the sets of all its rules.
    """

    def __init__(self, sets: Mapping[str, Iterable[Prefix]]) -> None:
        super().__init__()
        self._sets = list(sets.values())  # in the order of `Indexes.sets`

    def __missing__(self, index: int) -> Rows:
        self[index] = found = rows.set_rows(self._sets[index])
        return found


def _filters(old: Program, new: Program, sets: set[str], at: Indexes) -> tuple[Patch, Patch]:
    """Splices of lists of rules, and the intervals that rules name."""

    def unchanged(before: Rule, after: Rule) -> bool:
        return before == after and after.table not in sets

    patch: dict[int, list[tuple[int, int, list[rows.RuleRow]]]] = {}
    for label, rules in new.filters.items():
        before = old.filters[label]
        if before is rules and not (sets and any(rule.table in sets for rule in rules)):
            continue
        for each in splices(before, rules, unchanged if sets else eq):
            added = rules[each.first : each.first + each.added]
            line = each.at, each.removed, [rows.rule_row(rule, new, at) for rule in added]
            patch.setdefault(at.filters[label], []).append(line)
    return patch, _Named(new.sets)
