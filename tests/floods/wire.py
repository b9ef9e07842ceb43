"""Floods between real namespaces: who sends them, who talks meanwhile, and what the kernels counted."""

from __future__ import annotations

import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dataplane.probe import UDP
from tests.floods.frames import ipv4
from tests.floods.kinds import Flood
from tests.floods.network import LAB, Flooded
from tests.floods.sender import BATCH, Sender
from vpclab import Lab

FRAMES_BYTES = 12 << 20
"""Of a flood, before it begins anew: three times all source ports, when its frames are small."""
ASKED = {"server": "10.0.1.10", "web": "10.0.1.20"}
"""Addresses of those whom calm asks something meanwhile."""
ECHO_PORT, SINK_PORT = 7, 9
PACE_S = 0.001
"""Between two requests of who talks."""
LATE_S = 0.5
"""Where others want the processors, an answer may wait so long; nothing in the network holds one longer."""
PATIENCE_S, WEAR_S = 20.0, 60.0
LONG_QUEUE = 4_096
"""Frames that wait at who sends at full rate: more than the network takes while the sender has no processor."""
LOST, SHARE = 0.01, 0.8
"""What holds in a flood: of requests, at most; of what a neighbour gets beside an equal one, at least."""


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
        """A request each millisecond, and what was answered until nothing more came: what is late is not lost."""
        found = Talked()
        began = time.monotonic()
        answers: set[bytes] = set()
        while (passed := time.monotonic() - began) < seconds:
            if passed >= found.sent * PACE_S:
                self._near.send(found.sent.to_bytes(4, "big") + began.hex().encode())
                found.sent += 1
            self._hear(answers, 0.0005)
        while len(answers) < found.sent and self._hear(answers, LATE_S):
            pass
        mine = began.hex().encode()
        found.answered = sum(answer[4:] == mine for answer in answers)
        return found

    def _hear(self, answers: set[bytes], seconds: float) -> bool:
        """Whether something came within so many seconds."""
        self._near.settimeout(seconds)
        try:
            answers.add(self._near.recv(64))
        except TimeoutError:
            return False
        with suppress(BlockingIOError):
            self._near.setblocking(False)
            while True:
                answers.add(self._near.recv(64))
        return True

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


def lengthen_queue(lab: Lab, node: str) -> None:
    """Let many frames wait at a node's eth0: without that a TAP device has 500 (drivers/net/tun.c, TUN_READQ_SIZE)."""
    lab[node].run(["ip", "link", "set", "eth0", "txqueuelen", str(LONG_QUEUE)], check=True)


@contextmanager
def burning(count: int) -> Iterator[None]:
    """So many processes want a processor, as who sends does, and send nothing."""
    running = [subprocess.Popen([sys.executable, "-S", "-c", "while True: pass"]) for _ in range(count)]
    try:
        yield
    finally:
        for each in running:
            each.kill()
            each.wait()


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
        """Flood while calm asks whom it asks."""
        frames = self._frames(flood)
        before = settled(self._lab, flood.node)
        with Sender(self._lab, flood.node, frames) as sender:
            talked = self._line.talk(seconds)
        return Flooding(sender.sent, settled(self._lab, flood.node).since(before), talked)

    def share(self, flood: Flood, seconds: float) -> float:
        """What a neighbour at full rate gets through beside a flood, by what it gets beside somebody like itself.

        That is measured before and after, as the machine may have become busier or idler meanwhile. Nobody's queue runs
        dry: whether who sends has a processor is no matter of the network, and a queue of frames that take long lasts
        longer than a neighbour's. Where a victim answers each packet two send: then it is beside two like itself.
        """
        equals = 2 if flood.answered else 1
        for node in {"calm", "loud", flood.node, flood.asked}:
            lengthen_queue(self._lab, node)
        frames, before = self._frames(flood), self._equal(seconds, equals)
        with burning(equals - 1):
            found = self._delivered({flood.node: frames}, seconds)
        return 2 * found / (before + self._equal(seconds, equals))

    @contextmanager
    def busy_neighbour(self) -> Iterator[None]:
        """Loud sends at full rate to server for as long as the block lasts."""
        frames = self._steady("loud", "10.0.2.10", "10.0.1.10")
        with sinks(self._lab, "server"), Sender(self._lab, "loud", frames):
            yield

    def _equal(self, seconds: float, count: int = 1) -> float:
        ends = ("loud", "10.0.2.10", "10.0.1.20"), ("web", "10.0.1.20", "10.0.2.10")
        found = self._delivered({each[0]: self._steady(*each) for each in ends[:count]}, seconds)
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

    def _delivered(self, others: Mapping[str, list[bytes]], seconds: float) -> float:
        with ExitStack() as stack:
            stack.enter_context(sinks(self._lab, "server", "web", "loud", "example"))
            for node, frames in {"calm": self._steady("calm", "10.0.3.10", "10.0.1.10"), **others}.items():
                stack.enter_context(Sender(self._lab, node, frames))
            delivered_per_second(self._lab, "server", seconds / 4)  # until all run
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
