"""The health checker's jobs, and what it asks and hears; its targets are played by sockets and counted calls."""

from __future__ import annotations

import json
import socket
import threading
import time
from collections import Counter
from collections.abc import Iterator
from typing import Any

import pytest

from lab import health_checker
from lab.health_checker import Checker, Finding, _ask


class Checked:
    """A checker whose checks only count; `held` targets are checked until they are let go."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.daemon, theirs = socket.socketpair()
        self.daemon.settimeout(20)
        self.answers = self.daemon.makefile("r")
        self.checker = Checker(theirs)
        self.checks: Counter[str] = Counter()
        self.held: dict[str, threading.Event] = {}
        self._theirs = theirs
        monkeypatch.setattr(health_checker, "check", self._check)

    def _check(self, protocol: str, address: str, port: int, path: str, timeout_s: float) -> Finding:
        self.checks[address] += 1
        if address in self.held:
            self.held[address].wait(20)
        return Finding("open")

    def take(self, *jobs: dict[str, Any]) -> None:
        self.checker.take(list(jobs))

    def close(self) -> None:
        self.take()
        for held in self.held.values():
            held.set()
        for thread in under_way():
            thread.join(20)  # one that spoke to nobody would end the process
        for end in (self.answers, self.daemon, self._theirs):
            end.close()

    def told(self) -> str:
        """Whom the next result is about."""
        name: str = json.loads(self.answers.readline())["target"][2]
        return name

    def wait_for(self, address: str, count: int) -> None:
        end = time.monotonic() + 20
        while self.checks[address] < count:
            assert time.monotonic() < end
            time.sleep(0.005)


def under_way() -> list[threading.Thread]:
    return [each for each in threading.enumerate() if each.name.endswith("(_repeat)")]


@pytest.fixture
def checked(monkeypatch: pytest.MonkeyPatch) -> Iterator[Checked]:
    made = Checked(monkeypatch)
    yield made
    made.close()


def job(name: str, *, interval_s: float = 1000.0) -> dict[str, Any]:
    ends = {"address": name, "protocol": "TCP", "port": 80, "path": "/"}
    return {"target": ["v", "fleet", name], **ends, "interval_s": interval_s, "timeout_s": 0.001}


def test_a_job_that_stays_goes_on_and_is_not_begun_anew(checked: Checked) -> None:
    """Its next check is an interval after the one before, not a timeout, and not with every change."""
    checked.take(job("a"), job("b"))
    assert {checked.told(), checked.told()} == {"a", "b"}
    checked.take(job("b"), job("c"))
    assert checked.told() == "c"
    assert checked.checks == {"a": 1, "b": 1, "c": 1}


def test_a_job_that_goes_is_done_no_more(checked: Checked) -> None:
    checked.take(job("a", interval_s=0.01), job("b", interval_s=0.01))
    checked.wait_for("a", 2)
    checked.take(job("b", interval_s=0.01))
    before = checked.checks["a"]
    checked.wait_for("b", checked.checks["b"] + 20)
    assert checked.checks["a"] <= before + 1, "one may have been under way"


def test_of_a_job_that_is_gone_meanwhile_nothing_is_told(checked: Checked) -> None:
    """It may be a check of the port that the target had before."""
    checked.held["a"] = threading.Event()
    checked.take(job("a"))
    checked.wait_for("a", 1)
    [thread] = under_way()
    checked.take()
    checked.held["a"].set()
    thread.join(20)
    checked.take(job("b"))
    assert checked.told() == "b"


def asked(answer: bytes, *, protocol: str = "HTTP") -> tuple[Finding, str]:
    """What is made of an answer, and the question."""
    ours, theirs = socket.socketpair()
    with ours, theirs:
        theirs.sendall(answer)
        theirs.shutdown(socket.SHUT_WR)
        found = _ask(ours, protocol, "10.0.1.10:80", "/health", time.monotonic() + 20)
        return found, theirs.recv(4096).decode()


def test_the_question_is_one_of_a_load_balancer() -> None:
    """User agent of AWS's health checks; `Host` is required (RFC 9112, section 3.2)."""
    found, question = asked(b"HTTP/1.1 200 OK\r\n")
    assert found == Finding("status", status=200)
    first, *fields, last, rest = question.split("\r\n")
    assert (first, last, rest) == ("GET /health HTTP/1.1", "", "")
    assert {"Host: 10.0.1.10:80", "User-Agent: ELB-HealthChecker/2.0", "Connection: close"} == set(fields)


@pytest.mark.parametrize(
    ("line", "status"),
    [
        (b"HTTP/1.0 404 Not Found\r\n", 404),
        (b"HTTP/1.1 204\n", 204),
        (b"HTTP/1.1 20 OK\r\n", None),
        (b"HTTP/1.1 2000 OK\r\n", None),
        (b"HTTP/1.1 2x0 OK\r\n", None),
        (b"HTTP/1.1\r\n", None),
        (b"ICY 200 OK\r\n", None),
    ],
)
def test_a_status_has_three_digits(line: bytes, status: int | None) -> None:
    """RFC 9112, section 4; a line may end with LF alone (section 2.2)."""
    found, _ = asked(line)
    failed = Finding("failed", detail="what came is no HTTP status line")
    assert found == (failed if status is None else Finding("status", status=status))


def test_a_line_that_never_ends_is_not_read_for_ever() -> None:
    found, _ = asked(b"x" * 100_000)
    assert found == Finding("failed", detail="no HTTP")
    found, _ = asked(b"HTTP/1.1 200 " + b"x" * 4000 + b"\r\n")
    assert found == Finding("status", status=200)


def test_an_answer_that_drips_must_be_whole_in_time() -> None:
    """The time for a check is that of all of it: a piece now and then is no answer."""
    ours, theirs = socket.socketpair()
    ended = threading.Event()

    def drip() -> None:
        while not ended.wait(0.01):
            theirs.sendall(b"x")

    with ours, theirs:
        thread = threading.Thread(target=drip)
        thread.start()
        try:
            with pytest.raises(TimeoutError):
                _ask(ours, "HTTP", "10.0.1.10:80", "/", time.monotonic() + 0.2)
        finally:
            ended.set()
            thread.join(20)
