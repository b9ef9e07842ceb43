"""What must be met is complete: every construct of the model, every operation, every drop reason."""

from __future__ import annotations

from pathlib import Path

from dataplane.verdict import Reason
from tests.property.exercised import CONSTRUCTS, UNREACHED, Tally, required, required_thoroughly
from tests.property.thorough import WEIGHTS
from tests.property.thorough_slice import PROPERTIES

ROOT = Path(__file__).parents[2]
MEETS_NO_PACKET = {"capture", "check", "lab_file", "program_spec"}
"""Captures that begin with the lab, what is claimed of it, the file as a whole, and programs that nodes run."""


def test_every_construct_must_be_met() -> None:
    modules = {path.stem for path in (ROOT / "dataplane/model").glob("[a-z]*.py")}
    assert set(CONSTRUCTS) == modules - MEETS_NO_PACKET


def test_every_reason_must_be_met_or_is_tested_elsewhere_by_name() -> None:
    met = {item.removeprefix("reason ") for item in required_thoroughly() if item.startswith("reason ")}
    assert met | {reason.name for reason in UNREACHED} | {"NONE"} == {reason.name for reason in Reason}
    for reason, (why, where) in UNREACHED.items():
        assert why
        assert reason.name in (ROOT / where).read_text(), where


def test_what_is_met_too_rarely_is_named() -> None:
    tally = Tally({"operation drop": 199, "operation emit": 200})
    lacking = tally.lacking(200, required())
    assert lacking["operation drop"] == 199
    assert lacking["operation hop"] == 0
    assert "operation emit" not in lacking


def test_the_long_run_draws_what_its_properties_draw() -> None:
    """A property that has got another parameter is told where the slices are made."""
    assert {*WEIGHTS} == {*PROPERTIES}
