"""Programs of nodes as they really run: logs, readiness, death, restart, and that nothing survives the lab."""

from __future__ import annotations

import os
import signal
import socket
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from dataplane.errors import LabError
from lab import processes
from lab.enter import open_socket
from lab.node_plan import ProgramPlan, RestartPolicy
from lab.node_status import ProgramStatus
from lab.runtime import Runtime
from lab.state import NODES, RUNTIME, LabState
from tests.e2e.lab.stage import DEADLINE_S, eventually, interface, is_done_within, plan

pytestmark = pytest.mark.e2e

SERVE = (sys.executable, "-u", "-m", "http.server", "80")


def script(text: str, name: str = "job", *, restart: RestartPolicy = "never", **options: object) -> ProgramPlan:
    return ProgramPlan(name=name, command=("sh", "-c", text), restart=restart, **options)  # type: ignore[arg-type]


def run(runtime: Runtime, *programs: ProgramPlan) -> None:
    runtime.add_nodes([plan("web", programs=programs)])
    runtime.start_programs()


def status(runtime: Runtime, index: int = 0) -> ProgramStatus:
    return runtime.status()["web"].programs[index]


def test_programs_wait_until_they_are_started(runtime: Runtime) -> None:
    runtime.add_nodes([plan("web", programs=[script("echo never")])])
    assert (status(runtime).state, status(runtime).pid) == ("waiting", None)
    runtime.wait_ready()


def test_a_server_is_ready_once_it_listens(runtime: Runtime) -> None:
    run(runtime, ProgramPlan(name="http", command=SERVE, ready_tcp=80))
    runtime.wait_ready()
    assert status(runtime).state == "running"
    with open_socket(runtime.view("web"), socket.AF_INET, socket.SOCK_STREAM) as client:
        client.connect(("10.0.1.10", 80))


def test_a_server_on_one_address_or_on_ipv6_is_ready_too(runtime: Runtime) -> None:
    runtime.add_nodes(
        [
            plan(
                "web",
                interface("10.0.1.10/24", "2001:db8::10/64"),
                programs=[
                    ProgramPlan(name="one", command=(*SERVE[:-1], "81", "--bind", "10.0.1.10"), ready_tcp=81),
                    ProgramPlan(name="six", command=(*SERVE[:-1], "82", "--bind", "2001:db8::10"), ready_tcp=82),
                ],
            )
        ]
    )
    runtime.start_programs()
    runtime.wait_ready()
    assert [program.state for program in runtime.status()["web"].programs] == ["running", "running"]


def test_a_command_says_when_a_program_is_ready(runtime: Runtime, tmp_path: Path) -> None:
    flag = tmp_path / "flag"
    run(runtime, script(f"sleep 0.3; touch {flag}; sleep 1000", ready_command=("test", "-e", str(flag))))
    runtime.wait_ready()
    assert flag.exists()
    assert status(runtime).state == "running"


def test_what_a_program_says_and_sees(runtime: Runtime, tmp_path: Path) -> None:
    runtime.add_nodes(
        [
            plan(
                "web",
                environment={"A": "node", "B": "node"},
                programs=[
                    script(
                        'echo "$A $B $(pwd) $(hostname) $VPCLAB_NODE"; echo oops >&2; read x || echo no input',
                        environment={"B": "program"},
                        working_directory=str(tmp_path),
                    )
                ],
            )
        ]
    )
    runtime.start_programs()
    runtime.wait_ready()
    done = eventually(lambda: (s := status(runtime)).state == "exited" and s, "it ended")
    assert done.exit_status == 0
    assert Path(done.log).read_text() == f"node program {tmp_path} web web\noops\nno input\n"


def test_a_program_that_cannot_be_started(runtime: Runtime) -> None:
    run(runtime, ProgramPlan(name="http", command=("no-such-server",), restart="always"))
    with pytest.raises(
        LabError, match=r"program web/http: cannot be started: no-such-server: No such file or directory"
    ):
        runtime.wait_ready()
    assert status(runtime).state == "failed"


def test_a_program_that_dies_is_noticed_with_its_last_words(runtime: Runtime) -> None:
    run(runtime, script("echo cannot bind >&2; exit 3"))
    failed = eventually(lambda: (s := status(runtime)).state == "failed" and s, "it failed")
    assert (failed.exit_status, failed.message) == (3, "exited with status 3")
    with pytest.raises(LabError, match=r"program web/job: exited with status 3; its log .*/job.log ends with: cannot"):
        runtime.wait_ready()


def test_a_program_that_puts_a_pipe_in_place_of_its_log_is_started_again(
    state: LabState, runtime: Runtime, tmp_path: Path
) -> None:
    """Nobody waits for who reads it: who starts programs does so for all nodes."""
    log, flag = state.path / NODES / "web" / "job.log", tmp_path / "flag"
    run(runtime, script(f"test -e {flag} && exec sleep 1000; touch {flag}; rm {log}; mkfifo {log}", restart="always"))
    again = eventually(lambda: (s := status(runtime)).restarts == 1 and s.pid and s, "it was started again")
    assert (again.log, again.state) == (str(log), "running")
    assert log.is_file()


@pytest.mark.parametrize("end", ["rm {log}; mkfifo {log}", "ln -sf /dev/zero {log}"], ids=["pipe", "endless"])
def test_what_a_program_leaves_in_place_of_its_log_has_no_last_words(
    state: LabState, runtime: Runtime, end: str
) -> None:
    log = state.path / NODES / "web" / "job.log"
    run(runtime, script(f"{end.format(log=log)}; exit 3"))
    eventually(lambda: status(runtime).state == "failed", "it failed")
    with pytest.raises(LabError, match=r"program web/job: exited with status 3; its log .*/job.log is empty"):
        runtime.wait_ready()


def test_a_program_that_is_not_ready_in_time(runtime: Runtime) -> None:
    run(runtime, script("sleep 1000", ready_tcp=80, ready_timeout_s=0.3))
    with pytest.raises(LabError, match=r"program web/job: not ready within 0.3 s \(TCP port 80\); its log .* is empty"):
        runtime.wait_ready()


def test_a_killed_program_is_started_again(runtime: Runtime) -> None:
    run(runtime, script("echo begun; sleep 1000", restart="on-failure"))
    log = Path(status(runtime).log)
    eventually(lambda: log.exists() and log.read_text() == "begun\n", "it runs")
    first = status(runtime).pid
    assert first is not None
    process = processes.find(first)
    assert process is not None
    process.kill()
    again = eventually(lambda: (s := status(runtime)).restarts == 1 and s.pid and s, "it was started again")
    assert again.pid != first
    assert (again.state, again.exit_status) == ("running", -signal.SIGKILL)
    eventually(lambda: log.read_text() == "begun\nbegun\n", "both runs wrote to one log")


def test_without_process_1_nothing_is_said_to_be_started(runtime: Runtime, state: LabState) -> None:
    """It takes a while to be gone after it was killed; what is forked meanwhile gets "Cannot allocate memory"."""
    run(runtime, script("exec sleep 30"))
    facts = state.read(RUNTIME)
    os.kill(facts["pid"], signal.SIGSTOP)  # so that the request is there before anybody has noticed
    os.kill(facts["init"], signal.SIGKILL)
    with ThreadPoolExecutor() as threads:
        restarted = threads.submit(runtime.restart, "web")
        eventually(restarted.running, "the request is made")
        os.kill(facts["pid"], signal.SIGCONT)
        with pytest.raises(LabError, match="has ended"):
            restarted.result(DEADLINE_S)


def test_programs_are_started_again_on_demand(runtime: Runtime) -> None:
    run(runtime, script("echo a; sleep 1000", "a"), script("trap '' TERM; while :; do sleep 1; done", "stubborn"))
    before = [program.pid for program in runtime.status()["web"].programs]
    runtime.restart("web", "a")
    first, second = runtime.status()["web"].programs
    assert (first.state, first.restarts, second.pid, second.restarts) == ("running", 1, before[1], 0)
    assert first.pid not in (None, before[0])

    def restart() -> None:
        runtime.restart("web")
        runtime.wait_ready("web")

    assert is_done_within(1, restart)  # killed, where it does not listen
    again = runtime.status()["web"].programs
    assert again[0].restarts == again[1].restarts + 1
    assert not {program.pid for program in again} & {first.pid, second.pid, None}


def test_what_cannot_be_started_again(runtime: Runtime) -> None:
    run(runtime, script("sleep 1000"))
    runtime.add_nodes([plan("bare", interface("10.0.1.11/24", port=2))])
    with pytest.raises(LabError, match="node web has no program 'jbo'; it has job"):
        runtime.restart("web", "jbo")
    with pytest.raises(LabError, match="node bare has no programs"):
        runtime.restart("bare")
    with pytest.raises(LabError, match="no node 'nowhere'"):
        runtime.restart("nowhere")


def test_update_changes_only_the_programs_that_differ(runtime: Runtime) -> None:
    keep, change, go = script("sleep 1000", "keep"), script("sleep 1000", "change"), script("sleep 1000", "go")
    run(runtime, keep, change, go)
    before = {program.name: program.pid for program in runtime.status()["web"].programs}
    runtime.update_node(plan("web", programs=[keep, script("sleep 2000", "change"), script("sleep 1000", "new")]))
    runtime.start_programs()
    after = {program.name: program for program in runtime.status()["web"].programs}
    assert sorted(after) == ["change", "keep", "new"]
    assert after["keep"].pid == before["keep"]
    assert after["change"].pid not in (None, before["change"])
    assert after["new"].state == "running"
    assert processes.find(before["go"] or 0) is None


def test_close_lets_programs_end_in_order_but_not_for_ever(runtime: Runtime, tmp_path: Path) -> None:
    polite, stubborn = tmp_path / "polite", tmp_path / "stubborn"
    run(
        runtime,
        script(f"trap 'echo bye > {polite}; exit' TERM; echo up; while :; do sleep 0.02; done", "polite"),
        script(f"trap 'echo no > {stubborn}' TERM; echo up; while :; do sleep 0.02; done", "stubborn"),
    )
    for index in (0, 1):
        log = Path(status(runtime, index).log)
        eventually(lambda log=log: log.exists() and log.read_text() == "up\n", "its trap is set")  # type: ignore[misc]
    began = time.monotonic()
    runtime.close(grace_s=3)
    assert time.monotonic() - began < 3 + DEADLINE_S
    assert polite.read_text() == "bye\n"
    assert stubborn.read_text() == "no\n"


def test_no_process_of_a_program_survives_whatever_it_does(runtime: Runtime) -> None:
    """A new session, a double fork, an empty environment: all inside the lab's PID namespace."""
    nonce = str(10_000_000 + int.from_bytes(os.urandom(3), "big"))
    run(runtime, script(f"env -i setsid setsid sleep {nonce} & echo done; sleep 1000"))
    eventually(lambda: f"sleep {nonce}" in all_commands(), "it got away")
    runtime.close()
    assert f"sleep {nonce}" not in all_commands()


def test_programs_have_the_usual_limit_of_open_files(runtime: Runtime) -> None:
    run(runtime, script("ulimit -Sn"))
    done = eventually(lambda: (s := status(runtime)).state == "exited" and s, "it ended")
    assert int(Path(done.log).read_text()) <= 1 << 20
    assert os.path.getsize(done.log) > 0


def all_commands() -> list[str]:
    found = []
    for process in processes.all_processes():
        try:
            found.append(Path(f"/proc/{process.pid}/cmdline").read_bytes().rstrip(b"\0").replace(b"\0", b" ").decode())
        except OSError:
            continue
    return found
