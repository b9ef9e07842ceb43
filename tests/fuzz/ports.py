"""Frames through a worker's ports, from octets: sockets stand in for devices; some hold little, some are not read.

Ports come and go, tables are swapped and the clock is stepped while the worker's thread runs. In the end each port has
got what a capture of all ports says has left there, frame by frame and in order; what was lost on the way is in the
capture too, with the reason that is counted at its port.
"""

from __future__ import annotations

import socket
import time
from collections import Counter
from collections.abc import Callable

from dataplane.capture import Record
from dataplane.verdict import Cause, Reason, Verdict
from fastpath.engine import Engine
from fastpath.recorder import Recorder
from fastpath.worker import Worker
from tests.fuzz import frames
from tests.fuzz.observed import completed
from tests.fuzz.octets import Octets
from tests.fuzz.playing import TALLY, WAITS
from tests.fuzz.worlds import End, world

STEPS = 48
RING = 1 << 24
NO_OFFLOAD = bytes(12)
LONGEST = 65536 + 14 + 2
PATIENCE_S = 60.0
LITTLE = 4608
"""About the least that a socket can be told to hold."""
LOST = (Reason.PORT_QUEUE_FULL, Reason.PORT_DOWN)


class Ports:
    """One input at a worker."""

    def __init__(self, data: bytes) -> None:
        self.octets = Octets(data)
        self.world = world(self.octets.one())
        self.engine = Engine(sessions=256, flows=64, seed=1, memo=bool(self.octets.one() & 1))
        self.engine.swap(self.world.snapshots[0])
        self.stage = 1
        self.lanes = {end.port: lane for lane, end in enumerate(self.world.ends)}
        self.recorder = Recorder(
            [("interface", port, port, 0, lane, None, []) for port, lane in self.lanes.items()], capacity=RING
        )
        self.worker = Worker(self.engine, spin_us=self.octets.among((0, 0, 20, 50)))
        self.ours: dict[int, socket.socket] = {}
        self.sent: dict[int, list[bytes]] = {end.port: [] for end in self.world.ends}
        self.got: dict[int, list[bytes]] = {end.port: [] for end in self.world.ends}
        self.last: list[tuple[End, bytes]] = []

    def run(self) -> None:
        """Everything that happens, and what it came to."""
        self.engine.watch(self.recorder)
        try:
            for end in self.world.ends:
                self.plug(end)
            self.worker.start()
            steps = 0
            while self.octets.left and steps < STEPS:
                self.octets.among(MOVES)(self)
                steps += 1
            self.settle()
        finally:
            self.worker.stop()
            for port in [*self.ours]:
                self.unplug(port)
            self.engine.unwatch(self.recorder)
        self.compare()

    # -- what happens

    def send(self) -> None:
        """Somebody sends a packet, or several, or one with work left to hardware, or any octets."""
        end = self.octets.among(self.world.ends)
        how = self.octets.one()
        if how >= 0xF0:
            self.put(end, self.octets.take(self.octets.one()))
            return
        type_, raw = frames.packet(self.octets, self.world, end)
        if how < 0x20:
            raw = frames.changed(self.octets, type_, raw)
        frame = end.router + end.mac + type_ + raw
        for _ in range(self.octets.one() % 40 + 1 if how >= 0xC0 else 1):
            self.put(end, frame)

    def answer(self) -> None:
        """Whoever got something answers."""
        self.drain(self.octets.among(self.world.ends).port)
        if self.last:
            end, frame = self.last[-1 - self.octets.one() % len(self.last)]
            type_, raw = frames.answered(frame, self.octets.among(frames.TCP_FLAGS))
            self.put(end, end.router + end.mac + type_ + raw)

    def read(self) -> None:
        """Somebody reads what there is at all ports."""
        self.settle()
        for port in self.ours:
            self.drain(port)

    def swap(self) -> None:
        """The lab becomes another."""
        self.settle()
        if self.stage < len(self.world.snapshots):
            self.engine.swap(self.world.snapshots[self.stage])
            self.stage += 1

    def step(self) -> None:
        """The clock is stepped."""
        self.worker.set_clock_offset(min(self.worker.clock_offset_ms + self.octets.among(WAITS), (1 << 62) - 1))

    def replug(self) -> None:
        """A device goes away, or comes back."""
        end = self.octets.among(self.world.ends)
        self.settle()
        if end.port in self.ours:
            self.unplug(end.port)
        else:
            self.plug(end)

    def pull(self) -> None:
        """A device goes away by itself: the worker finds out, or has not yet when the next one comes."""
        end = self.octets.among(self.world.ends)
        self.settle()
        if end.port in self.ours:
            self.drain(end.port)
            self.ours.pop(end.port).close()

    def look(self) -> None:
        """Somebody asks what there is."""
        self.engine.selfcheck()
        self.engine.gateways()
        self.engine.sessions()
        assert self.worker.running
        assert self.worker.thread_id >= 0
        assert self.engine.now_ms <= self.worker.now_ms()

    # -- sockets

    def plug(self, end: End) -> None:
        """A device for a port."""
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with theirs:
            theirs.setblocking(False)
            if self.octets.one() & 1:
                theirs.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, LITTLE)
            self.worker.detach(end.port)
            self.worker.attach(end.port, theirs.fileno())
        self.ours[end.port] = ours

    def unplug(self, port: int) -> None:
        """Take it away when all that it got is read."""
        self.worker.detach(port)
        self.drain(port)
        self.ours.pop(port).close()

    def put(self, end: End, frame: bytes) -> None:
        """Send a frame, if there is a device."""
        if end.port in self.ours:
            self.ours[end.port].send(NO_OFFLOAD + frame[:LONGEST])
            self.sent[end.port].append(frame[:LONGEST])

    def drain(self, port: int) -> None:
        """Read what a port has got."""
        end = self.ours.get(port)
        while end is not None:
            try:
                told = end.recv(1 << 18, socket.MSG_DONTWAIT)
            except BlockingIOError:
                return
            if not told:
                return  # the other end is closed
            self.got[port].append(completed(told[12:], told[:12]))
            self.last.append((self.world.ends[self.lanes[port]], told[12:]))
            del self.last[:-8]

    def settle(self) -> None:
        """Wait until the worker has let in what was sent."""
        wanted = sum(map(len, self.sent.values()))
        eventually(lambda: self.worker.statistics()["frames"] >= wanted, "the worker does not take what was sent")

    # -- what it came to

    def compare(self) -> None:
        """What was received and lost is what is recorded, and what is counted."""
        records = [Record(*row) for row in self.recorder.read(1 << 20)]
        assert self.recorder.lost == 0
        counters = self.engine.counters()
        for end in self.world.ends:
            here = [each for each in records if each.lane == self.lanes[end.port]]
            left = [each.data for each in here if each.cause and each.verdict == Verdict.FORWARD]
            more = unread(left, self.got[end.port])
            # of what left because the clock was stepped it is told once more that it was lost
            again = Counter(each.data for each in here if each.cause == Cause.RESET and each.verdict == Verdict.DROP)
            assert more is not None, ("what was received is not recorded", end)
            assert not Counter(more) - again, ("what was recorded was not received", end)
            counted = counters.get(end.port, {"tx_frames": 0, "reasons": {}})
            assert counted["tx_frames"] == len(self.got[end.port]), (end, counted)
            lost = Counter(each.reason for each in here if each.cause and each.verdict == Verdict.DROP)
            assert set(lost) <= set(LOST), lost
            for reason in LOST:
                assert counted["reasons"].get(reason, 0) >= lost[reason], (end, reason, counted, lost)
                TALLY.met[f"reason {reason.name}"] += lost[reason]
            assert counted["reasons"].get(Reason.PORT_QUEUE_FULL, 0) == lost[Reason.PORT_QUEUE_FULL]
            came = iter(each.data for each in here if each.outgoing)
            assert all(frame in came for frame in self.sent[end.port]), ("a frame that came was not recorded", end)
            TALLY.met["frame through a port"] += counted["tx_frames"]
        self.engine.selfcheck()


def eventually(fact: Callable[[], bool], otherwise: str) -> None:
    """Wait until it is so."""
    deadline = time.monotonic() + PATIENCE_S
    while not fact():
        assert time.monotonic() < deadline, otherwise
        time.sleep(0.0002)  # a poll with a deadline


def unread(left: list[bytes], got: list[bytes]) -> list[bytes] | None:
    """What is in `left` and not in `got`; None: they are not the same frames in the same order otherwise."""
    more: list[bytes] = []
    at = 0
    for frame in left:
        if at < len(got) and got[at] == frame:
            at += 1
        else:
            more.append(frame)
    return more if at == len(got) else None


MOVES: tuple[Callable[[Ports], None], ...] = (
    Ports.send, Ports.send, Ports.send, Ports.send, Ports.send, Ports.answer, Ports.answer, Ports.answer, Ports.read,
    Ports.swap, Ports.step, Ports.replug, Ports.pull, Ports.look,
)  # fmt: skip


def play(data: bytes) -> None:
    """Play an input. Raises AssertionError for what must not happen."""
    Ports(data).run()
