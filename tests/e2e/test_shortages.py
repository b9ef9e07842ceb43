"""Everything that can run out: it is named, and nothing is half made."""

from __future__ import annotations

from tests.crashes.machine import play


def test_what_runs_out_is_named_and_nothing_is_half_made() -> None:
    """The short form of ``make shortages``."""
    play("tests.crashes.shortages")
