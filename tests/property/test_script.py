"""A failing example can always be told, whatever was sent in it."""

from __future__ import annotations

import pytest

from tests.property.script import replay, told
from tests.scenario.labs import SHOP


def test_frames_too_short_to_be_one_are_told_by_their_size() -> None:
    short = ["00" * 13, ""]
    lines = told([["connections", 1], ["send", "app/eth0", [*short, "02" * 14], 0, True]])
    assert lines[1:3] == [f"send app/eth0 {len(frame) // 2} bytes {frame}" for frame in short]
    assert "02:02:02:02:02:02" in lines[3]


@pytest.mark.parametrize("room", [[], [16], [16, 0]])
def test_examples_of_any_age_can_be_played_again(room: list[int]) -> None:
    replay([["connections", 55_000, *room], ["lab", SHOP], ["advance", 1_000]])
