"""Floods between real namespaces: who sends them, who talks meanwhile, and what the kernels counted."""

from __future__ import annotations

import ctypes
import errno
import socket
import tempfile
import threading
import time
from collections.abc import Iterable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

from dataplane.probe import UDP
from tests.floods.frames import ipv4
from tests.floods.kinds import Flood
from tests.floods.network import LAB, Flooded
from vpclab import Lab

FRAMES_BYTES = 12 << 20
"""Of a flood, before it begins anew: three times all source ports, when its frames are small."""
BATCH = 64
"""Frames that the kernel is given in one call."""
ECHO_PORT, SINK_PORT = 7, 9
PACE_S = 0.001
"""Between two requests of who talks."""
PATIENCE_S, WEAR_S = 20.0, 60.0
LOST, SHARE = 0.01, 0.8
"""What holds in a flood: of requests, at most; of what a neighbour gets beside an equal one, at least."""
_LIBC = ctypes.CDLL(None, use_errno=True)


class _Iovec(ctypes.Structure):
    _fields_ = (("base", ctypes.c_void_p), ("length", ctypes.c_size_t))


class _Header(ctypes.Structure):
    """struct msghdr of sendmsg(2)."""

    _fields_ = (
        ("name", ctypes.c_void_p),
        ("name_length", ctypes.c_uint32),
        ("parts", ctypes.c_void_p),
        ("part_count", ctypes.c_size_t),
        ("control", ctypes.c_void_p),
        ("control_length", ctypes.c_size_t),
        ("flags", ctypes.c_int),
    )


class _Message(ctypes.Structure):
    """struct mmsghdr of sendmmsg(2)."""

    _fields_ = (("header", _Header), ("sent", ctypes.c_uint))


class Sender:
    """Sends frames from a node, over and over, as fast as the network takes them, while the ``with`` block lasts."""

    def __init__(self, lab: Lab, node: str, frames: Iterable[bytes]) -> None:
        frames = list(frames)
        self.sent = 0
        self._count = len(frames)
        self._bytes = ctypes.create_string_buffer(b"".join(frames))
        self._parts = (_Iovec * self._count)()
        self._messages = (_Message * self._count)()
        at, parts = ctypes.addressof(self._bytes), ctypes.addressof(self._parts)
        for number, frame in enumerate(frames):
            self._parts[number].base, self._parts[number].length = at, len(frame)
            self._messages[number].header.parts, self._messages[number].header.part_count = parts, 1
            at += len(frame)
            parts += ctypes.sizeof(_Iovec)
        self._line = lab[node].socket(socket.AF_PACKET, socket.SOCK_RAW, 0)
        # More than the queue of the device takes: frames are lost there, not only delayed.
        self._line.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4 << 20)
        self._line.bind(("eth0", 0))
        self._ended = threading.Event()
        self._failed: OSError | None = None
        self._thread = threading.Thread(target=self._run, name=f"flood from {node}", daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        self._thread.join()
        self._line.close()
        if self._failed is not None:
            raise self._failed

    def _run(self) -> None:
        at, size = 0, ctypes.sizeof(_Message)
        while not self._ended.is_set():
            some = min(BATCH, self._count - at)
            done = _LIBC.sendmmsg(self._line.fileno(), ctypes.byref(self._messages, at * size), some, 0)
            if done < 0:
                if ctypes.get_errno() == errno.ENOBUFS:  # the frame was lost in the queue of the device, and is counted
                    done = 1
                else:
                    self._failed = OSError(ctypes.get_errno(), "sendmmsg")
                    return
            self.sent += done
            at = (at + done) % self._count


@dataclass(slots=True)
class Talked:
    """What became of numbered requests."""

    sent: int = 0
    answered: int = 0

    @property
    def lost(self) -> float:
        """Share of requests without an answer."""
        return 1 - self.answered / self.sent


class Echo:
    """A UDP flow between two nodes, established before it is measured."""

    def __init__(self, lab: Lab, client: str, server: str, address: str) -> None:
        self._far = lab[server].socket(socket.AF_INET, socket.SOCK_DGRAM)
        self._far.bind(("", ECHO_PORT))
        self._near = lab[client].socket(socket.AF_INET, socket.SOCK_DGRAM)
        self._near.connect((address, ECHO_PORT))
        for each in (self._near, self._far):
            each.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4 << 20)
        self._ended = threading.Event()
        self._far.settimeout(0.1)
        self._thread = threading.Thread(target=self._answer, name=f"echo in {server}", daemon=True)
        self._thread.start()
        deadline = time.monotonic() + PATIENCE_S
        while self.talk(0.01).answered < 5:
            assert time.monotonic() < deadline, f"{server} does not answer {client}"

    def close(self) -> None:
        self._ended.set()
        self._thread.join()
        for each in (self._near, self._far):
            each.close()

    def talk(self, seconds: float) -> Talked:
        """A request each millisecond, and what was answered a tenth of a second after the last one."""
        found = Talked()
        began = time.monotonic()
        answers: set[bytes] = set()
        while (passed := time.monotonic() - began) < seconds:
            if passed >= found.sent * PACE_S:
                self._near.send(found.sent.to_bytes(4, "big") + began.hex().encode())
                found.sent += 1
            self._hear(answers, 0.0005)
        end = time.monotonic() + 0.1
        while len(answers) < found.sent and (left := end - time.monotonic()) > 0:
            self._hear(answers, left)
        mine = began.hex().encode()
        found.answered = sum(answer[4:] == mine for answer in answers)
        return found

    def _hear(self, answers: set[bytes], seconds: float) -> None:
        self._near.settimeout(seconds)
        try:
            answers.add(self._near.recv(64))
            self._near.setblocking(False)
            while True:
                answers.add(self._near.recv(64))
        except (TimeoutError, BlockingIOError):
            pass

    def _answer(self) -> None:
        while not self._ended.is_set():
            try:
                words, peer = self._far.recvfrom(64)
            except TimeoutError:
                continue
            self._far.sendto(words, peer)


@contextmanager
def echo(lab: Lab, client: str, server: str, address: str) -> Iterator[Echo]:
    """`Echo` for as long as the block lasts."""
    made = Echo(lab, client, server, address)
    try:
        yield made
    finally:
        made.close()


@contextmanager
def sinks(lab: Lab, *nodes: str) -> Iterator[None]:
    """Somebody listens to UDP there who never reads: no kernel answers that nobody does."""
    with ExitStack() as stack:
        for node in nodes:
            line = stack.enter_context(lab[node].socket(socket.AF_INET, socket.SOCK_DGRAM))
            line.bind(("", SINK_PORT))
        yield


@dataclass(frozen=True, slots=True)
class Counts:
    """What has been counted at eth0 of a node: by vpclab, and by the node's own kernel."""

    read: int
    """Frames that the worker has read."""
    died: Mapping[str, int]
    """Packets, by reason."""
    received: int
    left_kernel: int
    lost_in_kernel: int
    """Frames for which the queue of the device had no room: tx_dropped of the device."""

    def since(self, before: Counts) -> Counts:
        died = {reason: count - before.died.get(reason, 0) for reason, count in self.died.items()}
        return Counts(
            read=self.read - before.read,
            died={reason: count for reason, count in died.items() if count},
            received=self.received - before.received,
            left_kernel=self.left_kernel - before.left_kernel,
            lost_in_kernel=self.lost_in_kernel - before.lost_in_kernel,
        )


def counts(lab: Lab, node: str) -> Counts:
    """Of this moment; what a sender has left in queues is still under way."""
    [line] = [each for each in lab[node].run(["cat", "/proc/self/net/dev"]).stdout.splitlines() if "eth0:" in each]
    fields = [int(word) for word in line.partition(":")[2].split()]
    row = interface(lab, node)
    return Counts(row["sent_frames"], row["reasons"], row["received_frames"], fields[9], fields[11])


def settled(lab: Lab, node: str) -> Counts:
    """Once nothing more comes of what was sent."""
    deadline = time.monotonic() + PATIENCE_S
    before = counts(lab, node)
    while (now := counts(lab, node)) != before or now.read != now.left_kernel:
        assert time.monotonic() < deadline, (before, now)
        before = now
    return now


def interface(lab: Lab, node: str) -> dict[str, Any]:
    """vpclab's own counters of eth0 of a node."""
    [found] = [each for each in lab.status()["nodes"] if each["name"] == node]
    row: dict[str, Any] = found["interfaces"][0]["counters"]
    return row


@contextmanager
def flooded_lab() -> Iterator[Lab]:
    """The network of `tests.floods.network`, running."""
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "floods.yaml"
        file.write_text(LAB)
        with Lab.load(file) as lab:
            yield lab


@dataclass(frozen=True, slots=True)
class Flooding:
    """What a flood was, and what it did to those who talked meanwhile."""

    sent: int
    counts: Counts
    """Of who sent it."""
    talked: Talked


class Measured:
    """Floods of one lab and what becomes of others meanwhile."""

    def __init__(self, lab: Lab, line: Echo) -> None:
        self._lab, self._line = lab, line
        self._model = Flooded()
        """The same network in memory: who has which MAC."""
        self._model.talk("calm", "example", "198.51.100.10", protocol=UDP)
        self._made: dict[str, list[bytes]] = {}

    def wear_out(self, flood: Flood) -> None:
        """Flood until that is worn out which it wears out, if there is something; steady flows are there before."""
        if flood.worn is None:
            return
        self._equal(0.1)
        deadline = time.monotonic() + WEAR_S
        with Sender(self._lab, flood.node, self._frames(flood)):
            while flood.worn.name not in interface(self._lab, flood.node)["reasons"]:
                assert time.monotonic() < deadline, f"{flood.name}: not worn out within {WEAR_S:g} s"
                time.sleep(0.05)  # a poll with a deadline

    def flood(self, flood: Flood, seconds: float) -> Flooding:
        """Flood while calm asks server."""
        frames = self._frames(flood)
        before = settled(self._lab, flood.node)
        with Sender(self._lab, flood.node, frames) as sender:
            talked = self._line.talk(seconds)
        return Flooding(sender.sent, settled(self._lab, flood.node).since(before), talked)

    def share(self, flood: Flood, seconds: float) -> float:
        """What a neighbour at full rate gets through beside a flood, by what it gets beside somebody like itself."""
        equal = self._equal(seconds)
        return self._delivered(flood.node, self._frames(flood), seconds) / equal

    def _equal(self, seconds: float) -> float:
        found = self._delivered("loud", self._steady("loud", "10.0.2.10", "10.0.1.20"), seconds)
        assert found > 0, "nothing of a steady flow arrives"
        return found

    def _frames(self, flood: Flood) -> list[bytes]:
        if flood.name not in self._made:
            found: list[bytes] = []
            size = 0
            for frame in flood.frames(self._model):
                size += len(frame)
                if size > FRAMES_BYTES:
                    break
                found.append(frame)
            self._made = {flood.name: found}  # one at a time: they are many
        return self._made[flood.name]

    def _delivered(self, node: str, frames: Iterable[bytes], seconds: float) -> float:
        own = self._steady("calm", "10.0.3.10", "10.0.1.10")
        with (
            sinks(self._lab, "server", "web", "example"),
            Sender(self._lab, "calm", own),
            Sender(self._lab, node, frames),
        ):
            delivered_per_second(self._lab, "server", seconds / 4)  # until both run
            return delivered_per_second(self._lab, "server", seconds)

    def _steady(self, node: str, source: str, destination: str) -> list[bytes]:
        """One flow of small packets."""
        mac, router = self._model.macs(node)
        frame = ipv4(
            mac, router, source, destination,
            protocol=UDP, source_port=5, destination_port=SINK_PORT, payload=bytes(18),
        )  # fmt: skip
        return [frame] * BATCH


def delivered_per_second(lab: Lab, node: str, seconds: float) -> float:
    """Frames that a node gets, measured for so long."""
    before, began = interface(lab, node)["received_frames"], time.monotonic()
    time.sleep(seconds)  # what is measured is a rate
    after = interface(lab, node)["received_frames"]
    return float((after - before) / (time.monotonic() - began))


def switch_forwarding_on(lab: Lab, node: str) -> None:
    """Have a node's kernel forward what is not for it; it tells nobody of better ways."""
    script = "\n".join(
        f"echo {value} > /proc/sys/net/ipv4/{name}"
        for name, value in (
            ("ip_forward", 1),
            ("conf/all/send_redirects", 0),
            ("conf/eth0/send_redirects", 0),
            ("conf/all/rp_filter", 0),
            ("conf/eth0/rp_filter", 0),
        )
    )
    lab[node].run(["sh", "-ec", script], check=True)
