"""Programs of the nodes: start, readiness, death, restart. No clock, no process in here: both come from outside.

A `Supervisor` decides; a `Launcher` (the spawner, or a test's stand-in) acts. Times are seconds of one monotonic clock.

    waiting ── start ──> starting ── ready ──> running
                            │                     │
                            └────── it ends ──────┴──> restarting ── back-off over ──> starting
                                        └──> exited (status 0, no restart) or failed

A program that is not ready in time is *failed* although it runs: it keeps being asked, and *running* when it answers
after all.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any, Literal, Protocol

from lab.node_plan import ProgramPlan
from lab.scarcity import said

State = Literal["waiting", "starting", "running", "restarting", "exited", "failed", "stopped"]
FIRST_BACKOFF_S = 0.25
LAST_BACKOFF_S = 30.0
STABLE_S = 10.0
"""A run at least this long was a success: the next restart starts from the first back-off again."""
FIRST_PROBE_S = 0.01
LAST_PROBE_S = 0.25
"""Readiness is asked for often at first: most programs listen within milliseconds."""
COMMAND_LIMIT_S = 10.0
"""A readiness command that takes longer is killed and counts as "not yet"."""


class Launcher(Protocol):
    """Acts for the supervisor."""

    def launch(self, node: str, plan: ProgramPlan) -> int:
        """Start the program; its pid. Raises OSError when it cannot be started."""

    def launch_check(self, node: str, plan: ProgramPlan) -> int:
        """Start `plan.ready_command`; its pid. Raises OSError."""

    def is_listening(self, node: str, port: int) -> bool:
        """Whether something in the node listens on this TCP port."""

    def signal(self, pid: int, number: int) -> None:
        """Send a signal to the process group that this process leads; nothing happens when it is gone."""


@dataclass(slots=True, kw_only=True)
class Program:
    """One program and what became of it."""

    node: str
    plan: ProgramPlan
    log: str
    state: State = "waiting"
    pid: int | None = None
    exit_status: int | None = None
    restarts: int = 0
    message: str = ""
    was_ready: bool = False
    first_start: float | None = None
    started: float = 0.0
    failures: int = 0
    """Runs in a row that ended before they were stable."""
    due: float | None = None
    """When there is something to do next: restart or probe."""
    probe_s: float = FIRST_PROBE_S
    check_pid: int | None = None
    check_started: float = 0.0
    stopping: bool = False

    def facts(self) -> dict[str, Any]:
        """For `status`."""
        return {
            "name": self.plan.name,
            "state": self.state,
            "pid": self.pid,
            "exit_status": self.exit_status,
            "restarts": self.restarts,
            "message": self.message,
            "log": self.log,
        }

    @property
    def title(self) -> str:
        """For logs."""
        return f"{self.node}/{self.plan.name}"


@dataclass(slots=True)
class Supervisor:
    """All programs of a lab."""

    launcher: Launcher
    programs: list[Program] = field(default_factory=list)
    _pids: dict[int, Program] = field(default_factory=dict)

    def add(self, node: str, plans: Iterable[ProgramPlan], folder: str) -> None:
        """Take programs of a node on, not yet started; their logs go to `folder`."""
        for plan in plans:
            self.programs.append(Program(node=node, plan=plan, log=f"{folder}/{plan.name}.log"))

    def of_node(self, node: str) -> list[Program]:
        """Programs of a node, in the order of the lab file."""
        return [program for program in self.programs if program.node == node]

    def start(self, now: float) -> None:
        """Start every program that waits."""
        for program in self.programs:
            if program.state == "waiting":
                program.first_start = now
                self._launch(program, now)

    def drop(self, programs: Iterable[Program]) -> None:
        """Forget programs; whatever still runs is no longer looked after."""
        gone = list(programs)
        self.programs = [program for program in self.programs if program not in gone]
        self._pids = {pid: program for pid, program in self._pids.items() if program not in gone}

    def stop(self, programs: Iterable[Program], number: int) -> list[Program]:
        """Signal programs to end, for good; returns those that still run."""
        running = []
        for program in programs:
            program.stopping, program.due = True, None
            for pid in (program.pid, program.check_pid):
                if pid is not None:
                    self.launcher.signal(pid, number)
            if program.pid is None and program.state in ("waiting", "restarting"):
                program.state, program.message = "stopped", ""
            if program.pid is not None or program.check_pid is not None:
                running.append(program)
        return running

    def restart(self, programs: Iterable[Program], now: float) -> None:
        """Start programs again that do not run (see `stop`), as if for the first time."""
        for program in programs:
            if program.first_start is not None:
                program.restarts += 1
            program.was_ready, program.first_start, program.failures = False, now, 0
            self._launch(program, now)

    def ended(self, pid: int, status: int, now: float) -> Program | None:
        """A child has ended with this status (minus the signal number); returns the program when it was one."""
        program = self._pids.pop(pid, None)
        if program is None:
            return None
        if pid == program.check_pid:
            program.check_pid = None
            if status == 0:
                self._ready(program)
            return None
        program.pid, program.exit_status, program.due = None, status, None
        if program.check_pid is not None:
            self.launcher.signal(program.check_pid, 9)
        self._after_death(program, describe(status), status == 0, now)
        return program

    def due_in(self, now: float) -> float | None:
        """Seconds until `work` has something to do; None when only events can bring something."""
        times = [program.due for program in self.programs if program.due is not None]
        return max(0.0, min(times) - now) if times else None

    def work(self, now: float) -> None:
        """Restart and probe what is due."""
        for program in self.programs:
            if program.due is not None and program.due <= now:
                program.due = None
                if program.state == "restarting":
                    program.restarts += 1
                    self._launch(program, now)
                elif program.pid is not None:
                    self._probe(program, now)

    def unready(self, now: float) -> Iterator[tuple[Program, bool]]:
        """Started programs that were never ready, or failed; each with whether there is no point in waiting on."""
        for program in self.programs:
            if program.state == "failed":
                yield program, True
            elif program.state == "starting" and not program.was_ready:
                yield program, False  # its next probe fails it when it is late
            elif program.state == "restarting" and not program.was_ready:
                late = program.first_start is not None and now - program.first_start >= program.plan.ready_timeout_s
                yield program, late

    def _launch(self, program: Program, now: float) -> None:
        program.started, program.message, program.stopping = now, "", False
        try:
            program.pid = self.launcher.launch(program.node, program.plan)
        except OSError as error:
            # Trying again would end the same way: the file is not there, or not ours to run.
            program.pid, program.state = None, "failed"
            program.message = f"cannot be started: {said(error)}"
            return
        self._pids[program.pid] = program
        program.state, program.probe_s = "starting", FIRST_PROBE_S
        if program.plan.ready_tcp is None and program.plan.ready_command is None:
            self._ready(program)
        else:
            program.due = now + program.probe_s

    def _ready(self, program: Program) -> None:
        if program.pid is not None and not program.stopping:
            program.state, program.message, program.was_ready, program.due = "running", "", True, None

    def _probe(self, program: Program, now: float) -> None:
        plan = program.plan
        if plan.ready_tcp is not None and self.launcher.is_listening(program.node, plan.ready_tcp):
            self._ready(program)
            return
        limit = plan.ready_timeout_s
        if not program.was_ready and program.first_start is not None and now - program.first_start >= limit:
            asked = f"TCP port {plan.ready_tcp}" if plan.ready_tcp is not None else " ".join(plan.ready_command or ())
            program.state, program.message = "failed", f"not ready within {limit:g} s ({asked})"
        program.probe_s = min(program.probe_s * 2, LAST_PROBE_S)
        program.due = now + program.probe_s
        if plan.ready_command is not None:
            self._probe_command(program, now)

    def _probe_command(self, program: Program, now: float) -> None:
        if program.check_pid is not None:
            if now - program.check_started > COMMAND_LIMIT_S:
                self.launcher.signal(program.check_pid, 9)
            return
        try:
            program.check_pid = self.launcher.launch_check(program.node, program.plan)
        except OSError as error:
            program.state, program.due = "failed", None
            program.message = f"readiness command cannot be started: {said(error)}"
            return
        program.check_started = now
        self._pids[program.check_pid] = program

    def _after_death(self, program: Program, how: str, success: bool, now: float) -> None:
        if program.stopping:
            program.state, program.message = "stopped", ""
            return
        restart = program.plan.restart
        if restart == "never" or (restart == "on-failure" and success):
            if success and program.was_ready:
                program.state, program.message = "exited", ""
            else:
                program.state = "failed"
                program.message = how if program.was_ready else f"{how} before it was ready"
            return
        program.failures = 0 if now - program.started >= STABLE_S else program.failures + 1
        pause = min(LAST_BACKOFF_S, FIRST_BACKOFF_S * 2 ** max(0, min(program.failures - 1, 16)))
        program.state, program.due = "restarting", now + pause
        program.message = f"{how}; next start after {pause:g} s"


def describe(status: int) -> str:
    """An exit status (minus the signal number) in words."""
    return f"killed by signal {-status}" if status < 0 else f"exited with status {status}"
