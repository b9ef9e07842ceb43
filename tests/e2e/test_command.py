"""The command `vpclab` with labs that run: one process per call, as a user types it."""

from __future__ import annotations

import itertools
import os
import pty
import re
import select
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from lab import processes
from tests.conftest import names_and_states
from tests.e2e.command import Command
from tests.e2e.conftest import EXAMPLES

QUICKSTART = EXAMPLES / "quickstart.yaml"


@pytest.fixture(scope="module")
def command(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Command]:
    made = Command(tmp_path_factory.mktemp("state"))
    yield made
    for name in [row["name"] for row in made.json("labs")]:
        made.run("down", name)


@pytest.fixture(scope="module")
def shop(command: Command) -> Iterator[Command]:
    """The quickstart lab under a name of its own, the only one that runs."""
    out = command.run("up", str(QUICKSTART), "--name", "shop").stdout
    assert out.startswith("lab shop is up: 5 nodes in ")
    yield command
    assert command.run("down", "shop").stdout == "lab shop is down\n"
    assert not (command.state / "shop").exists()


def test_exec_is_the_command_to_everybody_outside(shop: Command) -> None:
    assert shop.run("exec", "app", "--", "hostname").stdout == "app\n"
    assert shop.run("exec", "app", "--", "cat", input="through\n").stdout == "through\n"
    shop.run("exec", "app", "--", "sh", "-c", "exit 42", status=42)
    shop.run("exec", "app", "--", "sh", "-c", "kill -TERM $$", status=143)
    assert "no such command" in shop.run("exec", "app", "--", "nonsense", status=127).stderr
    assert "not executable" in shop.run("exec", "app", "--", "/etc/passwd", status=126).stderr
    assert "did you mean app" in shop.run("exec", "ap", "--", "true", status=2).stderr


def test_exec_answers_over_the_nat_gateway(shop: Command) -> None:
    assert "<" in shop.run("exec", "app", "--", "curl", "-s", "-m", "20", "http://example/").stdout


def test_exec_has_the_terminal(shop: Command) -> None:
    ours, theirs = pty.openpty()
    line = shop.line("exec", "app", "--", "sh", "-c", "tty && stty size && read word && echo got $word")
    with subprocess.Popen(line, env=shop.environment, stdin=theirs, stdout=theirs, stderr=theirs) as child:
        os.close(theirs)
        os.write(ours, b"it\n")
        seen = b""
        while b"got it" not in seen and select.select([ours], [], [], 60)[0]:
            seen += os.read(ours, 1000)
        assert child.wait(60) == 0
    os.close(ours)
    assert b"/dev/pts/" in seen


def test_exec_passes_signals_on(shop: Command) -> None:
    line = shop.line("exec", "app", "--", "sh", "-c", "trap 'echo ended; exit 5' TERM; echo up; sleep 30 & wait")
    with subprocess.Popen(line, env=shop.environment, stdout=subprocess.PIPE, text=True) as child:
        assert child.stdout is not None
        assert child.stdout.readline() == "up\n"
        child.send_signal(signal.SIGTERM)
        assert child.stdout.readline() == "ended\n"
        assert child.wait(60) == 5


def test_ping_draws_the_path_on_one_screen(shop: Command) -> None:
    out = shop.run("ping", "app", "web", "-c", "1").stdout
    assert "1 packets transmitted, 1 received" in out
    assert "network-acl shop/edge" in out
    assert out.rstrip().endswith("=> DELIVERED to interface app/eth0")
    assert len(out.splitlines()) < 40
    failed = shop.run("ping", "visitor", "web", "-c", "1", status=1)
    assert "0 received" in failed.stdout
    assert "security group shop/web" in failed.stderr
    found = shop.json("ping", "app", "web", "-c", "1")
    assert (found["ping"]["received"], found["trace"]["reachable"]) == (1, True)


def test_trace_names_the_table_that_lacks_the_route(shop: Command) -> None:
    out = shop.run("trace", "db", "example", "--proto", "tcp", "--port", "80", status=1).stdout
    assert "DROPPED by route-table store/main: the route table has no route to the destination" in out
    assert shop.json("trace", "app", "web", "--port", "80")["reachable"] is True
    assert "no such protocol" in shop.run("trace", "app", "web", "--proto", "x", status=2).stderr


def test_tables(shop: Command) -> None:
    assert "http running" in shop.run("status").stdout
    assert "SESSION_LIMIT" in shop.run("status", "--limits").stdout
    assert 0 < shop.json("status", "--limits")["bytes"] < 512 << 20
    names = [node["name"] for node in shop.json("status")["nodes"]]
    assert names == ["web", "app", "db", "example", "visitor"]
    assert {row["table"] for row in shop.json("routes")} == {"shop/main", "shop/public", "shop/private", "store/main"}
    assert "blackhole" not in shop.run("routes", "shop/private").stdout
    nat = shop.json("nat")
    assert nat["mappings"][0]["public"] == "203.0.113.10"
    [gateway] = nat["gateways"]
    assert (gateway["gateway"], gateway["public"]) == ("shop/nat", ["203.0.113.10"])
    shop.run("exec", "app", "--", "curl", "-sS", "-o", "/dev/null", "http://198.51.100.10/")
    counted = re.search(r"^ConnectionAttemptCount +(\d+)", shop.run("nat").stdout, re.MULTILINE)
    assert counted is not None
    assert int(counted[1]) == gateway["metrics"]["ConnectionAttemptCount"] + 1
    assert isinstance(shop.json("flows"), list)
    assert [row["name"] for row in shop.json("labs")] == ["shop"]


def test_capture_to_a_pipe_and_to_a_file(shop: Command, tmp_path: Path) -> None:
    target = tmp_path / "app.pcapng"
    line = shop.line("capture", "app", "-w", str(target), "-c", "2")
    with subprocess.Popen(line, env=shop.environment, stderr=subprocess.PIPE, text=True) as child:
        assert child.stderr is not None
        assert "capturing app/eth0" in child.stderr.readline()
        shop.run("exec", "app", "--", "ping", "-c", "5", "-i", "0.2", "10.0.1.10")
        assert child.wait(60) == 0
    assert target.read_bytes()[:4] == b"\x0a\x0d\x0d\x0a"
    with subprocess.Popen(
        shop.line("capture", "app", "-w", "-"), env=shop.environment, stdout=subprocess.PIPE
    ) as child:
        assert child.stdout is not None
        assert child.stdout.read(4) == b"\x0a\x0d\x0d\x0a"
        child.send_signal(signal.SIGINT)
        child.stdout.read()
        assert child.wait(60) == 0
    assert "No such file" in shop.run("capture", "app", "-w", "/nowhere/x", status=3).stderr


def test_restart_starts_programs_again_within_a_second(shop: Command) -> None:
    def facts() -> dict[str, Any]:
        (web,) = [node for node in shop.json("status")["nodes"] if node["name"] == "web"]
        return dict(web["programs"][0])

    before = facts()
    end = time.monotonic() + 60
    for tries in itertools.count(1):  # a machine that is busy with others may need many
        assert time.monotonic() < end, "never within a second"
        done = shop.run("restart", f"web/{before['name']}").stdout.splitlines()
        after = facts()
        assert done[0] == f"web/{before['name']} running, pid {after['pid']}"
        assert (after["restarts"], after["pid"] == before["pid"]) == (before["restarts"] + tries, False)
        if float(done[1].removeprefix("in ").removesuffix(" s")) < 1:
            break
    assert "node app has no programs" in shop.run("restart", "app", status=2).stderr
    assert f"it has {before['name']}" in shop.run("restart", "web/nonsense", status=2).stderr
    assert "did you mean web" in shop.run("restart", "wep", status=2).stderr


def test_a_running_lab_is_not_started_again(shop: Command) -> None:
    error = shop.run("up", str(QUICKSTART), "--name", "shop", status=3).stderr
    pid = shop.json("status")["pid"]
    assert error == f"vpclab: lab 'shop' is running already (daemon {pid}); stop it first: vpclab down shop\n"


def test_the_report_agrees_with_itself(shop: Command) -> None:
    found = shop.json("report")
    assert all(probe["agrees"] for row in found["rows"] for probe in row["probes"])
    rows = {(row["source"], row["address"]): row["probes"] for row in found["rows"]}
    web = {probe["kind"]: probe for probe in rows["visitor", "203.0.113.20"]}
    assert web["tcp"]["outcome"] == "open"
    assert "shop/web" in web["ping"]["why"]
    blocked = rows["db", "198.51.100.10"][0]
    assert blocked["why"] == "route-table store/main has no route to 198.51.100.10"
    text = shop.run("report").stdout
    assert "Try next:" in text
    assert "BUG" not in text


def test_two_labs_need_a_name(shop: Command) -> None:
    shop.run("up", str(EXAMPLES / "overlapping.yaml"), "--name", "second")
    try:
        assert "several labs are running (second, shop)" in shop.run("status", status=3).stderr
        assert len(shop.json("--lab", "shop", "status")["nodes"]) == 5
        assert len(shop.json("status", "--lab", "shop")["nodes"]) == 5
        assert shop.run("exec", "--lab", "shop", "app", "--", "hostname").stdout == "app\n"
    finally:
        shop.run("down", "second")
    assert "not running" in shop.run("--lab", "second", "status", status=3).stderr


def test_programs_that_do_not_get_ready_are_told_and_left_for_inspection(command: Command, tmp_path: Path) -> None:
    file = tmp_path / "broken.yaml"
    file.write_text(
        "version: 1\ninternet: {hosts: {h: {address: 198.51.100.10, programs: "
        "{bad: {command: [sh, -c, 'echo it broke; exit 3'], ready: {tcp: 80}}}}}}\n"
    )
    error = command.run("up", str(file), status=1).stderr
    assert "the lab is up, but program h/bad" in error
    assert "it broke" in error
    assert "failed" in command.run("--lab", "broken", "status").stdout
    command.run("down", "broken")


def processes_of(lab: str) -> set[str]:
    """Everything that carries an id of that lab."""
    ids = {process: processes.lab_of(process.pid) or "" for process in processes.all_processes()}
    return {f"process {process.pid} of {lab_id}" for process, lab_id in ids.items() if lab_id.startswith(f"{lab}-")}


@pytest.mark.root
def test_a_killed_daemon_leaves_nothing_that_gc_does_not_remove(command: Command) -> None:
    before = names_and_states()
    command.run("up", str(QUICKSTART), "--name", "doomed")
    assert names_and_states() > before
    assert processes_of("doomed")
    command.kill_daemon("doomed")
    removed = command.run("gc").stdout
    assert "removed of lab doomed" in removed
    assert not (command.state / "doomed").exists()
    deadline = time.monotonic() + 20
    while left := (names_and_states() - before) | processes_of("doomed"):
        assert time.monotonic() < deadline, left
        time.sleep(0.05)
    assert command.run("gc").stdout == "nothing to remove\n"


def test_down_of_a_killed_lab_cleans_up(command: Command) -> None:
    command.run("up", str(QUICKSTART), "--name", "doomed")
    command.kill_daemon("doomed")
    assert "its daemon was dead" in command.run("down", "doomed").stdout
    assert not (command.state / "doomed").exists()
    assert "nothing of it is left" in command.run("down", "doomed", status=3).stderr


def test_a_killed_lab_can_be_started_again(command: Command) -> None:
    command.run("up", str(QUICKSTART), "--name", "again")
    command.kill_daemon("again")
    command.run("up", str(QUICKSTART), "--name", "again")
    command.run("--lab", "again", "ping", "app", "web", "-c", "1")
    command.run("down", "again")


def test_sigterm_takes_a_lab_down_in_order(command: Command) -> None:
    command.run("up", str(QUICKSTART), "--name", "polite")
    os.kill(command.json("--lab", "polite", "status")["pid"], signal.SIGTERM)
    deadline = time.monotonic() + 20
    while (command.state / "polite").exists():
        assert time.monotonic() < deadline
        time.sleep(0.05)
