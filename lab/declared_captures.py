"""Captures that a lab file declares: each has a thread that writes its file, from the start of the lab to its end."""

from __future__ import annotations

import logging
import os
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from dataplane.engine import DataPlane
from dataplane.errors import LabError
from dataplane.model.capture import Capture as Declared
from lab.capture import Capture

_PATIENCE_S = 5.0
"""For how long the end of a lab waits for what was recorded to be written."""
log = logging.getLogger(__name__)


@dataclass(slots=True)
class _Writer:
    declared: Declared
    file: Path
    capture: Capture
    stream: BinaryIO
    ending: threading.Event
    thread: threading.Thread


class DeclaredCaptures:
    """All of one lab. Not for several threads at once."""

    def __init__(self, data_plane: DataPlane) -> None:
        self._data_plane = data_plane
        self._writers: dict[str, _Writer] = {}

    def configure(self, wanted: Mapping[str, Declared], folder: Path) -> None:
        """Begin those that are new or changed, end those that are gone or changed; files are in or below `folder`.

        A change is also when the folder is another one.

        Raises:
            RequestError: libpcap refuses a filter; nothing has changed.
            LabError: a file cannot be written, or there is no libpcap; nothing has changed.
            LimitError: too many captures; nothing has changed.
        """
        with self.changing(wanted, folder):
            pass

    @contextmanager
    def changing(self, wanted: Mapping[str, Declared], folder: Path) -> Iterator[None]:
        """As `configure`, but what is there ends with the block, and nothing has changed when that raises."""
        files = {name: Path(os.path.realpath(folder), declared.file) for name, declared in wanted.items()}
        kept = {
            name
            for name, each in self._writers.items()
            if wanted.get(name) == each.declared and files[name] == each.file
        }
        begun: dict[str, Capture] = {}
        try:
            for name, declared in wanted.items():
                if name not in kept:
                    begun[name] = Capture(self._data_plane, declared.points, declared.filter)
                    _check_writable(name, files[name])
            yield
        except BaseException:
            for capture in begun.values():
                capture.close()
            raise
        for name in list(self._writers):
            if name not in kept:
                self._end(name)
        for name, capture in begun.items():
            self._begin(name, wanted[name], capture, files[name])

    def close(self) -> None:
        """End all of them; what was recorded is in the files."""
        for each in self._writers.values():
            each.ending.set()
        for name in list(self._writers):
            self._end(name)

    def _begin(self, name: str, declared: Declared, capture: Capture, file: Path) -> None:
        ending = threading.Event()
        stream = file.open("wb")

        def write(blocks: bytes) -> None:
            stream.write(blocks)
            stream.flush()

        def run() -> None:
            try:
                capture.run(write, ending.wait)
            except OSError as error:
                log.error("capture %s ends: %s: %s", name, declared.file, error.strerror)
            if capture.lost:
                log.warning("capture %s: %d packets were not recorded: the file did not keep up", name, capture.lost)

        thread = threading.Thread(target=run, name=f"capture {name}", daemon=True)
        self._writers[name] = _Writer(declared, file, capture, stream, ending, thread)
        thread.start()

    def _end(self, name: str) -> None:
        writer = self._writers.pop(name)
        writer.ending.set()
        writer.thread.join(_PATIENCE_S)
        if writer.thread.is_alive():
            log.warning("capture %s: %s is not whole", name, writer.declared.file)
            return
        with suppress(OSError):  # a full disk: what is missing is in the log already
            writer.stream.close()


def _check_writable(name: str, file: Path) -> None:
    """Raise LabError when a file cannot be written. Nothing of it is lost yet."""
    try:
        with file.open("ab"):
            pass
    except OSError as error:
        raise LabError(f"capture {name}: {file}: {error.strerror}") from error
