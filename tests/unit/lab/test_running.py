"""A running lab changes as one: what fails half-way is undone. The kernel's side is played by fakes."""

from __future__ import annotations

import errno
from collections.abc import Iterator
from typing import Any
from unittest.mock import Mock

import pytest

from dataplane.errors import ConfigurationError, LabError
from lab import live_state, running
from lab.node_plan import NodePlan
from lab.running import RunningLab
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
    lab.runtime.failing = "remove"  # type: ignore[attr-defined]
    lab.apply(lab_text(a="10.0.1.10"), "new.yaml", dry_run=False)
    assert list(lab.plans) == ["a"]


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


def test_a_lab_that_goes_down_is_not_traced(lab: RunningLab) -> None:
    lab.close()
    with pytest.raises(LabError, match="going down"), lab.traced():
        pass
    assert not lab.worker.running
