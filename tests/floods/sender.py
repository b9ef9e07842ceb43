"""Who floods: a process of its own, as an instance has, that sends the same frames over and over as fast as it can.

It shares nothing with who measures, nor with another sender, but the processors. Run by `Sender`:
``python -m tests.floods.sender SOCKET FRAMES``, both of them descriptors.
"""

from __future__ import annotations

import ctypes
import errno
import mmap
import os
import signal
import socket
import struct
import subprocess
import sys
from array import array
from collections.abc import Iterable, Sequence
from itertools import accumulate
from typing import TYPE_CHECKING, Self

if TYPE_CHECKING:
    from vpclab import Lab  # what sends has no use for it

BATCH = 64
"""Frames that the kernel is given in one call."""
COUNTS = struct.Struct("=QQQQ")
"""At the start of what both share: whether to end, frames sent so far, the error that ended it; how many there are."""
ENDED, SENT, FAILED = range(3)
PR_SET_PDEATHSIG = 1
_LIBC = ctypes.CDLL(None, use_errno=True)


class Sender:
    """Sends frames from a node, over and over, as fast as the network takes them, while the ``with`` block lasts."""

    def __init__(self, lab: Lab, node: str, frames: Iterable[bytes]) -> None:
        frames = list(frames)
        self._line = lab[node].socket(socket.AF_PACKET, socket.SOCK_RAW, 0)
        # More than the queue of the device takes: frames are lost there, not only delayed.
        self._line.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4 << 20)
        self._line.bind(("eth0", 0))
        self._file = os.memfd_create("frames")
        sizes = array("Q", map(len, frames)).tobytes()
        os.write(self._file, b"".join((COUNTS.pack(0, 0, 0, len(frames)), sizes, *frames)))
        self._shared = mmap.mmap(self._file, COUNTS.size)
        self._words = memoryview(self._shared).cast("Q")
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def sent(self) -> int:
        """Frames that the kernel of the node was given, so far."""
        return self._words[SENT]

    def __enter__(self) -> Self:
        given = (self._line.fileno(), self._file)
        command = [sys.executable, "-P", "-m", "tests.floods.sender", *map(str, given)]
        environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
        self._process = subprocess.Popen(command, pass_fds=given, stdout=subprocess.PIPE, env=environment)
        assert self._process.stdout is not None
        assert self._process.stdout.readline() == b"ready\n"
        return self

    def __exit__(self, *_: object) -> None:
        assert self._process is not None
        self._words[ENDED] = 1
        code, failed = self._process.wait(), self._words[FAILED]
        assert self._process.stdout is not None
        self._process.stdout.close()
        self._line.close()
        os.close(self._file)
        if failed:
            raise OSError(failed, "sendmmsg")
        assert code == 0, f"a sender ended with {code}"


def _messages(base: int, sizes: Sequence[int]) -> tuple[array[int], array[int]]:
    """struct mmsghdr of sendmmsg(2) for frames that lie behind each other, and what these point to (struct iovec)."""
    places = accumulate(sizes, initial=base)
    parts = array("Q", (word for part in zip(places, sizes, strict=False) for word in part))
    at = parts.buffer_info()[0]
    one = 2 * parts.itemsize
    #                 name, its length, parts, their number, control, its length, flags, sent
    headers = array("Q", (word for number in range(len(sizes)) for word in (0, 0, at + one * number, 1, 0, 0, 0, 0)))
    return headers, parts


def _send(line: int, file: int) -> int:
    """Until whoever started this wants it to end, or has ended."""
    _LIBC.prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    shared = mmap.mmap(file, 0)
    words = memoryview(shared)[: COUNTS.size].cast("Q")
    *_, count = COUNTS.unpack_from(shared)
    first = COUNTS.size + 8 * count
    sizes = memoryview(shared)[COUNTS.size : first].cast("Q").tolist()
    headers, _parts = _messages(ctypes.addressof(ctypes.c_char.from_buffer(shared, first)), sizes)
    base, size = headers.buffer_info()[0], 8 * headers.itemsize
    at = sent = 0
    sys.stdout.write("ready\n")
    sys.stdout.flush()
    while not words[ENDED]:
        done = _LIBC.sendmmsg(line, ctypes.c_void_p(base + at * size), min(BATCH, count - at), 0)
        if done < 0:
            if ctypes.get_errno() != errno.ENOBUFS:
                words[FAILED] = ctypes.get_errno()
                return 1
            done = 1  # the frame was lost in the queue of the device, and is counted
        sent += done
        words[SENT] = sent
        at = (at + done) % count
    return 0


if __name__ == "__main__":
    sys.exit(_send(*map(int, sys.argv[1:])))
