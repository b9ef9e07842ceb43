"""A capture in the lab's daemon: records of the data plane, as a pcapng file while they come.

    points -> recorder of the engine (a ring, `fastpath.recorder`) -> this -> a client's socket, or a file

The engine never waits for it: who reads too slowly loses records, which are counted, told in the next packet's comment
and at the end of the file. Memory: `RING_BYTES` for each capture, at most 16 captures at once.
"""

from __future__ import annotations

import contextlib
import json
import time
from collections import Counter
from collections.abc import Callable, Generator, Iterator, Sequence
from typing import Any

from dataplane.analysis.wording import with_notes
from dataplane.capture import PointRow, Record, comment_of, rows_of, sides_of
from dataplane.engine import DataPlane
from dataplane.errors import LimitError, Problem
from dataplane.model._capture_points import Point, UnknownPointError, find_point
from dataplane.story import story_of
from dataplane.topology import Topology
from dataplane.trace_text import object_text
from fastpath.recorder import Recorder
from lab import pcapng
from lab.control import RequestError
from lab.packet_filter import PacketFilter

RING_BYTES = 8 << 20
"""What a capture may hold that nobody has read yet."""
BATCH = 256
"""Records that are written at once."""
PATIENCE_S = 0.02
"""How long to wait for more when there is nothing."""

_running: dict[Recorder, DataPlane] = {}
"""Everything that records at the moment, and whose packets."""

Write = Callable[[bytes], object]
Ended = Callable[[float], bool]
"""Waits at most so many seconds; whether the capture is to end."""


class Capture:
    """One capture, from the moment it is made; `close` ends it. `run` is called once, by one thread."""

    def __init__(
        self, data_plane: DataPlane, words: Sequence[str], filter_text: str = "", *, ring_bytes: int = RING_BYTES
    ) -> None:
        """Begin to record.

        Args:
            data_plane: whose packets.
            words: points, see `dataplane.model._capture_points`.
            filter_text: which packets, in tcpdump's syntax; empty: all.
            ring_bytes: room for records that were not read yet.

        Raises:
            RequestError: no such point, or the filter is wrong.
            LimitError: there are too many captures already.
            LabError: there is a filter, and no libpcap.
        """
        self._data_plane, self._words = data_plane, tuple(words)
        self._topology = data_plane.topology
        self._points = points_of(self._topology, words)
        self.sides = sides_of(self._points)
        self._recorder = _recorder(
            rows_of(self._points, data_plane.names),
            filter_text,
            self._topology,
            frames=any(side.frames for side in self.sides),
            bare=not all(side.frames for side in self.sides),
            ring_bytes=ring_bytes,
        )
        _begin(data_plane, self._recorder)
        self._start_ns = time.time_ns()

    @property
    def lost(self) -> int:
        """Records that found no room because they were not read."""
        return self._recorder.lost

    def close(self) -> None:
        """Record no more."""
        _stop(self._data_plane, self._recorder)

    def run(self, write: Write, ended: Ended) -> int:
        """Write a pcapng file until the end; returns how many packets it has. What `write` raises ends it, too."""
        seen: Counter[int] = Counter()
        write(head_of(self._points, self.sides))
        with contextlib.closing(_batches(self._recorder, ended, self._follow, self.close)) as batches:
            for records in batches:
                write(b"".join(map(self._block, records)))
                seen.update(record.lane for record in records)
        write(self._statistics(seen))
        return seen.total()

    def _block(self, record: Record) -> bytes:
        return pcapng.packet(
            record.data,
            time_ns=record.time_ns,
            length=len(record.data),
            direction=pcapng.OUTBOUND if record.outgoing else pcapng.INBOUND,
            interface=record.lane,
            comment=comment_of(record, self._data_plane.names),
        )

    def _statistics(self, seen: Counter[int]) -> bytes:
        end_ns = time.time_ns()
        return b"".join(
            pcapng.statistics(
                start_ns=self._start_ns,
                end_ns=end_ns,
                received=seen[lane],
                # whose records they would have been is not known: they are told once
                dropped=self.lost if lane == 0 else 0,
                interface=lane,
            )
            for lane in range(len(self.sides))
        )

    def _follow(self) -> None:
        """The lab may have been changed: addresses of a point may be others now."""
        topology = self._data_plane.topology
        if topology is self._topology:
            return
        self._topology = topology
        wanted = {side.name for side in self.sides}
        points = []
        for old, word in zip(self._points, self._words, strict=True):
            try:
                points.append(find_point(topology, word))
            except UnknownPointError:
                points.append(old)  # it is gone, and may come back
        if {side.name for side in sides_of(points)} == wanted:
            self._points = points
            self._data_plane.engine.look_at(self._recorder, rows_of(points, self._data_plane.names))


class Stories:
    """What real packets go through, hop by hop, as lines of JSON (`dataplane.trace`)."""

    def __init__(self, data_plane: DataPlane, filter_text: str = "") -> None:
        """Begin to follow packets that match a filter as they came, or as they left; errors as of `Capture`."""
        self._data_plane = data_plane
        row: PointRow = ("story", 0, 0, 0, 0, None, [])
        self._recorder = _recorder(
            [row], filter_text, data_plane.topology, frames=True, bare=False, ring_bytes=RING_BYTES
        )
        _begin(data_plane, self._recorder)

    def close(self) -> None:
        """Follow no more."""
        _stop(self._data_plane, self._recorder)

    def run(self, write: Write, ended: Ended) -> None:
        """Write a line for each packet until the end, and a last one: how many packets were lost in all."""
        with contextlib.closing(_batches(self._recorder, ended, lambda: None, self.close)) as batches:
            for records in batches:
                write(b"".join(map(self._told, records)))
        write(_json_line({"ended": True, "lost": self._recorder.lost}))

    def _told(self, record: Record) -> bytes:
        return _json_line(self._line(record))

    def _line(self, record: Record) -> dict[str, Any]:
        found = with_notes(self._data_plane.topology, story_of(record, self._data_plane.names))
        return {"time_ns": record.time_ns, "lost": record.lost, "trace": found.to_json()}


def running_captures(data_plane: DataPlane) -> int:
    """How many captures, and followers of live packets, there are at the moment."""
    return sum(each is data_plane for each in list(_running.values()))


def split_words(topology: Topology, words: Sequence[str]) -> tuple[list[str], str, str]:
    """Points and filter of a command line: the words that name points, and all from the first that does not.

    The third is why that one names no point, or "": it may be misspelt.

    Raises RequestError when not even the first is one.
    """
    points: list[str] = []
    for index, word in enumerate(words):
        try:
            find_point(topology, word)
        except UnknownPointError as error:
            if not points:
                raise RequestError(str(error)) from None
            return points, " ".join(words[index:]), str(error)
        points.append(word)
    return points, "", ""


def points_of(topology: Topology, words: Sequence[str]) -> list[Point]:
    """The points that these words name. Raises RequestError for one that is none, or is there twice."""
    points: list[Point] = []
    names: set[str] = set()
    for word in words:
        try:
            point = find_point(topology, word)
        except UnknownPointError as error:
            raise RequestError(str(error)) from None
        for side in point.sides:
            if side.name in names:
                raise RequestError(f"{side.name} is asked for twice")
            names.add(side.name)
        points.append(point)
    if not points:
        raise RequestError("what is to be captured? for example an instance")
    return points


def check_filters(topology: Topology) -> Iterator[Problem]:
    """Yield filters of declared captures that libpcap does not take; the rest of the lab file is right.

    Raises:
        LabError: there are filters, and no libpcap.
    """
    for name, capture in topology.lab.captures.items():
        if capture.filter.strip():
            sides = sides_of(points_of(topology, capture.points))
            frames, bare = any(side.frames for side in sides), not all(side.frames for side in sides)
            try:
                PacketFilter(capture.filter, _addresses(topology), frames=frames, bare=bare)
            except RequestError as error:
                yield Problem(f"captures.{name}.filter", str(error))


def head_of(points: Sequence[Point], sides: Sequence[Any]) -> bytes:
    """What the file begins with: an interface for each side of a point."""
    blocks = [pcapng.section("vpclab")]
    objects = {side.name: object_text(point.object) for point in points for side in point.sides}
    for side in sides:
        link = pcapng.ETHERNET if side.frames else pcapng.RAW_IP
        blocks.append(pcapng.interface(side.name, objects[side.name], capture_length=0, link_type=link))
    return b"".join(blocks)


def _recorder(
    rows: Sequence[tuple[Any, ...]], filter_text: str, topology: Topology, *, frames: bool, bare: bool, ring_bytes: int
) -> Recorder:
    if not filter_text.strip():
        return Recorder(rows, capacity=ring_bytes)
    chosen = PacketFilter(filter_text, _addresses(topology), frames=frames, bare=bare)
    return Recorder(rows, capacity=ring_bytes, keeps=chosen.keeps, programs=chosen.programs, owner=chosen)


def _json_line(value: dict[str, Any]) -> bytes:
    return json.dumps(value, separators=(",", ":")).encode() + b"\n"


def _addresses(topology: Topology) -> dict[str, list[str]]:
    """What filters may call by name: nodes, at all of their interfaces."""
    found: dict[str, list[str]] = {}
    for each in topology.interfaces:
        if each.is_attached:
            name = each.path.partition("/")[0]
            found.setdefault(name, []).extend(map(str, (*each.addresses4, *each.addresses6)))
    for name, host in topology.lab.internet.hosts.items():
        found[name] = [str(address) for address in (host.address, host.ipv6_address) if address]
    for name, service in topology.lab.aws_services.items():
        found[name] = [str(service.host_address(name))]
    return found


def _begin(data_plane: DataPlane, recorder: Recorder) -> None:
    try:
        data_plane.engine.watch(recorder)
    except ValueError as error:
        raise LimitError(str(error)) from None
    _running[recorder] = data_plane


def _stop(data_plane: DataPlane, recorder: Recorder) -> None:
    data_plane.engine.unwatch(recorder)
    _running.pop(recorder, None)


def _batches(
    recorder: Recorder, ended: Ended, idle: Callable[[], None], close: Callable[[], None]
) -> Generator[list[Record], None, None]:
    """Records as they come until the end, then, once no more are recorded, those that came before it.

    Closed at any time, it sees to it that no more are recorded.
    """
    try:
        while True:
            rows = recorder.read(BATCH)
            if rows:
                yield [Record(*row) for row in rows]
            if ended(0.0 if rows else PATIENCE_S):
                break
            idle()
    finally:
        close()
    while rows := recorder.read(BATCH):
        yield [Record(*row) for row in rows]
