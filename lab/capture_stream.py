"""The client's end of captures: a pcapng file that comes from the lab's daemon, passed on and counted, or traces."""

from __future__ import annotations

import contextlib
import json
import signal
import threading
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple, Self

from dataplane.errors import LabError
from dataplane.trace import Trace
from lab import pcapng
from lab.control import ControlClient

_CHUNK_BYTES = 1 << 18


class _Stream:
    """What a lab sends until it is asked to stop, from the moment this is made."""

    def __init__(self, folder: Path, verb: str, **arguments: Any) -> None:
        self._client = ControlClient(folder)
        try:
            self._answer, self._stream = self._client.stream(verb, **arguments)
        except BaseException:
            self._client.close()
            raise

    def stop(self) -> None:
        """Let it come to its end, from another thread or a signal handler."""
        self._client.stop()

    def close(self) -> None:
        """Hang up; nobody may read it any more."""
        self._client.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


class CaptureStream(_Stream):
    """A running capture: packets are recorded from the moment it is made."""

    def __init__(self, folder: Path, points: Sequence[str], filter_text: str = "", *, split: bool = False) -> None:
        """Begin, in the lab with this state folder. Errors are those of `lab.capture.Capture` and `ControlClient`.

        `split`: the points end with the first word that names none, which begins the filter.
        """
        super().__init__(folder, "capture", points=list(points), filter=filter_text, split=split)
        self.sides: list[str] = self._answer["sides"]
        """The interfaces of the file."""
        self.lost = 0
        """Records that the lab had no room for because nobody read them; known when `run` has returned."""
        self._packets = self._ended = 0

    def run(self, stream: BinaryIO, *, count: int = 0, seconds: float = 0.0) -> int:
        """Write a whole pcapng file to `stream`, flushed whenever something has come; returns its number of packets.

        Ends after `count` packets or `seconds` seconds (0: no limit), on `stop`, on Ctrl-C, when the lab goes down, or
        when nobody reads the stream any more.

        Raises LabError when the file's end did not come: the lab has died. What came before is written.
        """
        timer = threading.Timer(seconds, self.stop) if seconds else None
        with contextlib.suppress(BrokenPipeError), interrupt_ends(self.stop):
            if timer is not None:
                timer.start()
            try:
                for blocks in self._blocks(count):
                    stream.write(blocks)
                    stream.flush()
            finally:
                if timer is not None:
                    timer.cancel()
            if self._ended < len(self.sides):
                raise LabError(f"the capture ended early, after {self._packets} packets: more may have been recorded")
        return self._packets

    def _blocks(self, count: int) -> Iterator[bytes]:
        """Whole blocks as they come, packets after the `count`th left out."""
        rest = b""
        while chunk := self._next():
            rest += chunk
            kept: list[bytes] = []
            at = 0
            for kind, block in pcapng.whole_blocks(rest):
                at += len(block)
                if kind == pcapng.STATISTICS:
                    self._ended += 1
                    self.lost += pcapng.dropped_of(block)
                elif kind == pcapng.PACKET:
                    if count and self._packets == count:
                        continue
                    self._packets += 1
                    if self._packets == count:
                        self.stop()
                kept.append(block)
            rest = rest[at:]
            yield b"".join(kept)

    def _next(self) -> bytes:
        try:
            chunk: bytes = self._stream.read1(_CHUNK_BYTES)  # type: ignore[attr-defined]
        except ConnectionError:
            return b""
        return chunk


class Followed(NamedTuple):
    """A packet that was followed."""

    time_ns: int
    """Since 1970."""
    trace: Trace
    """One direction: `reply` is None."""
    lost: int
    """Packets before this one that were not followed, because nobody kept up."""


class StoryStream(_Stream):
    """What real packets go through, from the moment it is made."""

    def __init__(self, folder: Path, filter_text: str = "") -> None:
        self.lost = 0
        """Packets that were not followed because nobody kept up, in all; known when the iteration has ended."""
        super().__init__(folder, "follow", filter=filter_text)

    def __iter__(self) -> Iterator[Followed]:
        for line in self._lines():
            told = json.loads(line)
            if "ended" in told:
                self.lost = told["lost"]
                return
            yield Followed(told["time_ns"], Trace.from_json(told["trace"]), told["lost"])
        raise LabError("following ended early: more packets may have passed")

    def _lines(self) -> Iterator[bytes]:
        """Whole ones: who sends them may end in the middle of one."""
        with contextlib.suppress(ConnectionError):
            for line in self._stream:
                if line.endswith(b"\n"):
                    yield line


@contextlib.contextmanager
def interrupt_ends(stop: Callable[[], None]) -> Iterator[None]:
    """Let the first Ctrl-C end what runs inside, in the main thread; a second one is the usual KeyboardInterrupt."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def handle(number: int, frame: Any) -> None:
        signal.signal(signal.SIGINT, before)
        stop()

    before = signal.signal(signal.SIGINT, handle)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)
