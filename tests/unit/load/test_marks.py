"""Dotted path -> line and column."""

import pytest

from dataplane.errors import Problem
from tests.unit.load.town import marks

TEXT = """\
version: 1
houses:
  big:
    links:
      - first
      - {a: 1}
    empty:
  flow: {x: [10, 20], "dotted.key": {y: 1}, dotted: 3}
base: &base {shared: 7}
other:
  <<: *base
  own: 1
"""


@pytest.mark.parametrize(
    ("path", "place"),
    [
        ("", (1, 1)),
        ("version", (1, 10)),  # a scalar: where it stands
        ("houses", (2, 1)),  # a mapping: its key
        ("houses.big", (3, 3)),
        ("houses.big.links", (4, 5)),
        ("houses.big.links[0]", (5, 9)),
        ("houses.big.links[1]", (6, 9)),
        ("houses.big.links[1].a", (6, 13)),
        ("houses.big.empty", (7, 5)),  # nothing written: its key
        ("houses.flow.x", (8, 10)),
        ("houses.flow.x[1]", (8, 18)),
        ("houses.flow.dotted.key.y", (8, 41)),  # the longest key that fits
        ("houses.flow.dotted", (8, 53)),
        ("other.shared", (9, 22)),  # merged: where it was written
        # what is not there: the longest part that is
        ("nothing", (1, 1)),
        ("houses.big.missing.deeper", (3, 3)),
        ("houses.big.links[2]", (4, 5)),
        ("houses.big.links[99999999999999999999]", (4, 5)),
        ("houses.big.links.x", (4, 5)),
        ("version.deeper", (1, 10)),
        ("houses.bigger", (2, 1)),
        ("houses..big", (2, 1)),
    ],
)
def test_locate(path: str, place: tuple[int, int]) -> None:
    assert marks(TEXT).locate(path) == place


def test_a_problem_is_given_its_place_once() -> None:
    problem = marks(TEXT).located(Problem(path="houses.big.links[0]", message="wrong", code="C", hint="h"))
    assert str(problem) == "town.yaml:5:9: houses.big.links[0]: wrong [C]; h"
    assert marks("version: 1").located(problem) is problem
