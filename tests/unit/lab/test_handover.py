"""Who gets through the door of a lab whose daemon is gone, and who is believed to be behind it."""

from __future__ import annotations

import errno
import os
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from dataplane.errors import LabError
from lab import handover, processes
from lab.channel import Channel
from lab.handover import Door, Handover, come_in
from lab.processes import Process, find, this_process
from lab.socket_path import network_of, reachable
from lab.state import DOOR

NODES = Handover(
    lab_id="shop-0123456789abcdef", facts={"init": 7}, plans={}, entries={"web": {"net": 3}}, unfinished=frozenset()
)

STRANGER = """
import os, pickle, socket, struct, sys

class Trap:
    def __reduce__(self):
        return open, (sys.argv[2], "w")

with socket.socket(socket.AF_UNIX) as listener:
    os.chdir(sys.argv[1])
    listener.bind("nodes.sock")
    listener.listen()
    print("listens", flush=True)
    line, _ = listener.accept()
    payload = pickle.dumps(Trap())
    try:
        line.sendall(struct.pack("=IB", len(payload), 0) + payload)
        line.recv(1)
    except ConnectionError:
        pass
"""


def here() -> int:
    with socket.socket(socket.AF_UNIX) as end:
        return network_of(end)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Deeper than an address of a socket may be long."""
    deep = tmp_path / ("x" * 120)
    deep.mkdir()
    return deep


@pytest.fixture
def door(folder: Path) -> Iterator[Door]:
    made = Door(folder, here())
    yield made
    made.close()
    assert list(folder.iterdir()) == []


class Meeting:
    """Somebody who comes in, in a thread, and what became of it at both ends."""

    def __init__(self, folder: Path, lab: str = "shop") -> None:
        self.ours: Channel | None = None
        self.theirs: Channel | None = None
        self.handed: Handover | None = None
        self.refusal = ""
        self._guest = threading.Thread(target=self._come, args=(folder, lab))
        self._guest.start()

    def _come(self, folder: Path, lab: str) -> None:
        try:
            self.theirs, self.handed = come_in(folder, lab, this_process())
        except LabError as error:
            self.refusal = str(error)

    def at(self, door: Door) -> None:
        """Open the door to the one who has come."""
        door.listen()
        while self.ours is None and self._guest.is_alive():
            self.ours = door.open(NODES)
        self._guest.join()


@pytest.fixture
def meeting(folder: Path) -> Iterator[Callable[..., Meeting]]:
    made: list[Meeting] = []

    def meet(lab: str = "shop") -> Meeting:
        made.append(Meeting(folder, lab))
        return made[-1]

    yield meet
    for each in made:
        for channel in (each.ours, each.theirs):
            if channel is not None:
                channel.close()


def test_who_comes_in_is_told_what_there_is_and_can_ask(door: Door, meeting: Callable[[], Meeting]) -> None:
    met = meeting()
    met.at(door)
    assert met.handed == NODES
    assert met.theirs is not None
    assert met.ours is not None
    met.theirs.send(("status",))
    assert met.ours.receive() == (("status",), [])
    met.ours.send(("done", {}))
    assert met.theirs.receive() == (("done", {}), [])
    assert met.ours.network == here()


def test_it_waits_for_a_spawner_that_has_not_yet_noticed(door: Door, meeting: Callable[[], Meeting]) -> None:
    met = meeting()
    time.sleep(0.1)
    met.at(door)
    assert met.handed == NODES


def test_nobody_comes_in_while_there_is_a_daemon(
    door: Door, folder: Path, meeting: Callable[[], Meeting], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(handover, "ANSWER_S", 0.1)
    for _ in range(2):  # before the first, after each
        with pytest.raises(LabError, match="wait for nobody"):
            come_in(folder, "shop", this_process())
        met = meeting()
        met.at(door)
        assert met.handed == NODES
        door.shut()
        assert door.is_there()


def test_a_door_that_there_is_no_room_to_shut_can_be_opened_again(
    door: Door, folder: Path, meeting: Callable[[], Meeting], monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuses(_: object) -> socket.socket:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    for _ in range(2):
        met = meeting()
        met.at(door)
        assert met.handed == NODES
        with monkeypatch.context() as full:
            full.setattr(Door, "_bound", refuses)
            door.shut()
        assert door.is_there()


def test_without_a_door_or_a_spawner_nobody_waits_for_long(folder: Path) -> None:
    with subprocess.Popen(["true"]) as ended:
        spawner = Process(ended.pid, 1)
    began = time.monotonic()
    with pytest.raises(LabError, match="wait for nobody"):
        come_in(folder, "shop", spawner)
    assert time.monotonic() - began < handover.ANSWER_S / 2


def test_from_another_network_namespace_nobody_comes_in(folder: Path, meeting: Callable[[], Meeting]) -> None:
    door = Door(folder, here() + 1)
    met = meeting()
    met.at(door)
    assert met.ours is None
    assert met.refusal == "lab shop: a lab is taken over in the network namespace that it was started in only"
    door.close()


def test_another_user_does_not_come_in(door: Door, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen = iter([10_000_000])  # by the spawner; afterwards the truth
    monkeypatch.setattr(handover, "peer_uid", lambda end: next(seen, os.geteuid()))
    door.listen()
    with socket.socket(socket.AF_UNIX) as other, reachable(folder, DOOR) as address:
        other.connect(address)
        assert door.open(NODES) is None
        assert Channel(other).receive() == (("refused", "it belongs to another user"), [])


def test_who_does_not_listen_does_not_hold_the_spawner_up(
    door: Door, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(handover, "ANSWER_S", 0.1)
    much = Handover(lab_id="shop-1", facts={"much": bytes(10_000_000)}, plans={}, entries={}, unfinished=frozenset())
    door.listen()
    with socket.socket(socket.AF_UNIX) as deaf, reachable(folder, DOOR) as address:
        deaf.connect(address)
        began = time.monotonic()
        assert door.open(much) is None
        assert time.monotonic() - began < 5


def test_words_of_another_process_are_not_unpickled(folder: Path) -> None:
    """Whoever listens there: programs in instances can put a socket of their own into the folder."""
    trap = folder / "sprung"
    line = [sys.executable, "-c", STRANGER, str(folder), str(trap)]
    with subprocess.Popen(line, stdout=subprocess.PIPE, text=True) as stranger:
        assert stranger.stdout is not None
        assert stranger.stdout.readline() == "listens\n"
        with pytest.raises(LabError, match="is not the spawner's of lab shop"):
            come_in(folder, "shop", this_process())
    assert not trap.exists()


def test_words_from_another_pid_namespace_are_not_unpickled(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Not even when the record says that it is the spawner: that lies in the folder as well."""
    trap = folder / "sprung"
    line = [sys.executable, "-c", STRANGER, str(folder), str(trap)]
    with subprocess.Popen(line, stdout=subprocess.PIPE, text=True) as stranger:
        assert stranger.stdout is not None
        assert stranger.stdout.readline() == "listens\n"
        recorded = find(stranger.pid)
        assert recorded is not None
        real = processes.namespace
        monkeypatch.setattr(
            processes, "namespace", lambda pid, kind: (1, 1) if pid == stranger.pid else real(pid, kind)
        )
        with pytest.raises(LabError, match="is not the spawner's of lab shop"):
            come_in(folder, "shop", recorded)
    assert not trap.exists()


def test_a_spawner_that_says_nothing_is_given_up(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(handover, "ANSWER_S", 0.1)
    with socket.socket(socket.AF_UNIX) as mute, reachable(folder, DOOR) as address:
        mute.bind(address)
        mute.listen()
        with pytest.raises(LabError, match=r"process \d+, which keeps the nodes of lab shop, does not answer"):
            come_in(folder, "shop", this_process())


def test_the_door_of_another_lab_is_not_taken_for_this_one_s(door: Door, meeting: Callable[..., Meeting]) -> None:
    met = meeting(lab="bank")
    met.at(door)
    assert "leads to another lab" in met.refusal
