"""Assertions about packets, fixtures and recordings of the pytest plugin; a fake lab's checks are decided by rules."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO, cast
from unittest.mock import Mock

import pytest
from scapy.layers.inet import IP, UDP
from scapy.layers.l2 import ARP, Ether

from dataplane.errors import ConfigurationError, LabError
from dataplane.load import load_topology
from dataplane.load.checks import read_checks
from dataplane.verdict import Reason
from lab import pcapng
from vpclab import Lab
from vpclab.cli.questions import decided
from vpclab.declaration import declaration_text
from vpclab.node import Node
from vpclab.testing import fixtures, plugin
from vpclab.testing.expectations import expect_dropped, expect_reachable
from vpclab.testing.recording import Recording

TOPOLOGY = load_topology(Path(__file__).parents[3] / "examples" / "quickstart.yaml")


class FakeLab:
    def __init__(self) -> None:
        self.asked: list[tuple[dict[str, Any], float]] = []

    def check(self, checks: list[dict[str, Any]], *, patience_s: float) -> list[dict[str, Any]]:
        self.asked.append((checks[0], patience_s))
        return decided(TOPOLOGY, read_checks(declaration_text(checks), TOPOLOGY))


@pytest.fixture
def lab() -> Lab:
    return cast("Lab", FakeLab())


def asked(lab: Lab) -> dict[str, Any]:
    return cast("FakeLab", lab).asked[-1][0]


def test_what_arrives_is_proven_with_what_it_passed(lab: Lab) -> None:
    proof = expect_reachable(lab, "app", "example", via="nat-gateway:shop/nat", source_seen="203.0.113.10")
    assert (proof.found, proof.reason, proof.by, proof.rule) == ("answered", Reason.NONE, None, None)
    assert proof.passed == ("nat-gateway:shop/nat", "internet-gateway:shop")
    assert proof.source_seen == "203.0.113.10"
    assert asked(lab)["via"] == ["nat-gateway:shop/nat"]
    expect_reachable(lab, "app", "example", via=["nat-gateway:shop/nat", "internet-gateway:shop"])


def test_only_tcp_and_udp_have_a_port_and_80_is_the_usual_one(lab: Lab) -> None:
    for protocol, port in (("tcp", 80), ("udp", 80), (6, 80), (17, 80), ("icmp", None), (47, None)):
        with contextlib.suppress(AssertionError):  # a NAT gateway carries no GRE
            expect_reachable(lab, "app", "example", protocol=protocol)
        assert asked(lab).get("port") == port
    expect_reachable(lab, "app", "example", 443)
    assert asked(lab)["port"] == 443


def test_nodes_are_meant_by_their_names_and_patience_is_handed_on(lab: Lab) -> None:
    app, db = Mock(spec=Node), Mock(spec=Node)
    app.name, db.name = "app", "db"
    assert expect_reachable(lab, app, db, 5432, patience_s=0.5).check == "can app -> db tcp 5432"
    assert cast("FakeLab", lab).asked[-1][1] == 0.5
    expect_dropped(lab, "web", db, 5432, patience_s=7.0, packet_size=None)
    assert cast("FakeLab", lab).asked[-1][1] == 7.0
    expect_reachable(lab, app, db, protocol="icmp", packet_size=1000)
    assert asked(lab)["packet_size"] == 1000


@pytest.mark.parametrize(
    ("wanted", "words"),
    [
        ({"destination": "web", "port": 8080}, "can app -> web tcp 8080: not so: DROPPED by interface web/eth0"),
        ({"via": "peering:shop-store"}, "not so: it arrived, but not via peering:shop-store"),
        ({"via": ["internet-gateway:shop", "nat-gateway:shop/nat"]}, "not via nat-gateway:shop/nat"),
        ({"source_seen": "203.0.113.11"}, "not so: it arrived, but seen as 203.0.113.10"),
    ],
)
def test_what_does_not_hold_fails_with_the_way_of_the_packet(lab: Lab, wanted: dict[str, Any], words: str) -> None:
    with pytest.raises(AssertionError) as failed:
        expect_reachable(lab, "app", **{"destination": "example", **wanted})
    assert words in str(failed.value)
    assert "\n\napp/eth0 sends tcp 10.0.2.10:" in str(failed.value)


DENIED = "shop/edge ingress 90 deny tcp 22 from 0.0.0.0/0"


@pytest.mark.parametrize(
    ("source", "port", "reason", "by"),
    [
        ("visitor", 22, Reason.ACL_INGRESS, "shop/edge"),
        ("visitor", 22, "ACL_INGRESS", "network-acl shop/edge"),
        ("visitor", 22, None, "shop/edge ingress 90"),
        ("visitor", 22, None, DENIED),
        ("visitor", 22, None, f"acl-rule {DENIED}"),
        ("visitor", 443, "ACL_INGRESS", "shop/edge"),
        ("app", 8080, "GROUP_INGRESS", "shop/web"),
        ("app", 8080, "GROUP_INGRESS", "security-group shop/web"),
        ("app", 8080, "GROUP_INGRESS", "web/eth0"),
    ],
)
def test_who_dropped_it_has_several_names(lab: Lab, source: str, port: int, reason: Any, by: str) -> None:
    assert expect_dropped(lab, source, "web", port, reason=reason, by=by).found == "blocked"


@pytest.mark.parametrize(
    ("reason", "by", "words"),
    [
        ("GROUP_INGRESS", None, "so it is, but for ACL_INGRESS"),
        (Reason.ACL_EGRESS, "shop/edge", "so it is, but for ACL_INGRESS"),
        (None, "shop/edge ingress 9", "so it is, but by network-acl shop/edge"),
        (None, "shop/edge ingress 100", "not by 'shop/edge ingress 100'"),
        (None, "shop/web", "not by 'shop/web'"),
        (None, "edge", "not by 'edge'"),
        (None, f"{DENIED} and more", "so it is, but by"),
    ],
)
def test_dropped_for_something_else_or_by_somebody_else_is_not_as_expected(
    lab: Lab, reason: Any, by: str | None, words: str
) -> None:
    with pytest.raises(AssertionError) as failed:
        expect_dropped(lab, "visitor", "web", 22, reason=reason, by=by)
    assert words in str(failed.value)


def test_a_group_whose_rules_nobody_looked_at_did_not_drop_it(lab: Lab) -> None:
    with pytest.raises(
        AssertionError, match="so it is, but by interface web/eth0, security-group shop/web, not by 'shop/app'"
    ):
        expect_dropped(lab, "app", "web", 8080, by="shop/app")


def test_what_arrives_was_not_dropped(lab: Lab) -> None:
    with pytest.raises(AssertionError, match="cannot visitor -> web tcp 80: not so: answered"):
        expect_dropped(lab, "visitor", "web", 80)


def test_what_cannot_be_asked_is_an_error_and_no_failure(lab: Lab) -> None:
    with pytest.raises(ValueError, match=r"no drop reason is called 'GROUP_IN'; .*GROUP_INGRESS"):
        expect_dropped(lab, "visitor", "web", 22, reason="GROUP_IN")
    assert not cast("FakeLab", lab).asked, "no packet was sent for nothing"
    for wrong in ({"destination": "wep"}, {"destination": "web", "via": "nat-gateway:shop/nut"}):
        with pytest.raises(ConfigurationError):
            expect_reachable(lab, "app", **cast("dict[str, Any]", wrong))


# -- fixtures --------------------------------------------------------------------------------------------


def config(*, option: bool = False, setting: bool = False) -> pytest.Config:
    return cast("pytest.Config", Mock(getoption=lambda name: option, getini=lambda name: setting))


@pytest.mark.parametrize(("option", "setting"), [(False, False), (True, False), (False, True)])
def test_where_no_lab_can_run_tests_are_skipped_unless_labs_are_required(
    monkeypatch: pytest.MonkeyPatch, option: bool, setting: bool
) -> None:
    monkeypatch.setattr(fixtures, "_obstacle", lambda: "no /dev/net/tun")
    outcomes = pytest.skip.Exception, pytest.fail.Exception  # both: one that gets away would skip this very test
    with pytest.raises(outcomes, match="no lab can run here: no /dev/net/tun") as ended:
        next(fixtures.running(Path("lab.yaml"), config(option=option, setting=setting)))
    assert ended.type is outcomes[option or setting]


@pytest.fixture
def made(monkeypatch: pytest.MonkeyPatch) -> Mock:
    monkeypatch.setattr(fixtures, "_obstacle", lambda: "")
    made = Mock(spec=Lab)
    monkeypatch.setattr(Lab, "load", lambda source: made)
    monkeypatch.setattr(Lab, "from_dict", lambda source: made)
    return made


@pytest.mark.parametrize("source", [Path("lab.yaml"), {"version": 1}])
def test_a_lab_goes_down_whatever_becomes_of_the_tests(made: Mock, source: Any) -> None:
    running: Any = fixtures.running(source, config())
    assert next(running) is made
    assert [call[0] for call in made.method_calls] == ["up"]
    with pytest.raises(KeyboardInterrupt):
        running.throw(KeyboardInterrupt)
    assert [call[0] for call in made.method_calls] == ["up", "down"]


def test_a_lab_that_does_not_come_up_is_told_and_not_taken_down(made: Mock) -> None:
    made.up.side_effect = LabError("no room")
    with pytest.raises(pytest.fail.Exception, match="no room"):
        next(fixtures.running(Path("lab.yaml"), config()))
    made.down.assert_not_called()


def test_the_lab_file_of_a_module_is_the_nearest_and_none_from_outside(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Beside it, else above it, up to the root of the run: what lies beyond is another project's."""
    monkeypatch.setattr(fixtures, "running", lambda found, config: iter([found]))
    root, inner = tmp_path / "root", tmp_path / "root" / "a" / "b"
    inner.mkdir(parents=True)
    request = Mock(path=inner / "test_it.py", config=Mock(rootpath=root))
    wrapped = cast("Any", plugin.lab).__wrapped__
    (tmp_path / "lab.yaml").touch()
    with pytest.raises(pytest.fail.Exception, match=r"no lab\.yaml beside test_it\.py or above"):
        next(wrapped(request))
    for folder in (root, root / "a", inner):
        (folder / "lab.yaml").touch()
        assert next(wrapped(request)) == folder / "lab.yaml"


def test_each_recording_of_a_test_has_a_file_of_its_own(tmp_path: Path) -> None:
    web = Mock(spec=Node)
    web.name = "web"
    request = Mock()
    capture = cast("Any", plugin.capture).__wrapped__(request, tmp_path)
    files = [capture(web, interface=each).file for each in ("eth0", "eth0", "eth1")]
    assert len({*files}) == 3
    assert [call.args[2] for call in request.node.add_report_section.call_args_list] == [str(each) for each in files]


# -- recordings ------------------------------------------------------------------------------------------

FRAMES = [
    bytes(Ether() / IP(src="10.0.1.10", dst="10.0.1.11") / UDP(sport=1, dport=2) / b"odd"),
    bytes(Ether() / ARP(pdst="10.0.1.11")),
]


class FakeCapture:
    """Writes its file when it is stopped, as one does whose packets come late."""

    def __init__(self, error: Exception | None = None) -> None:
        self.error = error
        self.calls: list[str] = []
        self._stopped = threading.Event()

    def _blocks(self) -> Iterator[bytes]:
        yield pcapng.section("test")
        yield pcapng.interface("web", "", capture_length=1 << 18)
        for number, frame in enumerate(FRAMES):
            kept = frame[: len(frame) - number]  # the second one is cut
            yield pcapng.packet(kept, time_ns=number, length=len(frame), direction=1, comment="FORWARD")
        yield pcapng.statistics(start_ns=0, end_ns=1, received=len(FRAMES), dropped=0)

    def run(self, stream: BinaryIO) -> int:
        self._stopped.wait(10)
        for block in self._blocks():
            stream.write(block)
        self.calls.append("ran")
        if self.error is not None:
            raise self.error
        return len(FRAMES)

    def stop(self) -> None:
        self.calls.append("stop")
        self._stopped.set()

    def close(self) -> None:
        self.calls.append("close")


def recording(capture: FakeCapture, file: Path) -> Recording:
    node = Mock(spec=Node, open_capture=lambda interface: capture)
    node.name = "web"
    return Recording(node, file)


def test_what_a_test_saw_is_there_after_the_block(tmp_path: Path) -> None:
    capture = FakeCapture()
    with recording(capture, tmp_path / "seen.pcapng") as seen:
        assert capture.calls == []
    assert capture.calls == ["stop", "ran", "close"], "all of it is written before the file is read"
    assert seen.frames == [FRAMES[0], FRAMES[1][:-1]]
    [packet] = seen.packets
    assert bytes(packet) == FRAMES[0][14:]


def test_a_capture_that_broke_fails_the_test_unless_it_has_failed_already(tmp_path: Path) -> None:
    with (
        pytest.raises(LabError, match="the lab died"),
        recording(FakeCapture(LabError("the lab died")), tmp_path / "a"),
    ):
        pass
    with pytest.raises(AssertionError, match="of its own"), recording(FakeCapture(LabError("died")), tmp_path / "b"):
        raise AssertionError("of its own")
