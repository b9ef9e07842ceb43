"""Every scenario is played on both engines; what is about the inside of the fast one, on that alone."""

from __future__ import annotations

import pytest

from tests.scenario import network

FAST_ONLY = {
    "test_flows_that_died_of_silence_leave_room_for_new_ones": "the reference engine's memory has no end",
    "test_tracing_the_future_does_not_bring_it_about": "the reference engine traces nothing",
    "test_trace_shows_both_families": "the reference engine traces nothing",
    "test_trace_tells_of_the_error_that_comes_back": "the reference engine traces nothing",
    "test_a_trace_says_whether_an_error_would_be_sent_now": "the reference engine traces nothing",
    "test_a_trace_is_of_now_though_somebody_asks_for_an_earlier_time": "the reference engine traces nothing",
    "test_segments_left_to_the_network_card_cross_whole": "the reference engine knows no offloads",
}


@pytest.fixture(autouse=True, params=network.ENGINES)
def engine(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """The engine that a `Network` without a wish of its own gets."""
    monkeypatch.setattr(network, "engine_in_use", request.param)
    name: str = request.param
    return name


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Leave out, not skip, what has no meaning on the reference engine."""
    out = [item for item in items if "[reference" in item.name and _is_fast_only(item)]
    if out:
        config.hook.pytest_deselected(items=out)
        items[:] = [item for item in items if item not in out]


def _is_fast_only(item: pytest.Item) -> bool:
    return getattr(item, "originalname", "") in FAST_ONLY or item.path.stem == "test_paths"
