"""Lower a topology, from what an earlier one was lowered to as far as that holds.

A program has three parts, each lowered into a Program of its own: the *interfaces* that users own, of which there may
be ten thousands; the *rules* of their security groups, one list for all interfaces with the same groups; and the
*frame*, which is everything else. The frame is lowered every time. Interfaces are not while they are placed as before,
and a rule is not while it is declared as before. Entries that come out equal are the earlier ones, and so are tables of
which all entries are; so whoever compiles the program sees at a glance what has changed.

The order is always frame, interfaces, rules, and what is left out has its numbers already: numbers are given the same
whatever was left out.
"""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Any

from dataplane.model import nat_gateway, network_interface, security_group
from dataplane.model.security_group import KnownRules
from dataplane.names import Names
from dataplane.program import Program

if TYPE_CHECKING:
    from dataplane.topology.resolved import Topology

Carried = tuple[tuple[str, tuple[str, ...]], ...]
"""VPC and groups."""
TABLES = tuple(each.name for each in fields(Program) if each.name not in ("names", "contexts", "fragment_timeout"))
GROWING = ("fibs", "bridges", "neighbours", "maps")
"""Tables whose entries are lists that several parts add to."""


@dataclass(frozen=True, slots=True)
class Lowered:
    """A topology and what it was lowered to: in parts, and all together."""

    topology: Topology
    program: Program
    frame: Program
    interfaces: Program
    rules: Program
    known: KnownRules
    carried: Carried
    """The groups that interfaces carry together, each combination once."""


def lower(topology: Topology, names: Names, before: Lowered | None = None) -> Lowered:
    """Lower a topology; `names` keeps the numbers of what it has seen, and is that of `before` if there is one."""
    if before is not None and before.program.names is not names:
        raise ValueError("what was lowered before has other numbers")
    frame = Program(names=names)
    topology.lab.lower(topology, frame)
    if before is not None:
        _take_over(frame, before.frame)
    if before is not None and _placed_alike(topology, before.topology):
        interfaces, groups = before.interfaces, before.carried
    else:
        interfaces, groups = Program(names=names), carried(topology)
        lower_interfaces(topology, interfaces)
    members = before.rules.sets if before is not None and interfaces is before.interfaces else None
    known = KnownRules(before.known if before is not None else None, members)
    rules = Program(names=names)
    lower_rules(topology, rules, groups, known)
    known.forget_before()
    if before is not None:
        _take_over(rules, before.rules)
    parts = frame, interfaces, rules
    earlier = None if before is None else (before.program, (before.frame, before.interfaces, before.rules))
    return Lowered(topology, _together(parts, earlier), *parts, known, groups)


def lower_interfaces(topology: Topology, program: Program) -> None:
    """Lower the interfaces that users own, and what follows from the addresses of all."""
    for interface in topology.interfaces:
        if not interface.wanted.is_managed:
            network_interface.lower_interface(topology, program, interface)
    for vpc in topology.lab.vpcs:
        nat_gateway.lower_sources(topology, program, vpc)


def carried(topology: Topology) -> Carried:
    """The groups that interfaces of users carry together, in the order of the interfaces."""
    mine = (each for each in topology.interfaces if each.is_attached and not each.wanted.is_managed)
    return tuple(dict.fromkeys((each.subnet.vpc, each.groups) for each in mine))


def lower_rules(topology: Topology, program: Program, groups: Carried, known: KnownRules) -> None:
    """Lower the rules of these interfaces."""
    for vpc, names in groups:
        security_group.lower_rules(topology, program, vpc, names, known)


def lower_whole(topology: Topology, program: Program) -> None:
    """Lower a topology into one program, without an eye on what was there before."""
    topology.lab.lower(topology, program)
    lower_interfaces(topology, program)
    lower_rules(topology, program, carried(topology), KnownRules())


def _placed_alike(new: Topology, old: Topology) -> bool:
    """Whether interfaces are the same; where each is placed follows from what all of them want."""
    if new.interfaces is old.interfaces:
        return True
    wanted = ([each.wanted for each in topology.interfaces] for topology in (new, old))
    logs = ([(name, vpc.cidr, vpc.flow_logs) for name, vpc in each.lab.vpcs.items()] for each in (new, old))
    return new.lab.settings == old.lab.settings and next(wanted) == next(wanted) and next(logs) == next(logs)


def _take_over(new: Program, old: Program) -> None:
    """Put the earlier of equal entries in place of the new ones."""
    for table in TABLES:
        before, after = getattr(old, table), getattr(new, table)
        same = len(before) == len(after)
        for (label, entry), known in zip(after.items(), before, strict=False):
            same = same and label == known
            earlier = before.get(label)
            if earlier is not None and earlier == entry:
                after[label] = earlier
            else:
                same = False
        if same:
            setattr(new, table, before)
    if old.contexts == new.contexts:
        new.contexts = old.contexts


def _together(parts: tuple[Program, ...], earlier: tuple[Program, tuple[Program, ...]] | None) -> Program:
    """One program of the parts."""
    made = Program(names=parts[0].names, fragment_timeout=parts[0].fragment_timeout)
    for table in (*TABLES, "contexts"):
        given = [getattr(part, table) for part in parts]
        if earlier is not None and all(
            mine is getattr(part, table) for mine, part in zip(given, earlier[1], strict=True)
        ):
            setattr(made, table, getattr(earlier[0], table))
        elif table == "contexts":
            made.contexts = [context for contexts in given for context in contexts]
        elif table in GROWING:
            setattr(made, table, _grown(given, earlier, table))
        else:
            setattr(made, table, {label: entry for entries in given for label, entry in entries.items()})
    return made


def _grown(
    given: list[dict[str, list[Any]]], earlier: tuple[Program, tuple[Program, ...]] | None, table: str
) -> dict[str, list[Any]]:
    made = {}
    for label in dict.fromkeys(label for entries in given for label in entries):
        lists = [entries.get(label) for entries in given]
        if earlier is not None and all(
            mine is getattr(part, table).get(label) for mine, part in zip(lists, earlier[1], strict=True)
        ):
            made[label] = getattr(earlier[0], table)[label]
        else:
            made[label] = [each for found in lists if found is not None for each in found]
    return made
