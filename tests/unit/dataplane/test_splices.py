"""Splices lead from one list to another."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from dataplane.splices import splices

lists = st.lists(st.integers(0, 6), max_size=40)


def spliced(old: list[int], new: list[int]) -> list[int]:
    made = list(old)
    for each in reversed(splices(old, new)):
        made[each.at : each.at + each.removed] = new[each.first : each.first + each.added]
    return made


@given(old=lists, new=lists)
def test_splices_of_any_two_lists(old: list[int], new: list[int]) -> None:
    assert spliced(old, new) == new


@given(
    old=st.lists(st.integers(), min_size=8, max_size=60, unique=True),
    edits=st.lists(st.tuples(st.integers(0, 59), st.booleans()), max_size=4),
)
def test_a_few_edits_are_few_splices(old: list[int], edits: list[tuple[int, bool]]) -> None:
    new: list[object] = list(old)
    for at, adds in edits:
        if adds:
            new.insert(at, object())
        elif at < len(new):
            del new[at]
    found = splices(old, new)
    assert len(found) <= len(edits)
    made: list[object] = list(old)
    for each in reversed(found):
        made[each.at : each.at + each.removed] = new[each.first : each.first + each.added]
    assert made == new


def test_what_is_near_does_not_hide_what_follows() -> None:
    old = list(range(100))
    new = [-1, *old[:50], *old[51:90], -2, -3, *old[91:]]
    assert splices(old, new) == [(0, 0, 0, 1), (50, 1, 51, 0), (90, 1, 90, 2)]
    assert splices(old, old) == []
