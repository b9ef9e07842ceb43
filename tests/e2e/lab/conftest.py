"""Fixtures for tests of the lab runtime: a state folder of their own, and a runtime that is taken down again."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from lab.runtime import Runtime
from lab.state import LabState


@pytest.fixture
def state_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A ``XDG_STATE_HOME`` of this test's own."""
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    return tmp_path


@pytest.fixture
def state(state_home: Path) -> Iterator[LabState]:
    """The state of a lab named "stage", its lock held."""
    state = LabState("stage")
    state.acquire()
    yield state
    state.remove()
    state.release()


@pytest.fixture
def runtime(state: LabState) -> Iterator[Runtime]:
    """A runtime without nodes."""
    with Runtime(state) as runtime:
        yield runtime
