"""How a lab's nodes and programs get from a daemon that was killed to the next one.

The spawner of a lab that lingers has a *door*: a socket in the state folder, where it listens once its daemon is gone.
Who comes (`vpclab up --resume`) is told what there is, and has a `Channel` as if it had started the spawner itself. The
folder lets in nobody but its user, and the kernel says at both ends who is at the other one, so that pickle is as safe
here as over a socket without a name.
"""

from __future__ import annotations

import contextlib
import os
import socket
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lab.channel import Channel
from lab.node_plan import NodePlan
from lab.socket_path import peer_uid, reachable
from lab.state import DOOR

LINGER_S = 600.0
"""So long nodes wait for another daemon."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Handover:
    """What a spawner tells the daemon that takes its lab over."""

    facts: Mapping[str, Any]
    plans: Mapping[str, NodePlan]
    """Of all nodes there are."""
    entries: Mapping[str, dict[str, Any]]
    """How to enter them."""


class Door:
    """Where the next daemon comes in; the spawner's end."""

    def __init__(self, folder: Path) -> None:
        """Make the socket in a state folder. Raises OSError."""
        self._folder = folder
        self._listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            with reachable(folder, DOOR) as address:
                with contextlib.suppress(FileNotFoundError):
                    os.unlink(address)
                self._listener.bind(address)  # the folder lets nobody else in
            self._listener.listen(1)
            self._listener.setblocking(False)
        except BaseException:
            self._listener.close()
            raise

    def fileno(self) -> int:
        """For poll."""
        return self._listener.fileno()

    def is_there(self) -> bool:
        """Whether anybody can find it: not when the state folder has been removed."""
        return (self._folder / DOOR).exists()

    def open(self) -> Channel | None:
        """Let in who has come; None when that is nobody, or another user."""
        try:
            line, _ = self._listener.accept()
        except OSError:
            return None
        if peer_uid(line) != os.geteuid():
            line.close()
            return None
        line.setblocking(True)
        return Channel(line)

    def close(self) -> None:
        """Take it away."""
        self._listener.close()
        with contextlib.suppress(OSError):
            (self._folder / DOOR).unlink()


def come_in(folder: Path) -> tuple[Channel, Handover]:
    """Take the nodes of the lab whose state folder this is over. Raises OSError and ChannelClosed when none wait."""
    line = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        with reachable(folder, DOOR) as address:
            line.connect(address)
        if peer_uid(line) != os.geteuid():
            raise PermissionError(1, "another user's")
        channel = Channel(line)
        (_, handover), _ = channel.receive()
    except BaseException:
        line.close()
        raise
    return channel, handover
