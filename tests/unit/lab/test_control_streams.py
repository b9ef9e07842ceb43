"""Verbs that answer with a stream: how long it may take, and that it ends whatever becomes of its client."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any
from unittest.mock import Mock

import pytest

from lab import control
from lab.control import ControlClient, ControlServer
from lab.socket_path import reachable

LONG = bytes(4 << 20)
release = threading.Event()
ended = threading.Event()


def broken_stream(arguments: Mapping[str, Any]) -> control.Stream:
    def run(client: socket.socket) -> None:
        client.sendall(b"begun")
        raise ValueError("filedescriptor out of range")

    return control.Stream(None, run, ended.set)


def slow_stream(arguments: Mapping[str, Any]) -> control.Stream:
    """Sends more than a socket holds, after a while."""

    def run(client: socket.socket) -> None:
        release.wait(2.5)
        client.sendall(LONG)

    return control.Stream(None, run, ended.set)


def unheard_stream(arguments: Mapping[str, Any]) -> control.Stream:
    """Answers once the client is gone."""
    release.wait(10)
    return control.Stream(None, Mock(), ended.set)


@pytest.fixture
def server(tmp_path: Path) -> Iterator[ControlServer]:
    made = ControlServer(tmp_path, {"broken": broken_stream, "slow": slow_stream, "unheard": unheard_stream})
    made.start()
    ended.clear()
    yield made
    made.close()


@pytest.fixture
def client(server: ControlServer, tmp_path: Path) -> Iterator[ControlClient]:
    with ControlClient(tmp_path) as made:
        yield made


def test_a_bug_in_a_stream_ends_it_and_is_in_the_log(client: ControlClient, caplog: pytest.LogCaptureFixture) -> None:
    _, stream = client.stream("broken")
    assert stream.read() == b"begun"
    assert ended.wait(20)
    assert "ValueError: filedescriptor out of range" in caplog.text


def test_a_stream_may_be_silent_longer_than_an_answer(client: ControlClient) -> None:
    release.clear()
    _, stream = client.stream("slow", timeout_s=2.0)
    assert stream.read() == LONG


def test_a_slow_reader_of_a_stream_is_not_hung_up_on(
    server: ControlServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(control, "IDLE_LIMIT_S", 0.1)
    with ControlClient(tmp_path) as client:
        release.set()
        _, stream = client.stream("slow")
        threading.Event().wait(0.8)
        assert stream.read() == LONG


def test_a_stream_whose_answer_nobody_hears_is_closed(server: ControlServer, tmp_path: Path) -> None:
    """A capture would go on for ever."""
    release.clear()
    with socket.socket(socket.AF_UNIX) as line, reachable(tmp_path, control.SOCKET_NAME) as address:
        line.connect(address)
        line.sendall(b'{"version": 1, "verb": "unheard"}\n')
    release.set()
    assert ended.wait(20)


def test_streams_that_have_ended_hold_no_lab_up(
    server: ControlServer, client: ControlClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(control, "STREAM_GRACE_S", 60.0)
    _, stream = client.stream("broken")
    assert stream.read() == b"begun"
    began = time.monotonic()
    server.close()
    assert time.monotonic() - began < 30
