"""Whoever captures sees, and changes nothing: with captures, and with captures that come and go, the same happens."""

from __future__ import annotations

from collections import Counter
from typing import Any

from hypothesis import event, given
from hypothesis import strategies as st
from scapy.layers.inet import IP
from scapy.layers.inet6 import IPv6

from dataplane.capture import Record, rows_of, sides_of
from dataplane.engine import DataPlane
from dataplane.load import load_topology
from dataplane.model._capture_points import find_point, known_points
from dataplane.verdict import Cause, Reason, Verdict
from fastpath.recorder import Recorder
from tests.property.strategies import RandomLab, labs, steps
from tests.property.test_memo import TYPES, Triplet, internet_sum

ARP = b"\x08\x06"
STORY: tuple[Any, ...] = ("story", 0, 0, 0, 0, None, [])


class Watched(Triplet):
    """Three data planes: nobody captures, somebody captures everything, somebody comes and goes."""

    def __init__(self, lab: RandomLab) -> None:
        super().__init__(lab)
        topology = load_topology(lab.text, file_name="random.yaml")
        self.planes = [DataPlane(topology, sessions=256, flows=64) for _ in range(3)]
        names = self.planes[1].names
        points = [find_point(topology, word) for word in known_points(topology)]
        self.sides = sides_of(points)
        self.recorder = Recorder(rows_of(points, names))
        self.stories = Recorder([STORY])
        self.planes[1].engine.watch(self.recorder)
        self.planes[1].engine.watch(self.stories)
        self.visitor = Recorder(rows_of(points, self.planes[2].names), capacity=1 << 18)  # never read: it loses records
        self.found: Counter[str] = Counter()

    def send(self, port: int, frames: list[bytes], keep: int) -> None:
        if keep:
            self.planes[2].engine.watch(self.visitor)
        outcomes, emissions = self.planes[0].process(frames, [port] * len(frames), self.now)
        for plane in self.planes[1:]:
            assert plane.process(frames, [port] * len(frames), self.now) == (outcomes, emissions)
        self.planes[2].engine.unwatch(self.visitor)
        self.seen.update(o.reason for o in outcomes)
        self.emitted += [(e.port, e.frame) for e in emissions]
        self.compare()
        records = [Record(*row) for row in self.recorder.read(100_000)]
        # what had waited for its first fragment may have died of age before these came
        records = [each for each in records if each.reason != Reason.FRAGMENT_TIMEOUT]
        name = self.planes[0].names[port].path
        came = [each for each in records if self.sides[each.lane].name == name and each.outgoing]
        assert [(each.data, each.verdict, each.reason, each.object) for each in came] == [
            (frame, outcome.verdict, outcome.reason, outcome.object)
            for frame, outcome in zip(frames, outcomes, strict=True)
        ]
        left = [each for each in records if each.cause]
        assert [(each.lane, each.data, each.cause) for each in left] == [
            (self.lane(emission.port), emission.frame, emission.cause) for emission in emissions
        ]
        told = [Record(*row) for row in self.stories.read(100_000)]
        assert [(each.data, each.verdict) for each in told] == [(each.data, each.verdict) for each in came]
        for each in records:
            self.look(each)

    def lane(self, port: int) -> int:
        name = self.planes[0].names[port].path
        return next(lane for lane, side in enumerate(self.sides) if side.name == name)

    def look(self, record: Record) -> None:
        """What stands in a record is a packet whose checksums are right, wherever it was taken."""
        side = self.sides[record.lane]
        packet = record.data[14:] if side.frames else record.data
        kind = side.name.partition(":")[0] if ":" in side.name else "interface"
        self.found[f"{kind}{' dropped' if record.verdict == Verdict.DROP else ''}"] += 1
        if not side.frames:
            assert packet[0] >> 4 in (4, 6)
        elif not record.outgoing:
            assert record.data[12:14] == {4: TYPES[4], 6: TYPES[6]}.get(packet[0] >> 4, ARP)
            assert any(record.data[:6])
        if packet[:1] == b"\x45":
            assert internet_sum(packet[:20]) == 0
        if record.verdict == Verdict.DROP:
            assert record.reason != Reason.NONE
        else:
            assert record.reason == Reason.NONE
        if record.cause in (Cause.ERROR, Cause.RESET):
            layers = IP(packet) if packet[0] >> 4 == 4 else IPv6(packet)
            assert layers.payload


@given(lab=labs(), data=st.data())
def test_captures_change_nothing(lab: RandomLab, data: st.DataObject) -> None:
    watched = Watched(lab)
    for _ in range(data.draw(st.integers(1, 14), label="steps")):
        keep = data.draw(st.sampled_from([0, 1]), label="somebody captures meanwhile")
        kind = data.draw(st.sampled_from(["step", "step", "answer", "answer", "complain", "advance"]), label="kind")
        if kind == "advance":
            watched.now += data.draw(st.sampled_from([1, 1_000, 30_000, 350_000]), label="wait")
            results = [plane.advance(watched.now) for plane in watched.planes]
            assert results[0] == results[1] == results[2]
            watched.recorder.read(100_000)
            watched.stories.read(100_000)
        elif kind == "answer" and watched.emitted:
            watched.answer(data.draw(st.integers(0, 1000), label="which"), keep)
        elif kind == "complain" and watched.emitted:
            watched.complain(data.draw(st.integers(0, 1000), label="which"), keep)
        else:
            watched.step(data.draw(steps(lab), label="packet"), keep)
    assert watched.recorder.lost == watched.stories.lost == 0
    for what in watched.found:
        event(what)
