"""Is a lowered program sound? Every label that is used exists, and nothing is defined twice.

`lowered` makes a program in dictionaries that notice a second definition; `unsound` lists what is wrong with any
program. Both are for tests of everything that lowers.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Hashable, Iterable, Iterator
from typing import Any

from dataplane.names import Names
from dataplane.program import (
    Bridge,
    Decapsulate,
    Emit,
    Encapsulate,
    Enter,
    Filter,
    FlowGate,
    GroupSession,
    Guard,
    Hop,
    Lookup,
    NatSession,
    Node,
    Program,
    Rewrite,
    Test,
)
from dataplane.topology import Topology
from dataplane.topology.lowering import lower_whole


class Once(dict[str, Any]):
    """A dictionary whose entries are never changed into others."""

    def __setitem__(self, key: str, value: Any) -> None:
        assert self.get(key, value) == value, f"{key} is defined twice"
        super().__setitem__(key, value)

    def __ior__(self, other: Any) -> Once:  # type: ignore[override, misc]
        for key, value in dict(other).items():
            self[key] = value
        return self


def lowered(topology: Topology, names: Names | None = None) -> Program:
    """Lower a topology, and fail when a label is defined twice or leads nowhere."""
    program = Program(
        names=Names() if names is None else names,
        nodes=Once(),
        interfaces=Once(),
        sets=Once(),
        filters=Once(),
        group_policies=Once(),
        nat_policies=Once(),
        flow_policies=Once(),
        spreads=Once(),
        tunnels=Once(),
    )
    lower_whole(topology, program)
    assert unsound(program) == []
    return program


def unsound(program: Program) -> list[str]:
    """Everything wrong with a program, as text."""
    return [
        *_dangling(program),
        *_twice("number of a context", (context.number for context in program.contexts)),
        *_twice("number of an interface", (interface.number for interface in program.interfaces.values())),
        *(
            problem
            for label, routes in program.fibs.items()
            for problem in _twice(f"prefix in fib {label}:", (route.prefix for route in routes))
        ),
        *(
            problem
            for label, entries in program.neighbours.items()
            for problem in _twice(f"prefix in neighbours {label}:", (prefix for prefix, _ in entries))
        ),
        *(
            problem
            for label, ports in program.bridges.items()
            for problem in _twice(f"MAC in bridge {label}:", (mac for mac, _ in ports))
        ),
        *(
            problem
            for label, pairs in program.maps.items()
            for side in (0, 1)
            for problem in _twice(f"address in map {label}:", (pair[side] for pair in pairs))
        ),
    ]


def _twice(what: str, values: Iterable[Hashable]) -> Iterator[str]:
    for value, count in Counter(values).items():
        if count > 1:
            yield f"{what} {value!r} is there {count} times"


def _dangling(program: Program) -> Iterator[str]:
    for user, table, label in _uses(program):
        if label not in getattr(program, table):
            yield f"{user} refers to {label!r}, which is not in {table}"
    for label, rules in _rule_lists(program):
        for rule in rules:
            given = (rule.prefix is not None) + bool(rule.table) + bool(rule.group)
            if given != 1:
                yield f"a rule of {label} has {given} other ends"


def _rule_lists(program: Program) -> Iterator[tuple[str, Iterable[Any]]]:
    yield from program.filters.items()


def _uses(program: Program) -> Iterator[tuple[str, str, str]]:
    """Yield (who, attribute of the program, label) of every reference."""
    for label, node in program.nodes.items():
        for table, used in _uses_of_node(node):
            yield label, table, used
    for label, policy in program.group_policies.items():
        yield label, "filters", policy.egress
        yield label, "filters", policy.ingress
    for label, interface in program.interfaces.items():
        yield label, "nodes", interface.into
        yield label, "nodes", interface.out
    for label, tunnel in program.tunnels.items():
        yield f"tunnel {label}", "spreads", tunnel.spread
        yield f"tunnel {label}", "nodes", tunnel.resume
    for context in program.contexts:
        user = f"context {context.number}"
        yield user, "nodes", context.entry
        yield user, "interfaces", context.interface
        yield user, "neighbours", context.neighbours
    for label, routes in program.fibs.items():
        for route in routes:
            yield f"fib {label}", "nodes", route.node
    for label, ports in program.bridges.items():
        for _, node_label in ports:
            yield f"bridge {label}", "nodes", node_label
    for label, rules in _rule_lists(program):
        for rule in rules:
            if rule.table:
                yield label, "sets", rule.table


def _uses_of_node(node: Node) -> Iterator[tuple[str, str]]:
    following = getattr(node, "next", None)
    if following is not None:
        yield "nodes", following
    match node:
        case Guard(test=Test.VIA | Test.FROM_SUBNET):
            assert not node.table
        case FlowGate():
            yield "flow_policies", node.policy
        case Guard():
            yield "sets", node.table
        case Bridge():
            yield "bridges", node.table
        case Filter():
            yield "filters", node.table
        case GroupSession():
            yield "group_policies", node.policy
        case NatSession():
            yield "nat_policies", node.policy
            yield "interfaces", node.answer_as
        case Encapsulate():
            yield "tunnels", node.tunnel
        case Lookup():
            yield "fibs", node.fib
        case Rewrite():
            yield "maps", node.map
        case Emit():
            yield "interfaces", node.interface
        case Enter(interface=label) | Hop(answer_as=label) if label:
            yield "interfaces", label
    if isinstance(node, (Guard, FlowGate, Decapsulate)) and node.otherwise:
        yield "nodes", node.otherwise
