"""The daemon's end of health checks: hands jobs to the checkers, and takes down what they find.

    load balancer node's namespace                    daemon
      lab.health_checker ── unix socket: jobs, results ── HealthWatch ── HealthBook ── `changed` is called

One thread speaks with all checkers. A checker that comes back after it died says who it is and gets its jobs again; one
that says what none would say is hung up on.
"""

from __future__ import annotations

import contextlib
import json
import logging
import os
import selectors
import socket
import threading
import time
from collections.abc import Callable, Mapping
from pathlib import Path

from dataplane.errors import LabError
from dataplane.topology import Topology
from dataplane.topology.runtime_state import TargetHealth, TargetKey
from lab.health import HealthBook, Result
from lab.health_checker import SOCKET_NAME
from lab.scarcity import remedy
from lab.socket_path import peer_uid, reachable

TICK_S = 1.0
_LONGEST_LINE = 1 << 16
_FULL_PAUSE_S = 0.1
log = logging.getLogger(__name__)


class _Checker:
    """A checker that is connected."""

    def __init__(self, line: socket.socket) -> None:
        self.line = line
        self.name = ""
        """``VPC/BALANCER/SUBNET``, once it has said so."""
        self.heard = b""
        self.given: str | None = None


class HealthWatch:
    """Who the targets of a running lab are, and how they are.

    Methods may be called from any thread. `changed` and `tick` are called by the watch's own thread: when the health of
    a target has changed, and every `TICK_S` seconds.
    """

    def __init__(
        self,
        folder: Path,
        *,
        changed: Callable[[], None],
        tick: Callable[[], None],
        known: Mapping[TargetKey, TargetHealth] | None = None,
    ) -> None:
        """`folder` is the lab's state folder; `known` as in `HealthBook`. Raises LabError."""
        self._changed, self._tick = changed, tick
        self._book = HealthBook(known)
        self._begun = False
        self._lock = threading.Lock()
        self._ended = False
        self._path = folder / SOCKET_NAME
        self._selector = selectors.DefaultSelector()
        self._listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            with reachable(folder, SOCKET_NAME) as address:
                with contextlib.suppress(FileNotFoundError):
                    os.unlink(address)
                self._listener.bind(address)  # the folder lets nobody else in
        except OSError as error:
            self._listener.close()
            why = f"{error.strerror}{remedy(error, self._path)}"
            raise LabError(f"cannot create the socket {self._path}: {why}") from error
        self._listener.listen(64)
        self._listener.setblocking(False)
        self._wake = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)
        self._selector.register(self._listener, selectors.EVENT_READ)
        self._selector.register(self._wake, selectors.EVENT_READ)
        self._thread = threading.Thread(target=self._serve, name="health", daemon=True)
        self._thread.start()

    # -- for others ----------------------------------------------------------------------------------------

    def configure(self, topology: Topology) -> Callable[[], None]:
        """Take a topology over; its new targets are ``initial``. Returns what undoes it."""
        with self._lock:
            before, self._book = self._book, self._book.copy()
            self._book.configure(topology)
        self._nudge()

        def undo() -> None:
            with self._lock:
                self._book = before
            self._nudge()

        return undo

    def begin(self, limit_s: float) -> None:
        """Let the checks begin, if they have not; wait until each was made once, but no longer than `limit_s`."""
        with self._lock:
            self._begun = True
        self._nudge()
        end = time.monotonic() + limit_s
        while time.monotonic() < end and not self._ended:
            with self._lock:
                if not self._book.is_waiting():
                    return
            time.sleep(0.01)

    def health(self) -> dict[TargetKey, TargetHealth]:
        """Every registered target."""
        with self._lock:
            return self._book.health()

    def close(self) -> None:
        """Hang up on all checkers, which ends them."""
        with self._lock:
            if self._ended:
                return
            self._ended = True
            os.eventfd_write(self._wake, 1)
        if threading.current_thread() is not self._thread:
            self._thread.join(timeout=5)
            if not self._thread.is_alive():
                os.close(self._wake)  # nobody uses it any more: `_nudge` does not after the end
        self._path.unlink(missing_ok=True)

    # -- the thread ----------------------------------------------------------------------------------------

    def _nudge(self) -> None:
        with self._lock:
            if not self._ended:
                os.eventfd_write(self._wake, 1)

    def _serve(self) -> None:
        tick_at = time.monotonic() + TICK_S
        while not self._ended:
            for key, _ in self._selector.select(max(0.0, tick_at - time.monotonic())):
                if key.fileobj is self._listener:
                    self._accept()
                elif key.data is None:
                    os.eventfd_read(self._wake)
                else:
                    self._hear(key.data)
            for checker in self._checkers():
                self._give(checker)
            if time.monotonic() >= tick_at:
                tick_at = time.monotonic() + TICK_S
                _guarded(self._tick)
        for checker in self._checkers():
            self._drop(checker)
        self._listener.close()
        self._selector.close()

    def _checkers(self) -> list[_Checker]:
        return [key.data for key in self._selector.get_map().values() if key.data is not None]

    def _accept(self) -> None:
        try:
            line, _ = self._listener.accept()
        except BlockingIOError:
            return
        except OSError:
            # Out of descriptors or memory: wait for somebody to leave instead of spinning.
            time.sleep(_FULL_PAUSE_S)
            return
        if peer_uid(line) != os.geteuid():
            line.close()
            return
        line.setblocking(False)
        self._selector.register(line, selectors.EVENT_READ, _Checker(line))

    def _hear(self, checker: _Checker) -> None:
        try:
            piece = checker.line.recv(1 << 16)
        except BlockingIOError:
            return
        except OSError:
            piece = b""
        *lines, checker.heard = (checker.heard + piece).split(b"\n")
        if not piece or len(checker.heard) > _LONGEST_LINE:
            self._drop(checker)
        changed = False
        for line in lines:
            try:
                changed |= self._take(checker, line)
            except ValueError:
                log.warning("the health checker of %s says %r: hanging up", checker.name or "nobody", line[:200])
                self._drop(checker)
                break
        if changed:
            _guarded(self._changed)

    def _take(self, checker: _Checker, line: bytes) -> bool:
        """Take a line of a checker down; whether it changes the health of a target. Raises ValueError for nonsense."""
        said = parse(line)
        if isinstance(said, str):
            checker.name = said
            return False
        target, result = said
        with self._lock:
            changed = self._book.heard(checker.name, target, result)
            now = self._book.health_of(target) if changed else None
        if now is not None:
            vpc, group, name = target
            log.info("target %s of %s/%s is %s %s %s", name, vpc, group, now.state, now.reason, now.description)
        return changed

    def _give(self, checker: _Checker) -> None:
        """Tell a checker what to do, if that is news."""
        with self._lock:
            if not checker.name or not self._begun:
                return
            jobs = json.dumps([job.to_json() for job in self._book.jobs(checker.name)])
        if jobs == checker.given:
            return
        checker.given = jobs
        checker.line.setblocking(True)
        checker.line.settimeout(1.0)
        try:
            checker.line.sendall(jobs.encode() + b"\n")
            checker.line.setblocking(False)
        except OSError:
            self._drop(checker)  # it is started again, and asks again

    def _drop(self, checker: _Checker) -> None:
        with contextlib.suppress(KeyError):
            self._selector.unregister(checker.line)
        checker.line.close()


def parse(line: bytes) -> str | tuple[TargetKey, Result]:
    """What a line of a checker says: which node it is of, or the result of a check. Raises ValueError."""
    try:
        message = json.loads(line)
    except RecursionError:
        raise ValueError("nested too deep") from None
    match message:
        case {"node": str(node), **rest} if not rest:
            return node
        case {
            "target": [str(vpc), str(group), str(name)],
            "kind": "open" | "status" | "timeout" | "failed" as kind,
            **rest,
        }:
            status, detail = rest.pop("status", 0), rest.pop("detail", "")
            if type(status) is int and isinstance(detail, str) and not rest:
                return (vpc, group, name), Result(kind=kind, status=status, detail=detail)
    raise ValueError("not what a checker says")


def _guarded(call: Callable[[], None]) -> None:
    """A failure to apply a change must not end the watch; it is tried again with the next change."""
    try:
        call()
    except Exception:
        log.exception("health of targets")
