"""How a lab's nodes and programs get from a daemon that was killed to the next one.

The spawner of a lab that lingers has a *door*: a socket in the state folder, at which it listens while it has no
daemon, and only then. Who comes (`vpclab up --resume`) is told what there is, and has a `Channel` as if it had started
the spawner itself.

What goes through the door is pickled, so neither end may take it from anybody. Programs in instances are the lab's
user, and the state folder is theirs to change. What they cannot change is where they are, nor a process outside of the
lab. So the spawner lets in only who comes from the network namespace that the lab was started in, and is in its own PID
namespace: no program of a lab is. And who comes reads only what the process says that is recorded as spawner, is in its
own PID namespace as well, and was started as the spawner of this lab, for this very state folder: there may be another
lab of that name elsewhere.
"""

from __future__ import annotations

import contextlib
import os
import socket
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dataplane.errors import LabError
from lab import processes
from lab.channel import Channel, ChannelClosed
from lab.node_plan import NodePlan
from lab.processes import Process
from lab.socket_path import be_patient, network_of, peer_pid, peer_uid, reachable
from lab.state import DOOR, draft_of, folder_id

LINGER_S = 600.0
"""So long nodes wait for another daemon."""
ANSWER_S = 5.0
"""So long either end waits for the other: for the spawner to notice that its daemon is gone, for a word to come."""
WORK_S = 30.0
"""So long the next daemon waits for what it asks the spawner to do, until the lab is up (`Channel.be_patient`)."""
_WAITING = 8
"""How many may stand before the door. Each is looked at for an instant."""
_PAUSE_S = 0.005


@dataclass(frozen=True, slots=True, kw_only=True)
class Handover:
    """What a spawner tells the daemon that takes its lab over."""

    lab_id: str
    facts: Mapping[str, Any]
    plans: Mapping[str, NodePlan]
    """Of all nodes there are."""
    entries: Mapping[str, dict[str, Any]]
    """How to enter them."""
    unfinished: frozenset[str]
    """Nodes that are not what their plan says: an update failed half-way, and nobody has put that right."""


class Door:
    """Where the next daemon comes in; the spawner's end.

    It is there as long as the lab can be taken over, for others to see, and nobody gets through before `listen`.
    """

    def __init__(self, folder: Path, network: int) -> None:
        """Make the socket in a state folder; `network` is where those come from who are let in. Raises OSError."""
        self._folder, self._network = folder, network
        self._identity = (0, 0)
        """(device, inode) of the socket, which nobody else's file has as long as it is open."""
        self._socket = self._bound()

    def _bound(self) -> socket.socket:
        end = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        draft = draft_of(self._folder / DOOR)
        try:
            draft.unlink(missing_ok=True)
            with reachable(self._folder, draft.name) as address:
                end.bind(address)
            end.setblocking(False)
            made = _identity(draft)
            draft.replace(self._folder / DOOR)
            self._identity = made
        except BaseException:
            end.close()
            draft.unlink(missing_ok=True)
            raise
        return end

    def listen(self) -> None:
        """Let somebody come."""
        self._socket.listen(_WAITING)

    def shut(self) -> None:
        """Let nobody come any more; the door stays.

        Where there is no room for a new one, who comes to this one waits until it is opened.
        """
        with contextlib.suppress(OSError):
            new = self._bound()  # there is no other way back from listen(2)
            self._socket.close()
            self._socket = new

    def fileno(self) -> int:
        """For poll."""
        return self._socket.fileno()

    def is_there(self) -> bool:
        """Whether anybody can find it: not when the state folder has been removed, or another door is in its place."""
        try:
            return _identity(self._folder / DOOR) == self._identity
        except OSError:
            return False

    def open(self, handover: Handover) -> Channel | None:
        """Hand the lab over to who has come; None when that is nobody, or nobody to let in."""
        try:
            line, _ = self._socket.accept()
        except OSError:
            return None
        line.setblocking(True)
        be_patient(line, ANSWER_S)
        channel = Channel(line)
        with contextlib.suppress(ChannelClosed, OSError):
            if peer_uid(line) != os.geteuid():
                channel.send(("refused", "it belongs to another user"))
            elif network_of(line) != self._network:
                channel.send(("refused", "a lab is taken over in the network namespace that it was started in only"))
            elif not processes.is_beside_us(peer_pid(line)):
                channel.send(("refused", "a lab is taken over in the PID namespace that it was started in only"))
            else:
                channel.send(("done", handover))
                be_patient(line, 0)
                return channel
        channel.close()
        return None

    def close(self) -> None:
        """Take it away, and nobody else's that is in its place."""
        with contextlib.suppress(OSError):
            if self.is_there():
                (self._folder / DOOR).unlink()
        self._socket.close()


def _identity(path: Path) -> tuple[int, int]:
    found = path.lstat()
    return found.st_dev, found.st_ino


class _Unheard(Exception):
    """Who knocked was not let in; `may_pass` when it may be otherwise in an instant."""

    def __init__(self, why: str, *, may_pass: bool) -> None:
        super().__init__(why)
        self.may_pass = may_pass


def come_in(folder: Path, lab: str, spawner: Process) -> tuple[Channel, Handover]:
    """Take the nodes of a lab over, whose state folder and recorded spawner these are; the caller holds its lock.

    Raises LabError when they wait for nobody.
    """
    end = time.monotonic() + ANSWER_S
    while True:
        try:
            return _knock(folder, lab, spawner, end)
        except _Unheard as unheard:
            if not unheard.may_pass or time.monotonic() > end or not spawner.is_alive():
                raise LabError(str(unheard)) from unheard.__cause__
        time.sleep(_PAUSE_S)


def _knock(folder: Path, lab: str, spawner: Process, end: float) -> tuple[Channel, Handover]:
    """Once. Raises _Unheard, and LabError for what is not the spawner's door."""
    line = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    channel = Channel(line)
    try:
        try:
            be_patient(line, max(end - time.monotonic(), _PAUSE_S))
            with reachable(folder, DOOR) as address:
                line.connect(address)
        except OSError as error:
            # A spawner that has just lost its daemon needs some time to notice.
            may_pass = isinstance(error, FileNotFoundError | ConnectionRefusedError | BlockingIOError)
            why = (
                f"the nodes of lab {lab} wait for nobody: it was not yet up, was going down, or has instances that are "
                "attached; remove what is left of it: vpclab gc"
            )
            raise _Unheard(why, may_pass=may_pass) from error
        try:
            said = _heard(channel, line, folder, lab, spawner)
        except (OSError, ChannelClosed) as error:
            # Who comes just as the door is shut behind another, which has gone since, is hung up on.
            why = f"process {spawner.pid}, which keeps the nodes of lab {lab}, does not answer"
            raise _Unheard(why, may_pass=isinstance(error, ChannelClosed)) from error
        be_patient(line, WORK_S)
        return channel, said
    except BaseException:
        channel.close()
        raise


def _heard(channel: Channel, line: socket.socket, folder: Path, lab: str, spawner: Process) -> Handover:
    """What is said behind the door, if it is the right one. Raises LabError, and what a channel does."""
    # Before a word of it is read: to unpickle is to do what the other end says.
    behind = _lab_behind(line, spawner)
    if behind is None:
        raise LabError(f"{folder / DOOR} is not the spawner's of lab {lab}; remove what is left of it: vpclab gc")
    elsewhere = LabError(f"{folder / DOOR} leads to another lab; remove what is left of {lab}: vpclab gc")
    lab_id, started_for = behind
    if lab_id.rpartition("-")[0] != lab or started_for != folder_id(folder):
        raise elsewhere
    (kind, said), _ = channel.receive()
    if kind == "refused":
        raise LabError(f"lab {lab}: {said}")
    if said.lab_id != lab_id:
        raise elsewhere
    handover: Handover = said
    return handover


def _lab_behind(line: socket.socket, spawner: Process) -> tuple[str, str | None] | None:
    """The id of the lab whose spawner is at the other end, and for which state folder that was started.

    None when it is anybody else.
    """
    lab_id, started_for = processes.lab_of(spawner.pid), processes.folder_of(spawner.pid)
    is_it = (
        peer_uid(line) == os.geteuid()
        and peer_pid(line) == spawner.pid
        and processes.is_beside_us(spawner.pid)
        and processes.is_spawner(spawner.pid)
        and spawner.is_alive()  # last: all of this was about that process, and no later one of that number
    )
    return (lab_id, started_for) if is_it and lab_id is not None else None
