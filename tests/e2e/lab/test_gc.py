"""What a killed lab leaves, and that all of it, and nothing else, is removed."""

from __future__ import annotations

import errno
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

from dataplane.errors import LabError
from lab import gc, netns_names, processes
from lab.identity import LAB_VARIABLE
from lab.interpreter import command
from lab.runtime import Runtime
from lab.state import LabState, folder_id, known_labs
from lab.syscalls import MNT_DETACH, umount
from tests.e2e.lab.stage import child_of, eventually, names_of, need, output, plan

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
print(runtime.lab_id, runtime.view(f"{sys.argv[2]}-1").network[-1], flush=True)
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
        self.lab_id, self.network = self.process.stdout.readline().split()
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


def test_a_name_that_only_root_could_remove_is_said(state_home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A program in an instance may have put it among those of its lab."""

    def refuses(path: Path) -> None:
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))

    state = LabState("aaa")
    state.path.mkdir(parents=True)
    (state.path / "names").write_text("aaa-web\n")
    monkeypatch.setattr(netns_names, "FOLDER", state_home)
    (state_home / "aaa-web").touch(mode=0)
    with monkeypatch.context() as context:
        context.setattr(Path, "unlink", refuses)
        with pytest.raises(LabError, match="aaa-web cannot be removed: Permission denied; run gc as root"):
            gc.collect()
    gc.collect()


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


def test_a_lab_that_cannot_be_removed_keeps_no_other(dead: Daemon, monkeypatch: pytest.MonkeyPatch) -> None:
    dead.kill()
    stuck = LabState("aaa")  # comes first
    stuck.path.mkdir()
    clean = gc.clean

    def refuses(state: LabState) -> gc.Removed:
        if state.name == stuck.name:
            raise LabError("aaa cannot be removed")
        return clean(state)

    with monkeypatch.context() as context:
        context.setattr(gc, "clean", refuses)
        with pytest.raises(gc.NotRemovedError, match=r"^aaa cannot be removed$") as told:
            gc.collect()
    assert [each.lab for each in told.value.removed] == ["vpclabgc"]
    assert nothing_left(dead)
    assert [state.name for state in known_labs()] == ["aaa"]
    assert not stuck.is_running()


def test_a_running_lab_of_another_state_folder_is_left_alone(
    dead: Daemon, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as context:
        context.setenv("XDG_STATE_HOME", str(tmp_path / "elsewhere"))
        assert gc.collect() == []
        assert gc.collect("vpclabgc") == []
    assert dead.sleepers() == 6


def test_a_program_that_looks_like_a_spawner_of_this_folder_ends_no_other_lab(dead: Daemon) -> None:
    """As one in an instance may: it is in a PID namespace below."""
    other = Daemon("vpclabother")
    there = ["unshare", *([] if os.geteuid() == 0 else ["--map-root-user"]), "--pid", "--fork", "--kill-child"]
    line = [sys.executable, "-c", "input()", *command("spawner", "3", folder_id(LabState("vpclabgc").path))]
    environment = {**os.environ, LAB_VARIABLE: other.lab_id}
    try:
        with subprocess.Popen([*there, *line], stdin=subprocess.PIPE, env=environment) as liar:
            eventually(lambda: child_of(liar.pid) and processes.is_spawner(child_of(liar.pid)), "it looks so")
            dead.kill()
            gc.collect("vpclabgc")
            assert other.sleepers() == 6
            liar.communicate(b"\n")
    finally:
        other.close()
    assert nothing_left(dead)


def test_a_lab_in_a_container_is_not_ended_by_a_copy_of_its_record(dead: Daemon) -> None:
    """Its spawner is in a PID namespace below, and which folder it is for means nothing out here."""
    there = ["unshare", *([] if os.geteuid() == 0 else ["--map-root-user"]), "--pid", "--fork", "--kill-child"]
    line = [sys.executable, "-c", "print(flush=True); input()", *command("spawner", "3", "1:1")]
    lab_id = "vpclabgc-0123456789abcdef"
    environment = {**os.environ, LAB_VARIABLE: lab_id}
    with subprocess.Popen([*there, *line], stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=environment) as contained:
        assert contained.stdout is not None
        contained.stdout.readline()
        dead.kill()
        found = processes.find(child_of(contained.pid))
        assert found is not None
        forged = {"lab_id": lab_id, "pid": found.pid, "start": found.start}
        LabState("vpclabgc").write("runtime.json", {**dead.facts, **forged})
        gc.collect("vpclabgc")
        assert found.is_alive()
        contained.communicate(b"\n")
        assert contained.returncode == 0
    gc.collect()
    assert nothing_left(dead)


def test_the_record_of_a_lab_of_another_name_is_not_believed(dead: Daemon) -> None:
    """Even of one whose spawner has ended."""
    dead.kill()
    eventually(lambda: not dead.everything(), "the kernel killed everything")
    lab_id = "vpclabother-0123456789abcdef"
    state = LabState("vpclabgc")
    state.write("runtime.json", {**dead.facts, "lab_id": lab_id})
    with subprocess.Popen(["sleep", "4347"], env={**os.environ, LAB_VARIABLE: lab_id}) as stranger:
        state.acquire()
        assert gc.clean(state).processes == 0
        state.release()
        stranger.kill()


def test_a_process_that_only_the_record_calls_the_lab_s_is_left_alone(dead: Daemon) -> None:
    """The record lies where programs in instances may write."""
    with subprocess.Popen(["sleep", "4346"]) as stranger:
        found = processes.find(stranger.pid)
        assert found is not None
        forged = {**dead.facts, "init": found.pid, "init_start": found.start}
        LabState("vpclabgc").write("runtime.json", forged)
        dead.kill()
        gc.collect()
        assert stranger.poll() is None
        stranger.kill()
    assert nothing_left(dead)


def test_whatever_programs_have_made_of_records_every_dead_lab_goes(dead: Daemon) -> None:
    """Of the one whose they are, and of all others."""
    dead.kill()
    boot = {"boot": processes.boot_id()}
    records: list[Any] = [boot, {**dead.facts, "lab_id": ["x"]}, {**dead.facts, "pid": "x"}, [boot], "boot", 7]
    for number, record in enumerate(records):
        spoilt = LabState(f"vpclabgc-{number}")
        spoilt.path.mkdir()
        for name in ("runtime.json", "daemon.json"):
            spoilt.write(name, record)
    (spoilt.path / "names").write_bytes(b"\xff\n..\n../../x\n\0\n" + b"x" * 300)
    (spoilt.path / "lab.json" / "within").mkdir(parents=True)
    removed = gc.collect()
    assert [each.lab for each in removed] == ["vpclabgc", *(f"vpclabgc-{number}" for number in range(len(records)))]
    assert nothing_left(dead)
    assert known_labs() == []


def test_a_lab_starts_whatever_programs_have_made_of_its_record(dead: Daemon) -> None:
    dead.kill()
    state = LabState("vpclabgc")
    state.acquire()
    try:
        state.write("runtime.json", {**dead.facts, "init": "x", "lab_id": None})
        (state.path / "names").unlink(missing_ok=True)
        (state.path / "names").mkdir()
        with Runtime(state) as runtime:
            runtime.add_nodes([plan("vpclabgc-1")])
            assert output(runtime, "vpclabgc-1", "hostname") == "vpclabgc-1\n"
    finally:
        state.remove()
        state.release()


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
    user = ["--preserve-credentials", f"--user=/proc/{spawner}/ns/user"] if dead.facts["rootless"] else []
    command = [need("nsenter"), *user, f"--net={dead.network}", "env", "-i", "sleep", "4344"]
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
