"""`vpclab graph` and `vpclab top` of a lab that runs, one process per call."""

from __future__ import annotations

import contextlib
import json
import os
import pty
import re
import select
import signal
import subprocess
import sys
import time
import xml.etree.ElementTree as ET
from pathlib import Path

from tests.e2e.conftest import EXAMPLES
from vpclab import Lab

FILE = str(EXAMPLES / "quickstart.yaml")


def vpclab(*words: str, status: int = 0, **environment: str) -> subprocess.CompletedProcess[str]:
    done = subprocess.run(
        [sys.executable, "-P", "-m", "vpclab", *words],
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == status, done.stdout + done.stderr
    return done


def test_the_picture_of_a_running_lab_is_that_of_its_file(quickstart: Lab) -> None:
    ours = ["--lab", quickstart.name]
    assert vpclab("graph", *ours).stdout == vpclab("graph", FILE).stdout
    assert json.loads(vpclab("graph", *ours, "--format", "json").stdout) == quickstart.picture().to_json()


def test_a_picture_goes_into_a_file_whose_ending_says_what_it_is(tmp_path: Path) -> None:
    for ending, begins in (
        ("svg", "<?xml"),
        ("mmd", "flowchart LR\n"),
        ("dot", 'digraph "quickstart"'),
        ("json", "{\n"),
    ):
        target = tmp_path / f"lab.{ending}"
        done = vpclab("graph", FILE, "-o", str(target))
        assert (done.stdout, done.stderr) == ("", f"drew quickstart in {target}\n")
        assert target.read_text().startswith(begins)
    texts = "".join(ET.fromstring((tmp_path / "lab.svg").read_text()).itertext())
    assert "NAT gateway nat" in texts
    assert "subnet private 10.0.2.0/24" in texts
    assert vpclab("graph", FILE, "--format", "svg").stdout.startswith("<?xml")


def test_what_cannot_be_drawn(tmp_path: Path) -> None:
    done = vpclab("graph", FILE, "--format", "svg", PATH=str(tmp_path), status=3)
    assert done.stderr == (
        "vpclab: graphviz's dot is not installed; run: sudo apt-get install -y graphviz (or: --format mermaid)\n"
    )
    assert "leave FILE out" in vpclab("graph", FILE, "--traffic", status=2).stderr
    assert "No such file or directory" in vpclab("graph", FILE, "-o", str(tmp_path / "no" / "x.svg"), status=3).stderr
    (tmp_path / "wrong.yaml").write_text("version: 1\nvcps: {}\n")
    assert "wrong.yaml:2:" in vpclab("graph", str(tmp_path / "wrong.yaml"), status=2).stderr


def test_traffic_marks_rates_and_drops(quickstart: Lab) -> None:
    options = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    with (
        quickstart["app"].popen(["ping", "-i", "0.05", "10.0.1.10"], **options) as ping,
        quickstart["visitor"].popen(["ping", "-i", "0.05", "203.0.113.20"], **options) as refused,
    ):
        try:
            out = vpclab("graph", "--lab", quickstart.name, "--traffic", "--seconds", "1", "--format", "json").stdout
        finally:
            ping.terminate()
            refused.terminate()
    marks = json.loads(out)["marks"]
    [sent, received, *more] = marks["instance app"]["lines"]
    assert re.fullmatch(r"sent \S+ kbit/s, \d+ packets/s", sent)
    assert re.fullmatch(r"received \S+ kbit/s, \d+ packets/s", received)
    assert (more, marks["instance app"]["alarm"]) == ([], False)
    assert re.fullmatch(r"dropped \d+ GROUP_INGRESS", marks["internet-host visitor"]["lines"][-1])
    assert marks["internet-host visitor"]["alarm"]


def test_links_are_marked_with_what_goes_over_them(quickstart: Lab) -> None:
    """A ping out through the NAT gateway, counted in both subnets that it leaves, and one over the peering."""
    from vpclab.cli.rates import link_rates, marks

    before = quickstart.traffic(ways=True)
    assert all(quickstart["app"].ping("example") for _ in range(5))
    assert all(quickstart["db"].ping("web") for _ in range(3))
    after = quickstart.traffic(ways=True)
    seconds = after["time_s"] - before["time_s"]
    found = {link: round(sums["packets_s"] * seconds) for link, sums in link_rates(before, after).items()}
    assert found == {
        "routes shop/private -> nat-gateway shop/nat": 10,
        "routes shop/public -> internet-gateway shop": 10,
        "routes shop/public -> peering shop-store": 6,
        "routes store/data -> peering shop-store": 6,
    }
    picture = quickstart.picture().marked(marks(before, after))
    assert set(found) <= set(picture.marks)
    with quickstart["app"].popen(["ping", "-i", "0.05", "198.51.100.10"], stdout=subprocess.DEVNULL) as ping:
        try:
            out = vpclab("graph", "--lab", quickstart.name, "--traffic", "--seconds", "1").stdout
        finally:
            ping.terminate()
    assert re.search(
        r'routes_shop_private -->\|"0\.0\.0\.0/0<br/>\S+ kbit/s, \S+ packets/s, 1 flow"\| nat_gateway', out
    )


def test_rates_are_those_of_the_traffic(quickstart: Lab) -> None:
    """What is counted between two samples is what was sent between them, to the packet and the byte."""
    from vpclab.cli.rates import interface_rates

    assert quickstart["app"].ping("web"), "the neighbours know each other"
    before = quickstart.traffic()
    assert all(quickstart["app"].ping("web", size_bytes=100) for _ in range(5))
    after = quickstart.traffic()
    seconds = after["time_s"] - before["time_s"]
    rows = {row["node"]: row for row in interface_rates(before, after)}
    for node in ("app", "web"):
        assert round(rows[node]["sent_packets_s"] * seconds) >= 5
        assert round(rows[node]["received_packets_s"] * seconds) >= 5
        octets = round(rows[node]["sent_bits_s"] * seconds / 8)
        assert 5 * 128 <= octets <= 5 * 128 + 5 * 14 + 200, "echoes, and perhaps a question for a neighbour"
    assert rows["db"]["sent_packets_s"] == 0


def test_nat_ports_in_use_are_those_of_the_busiest_destination(quickstart: Lab) -> None:
    lines = [quickstart["app"].connect("example", 80) for _ in range(9)]  # more than pings of this module have
    try:
        [gateway] = quickstart.traffic()["gateways"]
    finally:
        for line in lines:
            line.close()
    assert gateway["ports"] >= 9
    assert (gateway["ports_to"], gateway["ports_limit"]) == ("tcp 198.51.100.10:80", 64512)


def test_top_prints_looks_where_there_is_no_terminal(quickstart: Lab) -> None:
    with quickstart["visitor"].popen(["ping", "-i", "0.05", "203.0.113.20"], stdout=subprocess.DEVNULL) as refused:
        try:
            out = vpclab("top", "--lab", quickstart.name, "-n", "2", "--interval", "0.5").stdout
        finally:
            refused.terminate()
    assert out.count(f"lab {quickstart.name}: ") == 2
    assert re.search(r"visitor/eth0 .* GROUP_INGRESS", out)
    assert re.search(r"shop/nat +\d+ +\d+ of 64512", out)


def test_top_redraws_in_place_and_ends_by_an_interrupt(quickstart: Lab) -> None:
    pid, terminal = pty.fork()
    if pid == 0:
        words = ["-P", "-m", "vpclab", "top", "--lab", quickstart.name, "--interval", "0.2"]
        os.execve(
            sys.executable, [sys.executable, *words], {**os.environ, "TERM": "xterm", "COLUMNS": "120", "LINES": "40"}
        )
    seen = b""
    deadline = time.monotonic() + 30
    try:
        while seen.count(b"remembered:") < 3:
            assert time.monotonic() < deadline, seen[-2000:]
            if select.select([terminal], [], [], 0.2)[0]:
                seen += os.read(terminal, 65536)
        os.kill(pid, signal.SIGINT)
        with contextlib.suppress(OSError):  # when the other end of the terminal is closed
            while True:
                seen += os.read(terminal, 65536)
    finally:
        os.close(terminal)
        _, status = os.waitpid(pid, 0)
    assert os.waitstatus_to_exitcode(status) == 0
    assert b"\x1b[?1049h" in seen, "on a screen of its own"
    assert b"\x1b[?1049l" in seen, "and back"
    assert b"\x1b[H" in seen, "from the top, not below"
    assert b"Traceback" not in seen
