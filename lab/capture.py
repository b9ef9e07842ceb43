"""Capturing packets as pcapng, while they come.

    web eth0 ── packet socket in web's network namespace ── ring (`lab.packet_ring`) ── pcapng stream

Each block of a ring is written and flushed at once, so that ``| wireshark -k -i -`` is live. Most captures are of one
interface; what is written of which frame of which interface is up to whoever makes a `Capture`.
"""

from __future__ import annotations

import contextlib
import os
import select
import socket
import time
from collections.abc import Callable, Sequence
from typing import BinaryIO, Self

from lab import pcapng
from lab.enter import NodeView, open_socket
from lab.packet_ring import BLOCK_TIME_MS, Frame, PacketRing

Writer = Callable[[int, Frame], bytes]
"""Makes pcapng blocks of a frame, given the position of its ring; empty for one that is not wanted."""


class Capture:
    """A running capture: frames are collected from the moment its rings were made."""

    def __init__(self, rings: Sequence[PacketRing], head: bytes, writer: Writer, *, lab: int = -1) -> None:
        """Take rings over; `head` are the blocks that the file begins with.

        `lab`, if given, is a descriptor that polls readable once the lab is over; it is taken over too.
        """
        self._rings, self._lab = list(rings), lab
        self._head, self._writer = head, writer
        self._live = {ring.fileno() for ring in rings}
        self._wake = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)
        self._start_ns = time.time_ns()

    def run(self, stream: BinaryIO, *, count: int = 0, seconds: float = 0.0) -> int:
        """Write a whole pcapng file to `stream`, flushed after each batch; returns the number of frames in it.

        Ends after `count` frames or `seconds` seconds (0: no limit), on `stop`, on KeyboardInterrupt, when all its
        interfaces or the lab go down, or when nobody reads the stream any more.
        """
        written = 0
        deadline = time.monotonic() + seconds if seconds else None
        with contextlib.suppress(BrokenPipeError):
            # Who sees the file begin may interrupt from then on: no moment between the head and the first wait.
            with contextlib.suppress(KeyboardInterrupt):
                stream.write(self._head)
                stream.flush()
                while self._wait(deadline):
                    written += self._write(stream, count - written if count else 0)
                    if count and written >= count:
                        break
            if not count:
                # What came before the end may still lie in blocks that the kernel has not handed over.
                end = time.monotonic() + 3 * BLOCK_TIME_MS / 1000
                while time.monotonic() < end:
                    self._wait(end, last=True)
                    written += self._write(stream, 0)
                written += self._write(stream, 0)  # whatever we did with that time: the kernel had it
            counts = [ring.statistics() for ring in self._rings]
            seen, dropped = (sum(each) for each in zip(*counts, strict=True))
            stream.write(
                pcapng.statistics(
                    start_ns=self._start_ns, end_ns=time.time_ns(), received=seen - dropped, dropped=dropped
                )
            )
            stream.flush()
        return written

    def stop(self) -> None:
        """Make `run` come to its end, from another thread or a signal handler."""
        os.eventfd_write(self._wake, 1)

    def close(self) -> None:
        """Give sockets and rings back; `run` must have returned."""
        for ring in self._rings:
            ring.close()
        for descriptor in (self._wake, self._lab):
            if descriptor >= 0:
                os.close(descriptor)
        self._wake = self._lab = -1

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _wait(self, deadline: float | None, *, last: bool = False) -> bool:
        """Wait until there is a block to read (True), or for whatever ends the capture (False)."""
        poll = select.poll()
        for descriptor in self._live:
            poll.register(descriptor, select.POLLIN)
        for descriptor in () if last else (self._wake, self._lab):
            if descriptor >= 0:
                poll.register(descriptor, select.POLLIN)
        left_ms = None if deadline is None else max(0, int((deadline - time.monotonic()) * 1000) + 1)
        found = dict(poll.poll(left_ms))
        ending = {self._wake, self._lab} & found.keys()
        for ring in self._rings:
            if found.get(ring.fileno(), 0) & select.POLLERR:
                ring.clear_error()  # its interface went down
                self._live.discard(ring.fileno())
        return bool(found) and not ending and bool(self._live)

    def _write(self, stream: BinaryIO, most: int) -> int:
        """Write all frames the kernel has handed over (`most`, unless 0), the earliest first; returns how many."""
        found: list[tuple[int, bytes]] = []
        for number, ring in enumerate(self._rings):
            for frame in ring.frames():
                if blocks := self._writer(number, frame):
                    found.append((frame.time_ns, blocks))
        found.sort(key=lambda each: each[0])
        if most:
            del found[most:]
        if found:
            stream.write(b"".join(blocks for _, blocks in found))
            stream.flush()
        return len(found)


def open_capture(view: NodeView, device: str = "eth0") -> Capture:
    """Start to capture an interface of a node. OSError when the node has no such device."""
    head = pcapng.section("vpclab") + pcapng.interface(device, f"{view.node} {device}", capture_length=0)
    lab = os.pidfd_open(view.spawner)
    try:
        ring = PacketRing(open_socket(view, socket.AF_PACKET, socket.SOCK_RAW, 0), device)
    except BaseException:
        os.close(lab)
        raise
    return Capture([ring], head, _whole, lab=lab)


def direction(frame: Frame) -> int:
    """Which way a frame went, as seen from its interface."""
    return pcapng.OUTBOUND if frame.outgoing else pcapng.INBOUND


def _whole(_: int, frame: Frame) -> bytes:
    return pcapng.packet(frame.data, time_ns=frame.time_ns, length=frame.length, direction=direction(frame))
