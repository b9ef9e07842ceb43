"""How many flows a data plane records when nobody says, and in which minutes losses are told that nobody can name."""

from __future__ import annotations

import struct
from unittest.mock import Mock

from scapy.layers.inet import IP, UDP

from dataplane.engine import DataPlane
from dataplane.load import load_topology

MINUTE = 60_000
LAB = """
version: 1
name: recording
vpcs:
  shop:
    cidr: 10.0.0.0/16
    flow_logs: {all: {}}
    subnets: {a: {cidr: 10.0.1.0/24, availability_zone: a}}
    security_groups:
      open: {description: everything, ingress: [{protocol: all, source: 0.0.0.0/0}]}
instances:
  a: {vpc: shop, subnet: a, private_ip: 10.0.1.10, security_groups: [open]}
  b: {vpc: shop, subnet: a, private_ip: 10.0.1.20, security_groups: [open]}
"""


def test_as_many_flows_are_recorded_as_are_remembered() -> None:
    """Each of them at both ends."""
    plane = DataPlane(load_topology(LAB, file_name="test.yaml"))
    plane.record_flows()
    a, b = plane.port("a/eth0"), plane.port("b/eth0")
    packet = bytes(IP(src="10.0.1.10", dst="10.0.1.20") / UDP(sport=0, dport=9, chksum=0))
    head = plane.interface(b).mac + plane.interface(a).mac + b"\x08\0" + packet[:20]
    count = 60_000
    frames = [head + struct.pack(">H", 1 + n) + packet[22:] for n in range(count)]
    plane.process(frames, [a] * count, MINUTE)
    plane.advance(2 * MINUTE)
    _, windows = plane.take_flow_records()
    assert windows[1].lost == {}
    assert sum(flow.packets for flow in windows[1].flows.values()) == 2 * count


def test_what_was_lost_nobody_knows_where_may_have_been_in_any_minute_since_somebody_asked() -> None:
    """Of more than an hour, the first and the last ones are told: a lab whose clock leaps has no year of windows."""
    plane = DataPlane(load_topology(LAB, file_name="test.yaml"))
    plane.engine = engine = Mock()

    def minutes(now: int, lost: int) -> list[int]:
        engine.take_records.return_value = (now, [], [], lost)
        present, windows = plane.take_flow_records()
        assert present == now
        assert all(window.lost_anywhere == lost for window in windows.values())
        return sorted(windows)

    minutes(100, 0)
    assert minutes(103, 7) == [100, 101, 102, 103]
    assert minutes(103, 1) == [103]
    assert minutes(105, 0) == []
    assert minutes(106, 2) == [105, 106], "told since then, as nothing was lost before"
    assert minutes(165, 3) == list(range(106, 166))
    assert minutes(1000, 4) == [165, *range(941, 1001)]
