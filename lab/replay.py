"""Replaying a capture: what instances sent then goes through a lab file's network again, without a lab.

Frames that interfaces sent are put into a data plane of their own at the times they were recorded at; what is recorded
then at the points of the file is compared with what stands in it. Time stands still but for these times, kernels do not
take part, and choices that are left open (ports of NAT gateways) are made alike, so the same network gives the same
packets.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from dataplane.capture import SEGMENTS, Record, comment_of, rows_of, sides_of
from dataplane.engine import DataPlane
from dataplane.errors import VpclabError
from dataplane.topology import Topology
from dataplane.verdict import Reason, Verdict
from fastpath.recorder import Recorder
from lab import pcapng
from lab.capture import RING_BYTES, points_of
from lab.control import RequestError

_SEGMENTS = re.compile(re.escape(SEGMENTS).replace(re.escape("{}"), r"(\d{1,5})(?!\d)"))
_MOST_SEGMENT = 0xFFFF
_WAITED_IN_VAIN = f"{Verdict.DROP.name} {Reason.FRAGMENT_TIMEOUT.name}"
"""How the comment begins of a fragment that had been sent before, and died now: its first one never came."""
_SWEEP_MS = 1000
"""So often those are looked for."""
_LOST = re.compile(r"(?:; )?\d+ records lost before this one")
_ETHERNET, _LEAST_IPV4, _IPV6, _LEAST_TCP = 14, 20, 40, 20
_TCP, _CHECKSUM_AT = 6, 16
_LONGEST_FRAME = 131072
_NEEDS_CHECKSUM, _GSO_TCP4, _GSO_TCP6 = 1, 1, 4


class Seen(NamedTuple):
    """A packet at one side of a point, and what became of it."""

    side: str
    outgoing: bool
    data: bytes
    fate: str


@dataclass(slots=True)
class Replayed:
    """What a replay found."""

    sent: int = 0
    """Frames that interfaces sent."""
    equal: int = 0
    """Packets that are in the file, and were seen again."""
    missing: list[Seen] = field(default_factory=list)
    """Packets of the file that were not seen again."""
    new: list[Seen] = field(default_factory=list)
    """Packets that are not in the file."""
    file: bytes = b""
    """What was recorded, as pcapng."""

    @property
    def is_equal(self) -> bool:
        """Whether the same happened."""
        return not self.missing and not self.new


def replay(octets: bytes, topology: Topology) -> Replayed:
    """Replay a capture in the network of a topology.

    Raises:
        RequestError: it is no capture of ours, has points that the topology has not, frames longer than any, or
            nothing that was sent.
    """
    reader = pcapng.Reader()
    try:
        packets = list(reader.packets(octets))
    except ValueError as error:
        raise RequestError(f"cannot be replayed: {error}") from None
    names = [each.name for each in reader.interfaces]
    if odd := [name for name in names if not name.isprintable()]:
        raise RequestError(f"cannot be replayed: no point has the name {odd[0]!r}")
    points = points_of(topology, names)
    sides = sides_of(points)
    ports = {side.name for point in points if point.kind == "interface" for side in point.sides}
    told = [each for each in packets if each.outgoing and each.interface.name in ports]
    if all(each.comment.startswith(_WAITED_IN_VAIN) for each in told):
        raise RequestError("nothing can be replayed: the capture has no packets as an instance sent them")
    longest = max(len(each.data) for each in packets)
    if longest > _LONGEST_FRAME:
        raise RequestError(f"cannot be replayed: a packet of {longest} bytes; no frame has more than {_LONGEST_FRAME}")
    plane = DataPlane(topology)
    recorder = Recorder(rows_of(points, plane.names), capacity=RING_BYTES)
    plane.engine.watch(recorder)
    found = Replayed()
    again: list[Seen] = []
    blocks = [pcapng.section("vpclab")]
    for side in sides:
        link = pcapng.ETHERNET if side.frames else pcapng.RAW_IP
        blocks.append(pcapng.interface(side.name, "replayed", capture_length=0, link_type=link))

    def note(time_ns: int) -> None:
        for record in _records(recorder):
            comment = comment_of(record, plane.names)
            again.append(Seen(sides[record.lane].name, record.outgoing, record.data, _fate(comment)))
            way = pcapng.OUTBOUND if record.outgoing else pcapng.INBOUND
            blocks.append(
                pcapng.packet(
                    record.data,
                    time_ns=time_ns,
                    length=len(record.data),
                    direction=way,
                    interface=record.lane,
                    comment=comment,
                )
            )

    now_ms = 0
    for each in told:
        now_ms = max(now_ms, each.time_ns // 1_000_000)
        if each.comment.startswith(_WAITED_IN_VAIN):
            plane.advance(now_ms)
        else:
            frame, offload = _as_sent(each)
            plane.process([frame], [plane.port(each.interface.name)], now_ms, [offload])
            found.sent += 1
        note(each.time_ns)
    if _died(each.comment for each in told) > _died(each.fate for each in again):
        plane.advance(now_ms + _SWEEP_MS)
        note(told[-1].time_ns)
    before = [Seen(each.interface.name, each.outgoing, each.data, _fate(each.comment)) for each in packets]
    _compare(found, before, again)
    found.file = b"".join(blocks)
    return found


def _compare(found: Replayed, before: Sequence[Seen], again: Sequence[Seen]) -> None:
    old, new = Counter(before), Counter(again)
    found.equal = (old & new).total()
    left = old - new
    for seen in before:
        if left[seen]:
            left[seen] -= 1
            found.missing.append(seen)
    left = new - old
    for seen in again:
        if left[seen]:
            left[seen] -= 1
            found.new.append(seen)


def _records(recorder: Recorder) -> Iterator[Record]:
    while rows := recorder.read():
        yield from (Record(*row) for row in rows)
    if recorder.lost:
        raise VpclabError("more packets of one packet than a capture can hold")


def _died(comments: Iterable[str]) -> int:
    return sum(comment.startswith(_WAITED_IN_VAIN) for comment in comments)


def _fate(comment: str) -> str:
    return _LOST.sub("", comment)


def _segment_bytes(comment: str) -> int:
    """How large the segments are that were left to be cut; 0: none were, or the comment is none of ours."""
    found = _SEGMENTS.search(comment)
    size = int(found[1]) if found else 0
    return size if size <= _MOST_SEGMENT else 0


def _as_sent(packet: pcapng.Captured) -> tuple[bytes, bytes | None]:
    """The frame as its kernel gave it to the device, with the offload header if it left segments to be cut."""
    frame, segment = packet.data, _segment_bytes(packet.comment)
    if not segment:
        return frame, None
    is_four = frame[12:14] == b"\x08\x00"
    words = frame[_ETHERNET] & 15 if len(frame) > _ETHERNET else 0
    head = _ETHERNET + (words * 4 if is_four else _IPV6)
    kind = _GSO_TCP4 if is_four else _GSO_TCP6
    if head < _ETHERNET + _LEAST_IPV4 or len(frame) < head + _LEAST_TCP:
        # nothing that can be cut: refused when it was captured, for whatever it had in the place of these zeros
        return frame, bytes((0, kind, 0, 0)) + segment.to_bytes(2, "little") + bytes(6)
    end = _ETHERNET + (int.from_bytes(frame[16:18], "big") if is_four else 40 + int.from_bytes(frame[18:20], "big"))
    ends = frame[26:34] if is_four else frame[22:54]
    total = sum(int.from_bytes(ends[at : at + 2], "big") for at in range(0, len(ends), 2)) + _TCP + (end - head)
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    at = head + _CHECKSUM_AT
    size = head + (frame[head + 12] >> 4) * 4
    numbers = (size, segment, head, _CHECKSUM_AT)
    offload = bytes((_NEEDS_CHECKSUM, kind)) + b"".join(number.to_bytes(2, "little") for number in numbers) + bytes(2)
    return frame[:at] + total.to_bytes(2, "big") + frame[at + 2 :], offload
