"""The lessons: each has all its parts, fails as it says and holds when put right; and the command that teaches."""

from __future__ import annotations

import json
import re
from pathlib import Path
from subprocess import CompletedProcess, TimeoutExpired
from typing import cast
from unittest.mock import Mock

import click
import pytest
from click.testing import CliRunner, Result

from dataplane.analysis.judge import Result as Judged
from dataplane.engine import DataPlane
from dataplane.errors import LabError
from dataplane.load import load, load_topology
from dataplane.trace_text import render
from tests.unit.analysis.claims import BROKEN, decided, names
from vpclab.cli import cli
from vpclab.lab import Lab
from vpclab.learn import LESSONS, Lesson, progress
from vpclab.learn.page import PAGE, failing, main, page
from vpclab.learn.verify import Found, attempt

SCREEN = 24
"""Lines of a terminal."""
CAUSES = {
    "missing-route": ("route-table shop/private", None, "NO_ROUTE", False),
    "closed-ephemeral-ports": ("network-acl shop/edge", None, "ACL_EGRESS", True),
    "wrong-group": ("interface db/eth0", None, "GROUP_INGRESS", False),
    "group-through-nat": ("interface api/eth0", None, "GROUP_INGRESS", False),
    "no-public-address": ("internet-gateway shop", None, "PUBLIC_SOURCE_MISSING", False),
    "nat-in-private-subnet": ("nat-gateway shop/nat", None, "LOOP", False),
    "one-sided-peering": ("route-table store/data", None, "NO_ROUTE", True),
    "edge-to-edge": ("vpc-peering hq-branch", None, "PEER_DESTINATION", False),
    "source-dest-check": ("interface fw/eth0", None, "DESTINATION_CHECK", False),
    "packet-too-big": ("network-acl shop/apps", None, "ACL_INGRESS", True),
}
"""Lesson -> what drops the packet of the first check that fails: object, rule, reason, whether it is the answer."""
NAMES_IT = {
    "missing-route": "route-table shop/private: the route table has no route to the destination",
    "closed-ephemeral-ports": "the answer is DROPPED by network-acl shop/edge (rule *, as no other matches)",
    "wrong-group": "interface db/eth0 (security group shop/web)",
    "group-through-nat": "nat-gateway shop/nat      translates",
    "no-public-address": "the source has no public address",
    "nat-in-private-subnet": "shop/private  routes (0.0.0.0/0 -> nat-gateway:nat)\n  => DROPPED by nat-gateway",
    "one-sided-peering": "the answer is DROPPED by route-table store/data: the route table has no route",
    "edge-to-edge": "the destination is not in the peer VPC",
    "source-dest-check": "source/destination check",
}
"""What the way of that packet, as `vpclab check` prints it, says of the cause."""

each_lesson = pytest.mark.parametrize("lesson", LESSONS, ids=lambda lesson: lesson.name)


def wrong(lesson: Lesson) -> list[Judged]:
    return [each for each in decided(load_topology(BROKEN / f"{lesson.name}.yaml")) if not each.holds]


def test_there_are_ten_and_their_files_are_all_there_are() -> None:
    assert len(LESSONS) == 10
    named = sorted(f"{lesson.name}.yaml" for lesson in LESSONS)
    assert sorted(path.name for path in BROKEN.glob("*.yaml")) == named
    assert sorted(path.name for path in (BROKEN / "fixed").iterdir()) == named
    assert set(CAUSES) == {lesson.name for lesson in LESSONS}


@each_lesson
def test_a_lesson_has_all_its_parts(lesson: Lesson) -> None:
    assert lesson.title.endswith(".")
    assert len(lesson.picture.splitlines()) >= 3
    assert len(lesson.symptom.split()) >= 20
    assert lesson.see_it
    assert all(command.startswith("vpclab ") for command in lesson.see_it)
    assert len(lesson.hints) >= 4, "from a nudge to nearly the answer"
    assert len(lesson.why.split()) >= 30
    assert load(lesson.broken, file_name="broken").lab_file.name == lesson.name
    assert lesson.checks_text == lesson.fixed.partition("\nchecks:\n")[2], "the fix changes no claim"
    assert {check.claim for check in lesson.checks} == {"can", "cannot"}


@each_lesson
def test_the_broken_lab_fails_as_said(lesson: Lesson) -> None:
    first = wrong(lesson)[0]
    leg = first.blocked_by
    assert leg is not None
    place, rule, reason, is_answer = CAUSES[lesson.name]
    assert names(first) == {"object": place, "rule": rule, "reason": reason}
    assert leg.is_answer is is_answer


@each_lesson
def test_the_fix_holds_and_is_small(lesson: Lesson) -> None:
    results = decided(load_topology(BROKEN / "fixed" / f"{lesson.name}.yaml"))
    assert [str(each.check) for each in results if not each.holds] == []
    changed = [line for line in lesson.diff.splitlines() if line[0] in "+-"]
    assert 1 <= len(changed) <= 4
    assert all(f"\n{line[1:]}\n" in (lesson.fixed if line[0] == "+" else lesson.broken) for line in changed)


@pytest.mark.parametrize("lesson", [each for each in LESSONS if each.task is None], ids=lambda lesson: lesson.name)
def test_a_check_names_the_cause_in_one_screen(lesson: Lesson) -> None:
    told = failing(lesson)
    assert len(told.splitlines()) <= SCREEN
    assert NAMES_IT[lesson.name] in told


def test_a_trace_names_the_cause_of_what_no_check_can_show() -> None:
    """How large a packet may be, a check does not ask; a trace does, and says that the sender is not told."""
    [lesson] = [each for each in LESSONS if each.task is not None]
    assert {lesson.name} == set(CAUSES) - set(NAMES_IT)

    def traced(text: str, size: int) -> tuple[bool, str]:
        plane = DataPlane(load(text, file_name="lab").topology())
        trace = plane.trace("app", "10.9.1.10", protocol="udp", port=9000, size=size)
        return trace.reachable, " ".join(render(trace).split())

    assert traced(lesson.broken, 100)[0]
    is_there, told = traced(lesson.broken, 8800)
    assert not is_there
    assert "DROPPED by nat-gateway shop/nat: packet larger than the MTU" in told
    assert "due, but did not get through)" in told
    plane = DataPlane(load(lesson.broken, file_name="lab").topology())
    screen = render(plane.trace("app", "10.9.1.10", protocol="udp", port=9000, size=8800)).splitlines()
    assert len(screen) <= SCREEN
    is_there, told = traced(lesson.fixed, 8800)
    assert not is_there, "it is dropped all the same, but the sender is told"
    assert "did not get through" not in told
    assert "(ICMP error sent to" in told


def test_the_group_that_is_lost_is_not_the_address_inside() -> None:
    """The same claim by the private address holds in the broken lab: it is the NAT gateway that loses the group."""
    [lesson] = [each for each in LESSONS if each.name == "group-through-nat"]
    results = decided(load_topology(BROKEN / f"{lesson.name}.yaml"))
    assert [(str(each.check), each.holds) for each in results][:2] == [
        ("can app -> 10.0.1.10 tcp 80", True),
        ("can app -> 203.0.113.20 tcp 80", False),
    ]


def test_the_commands_that_lessons_name_are_commands() -> None:
    texts = [text for lesson in LESSONS for text in (*lesson.hints, lesson.why)]
    commands = [found for text in texts for found in re.findall(r"`vpclab ([^`]+)`", text)]
    assert len(commands) >= len(LESSONS)
    for command in commands:
        verb, *words = command.split()
        found = cli.get_command(click.Context(cli), verb)
        assert found is not None, command
        found.make_context(verb, words)  # raises for what is none


# -- the page


def test_the_page_is_what_would_be_written_now() -> None:
    assert PAGE.read_text() == page()


def test_a_page_that_drifted_is_stale(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "learn.md"
    assert main(["--check", "--page", str(file)]) == 1
    assert main(["--write", "--page", str(file)]) == 0
    assert main(["--check", "--page", str(file)]) == 0
    file.write_text(file.read_text().replace("NO_ROUTE", "NO ROUTE"))
    assert main(["--check", "--page", str(file)]) == 1
    assert "is stale" in capsys.readouterr().err
    assert main(["--check", "--page", str(tmp_path / "nowhere" / "learn.md")]) == 2


# -- the command


@pytest.fixture(autouse=True)
def _own_state(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")


def learn(*arguments: str) -> Result:
    return CliRunner().invoke(cli, ["learn", *arguments], prog_name="vpclab")


def test_the_list_says_how_far_one_is() -> None:
    rows = json.loads(learn("list", "--format", "json").output)
    assert [row["lesson"] for row in rows] == [lesson.name for lesson in LESSONS]
    assert {(row["hints_seen"], row["hints"], row["solved"]) for row in rows} == {(0, 5, False)}
    learn("hint", "3")
    assert "1 of 5" in next(line for line in learn("list").output.splitlines() if "wrong-group" in line)


def test_hints_go_up_a_ladder_and_are_remembered() -> None:
    lesson = LESSONS[0]
    assert "no hint of missing-route has been shown" in learn("hint", "1", "--again").output
    words = [*(hint.split()[0] for hint in lesson.hints), '+          - {destination: 0.0.0.0/0, target: "nat-']
    for number, word in enumerate([*words, words[-1]], start=1):
        output = learn("hint", lesson.name).output
        rung = min(number, 5)
        assert output.startswith(f"hint {rung} of 5:\n")
        assert output.count("hint ") == 1
        assert word in output
    again = learn("hint", lesson.name, "--again").output
    assert [f"hint {n} of 5:" in again for n in range(1, 6)] == [True] * 5
    assert learn("hint", "2").output.startswith("hint 1 of 5:"), "each lesson has a ladder of its own"


def test_start_copies_the_broken_lab_and_keeps_what_is_there(tmp_path: Path) -> None:
    learn("hint", "1")
    done = learn("start", "1", "--no-lab")
    assert done.exit_code == 0, done.output
    file = Path("missing-route.yaml")
    assert file.read_text() == LESSONS[0].broken
    assert LESSONS[0].symptom in " ".join(done.output.split())
    assert "vpclab up missing-route.yaml" in done.output
    assert learn("hint", "1").output.startswith("hint 1 of 5"), "begins again"
    file.write_text(LESSONS[0].fixed)
    assert "was there already" in learn("start", "1", "--no-lab").output
    assert file.read_text() == LESSONS[0].fixed
    other = tmp_path / "other.yaml"
    done = learn("start", "1", "--no-lab", "--file", str(other))
    assert f"vpclab learn verify missing-route {other}" in done.output
    assert other.read_text() == LESSONS[0].broken
    done = learn("start", "1", "--file", str(tmp_path / "no" / "such.yaml"))
    assert done.exit_code == 3
    assert "such.yaml: No such file or directory" in done.output


def test_start_says_how_where_no_lab_can_be_started(monkeypatch: pytest.MonkeyPatch) -> None:
    def refused(lab: Lab, *, detached: bool) -> str:
        raise LabError("user namespaces are switched off")

    monkeypatch.setattr(Lab, "up", refused)
    done = learn("start", "wrong-group")
    assert done.exit_code == 3
    assert "vpclab: user namespaces are switched off" in done.output
    assert Path("wrong-group.yaml").exists()
    assert "vpclab check wrong-group.yaml --static" in done.output


@pytest.mark.parametrize("lesson", [each for each in LESSONS if each.task is None], ids=lambda lesson: lesson.name)
def test_verify_tells_broken_from_fixed(lesson: Lesson) -> None:
    file = Path(f"{lesson.name}.yaml")
    file.write_text(lesson.broken)
    done = learn("verify", lesson.name, "--static")
    assert done.exit_code == 1
    assert "not solved yet" in done.output
    file.write_text(lesson.fixed)
    done = learn("verify", lesson.name, "--static")
    assert done.exit_code == 0, done.output
    assert done.output.partition("\nsolved\n")[2].split() == lesson.why.split()
    [row] = [row for row in json.loads(learn("list", "--format", "json").output) if row["lesson"] == lesson.name]
    assert row["solved"] is True


def test_verify_does_not_believe_the_files_own_checks() -> None:
    text = LESSONS[0].broken.partition("\nchecks:")[0] + "\nchecks: [{cannot: app -> mirror, port: 80}]\n"
    Path("mine.yaml").write_text(text)
    assert learn("verify", "1", "mine.yaml", "--static").exit_code == 1


def test_verify_refuses_what_opens_everything() -> None:
    """A claim `cannot` of each lesson is what a fix must not break."""
    [lesson] = [each for each in LESSONS if each.name == "group-through-nat"]
    Path("open.yaml").write_text(lesson.broken.replace('source: "group:app"', "source: 0.0.0.0/0"))
    done = learn("verify", lesson.name, "open.yaml", "--static")
    assert done.exit_code == 1
    assert "does not hold: cannot visitor -> api" in done.output


def test_verify_of_bad_input() -> None:
    assert learn("verify", "1").exit_code == 2
    assert "vpclab learn start missing-route" in learn("verify", "1").output
    assert "did you mean edge-to-edge?" in learn("verify", "edge-to-egde").output
    assert learn("hint", "11").exit_code == 2
    Path("gone.yaml").write_text(LESSONS[0].broken.replace("  app: {vpc", "  application: {vpc"))
    done = learn("verify", "1", "gone.yaml", "--static")
    assert done.exit_code == 2
    assert "app" in done.output


def test_what_rules_do_not_decide_is_refused_without_packets() -> None:
    lesson = LESSONS[-1]
    Path(f"{lesson.name}.yaml").write_text(lesson.fixed)
    done = learn("verify", lesson.name, "--static")
    assert done.exit_code == 2
    assert "rules alone do not decide packet-too-big" in done.output


def test_a_state_that_cannot_be_read_begins_anew(tmp_path: Path) -> None:
    learn("hint", "1")
    [file] = (tmp_path / "state" / "vpclab").iterdir()
    for text in ("{", "[]", '{"missing-route": 7}', '{"missing-route": {"hints": "x", "solved": 1}}'):
        file.write_text(text)
        assert learn("hint", "1").output.startswith("hint 1 of 5:")
    assert Lab.running() == []


def test_what_cannot_be_written_down_is_solved_all_the_same(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where there is no folder, and none can be made, one line says so; a lesson that is solved is solved."""
    Path("mine.yaml").write_text(LESSONS[0].fixed)
    (tmp_path / "file").touch()
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "file"))
    done = learn("verify", "1", "mine.yaml", "--static")
    assert done.exit_code == 0
    assert "\nsolved\n" in done.output
    assert "vpclab/.learn.json cannot be written: Not a directory" in done.stderr
    assert learn("hint", "1").exit_code == 3


def test_what_is_known_of_other_lessons_stays() -> None:
    progress.solve("missing-route")
    progress.next_hint("wrong-group", 5)
    progress.next_hint("missing-route", 5)
    assert progress.progress("missing-route") == progress.Progress(hints=1, solved=True)
    assert progress.progress("wrong-group") == progress.Progress(hints=1)
    progress.begin("missing-route")
    assert progress.progress("missing-route") == progress.Progress(hints=0, solved=True), "hints begin again"


def test_a_lesson_is_solved_when_its_checks_hold_and_its_task_is_done() -> None:
    holds, fails = {"holds": True}, {"holds": False}
    assert Found(rows=[holds]).solved
    assert not Found(rows=[holds, fails]).solved
    assert not Found(rows=[holds], task="curl: (28) timed out").solved


@pytest.mark.parametrize(
    ("done", "why"),
    [
        (CompletedProcess([], 0, "200", "a warning"), ""),
        (CompletedProcess([], 28, "", "first\ncurl: (28) timed out\n"), "curl: (28) timed out"),
        (CompletedProcess([], 1, "", ""), "exit status 1"),
        (TimeoutExpired([], 60.0), "not done after 60 s"),
        (FileNotFoundError(2, "No such file or directory"), "sh: No such file or directory"),
    ],
)
def test_why_a_task_failed(done: object, why: str) -> None:
    [task] = [lesson.task for lesson in LESSONS if lesson.task is not None]
    run = Mock(side_effect=[done])
    assert attempt(cast("Lab", {task.node: Mock(run=run)}), task) == why
    run.assert_called_once_with(task.command, timeout_s=60.0)
