"""Captures through the control socket, without a lab: how they end, and what is said when they end too early."""

from __future__ import annotations

import fcntl
import io
import resource
import signal
import socket
import threading
from collections.abc import Iterator
from pathlib import Path
from unittest.mock import Mock

import pytest
from scapy.layers.inet import IP, TCP

from dataplane.errors import LabError
from lab import capture_stream, control, pcapng
from lab.capture_stream import CaptureStream, StoryStream, interrupt_ends
from lab.control import ControlServer, RequestError
from lab.verbs import Verbs, _has_ended
from tests.scenario.network import Network

TEXT = (Path(__file__).parents[3] / "examples" / "quickstart.yaml").read_text()
SYN = IP(src="10.0.2.10", dst="10.0.1.10") / TCP(sport=40000, dport=80, flags="S")
BEYOND_SELECT = 1100
"""A descriptor that select(2) has no bit for: it ends at FD_SETSIZE, 1024."""


@pytest.fixture
def network() -> Network:
    return Network(TEXT, engine="fast")


@pytest.fixture
def server(network: Network, tmp_path: Path) -> Iterator[ControlServer]:
    lab = Mock(data_plane=network.plane, topology=network.plane.topology)
    made = ControlServer(tmp_path, Verbs(lab, Mock()).table())
    made.start()
    yield made
    made.close()


@pytest.fixture
def many_descriptors() -> Iterator[None]:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, BEYOND_SELECT + 100), hard))
    yield
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


@pytest.mark.usefixtures("many_descriptors")
def test_the_end_is_seen_with_more_descriptors_than_select_takes() -> None:
    ours, theirs = socket.socketpair()
    with theirs, ours, socket.socket(fileno=fcntl.fcntl(ours, fcntl.F_DUPFD, BEYOND_SELECT)) as client:
        assert client.fileno() >= BEYOND_SELECT
        assert not _has_ended(client, 0.001)
        theirs.shutdown(socket.SHUT_WR)
        assert _has_ended(client, 10)


def test_a_capture_ends_whole_when_the_lab_goes_down(
    network: Network, server: ControlServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What was recorded until then is there, and what was lost is counted."""
    monkeypatch.setattr(control, "STREAM_GRACE_S", 30.0)
    out = io.BytesIO()
    counts: list[int] = []
    with CaptureStream(tmp_path, ["app", "web"]) as running:
        for _ in range(600):
            network.send("app", SYN / bytes(8900))
        thread = threading.Thread(target=lambda: counts.append(running.run(out)))
        thread.start()
        server.close()
        thread.join(20)
        assert counts == [len(list(pcapng.Reader().packets(out.getvalue())))]
        assert running.lost > 0
        assert counts[0] + running.lost == 2 * 600


def test_what_nobody_reads_keeps_no_lab_from_going_down_and_is_not_taken_for_whole(
    network: Network, server: ControlServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(control, "STREAM_GRACE_S", 0.2)
    out = io.BytesIO()
    with CaptureStream(tmp_path, ["app", "web"]) as running:
        for _ in range(100):
            network.send("app", SYN / bytes(8900))
        server.close()
        with pytest.raises(LabError, match=r"ended early, after \d+ packets: more may have been recorded"):
            running.run(out)
    packets = list(pcapng.Reader().packets(out.getvalue()))
    assert 0 < len(packets) < 200


@pytest.mark.usefixtures("server")
def test_a_capture_of_so_many_packets_has_no_more_of_them(network: Network, tmp_path: Path) -> None:
    """Those that come in one piece with the last one are left out; the end of the file is not."""
    out = io.BytesIO()
    with CaptureStream(tmp_path, ["app", "web"]) as running:
        for _ in range(10):
            network.send("app", SYN)
        assert running.run(out, count=3) == 3
    blocks = list(pcapng.whole_blocks(out.getvalue()))
    assert [kind for kind, _ in blocks].count(pcapng.PACKET) == 3
    assert [kind for kind, _ in blocks].count(pcapng.STATISTICS) == len(running.sides)


@pytest.mark.usefixtures("server")
def test_a_misspelt_second_point_is_told_with_the_nearest(tmp_path: Path) -> None:
    """It is read as a filter, which libpcap refuses for reasons that help nobody."""
    for word, nearest in (("nat:nta", "did you mean nat:shop/nat"), ("ap", "did you mean app")):
        with pytest.raises(RequestError, match=f"filter '{word}': .*; or is it a point\\? .*{nearest}"):
            CaptureStream(tmp_path, ["web", word], split=True)


@pytest.mark.usefixtures("server")
def test_a_capture_of_so_many_seconds_ends_whole(network: Network, tmp_path: Path) -> None:
    out = io.BytesIO()
    with CaptureStream(tmp_path, ["app", "web"]) as running:
        network.send("app", SYN)
        assert running.run(out, seconds=0.1) == 2
    assert [kind for kind, _ in pcapng.whole_blocks(out.getvalue())].count(pcapng.STATISTICS) == 2


@pytest.mark.usefixtures("server")
def test_a_limit_of_seconds_holds_nobody_up_who_has_packets_enough(network: Network, tmp_path: Path) -> None:
    """A timer that still runs is a thread that the command would wait for."""
    with CaptureStream(tmp_path, ["app"]) as running:
        network.send("app", SYN)
        assert running.run(io.BytesIO(), count=1, seconds=60.0) == 1
    for timer in [each for each in threading.enumerate() if isinstance(each, threading.Timer)]:
        timer.join(10)
        assert not timer.is_alive()


@pytest.mark.usefixtures("server")
def test_who_reads_no_more_ends_a_capture(network: Network, tmp_path: Path) -> None:
    """As `vpclab capture app -w - | head` does."""

    class Gone(io.BytesIO):
        def flush(self) -> None:
            raise BrokenPipeError

    with CaptureStream(tmp_path, ["app"]) as running:
        network.send("app", SYN)
        assert running.run(Gone(), count=1) <= 1


@pytest.mark.usefixtures("server")
def test_what_has_come_is_passed_on_at_once(network: Network, tmp_path: Path) -> None:
    """Wireshark shows packets while they come."""

    class Live(io.BytesIO):
        def flush(self) -> None:
            seen.append(len(list(pcapng.Reader().packets(self.getvalue()))))
            if seen[-1]:
                running.stop()

    seen: list[int] = []
    with CaptureStream(tmp_path, ["app"]) as running:
        network.send("app", SYN)
        assert running.run(Live(), seconds=20.0) == 1
    assert 1 in seen[:-1]


def test_who_is_refused_hangs_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    client = Mock()
    client.return_value.stream.side_effect = RequestError("no such point")
    monkeypatch.setattr(capture_stream, "ControlClient", client)
    with pytest.raises(RequestError):
        CaptureStream(tmp_path, ["nobody"])
    client.return_value.close.assert_called_once_with()


def test_the_first_ctrl_c_ends_a_capture_and_the_second_the_command() -> None:
    before = signal.getsignal(signal.SIGINT)
    stop = Mock()
    with interrupt_ends(stop):
        signal.raise_signal(signal.SIGINT)
        stop.assert_called_once_with()
        with pytest.raises(KeyboardInterrupt):
            signal.raise_signal(signal.SIGINT)
    with interrupt_ends(stop):
        pass
    assert signal.getsignal(signal.SIGINT) is before
    stop.assert_called_once_with()


@pytest.mark.usefixtures("server")
def test_packets_are_followed_until_somebody_stops(network: Network, tmp_path: Path) -> None:
    with StoryStream(tmp_path, "tcp") as running:
        for _ in range(3):
            network.send("app", SYN)
        running.stop()
        followed = list(running)
    assert [each.time_ns for each in followed] == [network.now * 1_000_000] * 3
    assert [each.trace.forward.path()[-1] for each in followed] == ["interface web/eth0"] * 3
    assert ({each.lost for each in followed}, running.lost) == ({0}, 0)


def test_stories_that_end_too_early_are_not_taken_for_all(
    network: Network, server: ControlServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(control, "STREAM_GRACE_S", 0.2)
    with StoryStream(tmp_path) as running:
        for _ in range(1500):
            network.send("app", SYN)
        server.close()
        with pytest.raises(LabError, match="following ended early: more packets may have passed"):
            list(running)


class Cut(io.BytesIO):
    """What was sent, and no more: the other end is gone with some of it unread."""

    def read1(self, size: int | None = -1) -> bytes:
        octets = super().read1(size)
        if not octets:
            raise ConnectionResetError
        return octets

    def __next__(self) -> bytes:
        line = self.readline()
        if not line:
            raise ConnectionResetError
        return line


@pytest.mark.usefixtures("server")
@pytest.mark.parametrize("kind", [io.BytesIO, Cut])
def test_a_file_that_was_cut_short_is_not_taken_for_whole(
    network: Network, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: type[io.BytesIO]
) -> None:
    out = io.BytesIO()
    with CaptureStream(tmp_path, ["app"]) as running:
        network.send("app", SYN)
        running.stop()
        whole = running._stream.read()
        assert [block for block, _ in pcapng.whole_blocks(whole)][-1] == pcapng.STATISTICS
        monkeypatch.setattr(running, "_stream", kind(whole[:-9]))
        with pytest.raises(LabError, match="ended early, after 1 packets"):
            running.run(out)
    assert len(list(pcapng.Reader().packets(out.getvalue()))) == 1


@pytest.mark.usefixtures("server")
def test_what_was_not_followed_is_told_at_the_end(
    network: Network, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with StoryStream(tmp_path) as running:
        network.send("app", SYN)
        line = running._stream.readline().replace(b'"lost":0', b'"lost":3')
        monkeypatch.setattr(running, "_stream", io.BytesIO(line + b'{"ended":true,"lost":7}\n'))
        assert [each.lost for each in running] == [3]
        assert running.lost == 7


@pytest.mark.usefixtures("server")
@pytest.mark.parametrize("kind", [io.BytesIO, Cut])
def test_a_line_that_was_cut_short_is_no_story(
    network: Network, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: type[io.BytesIO]
) -> None:
    with StoryStream(tmp_path) as running:
        network.send("app", SYN)
        line = running._stream.readline()
        monkeypatch.setattr(running, "_stream", kind(line + line[:-9]))
        stories = iter(running)
        assert next(stories).trace.forward.path()[-1] == "interface web/eth0"
        with pytest.raises(LabError, match="following ended early"):
            next(stories)
