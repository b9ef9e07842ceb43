"""Labs that end-to-end tests share: started once per module, gone after it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from vpclab import Lab

EXAMPLES = Path(__file__).parents[2] / "examples"


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    here = Path(__file__).parent
    for item in items:
        if item.path.is_relative_to(here):
            item.add_marker(pytest.mark.e2e)


@pytest.fixture(scope="module")
def quickstart() -> Iterator[Lab]:
    with Lab.load(EXAMPLES / "quickstart.yaml") as lab:
        yield lab
