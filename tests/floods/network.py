"""A network to flood in memory, connections in it that go on through whatever comes, and an account of every packet."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from functools import cache
from ipaddress import ip_address
from itertools import islice
from typing import Any

from dataplane.engine import DataPlane
from dataplane.load import load_topology
from dataplane.probe import TCP, Probe, read_probe
from dataplane.verdict import Cause, Reason, Verdict
from tests.floods.frames import ACK, SYN
from tests.scenario.labs import MAZE

LAB = """
version: 1
name: floods
vpcs:
  v:
    cidr: 10.0.0.0/16
    ipv6_cidrs: ["2001:db8:10::/56"]
    internet_gateway: {}
    subnets:
      public: {cidr: 10.0.1.0/24, ipv6_cidr: "2001:db8:10:1::/64", route_table: public}
      loud: {cidr: 10.0.2.0/24, ipv6_cidr: "2001:db8:10:2::/64", route_table: private}
      calm: {cidr: 10.0.3.0/24, ipv6_cidr: "2001:db8:10:3::/64", route_table: private}
    route_tables:
      public:
        routes:
          - {destination: 0.0.0.0/0, target: internet-gateway}
          - {destination: "::/0", target: internet-gateway}
      private: {routes: [{destination: 0.0.0.0/0, target: "nat-gateway:nat"}]}
    nat_gateways: {nat: {subnet: public, elastic_ip: 203.0.113.10, private_ip: 10.0.1.5}}
    security_groups:
      inside:
        description: from inside, so that connections are tracked
        ingress: [{protocol: all, source: 10.0.0.0/16}, {protocol: all, source: "2001:db8:10::/56"}]
      anybody:
        description: from everywhere, so that they are not
        ingress: [{protocol: all, source: 0.0.0.0/0}, {protocol: all, source: "::/0"}]
  ring:
    cidr: 10.2.0.0/16
    subnets: {one: {cidr: 10.2.1.0/24, route_table: one}, two: {cidr: 10.2.2.0/24, route_table: two}}
    route_tables:
      one: {routes: [{destination: 10.99.0.0/16, target: "instance:right"}]}
      two: {routes: [{destination: 10.99.0.0/16, target: "instance:left"}]}
    security_groups:
      anybody: {description: everything, ingress: [{protocol: all, source: 0.0.0.0/0}]}
instances:
  loud: {vpc: v, subnet: loud, private_ip: 10.0.2.10, ipv6_address: "2001:db8:10:2::10", security_groups: [inside]}
  calm: {vpc: v, subnet: calm, private_ip: 10.0.3.10, ipv6_address: "2001:db8:10:3::10", security_groups: [inside]}
  server: {vpc: v, subnet: public, private_ip: 10.0.1.10, security_groups: [inside]}
  web: {vpc: v, subnet: public, private_ip: 10.0.1.20, ipv6_address: "2001:db8:10:1::20", elastic_ip: 203.0.113.20,
    security_groups: [anybody]}
  stray: {vpc: maze, subnet: one, private_ip: 10.9.1.10}
  left: {vpc: ring, subnet: one, private_ip: 10.2.1.10, source_dest_check: false, security_groups: [anybody]}
  walker: {vpc: ring, subnet: one, private_ip: 10.2.1.20, security_groups: [anybody]}
  right: {vpc: ring, subnet: two, private_ip: 10.2.2.10, source_dest_check: false, security_groups: [anybody]}
internet:
  hosts:
    example: {address: 198.51.100.10}
""".replace("instances:\n", f"{MAZE}instances:\n", 1)
BEGIN_MS = 1_000_000


@dataclass(slots=True)
class Talk:
    """A connection that is there before the flood, and whose ends go on talking."""

    protocol: int
    client: int
    """Port of its end."""
    server: int
    near: Probe
    """What the client sends."""
    far: Probe
    """What the server sends: to the client as the server sees it."""
    sent: int = 0
    arrived: int = 0


class Flooded:
    """A data plane, what is established in it, and an account of what was sent beside that.

    Args:
        sessions: tracked connections there is room for.
        flows: flow entries there is room for.
    """

    def __init__(self, *, sessions: int = 262_144, flows: int = 65_536, lab: str = LAB) -> None:
        self.plane = DataPlane(_loaded(lab), sessions=sessions, flows=flows)
        self.now = BEGIN_MS
        self.talks: list[Talk] = []
        self._under: dict[Any, None] = {}
        """Sessions that talks stand on, in order."""
        self.became: Counter[tuple[Verdict, Reason]] = Counter()
        """What became of the packets of the flood."""
        self.left: Counter[Cause] = Counter()
        """Frames that left because of it, by cause, and how long the longest error was."""
        self.longest_error = 0
        self.talked = self.now
        """When everybody talked last."""

    def port(self, node: str) -> int:
        return self.plane.port(f"{node}/eth0")

    def frame(self, node: str, probe: Probe) -> bytes:
        return self.plane.frame(self.port(node), probe)

    def macs(self, node: str) -> tuple[bytes, bytes]:
        """A node's own MAC, and that of its router."""
        interface = self.plane.interface(self.port(node))
        return interface.mac, interface.router_mac

    # -- what is established ---------------------------------------------------------------------------------------

    def talk(self, client: str, server: str, address: str, *, protocol: int = TCP, near_port: int = 40_000) -> Talk:
        """Open a connection from one node to another, which it knows by `address`."""
        start = self.port(client)
        interface = self.plane.interface(start)
        source = interface.address4 if ip_address(address).version == 4 else interface.address6
        assert source is not None
        hello = Probe(
            source=source, destination=ip_address(address), protocol=protocol, source_port=near_port,
            destination_port=80, tcp_flags=SYN, payload=b"" if protocol == TCP else b"words",
        )  # fmt: skip
        there = self._deliver(start, hello, self.port(server))
        answer = there.answer()
        self._deliver(self.port(server), answer, start)
        near = replace(hello, tcp_flags=ACK, payload=b"words")
        far = replace(answer, tcp_flags=ACK, payload=b"words")
        made = Talk(protocol=protocol, client=start, server=self.port(server), near=near, far=far)
        for _ in range(2):  # acknowledged by both sides; of UDP a stream
            self._deliver(made.client, near, made.server)
            self._deliver(made.server, far, made.client)
        self.talks.append(made)
        self._under |= dict.fromkeys(map(_identity, self.plane.engine.sessions()))
        return made

    def _deliver(self, port: int, probe: Probe, to: int) -> Probe:
        [(verdict, reason, _, _)], [emission] = self.plane.engine.process(
            [self.plane.frame(port, probe)], [port], self.now
        )
        assert (verdict, reason, emission[0]) == (Verdict.FORWARD, Reason.NONE, to)
        return read_probe(emission[1])

    def everybody_talks(self) -> None:
        """One packet each way in every connection; what arrives where it should is counted."""
        self.talked = self.now
        for each in self.talks:
            for port, probe, to in ((each.client, each.near, each.server), (each.server, each.far, each.client)):
                frames = [self.plane.frame(port, probe)]
                _, emissions = self.plane.engine.process(frames, [port], self.now)
                each.sent += 1
                each.arrived += [to_port for to_port, *_ in emissions] == [to]

    def remembered(self) -> list[dict[str, Any]]:
        """The sessions that the connections stand on, with their states, counts and deadlines."""
        rows = {_identity(row): row for row in self.plane.engine.sessions()}
        return [rows[each] for each in self._under if each in rows]

    # -- the flood -------------------------------------------------------------------------------------------------

    def flood(
        self, node: str, frames: Iterable[bytes], *, silent: bool = False, burst: int = 64, talk_every: int = 8
    ) -> None:
        """Send frames in bursts, a millisecond apart, while everybody goes on talking.

        `silent`: the same times and talks, without the flood.
        """
        port, engine = self.port(node), self.plane.engine
        for number, some in enumerate(_bursts(frames, burst)):
            self.now += 1
            if silent:
                outcomes, emissions = engine.advance(self.now)
            else:
                outcomes, emissions = engine.process(some, [port] * len(some), self.now)
            self.became.update((Verdict(verdict), Reason(reason)) for verdict, reason, *_ in outcomes)
            for _, frame, cause, _, _ in emissions:
                self.left[Cause(cause)] += 1
                if cause == Cause.ERROR:
                    self.longest_error = max(self.longest_error, len(frame))
            if number % talk_every == 0:
                self.everybody_talks()

    def counted(self, node: str) -> dict[Reason, int]:
        """What the engine has counted at the node, by reason."""
        row = self.plane.engine.counters().get(self.port(node), {"reasons": {}})
        return {Reason(number): count for number, count in row["reasons"].items()}

    def wait(self, seconds: float) -> None:
        """Let time pass."""
        self.now += round(seconds * 1000)
        self.plane.advance(self.now)


_loaded = cache(load_topology)


def _identity(row: Mapping[str, Any]) -> Any:
    return row["kind"], row["owner"], row["forward"], row["reply"]


def _bursts(frames: Iterable[bytes], size: int) -> Iterator[list[bytes]]:
    rest = iter(frames)
    while some := list(islice(rest, size)):
        yield some
