"""A law of flow logs: they change nothing, and what there was to see is written once, whatever becomes of the lab file.

What there was to see is told, after each step, by a network of its own that is watched everywhere and all the time.
"""

from __future__ import annotations

import copy
import gzip
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dataplane.observe.flow_log_lines import log_id, watched_interfaces
from lab import flow_logs
from lab.flow_logs import FOLDER, FlowLogs
from lab.state import LabState
from tests.property.fresh import part
from tests.property.histories import Case, Network, cases, plays
from tests.property.quick_load import topology_of
from tests.property.test_laws import came_up

FORMAT = "${interface-id} ${packets} ${bytes} ${log-status}"
Lab = dict[str, Any]


def with_logs(lab: Lab, logs: dict[str, Lab]) -> Lab:
    """The lab with these flow logs, by VPC, and no others."""
    other = copy.deepcopy(lab)
    for vpc, declared in other["vpcs"].items():
        declared["flow_logs"] = logs.get(vpc, {})
    return other


def some_logs(draw: st.DrawFn, lab: Lab) -> dict[str, Lab]:
    """Flow logs of a few kinds at each VPC, or none."""
    found: dict[str, Lab] = {}
    for vpc, declared in lab["vpcs"].items():
        watched: list[Lab] = [{}, *({"subnet": name} for name in declared["subnets"])]
        watched += [{"network_interface": f"{n}/eth0"} for n, each in lab["instances"].items() if each["vpc"] == vpc]
        for name in draw(st.sampled_from([(), ("one",), ("one",), ("one", "other")])):
            found.setdefault(vpc, {})[name] = {
                **draw(st.sampled_from(watched)),
                "gzip": draw(st.booleans()),
                "max_aggregation_interval": draw(st.sampled_from([60, 600])),
                "log_format": FORMAT,
            }
    return found


class Expected:
    """Packets and bytes that flow logs should tell of: by id of the flow log and of the interface."""

    def __init__(self, lab: Lab, names: Any) -> None:
        self.everywhere = Network(with_logs(lab, {vpc: {"all": {}} for vpc in lab["vpcs"]}), names=names)
        self.everywhere.plane.record_flows()
        self.total: Counter[tuple[str, str, str]] = Counter()

    def add(self, lab: Lab) -> None:
        """What happened since the last call was seen by the flow logs of this lab."""
        topology = topology_of(lab)
        windows = self.everywhere.plane.take_flow_records(unfinished=True)[1].values()
        assert not any(window.lost or window.lost_anywhere for window in windows)
        for vpc, declared in topology.lab.vpcs.items():
            for name, each in declared.flow_logs.items():
                watched = watched_interfaces(topology, self.everywhere.plane.names, vpc, each)
                for flow, count in (pair for window in windows for pair in window.flows.items()):
                    if flow.interface in watched:
                        key = log_id(vpc, name), watched[flow.interface].facts["interface-id"]
                        self.total[*key, "packets"] += count.packets
                        self.total[*key, "bytes"] += count.bytes


def written(folder: Path) -> Counter[tuple[str, str, str]]:
    """The same of all files."""
    total: Counter[tuple[str, str, str]] = Counter()
    for path in folder.rglob("*.log*"):
        content = path.read_bytes()
        text = (gzip.decompress(content) if path.suffix == ".gz" else content).decode()
        for line in text.splitlines()[1:]:
            interface, packets, size, status = line.split()
            assert status in ("OK", "NODATA")
            if status == "OK":
                log = path.name.split("_")[3]
                total[log, interface, "packets"] += int(packets)
                total[log, interface, "bytes"] += int(size)
    return total


def test_flow_logs_that_come_change_and_go_change_nothing_and_lose_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    monkeypatch.setattr(flow_logs, "TICK_S", 1e6)  # they are asked here
    monkeypatch.setattr(flow_logs, "MOST_IDLE", 2)
    seen: Counter[str] = Counter()

    @settings(max_examples=part(2))
    @given(case=cases, data=st.data())
    def law(case: Case, data: st.DataObject) -> None:
        plain = with_logs(case.lab, {})
        lab = with_logs(case.lab, data.draw(st.composite(some_logs)(case.lab)))
        still = Network(plain)
        logged = Network(lab, names=still.plane.names)
        expected = Expected(case.lab, still.plane.names)
        state = LabState("law")
        state.path.mkdir(parents=True)
        logs = FlowLogs(state, logged.plane, epoch_ms=0)
        try:
            logs.configure()
            for step in data.draw(plays(case, still.plane.topology)):
                if data.draw(st.booleans(), label="change"):
                    lab = with_logs(case.lab, data.draw(st.composite(some_logs)(case.lab)))
                    logged.apply(lab)
                    logs.configure()
                    seen["changed"] += bool(expected.total)
                for _ in range(3 if step.what == "packet" else 1):  # from the second time on it is remembered
                    told = still.play(step)
                    assert logged.play(step) == told
                    assert expected.everywhere.play(step) == told
                expected.add(lab)
                if data.draw(st.booleans(), label="collect"):
                    logs.collect()
                assert still.plane.engine.sessions() == logged.plane.engine.sessions()
                assert still.plane.engine.counters() == logged.plane.engine.counters()
            logs.close()
            assert written(state.path / FOLDER) == expected.total
            seen["logged"] += bool(expected.total)
            seen["memo hit"] += logged.plane.engine.statistics()["flow_hits"] > 0
            seen.update(still.seen)
        finally:
            logs.close()
            state.remove()

    law()
    came_up(seen, "changed", "logged", "memo hit", "NONE", "GROUP_INGRESS")
