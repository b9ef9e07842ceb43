"""Ends: of labs that must not come back, and of resumptions that somebody wants to stop."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

from lab import processes
from lab.state import DAEMON, RUNTIME, LabState
from tests.e2e.command import Command, rest_of
from tests.e2e.lab.stage import commands, eventually
from vpclab import Lab, LabError

VPCLAB = Command()
BEFORE = Path(__file__).parents[1] / "crashes" / "before.yaml"


@pytest.fixture
def state(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[LabState]:
    """A lab that runs detached."""
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    VPCLAB.said("up", str(BEFORE))
    yield LabState("crash")
    Lab("crash", "", "").down()


def crash(state: LabState) -> int:
    """Kill the daemon; the spawner, which waits for another one."""
    os.kill(state.read(DAEMON)["pid"], signal.SIGKILL)
    log = state.path / "daemon.log"
    eventually(lambda: "the nodes wait for another one" in log.read_text(), "it has noticed")
    eventually(lambda: not state.is_running(), "the daemon has let go of what it held")
    return int(state.read(RUNTIME)["pid"])


@contextmanager
def resuming(state: LabState, spawner: int) -> Iterator[subprocess.Popen[str]]:
    """A resumption that waits for the spawner, which is stopped."""
    os.kill(spawner, signal.SIGSTOP)
    with VPCLAB.start("up", "--resume") as command:
        eventually(state.read_daemon, "who resumes has said who it is")
        yield command


def test_who_resumes_is_the_daemon_from_the_beginning(state: LabState) -> None:
    spawner = crash(state)
    with resuming(state, spawner) as command:
        # not by the command, which takes too long to start: the spawner is waited for five seconds
        with pytest.raises(LabError, match=rf"\(daemon {state.read(DAEMON)['pid']}\)"):
            Lab.load(BEFORE, unique=False).up(detached=True)
        os.kill(spawner, signal.SIGCONT)
        said = rest_of(command)
        assert "is up again" in said


def test_a_lab_comes_back_without_the_folder_it_was_started_in(state: LabState, tmp_path: Path) -> None:
    """Which its captures were written to: what cannot be had again is told, the rest goes on."""
    folder = tmp_path / "started"
    folder.mkdir()
    file = folder / "lab.yaml"
    file.write_text(BEFORE.read_text() + "captures:\n  all: {points: [web], file: all.pcapng}\n")
    Lab("crash", "", "").down()
    with pytest.MonkeyPatch.context() as place:
        place.chdir(folder)
        started = Lab.load(file, unique=False)
        started.up(detached=True)
        before = started.status()["nodes"]
    crash(state)
    shutil.rmtree(folder)
    assert "is up again" in VPCLAB.said("up", "--resume")
    status = Lab.attach().status()
    assert status["nodes"] == before
    for each in (f"{folder}, where lab crash was started, cannot be entered", "nothing is recorded any more"):
        assert each in "\n".join(status["warnings"])
    started.down()


@pytest.mark.parametrize("goes_on", [True, False])
def test_a_resumption_can_be_stopped(state: LabState, goes_on: bool) -> None:
    """It hears of it when the spawner answers, or when it has waited for that long enough."""
    spawner, lab_id = crash(state), state.read(RUNTIME)["lab_id"]
    with resuming(state, spawner) as command:
        daemon = state.read(DAEMON)["pid"]
        began = time.monotonic()
        if goes_on:
            os.kill(daemon, signal.SIGTERM)
            os.kill(spawner, signal.SIGCONT)
        else:
            Lab("crash", "", "").down()
        said = rest_of(command)
        assert time.monotonic() - began < 30
        assert ("lab crash was not brought back: SIGTERM" if goes_on else "does not answer") in said
    eventually(lambda: bool(commands(lab_id)) == goes_on, "it waits for somebody else, or is gone")
    assert Lab.waiting() == (["crash"] if goes_on else [])


@pytest.mark.parametrize("step", range(3))
def test_a_daemon_that_is_killed_while_it_goes_down_takes_its_instances_with_it(state: LabState, step: int) -> None:
    daemon, lab_id = state.read(DAEMON)["pid"], state.read(RUNTIME)["lab_id"]
    log, victim = state.path / "daemon.log", processes.find(daemon)
    assert victim is not None
    os.kill(daemon, signal.SIGTERM)
    with suppress(FileNotFoundError):  # it was quicker, and is down
        while "going down" not in log.read_text():
            time.sleep(0.0005)  # all of it takes some tenths of a second, and `eventually` looks too seldom for that
    time.sleep(step * 0.001)
    victim.kill()
    eventually(lambda: not state.is_running(), "it has let go of what it held")
    eventually(lambda: not commands(lab_id), "its instances end")
    assert Lab.waiting() == []
    assert "no lab can be resumed" in VPCLAB.said("up", "--resume", status=3)
