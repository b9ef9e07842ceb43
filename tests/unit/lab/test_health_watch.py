"""The daemon's end of health checks; a checker is played by a socket."""

from __future__ import annotations

import errno
import json
import os
import socket
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from unittest.mock import Mock

import pytest

from dataplane.topology.runtime_state import HEALTHY, TargetHealth
from lab import health_watch
from lab.health import HealthBook
from lab.health_checker import SOCKET_NAME
from lab.health_watch import HealthWatch
from lab.socket_path import reachable
from tests.unit.lab.test_health import AT_A, AT_B, A, B, topology


class Checker:
    """Speaks as `lab.health_checker` does."""

    def __init__(self, folder: Path, name: str = AT_A) -> None:
        self.line = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.line.settimeout(20)
        with reachable(folder, SOCKET_NAME) as address:
            self.line.connect(address)
        self.answers = self.line.makefile("r")
        self.say({"node": name})

    def say(self, message: Any) -> None:
        self.line.sendall(json.dumps(message).encode() + b"\n")

    def jobs(self) -> list[str]:
        """The next line of jobs: names of targets."""
        return [job["target"][2] for job in json.loads(self.answers.readline())]

    def close(self) -> None:
        self.answers.close()
        self.line.close()


class Watched:
    """A watch, and whether it has told of a change."""

    def __init__(self, folder: Path) -> None:
        self.told = threading.Event()
        self.ticked = threading.Event()
        self.folder = folder
        self.watch = HealthWatch(folder, changed=self.told.set, tick=self.ticked.set)
        self.watch.configure(topology())

    def state(self) -> str:
        return self.watch.health()[A].state


@pytest.fixture
def watched(tmp_path: Path) -> Iterator[Watched]:
    made = Watched(tmp_path)
    yield made
    made.watch.close()
    assert not (tmp_path / SOCKET_NAME).exists()


def test_results_become_health(watched: Watched, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO")
    checker = Checker(watched.folder)
    watched.watch.begin(0)
    assert checker.jobs() == ["fw-a"]
    assert watched.state() == "initial"
    checker.say({"target": A, "kind": "open", "status": 0, "detail": ""})
    assert watched.told.wait(20)
    assert watched.state() == "healthy"
    assert watched.ticked.wait(20)
    checker.close()
    assert "target fw-a of sec/fleet is healthy" in caplog.text, "what was when stands in no other place"


def test_a_watch_begins_with_what_was_known_before_and_does_not_wait_for_it(tmp_path: Path) -> None:
    known = {A: TargetHealth(state="unhealthy"), B: HEALTHY}
    watch = HealthWatch(tmp_path, changed=Mock(), tick=Mock(), known=known)
    try:
        watch.configure(topology())
        assert {target: watch.health()[target] for target in known} == known
        began = time.monotonic()
        watch.begin(20)
        assert time.monotonic() - began < 10
    finally:
        watch.close()


def test_the_beginning_waits_until_each_check_was_made_once(watched: Watched) -> None:
    """Of two targets, each with a node that checks it."""
    here, there = Checker(watched.folder), Checker(watched.folder, AT_B)
    beginning = threading.Thread(target=watched.watch.begin, args=(20,))
    beginning.start()
    assert (here.jobs(), there.jobs()) == (["fw-a"], ["fw-b"])
    here.say({"target": A, "kind": "failed", "detail": "connection refused"})
    assert watched.told.wait(20)
    beginning.join(0.1)
    assert beginning.is_alive(), "one of them was not made"
    there.say({"target": B, "kind": "open"})
    beginning.join(10)
    assert not beginning.is_alive()
    here.close()
    there.close()


def test_jobs_come_once_checks_may_begin_and_whenever_they_change(watched: Watched) -> None:
    checker = Checker(watched.folder)
    checker.line.settimeout(0.2)
    with pytest.raises(TimeoutError):
        checker.line.recv(1)
    checker.line.settimeout(20)
    watched.watch.begin(0)
    assert checker.jobs() == ["fw-a"]
    undo = watched.watch.configure(topology(cross_zone=True))
    assert checker.jobs() == ["fw-a", "fw-b"]
    undo()
    assert checker.jobs() == ["fw-a"]
    assert list(watched.watch.health())[-2:] == [A, B]
    checker.close()


def test_a_checker_that_does_not_listen_is_hung_up_on_and_keeps_nobody_waiting(
    watched: Watched, monkeypatch: pytest.MonkeyPatch
) -> None:
    more_than_a_socket_holds = Mock(to_json=Mock(return_value="x" * (4 << 20)))
    monkeypatch.setattr(HealthBook, "jobs", lambda _, name: [more_than_a_socket_holds] if name == AT_A else [])
    deaf = Checker(watched.folder)
    watched.watch.begin(0)
    other = Checker(watched.folder, AT_B)
    assert other.jobs() == []
    heard = 0
    while octets := deaf.line.recv(1 << 20):
        heard += len(octets)
    assert 0 < heard < 4 << 20
    deaf.close()
    other.close()


@pytest.mark.parametrize("order", [["open", "failed"], ["failed", "open"]])
def test_results_that_come_in_one_piece_are_all_taken_down(watched: Watched, order: list[str]) -> None:
    """That one of them changes nothing is no reason to keep the other's change from anybody."""
    watched.watch.begin(0)
    checker = Checker(watched.folder)
    assert checker.jobs() == ["fw-a"]
    said = {"open": {"target": A, "kind": "open"}, "failed": {"target": ["a", "b", "c"], "kind": "failed"}}
    checker.line.sendall(b"".join(json.dumps(said[each]).encode() + b"\n" for each in order))
    assert watched.told.wait(20)
    assert watched.state() == "healthy"
    checker.close()


@pytest.mark.parametrize("what", ["changed", "tick"])
def test_a_change_that_cannot_be_applied_does_not_end_the_watch(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, what: str
) -> None:
    failed, again = threading.Event(), threading.Event()

    def fail_once() -> None:
        if failed.is_set():
            again.set()
        failed.set()
        if not again.is_set():
            raise RuntimeError("no room")

    calls: dict[str, Any] = {"changed": Mock(), "tick": Mock(), what: fail_once}
    watch = HealthWatch(tmp_path, **calls)
    watch.configure(topology())
    watch.begin(0)
    checker = Checker(tmp_path)
    assert checker.jobs() == ["fw-a"]
    if what == "changed":
        checker.say({"target": A, "kind": "open"})
    assert failed.wait(20)
    for _ in range(2 if what == "changed" else 0):
        checker.say({"target": A, "kind": "failed"})
    assert again.wait(20)
    assert "no room" in caplog.text
    watch.close()
    checker.close()


def test_the_socket_of_a_daemon_that_was_killed_is_replaced(tmp_path: Path) -> None:
    stale = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    with reachable(tmp_path, SOCKET_NAME) as address:
        stale.bind(address)
    stale.close()
    watched = Watched(tmp_path)
    watched.watch.begin(0)
    checker = Checker(tmp_path)
    assert checker.jobs() == ["fw-a"]
    checker.close()
    watched.watch.close()


def test_time_passes_at_its_pace_whoever_speaks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(health_watch, "TICK_S", 0.1)
    ticks = []
    watch = HealthWatch(tmp_path, changed=Mock(), tick=lambda: ticks.append(time.monotonic()))
    end = time.monotonic() + 20
    while len(ticks) < 4:
        watch.configure(topology())
        assert time.monotonic() < end
    watch.close()
    assert ticks[3] - ticks[0] >= 0.3


def test_a_checker_that_comes_back_is_told_again(watched: Watched) -> None:
    watched.watch.begin(0)
    for _ in range(3):
        checker = Checker(watched.folder)
        assert checker.jobs() == ["fw-a"]
        checker.close()


@pytest.mark.parametrize(
    "line",
    [
        b"no JSON",
        b"\xff",
        b"[]",
        b'"node"',
        b"[" * 60000,
        b'{"a":' * 10000,
        b'{"node": ["a"]}',
        b'{"target": 3}',
        b'{"target": ["a", "b", "c"]}',
        b'{"target": ["a", ["b"], {"c": 1}], "kind": "open"}',
        b'{"target": ["a", "b", "c"], "kind": "fine"}',
        b'{"target": ["a", "b", "c"], "kind": "status", "status": "200"}',
        b'{"target": ["a", "b", "c"], "kind": "open", "detail": 3}',
        b'{"target": ["a", "b", "c"], "kind": "open", "colour": "red"}',
    ],
    ids=lambda line: line[:40].decode(errors="replace"),
)
def test_who_talks_nonsense_is_hung_up_on_and_the_others_go_on(watched: Watched, line: bytes) -> None:
    watched.watch.begin(0)
    checker, bad = Checker(watched.folder), Checker(watched.folder)
    assert (checker.jobs(), bad.jobs()) == (["fw-a"], ["fw-a"])
    bad.line.sendall(line.replace(b'"a", "b", "c"', b'"sec", "fleet", "fw-a"') + b"\n")
    assert bad.answers.readline() == ""
    checker.say({"target": A, "kind": "open"})
    assert watched.told.wait(20)
    assert watched.state() == "healthy"
    checker.close()
    bad.close()


def test_a_result_is_no_reason_to_look_at_all_targets(watched: Watched, monkeypatch: pytest.MonkeyPatch) -> None:
    watched.watch.begin(0)
    checker = Checker(watched.folder)
    assert checker.jobs() == ["fw-a"]
    looked = Mock(side_effect=HealthBook.health)
    monkeypatch.setattr(HealthBook, "health", lambda book: looked(book))
    for _ in range(5):
        checker.say({"target": A, "kind": "open"})
    assert watched.told.wait(20)
    checker.line.shutdown(socket.SHUT_WR)
    assert checker.answers.readline() == "", "it has heard everything"
    assert looked.call_count == 0
    checker.close()


def test_results_about_others_are_nothing(watched: Watched) -> None:
    watched.watch.begin(0)
    checker = Checker(watched.folder)
    assert checker.jobs() == ["fw-a"]
    checker.say({"target": ["a", "b", "c"], "kind": "open"})
    checker.say({"target": A, "kind": "open"})
    assert watched.told.wait(20)
    checker.close()


def test_other_users_are_not_listened_to(watched: Watched, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(health_watch, "peer_uid", lambda _: os.geteuid() + 1)
    watched.watch.begin(0)
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as other, reachable(watched.folder, SOCKET_NAME) as address:
        other.settimeout(20)
        other.connect(address)
        assert other.recv(1) == b""


def test_out_of_descriptors_it_waits_instead_of_spinning(watched: Watched, monkeypatch: pytest.MonkeyPatch) -> None:
    class Full:
        def accept(self) -> None:
            raise OSError(errno.EMFILE, "full")

    monkeypatch.setattr(watched.watch, "_listener", Full())
    began = time.monotonic()
    watched.watch._accept()
    assert time.monotonic() - began >= 0.1


def test_after_its_end_no_descriptor_is_written_to(tmp_path: Path) -> None:
    watch = HealthWatch(tmp_path, changed=lambda: None, tick=lambda: None)
    wake = watch._wake
    watch.close()
    # Somebody else's by now: a new descriptor of that number.
    reader, writer = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
    if wake not in (reader, writer):
        os.dup2(writer, wake)
    watch.configure(topology())()
    watch.begin(1)
    watch.close()
    with pytest.raises(BlockingIOError):
        os.read(reader, 8)
    for each in {reader, writer, wake}:
        os.close(each)


def test_a_checker_is_hung_up_on_at_the_end_and_for_endless_lines(watched: Watched) -> None:
    endless, other = Checker(watched.folder), Checker(watched.folder)
    with pytest.raises((BrokenPipeError, ConnectionResetError)):
        endless.line.sendall(bytes(16 << 20))
    watched.watch.close()
    assert other.answers.readline() == ""
    endless.close()
    other.close()
