"""Every behaviour is asserted on both engines; those with real kernels (`end_to_end=True`) once."""

from __future__ import annotations

import pytest

from tests.conformance.behaviours import behaviours_of
from tests.scenario import network


def is_end_to_end(function: object) -> bool:
    return any(row.end_to_end for row in behaviours_of(function))


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if not is_end_to_end(metafunc.function) and metafunc.definition.get_closest_marker("e2e") is None:
        metafunc.parametrize("engine", network.ENGINES, indirect=True)


@pytest.fixture(autouse=True)
def engine(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """The engine that a `Network` without a wish of its own gets; end to end: none."""
    name: str = getattr(request, "param", "")
    if name:
        monkeypatch.setattr(network, "engine_in_use", name)
    return name
