"""Labs for packets in memory, and the frames that go through them."""

from __future__ import annotations

import ctypes
from array import array
from dataclasses import dataclass
from functools import cache
from ipaddress import IPv4Address
from typing import Any

from bench.compared import room
from bench.native import build
from bench.native.dpdk import address
from dataplane.engine import DataPlane
from dataplane.load import load_topology
from dataplane.probe import TCP, UDP, Probe
from dataplane.topology import Topology

SIZE = 64
"""Bytes of every IPv4 frame here."""
ACK, SYN, SYN_ACK = 0x10, 0x02, 0x12
NOW = 1000
FLAGS_AT = 14 + 20 + 13
MANY_FLOWS = 30_000
"""Flows to one destination port (see frames_make of native/loop.c)."""

_NAT = """
version: 1
name: nat
vpcs:
  app:
    cidr: 10.0.0.0/16
    internet_gateway: {}
    subnets:
      public: {cidr: 10.0.0.0/24, availability_zone: a, route_table: public}
      private: {cidr: 10.0.1.0/24, availability_zone: a, route_table: private}
    route_tables:
      public: {routes: [{destination: 0.0.0.0/0, target: internet-gateway}]}
      private: {routes: [{destination: 0.0.0.0/0, target: "nat-gateway:out"}]}
    nat_gateways:
      out: {subnet: public, elastic_ip: 203.0.113.11}
    flow_logs: {}
instances:
  app: {vpc: app, subnet: private, private_ip: 10.0.1.10}
internet:
  hosts:
    server: {address: 198.51.100.80}
"""

_NEIGHBOURS = """
version: 1
name: neighbours
quotas: {{network_interfaces_per_zone: 20000, rules_per_security_group: 1000, security_groups_per_interface: 1}}
vpcs:
  shop:
    cidr: 10.0.0.0/16
    subnets:
      many: {{cidr: 10.0.0.0/17, availability_zone: a}}
    security_groups:
      many:
        description: what matches comes last
        ingress:
{rules}
          - {{protocol: udp, ports: {last}, source: 10.0.0.0/17}}
    flow_logs: {logs}
instances:
{instances}
"""


@cache
def loop() -> ctypes.CDLL:
    """The bare loop and what makes frames."""
    library = build.open_library(build.loop())
    library.loop_new.restype = ctypes.c_void_p
    library.loop_free.argtypes = [ctypes.c_void_p]
    return library


@dataclass(frozen=True)
class Traffic:
    """Frames of one length, one after the other, and the port that each comes in by."""

    frames: array[int]
    length: int
    ports: array[int]

    @property
    def count(self) -> int:
        return len(self.ports)

    def run(self, replay: Any, out: array[int] | None = None, *, counted: bool = False) -> int:
        """Let them all in, through bench.kernels.Replay; how many left."""
        frames, ports = self.frames.buffer_info()[0], self.ports.buffer_info()[0]
        to = 0 if out is None else out.buffer_info()[0]
        left: int = replay.run(frames, self.length, self.length, self.count, ports, NOW, to, counted)
        return left

    def answered(self, left: array[int], port: int, flags: int) -> Traffic:
        """What the receiver sends back when it got what `left` has."""
        back = room(len(left), "B")
        loop().frames_answer(address(back), address(left), self.length, self.length, self.count, flags)
        return Traffic(back, self.length, array("I", [port]) * self.count)


class NatLab:
    """An instance behind a NAT gateway, and a host on the internet."""

    def __init__(self, flows: int, sessions: int, *, memo: bool = True, logged: bool = False) -> None:
        text = _NAT.replace("flow_logs: {}", "flow_logs: {log: {}}") if logged else _NAT
        topology = load_topology(text, file_name="bench")
        self.plane = DataPlane(topology, sessions=sessions, flows=flows, memo=memo)
        self.replay = build.kernels().Replay(self.plane.engine)
        self.inside, self.outside = self.plane.port("app/eth0"), self.plane.port("server/eth0")

    def pattern(self, protocol: int, flags: int = 0) -> bytes:
        """A frame of the instance to the host."""
        payload = SIZE - 14 - 20 - (8 if protocol == UDP else 20)
        probe = Probe(
            source=IPv4Address("10.0.1.10"),
            destination=IPv4Address("198.51.100.80"),
            protocol=protocol,
            source_port=1,
            destination_port=1,
            payload=bytes(payload),
        )
        frame = bytearray(self.plane.frame(self.inside, probe))
        if protocol == TCP:
            frame[FLAGS_AT] = flags
        return bytes(frame)

    def traffic(
        self, first: int, count: int, order: array[int] | None = None, protocol: int = UDP, flags: int = 0
    ) -> Traffic:
        """A packet of each of `count` flows, or of those in `order`."""
        frames = room(count * SIZE, "B")
        pattern = self.pattern(protocol, flags)
        loop().frames_make(address(frames), SIZE, pattern, SIZE, first, count, address(order))
        return Traffic(frames, SIZE, array("I", [self.inside]) * count)


def neighbours(interfaces: int, rules: int = 1, last: int = 7, *, logged: bool = False) -> Topology:
    """Instances in one subnet, with a group of `rules` rules of which the last lets UDP in; with a flow log or none."""
    lines = "\n".join(
        f"          - {{protocol: udp, ports: {1000 + number}, source: 172.16.{number // 256}.{number % 256}/32}}"
        for number in range(rules - 1)
    )
    instances = "\n".join(f"  i{k}: {{vpc: shop, subnet: many, security_groups: [many]}}" for k in range(interfaces))
    logs = "{log: {}}" if logged else "{}"
    text = _NEIGHBOURS.format(rules=lines, last=f"{last}-9", instances=instances, logs=logs)
    return load_topology(text, file_name="bench")


def between(plane: DataPlane, interfaces: int, count: int, source_port: int = 2000) -> Traffic:
    """`count` flows of neighbours, spread over all of them."""
    frames, ports = array("B"), array("I")
    numbers = [plane.port(f"i{k}/eth0") for k in range(interfaces)]
    for k in range(count):
        at = k * max(1, interfaces // count) % interfaces
        to = (at + 1 + k % max(1, interfaces - 1)) % interfaces
        source, target = (
            plane.interface(numbers[at]),
            plane.interface(numbers[to if to != at else (at + 1) % interfaces]),
        )
        assert source.address4 is not None
        assert target.address4 is not None
        probe = Probe(
            source=source.address4,
            destination=target.address4,
            protocol=UDP,
            source_port=source_port + k,
            destination_port=9,
            payload=bytes(SIZE - 42),
        )
        # next_mac looks through all neighbours; of these it is known
        frames.frombytes(probe.frame(source.mac, target.mac))
        ports.append(numbers[at])
    return Traffic(frames, SIZE, ports)
