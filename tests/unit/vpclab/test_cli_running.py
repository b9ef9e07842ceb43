"""What the command makes of what a running lab answers: exit statuses, what is printed and what is asked."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from unittest.mock import Mock

import pytest
from click.testing import CliRunner, Result

from dataplane.errors import LabError
from dataplane.names import Name
from dataplane.trace import Action, Packet, Step, Trace, Walk, hops_of
from dataplane.verdict import Verdict
from lab.capture_stream import Followed
from lab.gc import NotRemovedError, Removed
from vpclab.cli import cli, questions
from vpclab.lab import Lab
from vpclab.node import PingResult

RIGHT = """\
version: 1
vpcs:
  shop:
    cidr: 10.0.0.0/16
    subnets: {a: {cidr: 10.0.1.0/24, availability_zone: a}}
    security_groups: {web: {ingress: [{protocol: tcp, ports: 80, source: 0.0.0.0/0}]}}
instances:
  app: {vpc: shop, subnet: a}
  web: {vpc: shop, subnet: a, security_groups: [web]}
"""
STATUS = {"nodes": [{}, {}], "pid": 7, "warnings": ["disk is full"], "file": "lab.yaml", "uptime_s": 60.0}


def run(*arguments: str) -> Result:
    return CliRunner().invoke(cli, arguments, prog_name="vpclab")


@pytest.fixture(autouse=True)
def _own_state(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))


@pytest.fixture
def lab(monkeypatch: pytest.MonkeyPatch) -> Mock:
    """The lab `fake`, the only one that runs."""
    lab = Mock(spec=Lab)
    lab.name = "fake"
    lab.status.return_value = STATUS
    monkeypatch.setattr(Lab, "running", lambda: ["fake"])
    monkeypatch.setattr(Lab, "attach", lambda name=None: lab)
    return lab


@pytest.fixture
def file(tmp_path: Path) -> Path:
    made = tmp_path / "lab.yaml"
    made.write_text(RIGHT)
    return made


# -- lifecycle -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("problem", "status"), [("", 0), ("http of web is not ready", 1)])
def test_up_is_status_1_where_a_program_is_not_ready(
    monkeypatch: pytest.MonkeyPatch, lab: Mock, file: Path, problem: str, status: int
) -> None:
    load = Mock(return_value=lab)
    monkeypatch.setattr(Lab, "load", load)
    lab.up.return_value = problem
    done = run("up", str(file))
    assert done.exit_code == status
    load.assert_called_once_with(file, name="", unique=False)
    lab.up.assert_called_once_with(detached=True)
    assert "lab fake is up: 2 nodes in" in done.stdout
    assert "vpclab: disk is full\n" in done.stderr
    assert (f"the lab is up, but {problem}" in done.stderr) is bool(problem)


def test_what_was_resumed_is_the_lab_that_was_named(monkeypatch: pytest.MonkeyPatch, lab: Mock, file: Path) -> None:
    interrupted = Mock(return_value=lab)
    monkeypatch.setattr(Lab, "interrupted", interrupted)
    lab.resume.return_value = ""
    done = run("up", "--resume", "--name", "fake")
    assert done.exit_code == 0
    assert "lab fake is up again" in done.stdout
    interrupted.assert_called_once_with("fake")
    for neither_nor in (["up"], ["up", "--resume", str(file)]):
        assert run(*neither_nor).exit_code == 2


def test_down_ends_what_runs_and_removes_what_is_left_of_what_does_not(
    monkeypatch: pytest.MonkeyPatch, lab: Mock
) -> None:
    removed = Removed(lab="dead", processes=2, namespaces=("web", "app"), folder=None)
    collect = Mock(return_value=[removed])
    monkeypatch.setattr(Lab, "collect_garbage", collect)
    for words in (["down", "fake"], ["down"], ["--lab", "fake", "down"]):
        assert run(*words).output == "lab fake is down\n"
    assert lab.down.call_count == 3
    collect.assert_not_called()
    done = run("down", "dead")
    assert done.exit_code == 0
    assert done.output == "removed of lab dead: 2 processes; namespaces web, app (its daemon was dead)\n"
    collect.assert_called_once_with("dead")
    assert lab.down.call_count == 3
    collect.return_value = []
    assert run("down", "dead").exit_code == 3


def test_what_cannot_be_removed_is_an_error_beside_what_was(monkeypatch: pytest.MonkeyPatch) -> None:
    removed = [Removed(lab="a", processes=0, namespaces=(), folder="/x")]
    monkeypatch.setattr(Lab, "collect_garbage", Mock(side_effect=NotRemovedError("b is another user's", removed)))
    done = run("gc")
    assert (done.exit_code, done.stdout) == (3, "removed of lab a: /x\n")
    assert done.stderr == "vpclab: b is another user's\n"
    done = run("gc", "--format", "json")
    assert (done.exit_code, json.loads(done.stdout)[0]["lab"]) == (3, "a")
    monkeypatch.setattr(Lab, "collect_garbage", list)
    assert run("gc").output == "nothing to remove\n"


CHANGES = [
    {"action": "add", "kind": "instance", "path": "instances.web", "detail": ""},
    {"action": "change", "kind": "vpc", "path": "vpcs.shop", "detail": "cidr"},
]


@pytest.mark.parametrize(
    ("words", "changes", "applied", "last"),
    [
        ([], CHANGES, True, "2 changes applied"),
        (["--dry-run"], CHANGES, False, "2 changes; nothing was done (--dry-run)"),
        ([], [], False, "nothing to change"),
        (["--dry-run"], [], False, "nothing to change"),
    ],
)
def test_apply_says_what_it_has_done(
    lab: Mock, file: Path, words: list[str], changes: list[dict[str, str]], applied: bool, last: str
) -> None:
    lab.apply.return_value = changes
    lines = run("apply", str(file), *words).output.splitlines()
    lab.apply.assert_called_once_with(file, dry_run=bool(words))
    assert lines[-1] == last
    assert lines[:-1] == ["  + instance instances.web", "  ~ vpc vpcs.shop: cidr"][: len(changes)]
    assert json.loads(run("apply", str(file), *words, "--format", "json").output) == {
        "applied": applied,
        "actions": changes,
    }


def test_labs_that_go_down_meanwhile_are_left_out_and_those_in_trouble_are_not(
    monkeypatch: pytest.MonkeyPatch, lab: Mock
) -> None:
    left = [["fake", "going", "mute"], ["fake", "mute"], ["fake", "mute"]]
    monkeypatch.setattr(Lab, "running", lambda: left.pop(0) if len(left) > 1 else left[0])
    mute = Mock(status=Mock(side_effect=LabError("no answer")))
    monkeypatch.setattr(Lab, "attach", lambda name: lab if name == "fake" else mute)
    done = run("labs", "--format", "json")
    rows = json.loads(done.stdout)
    assert [(row["name"], row["pid"], row["nodes"]) for row in rows] == [("fake", 7, 2), ("mute", None, None)]
    assert done.stderr == "vpclab: no answer\n"


# -- nodes -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("words", "program"), [("web", None), ("web/http", "http")])
def test_restart_is_of_all_programs_or_of_one(lab: Mock, words: str, program: str | None) -> None:
    node = Mock()
    node.restart.return_value = [{"name": "http", "state": "running", "pid": 9}]
    lab.__getitem__ = lambda self, name: {"web": node}[name]
    assert run("restart", words).output.startswith("web/http running, pid 9\n")
    node.restart.assert_called_once_with(program)


@pytest.mark.parametrize(("error", "status"), [(FileNotFoundError, 127), (PermissionError, 126)])
def test_a_command_that_cannot_be_run_ends_as_in_a_shell(lab: Mock, error: type[Exception], status: int) -> None:
    """POSIX, 2.8.2: 127 where a command is not found, 126 where it is no program."""
    lab.__getitem__ = lambda self, name: Mock(run_here=Mock(side_effect=error))
    assert run("exec", "web", "--", "nothing").exit_code == status
    assert run("exec", "web", "--").exit_code == 2


@pytest.mark.parametrize(("size", "traced"), [("56", 56), ("65000", 65000), ("65507", 65000)])
def test_the_largest_ping_is_traced_as_large_as_a_trace_takes(lab: Mock, size: str, traced: int) -> None:
    """65507 bytes are the most that fit into an IPv4 packet with a header of ICMP; a trace takes 65000."""
    node = Mock(ping=Mock(return_value=PingResult(sent=3, received=3, average_ms=1.0, output="PING")))
    lab.__getitem__ = lambda self, name: node
    walk = Walk(hops=STEPS, verdict=Verdict.FORWARD, object=Name("interface", "db/eth0"))
    lab.trace.return_value = Trace(source="web", destination="db", forward=walk, reply=walk)
    assert run("ping", "web", "db", "-s", size).exit_code == 0
    assert node.ping.call_args.kwargs["size_bytes"] == int(size)
    assert lab.trace.call_args.kwargs["size_bytes"] == traced


# -- what is followed ------------------------------------------------------------------------------------

PACKET = Packet(protocol=6, source="10.0.1.10", destination="10.1.1.10", source_port=1, destination_port=5432)
STEPS = hops_of([(Name("interface", "web/eth0"), Step(action=Action.SEND, packet=PACKET))])
STORY = Trace(source="web", destination="db", forward=Walk(hops=STEPS, verdict=Verdict.FORWARD), is_story=True)


class Stories(list[Followed]):
    lost = 0

    def stop(self) -> None:
        self.clear()


def followed(lab: Mock, *lost: int, at_the_end: int = 0) -> None:
    stories = Stories(Followed(n, STORY, each) for n, each in enumerate(lost))
    stories.lost = sum(lost) + at_the_end

    @contextmanager
    def follow(where: str) -> Iterator[Stories]:
        assert where == "tcp port 80"
        yield stories

    lab.follow = follow


def live(*words: str) -> Result:
    return run("trace", "--live", *words, "--format", "json", "tcp", "port", "80")


def test_packets_are_followed_up_to_a_number(lab: Mock) -> None:
    followed(lab, 0, 0, 0)
    assert len(live("-c", "1").stdout.splitlines()) == 1
    assert len(live("-c", "2").stdout.splitlines()) == 2
    assert len(live().stdout.splitlines()) == 3


def test_what_was_not_followed_is_told_once_and_where(lab: Mock) -> None:
    followed(lab, 0, 5, at_the_end=1)
    done = live()
    assert [json.loads(line)["lost"] for line in done.stdout.splitlines()] == [0, 5]
    assert [line.split()[0] for line in done.stderr.splitlines() if "were not followed" in line] == ["5", "1"]
    followed(lab, 0, 5)
    assert live().stderr.count("were not followed") == 1


RECORDS = [{"log": "v/b", "number": "8", "action": "REJECT"}, {"log": "v/a", "number": "7", "action": "ACCEPT"}]


def test_records_are_shown_once_and_as_they_are_written(lab: Mock, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever follows asks for what was written since, however the records were ordered."""
    asked: list[tuple[int, bool]] = []

    def flow_logs(*, after: int, unfinished: bool) -> list[dict[str, str]]:
        asked.append((after, unfinished))
        return [dict(each) for each in RECORDS if int(each["number"]) > after]

    def wait(seconds: float) -> None:
        if len(asked) == 3:
            raise KeyboardInterrupt

    monkeypatch.setattr(lab, "flow_logs", flow_logs)
    monkeypatch.setattr(time, "sleep", wait)
    assert run("flow-logs").output == "REJECT\nACCEPT\n"
    assert run("flow-logs", "v/a").output == "ACCEPT\n"
    assert run("flow-logs", "--open", "v/b", "--format", "json").output == '{"log": "v/b", "action": "REJECT"}\n'
    assert asked == [(0, False), (0, False), (0, True)]
    asked.clear()
    done = run("flow-logs", "-f")
    assert (done.stdout, done.exit_code) == ("REJECT\nACCEPT\n", 130)
    assert asked == [(0, False), (8, False), (8, False)]
    assert run("flow-logs", "-f", "--open").exit_code == 2


# -- checks ----------------------------------------------------------------------------------------------


@contextmanager
def started(lab: Mock, monkeypatch: pytest.MonkeyPatch, file: Path, source_port: int = 0) -> Iterator[list[int]]:
    """A lab whose packets do what the rules say; how many checks it was asked for at once."""
    from dataplane.load import load_topology

    topology, asked = load_topology(file), []

    def check(checks: Any = None, *, apart: bool = False) -> list[dict[str, Any]]:
        assert apart, "nobody else's clock"
        some = topology.lab.checks if checks is None else checks
        asked.append(len(some))
        ports = None if not source_port else [source_port + n for n in range(len(some))]
        return questions.decided(topology, some, ports)

    lab.check = check
    lab.__enter__ = lambda self: self
    lab.__exit__ = lambda self, *error: None
    monkeypatch.setattr(Lab, "load", lambda which: lab)
    yield asked


def test_all_checks_have_to_hold(lab: Mock, monkeypatch: pytest.MonkeyPatch, file: Path) -> None:
    file.write_text(f"{RIGHT}checks: [{{can: app -> web, port: 80}}, {{can: app -> web, port: 22}}]\n")
    with started(lab, monkeypatch, file):
        assert run("check", str(file)).exit_code == 1
        file.write_text(f"{RIGHT}checks: [{{can: app -> web, port: 80}}]\n")
    with started(lab, monkeypatch, file) as asked:
        done = run("check", str(file))
        assert (done.exit_code, asked) == (0, [1])
        assert "1 of 1 checks hold, decided with real packets" in done.output


def test_many_questions_are_asked_a_part_at_a_time_and_numbered_through(
    lab: Mock, monkeypatch: pytest.MonkeyPatch, file: Path
) -> None:
    from dataplane.analysis.classes import questions as all_of
    from dataplane.load import load_topology

    checks = [each.check for each in all_of(load_topology(file), every_sample=True)]
    monkeypatch.setattr(questions, "_AT_ONCE", 5)
    with started(lab, monkeypatch, file) as asked:
        rows = questions.proven(file, checks)
    assert [row["number"] for row in rows] == list(range(1, len(checks) + 1))
    assert [row["check"] for row in rows] == [str(each) for each in checks]
    assert max(asked) == 5
    assert sum(asked) == len(checks)


EPHEMERAL = """\
version: 1
vpcs:
  shop:
    cidr: 10.0.0.0/16
    subnets: {a: {cidr: 10.0.1.0/24}, b: {cidr: 10.0.2.0/24, network_acl: edge}}
    security_groups: {web: {ingress: [{protocol: tcp, ports: 80, source: 0.0.0.0/0}]}}
    network_acls:
      edge:
        ingress: [{rule: 100, protocol: all, cidr: 0.0.0.0/0, action: allow}]
        egress: [{rule: 100, protocol: tcp, ports: 50000-65535, cidr: 0.0.0.0/0, action: allow}]
instances: {app: {vpc: shop, subnet: a}, web: {vpc: shop, subnet: b, security_groups: [web]}}
"""


def test_packets_and_rules_that_agree_are_status_0(lab: Mock, monkeypatch: pytest.MonkeyPatch, file: Path) -> None:
    """The oracle is asked about the very packets, to whose ports, as the kernel gave them, answers may get."""
    file.write_text(EPHEMERAL)
    with started(lab, monkeypatch, file, source_port=50_000) as asked:
        done = run("verify", str(file), "--format", "json")
    assert done.exit_code == 0
    found = json.loads(done.output)
    assert (found["asked"], found["left_to_programs"], found["disagreements"]) == (sum(asked), 0, [])


def test_a_report_with_a_bug_in_it_is_status_1(lab: Mock, monkeypatch: pytest.MonkeyPatch) -> None:
    from lab import report

    findings = Mock(disagreements=[], to_json=dict)
    monkeypatch.setattr(report, "examine", lambda lab: findings)
    assert run("report", "--format", "json").exit_code == 0
    findings.disagreements = [object()]
    assert run("report", "--format", "json").exit_code == 1


# -- one lab of several ----------------------------------------------------------------------------------


def test_the_lab_named_behind_the_verb_is_the_one(monkeypatch: pytest.MonkeyPatch, lab: Mock) -> None:
    named: list[str | None] = []

    def attach(name: str | None = None) -> Mock:
        named.append(name)
        return lab

    monkeypatch.setattr(Lab, "attach", attach)
    lab.targets.return_value = []
    for words in (
        ["targets"],
        ["--lab", "a", "targets"],
        ["targets", "--lab", "b"],
        ["--lab", "a", "targets", "--lab", "b"],
    ):
        assert run(*words).exit_code == 0
    assert named == [None, "a", "b", "b"]
