"""Captures of real packets at every kind of point, read back by tshark."""

from __future__ import annotations

import re
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from lab.capture_stream import CaptureStream
from lab.control import RequestError
from tests.e2e.conftest import EXAMPLES
from tests.e2e.lab.stage import need
from vpclab import Lab

PATIENCE_S = 60.0


@contextmanager
def captured(lab: Lab, file: Path, *points: str, where: str = "") -> Iterator[CaptureStream]:
    """Capture while the block runs."""
    with lab.open_capture(*points, where=where) as running, file.open("wb") as stream:
        thread = threading.Thread(target=running.run, args=(stream,))
        thread.start()
        try:
            yield running
        finally:
            running.stop()
            thread.join(PATIENCE_S)
        assert not thread.is_alive()


def tshark(file: Path, *fields: str, display: str = "frame") -> list[tuple[str, ...]]:
    command = [need("tshark"), "-r", str(file), "-n", "-Y", display, "-T", "fields"]
    for field in fields:
        command += ["-e", field]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    return [tuple(line.split("\t")) for line in done.stdout.splitlines()]


def test_one_way_through_the_nat_gateway_to_the_internet(quickstart: Lab, tmp_path: Path) -> None:
    """An instance, both sides of a NAT gateway and of the internet gateway, the internet, and a host of it."""
    file = tmp_path / "way.pcapng"
    points = ("app", "nat:nat", "igw:shop", "internet", "example")
    with captured(quickstart, file, *points, where="icmp"):
        assert quickstart["app"].ping("198.51.100.10")
    rows = tshark(file, "frame.interface_name", "ip.src", "ip.dst", "icmp.type", "frame.comment")
    out = [row[:3] for row in rows if row[3] == "8"]
    assert sorted(out) == [
        ("app/eth0", "10.0.2.10", "198.51.100.10"),
        ("example/eth0", "203.0.113.10", "198.51.100.10"),
        ("igw:shop/inside", "10.0.1.4", "198.51.100.10"),
        ("igw:shop/outside", "203.0.113.10", "198.51.100.10"),
        ("internet", "203.0.113.10", "198.51.100.10"),
        ("nat:shop/nat/inside", "10.0.2.10", "198.51.100.10"),
        ("nat:shop/nat/outside", "10.0.1.4", "198.51.100.10"),
    ]
    back = [row[:3] for row in rows if row[3] == "0"]
    assert sorted(back) == sorted((name, destination, source) for name, source, destination in out)
    fates = {row[4].partition("; ")[0] for row in rows}
    assert fates == {"FORWARD to interface example/eth0", "FORWARD to interface app/eth0"}
    assert all("; allowed by " in row[4] for row in rows)


def test_tcp_over_a_peering_with_whole_checksums(quickstart: Lab, tmp_path: Path) -> None:
    """The kernels left checksums and segmentation to their devices; what is recorded has them."""
    file = tmp_path / "peering.pcapng"
    with captured(quickstart, file, "peering:shop-store", "db", where="tcp port 5432"), pytest.raises(ConnectionError):
        quickstart["app"].connect("db", 5432)
    rows = tshark(file, "frame.interface_name", "tcp.flags.str")
    names = {row[0] for row in rows}
    assert names == {"peering:shop-store", "db/eth0"}
    command = ("-o", "tcp.check_checksum:TRUE")
    done = subprocess.run(
        [need("tshark"), "-r", str(file), *command, "-T", "fields", "-e", "tcp.checksum.status"],
        capture_output=True,
        text=True,
        check=True,
    )
    assert set(done.stdout.split()) == {"1"}


def test_what_is_dropped_says_why_and_by_which_rule(quickstart: Lab, tmp_path: Path) -> None:
    file = tmp_path / "drops.pcapng"
    with captured(quickstart, file, "web", "app", where="tcp port 9999"):
        with pytest.raises(TimeoutError):
            quickstart["app"].connect("web", 9999, timeout_s=0.5)
        assert quickstart["app"].ping("web")  # what it sent before has been decided before
    rows = tshark(file, "frame.interface_name", "tcp.dstport", "frame.comment")
    assert {row[0] for row in rows} == {"app/eth0", "web/eth0"}, "at its sender, and at the door where it died"
    [comment] = {row[2] for row in rows}
    assert comment == (
        "DROP GROUP_INGRESS at interface web/eth0; no rule; "
        "no inbound security group rule allows it [ENI_SG_RULES_MISMATCH]"
    )


def test_points_and_filters_that_are_none(quickstart: Lab) -> None:
    for points, where, words in (
        (("wbe",), "", "called 'wbe'; did you mean web"),
        (("nat:shop/nta",), "", "did you mean nat:shop/nat"),
        (("nut:shop/nat",), "", "no such kind as nut; did you mean nat"),
        (("nat:nat/outer",), "", "sides of nat:nat are inside and outside"),
        (("gwlb:lb",), "", "the lab has no gwlb"),
        (("web", "web/eth0"), "", "web/eth0 is asked for twice"),
        ((), "", "what is to be captured"),
        (("web",), "tcp prot 80", "filter 'tcp prot 80': .*syntax error"),
        (("nat:nat",), "ether host 02:00:00:00:00:01", "no Ethernet header at this point"),
    ):
        with pytest.raises(RequestError, match=words):
            quickstart.open_capture(*points, where=where)
    assert quickstart["app"].ping("web"), "nothing is left of them"


def test_a_capture_of_real_traffic_is_the_same_when_it_is_replayed(quickstart: Lab, tmp_path: Path) -> None:
    """All that instances and hosts sent, curl through the NAT gateway among it, goes through the same network again."""
    file = tmp_path / "all.pcapng"
    with captured(quickstart, file, "web", "app", "db", "example", "nat:nat", "igw:shop", where="ip"):
        got = quickstart["app"].run(["curl", "-sS", "-o", "/dev/null", "-w", "%{http_code}", "http://198.51.100.10/"])
        assert got.stdout == "200"
        assert quickstart["app"].ping("db")
    again = tmp_path / "again.pcapng"
    command = [sys.executable, "-P", "-m", "vpclab", "replay", str(file), "--on", str(EXAMPLES / "quickstart.yaml")]
    done = subprocess.run([*command, "-w", str(again)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout
    assert re.fullmatch(r"\d+ packets sent; of those seen, (\d+) are equal, 0 missing, 0 new\n", done.stdout)
    fields = ("frame.interface_name", "ip.src", "ip.dst", "tcp.seq_raw", "tcp.len", "frame.comment")
    assert sorted(tshark(again, *fields)) == sorted(tshark(file, *fields))
    changed = tmp_path / "changed.yaml"
    changed.write_text(
        (EXAMPLES / "quickstart.yaml").read_text().replace("elastic_ip: 203.0.113.10}", "elastic_ip: 203.0.113.11}")
    )
    command[-1] = str(changed)
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert "+ to example/eth0 tcp 203.0.113.11:" in done.stdout


def test_a_slow_reader_loses_records_and_no_packets(quickstart: Lab, tmp_path: Path) -> None:
    """Nobody reads the capture for a while; every ping is answered, and the file counts what is not in it."""
    app = quickstart["app"]
    with quickstart.open_capture("app", "web", where="icmp") as running:
        done = app.run(["ping", "-q", "-f", "-c", "12000", "-s", "1400", "10.0.1.10"], timeout_s=250)
        assert "12000 received" in done.stdout
        running.stop()
        with (tmp_path / "some.pcapng").open("wb") as stream:
            packets = running.run(stream)
        assert running.lost > 0
        assert packets + running.lost == 4 * 12000
    assert len(tshark(tmp_path / "some.pcapng", "frame.number")) == packets


def test_real_packets_are_followed_hop_by_hop(quickstart: Lab) -> None:
    command = [
        sys.executable,
        "-P",
        "-m",
        "vpclab",
        "--lab",
        quickstart.name,
        "trace",
        "--live",
        "-c",
        "3",
        "icmp or port 9999",
    ]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as following:
        assert following.stdout is not None
        assert following.stderr is not None
        assert following.stderr.readline() == "following packets; Ctrl-C stops\n"
        assert quickstart["app"].ping("198.51.100.10")
        with pytest.raises(TimeoutError):
            quickstart["app"].connect("web", 9999, timeout_s=0.3)
        told = following.stdout.read()
        assert following.wait(30) == 0
    request, answer, dropped = told.rstrip().split("\n\n")
    assert "app/eth0 -> 198.51.100.10   icmp 10.0.2.10 > 198.51.100.10 (type 8, code 0)" in request
    assert re.search(r"nat-gateway shop/nat +translates.*10\.0\.1\.4", request)
    assert " => DELIVERED to interface example/eth0" in request
    assert "icmp 198.51.100.10 > 203.0.113.10 (type 0, code 0)" in answer
    assert " => DELIVERED to interface app/eth0" in answer
    assert " => DROPPED by interface web/eth0" in dropped


def test_captures_of_the_lab_file_begin_with_the_lab(tmp_path: Path) -> None:
    text = (EXAMPLES / "quickstart.yaml").read_text()
    declared = "\ncaptures:\n  start:\n    points: [web, example]\n    file: start.pcapng\n    filter: {}\n"
    lab_file = tmp_path / "lab.yaml"
    lab_file.write_text(text + declared.format("tcp prot 80"))
    with pytest.raises(RequestError, match=r"filter 'tcp prot 80': .*syntax error"):
        Lab.load(lab_file).up()
    lab_file.write_text(text + declared.format("icmp"))
    with Lab.load(lab_file) as lab:
        assert lab["web"].ping("198.51.100.10")
        lab_file.write_text(text + declared.format("icmp").replace("start.pcapng", "later.pcapng"))
        lab.apply(lab_file)
        assert all(lab["web"].ping("198.51.100.10") for _ in range(2))
    for name, pings in (("start", 1), ("later", 2)):
        rows = tshark(tmp_path / f"{name}.pcapng", "frame.interface_name", "icmp.type")
        assert sorted(rows) == sorted(
            [("web/eth0", "8"), ("web/eth0", "0"), ("example/eth0", "8"), ("example/eth0", "0")] * pings
        )
