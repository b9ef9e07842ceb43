"""Captures that a lab file declares: their files, and what becomes of them when the file changes."""

from __future__ import annotations

from pathlib import Path
from threading import Event
from time import monotonic, sleep
from typing import Any

import pytest
from scapy.layers.inet import IP, TCP

from dataplane.errors import LabError
from dataplane.model.capture import Capture as Declared
from fastpath.recorder import Recorder
from lab import capture as capturing
from lab import declared_captures, pcapng
from lab.capture import Capture, running_captures
from lab.control import RequestError
from lab.declared_captures import DeclaredCaptures
from tests.scenario.network import Network

TEXT = (Path(__file__).parents[3] / "examples" / "quickstart.yaml").read_text()
SYN = IP(src="10.0.2.10", dst="10.0.1.10") / TCP(sport=40000, dport=80, flags="S")


def packets(file: Path) -> int:
    return len(list(pcapng.Reader().packets(file.read_bytes())))


def test_a_declared_capture_that_cannot_be_written_leaves_nothing_that_records(tmp_path: Path) -> None:
    network = Network(TEXT, engine="fast")
    declared = DeclaredCaptures(network.plane)
    wanted = {
        "app": Declared(points=("app",), file="app.pcapng"),
        "web": Declared(points=("web",), file="nowhere/web.pcapng"),
    }
    with pytest.raises(LabError) as refused:
        declared.configure(wanted, tmp_path)
    assert str(refused.value) == f"capture web: {tmp_path}/nowhere/web.pcapng: No such file or directory"
    assert running_captures(network.plane) == 0
    wanted["web"] = Declared(points=("web",), file="web.pcapng", filter="tcp prot")
    with pytest.raises(RequestError, match="syntax error"):
        declared.configure(wanted, tmp_path)
    assert running_captures(network.plane) == 0


def test_declared_captures_begin_change_and_end(tmp_path: Path) -> None:
    network = Network(TEXT, engine="fast")
    declared = DeclaredCaptures(network.plane)
    all_of_app = Declared(points=("app",), file="app.pcapng")
    declared.configure({"app": all_of_app, "web": Declared(points=("web",), file="web.pcapng", filter="udp")}, tmp_path)
    network.send("app", SYN)
    with pytest.raises(RequestError, match="syntax error"):
        declared.configure({"web": Declared(points=("web",), file="web.pcapng", filter="tcp prot")}, tmp_path)
    declared.configure({"app": all_of_app, "web": Declared(points=("web",), file="w.pcapng")}, tmp_path)
    network.send("app", SYN)
    declared.close()
    seen = {file.name: packets(file) for file in tmp_path.iterdir()}
    assert seen == {"app.pcapng": 2, "web.pcapng": 0, "w.pcapng": 1}
    assert network.plane.engine.memo


def test_a_lab_file_in_another_folder_has_its_captures_there(tmp_path: Path) -> None:
    network = Network(TEXT, engine="fast")
    declared = DeclaredCaptures(network.plane)
    wanted = {"app": Declared(points=("app",), file="app.pcapng")}
    (there := tmp_path / "there").mkdir()
    (tmp_path / "same").symlink_to(tmp_path)
    declared.configure(wanted, tmp_path)
    network.send("app", SYN)
    declared.configure(wanted, tmp_path / "same")  # by another name: it is not begun anew
    network.send("app", SYN)
    declared.configure(wanted, there)
    network.send("app", SYN)
    declared.close()
    assert (packets(tmp_path / "app.pcapng"), packets(there / "app.pcapng")) == (2, 1)


def test_what_is_refused_leaves_files_as_they_were(tmp_path: Path) -> None:
    """Also that of a capture which was to become another one, in the same file."""
    network = Network(TEXT, engine="fast")
    declared = DeclaredCaptures(network.plane)
    declared.configure({"app": Declared(points=("app",), file="app.pcapng")}, tmp_path)
    network.send("app", SYN)
    other = {
        "app": Declared(points=("app",), file="app.pcapng", filter="udp"),
        "web": Declared(points=("web",), file="nowhere/web.pcapng"),
    }
    with pytest.raises(LabError, match="No such file or directory"):
        declared.configure(other, tmp_path)
    network.send("app", SYN)
    declared.close()
    assert packets(tmp_path / "app.pcapng") == 2


def test_a_capture_that_changes_has_its_file_anew(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """At once, and whole: what was there is replaced, and nobody writes to it any more."""
    monkeypatch.setattr(declared_captures, "_PATIENCE_S", 60.0)
    network = Network(TEXT, engine="fast")
    declared = DeclaredCaptures(network.plane)
    for port in (80, 81):
        wanted = Declared(points=("app",), file="app.pcapng", filter=f"tcp port {port}")
        declared.configure({"app": wanted}, tmp_path)
        assert running_captures(network.plane) == 1
        network.send("app", SYN)
    declared.close()
    assert packets(tmp_path / "app.pcapng") == 0


def test_what_has_been_recorded_is_in_the_file_at_once(tmp_path: Path) -> None:
    """It is read while the lab runs: `tail -f way.pcapng | wireshark -k -i -`."""
    network = Network(TEXT, engine="fast")
    declared = DeclaredCaptures(network.plane)
    declared.configure({"app": Declared(points=("app",), file="app.pcapng")}, tmp_path)
    network.send("app", SYN)
    end = monotonic() + 20
    while (octets := (tmp_path / "app.pcapng").read_bytes()) == b"" or not list(pcapng.Reader().packets(octets)):
        assert monotonic() < end
        sleep(0.01)
    declared.close()


def test_a_disk_that_is_full_ends_one_capture_and_is_told(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    network = Network(TEXT, engine="fast")
    declared = DeclaredCaptures(network.plane)
    wanted = {
        "full": Declared(points=("app",), file="/dev/full"),
        "app": Declared(points=("app",), file="app.pcapng"),
    }
    declared.configure(wanted, tmp_path)
    network.send("app", SYN)
    declared.configure({"app": wanted["app"]}, tmp_path)
    network.send("app", SYN)
    declared.close()
    assert packets(tmp_path / "app.pcapng") == 2
    assert [each.getMessage() for each in caplog.records] == ["capture full ends: /dev/full: No space left on device"]


def test_what_a_file_did_not_keep_up_with_is_told(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nobody reads while the first packets come: its thread stands still."""
    network = Network(TEXT, engine="fast")
    declared = DeclaredCaptures(network.plane)
    batches = capturing._batches

    def late(recorder: Recorder, *rest: Any) -> Any:
        full.wait(20)
        return batches(recorder, *rest)

    full = Event()
    monkeypatch.setattr(capturing, "_batches", late)
    monkeypatch.setattr(Capture.__init__, "__kwdefaults__", {"ring_bytes": 1 << 18})
    declared.configure({"app": Declared(points=("app",), file="app.pcapng")}, tmp_path)
    for _ in range(500):
        network.send("app", SYN / bytes(1000))
    full.set()
    declared.close()
    [told] = [each.getMessage() for each in caplog.records]
    lost = 500 - packets(tmp_path / "app.pcapng")
    assert lost > 0
    assert told == f"capture app: {lost} packets were not recorded: the file did not keep up"
