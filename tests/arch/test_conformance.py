"""The conformance suite is whole: every test says which behaviour it asserts, and the page lists just these."""

from __future__ import annotations

from collections import Counter

import pytest

from tests.conformance import page
from tests.conformance.behaviours import SECTIONS, behaviours_of
from tests.conformance.outcomes import Outcomes
from tests.conformance.sources import AWS, BLOG, FAQ, RFC
from tests.scenario.network import ENGINES

CHOSEN_BESIDES = 60
"""At least this many rows besides the numbered ones."""


def test_every_test_says_which_behaviour_it_asserts() -> None:
    silent = [
        name for name, test in page.tests() if name.startswith("tests.conformance.test_") and not behaviours_of(test)
    ]
    assert silent == []


def test_every_row_has_a_part_of_the_page_and_a_source() -> None:
    wrong = [row.sentence for row in page.rows() if row.section not in SECTIONS]
    wrong += [row.sentence for row in page.rows() if not row.source.startswith((AWS, BLOG, FAQ, RFC))]
    assert wrong == []


def test_one_test_asserts_a_sentence_on_the_engines_and_sentences_are_sentences() -> None:
    engines = Counter(b.sentence for _, test in page.tests() for b in behaviours_of(test) if not b.end_to_end)
    assert [sentence for sentence, count in engines.items() if count > 1] == []
    assert [row.sentence for row in page.rows() if row.sentence.endswith(".") or "|" in row.sentence] == []


def test_every_required_behaviour_has_a_row_and_enough_are_chosen_besides() -> None:
    numbers = [row.item for row in page.rows()]
    assert sorted(page.REQUIRED - set(numbers)) == []
    assert numbers.count(0) >= CHOSEN_BESIDES


def test_the_page_lists_exactly_the_behaviours_there_are() -> None:
    if not page.PAGE.exists():
        pytest.fail("docs/conformance.md is missing: run make conformance")
    assert page.stale(page.PAGE.read_text()) == []


def test_a_page_that_lacks_a_row_or_holds_one_that_fails_is_stale() -> None:
    rows = page.rows()
    every = Outcomes({row.sentence: dict.fromkeys(row.ways, True) for row in rows})
    whole = page.page(every)
    assert page.stale(whole) == []
    one = next(line for line in whole.splitlines() if f"| {rows[7].sentence} |" in line)
    counted = next(line for line in whole.splitlines() if "behaviours, " in line)
    assert page.stale(whole.replace(counted, f"{counted}\n{counted}")) == ["its head is another one"]
    assert page.stale(whole.replace(counted, counted.replace("*4", "*3"))) == ["its head is another one"]
    assert page.stale(whole.replace(f"{one}\n", "")) == [f"lacks: {rows[7].sentence}"]
    every.found[rows[7].sentence][ENGINES[0]] = False
    assert page.stale(page.page(every)) == [f"fails ({ENGINES[0]}): {rows[7].sentence}"]
    del every.found[rows[7].sentence][ENGINES[0]]
    assert page.stale(page.page(every)) == [f"not run ({ENGINES[0]}): {rows[7].sentence}"]
