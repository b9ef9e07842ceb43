"""The broken labs, with real packets: they fail as said, and what puts them right can be applied as they run."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from dataplane.load import load_topology
from tests.unit.analysis.claims import BROKEN, decided
from vpclab import Lab
from vpclab.learn import LESSONS, Lesson
from vpclab.learn.verify import attempt


@pytest.mark.parametrize("lesson", LESSONS, ids=lambda lesson: lesson.name)
def test_a_broken_lab_fails_as_the_rules_say_and_holds_when_put_right(lesson: Lesson) -> None:
    expected = decided(load_topology(BROKEN / f"{lesson.name}.yaml"))
    with Lab.load(BROKEN / f"{lesson.name}.yaml") as lab:
        rows = lab.check(lesson.checks)
        assert not all(row["holds"] for row in rows)
        assert [row["holds"] for row in rows] == [each.holds for each in expected]
        told = [(row["check"], row["why"]) for row in rows if not row["holds"] and row["dropped"]]
        assert told == [(str(each.check), each.why) for each in expected if not each.holds and each.blocked_by]
        assert told, "a rule is named"
        if lesson.task is not None:
            assert "timed out" in attempt(lab, lesson.task)
        assert lab.apply(BROKEN / "fixed" / f"{lesson.name}.yaml")
        rows = lab.check(lesson.checks)
        assert [f"{row['check']}: {row['why']}" for row in rows if not row["holds"]] == []
        if lesson.task is not None:
            assert attempt(lab, lesson.task) == ""


def test_packets_too_large_hang_where_their_sender_is_not_told() -> None:
    """Small transfers pass; large ones only once ICMP comes in. Of ICMP, type 3 code 4 is all it takes."""
    lesson = LESSONS[-1]
    rule = "          - {rule: 110, protocol: icmp, icmp: {type: 3, code: 4}, cidr: 10.0.0.0/8, action: allow}\n"
    answers = "action: allow} # answers\n"
    narrow = lesson.broken.replace(answers, answers + rule)
    assert narrow.count(rule) == 1
    small = ["curl", "-sS", "-m", "20", "-d", "hello", "http://127.0.0.1:8000/"]
    with Lab.load(BROKEN / f"{lesson.name}.yaml") as lab:
        assert lab["app"].run(small).stdout == "5 bytes stored\n"
        assert lesson.task is not None
        assert "timed out" in attempt(lab, lesson.task)
        trace = lab.trace("app", "vault", protocol="udp", port=9000, size_bytes=8800)
        assert trace.forward.reason.name == "MTU_EXCEEDED"
        assert "did not get through" in trace.forward.hops[-1].steps[-1].note
        file = Path(lab.folder, "narrow.yaml")
        file.write_text(narrow)
        lab.apply(file)
        assert attempt(lab, lesson.task) == ""


# -- the command


@pytest.fixture
def command(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))

    def run(*words: str) -> subprocess.CompletedProcess[str]:
        line = [sys.executable, "-P", "-m", "vpclab", *words]
        return subprocess.run(line, capture_output=True, text=True, timeout=120, check=False, cwd=tmp_path)

    yield run
    assert [path.name for path in (tmp_path / "state" / "vpclab").iterdir()] == [".learn.json"], "no lab is left"


def test_a_lesson_from_start_to_solved(command: Any, tmp_path: Path) -> None:
    lesson = LESSONS[8]
    started = command("learn", "start", lesson.name)
    assert (started.returncode, started.stderr) == (0, "")
    try:
        assert f"lab {lesson.name} is up" in started.stdout
        assert "  vpclab check " in started.stdout
        assert command("check").returncode == 1
        assert command("exec", "app", "--", "curl", "-sS", "-m", "1", "http://10.0.2.10:5432/").returncode == 28
        again = command("learn", "start", "9")
        assert again.returncode == 0
        assert "is running already" in again.stdout
        assert command("learn", "hint", lesson.name).stdout.startswith("hint 1 of 5:")
        assert command("learn", "hint", lesson.name).stdout.startswith("hint 2 of 5:")
        broken = command("learn", "verify", lesson.name)
        assert broken.returncode == 1
        assert "ENI_SOURCE_DEST_CHECK_RESTRICTION" in broken.stdout
        file = tmp_path / f"{lesson.name}.yaml"
        file.write_text(lesson.fixed)
        assert command("apply", file.name).returncode == 0
        assert command("exec", "app", "--", "curl", "-sS", "-m", "20", "http://10.0.2.10:5432/").returncode == 0
        solved = command("learn", "verify", lesson.name)
        assert solved.returncode == 0, solved.stdout + solved.stderr
        assert "2 of 2 checks hold, decided with real packets\n\nsolved\n" in solved.stdout
        rows = json.loads(command("learn", "list", "--format", "json").stdout)
        assert [row["lesson"] for row in rows if row["solved"]] == [lesson.name]
    finally:
        assert command("down", lesson.name).returncode == 0


def test_what_takes_programs_is_verified_with_programs(command: Any, tmp_path: Path) -> None:
    """Whoever lets only echo replies in satisfies the check, and has not solved it."""
    lesson = LESSONS[-1]
    answers = "action: allow} # answers\n"
    rule = "          - {rule: 110, protocol: icmp, icmp: {type: 0}, cidr: 10.0.0.0/8, action: allow}\n"
    file = tmp_path / f"{lesson.name}.yaml"
    file.write_text(lesson.broken.replace(answers, answers + rule))
    done = command("learn", "verify", lesson.name)
    assert done.returncode == 1
    assert "3 of 3 checks hold" in done.stdout
    assert "timed out" in done.stdout
    file.write_text(lesson.fixed)
    done = command("learn", "verify", lesson.name)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "=> done" in done.stdout
