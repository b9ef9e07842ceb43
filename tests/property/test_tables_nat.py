"""The port pool of a NAT gateway against a dict: which ports are free, when none is left, when they come back."""

from __future__ import annotations

import struct
from collections import Counter
from dataclasses import dataclass, replace
from typing import Any

from hypothesis import given
from hypothesis import strategies as st
from scapy.layers.inet import ICMP, IP, TCP, UDP

from dataplane.compile import compile_program
from dataplane.engine import DataPlane
from dataplane.load import load_topology
from dataplane.verdict import Reason, Verdict
from tests.property.edges import beside
from tests.scenario.labs import SHOP

LAB = SHOP.replace("security_groups: [app]", "security_groups: [open]")
"""The instances behind the gateway admit everything: their groups forget a flow sooner than the gateway does."""
INSIDE = {"app": "10.0.2.10", "open": "10.0.2.11"}
OUTSIDE = {"example": "198.51.100.10", "visitor": "198.51.100.77"}
PUBLIC = "203.0.113.10"
IDLE_MS, CLOSED_MS = 350_000, 60_000
"""A connection idle for 350 s times out (NAT gateway basics, VPC User Guide); how long a closed one lasts is ours."""


@dataclass(frozen=True, slots=True)
class Inside:
    """A flow as the instance that opened it knows it."""

    protocol: str
    client: str
    port: int
    host: str
    host_port: int

    @property
    def rivals(self) -> tuple[str, str, int]:
        """Flows that may not have the same port: same destination, port and protocol."""
        return self.protocol, self.host, self.host_port

    def packet(self, flags: str = "S") -> Any:
        ip = IP(src=INSIDE[self.client], dst=OUTSIDE[self.host])
        if self.protocol == "tcp":
            return ip / TCP(sport=self.port, dport=self.host_port, flags=flags)
        if self.protocol == "udp":
            return ip / UDP(sport=self.port, dport=self.host_port)
        return ip / ICMP(type=8, id=self.port)

    def answer(self, port: int) -> Any:
        """What the host sends to the public address."""
        ip = IP(src=OUTSIDE[self.host], dst=PUBLIC)
        if self.protocol == "tcp":
            return ip / TCP(sport=self.host_port, dport=port, flags="A")
        if self.protocol == "udp":
            return ip / UDP(sport=self.host_port, dport=port)
        return ip / ICMP(type=0, id=port)


@dataclass(slots=True)
class Mapping:
    """The twin's row."""

    port: int
    last_ms: int
    limit_ms: int = IDLE_MS


def ports_of(packet: Any) -> tuple[int, int]:
    if ICMP in packet:
        return (packet[ICMP].id, 0) if packet[ICMP].type == 8 else (0, packet[ICMP].id)
    upper = packet[TCP] if TCP in packet else packet[UDP]
    return upper.sport, upper.dport


class Gateway:
    """The lab's NAT gateway with a pool made small, and a twin of it."""

    def __init__(self, first: int, last: int, most: int, *, memo: bool = True, seed: int = 0) -> None:
        self.plane = DataPlane(load_topology(LAB, file_name="shop.yaml"), memo=memo, seed=seed, sessions=4096)
        [(label, policy)] = self.plane.program.nat_policies.items()
        small = replace(policy, port_first=first, port_last=last, per_destination=most)
        self.plane.program.nat_policies[label] = small
        self.plane.engine.swap(compile_program(self.plane.program, generation=self.plane.engine.generation + 1))
        self.ports, self.most = range(first, last + 1), most
        self.now = 1_000
        self.flows: dict[Inside, Mapping] = {}

    def send(self, node: str, packet: Any) -> tuple[int, int, list[tuple[str, Any]]]:
        """Verdict, reason, and for each frame that left the node that gets it and the packet."""
        port = self.plane.port(f"{node}/eth0")
        interface = self.plane.interface(port)
        frame = interface.router_mac + interface.mac + b"\x08\x00" + bytes(packet)
        [outcome], emissions = self.plane.process([frame], [port], self.now)
        names = self.plane.names
        left = [(names[e.port].path.partition("/")[0], IP(e.frame[14:])) for e in emissions]
        return outcome.verdict, outcome.reason, left

    def living(self) -> dict[Inside, Mapping]:
        return {flow: m for flow, m in self.flows.items() if self.now - m.last_ms < m.limit_ms}

    def out(self, flow: Inside, flags: str = "S") -> str:
        """A packet from inside; what came of it is what the twin says."""
        verdict, reason, left = self.send(flow.client, flow.packet(flags))
        mapping = self.living().get(flow)
        if mapping is not None and mapping.limit_ms == CLOSED_MS and flags == "S" and flow.protocol == "tcp":
            mapping = None  # a SYN opens a connection that is closing again, with whatever port is free
        taken = {m.port for other, m in self.living().items() if other.rivals == flow.rivals}
        if mapping is None and flow.protocol == "tcp" and flags != "S":
            assert (verdict, reason) == (Verdict.DROP, Reason.NAT_NO_SESSION)
            return "no session"
        if mapping is None and (len(taken) >= self.most or taken >= set(self.ports)):
            assert (verdict, reason, left) == (Verdict.DROP, Reason.NAT_PORTS_EXHAUSTED, [])
            return "exhausted"
        assert (verdict, reason) == (Verdict.FORWARD, 0)
        [(node, packet)] = left
        port, far = ports_of(packet)
        assert (node, packet.src, packet.dst) == (flow.host, PUBLIC, OUTSIDE[flow.host])
        assert far == (0 if flow.protocol == "icmp" else flow.host_port)
        if mapping is None:
            assert port in self.ports
            assert port not in taken or self.flows.get(flow) in self.living().values()
            self.flows[flow] = Mapping(port, self.now)
            told = "new"
        else:
            assert port == mapping.port
            mapping.last_ms, told = self.now, "known"
        if flags == "R" and flow.protocol == "tcp":
            self.flows[flow].limit_ms = CLOSED_MS
        return told

    def back(self, flow: Inside, port: int) -> str:
        """An answer from outside to `port`."""
        verdict, reason, left = self.send(flow.host, flow.answer(port))
        owners = [f for f, m in self.living().items() if m.port == port and f.rivals == flow.rivals]
        if not owners:
            assert (verdict, reason, left) == (Verdict.DROP, Reason.NAT_NO_SESSION, [])
            return "nobody's"
        [owner] = owners
        assert (verdict, reason) == (Verdict.FORWARD, 0)
        [(node, packet)] = left
        assert (node, packet.src, packet.dst) == (owner.client, OUTSIDE[owner.host], INSIDE[owner.client])
        assert ports_of(packet)[1] == owner.port
        self.flows[owner].last_ms = self.now
        return "answer"


flows = st.builds(
    Inside,
    protocol=st.sampled_from(["udp", "udp", "tcp", "icmp"]),
    client=st.sampled_from(sorted(INSIDE)),
    port=st.sampled_from([1, 1024, 5000, 65535]),
    host=st.sampled_from(["example", "example", "visitor"]),
    host_port=st.sampled_from([53, 80]),
).map(lambda flow: replace(flow, host_port=0) if flow.protocol == "icmp" else flow)


def step(gateway: Gateway, data: st.DataObject) -> str:
    kind = data.draw(st.sampled_from(["out", "out", "out", "back", "wait"]))
    if kind == "wait":
        deaths = [m.last_ms + m.limit_ms - gateway.now for m in gateway.flows.values()]
        edges = sorted({wait for death in deaths for wait in (death - 1, death, death + 1) if wait >= 0}) or [1]
        gateway.now += data.draw(st.sampled_from(edges), label="wait")
        if data.draw(st.booleans(), label="swept"):
            gateway.plane.advance(gateway.now)
        return "wait"
    if kind == "back" and gateway.flows:
        flow = data.draw(st.sampled_from(list(gateway.flows)), label="flow")
        port = data.draw(st.sampled_from(beside([gateway.flows[flow].port])), label="port")
        return gateway.back(flow, port)
    flow = data.draw(flows, label="flow")
    return gateway.out(flow, data.draw(st.sampled_from("SSSAR"), label="flags") if flow.protocol == "tcp" else "S")


@st.composite
def gateways(draw: st.DrawFn) -> Gateway:
    """Pools at both ends of the range a NAT gateway has, of one to four ports."""
    size = draw(st.integers(1, 4))
    first = draw(st.sampled_from([1024, 65536 - size]))
    most = draw(st.sampled_from([1, 2, size, 55_000]))
    return Gateway(first, first + size - 1, most, memo=draw(st.booleans()), seed=draw(st.integers(0, 3)))


@given(gateway=gateways(), data=st.data())
def test_a_port_belongs_to_one_flow_for_as_long_as_it_lives(gateway: Gateway, data: st.DataObject) -> None:
    for _ in range(data.draw(st.integers(1, 20))):
        step(gateway, data)
        gateway.plane.engine.selfcheck()
        kept = [s for s in gateway.plane.engine.sessions() if s["kind"] == "nat"]
        shown = {(s["reply"][5] or s["reply"][4], s["idle_ms"], s["limit_ms"]) for s in kept}
        now = gateway.plane.engine.now_ms
        alive = [m for m in gateway.flows.values() if now - m.last_ms < m.limit_ms]
        assert (len(kept), shown) == (len(alive), {(m.port, now - m.last_ms, m.limit_ms) for m in alive})


def test_the_histories_drawn_use_pools_up_and_use_ports_again() -> None:
    seen: Counter[str] = Counter()

    @given(gateway=gateways(), data=st.data())
    def collect(gateway: Gateway, data: st.DataObject) -> None:
        used: set[tuple[tuple[str, str, int], int]] = set()
        for _ in range(20):
            before = dict(gateway.flows)
            seen[step(gateway, data)] += 1
            for flow, mapping in gateway.flows.items():
                if before.get(flow) is not mapping:
                    seen["again"] += (flow.rivals, mapping.port) in used
                    used.add((flow.rivals, mapping.port))

    collect()
    for what in ("new", "known", "exhausted", "no session", "answer", "nobody's", "wait", "again"):
        assert seen[what], (what, seen)


def syn(port: int, source: bytes, host: bytes) -> bytes:
    """A UDP datagram without checksum (RFC 768 allows that) from `port` to port 53, as bytes: there are many."""
    head = struct.pack(">BBHHHBBH4s4s", 0x45, 0, 28, 0, 0, 64, 17, 0, source, host)
    total = sum(struct.unpack(">10H", head))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return head[:10] + struct.pack(">H", ~total & 0xFFFF) + head[12:] + struct.pack(">HHHH", port, 53, 8, 0)


def test_one_destination_gets_55000_flows_of_ports_from_1024_to_65535_and_no_more() -> None:
    """NAT gateway basics: up to 55,000 simultaneous connections to each unique destination, ports 1024-65535."""
    plane = DataPlane(load_topology(LAB, file_name="shop.yaml"), sessions=400_000)
    now = 1_000

    def burst(node: str, ports: range, host: str, at: int) -> tuple[Counter[int], list[bytes]]:
        number = plane.port(f"{node}/eth0")
        interface = plane.interface(number)
        ether = interface.router_mac + interface.mac + b"\x08\x00"
        source, to = (bytes(map(int, text.split("."))) for text in (INSIDE[node], host))
        outcomes, left = plane.process([ether + syn(p, source, to) for p in ports], [number] * len(ports), at)
        return Counter(o.reason for o in outcomes), [e.frame for e in left]

    reasons, first = burst("app", range(1, 30_001), OUTSIDE["example"], now)
    assert reasons == {Reason.NONE: 30_000}
    reasons, second = burst("open", range(1, 30_001), OUTSIDE["example"], now)
    assert reasons == {Reason.NONE: 25_000, Reason.NAT_PORTS_EXHAUSTED: 5_000}
    ports = [int.from_bytes(frame[34:36], "big") for frame in (*first, *second)]
    assert (len(ports), len(set(ports))) == (55_000, 55_000), "no two flows share a port"
    assert min(ports) >= 1024
    assert max(ports) <= 65535
    assert burst("open", range(40_000, 40_010), OUTSIDE["visitor"], now)[0] == {Reason.NONE: 10}
    plane.engine.selfcheck()
    # Each idles for 350 s; a millisecond sooner none of them has left its place.
    late = now + IDLE_MS
    assert burst("open", range(50_000, 50_001), OUTSIDE["example"], late - 1)[0] == {Reason.NAT_PORTS_EXHAUSTED: 1}
    assert burst("open", range(50_000, 50_001), OUTSIDE["example"], late)[0] == {Reason.NONE: 1}
