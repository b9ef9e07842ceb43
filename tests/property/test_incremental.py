"""A changed lab, lowered and compiled from what was there before, is the lab lowered and compiled from nothing.

The twin is the obvious way: every construct lowered into one program, every table packed. Both get the same numbers to
begin with; what they give to what is new must be the same too, and what is gone keeps its number for itself.
"""

from __future__ import annotations

import copy
from collections import Counter
from dataclasses import fields
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dataplane.compile import compile_program
from dataplane.engine import DataPlane
from dataplane.errors import ConfigurationError
from dataplane.names import Names
from dataplane.program import Program
from dataplane.topology import Topology
from dataplane.topology.lowering import lower_whole
from tests.property.lab_changes import CHANGES, changed
from tests.property.quick_load import topology_of
from tests.property.wide_labs import wide_labs

IN_PARTS = {"group-rule", "acl-rule", "acl", "route"}
"""Changes that must be possible without packing everything."""


def listed(names: Names) -> list[str]:
    return [str(names[number]) for number in range(len(names))]


def whole(topology: Topology, names: Names) -> Program:
    program = Program(names=names)
    lower_whole(topology, program)
    return program


def assert_same(found: Program, expected: Program) -> None:
    """Equal entries under equal labels, in one order."""
    assert listed(found.names) == listed(expected.names)
    for table in (each.name for each in fields(Program) if each.name != "names"):
        mine, theirs = getattr(found, table), getattr(expected, table)
        assert mine == theirs, table
        if isinstance(mine, dict):
            assert list(mine) == list(theirs), table


class Compared:
    """A data plane that is changed, and the obvious twin of each of its states."""

    def __init__(self, lab: dict[str, Any]) -> None:
        topology = topology_of(lab)
        self.plane = DataPlane(topology)
        self.compare(topology, Names())

    def change(self, lab: dict[str, Any]) -> str:
        """Change over and compare; "" when it went in parts, else why not."""
        topology, names = topology_of(lab), copy.deepcopy(self.plane.names)
        before = listed(names)
        parts = self.plane.compiler.in_parts
        self.plane.apply(topology)
        assert listed(self.plane.names)[: len(before)] == before, "a number means something else now"
        self.compare(topology, names)
        return "" if self.plane.compiler.in_parts > parts else self.plane.compiler.as_a_whole[-1]

    def compare(self, topology: Topology, names: Names) -> None:
        expected = whole(topology, names)
        assert_same(self.plane.program, expected)
        fresh = compile_program(expected, generation=1)
        mine, theirs = self.plane.snapshot.parts(), fresh.parts()
        for table in theirs:
            assert mine[table] == theirs[table], table
        assert self.plane.snapshot.bytes == pytest.approx(fresh.bytes, rel=0.2)


@settings(max_examples=40)
@given(lab=wide_labs(), data=st.data())
def test_a_changed_lab_is_what_it_would_be_from_nothing(lab: dict[str, Any], data: st.DataObject) -> None:
    compared = Compared(lab)
    earlier = [lab]
    for _ in range(data.draw(st.integers(1, 6))):
        if data.draw(st.integers(0, 5)) == 0:
            lab = data.draw(st.sampled_from(earlier))
        else:
            _, lab = data.draw(st.composite(changed)(lab))
        try:
            compared.change(lab)
        except ConfigurationError:
            lab = earlier[-1]
        earlier.append(lab)


def test_what_can_be_done_in_parts_is() -> None:
    ways: dict[str, Counter[str]] = {kind: Counter() for kind in CHANGES}

    @settings(max_examples=60, database=None, derandomize=True)
    @given(lab=wide_labs(), data=st.data())
    def run(lab: dict[str, Any], data: st.DataObject) -> None:
        compared = Compared(lab)
        for _ in range(4):
            kind, other = data.draw(st.composite(changed)(lab))
            try:
                why = compared.change(other)
            except ConfigurationError:
                continue
            if other != lab:
                ways[kind][why] += 1
            lab = other

    run()
    for kind in IN_PARTS:
        assert ways[kind][""], f"{kind}: {dict(ways[kind])}"
    whole_kinds = [kind for kind, found in ways.items() if set(found) - {""}]
    assert whole_kinds, "the other way has been taken too"
