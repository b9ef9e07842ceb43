"""What a killed lab leaves, and that all of it, and nothing else, is removed."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from lab import gc, netns_names, processes
from lab.identity import LAB_VARIABLE
from lab.interpreter import command
from lab.runtime import Runtime
from lab.state import LabState, known_labs
from lab.syscalls import MNT_DETACH, umount
from tests.e2e.lab.stage import eventually, names_of, need, output, plan

pytestmark = pytest.mark.e2e

ROOT = str(Path(__file__).resolve().parents[3])
DAEMON = """
import sys
sys.path.insert(0, sys.argv[1])
from lab.node_plan import ProgramPlan
from lab.runtime import Runtime
from lab.state import LabState
from tests.e2e.lab.stage import interface, plan
state = LabState(sys.argv[2])
state.acquire()
runtime = Runtime(state)
state.write_daemon(lab_id=runtime.lab_id)
loop = ProgramPlan(name="loop", command=("sh", "-c", "setsid sleep 4343 & sleep 4343"), restart="always")
runtime.add_nodes([plan(f"{sys.argv[2]}-{n}", interface("10.0.1.10/24", port=n), programs=[loop]) for n in (1, 2, 3)])
runtime.start_programs()
print(runtime.lab_id, flush=True)
sys.stdin.read()
runtime.close()
state.remove()
"""


class Daemon:
    """A process that runs a lab, to be killed."""

    def __init__(self, lab: str) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-c", DAEMON, ROOT, lab], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        assert self.process.stdout is not None
        self.lab_id = self.process.stdout.readline().strip()
        assert self.lab_id.startswith(f"{lab}-")
        self.facts: dict[str, Any] = LabState(lab).read("runtime.json")
        eventually(lambda: self.sleepers() == 6, "its programs run")

    def kill(self) -> None:
        self.process.kill()
        self.process.communicate()

    def everything(self) -> list[processes.Process]:
        return [process for process in processes.all_processes() if processes.lab_of(process.pid) == self.lab_id]

    def sleepers(self) -> int:
        return sum(processes.name_of(process.pid) == "sleep" for process in self.everything())

    def names(self) -> list[str]:
        return names_of(self.lab_id)

    def close(self) -> None:
        self.process.communicate("")


@pytest.fixture
def dead(state_home: Path) -> Iterator[Daemon]:
    daemon = Daemon("vpclabgc")
    yield daemon
    daemon.kill()
    gc.collect()


def nothing_left(daemon: Daemon) -> bool:
    return not daemon.everything() and not daemon.names()


def test_processes_die_with_the_daemon_without_any_collection(dead: Daemon) -> None:
    dead.kill()
    eventually(lambda: not dead.everything(), "the kernel killed everything")


def test_a_killed_lab_leaves_nothing_that_gc_does_not_remove(dead: Daemon, state_home: Path) -> None:
    named = dead.names()
    assert bool(named) == (os.geteuid() == 0)
    dead.kill()
    (removed,) = gc.collect()
    assert removed.lab == "vpclabgc"
    assert sorted(removed.namespaces) == named
    assert removed.folder == str(state_home / "vpclab" / "vpclabgc")
    assert nothing_left(dead)
    assert not (state_home / "vpclab").exists()
    assert gc.collect() == []


@pytest.mark.root
def test_a_name_without_a_namespace_goes_and_those_of_others_stay(dead: Daemon) -> None:
    """Who is killed between making a name's file and mounting on it, or the other way round, leaves an empty file."""
    ours, theirs = netns_names.FOLDER / dead.names()[0], netns_names.FOLDER / "vpclabgc-of-others"
    theirs.touch(mode=0)
    try:
        dead.kill()
        umount(str(ours), MNT_DETACH)
        (removed,) = gc.collect()
        assert ours.name in removed.namespaces
        assert not ours.exists()
        assert theirs.exists()
    finally:
        theirs.unlink()


def test_running_labs_are_left_alone(dead: Daemon, state_home: Path) -> None:
    other = Daemon("vpclabother")
    try:
        dead.kill()
        assert [removed.lab for removed in gc.collect()] == ["vpclabgc"]
        assert other.sleepers() == 6
        assert len(other.names()) == (3 if os.geteuid() == 0 else 0)
        assert [state.name for state in known_labs()] == ["vpclabother"]
    finally:
        other.close()
    assert nothing_left(other)


def test_a_running_lab_of_another_state_folder_is_left_alone(
    dead: Daemon, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as context:
        context.setenv("XDG_STATE_HOME", str(tmp_path / "elsewhere"))
        assert gc.collect() == []
        assert gc.collect("vpclabgc") == []
    assert dead.sleepers() == 6


def test_a_lab_that_starts_is_left_alone(state_home: Path) -> None:
    """Until its spawner has the time to give itself its name, only the command line tells what it is."""
    ours, theirs = socket.socketpair()

    def start() -> subprocess.Popen[bytes]:
        spawner = subprocess.Popen(
            command("spawner", str(theirs.fileno())),
            pass_fds=(theirs.fileno(),),
            env={**os.environ, LAB_VARIABLE: "vpclabgc-0123456789abcdef"},
        )
        spawner.send_signal(signal.SIGSTOP)
        os.waitid(os.P_PID, spawner.pid, os.WSTOPPED | os.WNOWAIT)  # until then `exec` may still be under way
        return spawner

    spawner = start()
    try:
        while processes.name_of(spawner.pid) == processes.SPAWNER:  # we were not in time: another one
            spawner.kill()
            spawner.wait()
            spawner = start()
        assert processes.lab_of(spawner.pid) == "vpclabgc-0123456789abcdef"
        assert gc.collect() == []
        assert spawner.poll() is None
    finally:
        spawner.kill()
        spawner.wait()
        ours.close()
        theirs.close()


def test_a_lost_state_folder_hides_nothing(dead: Daemon, state_home: Path) -> None:
    dead.kill()
    eventually(lambda: not dead.everything(), "the kernel killed everything")
    shutil.rmtree(state_home / "vpclab")
    names = dead.names()
    removed = gc.collect()
    assert [sorted(found.namespaces) for found in removed] == ([names] if names else [])
    assert nothing_left(dead)


def test_a_stopped_spawner_cannot_hold_on(dead: Daemon) -> None:
    os.kill(dead.facts["pid"], signal.SIGSTOP)
    dead.kill()
    assert dead.sleepers() == 6
    (removed,) = gc.collect()
    assert removed.processes >= 1  # with process 1 of the lab go all in its PID namespace, uncounted
    assert nothing_left(dead)


def test_what_users_started_by_other_means_is_found_by_its_namespace(dead: Daemon) -> None:
    """As with `nsenter` or `ip netns exec`: no PID namespace, and here not even the environment, tells."""
    spawner = dead.facts["pid"]
    node = dead.facts["nodes"]["vpclabgc-1"]
    user = ["--preserve-credentials", f"--user=/proc/{spawner}/ns/user"] if dead.facts["rootless"] else []
    command = [need("nsenter"), *user, f"--net=/proc/{spawner}/fd/{node['net']}", "env", "-i", "sleep", "4344"]
    with subprocess.Popen(command) as stranger:
        eventually(lambda: processes.name_of(stranger.pid) == "sleep", "it runs")
        dead.kill()
        gc.collect()
        assert stranger.wait(timeout=10) == -signal.SIGKILL
    assert nothing_left(dead)


def test_processes_of_nobody_are_left_alone(dead: Daemon) -> None:
    isolated = ["unshare", "-n"] if os.geteuid() == 0 else ["unshare", "-rn"]
    with subprocess.Popen([*isolated, "sleep", "4345"]) as stranger:
        eventually(lambda: processes.name_of(stranger.pid) == "sleep", "it runs")
        dead.kill()
        gc.collect()
        assert stranger.poll() is None
        stranger.kill()


def test_a_lab_can_start_again_after_it_was_killed(dead: Daemon) -> None:
    dead.kill()
    state = LabState("vpclabgc")
    state.acquire()
    with Runtime(state) as runtime:
        assert nothing_left(dead)
        runtime.add_nodes([plan("vpclabgc-1")])
        assert output(runtime, "vpclabgc-1", "hostname") == "vpclabgc-1\n"
        assert names_of(runtime.lab_id) == ([runtime.status()["vpclabgc-1"].netns] if os.geteuid() == 0 else [])
    state.remove()
    state.release()


def test_only_the_lab_asked_for_is_removed(dead: Daemon) -> None:
    dead.kill()
    assert gc.collect("another") == []
    assert LabState("vpclabgc").path.exists()
    assert [removed.lab for removed in gc.collect("vpclabgc")] == ["vpclabgc"]
