"""The daemon of one lab: it owns the data plane, the worker and the runtime, and serves the control socket.

Started by `lab.startup.launch` in an interpreter and a session of its own. It reads what to run
from its standard input (one JSON object, see `lab.startup.Start`), says on an inherited pipe that the lab is up, or
why not, and runs until SIGTERM, the verb ``down``, the end of its spawner, or, when it was started to belong to
another process, the end of that process (seen as the end of a pipe, so that not even ``kill -9`` of a test run
leaves a lab). When nobody waits for it to be up any more, as after a ``kill -9`` of `vpclab up`, it ends as well.

    main thread      waits for one of these ends
    control threads  one per client, run the verbs (`lab.verbs`)
    worker thread    native, never touches Python
"""

from __future__ import annotations

import contextlib
import importlib
import json
import logging
import os
import selectors
import signal
import sys
import threading
from collections.abc import Mapping
from typing import IO, TYPE_CHECKING, Any

from dataplane.errors import LabError, VpclabError
from lab.control import ControlServer, error_to_json
from lab.journal import Journal, read_journal
from lab.runtime import Runtime
from lab.scarcity import is_scarce, said
from lab.startup import Start
from lab.state import LabState, open_end

if TYPE_CHECKING:
    from lab.running import RunningLab

LOG_NAME = "daemon.log"
_SPAWNER = "the process that keeps its nodes ended, or does not answer"
_UNHEARD = "the command that started it ended before it was up"
log = logging.getLogger(__name__)


def run(start: Start, ready: IO[bytes], tie: int | None) -> int:
    """Run one lab to its end; the exit status of the daemon. Says on `ready` that it is up, or why not."""
    try:
        with _EndSignals() as signals:
            _run(start, ready, tie, signals)
    except VpclabError as error:
        log.error("%s", error)
        _say(ready, {"error": error_to_json(error)})
        return error.exit_code
    return 0


def _run(start: Start, ready: IO[bytes], tie: int | None, signals: _EndSignals) -> None:
    state = LabState(start.name)
    state.acquire()
    stays = start.resume  # until somebody knows that it is up, whatever fails: it can be tried again

    def remove() -> None:
        if not stays:
            state.remove()

    try:
        if start.resume:
            # Not the one that was killed: who wants to stop this one, or is told that it is running, must know its pid.
            state.write_daemon(name=start.name)
        _log_to(state)
        before, problem = _before(state) if start.resume else (None, "")
        runtime = Runtime(state, resume=start.resume)
        # Only now, while its spawner gets ready: importing what a lab needs is a third of the time that it takes to
        # start. The verbs have time until its nodes are made.
        from lab.running import RunningLab

        threading.Thread(target=importlib.import_module, args=("lab.verbs",), daemon=True).start()
        text, file = (before.text, before.file) if before else (start.text, start.file)
        with RunningLab(state, text, file, runtime, before=before) as lab:
            from lab.verbs import Verbs

            if before is not None:
                lab.restart_checkers()
            if problem:
                lab.survival.lose(problem)
            state.write_daemon(name=start.name, file=file, lab_id=lab.runtime.lab_id)
            server = ControlServer(state.path, Verbs(lab, signals.end).table())
            try:
                server.start()
                why = _live(lab, start, ready, tie, signals)
                lab.survival.stop_lingering()  # first: half of what has been told to go down must not come back
                log.info("%s: %s", "leaving the nodes to another" if lab.survival.leaves_nodes else "going down", why)
            finally:
                server.close()
                stays = lab.survival.leaves_nodes
        remove()
    except VpclabError:
        remove()
        raise
    except Exception as error:
        if is_scarce(error):
            remove()
            raise LabError(f"the lab cannot be made: {said(error)}") from error
        log.exception("this is a bug of vpclab")  # and the folder stays, with the log in it, until `vpclab gc`
        raise LabError(f"internal error: {type(error).__name__}: {error}; see {state.path / LOG_NAME}") from error
    finally:
        state.release()


def _before(state: LabState) -> tuple[Journal, str]:
    """What the lab was whose daemon was killed; this process stands where that one stood, or why not. Raises LabError.

    Where not, it stands in the state folder.
    """
    found = read_journal(state)
    if found is None:
        raise LabError(f"lab {state.name} was not up when its daemon ended: remove what is left of it: vpclab gc")
    try:
        os.chdir(found.folder)
    except OSError as error:
        os.chdir(state.path)
        return found, f"{found.folder}, where lab {state.name} was started, cannot be entered: {error.strerror}"
    return found, ""


def _live(lab: RunningLab, start: Start, ready: IO[bytes], tie: int | None, signals: _EndSignals) -> str:
    """Start the programs, say that the lab is up, sleep until it has to go down; why."""
    reader, writer = os.pipe()
    problems: list[str] = []

    def settle() -> None:
        # A thread of its own: a lab that waits for a slow program must still hear SIGTERM.
        try:
            problems.append(lab.start_programs())
        except VpclabError as error:
            problems.append(str(error))
        finally:
            os.close(writer)

    with os.fdopen(reader, "rb") as settled, selectors.DefaultSelector() as selector:
        selector.register(settled, selectors.EVENT_READ)
        selector.register(signals.reader, selectors.EVENT_READ)
        selector.register(lab.runtime.fileno(), selectors.EVENT_READ, _SPAWNER)
        if tie is not None:
            selector.register(tie, selectors.EVENT_READ, "the process it belonged to ended")
        # Nothing ever comes this way: it is ready when the other end is closed (POLLERR, poll(2)).
        selector.register(ready, selectors.EVENT_READ, _UNHEARD)
        threading.Thread(target=settle, name="programs", daemon=True).start()
        while True:
            for key, _ in selector.select():
                if key.fileobj is not settled:
                    if key.data == _SPAWNER and lab.has_spawner():
                        continue  # that was an answer to another thread
                    why = key.data or signals.why
                    what = "was not brought back" if lab.survival.leaves_nodes else "went down at once"
                    _say(ready, {"error": error_to_json(LabError(f"lab {start.name} {what}: {why}"))})
                    return str(why)
                selector.unregister(settled)
                selector.unregister(ready)
                problem = problems[0] if problems else "internal error, see daemon.log"
                if problem and start.strict:
                    raise LabError(problem)
                if tie is None:
                    lab.survival.linger()
                if not _say(ready, {"problem": problem}):
                    return _UNHEARD
                lab.own_nodes()
                log.info("lab %s is up", start.name)


class _EndSignals:
    """Turns SIGTERM, SIGINT and SIGHUP, and calls of `end`, into a descriptor to wait on."""

    def __init__(self) -> None:
        self.reader, self._writer = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        self._why = ""

    def __enter__(self) -> _EndSignals:
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
            signal.signal(number, lambda which, frame: self.end(signal.Signals(which).name))
        return self

    def __exit__(self, *exception: object) -> None:
        # From here to the end of the process a second signal must not cut the clean-up short.
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
            signal.signal(number, signal.SIG_IGN)

    def end(self, why: str) -> None:
        """Ask for the end, from a signal or from any thread."""
        self._why = self._why or why
        with contextlib.suppress(BlockingIOError):
            os.write(self._writer, b"x")

    @property
    def why(self) -> str:
        """Who asked first."""
        return self._why


def _log_to(state: LabState) -> None:
    """Send the log, and whatever is printed, to the lab's own file."""
    try:
        descriptor = open_end(state.path / LOG_NAME)
    except IsADirectoryError:
        state.clear(LOG_NAME)
        descriptor = open_end(state.path / LOG_NAME)
    os.dup2(descriptor, 1)
    os.dup2(descriptor, 2)
    os.close(descriptor)
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s: %(message)s", force=True)


def _say(ready: IO[bytes], answer: Mapping[str, Any]) -> bool:
    """Say it, if nothing has been said yet; whether anybody waits for it."""
    try:
        ready.write(json.dumps(answer).encode() + b"\n")
        ready.close()
    except (OSError, ValueError):
        return False
    return True


def main(arguments: list[str]) -> int:
    """What `lab.startup.launch` runs, with NAME READY_FD [TIE_FD] and a `Start` as JSON on standard input."""
    start = Start(**json.load(sys.stdin))
    sys.path += [folder for folder in start.packages if folder not in sys.path]
    nothing = os.open(os.devnull, os.O_RDWR)
    os.dup2(nothing, 0)
    os.close(nothing)
    ready_fd, *tie_fd = (int(number) for number in arguments[1:])
    for descriptor in (ready_fd, *tie_fd):
        os.set_inheritable(descriptor, False)
    with os.fdopen(ready_fd, "wb") as ready:
        return run(start, ready, tie_fd[0] if tie_fd else None)
