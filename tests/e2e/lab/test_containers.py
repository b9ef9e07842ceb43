"""In a container whose process 1 is no init: it never reaps what it adopts, as `make` or a server as process 1."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.e2e.lab.stage import DEADLINE_S, need

pytestmark = pytest.mark.e2e

ROOT = str(Path(__file__).resolve().parents[3])
FIRST = "import subprocess, sys; sys.exit(subprocess.run(sys.argv[1:]).returncode)"
LAB = """
import os, sys, time
sys.path.insert(0, sys.argv[1])
from lab import gc, processes
from lab.runtime import Runtime
from lab.state import LabState
from tests.e2e.lab.stage import commands, eventually, plan
state = LabState("contained")
state.acquire()
runtime = Runtime(state)
runtime.add_nodes([plan()])
child = runtime.popen("web", ["sleep", "4711"])
child.kill()  # now its command belongs to process 1 out here
child.wait()
eventually(lambda: "sleep 4711" not in commands(runtime.lab_id), "it died")
if sys.argv[2] == "close":
    began = time.monotonic()
    runtime.close()
    assert time.monotonic() - began < 20
else:
    spawner = processes.find(runtime.view("web").spawner)
    spawner.kill()
    runtime.close()
assert gc.clean(state).processes == 0
assert commands(runtime.lab_id) == []
state.remove()
print("gone")
"""


@pytest.mark.parametrize("how", ["close", "kill"])
def test_a_lab_ends_though_nobody_reaps_its_dead(state_home: Path, how: str) -> None:
    isolate = [need("unshare"), *([] if os.geteuid() == 0 else ["-r"]), "-pf", "--mount-proc"]
    done = subprocess.run(
        [*isolate, sys.executable, "-c", FIRST, sys.executable, "-c", LAB, ROOT, how],
        capture_output=True,
        text=True,
        timeout=3 * DEADLINE_S,
    )
    assert done.stdout == "gone\n", done.stderr
