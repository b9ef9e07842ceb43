"""How many flows a data plane records when nobody says."""

from __future__ import annotations

import struct

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
