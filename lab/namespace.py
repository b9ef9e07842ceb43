"""Namespaces of nodes: make them, hold them open, work inside one and come back."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from dataclasses import dataclass

from lab.syscalls import CLONE_NEWNET, CLONE_NEWNS, CLONE_NEWUTS, setns, unshare


@dataclass(frozen=True, slots=True)
class Namespaces:
    """Descriptors of a node's namespaces; they live at least as long as these are open."""

    mount: int
    network: int
    uts: int

    def join(self) -> None:
        """Move this process (one thread) in."""
        setns(self.mount, CLONE_NEWNS)
        setns(self.network, CLONE_NEWNET)
        setns(self.uts, CLONE_NEWUTS)

    def close(self) -> None:
        """Let go of them."""
        for descriptor in (self.mount, self.network, self.uts):
            os.close(descriptor)


class Workplace:
    """The namespaces a single-threaded process has now, to come back to after work in others.

    It keeps a descriptor of its own /proc: in a node, /proc shows a PID namespace that this process is not in.
    """

    def __init__(self) -> None:
        self._proc = os.open("/proc", os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
        self._home = self._current()

    @contextlib.contextmanager
    def inside(self, namespaces: Namespaces) -> Iterator[None]:
        """Be in these namespaces for the length of a ``with`` block."""
        try:
            namespaces.join()
            yield
        finally:
            self._home.join()

    @contextlib.contextmanager
    def fresh(self, base_mount: int, network: int | None = None) -> Iterator[Namespaces]:
        """Be in new namespaces, with a copy of the mounts of `base_mount`, for the length of a ``with`` block.

        The network namespace is the one behind the descriptor `network` instead, if that is given. They are closed when
        the block raises; otherwise they are the caller's.
        """
        made: Namespaces | None = None
        try:
            setns(base_mount, CLONE_NEWNS)
            unshare((CLONE_NEWNET if network is None else 0) | CLONE_NEWUTS | CLONE_NEWNS)
            if network is not None:
                setns(network, CLONE_NEWNET)
            made = self._current()
            yield made
        except BaseException:
            if made is not None:
                made.close()
            raise
        finally:
            self._home.join()

    def read(self, path: str) -> str:
        """Read a file of this process's own /proc, such as ``self/net/tcp``, wherever the process is now."""
        with open(os.open(path, os.O_RDONLY | os.O_CLOEXEC, dir_fd=self._proc)) as file:
            return file.read()

    def _current(self) -> Namespaces:
        opened: list[int] = []
        try:
            for kind in _KINDS:
                opened.append(os.open(f"self/ns/{kind}", os.O_RDONLY | os.O_CLOEXEC, dir_fd=self._proc))
        except BaseException:
            for descriptor in opened:
                os.close(descriptor)
            raise
        return Namespaces(*opened)


_KINDS = ("mnt", "net", "uts")
