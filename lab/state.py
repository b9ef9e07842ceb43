"""The state folder of a lab: ``$XDG_STATE_HOME/vpclab/LAB/`` (default ``~/.local/state/vpclab/LAB/``).

    lock           held (flock) by the daemon as long as it lives: the one truth about whether a lab runs
    daemon.json    who it is: pid, start time, boot id, lab id
    runtime.json   the processes behind its nodes (written by `lab.runtime`)
    lab.json       what it is: its file, its clock (written by `lab.journal` for a daemon that takes it over)
    nodes.sock     where that one comes in (`lab.handover`)
    names          what it has, or was about to have, under /run/netns (written by its spawner)
    nodes/NODE/    PROGRAM.log
    etc/           seen from outside always empty: files of the nodes (`lab.mount_view`)
    .NAME.PID      one of these while a process makes it (`draft_of`)

The kernel gives a lock up when its holder dies, however it dies, so a lock cannot be stale, while a process id
in a file can be another process's by now.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import json
import os
import re
import shutil
import stat
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from dataplane.errors import LabError
from lab.processes import Process, boot_id, this_process
from lab.scarcity import is_scarce, remedy
from lab.state_root import state_root

LOCK, DAEMON, RUNTIME, NODES, ETC = "lock", "daemon.json", "runtime.json", "nodes", "etc"
JOURNAL, DOOR, NAMES = "lab.json", "nodes.sock", "names"
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,62}")
_DRAFT = re.compile(r"\..+\.([0-9]+)")
"""``.NAME.PID``, a file that a process has not finished yet: see `draft_of`."""
_TRIES = 100
"""So often a folder may vanish while it is made."""
_CAREFUL = os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC
"""How to open what may be anything; of files none of it changes what can be read or written."""
RECORD_LIMIT_BYTES = 16 << 20
"""Longest file of the folder that is written and read: the journal carries the lab file."""


def known_labs() -> list[LabState]:
    """Every lab with a state folder, running or dead, by name."""
    root = state_root()
    try:
        names = sorted(os.listdir(root))
    except OSError:
        return []
    return [LabState(name) for name in names if _NAME.fullmatch(name) and (root / name).is_dir()]


class LabState:
    """The state folder of one lab."""

    def __init__(self, name: str) -> None:
        """Name it; nothing is created. LabError when the name cannot be a folder name (letters, digits, ``-_.``)."""
        if not _NAME.fullmatch(name):
            raise LabError(f"{name!r} cannot be a lab's name: at most 63 of A-Z a-z 0-9 . _ -, a letter or digit first")
        self._name = name
        self._path = state_root() / name
        self._lock: int | None = None

    def __repr__(self) -> str:
        return f"LabState({self._name!r})"

    @property
    def name(self) -> str:
        """Name of the lab."""
        return self._name

    @property
    def path(self) -> Path:
        """The folder."""
        return self._path

    def acquire(self) -> None:
        """Create the folder (mode 0700) and take the lock, without waiting. LabError when the lab runs already.

        The lock is held until `release` or the end of this process. Children that execute another program do
        not inherit it.
        """
        # Whoever only asks whether the lab runs holds the lock for an instant, hence a second look.
        end = time.monotonic() + 0.3
        while not (held := self._try_lock()) and time.monotonic() < end:
            time.sleep(0.02)
        if not held:
            daemon = self.read_daemon()
            pid = f" (pid {daemon['pid']})" if daemon else ""
            raise LabError(f"lab {self._name} is already running{pid}; stop it first: vpclab down {self._name}")

    def release(self) -> None:
        """Give the lock up."""
        if self._lock is not None:
            os.close(self._lock)
            self._lock = None

    def is_running(self) -> bool:
        """Whether some process holds the lock."""
        if self._lock is not None:
            return True
        try:
            descriptor = os.open(self._path / LOCK, os.O_RDWR | os.O_CLOEXEC)
        except OSError as error:
            if is_scarce(error):
                raise  # nobody can tell without a descriptor
            return False
        try:
            fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
        finally:
            os.close(descriptor)
        return False

    def write_daemon(self, **facts: Any) -> None:
        """Write daemon.json: pid, start time and boot id of this process, and `facts`."""
        process = this_process()
        self.write(DAEMON, {"pid": process.pid, "start": process.start, "boot": boot_id(), **facts})

    def read_daemon(self) -> Mapping[str, Any] | None:
        """daemon.json if the process it names is alive, the same (pid, start time, boot) and holds the lock, else None.

        So it is nobody else, whoever has written to the folder.
        """
        facts = self.read(DAEMON)
        process = recorded_process(facts)
        return facts if process is not None and self._is_held_by(process.pid) else None

    def write(self, name: str, value: Any) -> None:
        """Write a JSON file of the folder atomically: readers see the old or the new content, never a part.

        Raises LabError when it cannot be written, or is longer than RECORD_LIMIT_BYTES.
        """
        path = self._path / name
        draft = draft_of(path)
        text = json.dumps(value, separators=(",", ":"))
        if len(text) > RECORD_LIMIT_BYTES:
            raise LabError(f"{path} cannot be written: {len(text)} bytes, at most {RECORD_LIMIT_BYTES}")
        try:
            self.clear(draft.name)
            with open(draft, "x") as file:  # a file of our own: neither a pipe nor the way to another
                file.write(text)
            draft.replace(path)
        except OSError as error:
            draft.unlink(missing_ok=True)
            raise LabError(f"{path} cannot be written: {error.strerror}{remedy(error, path)}") from error

    def read(self, name: str) -> Any:
        """Content of a JSON file of the folder; None when it is not there or not JSON.

        Programs in instances may have written it: who reads it takes nothing in it for granted.
        """
        try:
            return json.loads(self.text(name))
        except (ValueError, RecursionError):
            return None

    def text(self, name: str) -> str:
        """Content of a file of the folder; empty when it is not there or none of ours: a pipe, say, or without end."""
        found = read_end(self._path / name, RECORD_LIMIT_BYTES + 1)
        return found.decode(errors="replace") if len(found) <= RECORD_LIMIT_BYTES else ""

    def clear(self, *names: str) -> None:
        """Remove files of the folder, and whatever programs in instances have put in their place. Raises LabError."""
        for name in names:
            path = self._path / name
            try:
                path.unlink(missing_ok=True)
            except OSError as error:
                shutil.rmtree(path, ignore_errors=True)
                if os.path.lexists(path):
                    raise LabError(f"{path} cannot be removed: {error.strerror}{remedy(error, path)}") from error

    def clear_drafts(self, *alive: int) -> None:
        """Remove what processes had not finished that were killed; the caller holds the lock, nothing of it is his.

        `alive` are processes besides the caller that make files here.
        """
        with contextlib.suppress(OSError):  # there is no folder any more
            for name in os.listdir(self._path):
                found = _DRAFT.fullmatch(name)
                if found is not None and int(found[1]) not in alive:
                    with contextlib.suppress(OSError):  # a program in an instance has made a folder of that name
                        (self._path / name).unlink()

    def remove(self) -> None:
        """Remove the folder with everything in it; the caller holds the lock (and keeps it)."""
        shutil.rmtree(self._path, ignore_errors=True)
        if self._path.exists():
            raise LabError(f"{self._path} cannot be removed completely; remove it as the user who owns what is left")
        with contextlib.suppress(OSError):
            self._path.parent.rmdir()  # only when no other lab is left

    def _is_held_by(self, pid: int) -> bool:
        """Whether a process holds the lock, as the kernel says: it has the file open, and locked.

        Not when the file is the way to that of another lab: a link, or one of several names.
        """
        try:
            lock = os.lstat(self._path / LOCK)
            if not stat.S_ISREG(lock.st_mode) or lock.st_nlink != 1:
                return False
            for number in os.listdir(f"/proc/{pid}/fd"):
                with contextlib.suppress(FileNotFoundError):  # closed meanwhile
                    found = os.stat(f"/proc/{pid}/fd/{number}")
                    if (found.st_dev, found.st_ino) == (lock.st_dev, lock.st_ino):
                        said = Path(f"/proc/{pid}/fdinfo/{number}").read_text()
                        if any(line.startswith("lock:") and " WRITE " in line for line in said.splitlines()):
                            return True
        except OSError:  # it is gone, or nobody's we may look at
            pass
        return False

    def _try_lock(self) -> bool:
        for tried in range(_TRIES):
            try:
                self._path.mkdir(mode=0o700, parents=True, exist_ok=True)
                descriptor = os.open(self._path / LOCK, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
            except FileNotFoundError as error:
                # Removed between the two calls by whoever cleaned up; or it cannot be made at all, as in /proc.
                if tried + 1 < _TRIES:
                    continue
                raise LabError(f"{self._path} cannot be made: {error.strerror}") from error
            except OSError as error:
                for folder in (self._path, self._path.parent):
                    with contextlib.suppress(OSError):  # only when it is empty: made just now, or of no use to anybody
                        folder.rmdir()
                what = f"{self._path} cannot be made: {error.strerror}{remedy(error, self._path)}"
                raise LabError(what) from error
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                # Whoever held it before may have removed the folder: then this lock is on a file nobody else sees.
                current = os.stat(self._path / LOCK)
                mine = os.fstat(descriptor)
                if (current.st_dev, current.st_ino) == (mine.st_dev, mine.st_ino):
                    self._lock, descriptor = descriptor, -1
                    return True
            except BlockingIOError:
                return False
            except FileNotFoundError:
                pass
            finally:
                if descriptor >= 0:
                    os.close(descriptor)
        return False


def read_end(path: Path, most: int) -> bytes:
    """The last bytes of a file, at most so many; none when it is not there or none of ours: a pipe, say.

    Programs in instances may have put that in its place. Nobody waits for it, or reads for ever.
    """
    try:
        descriptor = os.open(path, _CAREFUL | os.O_RDONLY)
    except OSError:
        return b""
    try:
        facts = os.fstat(descriptor)
        if not stat.S_ISREG(facts.st_mode):
            return b""
        return os.pread(descriptor, min(most, facts.st_size), max(0, facts.st_size - most))
    except OSError:
        return b""
    finally:
        os.close(descriptor)


def open_end(path: Path, mode: int = 0o600) -> int:
    """Open a file to write at its end; a new one when it is not there or none of ours: a pipe, say, or a link.

    Programs in instances may have put that in its place, which is removed; but for a folder, which may be a large one.
    Raises OSError.
    """
    flags = _CAREFUL | os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_NOFOLLOW
    try:
        descriptor = os.open(path, flags, mode)
    except OSError as error:
        if error.errno not in (errno.ELOOP, errno.ENXIO):
            raise
    else:
        if stat.S_ISREG(os.fstat(descriptor).st_mode):
            return descriptor
        os.close(descriptor)
    path.unlink()
    return os.open(path, flags | os.O_EXCL, mode)


def draft_of(path: Path) -> Path:
    """Where a file is made before it takes its place, so that nobody sees a part of it."""
    return path.with_name(f".{path.name}.{os.getpid()}")


def folder_id(folder: Path) -> str:
    """What tells a folder from others, copies and later ones of its name included, while somebody has it open."""
    found = folder.stat()
    return f"{found.st_dev}:{found.st_ino}"


def recorded_process(facts: Any) -> Process | None:
    """The process that a record (pid, start, boot) names, if it is alive and the same; None for what is no record."""
    match facts:
        case {"pid": int(pid), "start": int(start), "boot": str(boot)} if boot == boot_id():
            process = Process(pid, start)
            return process if process.is_alive() else None
    return None
