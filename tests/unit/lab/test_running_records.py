"""What a running lab records of itself while it changes: captures, flow logs, health. The kernel's side is fakes."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any
from unittest.mock import Mock

import pytest

from dataplane.errors import LabError
from dataplane.probe import Probe
from dataplane.topology import Topology
from dataplane.topology.runtime_state import HEALTHY, INITIAL
from lab import live_state, pcapng, running
from lab.capture import running_captures
from lab.flow_logs import MARK
from lab.health_checker import SOCKET_NAME
from lab.running import RunningLab
from tests.unit.lab.fakes import FakeRuntime, FakeState, FakeWorker, balanced_text, lab_text

Made = Callable[..., Any]
TWO = lab_text(a="10.0.1.10", b="10.0.1.11")
BALANCED = balanced_text().replace("instances:\n", "instances:\n  b: {vpc: v, subnet: s, private_ip: 10.0.1.11}\n")
BOTH = BALANCED.replace("targets: [a]", "targets: [a, b]")
LOGGED = TWO.replace("instances:", "    flow_logs: {log: {}}\ninstances:")


@pytest.fixture
def up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Made]:
    """Brings up a lab of this text, whose files are in the test's folder."""
    monkeypatch.setattr(running, "Runtime", FakeRuntime)
    monkeypatch.setattr(running, "Worker", FakeWorker)
    monkeypatch.setattr(FakeState, "path", tmp_path)
    with ExitStack() as labs:

        def bring(text: str, **written: Any) -> Any:
            state: Any = FakeState()
            state.written |= written
            lab: Any = labs.enter_context(RunningLab(state, text, str(tmp_path / "lab.yaml")))
            lab.state = state
            return lab

        yield bring


def capturing(name: str, point: str) -> str:
    return TWO + f"captures: {{{name}: {{points: [{point}], file: {name}.pcapng}}}}\n"


def send(lab: Any) -> None:
    """One packet from a to b."""
    port, peer = (lab.data_plane.port(f"{name}/eth0") for name in "ab")
    here, there = (lab.data_plane.interface(each).address4 for each in (port, peer))
    frame = lab.data_plane.frame(port, Probe(source=here, destination=there, protocol=17, source_port=5))
    lab.data_plane.process([frame], [port], lab.now_ms())


def packets(file: Path) -> int:
    return len(list(pcapng.Reader().packets(file.read_bytes())))


def test_a_change_that_cannot_be_written_down_changes_no_capture(up: Made, tmp_path: Path) -> None:
    """What ran before goes on in the same file; what was new records nothing."""
    lab = up(capturing("old", "a"))
    lab.survival.linger()
    send(lab)
    lab.state.full = True
    with pytest.raises(LabError, match="cannot be written"):
        lab.apply(capturing("new", "b"), str(tmp_path / "lab.yaml"), dry_run=False)
    assert running_captures(lab.data_plane) == 1
    send(lab)
    lab.close()
    assert packets(tmp_path / "old.pcapng") == 2
    assert (tmp_path / "new.pcapng").read_bytes() == b""


def test_captures_change_with_the_file(up: Made, tmp_path: Path) -> None:
    lab = up(capturing("old", "a"))
    send(lab)
    lab.apply(capturing("new", "b"), str(tmp_path / "lab.yaml"), dry_run=False)
    send(lab)
    lab.close()
    assert [packets(tmp_path / f"{name}.pcapng") for name in ("old", "new")] == [1, 1]


def test_a_capture_that_has_met_a_full_disk_keeps_no_lab_from_going_down(up: Made) -> None:
    lab = up(TWO + "captures: {full: {points: [a], file: /dev/full}}\n")
    lab.close()
    assert lab.runtime.closed


def test_captures_of_a_lab_that_cannot_start_end(up: Made, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Their files are whole: each interface ends with its statistics (draft-ietf-opsawg-pcapng, section 4.6)."""
    monkeypatch.setattr(FakeRuntime, "add_nodes", lambda *_: (_ for _ in ()).throw(LabError("refused: add")))
    with pytest.raises(LabError, match="refused: add"):
        up(capturing("all", "a"))
    kinds = [kind for kind, _ in pcapng.whole_blocks((tmp_path / "all.pcapng").read_bytes())]
    assert kinds == [pcapng.SECTION, pcapng.INTERFACE, pcapng.STATISTICS]


def test_intervals_of_flow_logs_begin_with_the_lab(up: Made) -> None:
    """Not when its clock began, which is that of the machine: nobody was there to be silent."""
    before = time.time()
    lab = up(LOGGED)
    assert before - 600 < lab.state.written[MARK]["v/log"] <= time.time()


def test_flow_logs_of_another_file_begin_with_it(up: Made) -> None:
    lab = up(TWO)
    assert lab.flow_logs.sizes() is None
    lab.apply(LOGGED, "lab.yaml", dry_run=False)
    assert lab.flow_logs.sizes() == (0, 0)


def test_what_a_crash_has_lost_of_flow_logs_is_said_by_the_next_lab_and_by_no_other(up: Made) -> None:
    lab = up(LOGGED, **{MARK: {"v/log": 1_700_000_400}})
    [lost] = lab.survival.lost
    assert lost.endswith("records of the intervals open then are lost (v/log from 2023-11-14 22:20 on)")
    assert lab.state.written[MARK]["v/log"] > 1_700_000_400, "what is open now, not what was then"


def test_a_first_target_gets_nothing_before_it_was_checked(up: Made, monkeypatch: pytest.MonkeyPatch) -> None:
    """Registered, it is ``initial``: https://docs.aws.amazon.com/elasticloadbalancing/latest/gateway/health-checks.html"""
    lab = up(TWO)
    seen, apply = [], lab.data_plane.apply

    def applied(topology: Topology) -> None:
        seen.append(topology.runtime.health)
        apply(topology)

    monkeypatch.setattr(lab.data_plane, "apply", applied)
    lab.apply(BALANCED, "lab.yaml", dry_run=False)
    assert seen == [{("v", "fleet", "a"): INITIAL}], "from the first packet on"


def test_what_first_checks_have_found_is_known_once_they_are_made(up: Made, monkeypatch: pytest.MonkeyPatch) -> None:
    watch = Mock()
    watch.return_value.health.return_value = {("v", "fleet", "a"): INITIAL}
    monkeypatch.setattr(live_state, "HealthWatch", watch)
    lab = up(BALANCED)

    def found(limit_s: float) -> None:
        watch.return_value.health.return_value = {("v", "fleet", "a"): HEALTHY}

    watch.return_value.begin.side_effect = found
    assert lab.start_programs() == ""
    assert lab.topology.runtime.health == {("v", "fleet", "a"): HEALTHY}


def test_who_leaves_its_group_drains(up: Made) -> None:
    lab = up(BOTH)
    lab.apply(BALANCED, "lab.yaml", dry_run=False)
    [former] = lab.topology.runtime.former["v", "fleet"]
    assert (former.name, former.drained, former.until_ms) == ("b", False, lab.now_ms() + 300_000)
    lab.advance_clock(299_999)
    assert not lab.topology.runtime.former["v", "fleet"][0].drained
    lab.advance_clock(1)
    assert lab.topology.runtime.former["v", "fleet"][0].drained


def test_delays_end_while_nobody_touches_the_lab(up: Made, monkeypatch: pytest.MonkeyPatch) -> None:
    """The watch calls each second."""
    watch = Mock()
    watch.return_value.health.return_value = {}
    monkeypatch.setattr(live_state, "HealthWatch", watch)
    lab = up(BOTH)
    lab.apply(BALANCED, "lab.yaml", dry_run=False)
    lab.worker.set_clock_offset(300_000)
    watch.call_args.kwargs["tick"]()
    assert lab.topology.runtime.former["v", "fleet"][0].drained


def test_a_lab_that_is_down_hears_no_health_checker(up: Made, tmp_path: Path) -> None:
    lab = up(BALANCED)
    assert (tmp_path / SOCKET_NAME).is_socket()
    lab.close()
    assert not (tmp_path / SOCKET_NAME).exists()


def test_a_change_that_is_refused_changes_no_target(up: Made) -> None:
    lab = up(BALANCED)
    lab.runtime.failing = "update a to 10.0.1.77"
    with pytest.raises(LabError, match="refused: update a"):
        lab.apply(BOTH.replace("10.0.1.10", "10.0.1.77"), "lab.yaml", dry_run=False)
    assert set(lab.live.health) == {("v", "fleet", "a")}
