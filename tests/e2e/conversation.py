"""Conversations between nodes of a lab, through their real kernels: held open, one after another, or one question."""

from __future__ import annotations

import fcntl
import socket
import sys
import termios
import time
from collections.abc import Iterator
from contextlib import contextmanager
from ipaddress import ip_address
from typing import Any

from vpclab import Lab

WAIT_S = 20.0
"""How long an answer that must come may take on a busy machine."""
SILENCE_S = 0.7
"""How long to wait for an answer that must not come."""


class Conversation:
    """A TCP connection from a client to a listener in another node, kept open."""

    def __init__(
        self, lab: Lab, server: str, address: str, port: int, *, client: str = "client", own_port: int = 0
    ) -> None:
        self.listener = listen(lab, server, port)
        try:
            self.near = _connected(lab, client, address, port, own_port)
            self.far, peer = self.listener.accept()
        except BaseException:
            self.listener.close()
            raise
        self.seen_as, self.seen_port = str(peer[0]).removeprefix("::ffff:"), int(peer[1])
        self.far.settimeout(WAIT_S)
        self.near.settimeout(WAIT_S)

    def __enter__(self) -> Conversation:
        return self

    def __exit__(self, *_: object) -> None:
        for each in (self.near, self.far, self.listener):
            each.close()

    @property
    def port(self) -> int:
        """The client's own port."""
        return int(self.near.getsockname()[1])

    def works(self) -> bool:
        """Whether words pass both ways."""
        try:
            self.near.sendall(b"to")
            there = self.far.recv(2)
            self.far.sendall(b"back")
            return (there, self.near.recv(4)) == (b"to", b"back")
        except TimeoutError:
            return False

    def settle(self) -> None:
        """Wait until both kernels have had everything acknowledged, so that neither sends by itself."""
        deadline = time.monotonic() + WAIT_S
        for line in (self.near, self.far):
            while _unacknowledged(line):
                assert time.monotonic() < deadline, "not acknowledged"

    def is_cut(self) -> bool:
        """Whether words from the client do not arrive any more; nothing is said on this line afterwards."""
        self.near.sendall(b"to")
        self.far.settimeout(SILENCE_S)
        try:
            self.far.recv(2)
        except TimeoutError:
            for each in (self.near, self.far):  # no FIN that would be sent again and again
                each.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
            return True
        return False


def _connected(lab: Lab, client: str, address: str, port: int, own_port: int) -> socket.socket:
    if not own_port:
        return lab[client].connect(address, port, timeout_s=WAIT_S)
    line = lab[client].socket()
    line.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    line.bind(("", own_port))
    line.settimeout(WAIT_S)
    line.connect((address, port))
    return line


def _unacknowledged(line: socket.socket) -> int:
    """Bytes sent that the other end has not acknowledged (tcp(7), SIOCOUTQ)."""
    return int.from_bytes(fcntl.ioctl(line, termios.TIOCOUTQ, bytes(4)), sys.byteorder)


def listen(lab: Lab, server: str, port: int) -> socket.socket:
    """A TCP socket of a node that listens at all its addresses; of both families, if the node has both."""
    listener = lab[server].socket(family_of(lab, server))
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    listener.bind(("", port))
    listener.listen()
    listener.settimeout(WAIT_S)
    return listener


def peer_seen(lab: Lab, client: str, server: str, address: str, port: int = 8888) -> tuple[str, int, int]:
    """Connect to a listener in a node: the client's address and port as the server sees them, and the client's own."""
    with Conversation(lab, server, address, port, client=client) as line:
        return line.seen_as, line.seen_port, line.port


def connects(lab: Lab, client: str, address: str, port: int) -> bool:
    """Whether a TCP connection is made; a refusal is an error of the test."""
    try:
        lab[client].connect(address, port, timeout_s=WAIT_S).close()
    except TimeoutError:
        return False
    return True


def is_silent(lab: Lab, client: str, address: str, port: int) -> bool:
    """Whether nobody answers an attempt to connect over TCP; a refusal is an error of the test."""
    try:
        lab[client].connect(address, port, timeout_s=SILENCE_S).close()
    except TimeoutError:
        return True
    return False


def family_of(lab: Lab, server: str) -> socket.AddressFamily:
    """AF_INET6, whose sockets serve IPv4 as well, for a node that has IPv6."""
    return socket.AF_INET6 if lab[server].address6 else socket.AF_INET


def is_refused_udp(lab: Lab, client: str, address: str, port: int) -> bool:
    """Whether a kernel on the way says that nobody listens on a UDP port, and the client's own understands it."""
    near = lab[client].socket(
        socket.AF_INET if ip_address(address).version == 4 else socket.AF_INET6, socket.SOCK_DGRAM
    )
    with near:
        near.connect((address, port))
        near.settimeout(WAIT_S)
        near.send(b"question")
        try:
            near.recv(1)
        except ConnectionRefusedError:
            return True
        except TimeoutError:
            pass
        return False


class Datagrams:
    """UDP between a client and a server in another node."""

    def __init__(self, lab: Lab, client: str, server: str, address: str, port: int) -> None:
        family = socket.AF_INET if ip_address(address).version == 4 else socket.AF_INET6
        self.address = (address, port)
        self.near = lab[client].socket(family, socket.SOCK_DGRAM)
        self.far = lab[server].socket(family_of(lab, server), socket.SOCK_DGRAM)
        self.far.bind(("", port))
        self.peer = ("", 0)
        """The client as the server saw it last."""
        self._answer_to: tuple[Any, ...] = ()

    def ask(self, words: bytes = b"question") -> bool:
        """Send to the server; whether it arrives."""
        self.near.sendto(words, self.address)
        peer = _arrives(self.far, words, WAIT_S)
        if peer is not None:
            self.peer = str(peer[0]).removeprefix("::ffff:"), peer[1]
            self._answer_to = peer
        return peer is not None

    def answer(self, words: bytes = b"answer") -> bool:
        """Send to whom the server heard last; whether it arrives."""
        self.far.sendto(words, self._answer_to)
        return _arrives(self.near, words, WAIT_S) is not None

    def answer_is_lost(self) -> bool:
        """Send to whom the server heard last; whether it does not arrive."""
        self.far.sendto(b"lost", self._answer_to)
        return _arrives(self.near, b"lost", SILENCE_S) is None


def _arrives(at: socket.socket, words: bytes, timeout_s: float) -> tuple[Any, ...] | None:
    """From whom these words come within some seconds; other words are an error of the test."""
    at.settimeout(timeout_s)
    try:
        heard, peer = at.recvfrom(65536)
    except TimeoutError:
        return None
    assert heard == words
    return tuple(peer)


@contextmanager
def datagrams(lab: Lab, client: str, server: str, address: str, port: int) -> Iterator[Datagrams]:
    """Datagrams for as long as the block lasts."""
    line = Datagrams(lab, client, server, address, port)
    try:
        yield line
    finally:
        line.near.close()
        line.far.close()
