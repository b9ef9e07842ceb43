"""Unix sockets in state folders: who is at the other end, how long it is waited for, and reaching one whose path is too
long for the kernel.

A path may have 107 bytes, and state folders are deeper.
"""

from __future__ import annotations

import contextlib
import os
import socket
import struct
import sys
from collections.abc import Iterator
from pathlib import Path

_SO_NETNS_COOKIE = 71
"""Linux 5.14, `asm-generic/socket.h`."""


@contextlib.contextmanager
def reachable(folder: Path | str, name: str) -> Iterator[str]:
    """A short path of a file in a folder, good for the length of a ``with`` block. OSError when there is no folder."""
    descriptor = os.open(folder, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        yield f"/proc/self/fd/{descriptor}/{name}"
    finally:
        os.close(descriptor)


def network_of(end: socket.socket) -> int:
    """A number of the network namespace that an end of a unix socket was made in; of an accepted one, the client's."""
    return int.from_bytes(end.getsockopt(socket.SOL_SOCKET, _SO_NETNS_COOKIE, 8), sys.byteorder)


def peer_uid(end: socket.socket) -> int:
    """The user at the other end, as the kernel says."""
    return _credentials(end)[1]


def peer_pid(end: socket.socket) -> int:
    """The process at the other end: who connected, or who began to listen. 0: one outside of our PID namespace."""
    return _credentials(end)[0]


def be_patient(end: socket.socket, seconds: float) -> None:
    """Let words to and from the other end take so long; 0: for ever.

    Not by `settimeout`, which makes the socket one that never waits, and parts of a message would be taken for all.
    """
    limit = struct.pack("ll", int(seconds), int(seconds % 1 * 1_000_000))
    for which in (socket.SO_RCVTIMEO, socket.SO_SNDTIMEO):
        end.setsockopt(socket.SOL_SOCKET, which, limit)


def _credentials(end: socket.socket) -> tuple[int, int, int]:
    credentials = end.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, struct.calcsize("3i"))
    pid, uid, gid = struct.unpack("3i", credentials)
    return pid, uid, gid
