"""How much a lab remembers of packets, at most: each table with its size, and what happens when it is full.

Nothing of it grows beyond what is said here, whoever sends whatever. Bytes are those of memory when a table has been
full once: tables are reserved as a whole and touched as used. What the tables of the lab file itself take, and Python,
is there before the first packet, and no packet changes it. What an answer of the daemon takes while it is made is not
part of it: that follows from what somebody asks for (`vpclab flows` copies all tracked connections).
"""

from __future__ import annotations

import os
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from dataplane.engine import DataPlane
from dataplane.limits import ERRORS_AT_ONCE, NAT_FLOWS_PER_DESTINATION
from lab import flow_logs
from lab.capture import RING_BYTES, running_captures

if TYPE_CHECKING:
    from lab.running import RunningLab

# Sizes of structures of `fastpath`, which tells none. A test fills each table and weighs it.
SESSION_BYTES: Final = 216
SESSION_BUCKET_BYTES: Final = 12
"""Of these there are twice as many as sessions, up to the next power of two."""
FLOW_BYTES: Final = 64 + 28 + 128 + 128 + 8 * 24
"""A line, what is rarely looked at, the rest of an IPv6 key, an outer header, eight links to sessions and records."""
FOOTINGS, FOOTING_BYTES = 16_384, 272 + 4
"""What entries rest on, each different set once, and where it is found; of as many entries as that at most."""
FLOW_BUCKET_BYTES, FLOWS_PER_BUCKET, FLOW_BUCKETS_FULL = 64, 8, 0.6
"""A table of buckets that is fuller than this becomes one twice as large, while the smaller one is still there."""
HELD_FRAGMENTS, HELD_BYTES, DATAGRAMS, DATAGRAM_BYTES = 2048, 9216 + 8, 1024, 112
HELD_PER_SENDER: Final = 64
RECORD_BYTES, RECORD_BUCKET_BYTES = 96, 4
BURST_BYTES: Final = (6 << 20) + 4096 * 40 + 32 * 65_984
"""Frames that the router makes, rows for what leaves, and frames that were read."""

TAKEN_RECORD_BYTES: Final = 900
"""A record as Python objects, while it is taken."""
OPEN_RECORD_BYTES: Final = 1_200
"""Of IPv6, until it is written, and its line while the file is made."""
KEPT_LINE_BYTES: Final = 704
"""With all fields."""
CAPTURE_BYTES: Final = 4 * RING_BYTES + (7 << 20)
"""Its ring, as much again as records, as blocks and as one piece to be written; and what packets are rebuilt in."""
MOST_CAPTURES: Final = 16


@dataclass(frozen=True, slots=True, kw_only=True)
class Bound:
    """One thing that there is at most so much of."""

    what: str
    now: int | None
    """How many there are; None where nobody counts."""
    most: int
    bytes: int
    """What `most` of them take, or of captures those that run; 0 where another row has it."""
    full: str
    """What happens when there is no room for one more."""


def bounds_of(plane: DataPlane, *, captures: int = 0, logged: tuple[int, int] | None = None) -> list[Bound]:
    """What packets can fill.

    Args:
        plane: whose tables.
        captures: how many run.
        logged: records of flow logs that are not written yet, and lines that are kept; None where nothing is recorded.
    """
    sizes = plane.engine.statistics()
    sessions, flows = sizes["session_limit"], sizes["flow_limit"]
    rows = [
        Bound(
            what="tracked connections",
            now=sizes["sessions"],
            most=sessions,
            bytes=sessions * SESSION_BYTES + _power_of_two(2 * sessions) * SESSION_BUCKET_BYTES,
            full="a packet that would open another dies: SESSION_LIMIT; those there live as long as they would",
        ),
        Bound(
            what="those that packets of one interface have opened",
            now=sizes["sessions_of_one"],
            most=sessions // 2,
            bytes=0,
            full="SESSION_LIMIT for that one: nobody has more than is free for others",
        ),
        Bound(
            what="flow entries",
            now=sizes["flows"],
            most=flows,
            bytes=flows * FLOW_BYTES + _flow_buckets(flows) * FLOW_BUCKET_BYTES + min(flows, FOOTINGS) * FOOTING_BYTES,
            full="one that was long not used makes room: its flow takes the long way once, nothing else changes",
        ),
        Bound(
            what="connections of a NAT gateway, per address and destination",
            now=None,
            most=NAT_FLOWS_PER_DESTINATION,
            bytes=0,
            full="NAT_PORTS_EXHAUSTED; they are tracked connections, and counted there",
        ),
        Bound(
            what=f"fragments that wait ({HELD_PER_SENDER} of one sender)",
            now=sizes["fragments_waiting"],
            most=HELD_FRAGMENTS,
            bytes=HELD_FRAGMENTS * HELD_BYTES + DATAGRAMS * DATAGRAM_BYTES,
            full="FRAGMENT_LIMIT; what waits too long: FRAGMENT_TIMEOUT",
        ),
        Bound(
            what="ICMP errors at once about packets of one interface",
            now=None,
            most=ERRORS_AT_ONCE,
            bytes=0,
            full="none is sent, but for one each millisecond; counted as errors_withheld of the interface",
        ),
        Bound(
            what="frames that leave because of one burst",
            now=None,
            most=4096,
            bytes=BURST_BYTES,
            full="EMISSION_LIMIT",
        ),
    ]
    if logged is not None:
        rows += _of_flow_logs(*logged)
    rows.append(
        Bound(
            what="captures",
            now=captures,
            most=MOST_CAPTURES,
            bytes=captures * CAPTURE_BYTES,
            full="records are lost, which the capture tells; packets are not. One more capture is refused",
        )
    )
    return rows


def _of_flow_logs(unwritten: int, lines: int) -> list[Bound]:
    records = flow_logs.MOST_RECORDS
    return [
        Bound(
            what="flows that flow logs count in a minute, at all interfaces",
            now=None,
            most=records,
            # and as many of the minute before, all of them once in the engine and once on their way to a file
            bytes=2 * records * (RECORD_BYTES + TAKEN_RECORD_BYTES) + _power_of_two(2 * records) * RECORD_BUCKET_BYTES,
            full="SKIPDATA in the log of the interface; packets are not touched",
        ),
        Bound(
            what="flow log records of intervals that are not over",
            now=unwritten,
            most=flow_logs.MOST_OPEN,
            bytes=flow_logs.MOST_OPEN * OPEN_RECORD_BYTES,
            full="SKIPDATA in the log of the interface",
        ),
        Bound(
            what="flow log lines to be shown",
            now=lines,
            most=flow_logs.KEPT_LINES,
            bytes=flow_logs.KEPT_LINES * KEPT_LINE_BYTES,
            full="the oldest are in their files only",
        ),
    ]


def limits(lab: RunningLab) -> dict[str, Any]:
    """Bounds of a running lab, their sum, and what its daemon takes now, all in bytes of memory."""
    rows = bounds_of(lab.data_plane, captures=running_captures(lab.data_plane), logged=lab.flow_logs.sizes())
    return {
        "limits": [asdict(row) for row in rows],
        "bytes": sum(row.bytes for row in rows),
        "resident_bytes": resident_bytes(),
    }


def resident_bytes(pid: int | str = "self") -> int:
    """Memory that a process takes (proc(5), statm)."""
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def _power_of_two(least: int) -> int:
    return 1 << (least - 1).bit_length()


def _flow_buckets(flows: int) -> int:
    """Buckets at most: those of a table that is not full, and of the one that it grew out of."""
    buckets = 64
    while buckets * FLOWS_PER_BUCKET * FLOW_BUCKETS_FULL <= flows:
        buckets *= 2
    return buckets + buckets // 2
