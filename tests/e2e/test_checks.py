"""Checks proven with real packets: what holds, what does not, and what nobody can tell."""

from __future__ import annotations

import json
import re
import subprocess
import sys
import threading
import time
import xml.etree.ElementTree as ET
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from ruamel.yaml import YAML

from dataplane.errors import VpclabError
from tests.e2e.conftest import EXAMPLES
from tests.e2e.conversation import Conversation, listen
from vpclab import ConfigurationError, Lab, LabError

QUICKSTART = EXAMPLES / "quickstart.yaml"
WRONG_PORT = {"can": "visitor -> web", "port": 22}


def prove(lab: Lab, **check: Any) -> dict[str, Any]:
    [row] = lab.check([check], patience_s=1.0)
    return row


@pytest.mark.parametrize(
    ("check", "why"),
    [
        ({"can": "visitor -> web", "port": 80, "via": "internet-gateway:shop"}, "answered"),
        (
            {"can": "app -> example", "port": 80, "via": "nat-gateway:shop/nat", "source_seen": "203.0.113.10"},
            "answered, seen as 203.0.113.10",
        ),
        (
            {"can": "app -> example", "port": 81},
            "answered, by a reset: nobody listens, seen as 203.0.113.10",
        ),
        ({"can": "db -> web", "protocol": "icmp", "via": "peering:shop-store"}, "answered"),
        ({"can": "app -> 10.0.2.1", "protocol": "icmp"}, "answered"),
        (
            {"can": "app -> example", "protocol": "udp", "port": 9999, "source_seen": "203.0.113.10"},
            "answered, in place of a program that did not, seen as 203.0.113.10",
        ),
        ({"can": "example -> visitor", "protocol": 50}, "answered, in place of a program that did not"),
    ],
    ids=str,
)
def test_what_can(quickstart: Lab, check: dict[str, Any], why: str) -> None:
    row = prove(quickstart, **check)
    assert (row["holds"], row["why"]) == (True, why)


@pytest.mark.parametrize(
    ("check", "decider", "reason"),
    [
        ({"cannot": "db -> example", "protocol": "icmp"}, "store/main", "NO_ROUTE"),
        ({"cannot": "visitor -> web", "protocol": "icmp"}, "web/eth0", "GROUP_INGRESS"),
        ({"cannot": "visitor -> web", "port": 22}, "shop/edge", "ACL_INGRESS"),
        ({"cannot": "visitor -> web", "protocol": "udp", "port": 80}, "shop/edge", "ACL_INGRESS"),
        ({"cannot": "app -> web", "protocol": 50}, "web/eth0", "GROUP_INGRESS"),
        ({"cannot": "app -> 192.0.2.1", "port": 80}, "internet", "OUTSIDE_NO_ROUTE"),
        ({"cannot": "app -> 10.0.2.99", "port": 80}, "app/eth0", "ARP_UNANSWERED"),
    ],
    ids=str,
)
def test_what_cannot_dies_at_a_name(quickstart: Lab, check: dict[str, Any], decider: str, reason: str) -> None:
    row = prove(quickstart, **check)
    assert row["holds"], row["why"]
    assert (row["dropped"]["object"]["path"], row["dropped"]["reason"]) == (decider, reason)


@pytest.mark.parametrize("kind", [{"protocol": "icmp"}, {"protocol": "udp", "port": 53}], ids=str)
def test_a_packet_of_a_size_is_not_fragmented(quickstart: Lab, kind: dict[str, Any]) -> None:
    """Over and over: what the kernel learns from an ICMP error does not keep it from sending the next one."""
    for _ in range(2):
        fits = prove(quickstart, can="web -> example", packet_size=1500, **kind)
        assert (fits["holds"], fits["packet_size"]) == (True, 1500), fits["why"]
        too_big = prove(quickstart, cannot="web -> example", packet_size=1501, **kind)
        assert too_big["holds"], too_big["why"]
        dropped = too_big["dropped"]
        assert (dropped["object"]["path"], dropped["reason"]) == ("shop", "MTU_EXCEEDED")


def test_a_packet_is_as_long_as_asked(quickstart: Lab) -> None:
    with quickstart["web"].sniffer() as line:
        for size in (68, 9001):
            assert prove(quickstart, can="db -> web", protocol="icmp", packet_size=size)["holds"]
        sizes = [len(frame) - 14 for frame in line.frames(0, 0.0, where=lambda frame: frame[23:24] == b"\x01")]
    assert sizes == [68, 9001]
    with quickstart["visitor"].sniffer() as line:
        assert prove(quickstart, can="example -> visitor", protocol=50, packet_size=1500)["holds"]
        assert [len(frame) - 14 for frame in line.frames(0, 0.0, where=lambda frame: frame[23:24] == b"\x32")] == [1500]
    quickstart["db"].run(["ip", "link", "set", "eth0", "mtu", "1500"], check=True)
    try:
        unsent = prove(quickstart, can="db -> web", protocol="icmp", packet_size=1501)
    finally:
        quickstart["db"].run(["ip", "link", "set", "eth0", "mtu", "9001"], check=True)
    assert (unsent["found"], "Message too long" in unsent["why"]) == ("unsent", True)


def test_ipv6_packets_have_a_size_too() -> None:
    far = "web -> 2001:db8:ffff::10"
    with Lab.load(EXAMPLES / "dual-stack.yaml") as lab:
        fits = prove(lab, can=far, packet_size=1500, protocol="icmpv6")
        assert fits["holds"], fits["why"]
        for kind in ({"protocol": "icmpv6"}, {"protocol": "udp", "port": 53}):
            assert prove(lab, cannot=far, packet_size=1501, **kind)["dropped"]["reason"] == "MTU_EXCEEDED"


def test_a_claim_that_is_wrong_does_not_hold_either_way(quickstart: Lab) -> None:
    shut = prove(quickstart, **WRONG_PORT)
    assert not shut["holds"]
    assert shut["dropped"]["rule"]["path"] == "shop/edge ingress 90 deny tcp 22 from 0.0.0.0/0"
    assert not prove(quickstart, cannot="visitor -> web", port=80)["holds"]
    assert (
        "but seen as 203.0.113.10" in prove(quickstart, can="app -> example", port=80, source_seen="10.0.2.10")["why"]
    )
    assert "but not via peering" in prove(quickstart, can="app -> example", port=80, via="peering:shop-store")["why"]


def test_a_destination_that_says_nothing_proves_nothing(quickstart: Lab) -> None:
    """web's kernel has no way back to app, so it says nothing: the network let the packet through."""
    route = ["ip", "route", "add", "blackhole", "10.0.2.10/32"]
    quickstart["web"].run(route, check=True)
    try:
        for claim in ("can", "cannot"):
            row = prove(quickstart, **{claim: "app -> web", "protocol": "icmp"})
            assert (row["holds"], row["found"]) == (False, "arrived")
            assert row["why"].endswith("it arrived at interface web/eth0, and no answer came")
    finally:
        quickstart["web"].run(["ip", "route", "del", "blackhole", "10.0.2.10/32"], check=True)
    assert prove(quickstart, can="app -> web", protocol="icmp")["holds"]


def test_a_check_is_one_packet_whatever_a_kernel_sends_again(quickstart: Lab) -> None:
    """Nobody answers a SYN, which is sent again after 1, 3 and 7 seconds: each within the patience since the last."""
    route = ["ip", "route", "add", "blackhole", "10.0.1.10/32"]
    quickstart["app"].run(route, check=True)
    try:
        with quickstart["app"].sniffer() as line:
            [row] = quickstart.check([{"can": "web -> app", "port": 8080}], patience_s=5.0)
            assert len(list(line.frames(0, 0.0, where=lambda frame: frame[23:24] == b"\x06"))) == 1
    finally:
        quickstart["app"].run(["ip", "route", "del", "blackhole", "10.0.1.10/32"], check=True)
    assert (row["found"], len(row["legs"])) == ("arrived", 1)


def test_a_lab_goes_down_though_checks_are_running() -> None:
    """Nobody answers, and who asks is patient."""
    failed: list[LabError] = []
    with Lab.load(QUICKSTART) as lab:
        lab["web"].run(["ip", "route", "add", "blackhole", "10.0.2.10/32"], check=True)

        def ask() -> None:
            try:
                lab.check([{"can": "app -> web", "protocol": "icmp"}], patience_s=500)
            except LabError as error:
                failed.append(error)

        asking = threading.Thread(target=ask)
        with lab["web"].sniffer() as line:
            asking.start()
            assert list(line.frames(1, 60, where=lambda frame: frame[23:24] == b"\x01")), "it is on its way"
        began = time.monotonic()
    assert time.monotonic() - began < 250
    asking.join(60)
    [error] = failed
    assert "going down" in str(error)


def test_a_program_that_answers_datagrams_is_asked(quickstart: Lab) -> None:
    import socket

    server = quickstart["example"].socket(socket.AF_INET, socket.SOCK_DGRAM)
    server.bind(("", 5353))
    server.settimeout(10)

    def answer() -> None:
        data, peer = server.recvfrom(100)
        server.sendto(data, peer)

    thread = threading.Thread(target=answer)
    thread.start()
    try:
        assert prove(quickstart, can="app -> example", protocol="udp", port=5353)["why"].startswith("answered, seen as")
    finally:
        thread.join()
        server.close()


def test_what_an_appliance_decides_is_no_drop_of_the_network() -> None:
    with Lab.load(EXAMPLES / "inspection.yaml") as lab:
        through = prove(lab, can="customer -> web", port=80, via="instance:fw", source_seen="198.51.100.77")
        assert through["holds"], through["why"]
        assert through["assumed"] == []
        swallowed = prove(lab, cannot="customer -> web", port=8080)
        assert (swallowed["holds"], swallowed["found"]) == (False, "lost")
        assert swallowed["why"] == "not proven: it arrived at interface fw/eth0, which did not send it on"


def test_an_appliance_that_answers_in_the_place_of_a_destination_proves_nothing() -> None:
    """Its reset is not that of the destination, which never got the packet."""
    text = (EXAMPLES / "inspection.yaml").read_text()
    refuses = text.replace('counter comment "everything', 'meta l4proto tcp counter reject with tcp reset comment "all')
    assert refuses != text
    with Lab.from_dict({**YAML(typ="safe").load(refuses), "name": "refusing"}) as lab:
        for claim in ("can", "cannot"):
            found = prove(lab, **{claim: "customer -> web"}, port=8080)
            assert (found["holds"], found["found"], found["dropped"]) == (False, "lost", None)
            assert "it never arrived: interface fw/eth0 answered in its place" in found["why"]
        assert prove(lab, can="customer -> web", port=80)["holds"]


@pytest.mark.parametrize("patience_s", [float("inf"), float("nan"), -1.0, 0.0, 601.0])
def test_patience_is_a_time(quickstart: Lab, patience_s: float) -> None:
    with pytest.raises(VpclabError, match=r"^patience is"):
        quickstart.check([{"can": "app -> web", "port": 80}], patience_s=patience_s)


def test_other_traffic_goes_on_meanwhile(quickstart: Lab) -> None:
    """A connection and a ping that were there before: nothing is lost when the worker hands over and takes over."""
    with Conversation(quickstart, "example", "198.51.100.10", 7000, client="app") as line:
        pings = quickstart["db"].popen(
            ["ping", "-n", "-i", "0.01", "-c", "151", "10.0.1.10"], stdout=subprocess.PIPE, text=True
        )
        for _ in range(10):
            assert prove(quickstart, can="visitor -> web", port=80)["holds"]
            assert line.works()
        out, _ = pings.communicate(timeout=30)
        # it does not wait long for the answer to the last
        assert re.search(r"151 packets transmitted, 15[01] received", out), out


def test_many_checks_at_once_do_not_mix(quickstart: Lab) -> None:
    """The same ends, ports open, refused and shut: each is told its own."""
    with listen(quickstart, "example", 7001):
        checks = [{"can": "app -> example", "port": 7001}, {"can": "app -> example", "port": 7002}, WRONG_PORT] * 20
        rows = quickstart.check(checks)
    assert [row["number"] for row in rows] == list(range(1, 61))
    assert [row["why"].partition(" ")[0] for row in rows] == ["answered,", "answered,", "DROPPED"] * 20
    assert ["reset" in row["why"] for row in rows] == [False, True, False] * 20


def test_bad_checks_are_bad_input_and_the_lab_goes_on(quickstart: Lab) -> None:
    with pytest.raises(ConfigurationError, match="did you mean web"):
        quickstart.check([{"can": "app -> wep", "port": 80}])
    assert prove(quickstart, can="app -> web", protocol="icmp")["holds"]


# -- the command


@pytest.fixture
def command(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))

    def run(*words: str) -> subprocess.CompletedProcess[str]:
        line = [sys.executable, "-P", "-m", "vpclab", *words]
        return subprocess.run(line, capture_output=True, text=True, timeout=120, check=False)

    yield run
    assert not list((tmp_path / "state").glob("vpclab/*")), "the lab that was started for it is gone"


def lab_with(tmp_path: Path, *checks: str) -> str:
    file = tmp_path / "lab.yaml"
    text = QUICKSTART.read_text().partition("\nchecks:")[0]
    file.write_text(text + "\nchecks:\n" + "".join(f"  - {{{each}}}\n" for each in checks))
    return str(file)


def test_a_file_is_proven_in_a_lab_of_its_own(command: Any, tmp_path: Path) -> None:
    good, bad = "cannot: db -> example, protocol: icmp", "can: visitor -> web, port: 22, because: we log in"
    done = command("check", lab_with(tmp_path, good))
    assert (done.returncode, done.stderr) == (0, "")
    assert "1 of 1 checks hold, decided with real packets" in done.stdout
    done = command("check", lab_with(tmp_path, good, bad), "--junit", str(tmp_path / "out.xml"))
    assert done.returncode == 1
    assert "2. does not hold: can visitor -> web tcp 22, because we log in" in done.stdout
    assert "=> DROPPED by network-acl shop/edge: acl-rule shop/edge ingress 90 deny tcp 22" in done.stdout
    assert ET.parse(tmp_path / "out.xml").getroot().get("failures") == "1"


def test_checks_of_protocols_without_ports_do_not_prove_each_other(command: Any, tmp_path: Path) -> None:
    """A group that remembers what web sends to app would let in what app sends to web."""
    checks = ["can: web -> app, protocol: 50", "cannot: app -> web, protocol: 50"]
    for order in (checks, checks[::-1]):
        file = Path(lab_with(tmp_path, *order))
        text = file.read_text()
        rule = '          - {protocol: 50, source: "group:web"}\n'
        at = text.index("\n", text.index("ingress:", text.index("      app:\n        description"))) + 1
        file.write_text(text[:at] + rule + text[at:])
        done = command("check", str(file))
        assert done.returncode == 0, done.stdout


def test_exit_statuses(command: Any, tmp_path: Path) -> None:
    good = lab_with(tmp_path, "can: visitor -> web, port: 80")
    done = command("check", good, "--static", "--junit", str(tmp_path / "nowhere" / "out.xml"))
    assert done.returncode == 3
    assert "cannot be written: No such file or directory" in done.stderr
    assert command("check", lab_with(tmp_path, "can: ap -> web, port: 80")).returncode == 2
    empty = tmp_path / "empty.yaml"
    empty.write_text(QUICKSTART.read_text().partition("\nchecks:")[0])
    done = command("check", str(empty))
    assert done.returncode == 2
    assert "there are no checks" in done.stderr
    assert command("check").returncode == 3, "no lab is running"
    assert command("check", "--static").returncode == 2


def test_a_running_lab_proves_its_own(command: Any, tmp_path: Path) -> None:
    file = lab_with(tmp_path, "can: app -> web, protocol: icmp")
    assert command("up", file).returncode == 0
    try:
        found = json.loads(command("check", "--format", "json").stdout)
        assert (found["holds"], found["decided_by"], found["file"]) == (True, "packets", file)
        again = lab_with(tmp_path, "can: app -> web, protocol: icmp", "cannot: app -> web, protocol: icmp")
        assert command("apply", again).returncode == 0
        assert command("check").returncode == 1, "checks are part of what is applied"
    finally:
        assert command("down").returncode == 0
