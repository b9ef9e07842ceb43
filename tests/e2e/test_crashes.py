"""``kill -9`` at any moment, and everything that can run out: what runs is whole, and nothing else is left."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from lab import gc
from lab.state import LabState
from tests.e2e.lab.stage import eventually
from vpclab import Lab

SLOW = """
version: 1
name: slow
internet:
  hosts:
    host:
      address: 198.51.100.10
      programs:
        never: {command: [sleep, infinity], ready: {tcp: 80}}
"""


def test_rounds_of_kills_leave_the_machine_as_it_was() -> None:
    """The short form of ``make crash-rounds``, with other victims and moments each time."""
    line = [sys.executable, "-P", "-m", "tests.crashes.rounds", "--rounds", "4"]
    done = subprocess.run(line, cwd=Path(__file__).parents[2], capture_output=True, text=True, timeout=250, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def test_what_runs_out_is_named_and_nothing_is_half_made() -> None:
    """The short form of ``make shortages``."""
    line = [sys.executable, "-P", "-m", "tests.crashes.shortages"]
    done = subprocess.run(line, cwd=Path(__file__).parents[2], capture_output=True, text=True, timeout=250, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def test_a_lab_whose_up_was_killed_goes_down(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    file = tmp_path / "slow.yaml"
    file.write_text(SLOW)
    state = LabState("slow")
    with subprocess.Popen([sys.executable, "-P", "-m", "vpclab", "up", str(file)]) as command:
        lab = Lab("slow", "", "")
        try:
            eventually(lambda: (state.path / "nodes" / "host" / "never.log").exists(), "its program was started")
            os.kill(command.pid, signal.SIGKILL)
            eventually(lambda: not state.path.exists(), "it went down by itself, and left nothing")
            assert gc.collect() == []
        finally:
            lab.down()
