"""What a machine holds, so that two moments can be compared: namespaces, processes, links, mounts, files, sockets.

The machine is what `alone` gives a program: PID, mount, network and IPC namespaces of its own, in which nobody else's
work comes and goes. So what differs between two looks was made, or taken, by the program and what it started.
"""

from __future__ import annotations

import contextlib
import os
import re
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from functools import cache
from pathlib import Path
from typing import NoReturn

NAMES = Path("/run/netns")
_SOCKETS = ("unix", "packet", "tcp", "tcp6", "udp", "udp6", "raw", "raw6", "icmp", "icmp6", "udplite")
_ROOT = Path(__file__).resolve().parents[2]
_ALONE = "VPCLAB_CRASHES_ALONE"
DEADLINE_S = 60.0
"""For what must come; a busy machine takes its time."""


def play(module: str, *words: str) -> None:
    """For a test: run a module that plays on a machine of its own. Raises AssertionError, with what it said."""
    paths = os.pathsep.join([str(_ROOT), str(_ROOT / "public")])
    done = subprocess.run(
        [sys.executable, "-P", "-m", module, *words],
        cwd=_ROOT,
        env={**os.environ, "PYTHONPATH": paths},
        capture_output=True,
        text=True,
        timeout=250,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr


def alone(arguments: Sequence[str], *, limits: bool = False) -> None:
    """Go on, in a process of its own, on a machine of its own; in the first process this never returns.

    As an ordinary user that is inside a user namespace, in which it is root; see `ordinary`. With `limits` it is so as
    root, too, so that limits of namespaces (/proc/sys/user) are the machine's own.
    """
    if _ALONE not in os.environ:
        user = ["--user", "--map-root-user"] if limits or os.geteuid() else []
        spaces = ["--mount", "--pid", "--fork", "--net", "--ipc", "--mount-proc", "--kill-child"]
        os.environ[_ALONE] = "user" if os.geteuid() else "root"
        os.execvp("unshare", ["unshare", *user, *spaces, sys.executable, *arguments])
    if os.getpid() == 1:
        if os.environ[_ALONE] == "root" and not limits:
            from lab.syscalls import mount

            NAMES.mkdir(exist_ok=True)
            mount("none", str(NAMES), "tmpfs")
        if child := os.fork():
            _reap_until(child)
        ordinary()  # its namespace is there from the beginning


def ordinary() -> list[str]:
    """Prefix of a command line that runs the rest as an ordinary user, if such a one started us; else nothing.

    Always in the same user namespace, as all that a user starts is: who is in another may not look at his processes.
    """
    if os.environ[_ALONE] != "user":
        return []
    return ["nsenter", f"--user=/proc/{_user()}/ns/user", "--preserve-credentials"]


@cache
def _user() -> int:
    """A process in the ordinary user's namespace, which is there as long as the machine."""
    holder = subprocess.Popen(["unshare", "--map-user=1000", "--map-group=1000", "sleep", "infinity"])
    end = time.monotonic() + DEADLINE_S
    while Path(f"/proc/{holder.pid}/comm").read_text() != "sleep\n":  # by then it is inside
        assert time.monotonic() < end, "no user namespace"
        time.sleep(0.01)
    return holder.pid


def _reap_until(child: int) -> NoReturn:
    """As process 1: bury whoever has no other parent, and end as the child does."""
    while True:
        pid, status = os.wait()
        if pid == child:
            os._exit(os.waitstatus_to_exitcode(status) & 0xFF)


def look(folder: Path) -> frozenset[str]:
    """Everything there is, one line each; files are those below `folder`, and the names of network namespaces."""
    return frozenset({*_processes(), *_links(), *_mounts(), *_files(folder), *_sockets()})


def changed(before: frozenset[str], folder: Path) -> list[str]:
    """What is there more or less than before, a line each; a machine that is as it was may take a while to be so."""
    end = time.monotonic() + DEADLINE_S
    while (now := look(folder)) != before and time.monotonic() < end:
        time.sleep(0.01)  # what has been killed takes a moment to be gone
    return sorted([f"+ {line}" for line in now - before] + [f"- {line}" for line in before - now])


def _processes() -> Iterator[str]:
    for process in Path("/proc").iterdir():
        if not process.name.isdecimal():
            continue
        with contextlib.suppress(FileNotFoundError, ProcessLookupError):
            words = (process / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace").strip()
            comm = (process / "comm").read_text().strip()
            yield f"process {process.name} ({comm}) {words[:160]}"
            yield from (f"namespace {name}" for name in _held(process))


def _held(process: Path) -> Iterator[str]:
    """Namespaces that a process is in, or holds open."""
    with contextlib.suppress(FileNotFoundError, ProcessLookupError, PermissionError):  # it is just ending
        for link in (*(process / "ns").iterdir(), *(process / "fd").iterdir()):
            with contextlib.suppress(FileNotFoundError):
                if re.fullmatch(r"(?!socket|pipe)[a-z_]+:\[\d+\]", target := os.readlink(link)):
                    yield target


def _links() -> Iterator[str]:
    return (f"link {index} {name}" for index, name in socket.if_nameindex())


def _mounts() -> Iterator[str]:
    for line in Path("/proc/self/mountinfo").read_text().splitlines():
        words = line.split(" ")
        kind, source = line.partition(" - ")[2].split(" ")[:2]
        yield f"mount {kind} {source} {words[3]} at {words[4]}"


def _files(folder: Path) -> Iterator[str]:
    for top in (folder, NAMES):
        for path in sorted(top.rglob("*")):
            with contextlib.suppress(FileNotFoundError):
                yield f"file {path} inode {path.lstat().st_ino}"


def _sockets() -> Iterator[str]:
    for kind in _SOCKETS:
        with contextlib.suppress(FileNotFoundError):
            for line in Path(f"/proc/net/{kind}").read_text().splitlines()[1:]:
                words = line.split()
                # Columns of counters change by themselves; these do not.
                yield f"socket {kind} {' '.join(words[5:]) if kind == 'unix' else ' '.join(words[1:3])}"
