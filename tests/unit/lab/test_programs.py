"""The supervisor decides alone: a stand-in launches nothing, and the clock is stepped by hand."""

from __future__ import annotations

import errno
from dataclasses import dataclass, field

import pytest

from lab.node_plan import ProgramPlan, RestartPolicy
from lab.programs import FIRST_BACKOFF_S, LAST_BACKOFF_S, STABLE_S, Program, Supervisor


@dataclass
class Stage:
    """A Launcher that hands out process ids and remembers what it was asked."""

    launched: list[str] = field(default_factory=list)
    signals: list[tuple[int, int]] = field(default_factory=list)
    listening: set[int] = field(default_factory=set)
    refuse: OSError | None = None
    next_pid: int = 100

    def launch(self, node: str, plan: ProgramPlan) -> int:
        if self.refuse is not None:
            raise self.refuse
        self.launched.append(f"{node}/{plan.name}")
        self.next_pid += 1
        return self.next_pid

    def launch_check(self, node: str, plan: ProgramPlan) -> int:
        self.launched.append(f"{node}/{plan.name}?")
        self.next_pid += 1
        return self.next_pid

    def is_listening(self, node: str, port: int) -> bool:
        return port in self.listening

    def signal(self, pid: int, number: int) -> None:
        self.signals.append((pid, number))


def begin(
    restart: RestartPolicy = "never", *, tcp: int | None = None, check: tuple[str, ...] | None = None
) -> tuple[Stage, Supervisor, Program]:
    stage = Stage()
    supervisor = Supervisor(stage)
    plan = ProgramPlan(name="http", command=("serve",), ready_tcp=tcp, ready_command=check, restart=restart)
    supervisor.add("web", [plan], "/logs")
    supervisor.start(0.0)
    return stage, supervisor, supervisor.programs[0]


def end(supervisor: Supervisor, program: Program, status: int, now: float) -> None:
    assert program.pid is not None
    assert supervisor.ended(program.pid, status, now) is program


def test_a_program_without_a_check_runs_at_once() -> None:
    stage, supervisor, program = begin()
    assert (program.state, program.pid, program.log) == ("running", 101, "/logs/http.log")
    assert stage.launched == ["web/http"]
    assert list(supervisor.unready(0.0)) == []
    assert supervisor.due_in(0.0) is None


def test_start_starts_each_program_once() -> None:
    stage, supervisor, _ = begin()
    supervisor.start(1.0)
    assert stage.launched == ["web/http"]


def test_a_port_is_asked_for_until_somebody_listens() -> None:
    stage, supervisor, program = begin(tcp=80)
    now = 0.0
    for _ in range(6):
        now += supervisor.due_in(now) or 0.0
        supervisor.work(now)
        assert program.state == "starting"
    assert now < 1.0
    stage.listening.add(80)
    supervisor.work(now + (supervisor.due_in(now) or 0.0))
    assert program.state == "running"
    assert supervisor.due_in(now) is None


def test_a_program_that_is_not_ready_in_time_has_failed_and_may_recover() -> None:
    stage, supervisor, program = begin(tcp=80)
    supervisor.work(29.9)
    assert program.state == "starting"
    supervisor.work(30.2)
    assert (program.state, program.message) == ("failed", "not ready within 30 s (TCP port 80)")
    assert [pointless for _, pointless in supervisor.unready(30.2)] == [True]
    stage.listening.add(80)
    supervisor.work(31.0)
    assert (program.state, program.message) == ("running", "")


def test_a_command_that_succeeds_makes_a_program_ready() -> None:
    stage, supervisor, program = begin(check=("ask",))
    supervisor.work(0.02)
    assert stage.launched == ["web/http", "web/http?"]
    assert program.check_pid is not None
    supervisor.ended(program.check_pid, 1, 0.03)
    assert not program.was_ready
    supervisor.work(0.5)
    assert program.check_pid is not None
    supervisor.ended(program.check_pid, 0, 0.6)
    assert program.state == "running"


def test_a_command_that_hangs_is_killed_and_asked_again() -> None:
    stage, supervisor, program = begin(check=("ask",))
    supervisor.work(0.02)
    hung = program.check_pid
    assert hung is not None
    supervisor.work(5.0)
    assert stage.signals == []
    supervisor.work(10.1)
    assert stage.signals == [(hung, 9)]
    supervisor.ended(hung, -9, 10.2)
    supervisor.work(11.0)
    assert program.check_pid not in (None, hung)


def test_a_program_that_cannot_be_started_has_failed_for_good() -> None:
    stage = Stage(refuse=OSError(errno.ENOENT, "No such file or directory", "nginx"))
    supervisor = Supervisor(stage)
    supervisor.add("web", [ProgramPlan(name="http", command=("nginx",), restart="always")], "/logs")
    supervisor.start(0.0)
    program = supervisor.programs[0]
    assert (program.state, program.message) == ("failed", "cannot be started: nginx: No such file or directory")
    assert supervisor.due_in(0.0) is None


@pytest.mark.parametrize(
    ("restart", "status", "state"),
    [
        ("never", 0, "exited"),
        ("never", 3, "failed"),
        ("on-failure", 0, "exited"),
        ("on-failure", -11, "restarting"),
        ("always", 0, "restarting"),
        ("always", 1, "restarting"),
    ],
)
def test_what_happens_after_death(restart: RestartPolicy, status: int, state: str) -> None:
    _, supervisor, program = begin(restart)
    end(supervisor, program, status, 1.0)
    assert (program.state, program.exit_status, program.pid) == (state, status, None)


def test_death_is_told_in_words() -> None:
    _, supervisor, program = begin()
    end(supervisor, program, -9, 1.0)
    assert program.message == "killed by signal 9"


def test_ending_before_it_was_ready_is_a_failure_whatever_the_status() -> None:
    _, supervisor, program = begin(tcp=80)
    end(supervisor, program, 0, 1.0)
    assert (program.state, program.message) == ("failed", "exited with status 0 before it was ready")


def test_restarts_back_off_and_begin_anew_after_a_stable_run() -> None:
    stage, supervisor, program = begin("always")
    now, pauses = 0.0, []
    for _ in range(10):
        end(supervisor, program, 1, now)
        pause = supervisor.due_in(now)
        assert pause is not None
        pauses.append(pause)
        supervisor.work(now + pause / 2)
        assert program.pid is None
        now += pause
        supervisor.work(now)
        assert program.pid is not None
    assert pauses[:3] == [FIRST_BACKOFF_S, FIRST_BACKOFF_S * 2, FIRST_BACKOFF_S * 4]
    assert pauses[-1] == LAST_BACKOFF_S
    assert program.restarts == 10
    now += STABLE_S
    end(supervisor, program, 1, now)
    assert supervisor.due_in(now) == FIRST_BACKOFF_S
    assert len(stage.launched) == 11


def test_a_crash_loop_before_readiness_is_given_up_on() -> None:
    _, supervisor, program = begin("always", tcp=80)
    end(supervisor, program, 1, 1.0)
    assert [pointless for _, pointless in supervisor.unready(2.0)] == [False]
    assert [pointless for _, pointless in supervisor.unready(30.0)] == [True]


def test_stopping_ends_restarts() -> None:
    stage, supervisor, program = begin("always")
    assert supervisor.stop([program], 15) == [program]
    assert stage.signals == [(program.pid, 15)]
    end(supervisor, program, -15, 1.0)
    assert program.state == "stopped"
    assert supervisor.due_in(1.0) is None


def test_stopping_a_program_that_waits_for_its_restart() -> None:
    _, supervisor, program = begin("always")
    end(supervisor, program, 1, 1.0)
    assert supervisor.stop([program], 15) == []
    assert program.state == "stopped"
    supervisor.work(100.0)
    assert program.pid is None


def test_children_of_others_are_not_programs() -> None:
    _, supervisor, _ = begin()
    assert supervisor.ended(4711, 0, 1.0) is None


def test_a_forgotten_program_is_not_looked_after() -> None:
    _, supervisor, program = begin("always")
    pid = program.pid
    assert pid is not None
    supervisor.drop([program])
    assert supervisor.ended(pid, 1, 1.0) is None
    assert supervisor.programs == []


def test_restarting_begins_anew() -> None:
    stage, supervisor, program = begin("on-failure", tcp=80)
    stage.listening.add(80)
    supervisor.work(0.1)
    first = program.pid
    assert (program.state, supervisor.stop([program], 15)) == ("running", [program])
    end(supervisor, program, -15, 1.0)
    assert (program.state, supervisor.due_in(1.0)) == ("stopped", None)
    stage.listening.clear()
    supervisor.restart([program], 1.0)
    assert (program.state, program.restarts, program.was_ready) == ("starting", 1, False)
    assert program.pid not in (None, first)
    assert [found for found, _ in supervisor.unready(1.0)] == [program]
    stage.listening.add(80)
    supervisor.work(2.0)
    assert program.state == "running"
    end(supervisor, program, 1, 3.0)
    assert program.due == 3.25  # it is looked after again: after the first back-off


def test_a_program_that_failed_or_never_started_can_be_started() -> None:
    _, supervisor, program = begin("never")
    end(supervisor, program, 3, 1.0)
    assert program.state == "failed"
    supervisor.restart([program], 2.0)
    assert (program.state, program.message, program.restarts) == ("running", "", 1)
    supervisor.add("web", [ProgramPlan(name="late", command=("serve",))], "/logs")
    late = supervisor.programs[1]
    assert supervisor.stop([late], 15) == []
    supervisor.restart([late], 2.0)
    assert (late.state, late.restarts) == ("running", 0)
