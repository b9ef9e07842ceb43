"""Every example has checks, and they hold by its rules alone; `tests/e2e/test_example_checks.py` has the packets."""

from __future__ import annotations

from pathlib import Path

import pytest

from dataplane.load import load_topology
from tests.unit.analysis.claims import EXAMPLES, SOUND, decided


@pytest.mark.parametrize("file", SOUND, ids=lambda file: str(file.relative_to(EXAMPLES)))
def test_the_checks_of_an_example_hold(file: Path) -> None:
    results = decided(load_topology(file))
    assert {each.check.claim for each in results} == {"can", "cannot"}, "claims of both kinds"
    assert [f"{each.check}: {each.why}" for each in results if not each.holds] == []


def test_a_claim_turned_round_does_not_hold() -> None:
    """Else the checks above would say nothing."""
    text = (EXAMPLES / "quickstart.yaml").read_text()
    head, _, checks = text.partition("\nchecks:")
    turned = checks.replace("{can:", "{CAN:").replace("{cannot:", "{can:").replace("{CAN:", "{cannot:")
    lines = [line for line in turned.splitlines() if "via:" not in line]
    results = decided(load_topology(f"{head}\nchecks:\n" + "\n".join(lines), file_name="turned"))
    assert len(results) >= 4
    assert [each for each in results if each.holds] == []
