"""Flow logs as files: intervals in lab time, names as in S3, and what a crash leaves."""

from __future__ import annotations

from datetime import UTC, datetime
from ipaddress import IPv4Address
from pathlib import Path
from typing import Any

import pytest

from dataplane.load import load_topology
from dataplane.model.flow_log import FlowLog
from dataplane.observe.flow_log_lines import log_id
from dataplane.observe.s3_keys import file_key
from dataplane.probe import Probe
from lab import flow_logs
from lab.flow_logs import FOLDER, MARK, MOST_IDLE
from tests.unit.lab.logged import BEGIN_S, DB, FORMAT, WEB, Logged, row, text


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))


def test_an_interval_is_written_once_it_is_over() -> None:
    lab = Logged(f"log: {{max_aggregation_interval: 60, {FORMAT}}}")
    lab.send(10, 3)
    lab.send(30, 2)
    lab.wait(59.9)
    assert lab.files() == {}
    lab.wait(60)
    rejected = row(DB, 5, 10, 30, "ingress", "REJECT")
    assert lab.lines() == [row(WEB, 5, 10, 30, "egress"), rejected]
    assert [each.text for each in lab.logs.written()] == lab.lines()
    lab.wait(119)
    assert len(lab.files()) == 1


def test_ten_minutes_are_one_record() -> None:
    lab = Logged(f"log: {{network_interface: web/eth0, {FORMAT}}}")
    for minute in range(10):
        lab.send(60 * minute + 7, 2)
        lab.logs.collect()
    assert lab.files() == {}
    lab.wait(600)
    assert lab.lines() == [row(WEB, 20, 7, 547, "egress")]


def test_files_are_called_as_in_s3() -> None:
    lab = Logged(
        "plain: {network_interface: web/eth0, gzip: false}, packed: {network_interface: web/eth0}, "
        "hive: {network_interface: web/eth0, hive_compatible_partitions: true, per_hour_partition: true}"
    )
    lab.send(1)
    lab.wait(600)
    names = {name: log_id("v", name) for name in ("plain", "packed", "hive")}
    day, account, time = "us-east-1/2023/11/14", "123456789012", "20231114T2220Z"
    hive = f"aws-account-id={account}/aws-service=vpcflowlogs/aws-region=us-east-1/year=2023/month=11/day=14/hour=22"
    expected = {
        f"AWSLogs/{account}/vpcflowlogs/{day}/{account}_vpcflowlogs_us-east-1_{names['plain']}_{time}_": ".log",
        f"AWSLogs/{account}/vpcflowlogs/{day}/{account}_vpcflowlogs_us-east-1_{names['packed']}_{time}_": ".log.gz",
        f"AWSLogs/{hive}/{account}_vpcflowlogs_us-east-1_{names['hive']}_{time}_": ".log.gz",
    }
    found = lab.files()
    assert len(found) == 3
    for begin, end in expected.items():
        [name] = [each for each in found if each.startswith(begin)]
        hash_, _, rest = name.removeprefix(begin).partition(".")
        assert len(hash_) == 8
        assert f".{rest}" == end
    begin = "version account-id interface-id srcaddr dstaddr srcport dstport protocol packets bytes start end"
    assert {content[0] for content in found.values()} == {f"{begin} action log-status"}
    [packed] = (lab.state.path / FOLDER).rglob(f"*{names['packed']}*")
    assert packed.read_bytes()[4:8] == bytes(4), "the same records are the same file, whenever it is written"


@pytest.mark.parametrize(
    ("log", "folders"),
    [
        (FlowLog(per_hour_partition=True), "123456789012/vpcflowlogs/eu-west-1/2024/03/05/07"),
        (
            FlowLog(hive_compatible_partitions=True),
            "aws-account-id=123456789012/aws-service=vpcflowlogs/aws-region=eu-west-1/year=2024/month=03/day=05",
        ),
    ],
)
def test_days_and_hours_in_keys_have_two_digits(log: FlowLog, folders: str) -> None:
    """https://docs.aws.amazon.com/vpc/latest/userguide/flow-logs-s3-path.html"""
    at = int(datetime(2024, 3, 5, 7, 5, tzinfo=UTC).timestamp())
    key = file_key(log, account="123456789012", region="eu-west-1", log_id="fl-1", begin_s=at, content=b"")
    assert key.startswith(f"AWSLogs/{folders}/123456789012_vpcflowlogs_eu-west-1_fl-1_20240305T0705Z_")


def times(lab: Logged) -> dict[str, list[str]]:
    """By the time in their names: lines of files."""
    found: dict[str, list[str]] = {}
    for name, content in lab.files().items():
        found.setdefault(name.split("_")[4], []).extend(content[1:])
    return {name: sorted(content) for name, content in found.items()}


@pytest.mark.parametrize("interval", [60, 600])
def test_a_file_has_records_that_end_within_the_five_minutes_from_the_time_in_its_name(interval: int) -> None:
    """https://docs.aws.amazon.com/vpc/latest/userguide/flow-logs-s3-path.html: T1620Z from 16:20:00 to 16:24:59."""
    log = f"log: {{max_aggregation_interval: {interval}, network_interface: web/eth0, {FORMAT}}}"
    lab = Logged(log)
    for second in (0, 299, 300, 599):
        lab.send(second, sport=1 + second)
    lab.wait(600)
    found = {name: [line for line in some if line.endswith("OK")] for name, some in times(lab).items()}
    assert found.pop("20231114T2230Z", []) == [], "silence up to 22:30:00"
    assert found == {
        "20231114T2220Z": [row(WEB, 1, each, each, "egress") for each in (0, 299)],
        "20231114T2225Z": [row(WEB, 1, each, each, "egress") for each in (300, 599)],
    }


def test_what_of_an_interval_is_written_already_is_not_written_again(monkeypatch: pytest.MonkeyPatch) -> None:
    lab = Logged(f"log: {{network_interface: web/eth0, {FORMAT}}}")
    for second in (5, 305):
        lab.send(second, sport=1 + second)
    put, full = flow_logs._put, [True]

    def put_if_room(path: Path, content: bytes) -> None:
        if full[0] and "T2225Z" in path.name:
            raise OSError(28, "No space left on device")
        put(path, content)

    monkeypatch.setattr(flow_logs, "_put", put_if_room)
    lab.wait(600)
    assert lab.lines() == [row(WEB, 1, 5, 5, "egress")]
    assert lab.logs.complaints == ("flow log v/log cannot be written: No space left on device",)
    full[0] = False
    lab.wait(601)
    assert lab.lines() == [row(WEB, 1, 5, 5, "egress"), row(WEB, 1, 305, 305, "egress")]
    assert [each.text for each in lab.logs.written()] == lab.lines()


def test_a_flow_log_may_want_one_action_only() -> None:
    lab = Logged(
        f"yes: {{traffic_type: ACCEPT, gzip: false, {FORMAT}}}, no: {{traffic_type: REJECT, gzip: false, {FORMAT}}}"
    )
    lab.send(1)
    lab.wait(600)
    assert sorted(lab.lines()) == sorted([row(WEB, 1, 1, 1, "egress"), row(DB, 1, 1, 1, "ingress", "REJECT")])


def test_silence_is_written_down() -> None:
    lab = Logged("log: {max_aggregation_interval: 60, network_interface: web/eth0}")
    lab.wait(120)
    begins = (BEGIN_S, BEGIN_S + 60)
    found = sorted(lab.lines())
    assert found == [f"2 123456789012 {WEB} - - - - - - - {each} {each + 60} - NODATA" for each in begins]


def test_of_a_leap_of_the_clock_the_last_intervals_are_written() -> None:
    lab = Logged("log: {max_aggregation_interval: 60, network_interface: web/eth0}")
    lab.send(1)
    lab.wait(86_400)
    found = lab.lines()
    assert len(found) == 1 + MOST_IDLE
    assert found[0].endswith("ACCEPT OK")


def test_what_there_was_no_room_for_is_told() -> None:
    lab = Logged("log: {max_aggregation_interval: 60, network_interface: web/eth0}", flows=1)
    lab.send(1, sport=1)
    lab.send(2, sport=2)
    lab.wait(60)
    [kept, skipped] = lab.lines()
    assert kept.endswith("OK")
    assert skipped == f"2 123456789012 {WEB} - - - - - - - {BEGIN_S} {BEGIN_S + 60} - SKIPDATA"


def test_an_interval_holds_as_many_records_as_there_is_room_for(monkeypatch: pytest.MonkeyPatch) -> None:
    """However many minutes and flows it has: what is there is counted on, and that there was more is told."""
    monkeypatch.setattr(flow_logs, "MOST_OPEN", 3)
    lab = Logged(f"log: {{network_interface: web/eth0, {FORMAT}}}")
    for minute in range(3):
        for sport in (1, 2 + minute, 12 + minute):
            lab.send(60 * minute + 1, sport=sport)
        lab.logs.collect()
    assert lab.logs.sizes() == (3, 0)
    lab.wait(600)
    *kept, skipped = lab.lines()
    assert kept == [row(WEB, 1, 1, 1, "egress"), row(WEB, 1, 1, 1, "egress"), row(WEB, 3, 1, 121, "egress")]
    assert skipped == f"{WEB} - {BEGIN_S} {BEGIN_S + 600} - - SKIPDATA"
    assert lab.logs.sizes() == (0, 4)
    lab.send(601, sport=7)
    lab.wait(1200)
    assert lab.lines()[4:] == [row(WEB, 1, 601, 601, "egress")], "there is room again"


def test_all_flow_logs_share_the_room(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(flow_logs, "MOST_OPEN", 3)
    lab = Logged(f"one: {{network_interface: web/eth0, {FORMAT}}}, two: {{network_interface: web/eth0, {FORMAT}}}")
    for sport in (1, 2):
        lab.send(1, sport=sport)
    lab.logs.collect()
    lab.wait(60)
    assert lab.logs.sizes() == (3, 0)
    lab.wait(600)
    assert [line.rpartition(" ")[2] for line in lab.lines()].count("SKIPDATA") == 1


@pytest.mark.parametrize("gone", [False, True])
def test_a_loss_that_nobody_can_name_is_told_of_every_interface(monkeypatch: pytest.MonkeyPatch, gone: bool) -> None:
    """So many windows lack something that there is no room to remember them all: any of the last ones may."""
    monkeypatch.setattr(flow_logs, "TICK_S", 1000.0)  # taken once, at the end
    logs, minutes = f"log: {{gzip: false, {FORMAT}}}", 600
    lab = Logged(logs, flows=1)
    for minute in range(minutes):
        for each in range(2):
            lab.send(60 * minute + 1 + each, sport=1 + 2 * minute + each)
    if gone:
        lab.change(without("db", logs))
    lab.wait(60 * minutes)
    skipped = [line.split() for line in lab.lines() if line.endswith("SKIPDATA")]
    for interface in (WEB, DB):
        begins = [(int(start) - BEGIN_S) // 60 for name, _, start, *_ in skipped if name == interface]
        assert begins[0] == 0
        assert begins[-6:] == [540, 550, 560, 570, 580, 590]
    assert lab.plane.take_flow_records(unfinished=True)[1] == {}, "told once"


def test_the_end_of_a_lab_writes_what_is_open() -> None:
    lab = Logged(f"log: {{network_interface: web/eth0, {FORMAT}}}")
    lab.send(5)
    lab.logs.close()
    assert lab.lines() == [row(WEB, 1, 5, 5, "egress")]
    assert lab.state.read(MARK) is None


LOG = "log: {max_aggregation_interval: 60, network_interface: web/eth0}"


def test_a_crash_loses_what_was_open_and_the_next_start_says_so() -> None:
    lab = Logged(LOG)
    assert lab.lost == ""
    lab.send(5)
    lab.wait(60)
    lab.send(61)
    lab.wait(119)
    lab.logs._ended.set()  # it is killed here: nothing is written any more
    before = lab.files()
    lab.state.release()
    again = Logged(LOG)
    assert again.lost == (
        "the lab was killed before: flow log records of the intervals open then are lost "
        "(v/log from 2023-11-14 22:21 on)"
    )
    assert again.files() == before
    again.logs.told()
    again.logs.close()
    again.state.release()
    assert Logged(LOG).lost == ""


@pytest.mark.parametrize("ends", [True, False])
def test_what_a_crash_has_lost_is_said_until_somebody_was_told(ends: bool) -> None:
    """A lab that is resumed may end, or be killed, before that."""
    lab = Logged(LOG)
    lab.wait(600)
    lab.logs._ended.set()  # it is killed here
    lab.state.release()
    again = Logged(LOG)
    again.wait(1200)
    if ends:
        again.logs.close()
    again.logs._ended.set()
    again.state.release()
    assert "(v/log from 2023-11-14 22:30 on)" in Logged(LOG).lost


def test_open_intervals_can_be_looked_at_and_are_written_whole_all_the_same() -> None:
    lab = Logged(f"log: {{network_interface: web/eth0, {FORMAT}}}")
    lab.send(5)
    assert [each.text for each in lab.logs.open()] == [row(WEB, 1, 5, 5, "egress")]
    lab.send(9)
    assert [each.text for each in lab.logs.open()] == [row(WEB, 2, 5, 9, "egress")]
    lab.wait(600)
    assert lab.lines() == [row(WEB, 2, 5, 9, "egress")]


def test_lines_are_numbered_so_that_a_reader_can_go_on() -> None:
    lab = Logged(f"log: {{max_aggregation_interval: 60, network_interface: web/eth0, {FORMAT}}}")
    lab.send(5)
    lab.wait(60)
    [first] = lab.logs.written()
    lab.send(65)
    lab.wait(120)
    [second] = lab.logs.written(first.number)
    assert (second.log, second.text) == ("v/log", row(WEB, 1, 65, 65, "egress"))


def test_of_what_was_written_the_last_lines_are_kept_to_be_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(flow_logs, "KEPT_LINES", 2)
    lab = Logged(f"log: {{max_aggregation_interval: 60, network_interface: web/eth0, {FORMAT}}}")
    for minute in range(3):
        lab.send(60 * minute + 5)
        lab.wait(60 * minute + 60)
    assert [each.text for each in lab.logs.written()] == [row(WEB, 1, at, at, "egress") for at in (65, 125)]
    assert lab.logs.sizes() == (0, 2)


def test_a_flow_log_that_ends_knows_the_services_that_there_were_then() -> None:
    """Both go at once: https://docs.aws.amazon.com/vpc/latest/userguide/flow-log-records.html, pkt-dst-aws-service."""
    logs = 'log: {network_interface: web/eth0, log_format: "${pkt-dst-aws-service} ${packets}"}'
    lab = Logged(logs)
    lab.change(text(logs) + "aws_services: {s3: {prefixes: [203.0.113.0/24], address: 203.0.113.80}}\n")
    ends: dict[str, Any] = {"source": IPv4Address("10.0.1.10"), "destination": IPv4Address("203.0.113.80")}
    port = lab.plane.port("web/eth0")
    frame = lab.plane.frame(port, Probe(protocol=17, source_port=5, destination_port=6, **ends))
    lab.plane.process([frame], [port], 5000)
    lab.change(text(""))
    assert lab.lines() == ["S3 1"]


def test_flow_logs_come_and_go_with_the_lab_file() -> None:
    lab = Logged("")
    lab.send(5)
    lab.wait(60)
    assert lab.files() == {}
    changed: list[Any] = [text(f"log: {{network_interface: web/eth0, {FORMAT}}}"), text("")]
    lab.plane.apply(load_topology(changed[0], file_name="test.yaml"))
    lab.logs.configure()
    lab.send(70)
    lab.plane.apply(load_topology(changed[1], file_name="test.yaml"))
    lab.logs.configure()
    assert lab.lines() == [row(WEB, 1, 70, 70, "egress")]
    lab.send(80)
    lab.wait(1200)
    assert len(lab.lines()) == 1


def without(name: str, logs: str) -> str:
    """The lab file without an instance."""
    return "".join(line for line in text(logs).splitlines(keepends=True) if not line.startswith(f"  {name}:"))


def test_an_interface_that_goes_leaves_its_part_of_the_interval() -> None:
    """And no word of silence in those in which it was not there any more."""
    logs = f"log: {{max_aggregation_interval: 60, {FORMAT}}}"
    lab = Logged(logs)
    lab.send(10, 3)
    lab.change(without("web", logs))
    lab.wait(60)
    assert sorted(lab.lines()) == sorted([row(WEB, 3, 10, 10, "egress"), row(DB, 3, 10, 10, "ingress", "REJECT")])
    lab.wait(120)
    [silence] = lab.lines()[2:]
    assert silence == f"{DB} - {BEGIN_S + 60} {BEGIN_S + 120} - - NODATA"


def test_an_interface_that_goes_leaves_its_part_of_intervals_that_nobody_has_written_yet(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(flow_logs, "TICK_S", 1000.0)  # written at the end, all at once
    logs = f"log: {{max_aggregation_interval: 60, {FORMAT}}}"
    lab = Logged(logs)
    lab.send(10, 3)
    lab.send(70, 2)
    lab.change(without("web", logs))
    lab.wait(120)
    found = [line for line in lab.lines() if line.startswith(WEB)]
    assert sorted(found) == sorted([row(WEB, 3, 10, 10, "egress"), row(WEB, 2, 70, 70, "egress")])


def test_what_goes_and_comes_back_has_lost_nothing() -> None:
    logs = f"log: {{network_interface: web/eth0, {FORMAT}}}"
    whole = f"log: {{subnet: s, {FORMAT}}}"
    for wanted, gone in ((whole, without("web", whole)), (logs, text(""))):
        lab = Logged(wanted)
        lab.send(10, 3)
        lab.change(gone)
        lab.change(text(wanted))
        lab.send(20)
        lab.wait(600)
        found = [line.split() for line in lab.lines() if line.startswith(WEB) and line.endswith("egress ACCEPT OK")]
        assert sum(int(each[1]) for each in found) == 4
        lab.logs.close()
        lab.state.remove()
        lab.state.release()


def test_all_interfaces_of_a_flow_log_may_go() -> None:
    logs = f"log: {{subnet: s, {FORMAT}}}"
    lab = Logged(logs)
    lab.send(10, 3)
    lab.change(text(logs).partition("instances:")[0])
    lab.wait(600)
    assert sorted(lab.lines()) == sorted([row(WEB, 3, 10, 10, "egress"), row(DB, 3, 10, 10, "ingress", "REJECT")])
    lab.wait(1200)
    assert len(lab.lines()) == 2
