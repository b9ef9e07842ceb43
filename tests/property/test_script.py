"""A failing example can always be told, whatever was sent in it."""

from __future__ import annotations

from tests.property.script import told


def test_frames_too_short_to_be_one_are_told_by_their_size() -> None:
    short = ["00" * 13, ""]
    lines = told([["connections", 1], ["send", "app/eth0", [*short, "02" * 14], 0, True]])
    assert lines[1:3] == [f"send app/eth0 {len(frame) // 2} bytes {frame}" for frame in short]
    assert "02:02:02:02:02:02" in lines[3]
