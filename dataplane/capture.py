"""Captures: from the words of points to a recorder of the fast path, and from its records to what people read.

What a packet's comment says, parts separated by ``; ``::

    FORWARD to interface web/eth0; allowed by security-group-rule shop/web ingress tcp 80 from 0.0.0.0/0
    DROP GROUP_INGRESS at interface web/eth0; no rule; no inbound security group rule allows it [ENI_SG_RULES_MISMATCH]
    ...; target fw-a                    at a load balancer: who it goes to, or comes from
    ...; segments of 1448 bytes         TCP segmentation was left to the receiver
    ...; 12 records lost before this one
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

from dataplane.model._capture_points import Point, Side
from dataplane.names import Names
from dataplane.trace_text import object_text
from dataplane.verdict import REASON_TEXT, Cause, Reason, Verdict, aws_code

_CAUSES = {
    Cause.ANSWER: "answer of the router",
    Cause.ERROR: "ICMP error of the router",
    Cause.FRAGMENT: "fragment",
    Cause.RELEASED: "fragment that had waited",
    Cause.RESET: "TCP reset of a gateway",
}
PointRow = tuple[str, int, int, int, int | None, int | None, list[tuple[int, int]]]
"""As `fastpath.recorder.Recorder` takes it."""
SEGMENTS = "segments of {} bytes"


class Record(NamedTuple):
    """One packet at one side of a point; numbers are those of the fast path, `object` and `rule` of `Names`."""

    lane: int
    time_ns: int
    data: bytes
    verdict: int
    reason: int
    object: int
    rule: int
    cause: int
    outgoing: bool
    """As seen from whom the point belongs to."""
    member: int
    segment_bytes: int
    lost: int
    hops: list[dict[str, Any]]


def sides_of(points: Sequence[Point]) -> list[Side]:
    """The lanes of a capture of these points, in order."""
    return [side for point in points for side in point.sides]


def rows_of(points: Sequence[Point], names: Names) -> list[PointRow]:
    """What the recorder has to know of these points."""
    lanes = {side.name: lane for lane, side in enumerate(sides_of(points))}

    def lane_of(side: Side | None) -> int | None:
        return None if side is None else lanes[side.name]

    rows: list[PointRow] = []
    for point in points:
        number = names.intern(*point.object)
        realm = 0 if point.realm is None else names.intern(*point.realm)
        port = number if point.kind == "interface" else 0
        halves = [divmod(int(address), 1 << 64) for address in point.addresses]
        rows.append((point.kind, number, port, realm, lane_of(point.inside), lane_of(point.outside), halves))
    return rows


def comment_of(record: Record, names: Names) -> str:
    """What became of the packet, by which rule, and what else there is to say of it."""
    parts = [_fate(record, names)]
    if record.verdict == Verdict.DROP:
        parts.append(f"rule {names[record.rule]}" if record.rule else "no rule")
        reason, ends = Reason(record.reason), record.hops[-1] if record.hops else {"source": 0, "destination": 0}
        text, code = REASON_TEXT[reason].text, aws_code(reason, ends["source"], ends["destination"])
        parts.append(f"{text} [{code}]" if code else text)
    elif record.rule:
        parts.append(f"allowed by {names[record.rule]}")
    if record.member:
        parts.append(f"target {names[record.member].path.rpartition('/')[2]}")
    if record.segment_bytes:
        parts.append(SEGMENTS.format(record.segment_bytes))
    if record.lost:
        parts.append(f"{record.lost} records lost before this one")
    return "; ".join(parts)


def _fate(record: Record, names: Names) -> str:
    verdict = Verdict(record.verdict)
    where = object_text(names[record.object]) if record.object else ""
    if verdict is Verdict.DROP:
        return f"DROP {Reason(record.reason).name}{f' at {where}' if where else ''}"
    if verdict is Verdict.FORWARD:
        special = _CAUSES.get(Cause(record.cause)) if record.cause else None
        return f"FORWARD{f' ({special})' if special else ''}{f' to {where}' if where else ''}"
    if verdict is Verdict.HOLD:
        return "HOLD until the first fragment comes"
    return f"SERVE{f' by {where}' if where else ''}"
