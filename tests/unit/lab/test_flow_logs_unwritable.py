"""Flow logs whose files cannot be written, and folders that outlive their lab."""

from __future__ import annotations

import os
import threading
from pathlib import Path
from time import monotonic, sleep
from typing import Any

import pytest

from dataplane.errors import LabError
from dataplane.load import load_topology
from lab import flow_logs
from lab.flow_logs import FOLDER, MARK
from tests.unit.lab.logged import BEGIN_S, DB, FORMAT, WEB, Logged, row, text


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))


def blocked(lab: Logged, folder: str) -> Path:
    """A file where a folder should be: nothing can be written there until it is removed."""
    path = lab.state.path / FOLDER / folder
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("")
    return path


PLAIN = "AWSLogs/123456789012"


def test_what_cannot_be_written_while_a_flow_log_is_replaced_is_written_later() -> None:
    """And the new one has begun nevertheless."""
    lab = Logged(f"log: {{network_interface: web/eth0, {FORMAT}}}")
    lab.send(5, 2)
    path = blocked(lab, PLAIN)
    lab.change(text(f"log: {{network_interface: web/eth0, gzip: false, {FORMAT}}}, more: {{subnet: s, {FORMAT}}}"))
    lab.send(15, 3)
    lab.wait(30)
    assert lab.state.read(MARK) == {"v/log": BEGIN_S, "v/more": BEGIN_S}
    [complaint] = lab.logs.complaints
    assert complaint == "flow log v/log cannot be written: Not a directory"
    path.unlink()
    lab.wait(31)
    assert lab.lines() == [row(WEB, 2, 5, 5, "egress")]
    assert lab.logs.complaints == ()
    lab.wait(600)
    more = [row(WEB, 3, 15, 15, "egress"), row(DB, 3, 15, 15, "ingress", "REJECT")]
    assert sorted(lab.lines()) == sorted([row(WEB, 2, 5, 5, "egress"), row(WEB, 3, 15, 15, "egress"), *more])


def test_what_is_missing_longest_of_a_flow_log_that_was_replaced_is_what_would_be_lost() -> None:
    """A crash loses from there on, whatever the new one of that name has written since."""
    log = f"max_aggregation_interval: 60, network_interface: web/eth0, {FORMAT}"
    lab = Logged(f"log: {{{log}}}")
    lab.send(5)
    blocked(lab, PLAIN)
    lab.send(130)
    lab.change(text(f"log: {{hive_compatible_partitions: true, {log}}}"))
    lab.wait(180)
    assert lab.state.read(MARK) == {"v/log": BEGIN_S}


def test_what_a_crash_has_lost_is_said_once_by_a_lab_that_has_no_flow_logs_any_more() -> None:
    lab = Logged(f"log: {{network_interface: web/eth0, {FORMAT}}}")
    lab.logs._ended.set()  # it is killed here
    lab.state.release()
    again = Logged("")
    assert "(v/log from 2023-11-14 22:20 on)" in again.lost
    again.logs.told()
    again.logs.close()
    again.state.release()
    assert Logged("").lost == ""


def test_what_waits_to_be_written_of_a_flow_log_that_is_gone_takes_room() -> None:
    lab = Logged(f"log: {{network_interface: web/eth0, {FORMAT}}}")
    for sport in (1, 2):
        lab.send(5, sport=sport)
    path = blocked(lab, PLAIN)
    lab.change(text(""))
    assert lab.logs.sizes() == (2, 0)
    path.unlink()
    lab.wait(10)
    assert lab.logs.sizes() == (0, 2)


def test_one_flow_log_that_cannot_be_written_keeps_no_other_from_it() -> None:
    lab = Logged(
        f"a: {{network_interface: web/eth0, {FORMAT}}}, "
        f"b: {{network_interface: web/eth0, hive_compatible_partitions: true, {FORMAT}}}"
    )
    lab.send(5)
    path = blocked(lab, PLAIN)
    lab.wait(600)
    [name] = lab.files()
    assert "aws-account-id" in name
    assert lab.lines() == [row(WEB, 1, 5, 5, "egress")]
    lab.send(605)
    lab.logs.close()
    assert len(lab.files()) == 2
    assert lab.state.read(MARK) == {"v/a": BEGIN_S}, "what is missing is told of"
    path.unlink()


def test_what_was_written_before_a_failure_is_not_written_again() -> None:
    lab = Logged(f"log: {{network_interface: web/eth0, per_hour_partition: true, gzip: false, {FORMAT}}}")
    lab.send(5)
    lab.send(605)
    path = blocked(lab, f"{PLAIN}/vpcflowlogs/us-east-1/2023/11/14/23")
    lab.wait(3000)  # 23:10 UTC: intervals that ended up to 22:50 have another folder
    path.unlink()
    lab.wait(3001)
    ends = [line.split()[2:4] for line in lab.lines() if line.endswith("NODATA")]
    assert ends == [[str(BEGIN_S + begin), str(BEGIN_S + begin + 600)] for begin in (1200, 1800, 2400)]
    assert [line for line in lab.lines() if line.endswith("OK")] == [
        row(WEB, 1, 5, 5, "egress"),
        row(WEB, 1, 605, 605, "egress"),
    ]


def test_nothing_of_a_file_that_cannot_be_written_stays(monkeypatch: pytest.MonkeyPatch) -> None:
    def full(descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    lab = Logged(f"log: {{network_interface: web/eth0, {FORMAT}}}")
    lab.send(5)
    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", full)
        lab.wait(600)
        assert lab.logs.complaints == ("flow log v/log cannot be written: No space left on device",)
        assert not [path for path in (lab.state.path / FOLDER).rglob("*") if path.is_file()]
    lab.wait(601)
    assert lab.lines() == [row(WEB, 1, 5, 5, "egress")]


def test_nobody_waits_for_a_pipe_in_the_way_of_a_file(monkeypatch: pytest.MonkeyPatch) -> None:
    """Programs in instances can write to the folder."""
    monkeypatch.setattr(flow_logs, "file_key", lambda *_, **__: "one.log")
    lab = Logged(f"log: {{network_interface: web/eth0, gzip: false, {FORMAT}}}")
    (lab.state.path / FOLDER).mkdir()
    os.mkfifo(lab.state.path / FOLDER / ".one.log")
    lab.send(5)
    lab.wait(600)
    assert lab.lines() == [row(WEB, 1, 5, 5, "egress")]


def test_an_error_does_not_end_the_thread_that_writes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(flow_logs, "TICK_S", 0.01)
    lab = Logged(f"log: {{network_interface: web/eth0, {FORMAT}}}")
    take, failed = lab.plane.take_flow_records, threading.Event()

    def fail_once(*, unfinished: bool = False) -> Any:
        if failed.is_set():
            return take(unfinished=unfinished)
        failed.set()
        raise RuntimeError("once")

    lab.plane.take_flow_records = fail_once  # type: ignore[method-assign]
    assert failed.wait(30)
    lab.send(5)
    lab.plane.advance(600_000)
    end = monotonic() + 30
    while not lab.logs._written:  # asking properly would write what the thread should
        assert monotonic() < end
        sleep(0.01)
    assert lab.lines() == [row(WEB, 1, 5, 5, "egress")]
    lab.logs.close()


def test_two_flow_logs_of_one_name_and_interval_have_two_files_though_they_say_the_same() -> None:
    logs = 'log: {network_interface: web/eth0, gzip: false, log_format: "${interface-id} ${packets}"}'
    lab = Logged(logs)
    for second in (5, 25):
        lab.send(second)
        lab.change(text(""))
        lab.change(text(logs))
    assert lab.lines() == [f"{WEB} 1"] * 2
    assert len({name.rpartition("_")[0] for name in lab.files()}) == 1


def test_a_folder_that_a_flow_log_names_outlives_the_lab(tmp_path: Path) -> None:
    lab = Logged("")
    logs = f"kept: {{network_interface: web/eth0, folder: logs, gzip: false, {FORMAT}}}, gone: {{subnet: s}}"
    lab.plane.apply(load_topology(text(logs), file_name="test.yaml"))
    lab.logs.configure(tmp_path)
    lab.send(5)
    lab.logs.close()
    lab.state.remove()
    [path] = (path for path in tmp_path.rglob("*.log*") if path.is_file())
    assert path.relative_to(tmp_path).parts[:2] == ("logs", "AWSLogs")
    assert path.read_text().splitlines()[1:] == [row(WEB, 1, 5, 5, "egress")]


def test_folders_that_flow_logs_name_are_found_from_the_file_that_was_applied_last(tmp_path: Path) -> None:
    lab = Logged("")
    logs = f"kept: {{max_aggregation_interval: 60, network_interface: web/eth0, folder: logs, gzip: false, {FORMAT}}}"
    lab.plane.apply(load_topology(text(logs), file_name="test.yaml"))
    written = []
    for minute, name in enumerate(("one", "other")):
        lab.logs.configure(tmp_path / name)
        lab.send(60 * minute + 5)
        lab.wait(60 * (minute + 1))
        written.append([path.read_text().splitlines()[1:] for path in (tmp_path / name / "logs").rglob("*.log")])
    assert written == [[[row(WEB, 1, 5, 5, "egress")]], [[row(WEB, 1, 65, 65, "egress")]]]
    lab.logs.close()


def test_what_cannot_be_written_is_told_once(caplog: pytest.LogCaptureFixture) -> None:
    lab = Logged(f"log: {{network_interface: web/eth0, {FORMAT}}}")
    lab.send(5)
    blocked(lab, PLAIN)
    for second in (600, 601, 602):
        lab.wait(second)
    told = [each.getMessage() for each in caplog.records if each.name == "lab.flow_logs"]
    assert told == ["flow log v/log cannot be written: Not a directory"]


def test_two_of_one_name_that_cannot_be_written_are_one_complaint() -> None:
    logs = f"log: {{network_interface: web/eth0, {FORMAT}}}"
    lab = Logged(logs)
    lab.send(5)
    blocked(lab, PLAIN)
    lab.change(text(logs.replace("log_format", "gzip: false, log_format")))
    lab.wait(600)
    assert lab.logs.complaints == ("flow log v/log cannot be written: Not a directory",)


def test_what_cannot_be_written_is_told_once_though_another_of_its_name_can(caplog: pytest.LogCaptureFixture) -> None:
    """Somebody has given it another folder: of what was to go to the old one a line each second says nothing new."""
    log = f"network_interface: web/eth0, {FORMAT}"
    lab = Logged(f"log: {{{log}}}")
    lab.send(5)
    blocked(lab, PLAIN)
    lab.change(text(f"log: {{hive_compatible_partitions: true, {log}}}"))
    for second in (600, 601, 1200, 1201):
        lab.wait(second)
    told = [each.getMessage() for each in caplog.records if each.name == "lab.flow_logs"]
    assert told == ["flow log v/log cannot be written: Not a directory"]
    assert lab.logs.complaints == tuple(told)


def test_that_it_cannot_be_said_since_when_nothing_was_written_is_told_and_tried_again() -> None:
    lab = Logged(f"log: {{network_interface: web/eth0, {FORMAT}}}")
    write, full, writes = lab.state.write, [True], []

    def refuse(name: str, value: Any) -> None:
        writes.append(name)
        if full[0]:
            raise LabError(f"{name}: No space left on device")
        write(name, value)

    lab.state.write = refuse  # type: ignore[method-assign]
    lab.send(5)
    lab.wait(600)
    assert list(lab.logs.complaints) == [f"{MARK}: No space left on device"]
    assert lab.lines() == [row(WEB, 1, 5, 5, "egress")], "files are written all the same"
    full[0] = False
    lab.wait(601)
    assert list(lab.logs.complaints) == []
    assert lab.state.read(MARK) == {"v/log": BEGIN_S + 600}
    writes.clear()
    lab.wait(602)
    assert writes == [], "it says that already"
