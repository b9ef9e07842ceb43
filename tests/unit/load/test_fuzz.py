"""Whatever the bytes: a lab file or a list of problems, in bounded time, and nothing else."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dataplane.errors import ConfigurationError, Problem
from dataplane.load import load, load_topology
from dataplane.load.compose import compose
from dataplane.load.file import read_lab_file

EXAMPLES = [path.read_text() for path in sorted((Path(__file__).parents[3] / "examples").glob("*.yaml"))]
INDICATORS = ": - { } [ ] , &x *x <<: !!str ! | > \" ' # % ? ~ : a 80 vpcs version instances cidr 10.0.0.0/16 ::/0"
BREAKS = [
    "\n",
    "\n  ",
    "\n    ",
    " ",
    "\t",
    "\\",
    "\r",
    "\x85",
    "\ufeff",
    "\0",
    "\u2028",
    "%YAML 1.1\n",
    "---\n",
    "...\n",
]
YAML_PIECES = st.sampled_from([*INDICATORS.split(" "), *BREAKS])
SCALARS = """
null true yes 0 -1 65536 010 1.0 .inf web '' "\\0" [] {} [[]] {a: {}} 10.0.0.0/16 10.0.0.1/16 10.0.0.1 0.0.0.0/0 "::/0"
2001:db8::/56 fe80::1%eth0 self all tcp group:web group:/ group: peering: internet-gateway local blackhole
nat-gateway:nat network-interface:web/eth0 instance:web prefix-list:x 1- - 80-79 0-65535 *x é a/b/c : :a
"""
VALUES = st.sampled_from(["", "&x x", "9" * 5_000, "a" * 300, *SCALARS.split()])


def survives(content: bytes | str) -> None:
    """Load it; anything but success and ConfigurationError fails the test."""
    problems: tuple[Problem, ...] = ()
    try:
        load_topology(content, file_name="lab.yaml")
    except ConfigurationError as error:
        problems = error.problems or (Problem("", ""),)
    for problem in problems:
        assert problem.message
        assert problem.line >= 1, problem
        assert problem.column >= 1
        assert "\n" not in str(problem)


@given(st.binary(max_size=300))
def test_any_bytes(content: bytes) -> None:
    survives(content)


@given(st.text(max_size=200))
def test_any_text(content: str) -> None:
    survives(content)


@given(st.lists(YAML_PIECES, max_size=40).map("".join))
def test_pieces_of_yaml(content: str) -> None:
    survives(content)


@given(st.data())
def test_a_lab_file_with_other_values(data: st.DataObject) -> None:
    """Values put where others were: the shape stays YAML, so this reaches the model's parsers and checks."""
    text = data.draw(st.sampled_from(EXAMPLES))
    spots = list(re.finditer(r"(?<=: )[^\s{},\[\]#]+", text))
    for spot in sorted(data.draw(st.sets(st.sampled_from(spots), min_size=1, max_size=4)), key=lambda m: -m.start()):
        text = text[: spot.start()] + data.draw(VALUES) + text[spot.end() :]
    survives(text)


@given(st.data())
def test_a_lab_file_with_lines_moved_and_lost(data: st.DataObject) -> None:
    lines = data.draw(st.sampled_from(EXAMPLES)).splitlines(keepends=True)
    for _ in range(data.draw(st.integers(1, 3))):
        at = data.draw(st.integers(0, len(lines) - 1))
        taken = lines.pop(at)
        if data.draw(st.booleans()):
            lines.insert(data.draw(st.integers(0, len(lines))), taken)
    survives("".join(lines))


@given(st.data())
def test_a_lab_file_with_bytes_changed(data: st.DataObject) -> None:
    content = bytearray(data.draw(st.sampled_from(EXAMPLES)).encode())
    for _ in range(data.draw(st.integers(1, 5))):
        at = data.draw(st.integers(0, len(content) - 1))
        content[at : at + data.draw(st.integers(0, 3))] = data.draw(st.binary(max_size=3))
    survives(bytes(content))


def damages(text: str) -> list[tuple[int, int, str]]:
    """Every value of a file made unreadable, and every key made unknown: where, and what is written there."""
    values = re.finditer(r"(?<=: )(?![|&*\[{])[^\s{},\[\]#]+", text)
    keys = re.finditer(r"(?m)(?<=[{ ])[a-z0-9_-]+(?=:(?: |$))", text)
    found = [(m.start(), m.end(), "[[]]") for m in values] + [(m.start(), m.end(), m[0] + "x") for m in keys]
    return [each for each in found if "#" not in text[text.rfind("\n", 0, each[0]) + 1 : each[0]]]


def unread(text: str) -> list[Problem]:
    """What keeps the text from being read, without a look at the topology of the rest."""
    root, problems = compose(text, "lab.yaml")
    return problems if root is None else problems + read_lab_file(root, "lab.yaml")[1]


@given(st.sampled_from([(text, damage) for text in EXAMPLES for damage in damages(text)]))
def test_one_slip_in_a_sound_file_is_never_followed_by_problems_that_are_none(
    case: tuple[str, tuple[int, int, str]],
) -> None:
    """The examples hold no problem, so whatever the checks of the topology add to that of loading would be false."""
    text, (start, end, written) = case
    slipped = text[:start] + written + text[end:]
    expected = unread(slipped)
    if expected:
        with pytest.raises(ConfigurationError) as caught:
            load(slipped, file_name="lab.yaml")
        assert set(caught.value.problems) == set(expected)
