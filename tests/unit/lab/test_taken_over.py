"""A lab whose daemon was killed is taken over by another one. The kernel's side is played by fakes."""

from __future__ import annotations

from collections.abc import Callable
from ipaddress import IPv4Address
from pathlib import Path
from typing import Any
from unittest.mock import Mock

import pytest

from dataplane.engine import DataPlane
from dataplane.errors import LabError
from dataplane.load import load
from dataplane.names import Names
from dataplane.topology.runtime_state import HEALTHY, FormerTarget, RuntimeState, TargetHealth
from lab import running, survival
from lab.checking import prove
from lab.flow_logs import MARK
from lab.journal import Journal, read_journal
from lab.keeper import RefusedError, SilentError
from lab.live_state import LiveState
from lab.rebuilding import Rebuilt
from lab.running import RunningLab
from lab.runtime import NoProgramError
from lab.state import JOURNAL
from tests.unit.lab.fakes import FakeRuntime, FakeState, FakeWorker, balanced_text, lab_text


def names_of(text: str) -> Names:
    """The numbers that things of a lab file have when it is the first."""
    return DataPlane(load(text, file_name="lab.yaml").topology()).names


@pytest.fixture
def again(monkeypatch: pytest.MonkeyPatch) -> Callable[..., Any]:
    """Takes over a lab like this one, from a runtime whose step `failing` is refused."""
    monkeypatch.setattr(running, "Worker", FakeWorker)

    def take_over(taken: FakeRuntime, text: str = "", **before: Any) -> Any:
        text = text or lab_text(a="10.0.1.10", b="10.0.1.11")
        before.setdefault("names", names_of(text))
        journal = Journal(text=text, file="lab.yaml", folder="/", clock_offset_ms=7, **before)
        state: Any = FakeState()
        lab: Any = RunningLab(state, text, "lab.yaml", taken, before=journal)  # type: ignore[arg-type]
        lab.state = state
        return lab

    return take_over


def test_nodes_that_were_taken_over_are_left_until_somebody_knows_that_they_are_up(
    again: Callable[..., Any],
) -> None:
    """And wait for somebody else all the while; once they are owned, for nobody."""
    for owned in (False, True):
        runtime = FakeRuntime(FakeState())
        taken = again(runtime)
        taken.survival.linger()
        if owned:
            taken.own_nodes()
        taken.close()
        assert (runtime.left, runtime.closed, runtime.lingers) == (not owned, owned, not owned)


def test_ports_have_the_numbers_that_their_nodes_know_them_by(again: Callable[..., Any]) -> None:
    """Those of the lab as it was, whatever had a number before that is gone since."""
    same = lab_text(a="10.0.1.10", b="10.0.1.11")
    before = names_of(lab_text(z="10.0.1.9", a="10.0.1.10", b="10.0.1.11"))
    numbers = [before.find("interface", f"{name}/eth0") for name in "ab"]
    assert numbers != [names_of(same).find("interface", f"{name}/eth0") for name in "ab"]
    with again(FakeRuntime(FakeState()), same, names=before) as taken:
        assert sorted(taken.worker.ports) == sorted(numbers)
        assert [taken.plans[name].interfaces[0].port for name in "ab"] == numbers


def test_once_somebody_knows_that_it_is_up_it_is_as_patient_as_any_lab(
    again: Callable[..., Any], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """And what its flow logs had lost is said no more."""
    monkeypatch.setattr(FakeState, "path", tmp_path)
    monkeypatch.setattr(FakeState, "read", lambda state, name: state.written.get(name, {"v/log": 7}))
    runtime: Any = FakeRuntime(FakeState())
    runtime.be_patient = Mock()
    text = lab_text(a="10.0.1.10").replace("instances:", "    flow_logs: {log: {}}\ninstances:")
    with again(runtime, text) as taken:
        assert taken.state.written[MARK] == {"v/log": 7}
        runtime.be_patient.assert_not_called()
        taken.own_nodes()
        runtime.be_patient.assert_called_once_with()
        assert taken.state.written[MARK]["v/log"] > 7


@pytest.mark.parametrize(("lost", "shown"), [(3, "a, b, c"), (4, "a, b, c, ...")])
def test_connections_that_do_not_go_on_are_told(
    again: Callable[..., Any], monkeypatch: pytest.MonkeyPatch, lost: int, shown: str
) -> None:
    monkeypatch.setattr(survival, "rebuild", lambda *_: Rebuilt(count=0, lost=tuple("abcd"[:lost])))  # type: ignore[arg-type]
    with again(FakeRuntime(FakeState())) as taken:
        assert f"the lab's daemon was killed: {lost} TCP connections do not go on ({shown})" in taken.survival.lost


@pytest.mark.parametrize("failing", ["add", "sockets"])
def test_nodes_that_cannot_be_taken_over_are_left(again: Callable[..., Any], failing: str) -> None:
    runtime = FakeRuntime(FakeState())
    runtime.failing = failing
    with pytest.raises(LabError, match=f"refused: {failing}"):
        again(runtime)
    assert (runtime.left, runtime.closed) == (True, False)


def test_devices_that_are_lost_are_told(again: Callable[..., Any]) -> None:
    with again(FakeRuntime(FakeState())) as taken:
        assert taken.survival.lost == [
            "the network remembers no TCP connection of b any more: Too many open files",
            "eth0 of a has no network any more",
        ]


def test_a_node_that_is_not_there_any_more_is_made_by_the_next_file(again: Callable[..., Any]) -> None:
    runtime = FakeRuntime(FakeState())
    runtime.missing = frozenset({"b"})
    with again(runtime) as taken:
        assert list(taken.plans) == ["a"]
        taken.apply(lab_text(a="10.0.1.10", b="10.0.1.11", c="10.0.1.12"), "new.yaml", dry_run=False)
        assert sorted(runtime.plans) == sorted(taken.plans) == ["a", "b", "c"]
        taken.apply(lab_text(a="10.0.1.10"), "new.yaml", dry_run=False)
        assert list(runtime.plans) == ["a"]


def test_the_same_file_makes_a_node_that_could_not_be_made(again: Callable[..., Any]) -> None:
    runtime = FakeRuntime(FakeState())
    runtime.missing = frozenset({"b"})
    same = lab_text(a="10.0.1.10", b="10.0.1.11")
    with again(runtime) as taken:
        for dry_run in (True, False):
            [added], _ = taken.apply(same, "lab.yaml", dry_run=dry_run)
            assert (added.action, added.kind, added.path) == ("add", "instance", "instances.b")
        assert sorted(runtime.plans) == sorted(taken.plans) == ["a", "b"]
        assert len(taken.worker.ports) == 2
        assert taken.apply(same, "lab.yaml", dry_run=False) == ([], "")


def test_a_node_that_could_not_be_made_is_told_once_when_the_file_says_something_new_of_it(
    again: Callable[..., Any],
) -> None:
    runtime = FakeRuntime(FakeState())
    runtime.missing = frozenset({"b"})
    with again(runtime) as taken:
        runtime.failing = "add"
        with pytest.raises(LabError, match="refused: add"):
            taken.apply(lab_text(a="10.0.1.10", b="10.0.1.12"), "new.yaml", dry_run=False)
        runtime.failing = ""
        [change], _ = taken.apply(lab_text(a="10.0.1.10", b="10.0.1.12"), "new.yaml", dry_run=False)
        assert (change.action, change.path) == ("change", "instances.b")
        assert sorted(runtime.plans) == ["a", "b"]


def test_a_check_of_a_node_that_could_not_be_made_says_so(again: Callable[..., Any]) -> None:
    runtime = FakeRuntime(FakeState())
    runtime.missing = frozenset({"b"})
    text = lab_text(a="10.0.1.10", b="10.0.1.11") + "checks: [{can: b -> a, port: 80}, {cannot: b -> a, port: 81}]\n"
    with again(runtime, text) as taken:
        found = prove(taken, taken.checks)
    why = "node b could not be made when lab fake was brought back; apply its file again"
    assert [(each.holds, why in each.why) for each in found] == [(False, True), (False, True)]


def test_a_health_checker_that_cannot_be_started_anew_is_told(
    again: Callable[..., Any], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(FakeState, "path", tmp_path)
    runtime: Any = FakeRuntime(FakeState())
    runtime.restart = Mock()
    with again(runtime, balanced_text()) as taken:
        [name] = [name for name, plan in runtime.plans.items() if plan.hidden]
        taken.restart_checkers()
        runtime.restart.assert_called_once_with(name)
        for error in (RefusedError("no room"), NoProgramError("there is none")):
            runtime.restart.side_effect = error
            taken.restart_checkers()
            assert taken.survival.lost[-1] == str(error)


def test_a_spawner_that_does_not_answer_any_more_is_not_taken_for_a_health_checker_s_trouble(
    again: Callable[..., Any], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Nobody would be able to ask it anything: the nodes wait for somebody else."""
    monkeypatch.setattr(FakeState, "path", tmp_path)
    runtime: Any = FakeRuntime(FakeState())
    runtime.restart = Mock(side_effect=SilentError("it does not answer"))
    with pytest.raises(SilentError), again(runtime, balanced_text()) as taken:
        taken.restart_checkers()
    assert (runtime.left, runtime.closed) == (True, False)


def test_nodes_of_a_spawner_that_does_not_answer_any_more_wait_for_somebody_else(again: Callable[..., Any]) -> None:
    """Before anybody is told that the lab is up: what cannot be written down is no reason, silence is."""
    runtime: Any = FakeRuntime(FakeState())
    with again(runtime) as taken:
        runtime.linger = Mock(side_effect=RefusedError("disk full"))
        taken.survival.linger()
        runtime.linger.side_effect = SilentError("it does not answer")
        with pytest.raises(SilentError):
            taken.survival.linger()
    assert (runtime.left, runtime.closed) == (True, False)


def test_captures_that_cannot_be_written_any_more_do_not_keep_a_lab_down(
    again: Callable[..., Any], tmp_path: Path
) -> None:
    captures = f"captures: {{all: {{points: [a], file: {tmp_path}/gone/all.pcapng}}}}\n"
    text = lab_text(a="10.0.1.10", b="10.0.1.11") + captures
    with again(FakeRuntime(FakeState()), text) as taken:
        [_, recorded, _] = taken.survival.lost
    assert recorded.startswith("nothing is recorded any more: capture all: ")


def test_after_an_apply_that_is_refused_the_nodes_wait_for_others_again(again: Callable[..., Any]) -> None:
    """They stopped to when an instance was to be attached."""
    runtime = FakeRuntime(FakeState())
    with again(runtime) as taken:
        runtime.failing = "add"
        with pytest.raises(LabError, match="refused: add"):
            taken.apply(lab_text(c="10.0.1.12"), "new.yaml", dry_run=False)
        assert runtime.lingered == 1
        runtime.failing = ""
        written = read_journal(taken.state)
    assert written is not None
    assert written.text == lab_text(a="10.0.1.10", b="10.0.1.11")


def test_what_changes_right_after_is_written_down(again: Callable[..., Any]) -> None:
    """Not only once it has been said to be up: it may be killed before."""
    with again(FakeRuntime(FakeState())) as taken:
        taken.apply(lab_text(a="10.0.1.10"), "new.yaml", dry_run=False)
        taken.advance_clock(1000)
        written = read_journal(taken.state)
    assert written is not None
    assert (written.text, written.file) == (lab_text(a="10.0.1.10"), "new.yaml")
    assert written.clock_offset_ms == 1007


def test_each_change_is_written_down_once(again: Callable[..., Any]) -> None:
    former = FormerTarget(name="b", address=IPv4Address("10.0.1.11"), zone="", drained=False, until_ms=1_000_500)
    with again(FakeRuntime(FakeState()), runtime=RuntimeState(former={("v", "fleet"): (former,)})) as taken:
        for change in (
            lambda: taken.apply(lab_text(a="10.0.1.10", c="10.0.1.12"), "new.yaml", dry_run=False),
            lambda: taken.advance_clock(1000),  # with which a deregistration delay is over
        ):
            taken.state.writes.clear()
            change()
            assert taken.state.writes.count(JOURNAL) == 1


def test_what_could_not_be_written_down_is_tried_again(again: Callable[..., Any]) -> None:
    """A full disk: the file still says what was, and then what is, although that has not changed since."""
    runtime: Any = FakeRuntime(FakeState())
    with again(runtime) as taken:
        taken.survival.linger()
        taken.state.full, runtime.lingers = True, False
        taken.advance_clock(1000)
        taken.survival.linger()
        assert not runtime.lingers, "what is written down is not what it is"
        with pytest.raises(LabError, match="cannot be written"):
            taken.apply(lab_text(a="10.0.1.77"), "new.yaml", dry_run=False)
        before = read_journal(taken.state)
        taken.state.full = False
        taken.survival.linger()
        written = read_journal(taken.state)
        assert runtime.lingers
    assert before is not None
    assert written is not None
    assert before.text == written.text == lab_text(a="10.0.1.10", b="10.0.1.11")
    assert (before.clock_offset_ms, written.clock_offset_ms) == (7, 1007)


def test_what_changes_is_written_down_when_the_folder_it_was_started_in_is_gone(
    again: Callable[..., Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "gone").mkdir()
    monkeypatch.chdir(tmp_path / "gone")
    with again(FakeRuntime(FakeState())) as taken:
        (tmp_path / "gone").rmdir()
        taken.apply(lab_text(a="10.0.1.10"), "new.yaml", dry_run=False)
        written = read_journal(taken.state)
    assert written is not None
    assert written.folder == str(tmp_path / "gone")


def test_flows_are_rebuilt_with_the_health_that_was_known_and_checks_go_on_from_it(
    again: Callable[..., Any], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """A rebuilt flow would be pinned to a dead target otherwise, and every target would be new to its checks."""
    seen = []

    def rebuilds(plane: DataPlane, *_: object) -> Rebuilt:
        seen.append(plane.topology.runtime)
        return Rebuilt(count=0, lost=())

    monkeypatch.setattr(survival, "rebuild", rebuilds)
    monkeypatch.setattr(FakeState, "path", tmp_path)
    former = FormerTarget(name="b", address=IPv4Address("10.0.1.11"), zone="", drained=False, until_ms=10**9)
    known = RuntimeState(
        health={("v", "fleet", "a"): TargetHealth(state="unhealthy")}, former={("v", "fleet"): (former,)}
    )
    with again(FakeRuntime(FakeState()), balanced_text(), runtime=known) as taken:
        assert seen == [known]
        assert taken.topology.runtime == known
        assert taken.live.health == known.health
        recovered = {("v", "fleet", "a"): HEALTHY}
        monkeypatch.setattr(LiveState, "health", recovered)
        taken.live.publish()
        written = read_journal(taken.state)
    assert written is not None
    assert written.runtime == RuntimeState(health=recovered, former=known.former)
