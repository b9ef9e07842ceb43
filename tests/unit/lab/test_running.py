"""A running lab changes as one: what fails half-way is undone. The kernel's side is played by fakes."""

from __future__ import annotations

import errno
from collections.abc import Callable, Iterable, Iterator
from ipaddress import IPv4Address
from pathlib import Path
from typing import Any
from unittest.mock import Mock

import pytest

from dataplane.engine import DataPlane
from dataplane.errors import ConfigurationError, LabError
from dataplane.load import load
from dataplane.topology.runtime_state import HEALTHY, FormerTarget, RuntimeState, TargetHealth
from lab import live_state, running, survival
from lab.checking import prove
from lab.connections import Sockets
from lab.journal import Journal, read_journal
from lab.keeper import RefusedError, SilentError
from lab.live_state import LiveState
from lab.node_plan import NodePlan
from lab.node_status import Adopted, NodeChange
from lab.rebuilding import Rebuilt
from lab.running import RunningLab
from lab.state import JOURNAL

LAB = """\
version: 1
vpcs:
  v:
    cidr: 10.0.0.0/16
    subnets: {{s: {{cidr: 10.0.1.0/24, availability_zone: a}}}}
instances:
{instances}
"""


def lab_text(**addresses: str) -> str:
    rows = [f"  {name}: {{vpc: v, subnet: s, private_ip: {address}}}" for name, address in addresses.items()]
    return LAB.format(instances="\n".join(rows))


def balanced_text() -> str:
    """A load balancer whose target is instance a."""
    return lab_text(a="10.0.1.10").replace(
        "instances:",
        """\
    gateway_load_balancers: {lb: {subnets: [s], target_group: fleet}}
    target_groups: {fleet: {targets: [a]}}
instances:""",
    )


class FakeWorker:
    """Knows which descriptor is attached to which port."""

    def __init__(self, engine: object) -> None:
        self.ports: dict[int, int] = {}
        self.clock_offset_ms = 0
        self.running = False

    def attach(self, port: int, descriptor: int) -> None:
        assert port not in self.ports
        self.ports[port] = descriptor

    def detach(self, port: int) -> None:
        self.ports.pop(port, None)  # like the real one: a port that is not attached is fine

    def start(self) -> None:
        self.running = True

    def stop(self) -> None:
        self.running = False

    def set_clock_offset(self, ms: int) -> None:
        self.clock_offset_ms = ms

    def now_ms(self) -> int:
        return 1_000_000 + self.clock_offset_ms


class FakeRuntime:
    """Knows which nodes there are; `failing` names the step that the operating system refuses."""

    def __init__(self, state: object) -> None:
        self.plans: dict[str, NodePlan] = {}
        self.failing = ""
        self.missing: frozenset[str] = frozenset()
        """Nodes that cannot be made again when the lab is taken over."""
        self.closed = self.left = False
        self.lingered = 0
        self.lingers = False
        self._next = 100

    def _step(self, what: str) -> None:
        if what == self.failing:
            raise LabError(f"refused: {what}")

    def _descriptors(self, plan: NodePlan) -> dict[int, int]:
        self._next += 1
        return {interface.port: self._next for interface in plan.interfaces}

    def add_nodes(self, plans: Iterable[NodePlan]) -> dict[int, int]:
        self._step("add")
        wanted = list(plans)
        self.plans |= {plan.name: plan for plan in wanted}
        return {port: number for plan in wanted for port, number in self._descriptors(plan).items()}

    def remove_nodes(self, names: Iterable[str]) -> None:
        for name in list(names):
            del self.plans[name]
        self._step("remove")

    def detached_by(self, plan: NodePlan) -> tuple[int, ...]:
        return ()

    def update_node(self, plan: NodePlan) -> NodeChange:
        if self.plans[plan.name] != plan:
            self._step(f"update {plan.name} to {plan.interfaces[0].addresses[0][0]}")
        self.plans[plan.name] = plan
        return NodeChange(attached={}, detached=())

    def taps(self) -> dict[int, int]:
        return {}

    def start_programs(self) -> None: ...

    def wait_ready(self) -> None: ...

    def adopt(self, plans: Iterable[NodePlan]) -> Adopted:
        there = [plan for plan in plans if plan.name not in self.missing]
        return Adopted(taps=self.add_nodes(there), lost=["eth0 of a has no network any more"], missing=self.missing)

    def sockets(self) -> tuple[dict[str, Sockets], dict[str, str]]:
        self._step("sockets")
        return {}, {"b": "Too many open files"}

    def linger(self) -> bool:
        self.lingered += 1
        self.lingers = True
        return True

    def stop_lingering(self) -> None:
        self.lingers = False

    def be_patient(self) -> None: ...

    def let_go(self) -> None:
        self.left = True

    def close(self) -> None:
        self.closed = True


class FakeState:
    name = "fake"
    path = Path("no folder")

    def __init__(self) -> None:
        self.written: dict[str, Any] = {}
        self.writes: list[str] = []
        self.full = False

    def read(self, name: str) -> Any:
        return self.written.get(name)

    def write(self, name: str, value: Any) -> None:
        if self.full:
            raise LabError(f"{name} cannot be written")
        self.writes.append(name)
        self.written[name] = value


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


# -- a lab whose daemon was killed ------------------------------------------------------------------------------------


@pytest.fixture
def again(monkeypatch: pytest.MonkeyPatch) -> Callable[..., Any]:
    """Takes over a lab like this one, from a runtime whose step `failing` is refused."""
    monkeypatch.setattr(running, "Worker", FakeWorker)

    def take_over(taken: FakeRuntime, text: str = "", **before: Any) -> Any:
        text = text or lab_text(a="10.0.1.10", b="10.0.1.11")
        names = DataPlane(load(text, file_name="lab.yaml").topology()).names
        journal = Journal(text=text, file="lab.yaml", folder="/", clock_offset_ms=7, names=names, **before)
        state: Any = FakeState()
        lab: Any = RunningLab(state, text, "lab.yaml", taken, before=journal)  # type: ignore[arg-type]
        lab.state = state
        return lab

    return take_over


def test_nodes_that_were_taken_over_are_left_until_somebody_knows_that_they_are_up(
    again: Callable[..., Any],
) -> None:
    runtime = FakeRuntime(FakeState())
    again(runtime).close()
    assert (runtime.left, runtime.closed) == (True, False)
    runtime = FakeRuntime(FakeState())
    taken = again(runtime)
    taken.own_nodes()
    taken.close()
    assert (runtime.left, runtime.closed) == (False, True)


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
        runtime.restart.side_effect = RefusedError("no room")
        taken.restart_checkers()
        assert taken.survival.lost[-1] == "no room"


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
