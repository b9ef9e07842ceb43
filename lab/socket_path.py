"""Unix sockets in state folders: who is at the other end, and reaching one whose path is too long for the kernel.

A path may have 107 bytes, and state folders are deeper.
"""

from __future__ import annotations

import contextlib
import os
import socket
import struct
from collections.abc import Iterator
from pathlib import Path


@contextlib.contextmanager
def reachable(folder: Path | str, name: str) -> Iterator[str]:
    """A short path of a file in a folder, good for the length of a ``with`` block. OSError when there is no folder."""
    descriptor = os.open(folder, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        yield f"/proc/self/fd/{descriptor}/{name}"
    finally:
        os.close(descriptor)


def peer_uid(client: socket.socket) -> int:
    """The user at the other end, as the kernel says."""
    credentials = client.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, struct.calcsize("3i"))
    return int(struct.unpack("3i", credentials)[1])
