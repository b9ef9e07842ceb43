"""Processes as /proc shows them: who is still the same, who carries a lab's id, who is in a namespace."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

from lab.identity import LAB_VARIABLE
from lab.interpreter import arguments_to, runs
from lab.scarcity import is_scarce

SPAWNER = "vpclab-spawner"
"""Name of the spawner process (``ps -o comm``)."""
_STARTING = "python"
"""How the name of a spawner begins (``ps -o comm``) before it gives itself its own."""
_PROC = Path("/proc")
_EXITING = 0x4  # PF_EXITING, in the flags of /proc/PID/stat


class Process(NamedTuple):
    """A process, told from a later one with the same number by its start time (clock ticks after boot)."""

    pid: int
    start: int

    def is_alive(self) -> bool:
        """Whether it still runs (a zombie does not)."""
        return start_time(self.pid) == self.start

    def kill(self, number: int = signal.SIGKILL) -> None:
        """Send a signal; nothing happens when the process is gone."""
        try:
            descriptor = os.pidfd_open(self.pid)
        except OSError:
            return
        try:
            # The descriptor refers to one process for good, so the check and the signal mean the same one.
            if self.is_alive():
                signal.pidfd_send_signal(descriptor, number)
        except OSError:
            pass
        finally:
            os.close(descriptor)


def boot_id() -> str:
    """Id of this boot of the machine: start times are only comparable within one."""
    return (_PROC / "sys/kernel/random/boot_id").read_text().strip()


def start_time(pid: int) -> int | None:
    """Start time of a process in clock ticks after boot; None when there is none, or one that runs no more code.

    That is a zombie, and a process 1 of a PID namespace that waits for zombies in it to be reaped by parents outside
    (the kernel has taken everything else from it by then). Raises OSError when there are no descriptors to look with.
    """
    try:
        content = (_PROC / str(pid) / "stat").read_bytes()
    except OSError as error:
        if is_scarce(error):
            raise  # nobody can tell without a descriptor
        return None  # it ended, or is nobody's we may look at (hidepid)
    fields = content.rpartition(b")")[2].split()  # the name before it may hold blanks and brackets
    ended = fields[0] in (b"Z", b"X") or int(fields[6]) & _EXITING
    threads = int(fields[17])
    return None if ended and threads <= 1 else int(fields[19])


def this_process() -> Process:
    """The process we are in."""
    pid = os.getpid()
    return Process(pid, start_time(pid) or 0)


def find(pid: int) -> Process | None:
    """The process that has this number now."""
    start = start_time(pid)
    return None if start is None else Process(pid, start)


def all_processes() -> Iterator[Process]:
    """Every process we can see."""
    for name in os.listdir(_PROC):
        if name.isdecimal() and (process := find(int(name))) is not None:
            yield process


def lab_of(pid: int) -> str | None:
    """The lab id that a process was started with; None when there is none, or it is not ours to read."""
    try:
        environment = (_PROC / str(pid) / "environ").read_bytes()
    except OSError:
        return None
    name = f"{LAB_VARIABLE}=".encode()
    for variable in environment.split(b"\0"):
        if variable.startswith(name):
            return variable[len(name) :].decode(errors="replace")
    return None


def name_of(pid: int) -> str:
    """Name of a process (``ps -o comm``); empty when it is gone."""
    try:
        return (_PROC / str(pid) / "comm").read_text().rstrip("\n")
    except OSError:
        return ""


def arguments_of(pid: int) -> tuple[str, ...]:
    """Command line of a process; empty when it is gone."""
    try:
        content = (_PROC / str(pid) / "cmdline").read_bytes()
    except OSError:
        return ()
    return tuple(os.fsdecode(word) for word in content.split(b"\0"))


def is_spawner(pid: int) -> bool:
    """Whether a process is the spawner of a lab, going by its name and command line."""
    name = name_of(pid)
    # Process 1 of a lab is a fork of the spawner: the same command line, another name.
    return name == SPAWNER or (name.startswith(_STARTING) and runs(arguments_of(pid), "spawner"))


def all_spawners() -> Iterator[Process]:
    """Every process that is the spawner of a lab, going by its name and command line."""
    for name in os.listdir(_PROC):
        if name.isdecimal() and is_spawner(int(name)) and (process := find(int(name))) is not None:
            yield process


def folder_of(pid: int) -> str | None:
    """Which state folder (`lab.state.folder_id`) a spawner was started for; None when it is none, or does not say."""
    said = arguments_to(arguments_of(pid), "spawner")
    return said[1] if len(said) > 1 and said[1] else None


def is_beside_us(pid: int) -> bool:
    """Whether a process is in our own PID namespace, and in none below. Raises OSError when nobody can tell.

    It takes no right to look at that process: what is asked is a descriptor of ours that refers to it.
    """
    if pid <= 0:
        return False  # as the kernel calls those outside
    try:
        descriptor = os.pidfd_open(pid)
    except ProcessLookupError:
        return False
    try:
        facts = (_PROC / f"self/fdinfo/{descriptor}").read_text()
    finally:
        os.close(descriptor)
    numbers = next((line.split()[1:] for line in facts.splitlines() if line.startswith("NSpid:")), [])
    return numbers == [str(pid)]  # one for each PID namespace from ours down to its own


def namespace(pid: int | str, kind: str) -> tuple[int, int] | None:
    """(device, inode) of a namespace of a process: the same for two processes if and only if they share it."""
    try:
        found = os.stat(_PROC / str(pid) / "ns" / kind)
    except OSError:
        return None
    return found.st_dev, found.st_ino


def descriptor_identity(descriptor: int) -> tuple[int, int]:
    """The same for an open namespace."""
    found = os.fstat(descriptor)
    return found.st_dev, found.st_ino


def kill_all(select: Callable[[], list[Process]], *, deadline_s: float = 5.0) -> list[Process]:
    """Kill what `select` finds until it finds nothing more (they may fork meanwhile); returns what is left then."""
    end = time.monotonic() + deadline_s
    pause_s = 0.001
    while found := select():
        if time.monotonic() > end:
            return found
        for process in found:
            process.kill()
        time.sleep(pause_s)
        pause_s = min(pause_s * 2, 0.1)
    return []
