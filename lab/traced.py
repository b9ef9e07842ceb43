"""The frames of a lab, moved one at a time, and what becomes of each.

This stands in for the worker while somebody needs to know what became of a certain packet, and by which rule. The same
engine decides, with the same sessions; it only tells every step. Python moves the frames meanwhile, some ten thousand a
second, so it is for moments, not for load.
"""

from __future__ import annotations

import contextlib
import os
import select
from collections.abc import Callable, Mapping, Sequence

from dataplane.engine import DataPlane, Emission, Outcome
from lab.tap import VNET_HEADER_BYTES

ROUND = 32
"""Frames of one port before the next one's turn."""
_FRAME_BYTES = VNET_HEADER_BYTES + 14 + 65536 + 2
_OLDEST_MS = 100
"""How long time may pass unnoticed when nothing comes."""

Told = Callable[[int, bytes, Outcome, Sequence[Emission]], None]
"""Called with port, frame, what became of it, and what left because of it."""
Lost = Callable[[int, bytes], bool]
"""Called with port and frame."""


class TracedPorts:
    """Moves frames between ports and the engine while the worker stands still. One thread.

    Args:
        data_plane: decides.
        now_ms: lab time.
        descriptors: of each port; they stay the caller's.
    """

    def __init__(self, data_plane: DataPlane, now_ms: Callable[[], int], descriptors: Mapping[int, int]) -> None:
        self._data_plane = data_plane
        self._now_ms = now_ms
        self._descriptors = descriptors
        self._ports = {descriptor: port for port, descriptor in descriptors.items()}
        self._ready = select.epoll()
        for descriptor in self._ports:
            self._ready.register(descriptor, select.EPOLLIN)

    def close(self) -> None:
        """Let go of the ports."""
        self._ready.close()

    def move(self, timeout_s: float, told: Told, lost: Lost | None = None) -> bool:
        """Move what is there, or what comes first within `timeout_s` seconds; whether anything came.

        Frames of which `lost` says so get lost on their first wire, and nobody is told.
        """
        events = self._ready.poll(min(timeout_s, _OLDEST_MS / 1000))
        for descriptor, _ in events:
            port, frames = self._ports[descriptor], self._read(descriptor)
            if lost is not None:
                frames = [each for each in frames if not lost(port, each[VNET_HEADER_BYTES:])]
            if frames:
                self._process(port, frames, told)
        if not events:
            self._data_plane.advance(self._now_ms())
        return bool(events)

    def _read(self, descriptor: int) -> list[bytes]:
        frames: list[bytes] = []
        for _ in range(ROUND):
            try:
                frame = os.read(descriptor, _FRAME_BYTES)
            except BlockingIOError:
                break
            except OSError:
                frame = b""
            if not frame:  # the device is gone
                self._ready.unregister(descriptor)
                break
            if len(frame) >= VNET_HEADER_BYTES:
                frames.append(frame)
        return frames

    def _process(self, port: int, frames: Sequence[bytes], told: Told) -> None:
        offloads = [frame[:VNET_HEADER_BYTES] for frame in frames]
        bare = [frame[VNET_HEADER_BYTES:] for frame in frames]
        outcomes, left = self._data_plane.process(bare, [port] * len(bare), self._now_ms(), offloads, traced=True)
        self._write(left)
        for index, (frame, outcome) in enumerate(zip(bare, outcomes, strict=True)):
            told(port, frame, outcome, [each for each in left if each.parent == index])

    def _write(self, left: Sequence[Emission]) -> None:
        for each in left:
            descriptor = self._descriptors.get(each.port)
            if descriptor is not None:
                with contextlib.suppress(OSError):  # its queue is full or it is down: lost, as on any wire
                    os.writev(descriptor, (each.offload, each.frame))
