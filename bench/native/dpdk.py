"""The DPDK peers as Python objects; see peers.c. All of them answer with the number that was put in, 0 for none."""

from __future__ import annotations

import ctypes
import os
from array import array
from collections.abc import Callable
from functools import cache
from typing import ClassVar

from bench.measure import CannotRunError
from bench.native import build

MEGABYTES = 6144
"""That DPDK may take at most; what it does not touch costs nothing."""

_POINTER, _U32, _U64 = ctypes.c_void_p, ctypes.c_uint32, ctypes.c_uint64


@cache
def library() -> ctypes.CDLL:
    """The library, started. Raises MissingError when it cannot be built, CannotRunError when it does not start."""
    peers = build.open_library(build.dpdk())
    for kind in ("fib", "lpm", "fib6", "lpm6", "acl", "flows"):
        getattr(peers, f"{kind}_new").restype = _POINTER
        getattr(peers, f"{kind}_run").restype = _U64
        getattr(peers, f"{kind}_free").argtypes = [_POINTER]
    peers.flows_add.restype = _U32
    peers.peers_memory.restype = _U64
    width = peers.peers_start(str(MEGABYTES).encode())
    if width < 0:
        raise CannotRunError(f"DPDK does not start ({os.strerror(-width)})")
    return peers


def address(values: array[int] | None) -> ctypes.c_void_p:
    """Where the numbers of an array are; the array must live as long as that is used."""
    return ctypes.c_void_p(values.buffer_info()[0] if values is not None else None)


class Table:
    """One table of a peer. `is_vector`: its AVX-512 lookup is in use."""

    kind: ClassVar[str]
    has_vector: ClassVar[bool] = False
    missed: ClassVar[bool] = False
    """Whether a run is told what to answer for keys that match nothing."""

    def __init__(self, *arguments: object, default: int = 0) -> None:
        peers = library()
        before = peers.peers_memory()
        vector = ctypes.c_int()
        extra = [ctypes.byref(vector)] if self.has_vector else []
        self._handle = ctypes.c_void_p(getattr(peers, f"{self.kind}_new")(*arguments, *extra))
        if self._handle.value is None:
            raise RuntimeError(f"rte_{self.kind} refuses this table")
        self.is_vector = bool(vector.value)
        self.bytes: int = peers.peers_memory() - before
        self._extra = [_U32(default)] if self.missed else []
        self._run: Callable[..., int] = getattr(peers, f"{self.kind}_run")
        self._free: Callable[..., None] = getattr(peers, f"{self.kind}_free")

    def run(self, keys: array[int], count: int, answers: array[int] | None = None) -> int:
        """Look `count` keys up; the sum of the answers, which go to `answers` if given."""
        return self._run(self._handle, address(keys), _U32(count), *self._extra, address(answers))

    def free(self) -> None:
        self._free(self._handle)


class Fib(Table):
    kind, has_vector = "fib", True


class Lpm(Table):
    kind, missed = "lpm", True


class Fib6(Table):
    kind, has_vector = "fib6", True


class Lpm6(Table):
    kind, missed = "lpm6", True


class Acl(Table):
    kind, has_vector = "acl", True


class Flows(Table):
    """rte_hash with CRC32, and a record of 64 bytes for each key."""

    kind = "flows"

    def add(self, keys: array[int], count: int) -> int:
        added: int = library().flows_add(self._handle, address(keys), _U32(count))
        return added

    def clear(self) -> None:
        library().flows_clear(self._handle)
