"""Rounds of ``kill -9``: of the daemon, of programs, of the command, at any moment of `up`, `apply` and `down`.

    make crash-rounds                            # 500 rounds
    make crash-rounds ROUNDS=40 SEED=7 FROM=12   # rounds 12 to 40 of seed 7 again

Each round draws a verb, a victim and a moment: half of them a time between the start of the verb and a little after the
longest it took so far, half of them just after the n-th thing that can be seen has changed (a file, a process, a name,
a socket). Then

* the command must end with the exit status that such an end has, and say so in one line at most;
* a lab whose daemon was killed, and whose instances wait for another one, comes back in half of them by `up --resume`,
  also when the daemon that was to bring it back was killed as well, and its web server is the process that it was;
* what runs is whole: the old lab or the new one, a ping crosses it, `down` ends it; what does not is what `gc` removes;
* the machine (`tests.crashes.machine`) is then what it was before the first round;
* `up` works again and a ping crosses.

A round is the same for the same seed and number, apart from how fast the machine is. The first failure ends the run,
with exit status 1, and leaves its logs in the folder that is printed.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import random
import re
import secrets
import shutil
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from dataplane.errors import LabError
from lab import processes
from lab.processes import Process
from lab.state import DAEMON, DOOR, LOCK, RUNTIME
from tests.crashes.lab import AFTER, BEFORE, LAB, Failed, check_machine, check_ping, command_line
from tests.crashes.machine import DEADLINE_S, NAMES, alone, look, ordinary
from vpclab import Lab

VERBS = {"up": ("up", str(BEFORE)), "apply": ("apply", str(AFTER)), "down": ("down", LAB)}
RESUME = ("up", "--resume")
VICTIMS = ("daemon", "daemon", "command", "command", "program", "spawner", "init")
"""Whom the issue is about, and the two processes between the daemon and the programs."""
_PAUSE_S = 0.003
"""Between two looks at what there is: each takes about a millisecond of the processor that the lab needs, too."""
STATUS = {
    "up": {"daemon": (0, 3), "spawner": (0, 3), "init": (0, 3), "program": (0,), "command": (0, -9)},
    "apply": {"daemon": (0, 3), "spawner": (0, 3), "init": (0, 3), "program": (0,), "command": (0, -9)},
    "down": {"daemon": (0,), "spawner": (0, 3), "init": (0, 3), "program": (0,), "command": (0, -9)},
}
"""How a verb may end when a victim is killed meanwhile: 0 when that came too late to matter.

Without its spawner a lab goes down by itself, perhaps before `down` has looked: then it was not running.
"""


FILES = (".", LOCK, DAEMON, RUNTIME, DOOR, "daemon.log", "control.sock", "nodes/web/http.log", "flow-logs")
"""Of the state folder; that one comes, or goes, can be seen."""
Found = dict[str, list[Process]]
"""What they are -> processes."""
Strike = Callable[[Found, int, float], bool]
"""Kills, if it is time: given who there is, how many changes there were, the seconds since the last; whether it did."""

ONE_LINE = re.compile(r"vpclab: .+\n")
"""What a command that could not do it says."""


@dataclass(frozen=True, slots=True)
class Moment:
    """When to kill: after a time, or after the n-th change of what can be seen, and a little later."""

    after_s: float
    change: int = 0

    def __str__(self) -> str:
        return f"{self.after_s * 1000:.1f} ms after {f'change {self.change}' if self.change else 'its start'}"


class Rounds:
    """The rounds of one run, in a folder that has everything the commands write."""

    def __init__(self, folder: Path, seed: int) -> None:
        self.folder, self.seed = folder, seed
        self.state = folder / "state" / "vpclab" / LAB
        for variable, name in (
            ("XDG_STATE_HOME", "state"),
            ("XDG_RUNTIME_DIR", "run"),
            ("TMPDIR", "tmp"),
            ("HOME", "home"),
        ):
            (folder / name).mkdir(exist_ok=True)
            os.environ[variable] = str(folder / name)
        self.machine = look(folder)
        self.span_s = dict.fromkeys((*VERBS, "resume"), 0.1)
        self.changes = dict.fromkeys((*VERBS, "resume"), 1)
        self.killed: Counter[str] = Counter()

    def measure(self) -> None:
        """Go through the verbs once without a kill: how long they take, how many changes can be seen.

        A resumption takes as long as `up`, more or less.
        """
        for verb in VERBS:
            self._prepare(verb)
            with self._verb(verb) as command:
                self._watch(verb, command, lambda seen, changes, since_s: False)
                self._ended(command, (0,))
        self._is_clean("three verbs that nobody killed")
        self.span_s["resume"] = self.span_s["up"]

    def close(self) -> None:
        """End the lab that the last round has left for the next one."""
        self._prepare("up")

    def play(self, number: int) -> str:
        """One round; what happened. Raises Failed."""
        chance = random.Random(f"{self.seed}:{number}")
        verb, victim = chance.choice(tuple(VERBS)), chance.choice(VICTIMS)
        if chance.random() < 0.5:
            moment = Moment(chance.uniform(0, 1.05 * self.span_s[verb]))
        else:
            moment = Moment(chance.uniform(0, 0.02), chance.randint(1, self.changes[verb]))
        self._prepare(verb)
        said = f"kill -9 of {victim} during {verb}, {moment}"
        try:
            with self._verb(verb) as command:
                dead = self._watch(verb, command, self._striking(victim, command, moment, chance))
                self._ended(command, STATUS[verb][victim])
            if victim == "daemon" and dead and (self.state / DOOR).exists() and chance.random() < 0.5:
                said += self._resume(chance)
            self._settle(verb)
            self._run("gc")
            self._is_clean("gc")
            self._up()
        except Failed as failure:
            raise Failed(f"{said}: {failure}") from None
        self.killed[f"{verb}, {victim if dead else 'nobody: too late'}"] += 1
        return said + ("" if dead else " (too late: there was none any more)")

    # -- parts ---------------------------------------------------------------------------------------------

    def _resume(self, chance: random.Random) -> str:
        """Bring the lab back, in half of the cases the second time only; what was done."""
        self._await_waiting()
        before = self._servers()
        said = self._bring_back(chance)
        if len(before) != 1 or self._servers() != before:
            raise Failed(f"{said}, and web/http is not the process that it was: {before}, {self._servers()}")
        return said

    def _servers(self) -> list[Process]:
        """The one program that no verb touches before the lab has ceased to wait for another daemon."""
        programs = self._processes().get("program", ())
        return [program for program in programs if "http.server" in processes.arguments_of(program.pid)]

    def _bring_back(self, chance: random.Random) -> str:
        said = ", then up --resume"
        if chance.random() < 0.5:
            moment = Moment(chance.uniform(0, self.span_s["resume"]))
            said += f" and kill -9 of its daemon, {moment}, then up --resume"
            with self._verb("resume") as command:
                self._watch("resume", command, self._striking("daemon", command, moment, chance))
                self._ended(command, (0, 3))
            if self._processes().get("daemon"):
                return said + " (too late: it was up)"
            self._await_waiting()
        self._run(*RESUME)
        return said

    def _await_waiting(self) -> None:
        """Wait until the kernel has given up the lock of a daemon that was killed."""
        end = time.monotonic() + DEADLINE_S
        while LAB not in Lab.waiting():
            if time.monotonic() > end:
                raise Failed("its instances do not wait for another daemon")
            time.sleep(0.01)

    def _prepare(self, verb: str) -> None:
        """Have what a verb needs: a lab that runs, or none."""
        if verb != "up":
            if not self._processes():
                self._up()
        elif self._processes():
            self._down()

    @contextlib.contextmanager
    def _verb(self, verb: str) -> Iterator[subprocess.Popen[str]]:
        with (
            (self.folder / "tmp" / "said").open("w+") as said,
            subprocess.Popen(
                command_line(*VERBS.get(verb, RESUME)), stdout=said, stderr=subprocess.STDOUT, text=True
            ) as command,
        ):
            yield command
        (self.folder / "tmp" / "said").unlink()

    def _watch(self, verb: str, command: subprocess.Popen[str], strike: Strike) -> bool:
        """Watch a verb until it ends, and strike once; whether that could be done."""
        began = changed = time.monotonic()
        seen: frozenset[str] | None = None
        changes, struck = 0, False
        while command.poll() is None:
            now = time.monotonic()
            if now - began > DEADLINE_S:
                raise Failed(f"{verb} did not end within {DEADLINE_S:g} s")
            found = self._processes()
            marks = self._marks(found)
            if seen is not None and marks != seen:
                changed, changes = now, changes + 1
            seen = marks
            struck = struck or strike(found, changes, now - (changed if changes else began))
            time.sleep(_PAUSE_S)
        if not struck:
            self.span_s[verb] = max(self.span_s[verb], time.monotonic() - began)
            self.changes[verb] = max(self.changes[verb], changes)
        return struck

    def _striking(self, victim: str, command: subprocess.Popen[str], moment: Moment, chance: random.Random) -> Strike:
        began = time.monotonic()

        def strike(found: Found, changes: int, since_s: float) -> bool:
            if moment.change:
                due = changes > moment.change or (changes == moment.change and since_s >= moment.after_s)
            else:
                due = time.monotonic() - began >= moment.after_s
            if not due:
                return False
            if victim == "command":
                command.kill()
                return True
            if not found.get(victim):
                return False  # not yet there, or gone: if it comes, it is killed at once
            chance.choice(found[victim]).kill()
            return True

        return strike

    def _processes(self) -> Found:
        """The lab's processes by what they are."""
        found: Found = {}
        spaces: dict[Process, tuple[int, int] | None] = {}
        for process in sorted(processes.all_processes()):
            name = processes.name_of(process.pid)
            if name in ("vpclab-spawner", "vpclab-init"):
                found.setdefault(name.removeprefix("vpclab-"), []).append(process)
            elif any("lab.daemon" in word for word in processes.arguments_of(process.pid)):
                found.setdefault("daemon", []).append(process)
            else:
                spaces[process] = processes.namespace(process.pid, "pid")
        inside = {processes.namespace(process.pid, "pid") for process in found.get("init", ())}
        programs = [process for process, space in spaces.items() if space is not None and space in inside]
        return found | ({"program": programs} if programs else {})

    def _marks(self, found: Found) -> frozenset[str]:
        """What can be seen of the lab from outside while it comes and goes."""
        marks = {f"{len(them)} {what}" for what, them in found.items()}
        marks |= {name for name in FILES if (self.state / name).exists()}
        said = self.folder / "tmp" / "said"
        marks |= {"words"} if said.exists() and said.stat().st_size else set()
        return frozenset(marks | {f"{len(_names())} names"})

    def _ended(self, command: subprocess.Popen[str], allowed: tuple[int, ...]) -> None:
        said = (self.folder / "tmp" / "said").read_text()
        if command.returncode not in allowed:
            raise Failed(f"exit status {command.returncode}, not {allowed}: {said}")
        refused = command.returncode == 3
        if "Traceback" in said or "internal error" in said or (refused and not ONE_LINE.fullmatch(said)):
            raise Failed(f"exit status {command.returncode}, and these words: {said}")

    def _settle(self, verb: str) -> None:
        """Wait until nobody is under way any more; what runs then must be whole, and is taken down."""
        end = time.monotonic() + DEADLINE_S
        lab = Lab(LAB, "", "")
        while self._processes().get("daemon"):
            with contextlib.suppress(LabError):
                nodes = {node["name"]: node["programs"] for node in lab.status()["nodes"]}
                if all(program["state"] == "running" for programs in nodes.values() for program in programs):
                    break
            if time.monotonic() > end:
                raise Failed("the daemon lives, but its lab does not run")
            time.sleep(0.01)
        else:
            return
        with _failing():
            same = [file for file in (BEFORE, AFTER) if not lab.apply(file, dry_run=True)]
        expected = {"web", "app", "visitor", "goes" if same == [BEFORE] else "comes"}
        if not same or {*nodes} != expected or (_named() and _names() != expected):
            raise Failed(f"neither the old lab nor the new one: like {same}, nodes {[*nodes]}, names {_names()}")
        if verb == "up" and same != [BEFORE]:
            raise Failed("not the lab that was to come up")
        if removed := Lab.collect_garbage():
            raise Failed(f"gc touched a lab that runs: {removed}")
        check_ping(verb)
        self._down()

    def _up(self) -> None:
        self._run("up", str(BEFORE))
        check_ping("up")

    def _down(self) -> None:
        with _failing():
            Lab(LAB, "", "").down()
        self._is_clean("down")

    def _is_clean(self, after: str) -> None:
        check_machine(self.machine, self.folder, after)

    def _run(self, *words: str) -> str:
        line = command_line(*words)
        done = subprocess.run(line, capture_output=True, text=True, timeout=DEADLINE_S, check=False)
        if done.returncode:
            raise Failed(f"vpclab {' '.join(words)}: exit status {done.returncode}: {done.stdout}{done.stderr}")
        return done.stdout


@contextlib.contextmanager
def _failing() -> Iterator[None]:
    """What a lab refuses here is a failure of the round."""
    try:
        yield
    except LabError as error:
        raise Failed(str(error)) from None


def _named() -> bool:
    """Whether labs give their namespaces names here."""
    return not ordinary()


def _names() -> set[str]:
    return {path.name for path in NAMES.glob("*")}


def main() -> int:
    """Play rounds."""
    parser = argparse.ArgumentParser(prog="make crash-rounds", description=__doc__.split("\n", 1)[0])
    parser.add_argument("--rounds", type=int, default=500, help="number of the last round")
    parser.add_argument("--from", type=int, default=1, dest="first", help="number of the first round")
    parser.add_argument("--seed", type=int, default=None)
    options = parser.parse_args()
    seed = secrets.randbelow(10**6) if options.seed is None else options.seed
    folder = Path(tempfile.mkdtemp(prefix="vpclab-crashes-"))
    print(f"seed {seed}, rounds {options.first} to {options.rounds}, in {folder}", flush=True)
    rounds = Rounds(folder, seed)
    began = time.monotonic()
    try:
        rounds.measure()
        print(
            ", ".join(f"{v} takes {s:.2f} s, {rounds.changes[v]} changes" for v, s in rounds.span_s.items()), flush=True
        )
        for number in range(options.first, options.rounds + 1):
            print(f"round {number}: {rounds.play(number)}", flush=True)
        rounds.close()
    except Failed as failure:
        print(f"failed (seed {seed}): {failure}", flush=True)
        return 1
    for what, count in sorted(rounds.killed.items()):
        print(f"  {count:4} {what}")
    print(
        f"{options.rounds - options.first + 1} rounds in {time.monotonic() - began:.0f} s: nothing was left", flush=True
    )
    shutil.rmtree(folder)
    return 0


if __name__ == "__main__":
    alone(["-P", "-m", "tests.crashes.rounds", *sys.argv[1:]])
    sys.exit(main())
