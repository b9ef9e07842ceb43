"""A pytest plugin that writes down how a run goes, so that of one that dies or hangs it is known where.

Plays only the tests that `VPCLAB_WITNESS_WANTED` lists, in that order, and ends the process at the first failure:
nobody reads how Hypothesis would make it smaller. With `VPCLAB_WITNESS_LINES` it writes which test ran which line of
`dataplane` into that file (coverage.py, one context for each test).
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Generator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, settings

LOG = os.environ["VPCLAB_WITNESS"]
WANTED = os.environ.get("VPCLAB_WITNESS_WANTED", "")
LINES = os.environ.get("VPCLAB_WITNESS_LINES", "")
FAILED = 97

settings.register_profile(
    "mutants",
    max_examples=10,
    deadline=None,
    database=None,
    phases=[Phase.explicit, Phase.generate],
    suppress_health_check=[*HealthCheck],
)
coverage: Any = None
if LINES:
    from coverage import Coverage

    coverage = Coverage(data_file=LINES, config_file=False, include=["*/dataplane/*"])
    coverage.start()


def note(*words: object) -> None:
    """Append a line; it is in the file at once, whatever happens next."""
    with open(LOG, "a") as file:
        file.write(json.dumps(words) + "\n")


def pytest_collectreport(report: pytest.CollectReport) -> None:
    """A module that cannot be imported fails as a whole."""
    if report.failed:
        note("failed", report.nodeid, "collection")
        os._exit(FAILED)


def engine_of(item: pytest.Item) -> str:
    """The one engine that a test is played on, or ""."""
    callspec = getattr(item, "callspec", None)
    return str(callspec.params.get("engine", "")) if callspec is not None else ""


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Keep what is wanted, in the order in which it is."""
    if not WANTED:
        return
    place = {name: number for number, name in enumerate(json.loads(Path(WANTED).read_text()))}
    kept = [item for item in items if item.nodeid in place]
    config.hook.pytest_deselected(items=[item for item in items if item.nodeid not in place])
    items[:] = sorted(kept, key=lambda item: place[item.nodeid])


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_runtest_protocol(item: pytest.Item) -> Generator[None, object, object]:
    """Each test's beginning, end and seconds."""
    note("begins", item.nodeid, engine_of(item))
    if coverage is not None:
        coverage.switch_context(item.nodeid)
    begun = time.process_time()
    result = yield
    note("ended", item.nodeid, engine_of(item), round(time.process_time() - begun, 4))
    return result


def _failure(item: pytest.Item, when: str) -> Generator[None, object, object]:
    try:
        return (yield)
    except pytest.skip.Exception:
        raise
    except BaseException as error:
        if item.get_closest_marker("xfail") is None:
            note("failed", item.nodeid, f"{when}: {type(error).__name__}")
            os._exit(FAILED)
        raise


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_runtest_setup(item: pytest.Item) -> Generator[None, object, object]:
    """A fixture that fails is a failure."""
    return (yield from _failure(item, "setup"))


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_runtest_call(item: pytest.Item) -> Generator[None, object, object]:
    """The test itself."""
    return (yield from _failure(item, "call"))


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_runtest_teardown(item: pytest.Item) -> Generator[None, object, object]:
    """What fails when it is cleared away."""
    return (yield from _failure(item, "teardown"))


def pytest_sessionfinish() -> None:
    """Keep what was measured."""
    if coverage is not None:
        coverage.stop()
        coverage.save()
