"""Messages with descriptors between a Runtime and its spawner, over a stream socket that only they have.

Each message is a header (length, number of descriptors; the descriptors travel with it) and a pickled value. Both
ends are our own code, started by one another over a socket pair without a name, or known to be so before a message is
read (`lab.handover`), so pickle is safe here; it is chosen because a mapping that many plans share is sent once.
"""

from __future__ import annotations

import array
import errno
import os
import pickle
import socket
import struct
from collections.abc import Sequence
from typing import Any

from lab.socket_path import be_patient, network_of

_HEADER = struct.Struct("=IB")
DESCRIPTOR_LIMIT = 250
"""Descriptors in one message, at most (the kernel takes 253)."""


def receive_descriptors(end: socket.socket, size: int) -> tuple[bytes, list[int]]:
    """Receive `size` bytes and the descriptors that come with them, close-on-exec.

    `socket.recv_fds` takes flags and ignores them, so its descriptors are inherited by every child.
    """
    space = socket.CMSG_SPACE(DESCRIPTOR_LIMIT * 4)
    message, ancillary, _, _ = end.recvmsg(size, space, socket.MSG_CMSG_CLOEXEC | socket.MSG_WAITALL)
    descriptors = array.array("i")
    for level, kind, content in ancillary:
        if (level, kind) == (socket.SOL_SOCKET, socket.SCM_RIGHTS):
            descriptors.frombytes(content[: len(content) - len(content) % descriptors.itemsize])
    return message, list(descriptors)


class ChannelClosed(Exception):
    """The other end is gone."""


class DescriptorsLost(OSError):
    """A message has come without its descriptors, because this process may not have so many; the next can be read."""


class Channel:
    """One end. Not thread-safe."""

    def __init__(self, end: socket.socket) -> None:
        self._socket = end

    def fileno(self) -> int:
        """For poll."""
        return self._socket.fileno()

    @property
    def network(self) -> int:
        """A number of the network namespace that the daemon's end was made in. Raises OSError."""
        return network_of(self._socket)

    def send(self, value: Any, descriptors: Sequence[int] = ()) -> None:
        """Send a value, and copies of these descriptors. Raises ChannelClosed."""
        payload = pickle.dumps(value, pickle.HIGHEST_PROTOCOL)
        try:
            socket.send_fds(self._socket, [_HEADER.pack(len(payload), len(descriptors))], list(descriptors))
            self._socket.sendall(payload)
        except OSError as error:
            raise ChannelClosed from error

    def receive(self) -> tuple[Any, list[int]]:
        """The next value, and the descriptors that came with it (close-on-exec; now ours).

        Raises ChannelClosed and DescriptorsLost; BlockingIOError when nothing comes for longer than this end waits.
        """
        try:
            header, descriptors = receive_descriptors(self._socket, _HEADER.size)
            if len(header) == _HEADER.size:
                length, count = _HEADER.unpack(header)
                payload = bytearray(length)
                rest = memoryview(payload)
                while rest and (received := self._socket.recv_into(rest)):
                    rest = rest[received:]
                if not rest:
                    if len(descriptors) != count:  # the kernel drops what exceeds RLIMIT_NOFILE
                        for descriptor in descriptors:
                            os.close(descriptor)
                        raise DescriptorsLost(errno.EMFILE, os.strerror(errno.EMFILE))
                    return pickle.loads(payload), descriptors
        except ConnectionError as error:
            raise ChannelClosed from error
        raise ChannelClosed

    def be_patient(self) -> None:
        """Wait for ever, whatever limit the socket came with."""
        be_patient(self._socket, 0)

    def close(self) -> None:
        """Hang up."""
        self._socket.close()
