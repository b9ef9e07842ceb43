"""A node's ping, whose program is played."""

from __future__ import annotations

import subprocess
from types import SimpleNamespace
from typing import Any

import pytest

from dataplane.errors import LabError
from vpclab.node import Node


class Played(Node):
    """Runs nothing: answers, or raises, what it was made with."""

    def __init__(self, found: Any) -> None:
        self._lab = SimpleNamespace(address_of=lambda destination, *, source: "10.0.1.11")  # type: ignore[assignment]
        self._entry = {"name": "a"}
        self._found = found
        self.limits: list[float] = []

    def run(self, command: Any, *, timeout_s: float | None = None, **options: Any) -> subprocess.CompletedProcess[str]:
        assert timeout_s is not None
        self.limits.append(timeout_s)
        if isinstance(self._found, Exception):
            raise self._found
        return subprocess.CompletedProcess(command, 0, self._found, "")


def test_what_ping_says() -> None:
    said = "3 packets transmitted, 2 received, 33% packet loss\nrtt min/avg/max/mdev = 0.1/0.25/0.4/0.1 ms\n"
    result = Played(said).ping("b", count=3)
    assert (result.sent, result.received, result.average_ms, bool(result)) == (3, 2, 0.25, False)
    whole = Played(said.replace("2 received", "3 received")).ping("b", count=3)
    assert (whole.received, bool(whole)) == (3, True)


@pytest.mark.parametrize(
    ("found", "words"),
    [
        (subprocess.TimeoutExpired("ping", 61.2), "ping in a did not end within"),
        (FileNotFoundError("ping"), "ping is not installed"),
        ("", "ping in a: no output"),
    ],
)
def test_a_ping_that_fails_is_an_error_in_words(found: Any, words: str) -> None:
    node = Played(found)
    with pytest.raises(LabError, match=words):
        node.ping("b")
    assert node.limits[0] > 60, "as long as it may take to begin"
