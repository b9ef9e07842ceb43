"""The verdict of a run: what was met too seldom is named, and so is what was said to be impossible."""

from __future__ import annotations

import pytest

from dataplane.verdict import Reason
from tests.fuzz.unmet import LEAST, UNMET, lacking, met_after_all, wanted
from tools.fuzz import judged


def test_a_run_that_met_everything_passes(capsys: pytest.CaptureFixture[str]) -> None:
    met = dict.fromkeys(wanted(), LEAST)
    assert judged(met) == 0
    assert f"met {LEAST} times" in capsys.readouterr().out


def test_what_was_met_too_seldom_fails_it_by_name(capsys: pytest.CaptureFixture[str]) -> None:
    met = dict.fromkeys(wanted(), LEAST)
    met["reason LOOP"] = LEAST - 1
    del met["operation decapsulate"]
    assert lacking(met) == {"reason LOOP": LEAST - 1, "operation decapsulate": 0}
    assert judged(met) == 1
    assert "reason LOOP was met 999 times" in capsys.readouterr().out


def test_what_was_said_to_be_impossible_fails_it_when_it_is_met() -> None:
    impossible = next(iter(UNMET))
    met = dict.fromkeys(wanted(), LEAST) | {impossible: 1}
    assert met_after_all(met) == [impossible]
    assert judged(met) == 1


def test_every_reason_is_wanted_or_explained() -> None:
    named = {f"reason {reason.name}" for reason in Reason if reason}
    assert named <= {*wanted(), *UNMET}
    assert set(UNMET) <= named
    assert all(UNMET.values())
