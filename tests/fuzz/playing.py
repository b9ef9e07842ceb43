"""A fuzzed input, played: what happens in a world, told by octets, on two engines that must agree.

One engine remembers plans (the memo), the other walks with every packet: verdicts, reasons and all that leaves are
the same to the octet. After each input both look at themselves (`Engine.selfcheck`), and every IPv4 packet that left
has the length and the header checksum that it says.
"""

from __future__ import annotations

import struct
from collections import Counter, deque
from collections.abc import Callable, Sequence
from typing import Any

from dataplane.verdict import Cause, Reason, Verdict
from fastpath.engine import Engine
from fastpath.tracer import Overlay
from tests.fuzz import frames
from tests.fuzz.octets import Octets
from tests.fuzz.worlds import End, World, world

STEPS = 64
"""Things that happen in one input, at most."""
REMEMBERED = 12
"""Frames that left and can still be answered."""
WAITS = (
    1,
    29_999,
    30_000,
    30_001,
    60_000,
    120_000,
    180_000,
    350_000,
    349_999,
    600_000,
    4_096,
    432_000_000,
    1 << 31,
    1 << 32,
)
MOST = 64
"""Frames that are sent at once."""
ROOMS = ((256, 64), (64, 16), (16, 16), (4096, 4096))
"""Most sessions and flow entries."""
STARTS = (1_000, 0, (1 << 32) - 5_000, 1 << 40)
"""When it begins, in milliseconds: the memo keeps the lower half of the time."""


Outcomes = Sequence[tuple[int, int, int, int]]
"""(verdict, reason, object, rule) of each frame."""
Emissions = Sequence[tuple[int, bytes, int, int, bytes]]
"""(port, frame, cause, parent, offload) of what left."""


class Tally:
    """What packets met, over all inputs."""

    def __init__(self) -> None:
        self.met: Counter[str] = Counter()

    def count(self, outcomes: Outcomes, emissions: Emissions) -> None:
        """Count verdicts, reasons and causes."""
        for verdict, reason, *_ in outcomes:
            self.met[f"verdict {Verdict(verdict).name}"] += 1
            if reason:
                self.met[f"reason {Reason(reason).name}"] += 1
        for _, _, cause, _, _ in emissions:
            self.met[f"cause {Cause(cause).name}"] += 1


TALLY = Tally()


class Play:
    """One input in its world."""

    engines_with_memo: tuple[bool, ...] = (False, True)
    flooding = 1 << 23
    """Most bytes that are sent at once."""

    def __init__(self, data: bytes, moves: Sequence[Callable[[Any], None]], of: Callable[[int], World] = world) -> None:
        self.octets = Octets(data)
        self.moves = moves
        self.world = of(self.octets.one())
        sessions, flows = self.octets.among(ROOMS)
        sizes = {"sessions": sessions, "flows": flows, "errors": 8}
        self.engines = [Engine(seed=1, memo=memo, **sizes) for memo in self.engines_with_memo]
        self.overlay = Overlay()
        self.now = self.octets.among(STARTS)
        self.ways: list[int] = []
        """How many hops each of the frames went that were sent last."""
        self.stage = 0
        self.left: deque[tuple[int, bytes]] = deque(maxlen=REMEMBERED)
        self.sent: deque[tuple[int, bytes, bytes | None]] = deque(maxlen=REMEMBERED)
        self.by_port = {end.port: end for end in self.world.ends}
        self._swap()

    def run(self) -> None:
        """Everything that happens."""
        steps = 0
        while self.octets.left and steps < STEPS:
            self.octets.among(self.moves)(self)
            steps += 1
        for engine in self.engines:
            engine.selfcheck()
        counted = [engine.counters() for engine in self.engines]
        assert all(each == counted[0] for each in counted), "what is counted differs with the memo"
        TALLY.met["error withheld"] += sum(each["errors_withheld"] for each in counted[0].values())
        TALLY.met["memo hit"] += self.engines[1].statistics()["flow_hits"]

    # -- what is sent

    def _put(self, port: int, made: Sequence[bytes], offloads: Sequence[bytes | None] | None = None) -> None:
        ports, offloads = [port] * len(made), offloads or [None] * len(made)
        told, emissions = self.engines[0].process(made, ports, self.now, offloads, traced=True)
        outcomes = [(verdict, reason, object_, rule) for verdict, reason, object_, rule, _ in told]
        for engine in self.engines[1:]:
            result = engine.process(made, ports, self.now, offloads)
            assert result == (outcomes, emissions), ("the memo changes what happens", port, made, result, outcomes)
        for *_, story in told:
            for op, *_ in story:
                TALLY.met[f"operation {op}"] += 1
        self.ways = [len(story) for *_, story in told]
        TALLY.count(outcomes, emissions)
        # between neighbours a frame keeps the sender's MAC
        TALLY.met["operation bridge"] += sum(
            cause == Cause.FORWARDED and frame[6:12] == made[parent][6:12] for _, frame, cause, parent, _ in emissions
        )
        for frame, offload in list(zip(made, offloads, strict=True))[:2]:
            self.sent.append((port, frame, offload))
        for to, frame, _, _, vnet in emissions[-REMEMBERED:]:
            check(frame, vnet)
            self.left.append((to, frame))
        self.happened(port, made, offloads, outcomes, emissions)

    def happened(
        self, port: int, made: Sequence[bytes], offloads: Sequence[bytes | None], outcomes: Outcomes,
        emissions: Emissions,
    ) -> None:  # fmt: skip
        """What became of frames that came in there, or of nothing but time: for whoever looks closer."""

    def _framed(self, end: End, type_: bytes, raw: bytes) -> bytes:
        """A frame to the router, mostly."""
        chance = self.octets.one()
        to = end.router
        if chance >= 0xF8:
            to = b"\xff" * 6 if chance & 1 else b"\x33\x33\0\0\0\1"
        elif chance >= 0xD8:
            to = self.octets.among(self.world.macs)
        elif chance >= 0xD0:
            type_ = self.octets.among(frames.TYPES)
        return to + end.mac + type_ + raw

    def _say(self, end: End, type_: bytes, raw: bytes) -> None:
        """Send a packet: as it is, changed, in pieces, several at a time, or with work left to hardware."""
        how = self.octets.one()
        if how < 0x30:
            raw = frames.changed(self.octets, type_, raw)
        elif how < 0x40 and len(raw) > 48:
            self._put(end.port, [self._framed(end, type_, each) for each in frames.pieces(self.octets, type_, raw)])
            return
        frame = self._framed(end, type_, raw)
        offload = self._offload(frame) if how >= 0xE0 else None
        times = self.octets.one() % 5 + 1 if how >= 0xF8 or 0x40 <= how < 0x48 else 1
        self._put(end.port, [frame] * times, [offload] * times)

    def _offload(self, frame: bytes) -> bytes:
        """An offload header that fits a frame more or less (virtio 1.0, 5.1.6)."""
        six = frame[12:14] == frames.IPV6
        l4 = 54 if six else 34
        proto = frame[20 if six else 23] if len(frame) > 23 else 0
        head = [
            1,
            (4 if six else 1) if proto == 6 else 0,
            l4 + 20,
            self.octets.among((1448, 536, 1, 8, 0, 9000)),
            l4,
            16 if proto == 6 else 6,
            0,
        ]
        chance = self.octets.one()
        if chance < 0x40:
            head[1] = 0
        elif chance < 0x80:
            head[chance % 7] = self.octets.two() & (0xFF if chance % 7 < 2 else 0xFFFF)
        return struct.pack("<BBHHHHH", *head)

    # -- what happens

    def packet(self) -> None:
        """Somebody sends a packet."""
        end = self.octets.among(self.world.ends)
        self._say(end, *frames.packet(self.octets, self.world, end))

    def answer(self) -> None:
        """Whoever got something answers."""
        found = self._received()
        if found:
            end, frame = found
            self._say(end, *frames.answered(frame, self.octets.among(frames.TCP_FLAGS)))

    def bounce(self) -> None:
        """Whoever got something in GENEVE sends it back, up to four times in turn."""
        for _ in range(self.octets.one() % 4 + 1):
            found = self._received()
            if found:
                end, frame = found
                self._say(end, *frames.bounced(self.octets, frame))

    def complain(self) -> None:
        """Whoever got something, or somebody else, sends an error about it."""
        found = self._received()
        if found:
            end, frame = found
            if self.octets.rarely(4):
                end = self.octets.among(self.world.ends)
            self._say(end, *frames.complaint(self.octets, self.world, frame))

    def again(self) -> None:
        """The same frame once more."""
        if self.sent:
            port, frame, offload = self.sent[-1 - self.octets.one() % len(self.sent)]
            self._put(port, [frame], [offload])

    def crowd(self) -> None:
        """Somebody opens many flows at once."""
        end = self.octets.among(self.world.ends)
        type_, raw = frames.packet(self.octets, self.world, end)
        head = end.router + end.mac + type_
        self._put(end.port, [head + frames.from_port(type_, raw, n) for n in range(self.octets.one() % MOST + 1)])

    def flood(self) -> None:
        """The same frame many times, back to back."""
        if self.sent:
            port, frame, offload = self.sent[-1]
            most = 1 + self.flooding // (len(frame) + 1)
            times = min(self.octets.one() % MOST + 1, most)
            self._put(port, [frame] * times, [offload] * times)

    def ask(self) -> None:
        """Somebody asks who has an address."""
        end = self.octets.among(self.world.ends)
        self._say(end, *frames.question(self.octets, self.world, end))

    def raw(self) -> None:
        """Any octets, through any context, also of contexts that are not there."""
        port = self.octets.two() if self.octets.rarely(8) else self.octets.among(self.world.ends).port
        offload = self.octets.take(12) if self.octets.rarely(4) else None
        frame = self.octets.take(self.octets.one())
        end = self.by_port.get(port)
        if end is not None and self.octets.one() & 3:
            frame = end.router + end.mac + frame
        self._put(port, [frame], [offload if offload is None or len(offload) == 12 else None])

    def wait(self) -> None:
        """Time passes."""
        self.now = min(self.now + self.octets.among(WAITS), (1 << 63) - 1)
        results = [engine.advance(self.now) for engine in self.engines]
        assert all(each == results[0] for each in results), "time passes otherwise with the memo"
        TALLY.count(*results[0])
        self.happened(0, (), (), *results[0])

    def swap(self) -> None:
        """The lab becomes another."""
        if self.stage < len(self.world.snapshots):
            self._swap()

    def _swap(self) -> None:
        for engine in self.engines:
            engine.swap(self.world.snapshots[self.stage])
        self.stage += 1

    def forget(self) -> None:
        """Some flow entries are deleted, or all, or the memo is turned off and on."""
        chance = self.octets.one()
        if chance < 0x10:
            self.engines[1].memo = not self.engines[1].memo
        else:
            self.engines[1].forget(0 if chance < 0x40 else 0x0101010101010101 * chance)

    def look(self) -> None:
        """Somebody asks what there is."""
        for engine in self.engines:
            engine.sessions()
            engine.gateways()
            engine.statistics()
            engine.selfcheck()

    def trace(self) -> None:
        """Somebody traces a packet, and the answer to it; nothing changes by it."""
        end = self.octets.among(self.world.ends)
        type_, raw = frames.packet(self.octets, self.world, end)
        frame = self._framed(end, type_, raw)
        for _ in range(3):
            story = self.engines[0].trace(frame, end.port, self.overlay, self.now)
            assert self.engines[1].trace(frame, end.port, Overlay(), self.now)["verdict"] in (1, 2, 3, 4)
            for hop in [*story["hops"], *story.get("error", {}).get("hops", ())]:
                TALLY.met[f"operation {hop['op']}"] += 1
            found = self.by_port.get(story.get("port", 0))
            if found is None:
                return
            end = found
            type_, raw = frames.answered(story["frame"], 0x12)
            frame = end.router + end.mac + type_ + raw

    def _received(self) -> tuple[End, bytes] | None:
        if not self.left:
            return None
        port, frame = self.left[-1 - self.octets.one() % len(self.left) // 2]
        end = self.by_port.get(port)
        return None if end is None else (end, frame)


MOVES: tuple[Callable[[Play], None], ...] = (
    Play.packet, Play.packet, Play.packet, Play.crowd, Play.answer, Play.answer, Play.answer, Play.bounce, Play.bounce,
    Play.complain, Play.again, Play.flood, Play.ask, Play.raw, Play.wait, Play.swap, Play.forget, Play.look, Play.trace,
)  # fmt: skip


def check(frame: bytes, vnet: bytes) -> None:
    """What left is a frame that a network may carry."""
    assert len(frame) >= 14
    raw = frame[14:]
    if frame[12:14] == frames.IPV4:
        assert len(raw) >= 20
        size = (raw[0] & 15) * 4
        assert size <= int.from_bytes(raw[2:4]) == len(raw), ("a length that is not so", frame)
        assert frames.total(raw[:size]) == 0xFFFF, ("a wrong header checksum", frame)
    elif frame[12:14] == frames.IPV6:
        assert 40 + int.from_bytes(raw[4:6]) == len(raw), ("a length that is not so", frame)
    assert vnet[1] & 0x7F in (0, 1, 4)
