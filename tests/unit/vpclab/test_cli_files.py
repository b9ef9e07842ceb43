"""Captures and pictures on the command line: what goes to which file, what is compared, and what is printed."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO
from unittest.mock import Mock

import pytest
from click.testing import CliRunner, Result
from scapy.layers.inet import ICMP, IP, TCP

from dataplane.engine import DataPlane
from dataplane.errors import ConfigurationError, LabError, Problem
from dataplane.load import load_topology
from dataplane.model._capture_points import known_points
from dataplane.picture import draw
from lab import pcapng
from lab.capture import Capture
from tests.scenario.network import Network
from vpclab.cli import cli
from vpclab.cli.captures import _is_frame
from vpclab.cli.output import clock_text, complain, duration, memory, printable
from vpclab.lab import Lab

QUICKSTART = Path(__file__).parents[3] / "examples" / "quickstart.yaml"


def run(*arguments: str) -> Result:
    return CliRunner().invoke(cli, arguments, prog_name="vpclab")


@pytest.fixture
def lab(monkeypatch: pytest.MonkeyPatch) -> Mock:
    lab = Mock(spec=Lab)
    monkeypatch.setattr(Lab, "attach", lambda name=None: lab)
    return lab


@pytest.fixture(scope="module")
def captured() -> bytes:
    """app opens a connection to web, which answers; its ping of a host on the internet, through NAT; one that dies."""
    network = Network(QUICKSTART.read_text(), engine="fast")
    capture = Capture(network.plane, ["web", "app", "nat:nat"])
    there = IP(src="10.0.2.10", dst="10.0.1.10") / TCP(sport=40000, dport=80, flags="S")
    network.send("app", there)
    network.send("web", IP(src="10.0.1.10", dst="10.0.2.10") / TCP(sport=80, dport=40000, flags="SA"))
    network.send("app", IP(src="10.0.2.10", dst="198.51.100.10") / ICMP(id=7))
    network.send("app", IP(src="10.0.2.10", dst="10.0.1.10") / TCP(sport=40001, dport=9999, flags="S"))
    written: list[bytes] = []
    capture.run(written.append, lambda seconds: True)
    return b"".join(written)


# -- captures --------------------------------------------------------------------------------------------


def test_a_replay_is_status_0_where_the_same_is_seen_and_1_where_not(tmp_path: Path, captured: bytes) -> None:
    file, changed, seen = tmp_path / "way.pcapng", tmp_path / "changed.yaml", tmp_path / "seen.pcapng"
    file.write_bytes(captured)
    done = run("replay", str(file), "--on", str(QUICKSTART), "-w", str(seen))
    assert done.exit_code == 0, done.output
    assert done.output.startswith("4 packets sent; of those seen, ")
    assert done.output.endswith(" are equal, 0 missing, 0 new\n")
    assert seen.read_bytes()[:4] == b"\x0a\x0d\x0d\x0a", "a section header of pcapng"
    changed.write_text(
        QUICKSTART.read_text().replace("protocol: tcp, ports: 80, source", "protocol: tcp, ports: 81, source")
    )
    done = run("replay", str(file), "--on", str(changed))
    assert done.exit_code == 1
    lines = done.output.splitlines()
    there = "tcp 10.0.2.10:40000 > 10.0.1.10:80 40 bytes: "
    assert any(line.startswith(f"- to web/eth0 {there}FORWARD to interface web/eth0") for line in lines)
    assert any(line.startswith("+ ") and "DROP GROUP_INGRESS" in line for line in lines)
    answer = run("replay", str(file), "--on", str(changed), "-w", str(tmp_path / "no folder" / "x"))
    assert (answer.exit_code, "No such file or directory" in answer.stderr) == (3, True)


class Running:
    """A capture that has begun."""

    lost = 2
    sides = ("web",)

    def __init__(self, octets: bytes) -> None:
        self.octets = octets
        self.limits: tuple[int, float] | None = None

    def run(self, stream: BinaryIO, *, count: int, seconds: float) -> int:
        self.limits = count, seconds
        stream.write(self.octets)
        stream.flush()
        return 7


def test_packets_go_where_they_are_wanted(lab: Mock, captured: bytes, tmp_path: Path) -> None:
    running, asked = Running(captured), []

    @contextmanager
    def open_capture(*points: str, split: bool) -> Iterator[Running]:
        asked.append((points, split))
        yield running

    lab.open_capture = open_capture
    done = run("capture", "web", "tcp", "port", "80", "-c", "3", "--seconds", "1.5")
    assert running.limits == (3, 1.5)
    assert asked == [(("web", "tcp", "port", "80"), True)]
    assert "2 packets were not recorded" in done.stderr
    there, back = "tcp 10.0.2.10:40000 > 10.0.1.10:80", "tcp 10.0.1.10:80 > 10.0.2.10:40000"
    assert [line.split(" ", 1)[1].partition(" 40 bytes: ")[0] for line in done.stdout.splitlines()[:4]] == [
        f"from app/eth0 {there}",
        f"to web/eth0 {there}",
        f"from web/eth0 {back}",
        f"to app/eth0 {back}",
    ]
    done = run("capture", "web", "-w", str(tmp_path / "out"))
    assert (tmp_path / "out").read_bytes() == captured
    assert f"7 packets in {tmp_path / 'out'}" in done.stderr
    assert run("capture", "web", "-w", "-").stdout_bytes == captured
    assert run("capture", "web", "-w", str(tmp_path / "no folder" / "x")).exit_code == 3


@pytest.mark.parametrize("example", ["quickstart", "gwlb-two-az"])
def test_where_frames_are_seen_is_where_a_capture_has_them(example: str) -> None:
    """What a replay prints is read with the headers that it has: Ethernet's, or only those of IP."""
    topology = load_topology(QUICKSTART.with_name(f"{example}.yaml"))
    plane = DataPlane(topology)
    written: list[bytes] = []
    words = known_points(topology)
    capture = Capture(plane, words)
    capture.run(written.append, lambda seconds: True)
    links: dict[str, int] = {}
    for kind, block in pcapng.whole_blocks(b"".join(written)):
        if kind == 1:  # an interface description: its link type comes first
            links[capture.sides[len(links)].name] = int.from_bytes(block[8:10], sys.byteorder)
    assert len(links) == len(capture.sides)
    assert {side: _is_frame(side) for side in links} == {side: link == pcapng.ETHERNET for side, link in links.items()}


# -- pictures --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("words", "begins"),
    [
        ([], "flowchart"),
        (["-o", "x.mmd"], "flowchart"),
        (["-o", "x.DOT"], "digraph"),
        (["-o", "x.gv"], "digraph"),
        (["-o", "x.txt"], "flowchart"),
        (["-o", "x.json"], "{"),
        (["--format", "json"], "{"),
        (["--format", "dot"], "digraph"),
        (["--format", "dot", "-o", "x.json"], "digraph"),
        (["--format", "json", "-o", "x.dot"], "{"),
    ],
)
def test_a_picture_is_of_the_format_that_is_named_or_else_of_the_ending(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, words: list[str], begins: str
) -> None:
    monkeypatch.chdir(tmp_path)
    done = run("graph", str(QUICKSTART), *words)
    assert done.exit_code == 0, done.output
    text = Path(words[-1]).read_text() if "-o" in words else done.stdout
    assert text.startswith(begins)
    assert text.endswith("\n")


def test_a_picture_with_traffic_is_marked_with_rates(lab: Mock, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of the time between two looks: 1000 bytes in 2 seconds are 4 kbit/s."""
    moments = iter((10.0, 12.0))
    slept: list[float] = []

    def traffic(*, ways: bool) -> dict[str, Any]:
        now = next(moments)
        count = {"sent_packets": now, "sent_bytes": 500 * now, "received_packets": 0, "received_bytes": 0}
        row = {"node": "web", "device": "eth0", "reasons": {}, **count}
        return {"time_s": now, "interfaces": [row], "gateways": [], "ways": [], "flows": [], "drops": {}}

    monkeypatch.setattr(time, "sleep", slept.append)
    lab.picture.return_value = draw(load_topology(QUICKSTART))
    lab.traffic = traffic
    marks = json.loads(run("graph", "--traffic", "--seconds", "2", "--format", "json").output)["marks"]
    assert slept == [2.0]
    assert marks == {"instance web": {"lines": ["sent 4 kbit/s, 1 packets/s"], "alarm": False}}


# -- words -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0.0, "0.0s"), (4.24, "4.2s"), (59.4, "59s"), (60, "1m00s"), (185, "3m05s"), (3599, "59m59s"), (3600, "1h00m"),
        (7800, "2h10m"), (86399, "23h59m"), (86400, "1d00h"), (5 * 86400 + 3661, "5d01h"),
    ],
)  # fmt: skip
def test_lengths_of_time_as_people_say_them(seconds: float, text: str) -> None:
    assert duration(seconds) == text


def test_memory_is_never_told_as_less_than_it_is() -> None:
    assert [memory(count) for count in (0, 1, 1 << 20, (1 << 20) + 1)] == ["0 MiB", "1 MiB", "1 MiB", "2 MiB"]


def test_time_of_day_has_nine_digits_behind_the_point() -> None:
    assert clock_text(86_400 * 10**9 + 7).endswith(":00.000000007")
    assert clock_text(1_999_999_999).endswith(":01.999999999")


def test_what_a_file_says_is_not_obeyed_by_a_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    """ECMA-48 has commands that begin with ESC: they may clear a screen, or write what somebody seems to have said."""
    complain(LabError("no \x1b[2J file"))
    complain(ConfigurationError([Problem("vpcs.\x9b2J", "bad\r", file="f", line=1, column=2)]))
    said = capsys.readouterr().err
    assert said == "vpclab: no \\x1b[2J file\nf:1:2: vpcs.\\x9b2J: bad\\r\n"
    assert printable("é → ü") == "é → ü"
