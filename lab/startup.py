"""Start a lab's daemon and wait until its lab is up: the half that runs in `vpclab up` or in a test.

What the daemon is told goes through its standard input, what it says comes back through a pipe; both are described
here, and `lab.daemon` is the other half. Nothing of the data plane is imported here: the command must start fast.
"""

from __future__ import annotations

import contextlib
import json
import os
import selectors
import subprocess
import sys
import tempfile
import time
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import IO, Any

from dataplane.errors import LabError
from lab import gc
from lab.control import error_from_json

_LAST_WORDS_BYTES = 2000
_ENDING_S = 10.0
"""So long a daemon may take to end."""
_ROOT = Path(__file__).resolve().parent.parent
_DAEMON = "import sys; sys.path.insert(0, sys.argv.pop(1)); from lab.daemon import main; sys.exit(main(sys.argv[1:]))"


@dataclass(frozen=True, slots=True, kw_only=True)
class Start:
    """What a daemon needs to know to start."""

    name: str
    """Name of the lab."""
    text: str
    """The lab file's text."""
    file: str
    """What to call the file in messages and in `status`."""
    strict: bool
    """Whether a program that does not get ready is a failure to start."""
    resume: bool = False
    """Whether to take over what a daemon that was killed has left, as it was; `text` and `file` are empty then."""
    packages: tuple[str, ...] = ()
    """Folders to import from besides our own: absolute paths."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Started:
    """A daemon that is up."""

    pid: int
    process: subprocess.Popen[bytes]
    tie: IO[bytes] | None
    """Closing it ends the lab, if it was started so."""
    problem: str
    """Why a program is not ready; empty when all are."""


def launch(start: Start, *, tied: bool, limit_s: float) -> Started:
    """Start a daemon and wait until its lab is up.

    Args:
        start: the lab.
        tied: end the lab when this process ends, however it ends.
        limit_s: give up, and stop it, after so many seconds.

    Raises:
        ConfigurationError: the lab file is wrong.
        LabError: it could not be started; nothing is left of it. What was to be resumed is as it was.
    """
    ready_reader, ready_writer = os.pipe()
    tie_reader, tie_writer = os.pipe() if tied else (-1, -1)
    passed = [ready_writer, tie_reader] if tied else [ready_writer]
    # It need not look for site-packages (-S), which takes longer than all else before `main`: we have found them.
    command = [sys.executable, "-S", "-P", "-c", _DAEMON, str(_ROOT), start.name, *map(str, passed)]
    start = replace(start, packages=tuple(os.path.abspath(folder) for folder in sys.path if folder))
    with tempfile.TemporaryFile() as early, os.fdopen(ready_reader, "rb") as ready:
        tie = os.fdopen(tie_writer, "wb") if tied else None
        try:
            process = subprocess.Popen(
                command, stdin=subprocess.PIPE, stdout=early, stderr=early, pass_fds=passed, start_new_session=True
            )
        except BaseException:
            if tie is not None:
                tie.close()
            raise
        finally:
            for descriptor in passed:
                os.close(descriptor)
        try:
            assert process.stdin is not None
            with contextlib.suppress(BrokenPipeError), process.stdin as pipe:
                pipe.write(json.dumps(asdict(start)).encode())
            answer = _read_line(ready, limit_s)
            if "error" in answer:
                process.wait()
                raise error_from_json(answer["error"])
            return Started(pid=process.pid, process=process, tie=tie, problem=answer["problem"])
        except _NoAnswer as error:
            early.seek(0)
            last = early.read()[-_LAST_WORDS_BYTES:].decode(errors="replace").strip().rpartition("\n")[2]
            _end(process, tie, ready, start)
            raise LabError(f"lab {start.name} did not start: {error}{': ' + last if last else ''}") from None
        except BaseException:
            _end(process, tie, ready, start)
            raise


class _NoAnswer(Exception):
    """The daemon ended, or took too long, before it said anything."""


def _read_line(ready: IO[bytes], limit_s: float) -> dict[str, Any]:
    deadline = time.monotonic() + limit_s
    line = b""
    with selectors.DefaultSelector() as selector:
        selector.register(ready, selectors.EVENT_READ)
        while not line.endswith(b"\n"):
            if not selector.select(max(0.0, deadline - time.monotonic())):
                raise _NoAnswer(f"not ready within {limit_s:g} s")
            piece = os.read(ready.fileno(), 65536)
            if not piece:
                raise _NoAnswer("its daemon ended")
            line += piece
    answer: dict[str, Any] = json.loads(line)
    return answer


def _end(process: subprocess.Popen[bytes], tie: IO[bytes] | None, ready: IO[bytes], start: Start) -> None:
    if not start.resume:
        _stop(process, tie, start.name)
        return
    # Not by a signal: a lab that is up at this very moment would go down, with all that was to be rescued. The daemon
    # sees that nobody waits for it any more, and leaves everything as it has found it.
    ready.close()
    with contextlib.suppress(subprocess.TimeoutExpired):
        process.wait(timeout=_ENDING_S)


def _stop(process: subprocess.Popen[bytes], tie: IO[bytes] | None, name: str) -> None:
    if tie is not None:
        tie.close()
    process.terminate()
    try:
        process.wait(timeout=_ENDING_S)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
        gc.collect(name)  # nodes would wait for another daemon
