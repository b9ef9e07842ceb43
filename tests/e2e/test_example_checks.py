"""The checks of every example hold with real packets, and say the same as without."""

from __future__ import annotations

from pathlib import Path

import pytest

from dataplane.load import load_topology
from tests.unit.analysis.claims import EXAMPLES, SOUND, decided
from vpclab import Lab


@pytest.mark.parametrize("file", SOUND, ids=lambda file: str(file.relative_to(EXAMPLES)))
def test_the_checks_of_an_example_hold(file: Path) -> None:
    with Lab.load(file) as lab:
        rows = lab.check()
    assert rows, "every example has checks"
    assert [f"{row['check']}: {row['why']}" for row in rows if not row["holds"]] == []
    assert [row["found"] for row in rows] == [each.found.value for each in decided(load_topology(file))]
