"""A lab that is told to go down does not come back, at whatever step of its end its daemon is killed."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from lab.state import DAEMON, RUNTIME, LabState
from tests.e2e.lab.stage import commands, eventually
from vpclab import Lab

BEFORE = Path(__file__).parents[1] / "crashes" / "before.yaml"


@pytest.fixture
def state(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[LabState]:
    """A lab that runs detached."""
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    vpclab("up", str(BEFORE))
    yield LabState("crash")
    Lab("crash", "", "").down()


def vpclab(*words: str, status: int = 0) -> str:
    command = [sys.executable, "-P", "-m", "vpclab", *words]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert done.returncode == status, done.stdout + done.stderr
    return done.stdout + done.stderr


@pytest.mark.parametrize("step", range(3))
def test_a_daemon_that_is_killed_while_it_goes_down_takes_its_instances_with_it(state: LabState, step: int) -> None:
    daemon, lab_id = state.read(DAEMON)["pid"], state.read(RUNTIME)["lab_id"]
    log = state.path / "daemon.log"
    os.kill(daemon, signal.SIGTERM)
    while "going down" not in log.read_text():
        time.sleep(0.0005)
    time.sleep(step * 0.001)
    os.kill(daemon, signal.SIGKILL)
    eventually(lambda: not commands(lab_id), "its instances end")
    assert Lab.waiting() == []
    assert "no lab can be resumed" in vpclab("up", "--resume", status=3)
