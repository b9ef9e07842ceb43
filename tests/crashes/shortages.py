"""Everything that can run out does so, at every point of `up` and of `apply`: one clear message, nothing half-made.

    make shortages          # every amount until there is enough; `make test` tries a few of each

What is scarce is so for the lab alone: its state folder is a small file system, limits of open files are set for its
processes, limits of namespaces for the user namespace that all this runs in (`tests.crashes.machine`).
"""

from __future__ import annotations

import argparse
import contextlib
import os
import re
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from lab import processes
from lab.syscalls import mount, umount
from tests.crashes.lab import AFTER, BEFORE, COMMAND, LAB, Failed, check_machine, check_ping
from tests.crashes.machine import DEADLINE_S, alone, look, ordinary
from vpclab import Lab

PAGE = 4096
_SWITCHES = Path("/proc/sys/user")
REMEDIES = {
    "bytes": r"No space left on device; free some space there, or have XDG_STATE_HOME name a folder elsewhere",
    "inodes": r"No space left on device; free some space there, or have XDG_STATE_HOME name a folder elsewhere",
    "files": r"Too many open files; a process may have \d+ here; before it is started, as root: ulimit -n \d+",
    "net": r"network namespace: No space left on device; .* sysctl -w user.max_net_namespaces=\d+",
    "mnt": r"mount namespace: No space left on device; .* sysctl -w user.max_mnt_namespaces=\d+",
    "uts": r"UTS namespace: No space left on device; .* sysctl -w user.max_uts_namespaces=\d+",
    "pid": r"PID namespace: No space left on device; .* sysctl -w user.max_pid_namespaces=\d+",
}
"""What is scarce -> what a command must say that fails for it."""


@dataclass(frozen=True, slots=True)
class Said:
    """How a command ended."""

    status: int
    words: str


class Shortages:
    """A machine on which things run out."""

    def __init__(self, folder: Path) -> None:
        self.state = folder / "state"
        self.state.mkdir()
        os.environ |= {"XDG_STATE_HOME": str(self.state), "TMPDIR": str(folder)}
        self.folder = folder

    def up(self, what: str, amount: int) -> bool:
        """Start a lab with so much of something; whether that was enough. Raises Failed."""
        options = {"bytes": f"size={amount * PAGE}", "inodes": f"nr_inodes={amount + 2}"}.get(what, "")
        with self._state(options), self._namespaces(what, amount):
            before = look(self.folder)
            said = self._vpclab("up", str(BEFORE), files=amount + 4 if what == "files" else None)
            if said.status in (0, 1) and "is up" in said.words:  # 1: without a program, for which there was no room
                Lab(LAB, "", "").down()
                check_machine(before, self.folder, f"up with {amount} of {what}, and down")
                return said.status == 0
            self._refused(what, amount, said)
            check_machine(before, self.folder, f"up with {amount} of {what}")
            return False

    def apply(self, what: str, amount: int, *, of: str = "") -> bool:
        """Change a running lab with so much of something more; whether that was enough. Raises Failed."""
        with self._state("size=4m"):
            before = look(self.folder)
            started = self._vpclab("up", str(BEFORE))
            if started.status:
                raise Failed(f"up: {started.words}")
            lab = Lab(LAB, "", "")
            with self._full(what, amount), self._namespaces(what, 0), self._files(what, amount, of):
                said = self._vpclab("apply", str(AFTER))
            name = f"apply with {amount} more of {what}"
            if said.status == 3:
                self._refused(what, amount, said)
                if changes := lab.apply(BEFORE, dry_run=True):
                    raise Failed(f"{name} was half done: {changes}")
                check_ping(name)
                lab.apply(AFTER)  # there is enough now
            elif said.status:
                raise Failed(f"{name}: exit status {said.status}: {said.words}")
            if changes := lab.apply(AFTER, dry_run=True):
                raise Failed(f"{name} left some out: {changes}")
            check_ping(name)
            if {*lab.nodes} != {"web", "app", "comes", "visitor"}:
                raise Failed(f"nodes {[*lab.nodes]} after {name}")
            lab.down()
            check_machine(before, self.folder, f"{name}, and down")
            return said.status == 0

    # -- parts ---------------------------------------------------------------------------------------------

    def _refused(self, what: str, amount: int, said: Said) -> None:
        if said.status != 3 or re.fullmatch(rf"vpclab: .*{REMEDIES[what]}\n", said.words) is None:
            raise Failed(f"{amount} of {what}: exit status {said.status}, and these words: {said.words}")

    def _vpclab(self, *words: str, files: int | None = None) -> Said:
        limit = ["sh", "-c", f'ulimit -n {files}; exec "$@"', "sh"] if files else []
        done = subprocess.run(
            [*ordinary(), *limit, *COMMAND, *words],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=DEADLINE_S,
            check=False,
        )
        return Said(done.returncode, done.stdout)

    @contextlib.contextmanager
    def _state(self, options: str) -> Iterator[None]:
        mount("none", str(self.state), "tmpfs", options=options)
        try:
            yield
        finally:
            umount(str(self.state))

    @contextlib.contextmanager
    def _full(self, what: str, amount: int) -> Iterator[None]:
        """Fill the state folder's file system but for so many pages."""
        fill = self.state / "fill"
        if what == "bytes":
            with fill.open("wb", buffering=0) as file, contextlib.suppress(OSError):
                while True:
                    file.write(bytes(PAGE))
            os.truncate(fill, max(0, fill.stat().st_size - amount * PAGE))
        try:
            yield
        finally:
            fill.unlink(missing_ok=True)

    @contextlib.contextmanager
    def _namespaces(self, what: str, amount: int) -> Iterator[None]:
        if what in ("bytes", "inodes", "files"):
            yield
            return
        switch = _SWITCHES / f"max_{what}_namespaces"
        before = switch.read_text()
        switch.write_text(str(amount))
        try:
            yield
        finally:
            switch.write_text(before)

    @contextlib.contextmanager
    def _files(self, what: str, amount: int, of: str) -> Iterator[None]:
        """Let a process open so many files beyond those it has."""
        if what != "files":
            yield
            return
        end = time.monotonic() + DEADLINE_S
        while len(found := [process for process in processes.all_processes() if _is(process.pid, of)]) != 1:
            if time.monotonic() > end:  # what it forks has its name for a moment
                raise Failed(f"{len(found)} processes are {of}")
        [process] = found
        before = resource.prlimit(process.pid, resource.RLIMIT_NOFILE)
        most = max(int(name) for name in os.listdir(f"/proc/{process.pid}/fd"))
        resource.prlimit(process.pid, resource.RLIMIT_NOFILE, (most + 1 + amount, before[1]))
        try:
            yield
        finally:
            resource.prlimit(process.pid, resource.RLIMIT_NOFILE, before)


def _is(pid: int, name: str) -> bool:
    if name == "daemon":
        return any("lab.daemon" in word for word in processes.arguments_of(pid))
    return processes.name_of(pid) == name


LEAST = {"bytes": 1, "files": 3}
"""Less is no limit at all (tmpfs), or not enough for the interpreter to say so."""
FEW = {"bytes": (1,), "inodes": (4,), "files": (3, 12), "net": (2,), "mnt": (1,), "uts": (), "pid": (1,)}
"""Amounts that the short form tries, none of them enough."""
MORE = (("bytes", "", (0,)), ("net", "", (0,)), ("files", "vpclab-spawner", (2,)), ("files", "daemon", (0,)))
"""What is scarce during `apply`, of which process, and the amounts that the short form tries."""


def _has_bitten(enough: bool, what: str, *, first: bool, every: bool) -> None:
    """Whoever finds enough at once has tried nothing."""
    if enough and (first or not every):
        raise Failed(f"so little of {what} is enough: nothing was tried")


def play(every: bool) -> Iterator[str]:
    """Try what can run out; what was tried."""
    with tempfile.TemporaryDirectory(prefix="vpclab-shortages-") as folder:
        shortages = Shortages(Path(folder))
        for what, few in FEW.items():
            for amount in range(LEAST.get(what, 0), 100) if every else few:
                enough = shortages.up(what, amount)
                yield f"up with {amount} of {what}: {'enough' if enough else 'refused'}"
                _has_bitten(enough, what, first=amount == LEAST.get(what, 0), every=every)
                if enough:
                    break
        for what, of, few in MORE:
            for amount in range(0, 100) if every and what != "net" else few:
                enough = shortages.apply(what, amount, of=of)
                yield f"apply with {amount} more of {what} {of}: {'enough' if enough else 'refused'}"
                _has_bitten(enough, what, first=amount == 0, every=every)
                if enough:
                    break


def main() -> int:
    """Print what was tried; exit status 1 at the first that was not dealt with as promised."""
    parser = argparse.ArgumentParser(prog="make shortages", description=__doc__.split("\n", 1)[0])
    parser.add_argument("--every", action="store_true", help="every amount, not a few of each")
    options = parser.parse_args()
    try:
        for line in play(options.every):
            print(line, flush=True)
    except Failed as failure:
        print(f"failed: {failure}", flush=True)
        return 1
    return 0


if __name__ == "__main__":
    alone(["-P", "-m", "tests.crashes.shortages", *sys.argv[1:]], limits=True)
    sys.exit(main())
