"""A running lab changes as one: what fails half-way is undone. The kernel's side is played by fakes."""

from __future__ import annotations

import errno
import os
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from unittest.mock import Mock

import pytest

from dataplane.errors import ConfigurationError, LabError
from lab import live_state, running
from lab.node_plan import NodePlan
from lab.node_status import NodeChange
from lab.running import RunningLab
from lab.state import JOURNAL
from tests.unit.lab.fakes import FakeRuntime, FakeState, FakeWorker, balanced_text, lab_text


@pytest.fixture
def lab(monkeypatch: pytest.MonkeyPatch) -> Iterator[RunningLab]:
    monkeypatch.setattr(running, "Runtime", FakeRuntime)
    monkeypatch.setattr(running, "Worker", FakeWorker)
    with RunningLab(FakeState(), lab_text(a="10.0.1.10", b="10.0.1.11"), "lab.yaml") as made:  # type: ignore[arg-type]
        yield made


def everything(lab: RunningLab) -> tuple[Any, ...]:
    """What a client can notice."""
    plans: dict[str, NodePlan] = lab.runtime.plans  # type: ignore[attr-defined]
    ports: dict[int, int] = lab.worker.ports  # type: ignore[attr-defined]
    contexts = sorted(context.number for context in lab.data_plane.program.contexts)
    return dict(plans), dict(ports), dict(lab.plans), lab.topology, contexts, lab.file


def test_every_node_is_attached_and_the_worker_runs(lab: RunningLab) -> None:
    plans, ports, known, _, contexts, _ = everything(lab)
    assert plans == known
    assert sorted(ports) == contexts
    assert lab.worker.running
    lab.close()
    assert not lab.worker.running


def test_all_changes_at_once(lab: RunningLab) -> None:
    found, problem = lab.apply(lab_text(a="10.0.1.77", c="10.0.1.12"), "new.yaml", dry_run=False)
    assert [(change.action, change.path) for change in found] == [
        ("change", "instances.a"),
        ("remove", "instances.b"),
        ("add", "instances.c"),
    ]
    assert problem == ""
    plans, ports, known, _, contexts, file = everything(lab)
    assert plans == known
    assert list(plans) == ["a", "c"]
    assert sorted(ports) == contexts
    assert file == "new.yaml"


def test_the_same_in_another_file_is_that_file_from_now_on(lab: RunningLab) -> None:
    """Its captures and flow logs are beside it, and whoever resumes the lab knows it."""
    before = everything(lab)
    text = lab_text(a="10.0.1.10", b="10.0.1.11")
    assert lab.apply(text, "new.yaml", dry_run=True) == ([], "")
    assert everything(lab) == before
    assert lab.apply(text, "new.yaml", dry_run=False) == ([], "")
    *now, _, contexts, _ = everything(lab)
    assert (*now, contexts) == (*before[:3], before[4])
    assert lab.survival._file == lab.file


@pytest.mark.parametrize(
    ("folder", "file", "known", "beside"),
    [
        (os.getcwd(), "deep/new.yaml", "deep/new.yaml", f"{os.getcwd()}/deep"),
        ("/elsewhere", "deep/new.yaml", "/elsewhere/deep/new.yaml", "/elsewhere/deep"),
        ("/elsewhere", "/there/new.yaml", "/there/new.yaml", "/there"),
        (None, "<dict>", "<dict>", os.getcwd()),
    ],
)
def test_a_file_is_looked_for_where_who_applies_it_is(
    lab: RunningLab, monkeypatch: pytest.MonkeyPatch, folder: str | None, file: str, known: str, beside: str
) -> None:
    changing, configure = Mock(side_effect=lab._captures.changing), Mock()
    monkeypatch.setattr(lab._captures, "changing", changing)
    monkeypatch.setattr(lab.flow_logs, "configure", configure)
    lab.apply(lab_text(a="10.0.1.77"), file, dry_run=False, folder=folder)
    assert lab.file == known
    assert changing.call_args.args[1] == configure.call_args.args[0] == Path(beside)
    lab.apply(lab_text(a="10.0.1.78"), "<dict>", dry_run=False)
    assert changing.call_args.args[1] == configure.call_args.args[0] == Path(beside), "what is in no file is beside it"


def test_a_dry_run_touches_nothing(lab: RunningLab) -> None:
    before = everything(lab)
    found, _ = lab.apply(lab_text(c="10.0.1.12"), "new.yaml", dry_run=True)
    assert len(found) == 3
    assert everything(lab) == before


def test_a_wrong_file_touches_nothing(lab: RunningLab) -> None:
    before = everything(lab)
    with pytest.raises(ConfigurationError):
        lab.apply(lab_text(c="10.9.9.9"), "new.yaml", dry_run=False)
    assert everything(lab) == before


@pytest.mark.parametrize("failing", ["add", "update a to 10.0.1.77", "update b to 10.0.1.78"])
def test_a_step_that_is_refused_is_undone(lab: RunningLab, failing: str) -> None:
    before = everything(lab)
    lab.runtime.failing = failing  # type: ignore[attr-defined]
    with pytest.raises(LabError, match=f"refused: {failing}"):
        lab.apply(lab_text(a="10.0.1.77", b="10.0.1.78", c="10.0.1.12"), "new.yaml", dry_run=False)
    after = everything(lab)
    assert after[:3] == before[:3]
    assert after[4:] == before[4:]
    assert after[3].lab == before[3].lab


def test_a_swap_that_is_refused_is_undone(lab: RunningLab, monkeypatch: pytest.MonkeyPatch) -> None:
    before = everything(lab)
    refused = iter([LabError("no room")])
    swap = lab.data_plane.apply

    def apply(topology: Any) -> None:
        for error in refused:
            raise error
        swap(topology)

    monkeypatch.setattr(lab.data_plane, "apply", apply)
    with pytest.raises(LabError, match="no room"):
        lab.apply(lab_text(c="10.0.1.12"), "new.yaml", dry_run=False)
    after = everything(lab)
    assert (*after[:3], *after[4:]) == (*before[:3], *before[4:])


def test_health_checks_that_are_refused_are_undone(lab: RunningLab, monkeypatch: pytest.MonkeyPatch) -> None:
    before = everything(lab)
    monkeypatch.setattr(live_state, "HealthWatch", Mock(side_effect=LabError("no socket")))
    with pytest.raises(LabError, match="no socket"):
        lab.apply(balanced_text(), "new.yaml", dry_run=False)
    after = everything(lab)
    assert (*after[:3], *after[4:]) == (*before[:3], *before[4:])
    assert after[3].lab == before[3].lab
    assert list(lab.runtime.plans) == ["a", "b"]  # type: ignore[attr-defined]
    monkeypatch.setattr(live_state, "HealthWatch", Mock())
    live_state.HealthWatch.return_value.health.return_value = {}  # type: ignore[attr-defined]
    lab.apply(balanced_text(), "new.yaml", dry_run=False)
    assert list(lab.plans) == ["a"]
    assert len(lab.runtime.plans) == 2, "with the load balancer's node"  # type: ignore[attr-defined]


def test_a_lab_that_goes_down_is_not_changed_any_more(lab: RunningLab, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(live_state, "HealthWatch", Mock())
    live_state.HealthWatch.return_value.health.return_value = {}  # type: ignore[attr-defined]
    lab.apply(balanced_text(), "new.yaml", dry_run=False)
    watch = live_state.HealthWatch.return_value  # type: ignore[attr-defined]
    lab.close()
    watch.reset_mock()
    with pytest.raises(LabError, match="lab fake is going down"):
        lab.apply(lab_text(a="10.0.1.10"), "new.yaml", dry_run=False)
    assert lab.start_programs() == ""
    assert watch.method_calls == []


def test_a_node_that_cannot_be_removed_does_not_bring_the_old_lab_back(lab: RunningLab) -> None:
    """And the worker has let go of its ports: their descriptors may be somebody else's by now."""
    lab.runtime.failing = "remove"  # type: ignore[attr-defined]
    lab.apply(lab_text(a="10.0.1.10"), "new.yaml", dry_run=False)
    assert list(lab.plans) == ["a"]
    _, ports, _, _, contexts, _ = everything(lab)
    assert sorted(ports) == contexts


def test_the_worker_stands_still_before_its_descriptors_are_closed(
    lab: RunningLab, monkeypatch: pytest.MonkeyPatch
) -> None:
    running_then = []
    monkeypatch.setattr(lab.runtime, "close", lambda: running_then.append(lab.worker.running))
    lab.close()
    assert running_then == [False]


def test_a_change_of_a_node_that_fails_half_way_is_undone(lab: RunningLab, monkeypatch: pytest.MonkeyPatch) -> None:
    before = everything(lab)
    update = lab.runtime.update_node

    def half(plan: NodePlan) -> NodeChange:
        change = update(plan)
        if str(plan.interfaces[0].addresses[0][0]) == "10.0.1.77":
            raise LabError("refused: the rest")
        return change

    monkeypatch.setattr(lab.runtime, "update_node", half)
    with pytest.raises(LabError, match="refused: the rest"):
        lab.apply(lab_text(a="10.0.1.77", b="10.0.1.11"), "new.yaml", dry_run=False)
    assert everything(lab)[:3] == before[:3]


def test_one_node_that_cannot_go_back_keeps_no_other_from_it(lab: RunningLab, monkeypatch: pytest.MonkeyPatch) -> None:
    update = lab.runtime.update_node

    def refuse(plan: NodePlan) -> NodeChange:
        if (plan.name, str(plan.interfaces[0].addresses[0][0])) in (("c", "10.0.1.79"), ("a", "10.0.1.10")):
            raise LabError(f"refused: {plan.name}")
        return update(plan)

    lab.apply(lab_text(a="10.0.1.10", b="10.0.1.11", c="10.0.1.12"), "lab.yaml", dry_run=False)
    before = everything(lab)[0]
    monkeypatch.setattr(lab.runtime, "update_node", refuse)
    with pytest.raises(LabError, match="refused: c"):
        lab.apply(lab_text(a="10.0.1.77", b="10.0.1.78", c="10.0.1.79"), "new.yaml", dry_run=False)
    after = everything(lab)[0]
    assert [name for name in "abc" if after[name] == before[name]] == ["b", "c"]


@pytest.mark.parametrize("told", [True, False])
def test_devices_that_are_made_anew_are_let_go_of_before_and_carry_frames_afterwards(
    lab: RunningLab, monkeypatch: pytest.MonkeyPatch, told: bool
) -> None:
    """Of one that root inside has renamed the runtime finds out only when it makes it: nobody could say it before."""
    ports: dict[int, int] = lab.worker.ports  # type: ignore[attr-defined]
    port, update = lab.data_plane.port("a/eth0"), lab.runtime.update_node
    attached_then = []

    def makes_anew(plan: NodePlan) -> NodeChange:
        if plan.name != "a":
            return update(plan)
        attached_then.append(port in ports)
        update(plan)
        return NodeChange(attached={port: 77}, detached=(port,) if told else ())

    monkeypatch.setattr(lab.runtime, "update_node", makes_anew)
    monkeypatch.setattr(lab.runtime, "detached_by", lambda plan: (port,) if told and plan.name == "a" else ())
    lab.apply(lab_text(a="10.0.1.77", b="10.0.1.11"), "new.yaml", dry_run=False)
    assert attached_then == [not told]
    assert ports[port] == 77


def test_what_stands_in_for_an_instance_cannot_be_changed(lab: RunningLab) -> None:
    before = everything(lab)
    other = lab_text(a="10.0.1.10", b='10.0.1.11, attach: "tap:t0"')
    with pytest.raises(LabError, match="instance b: attach cannot be changed; apply a file without the instance first"):
        lab.apply(other, "new.yaml", dry_run=False)
    assert everything(lab) == before


def test_numbers_of_what_stays_stay(lab: RunningLab) -> None:
    port = lab.data_plane.port("a/eth0")
    lab.apply(lab_text(c="10.0.1.12", a="10.0.1.10"), "new.yaml", dry_run=False)
    assert lab.data_plane.port("a/eth0") == port


def test_a_lab_that_cannot_start_closes_what_it_opened(monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[FakeRuntime] = []

    class Refusing(FakeRuntime):
        def __init__(self, state: object) -> None:
            super().__init__(state)
            self.failing = "add"
            made.append(self)

    monkeypatch.setattr(running, "Runtime", Refusing)
    monkeypatch.setattr(running, "Worker", FakeWorker)
    with pytest.raises(LabError, match="refused: add"):
        RunningLab(FakeState(), lab_text(a="10.0.1.10"), "lab.yaml")  # type: ignore[arg-type]
    assert [runtime.closed for runtime in made] == [True]


def test_a_runtime_that_was_started_ahead_is_used_and_closed_even_when_the_lab_file_is_wrong(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(running, "Worker", FakeWorker)
    ahead: Any = FakeRuntime(FakeState())
    with RunningLab(FakeState(), lab_text(a="10.0.1.10"), "lab.yaml", ahead) as made:  # type: ignore[arg-type]
        assert id(made.runtime) == id(ahead)
        assert set(ahead.plans) == set(made.plans)
    assert ahead.closed
    ahead = FakeRuntime(FakeState())
    with pytest.raises(ConfigurationError):
        RunningLab(FakeState(), lab_text(a="no address"), "lab.yaml", ahead)  # type: ignore[arg-type]
    assert ahead.closed


def test_a_worker_goes_on_when_its_frames_cannot_be_moved_by_hand(
    lab: RunningLab, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuses(*_: object) -> None:
        raise OSError(errno.EMFILE, "Too many open files")

    with lab.traced():
        pass
    monkeypatch.setattr(running, "TracedPorts", refuses)
    with pytest.raises(OSError, match="Too many"), lab.traced():
        pass
    assert lab.worker.running


def test_the_descriptors_of_frames_moved_by_hand_are_let_go_of(
    lab: RunningLab, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(running, "TracedPorts", Mock())
    with lab.traced() as ports:
        pass
    ports.close.assert_called_once_with()  # type: ignore[attr-defined]


def test_lab_time_began_so_long_ago_as_it_has_passed() -> None:
    """Flow logs tell Unix time: of a clock that is a day ahead, it is a day from now."""
    worker: Any = FakeWorker(None)
    worker.set_clock_offset(86_400_000)
    assert abs(running._epoch_ms(worker) + worker.now_ms() - time.time() * 1000) < 60_000


def test_the_clock_adds_up(lab: RunningLab) -> None:
    assert lab.advance_clock(1000) == 1000
    assert lab.advance_clock(500) == 1500


def test_the_worker_rests_while_frames_are_moved_by_hand_and_goes_on_whatever_happens(lab: RunningLab) -> None:
    seen = []
    with lab.traced():
        seen.append(lab.worker.running)
    seen.append(lab.worker.running)
    assert seen == [False, True]
    failed = False
    try:
        with lab.traced():
            raise ZeroDivisionError
    except ZeroDivisionError:
        failed = True
    assert failed
    assert lab.worker.running


def test_a_lab_that_goes_down_is_taken_over_by_nobody_from_the_beginning(
    lab: RunningLab, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever kills its daemon at any step of its end: half of it must not come back."""
    runtime: Any = lab.runtime
    lab.survival.linger()
    assert runtime.lingers
    at_steps = []
    for step in (lab.worker, lab.flow_logs):
        monkeypatch.setattr(step, "stop" if step is lab.worker else "close", lambda: at_steps.append(runtime.lingers))
    lab.close()
    assert at_steps == [False, False]


def test_what_is_told_to_go_down_in_the_middle_of_a_change_does_not_linger_again(lab: RunningLab) -> None:
    lab.survival.linger()
    lab.survival.stop_lingering()
    lab.apply(lab_text(a="10.0.1.77"), "new.yaml", dry_run=False)
    assert not lab.runtime.lingers  # type: ignore[attr-defined]


def test_nothing_is_written_down_of_a_lab_that_was_never_said_to_be_up(lab: RunningLab) -> None:
    """What is there would be brought back by `vpclab up --resume`."""
    state: Any = lab.survival._journal._state
    lab.advance_clock(1000)
    assert JOURNAL not in state.writes
    lab.survival.linger()
    assert JOURNAL in state.writes


def test_a_lab_goes_down_though_the_process_that_keeps_its_nodes_is_gone(
    lab: RunningLab, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lab.runtime, "stop_lingering", Mock(side_effect=LabError("it has ended")))
    lab.close()
    assert lab.runtime.closed  # type: ignore[attr-defined]


def test_a_lab_that_goes_down_is_not_traced(lab: RunningLab) -> None:
    lab.close()
    with pytest.raises(LabError, match="going down"), lab.traced():
        pass
    assert not lab.worker.running
