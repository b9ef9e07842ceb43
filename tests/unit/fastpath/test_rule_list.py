"""A list of rules made from another one is the list made from nothing."""

from __future__ import annotations

import random
from ipaddress import IPv4Network

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dataplane.compile.indexes import Indexes
from dataplane.compile.rows import rule_row, set_rows
from dataplane.names import Names
from dataplane.program import Prefix, Program, Rule
from fastpath.rule_list import RuleList
from tests.unit.fastpath.test_classifier import some_rules

COUNTS = [0, 1, 2, 62, 63, 64, 65, 66, 127, 128, 129, 200]


class Lists:
    """Rules as rows, whose sets are those of one draw."""

    def __init__(self, sets: dict[str, list[Prefix]]) -> None:
        self.program = Program(names=Names(), sets=sets)
        for _ in range(2000):
            self.program.names.intern("rule", str(len(self.program.names)))
        self.at = Indexes(self.program)
        self.tables = [set_rows(prefixes) for prefixes in sets.values()]

    def rows(self, rules: list[Rule]) -> list[tuple[int, ...]]:
        return [rule_row(rule, self.program, self.at) for rule in rules]

    def whole(self, rules: list[Rule]) -> RuleList:
        return RuleList(self.rows(rules), self.tables)


@settings(max_examples=150)
@given(seed=st.integers(0, 2**32), count=st.sampled_from(COUNTS), steps=st.integers(1, 4))
def test_a_spliced_list_is_the_list_made_from_nothing(seed: int, count: int, steps: int) -> None:
    draw = random.Random(seed)
    spare, sets = some_rules(draw, 300)
    lists = Lists(sets)
    rules, spare = spare[:count], spare[count:]
    made = lists.whole(rules)
    for _ in range(steps):
        splices, after, taken = [], list[Rule](), 0
        for _ in range(draw.randint(1, 4)):
            at = draw.choice([taken, len(rules), draw.randint(taken, len(rules)), max(taken, min(64, len(rules)))])
            removed = min(len(rules) - at, draw.choice([0, 0, 1, 1, 2, 63, 64, 65, 130]))
            added = draw.sample(spare, min(len(spare), draw.choice([0, 1, 1, 2, 5, 63, 64, 66])))
            splices.append((at, removed, lists.rows(added)))
            after += rules[taken:at] + added
            taken = at + removed
        rules = after + rules[taken:]
        made = RuleList(splices, lists.tables, before=made)
        assert made.parts() == lists.whole(rules).parts()


def test_a_list_with_long_prefix_lists_is_spliced_too() -> None:
    draw = random.Random(3)
    rules, sets = some_rules(draw, 100)
    sets["set0"] = [IPv4Network((draw.getrandbits(28) << 4, 28)) for _ in range(9000)]
    lists = Lists(sets)
    made = lists.whole(rules)
    for at, other in ((0, 1), (50, 0), (99, 7)):
        rules[at] = rules[other]
        made = RuleList([(at, 1, lists.rows([rules[at]]))], lists.tables, before=made)
        assert made.parts() == lists.whole(rules).parts()


def test_lists_that_differ_have_different_parts() -> None:
    """So that the comparison above is about something."""
    rules, sets = some_rules(random.Random(2), 100)
    lists = Lists(sets)
    whole = lists.whole(rules).parts()
    for at in (0, 50, 99):
        assert lists.whole(rules[:at] + rules[at + 1 :]).parts() != whole
    assert lists.whole(rules).classes is not None


def test_a_splice_must_lie_in_the_list() -> None:
    rules, sets = some_rules(random.Random(2), 20)
    lists = Lists(sets)
    whole = lists.whole(rules)
    for wrong in ([(21, 0)], [(0, 21)], [(20, 1)], [(3, 2), (4, 0)], [(3, 0), (2, 0)]):
        with pytest.raises(ValueError, match="are not in a list of 20"):
            RuleList([(at, removed, list[tuple[int, ...]]()) for at, removed in wrong], lists.tables, before=whole)
