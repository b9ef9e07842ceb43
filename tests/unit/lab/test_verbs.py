"""What the daemon answers, and what it refuses; nodes, programs and the worker are fakes."""

from __future__ import annotations

import math
import socket
import time
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any
from unittest.mock import Mock

import pytest

from dataplane.engine import DataPlane
from dataplane.errors import ConfigurationError, LabError
from dataplane.load import load
from lab import verbs as verbs_module
from lab.change import Change
from lab.control import RequestError
from lab.flow_logs import Line
from lab.node_status import NodeStatus, ProgramStatus
from lab.planning import plan_nodes
from lab.runtime import NoProgramError
from lab.verbs import Verbs, _has_ended

QUICKSTART = Path(__file__).parents[3] / "examples" / "quickstart.yaml"
RUNS = ProgramStatus(name="http", state="running", pid=7, exit_status=None, restarts=0, message="", log="/x/http.log")


@pytest.fixture
def lab() -> Mock:
    loaded = load(QUICKSTART)
    topology = loaded.topology()
    plane = DataPlane(topology)
    plans = {plan.name: plan for plan in plan_nodes(topology, plane.names)}
    found = Mock(data_plane=plane, topology=topology, plans=plans, missing=(), checks=loaded.lab_file.checks)
    found.name = "quickstart"
    found.now_ms.return_value = 1000
    found.advance_clock.side_effect = lambda ms: 5000 + ms
    return found


@pytest.fixture
def verbs(lab: Mock) -> Verbs:
    return Verbs(lab, Mock())


def test_only_a_wrong_question_about_a_restart_is_the_callers_fault() -> None:
    lab = Mock(plans={"web": Mock()})
    verbs = Verbs(lab, Mock())
    lab.restart.side_effect = NoProgramError("node web has no programs")
    with pytest.raises(RequestError, match="node web has no programs"):
        verbs.restart({"name": "web"})
    lab.restart.side_effect = LabError("the process that keeps the nodes has ended")
    with pytest.raises(LabError, match="the process that keeps the nodes has ended"):
        verbs.restart({"name": "web"})


def test_what_was_restarted_is_told_and_nothing_else(lab: Mock, verbs: Verbs) -> None:
    both = (RUNS, replace(RUNS, name="dns"))
    lab.runtime.status.return_value = {"web": NodeStatus(name="web", netns=None, programs=both)}
    lab.restart.return_value = ""
    assert [each["name"] for each in verbs.restart({"name": "web"})["programs"]] == ["http", "dns"]
    assert [each["name"] for each in verbs.restart({"name": "web", "program": "dns"})["programs"]] == ["dns"]
    lab.restart.assert_called_with("web", "dns")


def test_the_clock_moves_by_parts_of_a_second(lab: Mock, verbs: Verbs) -> None:
    assert verbs.clock({"advance_s": 0.25}) == 5.25
    assert verbs.clock({}) == 5.0
    assert [call.args for call in lab.advance_clock.call_args_list] == [(250,), (0,)]


@pytest.mark.parametrize("seconds", [-0.001, math.nan, math.inf, "5", None, 10 * 366 * 86400 + 1])
def test_the_clock_moves_forward_only_and_not_for_ever(lab: Mock, verbs: Verbs, seconds: object) -> None:
    with pytest.raises(RequestError):
        verbs.clock({"advance_s": seconds})
    lab.advance_clock.assert_not_called()


def test_records_that_are_written_and_those_that_are_open(lab: Mock, verbs: Verbs) -> None:
    lab.flow_logs.open.return_value = [Line(0, "v/all", "open")]
    lab.flow_logs.written.return_value = [Line(8, "v/all", "written")]
    assert [each["text"] for each in verbs.flow_logs({"after": 7, "open": True})["records"]] == ["open"]
    assert [each["text"] for each in verbs.flow_logs({"after": 7, "open": False})["records"]] == ["written"]
    lab.flow_logs.written.assert_called_once_with(7)


CHECK: dict[str, Any] = {"patience_s": 1.0, "apart": False}


def test_checks_are_those_of_the_lab_if_no_others_are_given(
    lab: Mock, verbs: Verbs, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A list of none is a list: it is not an order to prove all others."""
    prove = Mock(return_value=[])
    monkeypatch.setattr(verbs_module, "prove", prove)
    verbs.check(CHECK)
    verbs.check({**CHECK, "checks": "[]"})
    verbs.check({**CHECK, "checks": "[{can: app -> db, port: 5432}]", "apart": True})
    asked = [[str(each) for each in call.args[1]] for call in prove.call_args_list]
    assert len(asked[0]) == len(lab.checks)
    assert asked[1:] == [[], ["can app -> db tcp 5432"]]
    assert [call.kwargs["apart"] for call in prove.call_args_list] == [False, False, True]
    with pytest.raises(ConfigurationError, match="nothing follows"):
        verbs.check({**CHECK, "checks": ""})


@pytest.mark.parametrize("patience_s", [0.0, -1.0, 601.0, math.nan, math.inf])
def test_nobody_waits_for_a_packet_for_ever_or_not_at_all(verbs: Verbs, patience_s: float) -> None:
    """Nor for a time that is no number: JSON as Python reads it has NaN."""
    with pytest.raises(RequestError, match=r"patience is 0\.05 to 600\.0 seconds"):
        verbs.check({**CHECK, "patience_s": patience_s})


TRACE: dict[str, Any] = {"source": "app", "destination": "db", "protocol": "tcp", "size_bytes": 0}


def first_packet(found: Mapping[str, Any]) -> dict[str, Any]:
    packet: dict[str, Any] = found["forward"]["hops"][0]["steps"][0]["packet"]
    return packet


def test_a_trace_is_about_the_packet_that_was_asked_for(verbs: Verbs) -> None:
    found = verbs.trace({**TRACE, "port": 5432, "source_port": 0, "size_bytes": 100})
    packet = first_packet(found)
    assert (found["source"], found["destination"], found["reachable"]) == ("app", "db", True)
    assert (packet["source"], packet["destination"]) == ("10.0.2.10", "10.1.1.10")
    assert (packet["source_port"], packet["destination_port"]) == (0, 5432), "a port of 0 is one, too"
    assert packet["length_bytes"] == 20 + 20 + 100
    assert first_packet(verbs.trace({**TRACE, "port": 0}))["destination_port"] == 0
    assert first_packet(verbs.trace(TRACE))["destination_port"] == 80


@pytest.mark.parametrize(
    "wrong",
    [
        {"port": 65536},
        {"port": -1},
        {"source_port": 65536},
        {"size_bytes": 65001},
        {"size_bytes": -1},
        {"protocol": "nonsense"},
        {"protocol": "icmp", "port": 80},
        {"destination": "nobody"},
        {"source": "2001:db8::1"},
        {"destination": "2001:db8::1"},
    ],
)
def test_a_trace_of_what_cannot_be_is_refused(verbs: Verbs, wrong: dict[str, Any]) -> None:
    with pytest.raises(RequestError):
        verbs.trace({**TRACE, **wrong})


def test_a_trace_that_nobody_answers_says_whose_rules_were_looked_at_in_vain(verbs: Verbs) -> None:
    found = verbs.trace({**TRACE, "source": "web"})
    assert found["forward"]["note"] == "security group store/db"


def test_a_change_is_of_that_text_and_a_look_at_one_is_none(lab: Mock, verbs: Verbs) -> None:
    lab.apply.return_value = ([Change(action="add", kind="instance", path="instances.x")], "x is not ready")
    asked = {"text": "version: 1", "file": "new.yaml"}
    assert verbs.apply({**asked, "dry_run": True}) == {
        "changes": [{"action": "add", "kind": "instance", "path": "instances.x", "detail": ""}],
        "problem": "x is not ready",
    }
    lab.apply.assert_called_once_with("version: 1", "new.yaml", dry_run=True, folder=None)
    verbs.apply({**asked, "dry_run": False, "folder": "/here"})
    lab.apply.assert_called_with("version: 1", "new.yaml", dry_run=False, folder="/here")
    with pytest.raises(RequestError, match="argument 'dry_run' must be bool"):
        verbs.apply(asked)


def test_who_asks_is_not_who_is_asked_about(verbs: Verbs) -> None:
    assert verbs.resolve({"source": "visitor", "destination": "web"}) == "203.0.113.20"
    assert verbs.resolve({"source": "app", "destination": "web"}) == "10.0.1.10"
    with pytest.raises(RequestError, match="lab quickstart has no node 'nobody'"):
        verbs.resolve({"source": "nobody", "destination": "web"})


def test_down_says_who_wanted_it(lab: Mock) -> None:
    end = Mock()
    Verbs(lab, end).down({})
    end.assert_called_once_with("vpclab down")


@pytest.mark.parametrize("points", [["web", "tcp", "port", "80"], ["web", "tcp port 80"]])
def test_the_first_word_that_is_no_point_begins_the_filter(verbs: Verbs, points: list[str]) -> None:
    stream = verbs.capture({"points": points, "filter": "", "split": True})
    assert stream.first == {"sides": ["web/eth0"]}
    stream.close()
    with pytest.raises(RequestError):
        verbs.capture({"points": points, "filter": "", "split": False})


def test_a_status_has_seconds_and_what_each_node_has_sent(lab: Mock, verbs: Verbs) -> None:
    lab.runtime = Mock(lab_id="1", rootless=False, warnings=["w"], status=dict)
    lab.survival.lost, lab.flow_logs.complaints = ["l"], ("c",)
    lab.started, lab.start_s, lab.file = time.time() - 60, 0.5, "lab.yaml"
    lab.worker.clock_offset_ms = 350_500
    app = lab.data_plane.port("app/eth0")
    lab.data_plane.process([bytes(60)] * 3, [app] * 3, 1000)
    found = verbs.status({})
    assert found["clock_offset_s"] == 350.5
    assert 60 <= found["uptime_s"] < 120
    assert found["warnings"] == ["w", "l", "c"]
    sent = {each["name"]: each["interfaces"][0]["counters"]["sent_frames"] for each in found["nodes"]}
    assert sent == {"web": 0, "app": 3, "db": 0, "example": 0, "visitor": 0}


def test_a_neighbour_s_mac_is_its_own_and_everybody_else_s_the_router_s(lab: Mock, verbs: Verbs) -> None:
    plane: DataPlane = lab.data_plane
    app = plane.port("app/eth0")
    router = plane.interface(app).router_mac.hex(":")
    assert verbs.neighbour({"port": app, "destination": "10.0.2.10"}) == plane.interface(app).mac.hex(":")
    for other in ("10.0.2.1", "10.0.2.99", "10.0.1.10", "198.51.100.10"):
        assert verbs.neighbour({"port": app, "destination": other}) == router
    with pytest.raises(RequestError, match="no port 99999"):
        verbs.neighbour({"port": 99999, "destination": "10.0.2.10"})


@pytest.mark.parametrize("limit", [0, -1, 1_000_001, "10", None])
def test_flows_are_asked_for_in_numbers(verbs: Verbs, limit: object) -> None:
    with pytest.raises(RequestError, match="argument 'limit' must be"):
        verbs.flows({"limit": limit})


def test_who_goes_on_listening_is_waited_for() -> None:
    """In seconds: what streams would otherwise ask again and again."""
    ours, theirs = socket.socketpair()
    with ours, theirs:
        began = time.monotonic()
        assert not _has_ended(ours, 0.2)
        assert time.monotonic() - began >= 0.19
