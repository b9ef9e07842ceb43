"""A fuzzed input played while somebody looks: flow logs count, captures come and go, fill up and are read late.

A third engine is captured at all points all the time; other captures look at some points, through a filter, into small
rings that are read now and then. Whoever looks changes nothing, so all engines agree. And what was seen is what was:

    capture of everything   each frame as it came, with its outcome; each that left, in order; whole packets between
    any other capture       what that of everything has at its points and passes its filter, less what it says it lost
    a file of it            reads back as what was written
    flow records            the same with and without the memo; at each port at least what is known to have passed, and
                            no more where nothing else can have; where there was no room, told and lost make up for it
"""

from __future__ import annotations

import struct
from collections import Counter, deque
from collections.abc import Iterable, Mapping, Sequence
from functools import cache
from typing import NamedTuple

from dataplane.capture import PointRow, Record, comment_of, rows_of, sides_of
from dataplane.model._capture_points import Side, known_points
from dataplane.observe.records import WINDOW_MS, Flow, Window, windows_of
from dataplane.program import Direction
from dataplane.program.nodes import Point
from dataplane.verdict import Cause, Reason, Verdict
from fastpath.engine import Engine
from fastpath.recorder import Recorder
from lab import pcapng
from lab.capture import points_of
from lab.packet_filter import PacketFilter
from tests.fuzz import frames
from tests.fuzz.aimed import AIMED, Aimed
from tests.fuzz.playing import MOVES, TALLY, Emissions, Outcomes, Play
from tests.fuzz.worlds import World, logged_world

RING, AT_ONCE = 1 << 25, 1 << 18
"""Bytes of the capture of everything, and of frames that are sent at once: it has room for them at a hundred points."""
SMALL = 1 << 18
VISITORS = 4
FILTERS = (
    "", "", "tcp", "udp", "icmp or icmp6", "ip6", "arp", "greater 1000", "not ip", "net 10.0.0.0/8 and not port 443",
    "udp port 6081", "tcp[tcpflags] & tcp-syn != 0", "ether[0] & 1 = 1", "ip[6:2] & 0x1fff != 0", "less 60",
)  # fmt: skip
ROOMS = ((4096, 4096), (4096, 4096), (64, 64), (16, 4096), (4096, 3), (1, 1))
"""Most flow records, and most that wait to be taken."""
PHASES = (0, 59_999, 1_700_000_000_000)
KEPT, WRITTEN = 1 << 16, 64
"""Records that are read at once; that are written to a file."""
BEFORE = (
    *(reason for reason in Reason if reason <= Reason.FRAGMENT_LIMIT), Reason.SOURCE_CHECK, Reason.GROUP_EGRESS,
    Reason.GROUP_INGRESS, Reason.ACL_EGRESS, Reason.ACL_INGRESS, Reason.NO_ROUTE, Reason.BLACKHOLE,
    Reason.DESTINATION_UNKNOWN, Reason.OUTSIDE_NO_ROUTE,
)  # fmt: skip
"""What packets die of before they have passed the gates of an interface they come to, or not at all."""
CROSSINGS = 16
"""So many points see a packet at most: one that went fewer hops came by no more."""
FILTERING = ("group-session", "filter")
STORY: PointRow = ("story", 0, 0, 0, 0, None, [])


class Stage(NamedTuple):
    """What there is to look at in a lab."""

    rows: list[PointRow]
    sides: list[Side]
    lanes: dict[int, int]
    """By port."""
    seen: Mapping[tuple[int, Direction], Sequence[tuple[int, int, int]]]
    """Points of flow logs, and whose packets they do not see: (version, mask, address).

    Not those of nodes of load balancers, whose own packets are of the same flows as those of who sends by their ports.
    """


@cache
def stages(of: World) -> tuple[Stage, ...]:
    """Those of a world, in order."""
    found = []
    for topology, program in zip(of.topologies, of.programs, strict=True):
        points = points_of(topology, known_points(topology))
        rows, sides = rows_of(points, of.names), sides_of(points)
        lanes = {row[2]: row[4] for row in rows if row[0] == "interface" and row[4] is not None}
        seen = {
            (node.object, node.direction): [
                (each.version, int(each.netmask), int(each.network_address)) for each in program.sets[node.unseen]
            ]
            for node in program.nodes.values()
            if isinstance(node, Point) and of.names[node.object].kind != "gateway-load-balancer-node"
        }
        found.append(Stage(rows, sides, lanes, seen))
    return tuple(found)


@cache
def compiled_filter(text: str) -> PacketFilter:
    """A filter for frames and for bare packets."""
    return PacketFilter(text)


class Visitor:
    """A capture that comes and goes, of some points of a stage."""

    def __init__(self, engine: Engine, stage: Stage, chosen: int, text: str) -> None:
        self.engine, self.chosen, self.filter = engine, chosen, compiled_filter(text) if text else None
        self.is_story = chosen & 0x0F == 0
        self.expected: deque[Record] = deque()
        self.lost = 0
        options = {} if self.filter is None else {
            "keeps": self.filter.keeps, "programs": self.filter.programs, "owner": self.filter
        }  # fmt: skip
        self.recorder = Recorder(self.rows(stage), capacity=SMALL, **options)  # type: ignore[arg-type]
        engine.watch(self.recorder)

    def rows(self, stage: Stage) -> list[PointRow]:
        """Of points whose number has one of the bits set, one side of them or both."""
        if self.is_story:
            return [STORY]
        one = {4: 5, 5: 4}.get((self.chosen >> 4) % 8)
        found = [row for row in stage.rows if self.chosen >> row[1] % 4 & 1]
        if one is not None:
            found = [(*row[:one], None, *row[one + 1 :]) for row in found]  # type: ignore[misc]
        self.lanes = {lane for row in found for lane in row[4:6] if lane is not None}
        return found

    def passes(self, record: Record, stage: Stage) -> bool:
        """Whether it is to see this."""
        if record.lane not in self.lanes:
            return False
        return self.filter is None or self.filter.matches(record.data, bare=not stage.sides[record.lane].frames)

    def read(self, most: int) -> None:
        """Read so many records: they are the next ones that it was to see, but for those that it says it has lost."""
        for row in self.recorder.read(most):
            record = Record(*row)
            wanted = self.next(record)
            if self.is_story and record.verdict != Verdict.DROP:
                wanted = wanted._replace(rule=allowed_by(record))
            assert wanted == record._replace(lost=0, hops=[]), (wanted, record)
            TALLY.met["capture record"] += 1

    def next(self, record: Record) -> Record:
        """The one that was to come. Fragments that die waiting do so in any order: a secret says where they wait."""
        at = record.lost
        assert len(self.expected) > at, ("a record of nothing", record)
        expected, equal = self.expected[at], record._replace(lost=0, hops=[])
        died = (equal.time_ns, Reason.FRAGMENT_TIMEOUT)
        if died == (equal.time_ns, equal.reason) == (expected.time_ns, expected.reason) and equal in self.expected:
            at = self.expected.index(equal)
        wanted = self.expected[at]
        del self.expected[at]
        self.skip(record.lost)
        return wanted

    def skip(self, count: int) -> None:
        """So many records were lost."""
        assert len(self.expected) >= count, "more was lost than there was"
        for _ in range(count):
            self.expected.popleft()
        self.lost += count
        TALLY.met["capture record lost"] += count

    def end(self) -> None:
        """See no more; all that was seen is read, or known to be lost."""
        self.engine.unwatch(self.recorder)
        self.read(KEPT)
        self.skip(len(self.expected))
        assert self.lost == self.recorder.lost, (self.lost, self.recorder.lost)


class Key(NamedTuple):
    """Packets of one flow, at a point and in a window."""

    window: int
    point: int
    side: Direction
    source: int
    destination: int
    protocol: int
    source_port: int
    destination_port: int


class Crossed:
    """What is known to have gone by at points of flow logs, from what was sent and received at ports."""

    def __init__(self) -> None:
        self.packets: Counter[Key] = Counter()
        self.bytes: Counter[Key] = Counter()
        self.unsure: set[tuple[int, Direction, int, int]] = set()
        """Of these (point, side, source, destination) there may have been more."""
        self.is_unsure = False
        """Of all that came to an interface."""

    def saw(
        self, window: int, port: int, side: Direction, frame: bytes, vnet: bytes | None, stage: Stage, *, sure: bool
    ) -> None:
        """A frame at a port, which has crossed its point, or (not `sure`) may have."""
        unseen, raw = stage.seen.get((port, side)), frame[14:]
        if unseen is None or len(raw) < 20:
            return
        if frame[12:14] == frames.IPV4:
            version, ends, at, protocol = 4, (raw[12:16], raw[16:20]), (raw[0] & 15) * 4, raw[9]
            size, whole = int.from_bytes(raw[2:4]), not int.from_bytes(raw[6:8]) & 0x3FFF
        elif frame[12:14] == frames.IPV6 and len(raw) >= 40:
            version, ends, at, protocol = 6, (raw[8:24], raw[24:40]), 40, raw[6]
            size, whole = 40 + int.from_bytes(raw[4:6]), protocol not in EXTENSIONS
        else:
            return
        source, destination = (int.from_bytes(each) for each in ends)
        if any(v == version and end & mask == network for v, mask, network in unseen for end in (source, destination)):
            return
        if not (sure and whole):
            self.unsure.add((port, side, source, destination))
            return
        ports = (0, 0)
        if protocol in (6, 17):
            ports = (int.from_bytes(raw[at : at + 2]), int.from_bytes(raw[at + 2 : at + 4]))
        segments, head = 1, 0
        if vnet is not None and vnet[1]:
            segment, head = int.from_bytes(vnet[4:6], "little"), at + (raw[at + 12] >> 4) * 4
            segments = max(1, -(-(size - head) // segment))
        key = Key(window, port, side, source, destination, protocol, *ports)
        self.packets[key] += segments
        self.bytes[key] += size + (segments - 1) * head


EXTENSIONS = (0, 43, 44, 51, 60, 135)


class Observed(Aimed):
    """One input, looked at."""

    engines_with_memo = (False, True, False)
    flooding = 1 << 20

    def __init__(self, data: bytes) -> None:
        self.visitors: list[Visitor] = []
        self.whole: Recorder | None = None
        self.crossed = Crossed()
        self.taken: list[dict[int, Window]] = [{}, {}]
        self.file: list[bytes] = []
        self.written: list[tuple[Side, int, bytes, bool, str]] = []
        super().__init__(data, OBSERVED, logged_world)
        self.phase = self.octets.among(PHASES)
        capacity, waiting = self.octets.among(ROOMS)
        for engine in self.engines[1:]:
            engine.open_records(capacity=capacity, waiting=waiting, window_ms=WINDOW_MS, phase_ms=self.phase)

    def run(self) -> None:
        """Everything that happens, and what is known of it in the end."""
        super().run()
        while self.visitors:
            self.visitors.pop().end()
        self.take(unfinished=True)
        self.compare_flows()
        self.compare_file()

    @property
    def at(self) -> Stage:
        """What there is to look at now."""
        return stages(self.world)[self.stage - 1]

    # -- what happens beside

    def come(self) -> None:
        """Somebody begins to capture."""
        if len(self.visitors) < VISITORS:
            engine = self.engines[1 + self.octets.one() % 2]
            self.visitors.append(Visitor(engine, self.at, self.octets.one(), self.octets.among(FILTERS)))

    def go(self) -> None:
        """Somebody captures no more."""
        if self.visitors:
            self.visitors.pop(self.octets.one() % len(self.visitors)).end()

    def read(self) -> None:
        """Somebody reads some of what was captured."""
        if self.visitors:
            self.octets.among(self.visitors).read(self.octets.one() + 1)

    def turn(self) -> None:
        """Somebody looks at other points."""
        if self.visitors:
            visitor = self.octets.among(self.visitors)
            if not visitor.is_story:
                visitor.chosen = self.octets.one() | 1
                visitor.engine.look_at(visitor.recorder, visitor.rows(self.at))

    def collect(self) -> None:
        """Somebody takes flow records."""
        self.take(unfinished=bool(self.octets.one() & 1))

    def take(self, *, unfinished: bool) -> None:
        """Take them from both engines."""
        told = [engine.take_records(unfinished=unfinished) for engine in self.engines[1:]]
        for known, (number, rows, lost, elsewhere) in zip(self.taken, told, strict=True):
            for window, found in windows_of(rows, lost).items():
                known.setdefault(window, Window()).add(found)
            known.setdefault(number, Window()).lost_anywhere += elsewhere
        TALLY.met["operation point"] += len(told[0][1])

    def _swap(self) -> None:
        super()._swap()
        if self.whole is None:
            self.whole = Recorder(self.at.rows, capacity=RING)
            self.engines[2].watch(self.whole)
        else:
            self.engines[2].look_at(self.whole, self.at.rows)
        for visitor in self.visitors:
            if not visitor.is_story:
                visitor.engine.look_at(visitor.recorder, visitor.rows(self.at))

    def _put(self, port: int, made: Sequence[bytes], offloads: Sequence[bytes | None] | None = None) -> None:
        """So many at once that the capture of everything has room for all of it."""
        number = 1 + AT_ONCE // (1 + max(map(len, made), default=0))
        for first in range(0, max(1, len(made)), number):
            part = slice(first, first + number)
            super()._put(port, made[part], None if offloads is None else offloads[part])

    # -- what was seen

    def happened(
        self, port: int, made: Sequence[bytes], offloads: Sequence[bytes | None], outcomes: Outcomes,
        emissions: Emissions,
    ) -> None:  # fmt: skip
        """All of it was seen."""
        assert self.whole is not None
        stage = self.at
        records = [Record(*row) for row in self.whole.read(KEPT)]
        assert self.whole.lost == 0
        wires = [completed(frame, offload) for frame, offload in zip(made, offloads, strict=True)]
        came = [each for each in records if each.lane == stage.lanes.get(port) and each.outgoing] if made else []
        for wire, outcome in zip(wires, outcomes, strict=False) if port in stage.lanes else ():
            while came and not is_of(came[0], wire, outcome):
                # what had waited for its first fragment died meanwhile
                assert came.pop(0).verdict == Verdict.DROP, (wire, outcome)
            assert came, ("a frame that came was not seen", wire, outcome)
            came.pop(0)
        lanes = set(stage.lanes.values())
        left = [(each.lane, each.data, each.cause) for each in records if each.cause and each.lane in lanes]
        assert left == [
            (stage.lanes[to], completed(frame, vnet), cause)
            for to, frame, cause, _, vnet in emissions
            if to in stage.lanes
        ]
        for record in records:
            self.check_record(record, stage)
        for visitor in self.visitors:
            if visitor.is_story:
                visitor.expected += self.stories(visitor, port, wires, offloads, outcomes, emissions)
            else:
                visitor.expected += [each for each in records if visitor.passes(each, stage)]
        self.note(port, made, offloads, outcomes, emissions)

    def check_record(self, record: Record, stage: Stage) -> None:
        """What stands in a record is a packet, wherever it was taken, but for what somebody sent."""
        side = stage.sides[record.lane]
        is_sent = side.frames and record.outgoing
        packet = record.data[14:] if side.frames else record.data
        is_four = record.data[12:14] == frames.IPV4 if side.frames else packet[0] >> 4 == 4
        if is_four and not is_sent:
            assert frames.total(packet[: (packet[0] & 15) * 4]) == 0xFFFF, record
            assert int.from_bytes(packet[2:4]) <= len(packet), record
        assert (record.verdict == Verdict.DROP) == (record.reason != Reason.NONE), record
        comment = comment_of(record, self.world.names)
        way = pcapng.OUTBOUND if record.outgoing else pcapng.INBOUND
        if len(self.written) < WRITTEN:
            self.written.append((side, record.time_ns % (1 << 64), record.data, record.outgoing, comment))
            number = len(self.written) - 1
            link = pcapng.ETHERNET if side.frames else pcapng.RAW_IP
            self.file += [
                pcapng.interface(side.name, "", capture_length=0, link_type=link),
                pcapng.packet(
                    record.data, time_ns=record.time_ns % (1 << 64), length=len(record.data), direction=way,
                    interface=number, comment=comment,
                ),
            ]  # fmt: skip
        kind = side.name.partition(":")[0] if ":" in side.name else "interface"
        TALLY.met[f"captured at {kind}{' dropped' if record.reason else ''}"] += 1

    def stories(
        self, visitor: Visitor, port: int, wires: Sequence[bytes], offloads: Sequence[bytes | None],
        outcomes: Outcomes, emissions: Emissions,
    ) -> Iterable[Record]:  # fmt: skip
        """What is told of these frames to somebody who follows packets."""
        for number, (wire, offload, outcome) in enumerate(zip(wires, offloads, outcomes, strict=False)):
            seen = [wire, *(frame for _, frame, _, parent, _ in emissions if parent == number)]
            if visitor.filter is None or any(map(visitor.filter.matches, seen)):
                segment = int.from_bytes(offload[4:6], "little") if offload is not None and offload[1] else 0
                yield Record(0, self.now * 1_000_000, wire, *outcome, 0, True, port, segment, 0, [])

    def note(
        self, port: int, made: Sequence[bytes], offloads: Sequence[bytes | None], outcomes: Outcomes,
        emissions: Emissions,
    ) -> None:  # fmt: skip
        """What is known to have crossed points of flow logs."""
        stage, crossed = self.at, self.crossed
        window = (self.now + self.phase) // WINDOW_MS
        for frame, offload, (verdict, reason, *_) in zip(made, offloads, outcomes, strict=False):
            crossed.saw(window, port, Direction.EGRESS, frame, offload, stage, sure=verdict == Verdict.FORWARD)
            crossed.is_unsure |= reason not in BEFORE
        for to, frame, cause, parent, vnet in emissions:
            is_sure = cause == Cause.FORWARDED and self.ways[parent] <= CROSSINGS
            crossed.saw(window, to, Direction.INGRESS, frame, vnet, stage, sure=is_sure)

    # -- what is known of it in the end

    def compare_flows(self) -> None:
        """Flow records are the same with and without the memo, and those of what was seen at ports."""
        memo, walked = self.taken
        lost = [sum(sum(w.lost.values()) + w.lost_anywhere for w in known.values()) for known in self.taken]
        totals = [totals_of(known) for known in self.taken]
        if not any(lost):
            flows = [{n: timed(w) for n, w in known.items() if w.flows} for known in self.taken]
            assert flows[0] == flows[1], ("flow records differ with the memo", *flows)
        elif not any(window.lost_anywhere for known in self.taken for window in known.values()):
            assert totals[0] == totals[1], "told and lost do not make up for each other"
        else:
            assert totals[0].total() + lost_anywhere(memo) == totals[1].total() + lost_anywhere(walked)
        known = Counter[tuple[int, int]]()
        for key, packets in self.crossed.packets.items():
            known[key.window, key.point] += packets
        if any(lost):
            if not lost_anywhere(walked):
                assert not known - totals[1], ("less was told and lost than passed", known - totals[1])
            return
        told: Counter[Key] = Counter()
        size: Counter[Key] = Counter()
        for number, window in walked.items():
            for flow, count in window.flows.items():
                if not flow.refused:
                    ends = int(flow.source), int(flow.destination), flow.protocol, flow.source_port
                    key = Key(number, flow.interface, flow.direction, *ends, flow.destination_port)
                    told[key] += count.packets
                    size[key] += count.bytes
        for key, packets in self.crossed.packets.items():
            found = (told[key], size[key])
            passed = (packets, self.crossed.bytes[key])
            TALLY.met["flow record compared"] += 1
            is_unsure = key[1:5] in self.crossed.unsure or (self.crossed.is_unsure and key.side is Direction.INGRESS)
            assert found == passed or (is_unsure and found > passed), (key, found, passed)

    def compare_file(self) -> None:
        """What was captured, written to a file, is read again."""
        content = pcapng.section("fuzz") + b"".join(self.file)
        read = list(pcapng.Reader().packets(content))
        assert [(each.interface.name, each.time_ns, each.data, each.outgoing, each.comment) for each in read] == [
            (side.name, *rest) for side, *rest in self.written
        ]


def allowed_by(story: Record) -> int:
    """The last rule that let a packet pass."""
    return next((hop["rule"] for hop in reversed(story.hops) if hop["rule"] and hop["op"] in FILTERING), 0)


def timed(window: Window) -> dict[Flow, tuple[int, ...]]:
    """Flows of a window, times from 1 ms on: 0 stands for no time yet, so what passed then has one or the other."""
    return {
        flow: (count.packets, count.bytes, max(1, count.first_ms), max(1, count.last_ms), count.tcp_flags)
        for flow, count in window.flows.items()
    }


def totals_of(known: dict[int, Window]) -> Counter[tuple[int, int]]:
    """Packets told and lost, by window and point."""
    totals: Counter[tuple[int, int]] = Counter()
    for number, window in known.items():
        for flow, count in window.flows.items():
            totals[number, flow.interface] += count.packets
        for point, packets in window.lost.items():
            totals[number, point] += packets
    return +totals


def lost_anywhere(known: dict[int, Window]) -> int:
    """Packets lost nobody knows where."""
    return sum(window.lost_anywhere for window in known.values())


def is_of(record: Record, wire: bytes, outcome: tuple[int, int, int, int]) -> bool:
    """Whether a record is that of a frame which came, and what became of it."""
    return (record.data, record.verdict, record.reason, record.object) == (wire, *outcome[:3])


def completed(frame: bytes, vnet: bytes | None) -> bytes:
    """A frame whose checksum was left to hardware (virtio 1.0, 5.1.6), as the wire would have it."""
    if vnet is None or not vnet[0] & 1:
        return frame
    start, offset = struct.unpack_from("<HH", vnet, 6)
    field = start + offset
    if start >= len(frame) or field + 2 > len(frame):
        return frame
    value = frames.total(frame[start:]) ^ 0xFFFF
    return frame[:field] + struct.pack(">H", value or 0xFFFF) + frame[field + 2 :]


OBSERVED = (
    *MOVES, Play.packet, Play.packet, Play.packet, Play.answer, Play.answer, Observed.come, Observed.come, Observed.go,
    Observed.read, Observed.read, Observed.turn, Play.flood, Observed.collect, Observed.collect, *AIMED,
)  # fmt: skip


def play(data: bytes) -> None:
    """Play an input. Raises AssertionError for what must not happen."""
    Observed(data).run()
