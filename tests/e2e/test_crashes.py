"""``kill -9`` at any moment: what runs is whole, and what does not is gone after `vpclab gc`."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import pytest

from lab import gc
from lab.state import LabState
from tests.crashes.machine import play
from tests.e2e.command import Command
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
    play("tests.crashes.rounds", "--rounds", "4")


def test_a_lab_whose_up_was_killed_goes_down(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    file = tmp_path / "slow.yaml"
    file.write_text(SLOW)
    state = LabState("slow")
    with Command().start("up", str(file)) as command:
        lab = Lab("slow", "", "")
        try:
            eventually(lambda: (state.path / "nodes" / "host" / "never.log").exists(), "its program was started")
            os.kill(command.pid, signal.SIGKILL)
            eventually(lambda: not state.path.exists(), "it went down by itself, and left nothing")
            assert gc.collect("slow") == []
        finally:
            lab.down()
