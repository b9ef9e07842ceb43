"""A process of its own whose memory is weighed while its tables fill: ``python -m tests.floods.weighed engine|logs``.

Prints one JSON object, in bytes.
"""

from __future__ import annotations

import json
import os
import re
import sys
import tempfile
from collections.abc import Iterator
from itertools import chain
from pathlib import Path
from unittest.mock import patch

from dataplane.engine import DataPlane
from dataplane.load import load_topology
from dataplane.model.flow_log import FIELDS
from dataplane.probe import TCP, UDP
from lab import flow_logs
from lab.bounds import bounds_of, resident_bytes
from lab.state import LabState
from tests.floods.frames import PORTS, SYN, TCP_SUM, UDP_SUM, ipv4, piece, varied
from tests.floods.network import LAB, Flooded

CROWD = 33
"""Senders of fragments: 64 of each may wait, and one more than can all be kept."""
SOURCE_PORTS = range(1, 65_536)
PORTS6, UDP_SUM6 = 14 + 40, 14 + 40 + 6
RECORDS = 16_384
"""Room for records of flow logs, while these are weighed."""


def environment() -> dict[str, str]:
    """Of such a process: it finds what this one finds, and leaves nothing where it runs."""
    return {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path), "PYTHONDONTWRITEBYTECODE": "1"}


def reserved_bytes() -> int:
    """Address space of this process."""
    return int(Path("/proc/self/statm").read_text().split()[0]) * os.sysconf("SC_PAGE_SIZE")


def most_resident_bytes() -> int:
    """The most memory this process has taken since the last time this was asked."""
    status = Path("/proc/self/status").read_text()
    found = re.search(r"VmHWM:\s+(\d+) kB", status)
    assert found is not None
    Path("/proc/self/clear_refs").write_text("5")  # proc(5): begin anew
    return int(found[1]) * 1024


def engine() -> dict[str, int]:
    """Fill everything that packets can fill, at the sizes that labs have."""
    crowd = "".join(
        f"  crowd{n}: {{vpc: v, subnet: loud, private_ip: 10.0.2.{20 + n}, ipv6_address: '2001:db8:10:2::{20 + n}',"
        " security_groups: [anybody]}\n"
        for n in range(CROWD)
    )
    made = Flooded(lab=LAB.replace("internet:\n", f"{crowd}internet:\n"))
    made.talk("calm", "server", "10.0.1.10")
    before = resident_bytes()
    syns = (("loud", _syns(made, "loud", "10.0.2.10")), ("calm", _syns(made, "calm", "10.0.3.10")))
    for node, frames in (*syns, ("web", _flows(made)), *_crowd(made)):
        made.flood(node, frames, talk_every=64)
    sizes = made.plane.engine.statistics()
    return {
        "sessions": sizes["sessions"],
        "flows": sizes["flows"],
        "fragments_waiting": sizes["fragments_waiting"],
        "lost": sum(each.sent - each.arrived for each in made.talks),
        "grown": resident_bytes() - before,
        "bound": sum(row.bytes for row in bounds_of(made.plane)),
    }


def _syns(made: Flooded, node: str, source: str) -> Iterator[bytes]:
    mac, router = made.macs(node)
    for port in (21, 22, 23):
        first = ipv4(mac, router, source, "10.0.1.10", protocol=TCP, destination_port=port, tcp_flags=SYN)
        yield from varied(first, PORTS, SOURCE_PORTS, sums=(TCP_SUM,))


def _flows(made: Flooded) -> Iterator[bytes]:
    """Of both families: each takes a flow entry, and no session."""
    mac, router = made.macs("web")
    four = ipv4(mac, router, "10.0.1.20", "198.51.100.10", protocol=UDP, destination_port=9)
    six = ipv4(mac, router, "2001:db8:10:1::20", "2001:db8:10:2::20", protocol=UDP, destination_port=9)
    return chain(
        varied(four, PORTS, SOURCE_PORTS, sums=(UDP_SUM,)), varied(six, PORTS6, SOURCE_PORTS, sums=(UDP_SUM6,))
    )


def _crowd(made: Flooded) -> Iterator[tuple[str, Iterator[bytes]]]:
    for n in range(CROWD):
        mac, router = made.macs(f"crowd{n}")
        whole = ipv4(mac, router, f"10.0.2.{20 + n}", "10.0.1.10", protocol=UDP, payload=bytes(8_900))
        # Several of one datagram: there are fewer datagrams than fragments that may wait.
        yield f"crowd{n}", iter([piece(whole, first=False, number=number // 4) for number in range(80)])


def logs() -> dict[str, int]:
    """Fill what flow logs remember, with little room: of IPv6, with all fields."""
    wanted = " ".join(f"${{{name}}}" for version in (2, 3, 4, 5) for name in FIELDS[version])
    log = f"    flow_logs: {{all: {{traffic_type: ALL, max_aggregation_interval: 600, log_format: '{wanted}'}}}}\n"
    text = LAB.replace("    internet_gateway: {}\n", f"    internet_gateway: {{}}\n{log}", 1)
    plane = DataPlane(load_topology(text, file_name="floods.yaml"))
    port = plane.port("loud/eth0")
    interface = plane.interface(port)
    six = ipv4(
        interface.mac, interface.router_mac, "2001:db8:10:2::10", "2001:db8:10:3::10", protocol=UDP, destination_port=9
    )
    before = resident_bytes()
    with (
        patch.multiple(flow_logs, MOST_RECORDS=RECORDS, MOST_OPEN=RECORDS, KEPT_LINES=RECORDS, TICK_S=1000.0),
        tempfile.TemporaryDirectory() as state,
        patch.dict(os.environ, {"XDG_STATE_HOME": state}),
    ):
        written = LabState("weighed")
        written.acquire()
        kept = flow_logs.FlowLogs(written, plane, epoch_ms=0)
        kept.configure()
        most_resident_bytes()
        for minute in (1, 2, 3):
            frames = list(varied(six, PORTS6, range(1_000 * minute, 1_000 * minute + RECORDS), sums=(UDP_SUM6,)))
            for first in range(0, len(frames), 64):
                plane.engine.process(frames[first : first + 64], [port] * 64, minute * 60_000)
            del frames
            plane.advance(minute * 60_000 + 59_000)
            kept.collect()
        held = kept.sizes()
        plane.advance(600_000)
        kept.collect()
        lines = kept.sizes()
        assert held is not None
        assert lines is not None
        grown = most_resident_bytes() - before
        bound = sum(row.bytes for row in bounds_of(plane, logged=lines) if "flow log" in row.what)
        kept.close()
    return {"held": held[0], "lines": lines[1], "grown": grown, "bound": bound}


def reserved() -> dict[str, int]:
    """What more sessions, and more flow entries, reserve beside what is said of them."""
    kept: list[DataPlane] = []  # memory that is given back would be used again

    def plane(sessions: int, flows: int) -> tuple[int, int]:
        before = reserved_bytes()
        kept.append(DataPlane(topology, sessions=sessions, flows=flows))
        return reserved_bytes() - before, sum(row.bytes for row in bounds_of(kept[-1]))

    topology = load_topology(LAB, file_name="floods.yaml")
    plane(1 << 16, 1 << 15)
    small, many_sessions, many_flows = plane(1 << 16, 1 << 15), plane(1 << 22, 1 << 15), plane(1 << 16, 1 << 21)
    return {
        "sessions": many_sessions[0] - small[0],
        "sessions_said": many_sessions[1] - small[1],
        "flows": many_flows[0] - small[0],
        "flows_said": many_flows[1] - small[1],
    }


if __name__ == "__main__":
    print(json.dumps({"engine": engine, "logs": logs, "reserved": reserved}[sys.argv[1]]()))
