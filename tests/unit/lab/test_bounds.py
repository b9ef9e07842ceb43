"""What a lab says of its own limits; what it says of memory is weighed in tests/floods."""

from __future__ import annotations

from pathlib import Path
from unittest.mock import Mock

import pytest
from click.testing import CliRunner

from dataplane.engine import DataPlane
from dataplane.errors import LimitError
from dataplane.load import load_topology
from lab import bounds, flow_logs
from lab.capture import Capture, Stories, running_captures
from lab.verbs import Verbs
from vpclab.cli import cli
from vpclab.cli.output import memory
from vpclab.lab import Lab

TEXT = """
version: 1
vpcs:
  v:
    cidr: 10.0.0.0/16
    subnets: {s: {cidr: 10.0.1.0/24}}
instances:
  web: {vpc: v, subnet: s, private_ip: 10.0.1.10}
"""


@pytest.fixture
def plane() -> DataPlane:
    return DataPlane(load_topology(TEXT, file_name="test.yaml"), sessions=1_000, flows=100)


def rows(plane: DataPlane, **more: object) -> dict[str, bounds.Bound]:
    return {row.what: row for row in bounds.bounds_of(plane, **more)}  # type: ignore[arg-type]


def test_tables_are_as_large_as_the_engine_s(plane: DataPlane) -> None:
    found = rows(plane)
    assert found["tracked connections"].most == 1_000
    assert found["tracked connections"].bytes == 1_000 * 216 + 2_048 * 12
    assert found["flow entries"].most == 100
    assert found["flow entries"].bytes == 100 * 540 + (64 + 32) * 64 + 100 * 276


def test_what_there_is_of_each_stands_beside_what_there_may_be() -> None:
    """Packets of one interface may open half of all (docs/hardening.md, floods)."""
    sizes = {"session_limit": 1_000, "flow_limit": 100}
    there = {"sessions": 7, "sessions_of_one": 5, "flows": 3, "fragments_waiting": 2}
    found = rows(Mock(**{"engine.statistics.return_value": {**sizes, **there}}), captures=4)
    assert {what: (row.now, row.most) for what, row in found.items() if row.now is not None} == {
        "tracked connections": (7, 1_000),
        "those that packets of one interface have opened": (5, 500),
        "flow entries": (3, 100),
        "fragments that wait (64 of one sender)": (2, 2_048),
        "captures": (4, 16),
    }


def test_a_lab_counts_its_own_captures_and_flow_logs(plane: DataPlane) -> None:
    running = Mock(data_plane=plane)
    running.flow_logs.sizes.return_value = (5, 7)
    capture = Capture(plane, ["web"])
    found = {row["what"]: row["now"] for row in bounds.limits(running)["limits"]}
    capture.close()
    assert found["captures"] == 1
    assert (found["flow log records of intervals that are not over"], found["flow log lines to be shown"]) == (5, 7)


def test_memory_that_a_process_takes_is_what_is_resident() -> None:
    """Not all that it could touch: `VmRSS` of proc(5), in kilobytes."""
    status = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text().splitlines())
    resident, size = (int(status[name].split()[0]) * 1024 for name in ("VmRSS", "VmSize"))
    assert 0.8 * resident < bounds.resident_bytes() < min(1.2 * resident, size)


def test_captures_count_while_they_run(plane: DataPlane) -> None:
    other = DataPlane(load_topology(TEXT, file_name="test.yaml"))
    captures: list[Capture | Stories] = [Capture(plane, ["web"]), Stories(plane), Capture(other, ["web"])]
    assert running_captures(plane) == 2
    for each in captures[:2]:
        each.close()
        each.close()
    assert running_captures(plane) == 0
    assert running_captures(other) == 1
    captures[2].close()


def test_there_are_as_many_captures_as_is_said(plane: DataPlane) -> None:
    most = rows(plane)["captures"].most
    captures = [Stories(plane) for _ in range(most)]
    with pytest.raises(LimitError):
        Stories(plane)
    assert running_captures(plane) == most
    assert rows(plane, captures=most)["captures"].bytes == most * bounds.CAPTURE_BYTES
    for each in captures:
        each.close()


def test_flow_logs_are_told_of_where_there_are_some(plane: DataPlane) -> None:
    assert not any("flow log" in what for what in rows(plane))
    found = {what: row for what, row in rows(plane, logged=(5, 7)).items() if "flow log" in what}
    assert [row.now for row in found.values()] == [None, 5, 7]
    assert [row.most for row in found.values()] == [
        flow_logs.MOST_RECORDS, flow_logs.MOST_OPEN, flow_logs.KEPT_LINES
    ]  # fmt: skip


def test_the_command_shows_what_the_lab_answers(plane: DataPlane, monkeypatch: pytest.MonkeyPatch) -> None:
    running = Mock(data_plane=plane)
    running.flow_logs.sizes.return_value = None
    answer = Verbs(running, Mock()).limits({})
    assert answer["bytes"] == sum(row["bytes"] for row in answer["limits"])
    assert answer["resident_bytes"] > 1 << 20
    lab = Mock(spec=Lab)
    lab.limits.return_value = answer
    monkeypatch.setattr("vpclab.cli.selection.Selection.lab", lambda self: lab)
    done = CliRunner().invoke(cli, ["--lab", "x", "status", "--limits"])
    assert done.exit_code == 0
    [connections] = [line for line in done.output.splitlines() if line.startswith("tracked connections")]
    assert connections.split("  ")[-1].strip().startswith("a packet that would open another dies: SESSION_LIMIT")
    assert f"with the captures that run, packets can make the lab take {memory(answer['bytes'])} at most" in done.output
