from __future__ import annotations

import errno
import json
import os
import socket
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from dataplane.errors import LabError
from lab.processes import boot_id, find
from lab.state import (
    DAEMON,
    LOCK,
    RECORD_LIMIT_BYTES,
    RUNTIME,
    LabState,
    draft_of,
    known_labs,
    open_end,
    read_end,
    recorded_process,
)
from lab.state_root import state_root

HOLD = """
import sys
sys.path.insert(0, sys.argv[1])
from lab.state import LabState
state = LabState("a")
state.acquire()
print("held", flush=True)
input()
"""
ROOT = str(Path(__file__).resolve().parents[3])


@pytest.fixture(autouse=True)
def _own_root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))


def test_the_folder_is_where_xdg_says(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert LabState("a").path == tmp_path / "vpclab" / "a"
    monkeypatch.setenv("HOME", "/home/someone")
    for ignored in ("", "relative/path"):
        monkeypatch.setenv("XDG_STATE_HOME", ignored)
        assert state_root() == Path("/home/someone/.local/state/vpclab")


@pytest.mark.parametrize("name", ["", ".", "..", "a/b", "-a", ".a", "a b", "a\n", "x" * 64])
def test_names_that_are_no_folder_names_are_refused(name: str) -> None:
    with pytest.raises(LabError, match="cannot be a lab's name"):
        LabState(name)


def test_the_folder_is_private() -> None:
    state = LabState("a")
    state.acquire()
    assert state.path.stat().st_mode & 0o777 == 0o700
    state.release()


@pytest.mark.parametrize("root", ["/proc/nowhere", "/dev/null"])
def test_a_folder_that_cannot_be_made_is_said(root: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", root)
    with pytest.raises(LabError, match=f"{root}/vpclab/a cannot be made: "):
        LabState("a").acquire()


def test_a_lab_runs_as_long_as_its_lock_is_held() -> None:
    state, other = LabState("a"), LabState("a")
    assert not other.is_running()
    state.acquire()
    assert state.is_running()
    assert other.is_running()
    with pytest.raises(LabError, match=r"lab a is already running; stop it first: vpclab down a"):
        other.acquire()
    state.release()
    assert not other.is_running()
    other.acquire()
    other.release()


def test_a_killed_holder_holds_nothing() -> None:
    holder = subprocess.Popen(
        [sys.executable, "-c", HOLD, ROOT], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    with holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == "held\n"
        assert LabState("a").is_running()
        holder.kill()
        holder.wait()
        assert not LabState("a").is_running()


def test_children_do_not_inherit_the_lock() -> None:
    state = LabState("a")
    state.acquire()
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as child:
        state.release()
        assert not LabState("a").is_running()
        child.communicate(b"\n")


def test_a_lock_on_a_removed_folder_is_worth_nothing() -> None:
    first, second = LabState("a"), LabState("a")
    first.acquire()
    first.remove()
    assert not second.is_running()
    second.acquire()
    first.release()
    assert second.path.exists()
    assert LabState("a").is_running()
    second.release()


def test_asking_whether_a_lab_runs_does_not_keep_it_from_starting() -> None:
    LabState("a").path.mkdir(parents=True)
    (LabState("a").path / "lock").touch()
    done = threading.Event()

    def ask() -> None:
        while not done.is_set():
            LabState("a").is_running()

    thread = threading.Thread(target=ask)
    thread.start()
    try:
        for _ in range(50):
            state = LabState("a")
            state.acquire()
            state.release()
    finally:
        done.set()
        thread.join()


def test_remove_leaves_nothing() -> None:
    state = LabState("a")
    state.acquire()
    (state.path / "nodes" / "web").mkdir(parents=True)
    (state.path / "nodes" / "web" / "http.log").write_text("x")
    state.remove()
    state.release()
    assert not state_root().exists()


def test_remove_leaves_other_labs_alone() -> None:
    for name in ("a", "b"):
        (state_root() / name).mkdir(parents=True)
    state = LabState("a")
    state.acquire()
    state.remove()
    state.release()
    assert [known.name for known in known_labs()] == ["b"]


def test_files_are_written_whole_or_not_at_all() -> None:
    state = LabState("a")
    state.path.mkdir(parents=True)
    state.write("x.json", {"a": 1})
    with pytest.raises(TypeError):
        state.write("x.json", {"a": object()})
    assert state.read("x.json") == {"a": 1}
    assert [path.name for path in state.path.iterdir()] == ["x.json"]


def test_what_a_killed_process_had_not_finished_is_cleared(monkeypatch: pytest.MonkeyPatch) -> None:
    state = LabState("a")
    state.path.mkdir(parents=True)
    for name in ("lab.json", "nodes.sock"):
        with subprocess.Popen(["true"]) as ended:
            monkeypatch.setattr(os, "getpid", lambda ended=ended: ended.pid)
            draft_of(state.path / name).touch()
    kept = draft_of(state.path / "nodes.sock")
    for other in ("lab.json", ".profile", ".hidden.txt", "a.1"):
        (state.path / other).touch()
    state.clear_drafts(ended.pid)
    assert {path.name for path in state.path.iterdir()} == {kept.name, "lab.json", ".profile", ".hidden.txt", "a.1"}
    state.clear_drafts()
    assert not kept.exists()


def test_what_cannot_be_cleared_is_in_nobody_s_way() -> None:
    state = LabState("a")
    state.clear_drafts()
    (state.path / ".lab.json.2").mkdir(parents=True)
    for name in (".lab.json.1", ".lab.json.3"):
        (state.path / name).touch()
    state.clear_drafts()
    assert [path.name for path in state.path.iterdir()] == [".lab.json.2"]


def test_what_cannot_be_read_is_nothing() -> None:
    state = LabState("a")
    assert state.read("x.json") is None
    state.path.mkdir(parents=True)
    for content in (b"{", b"\xff", b"[" * 100_000):
        (state.path / "x.json").write_bytes(content)
        assert state.read("x.json") is None


def test_what_programs_put_in_place_of_a_file_is_cleared(tmp_path: Path) -> None:
    state = LabState("a")
    (state.path / "names" / "within").mkdir(parents=True)
    (state.path / "lab.json").touch()
    (state.path / "nodes.sock").symlink_to(tmp_path / "elsewhere")
    (tmp_path / "elsewhere").mkdir()
    state.clear("names", "lab.json", "nodes.sock", "runtime.json")
    assert list(state.path.iterdir()) == []
    assert (tmp_path / "elsewhere").exists()


def test_what_cannot_be_cleared_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuses(*_: object, **__: object) -> None:
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))

    state = LabState("a")
    state.path.mkdir(parents=True)
    (state.path / "names").touch()
    with monkeypatch.context() as others:
        others.setattr(Path, "unlink", refuses)
        with pytest.raises(LabError, match="a/names cannot be removed: Permission denied"):
            state.clear("names")


def test_the_daemon_is_known_by_pid_start_time_and_boot() -> None:
    state = LabState("a")
    state.acquire()
    state.write_daemon(lab_id="a-1")
    facts = state.read_daemon()
    assert facts is not None
    assert (facts["pid"], facts["boot"], facts["lab_id"]) == (os.getpid(), boot_id(), "a-1")
    for wrong in ({"pid": 0}, {"start": facts["start"] + 1}, {"boot": "another"}):
        (state.path / DAEMON).write_text(json.dumps({**facts, **wrong}))
        assert state.read_daemon() is None
        assert recorded_process(state.read(DAEMON)) is None


def test_who_does_not_hold_the_lock_is_not_the_daemon(tmp_path: Path) -> None:
    """Whoever it is: a program in an instance may have written the record."""
    state, other = LabState("a"), LabState("b")
    with subprocess.Popen(
        [sys.executable, "-c", HOLD, ROOT], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == "held\n"
        other.acquire()
        state.write_daemon()
        assert recorded_process(state.read(DAEMON)) is not None
        assert state.read_daemon() is None
        found = find(holder.pid)
        assert found is not None
        state.write(DAEMON, {"pid": found.pid, "start": found.start, "boot": boot_id()})
        assert state.read_daemon() == state.read(DAEMON)
        holder.communicate("\n")
    other.release()


@pytest.mark.parametrize("make", [Path.symlink_to, Path.hardlink_to], ids=["link", "name"])
def test_the_lock_of_another_lab_is_not_this_one_s(make: Callable[[Path, Path], None]) -> None:
    state, other = LabState("a"), LabState("b")
    state.path.mkdir(parents=True)
    other.acquire()
    make(state.path / LOCK, other.path / LOCK)
    state.write_daemon()
    assert state.read_daemon() is None
    other.release()


def test_a_draft_is_written_to_nothing_that_was_there() -> None:
    state = LabState("a")
    state.path.mkdir(parents=True)
    draft, victim = draft_of(state.path / RUNTIME), state.path / "victim"
    victim.write_text("whole")
    for made in (lambda: os.mkfifo(draft), lambda: draft.symlink_to(victim), draft.mkdir):
        made()
        state.write(RUNTIME, {"a": 1})
        assert state.read(RUNTIME) == {"a": 1}
    assert victim.read_text() == "whole"


def test_what_could_not_be_read_is_not_written() -> None:
    state = LabState("a")
    state.path.mkdir(parents=True)
    state.write(RUNTIME, "x" * (RECORD_LIMIT_BYTES - 2))
    assert state.read(RUNTIME) is not None
    with pytest.raises(LabError, match=f"{RECORD_LIMIT_BYTES + 1} bytes, at most {RECORD_LIMIT_BYTES}"):
        state.write(RUNTIME, "x" * (RECORD_LIMIT_BYTES - 1))


@pytest.mark.parametrize("name", [DAEMON, RUNTIME])
def test_what_is_no_file_is_no_record_and_nobody_waits_for_it(name: str) -> None:
    """Or one without end: programs in instances may have made it."""
    state = LabState("a")
    state.path.mkdir(parents=True)
    os.mkfifo(state.path / name)
    assert state.read(name) is None
    state.clear(name)
    (state.path / name).mkdir()
    descriptors = len(os.listdir("/proc/self/fd"))
    assert state.read(name) is None
    assert len(os.listdir("/proc/self/fd")) == descriptors
    state.clear(name)
    (state.path / name).symlink_to("/dev/zero")
    assert state.read(name) is None
    state.clear(name)
    with (state.path / name).open("wb") as file:
        file.truncate(1 << 40)
    assert state.read(name) is None


def test_what_lies_in_the_way_of_a_log_makes_room_for_a_new_one() -> None:
    """Nobody waits for a pipe, and what a link leads to gets nothing."""
    log, victim = LabState("a").path / "daemon.log", LabState("a").path / "victim"
    log.parent.mkdir(parents=True)
    victim.write_text("whole")
    sock = socket.socket(socket.AF_UNIX)
    for made in (
        lambda: os.mkfifo(log),
        lambda: log.symlink_to(victim),
        lambda: log.symlink_to("/dev/null"),
        lambda: sock.bind(str(log)),
        lambda: log.write_text("before, "),
    ):
        made()
        before = log.read_text() if log.is_file() and not log.is_symlink() else ""
        with open(open_end(log), "w") as file:
            file.write("said")
        assert log.read_text() == f"{before}said"
        assert not log.is_symlink()
        log.unlink()
    sock.close()
    log.mkdir()
    with pytest.raises(IsADirectoryError):
        open_end(log)
    assert victim.read_text() == "whole"


@pytest.mark.parametrize(("most", "end"), [(1, b"s"), (3, b"ogs"), (4, b"logs"), (5, b"logs"), (1 << 40, b"logs")])
def test_the_end_of_a_file_is_no_more_than_was_asked_for(tmp_path: Path, most: int, end: bytes) -> None:
    (tmp_path / "log").write_bytes(b"logs")
    assert read_end(tmp_path / "log", most) == end
    os.mkfifo(tmp_path / "pipe")
    assert read_end(tmp_path / "pipe", most) == b""
    assert read_end(tmp_path / "nothing", most) == b""


@pytest.mark.parametrize(
    "wrong", [{"pid": "x"}, {"pid": None}, {"pid": 10**400}, {"start": [1]}, {"start": "7"}, {"boot": 7}], ids=str
)
def test_what_is_no_record_names_nobody(wrong: dict[str, object]) -> None:
    """Programs in instances may write to it."""
    state = LabState("a")
    state.path.mkdir(parents=True)
    state.write_daemon()
    facts = {**state.read(DAEMON), **wrong}
    missing = {key: value for key, value in facts.items() if key not in wrong}
    for each in (facts, missing, [facts], "daemon", None):
        state.write(DAEMON, each)
        assert state.read_daemon() is None
        assert recorded_process(state.read(DAEMON)) is None
