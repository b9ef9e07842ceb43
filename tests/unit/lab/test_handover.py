"""Who gets through the door of a lab whose daemon is gone, and who is believed to be behind it."""

from __future__ import annotations

import errno
import os
import select
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import pytest

from dataplane.errors import LabError
from lab import handover, processes
from lab.channel import Channel
from lab.handover import Door, Handover, come_in
from lab.identity import LAB_VARIABLE
from lab.interpreter import command
from lab.processes import Process, find, this_process
from lab.socket_path import network_of, reachable
from lab.state import DOOR, folder_id

NODES = Handover(
    lab_id="shop-0123456789abcdef", facts={"init": 7}, plans={}, entries={"web": {"net": 3}}, unfinished=frozenset()
)

SPAWNER = command("spawner")
"""What the command line of one has in it."""
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


def appear(patch: pytest.MonkeyPatch, lab_id: str, folder: Path) -> None:
    """Let this process look like the spawner of a lab."""
    me, lab_of, is_spawner, folder_of = os.getpid(), processes.lab_of, processes.is_spawner, processes.folder_of
    patch.setattr(processes, "folder_of", lambda pid: folder_id(folder) if pid == me else folder_of(pid))
    patch.setattr(processes, "lab_of", lambda pid: lab_id if pid == me else lab_of(pid))
    patch.setattr(processes, "is_spawner", lambda pid: pid == me or is_spawner(pid))


@pytest.fixture(autouse=True)
def _we_are_the_spawner(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    appear(monkeypatch, NODES.lab_id, folder)


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


def test_it_waits_for_a_spawner_that_has_not_yet_noticed(
    door: Door, meeting: Callable[[], Meeting], monkeypatch: pytest.MonkeyPatch
) -> None:
    refused, sleep = threading.Event(), time.sleep

    def pause(seconds: float) -> None:
        refused.set()
        sleep(seconds)

    monkeypatch.setattr(time, "sleep", pause)
    met = meeting()
    assert refused.wait(20), "it stands before the door, and has tried it"
    met.at(door)
    assert met.handed == NODES


def test_who_comes_just_as_the_door_is_shut_tries_again(door: Door, meeting: Callable[[], Meeting]) -> None:
    """As after a daemon that has come and gone before it was."""
    met = meeting()
    door.listen()
    assert select.select([door.fileno()], [], [], 20)[0]
    door.shut()
    met.at(door)
    assert met.handed == NODES


def test_nobody_comes_in_while_there_is_a_daemon(
    door: Door, folder: Path, meeting: Callable[[], Meeting], monkeypatch: pytest.MonkeyPatch
) -> None:
    for _ in range(2):  # before the first, after each
        with monkeypatch.context() as hurried:
            hurried.setattr(handover, "ANSWER_S", 0.1)
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


def test_a_door_that_cannot_be_put_in_its_place_leaves_nothing(folder: Path) -> None:
    (folder / DOOR).mkdir()
    with pytest.raises(IsADirectoryError):
        Door(folder, here())
    assert [each.name for each in folder.iterdir()] == [DOOR]


def test_a_door_that_another_has_taken_the_place_of_is_not_there_and_leaves_that_one(folder: Path) -> None:
    """As after a folder has been removed and a lab of that name started anew."""
    first = Door(folder, here())
    assert first.is_there()
    second = Door(folder, here())
    assert (first.is_there(), second.is_there()) == (False, True)
    first.close()
    assert second.is_there()
    (folder / DOOR).unlink()
    (folder / DOOR).symlink_to(folder / "elsewhere")
    assert not second.is_there()
    second.close()
    assert (folder / DOOR).is_symlink()


def test_without_a_door_or_a_spawner_nobody_waits_for_long(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(handover, "ANSWER_S", 60.0)
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


def come_to_stranger(
    folder: Path, *, recorded: Process | None = None, lab_id: str = NODES.lab_id, line: Sequence[str] = SPAWNER
) -> str:
    """What is said to who comes when another process listens, with this id and command line; it must not be believed.

    Programs in instances can put a socket of their own, or the way to one, into the folder.
    """
    trap = folder / "sprung"
    options = [str(folder), str(trap), *line]
    with subprocess.Popen(
        [sys.executable, "-c", STRANGER, *options],
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, LAB_VARIABLE: lab_id},
    ) as stranger:
        assert stranger.stdout is not None
        assert stranger.stdout.readline() == "listens\n"
        named = recorded or find(stranger.pid)
        assert named is not None
        try:
            with pytest.raises(LabError) as refused:
                come_in(folder, "shop", named)
        finally:
            stranger.kill()
    assert not trap.exists()
    return str(refused.value)


def test_words_of_another_process_are_not_unpickled(folder: Path) -> None:
    assert "is not the spawner's of lab shop" in come_to_stranger(folder, recorded=this_process())


def test_words_of_a_process_that_is_no_spawner_are_not_unpickled(folder: Path) -> None:
    """Not even when the record says that it is: that lies in the folder as well."""
    assert "is not the spawner's of lab shop" in come_to_stranger(folder, line=())


def test_words_of_the_spawner_of_another_lab_are_not_unpickled(folder: Path) -> None:
    assert "leads to another lab" in come_to_stranger(folder, lab_id="bank-0123456789abcdef")


def test_words_of_the_spawner_of_a_lab_of_this_name_elsewhere_are_not_unpickled(folder: Path, tmp_path: Path) -> None:
    for line in (command("spawner", "3", folder_id(tmp_path)), command("spawner", "3")):
        assert "leads to another lab" in come_to_stranger(folder, line=line)
        (folder / DOOR).unlink()


def test_words_from_another_pid_namespace_are_not_unpickled(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever a program in an instance says of itself."""
    real, me = processes.is_beside_us, os.getpid()
    monkeypatch.setattr(processes, "is_beside_us", lambda pid: pid == me and real(pid))
    assert "is not the spawner's of lab shop" in come_to_stranger(folder)


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


def test_a_spawner_speaks_for_its_own_lab_only(
    door: Door, folder: Path, meeting: Callable[[], Meeting], monkeypatch: pytest.MonkeyPatch
) -> None:
    appear(monkeypatch, "shop-fedcba9876543210", folder)
    met = meeting()
    met.at(door)
    assert "leads to another lab" in met.refusal
