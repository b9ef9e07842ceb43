"""What a daemon is told of a spawner that does not answer in time."""

from __future__ import annotations

import os
import select
import socket
from collections.abc import Iterator

import pytest

from dataplane.errors import LabError
from lab.channel import Channel
from lab.keeper import Keeper, RefusedError, SilentError
from lab.processes import this_process
from lab.socket_path import be_patient


@pytest.fixture
def line() -> Iterator[tuple[Keeper, Channel]]:
    """A keeper that has no patience, and the spawner's end of its channel."""
    ours, theirs = socket.socketpair()
    with ours, theirs:
        be_patient(ours, 0.05)
        yield Keeper("shop", "shop-0123456789abcdef", Channel(ours), this_process(), None), Channel(theirs)


def test_an_answer_that_comes_too_late_is_not_taken_for_that_of_the_next_question(line: tuple[Keeper, Channel]) -> None:
    keeper, spawner = line
    with pytest.raises(SilentError, match="nodes does not answer"):
        keeper.ask({}, "restart", "web", None)
    reader, writer = os.pipe()
    spawner.send(("more", [7]), [writer])
    spawner.send(("done", {"eth0": 7}))
    for descriptor in (reader, writer):
        os.close(descriptor)
    taps: dict[int, int] = {}
    for _ in range(2):
        with pytest.raises(SilentError, match="nodes does not answer"):
            keeper.ask(taps, "status")
        keeper.be_patient()
    assert taps == {}
    assert spawner.receive() == (("restart", "web", None), [])
    assert not select.select([spawner.fileno()], [], [], 0)[0], "nothing more was asked"


def test_one_that_does_not_even_read_is_silent(line: tuple[Keeper, Channel]) -> None:
    """It has got a part of the question, and would take the next for the rest."""
    keeper, _ = line
    for _ in range(2):
        with pytest.raises(SilentError):
            keeper.ask({}, "add", bytes(10_000_000))


def test_one_that_refuses_or_ends_is_not_silent(line: tuple[Keeper, Channel]) -> None:
    keeper, spawner = line
    spawner.send(("refused", "no room"))
    with pytest.raises(RefusedError, match="no room"):
        keeper.ask({}, "linger")
    spawner.send(("done", True))
    assert keeper.ask({}, "linger") is True
    spawner.close()
    with pytest.raises(LabError, match="has ended"):
        keeper.ask({}, "linger")
