"""Labs that end-to-end tests share: started once per module, gone after it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from vpclab import Lab

EXAMPLES = Path(__file__).parents[2] / "examples"
COLLECTORS = (
    "test_attach.py",
    "test_command.py",
    "test_containers.py",
    "test_crashes.py",
    "test_gc.py",
)
"""Files whose tests remove all of every dead lab on the machine, and say how many there were: one after the other."""


@pytest.hookimpl(tryfirst=True)  # before xdist looks at the groups, whatever was registered first
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    here = Path(__file__).parent
    for item in items:
        if item.path.is_relative_to(here):
            item.add_marker(pytest.mark.e2e)
            group = "collectors" if item.path.name in COLLECTORS else str(item.path.relative_to(here))
            item.add_marker(pytest.mark.xdist_group(group))


@pytest.fixture(scope="module")
def quickstart() -> Iterator[Lab]:
    with Lab.load(EXAMPLES / "quickstart.yaml") as lab:
        yield lab
