"""Plays: drawn histories that can be played again on another network, and what is seen of them.

A play is drawn once, step by step, while one fast engine runs it; the same steps are then given to others that a law
says should do the same. What a step says never depends on MACs or on the ports of a NAT gateway: answers and errors are
made of what the network itself emitted.
"""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import dataclass
from typing import Any

from hypothesis import strategies as st
from scapy.layers.inet import ICMP, IP, TCP, UDP
from scapy.layers.inet6 import ICMPv6DestUnreach, ICMPv6EchoRequest, IPv6

from dataplane.engine import DataPlane
from dataplane.names import Names
from dataplane.topology import Topology
from tests.property.geneve_frames import bounce, is_geneve
from tests.property.lab_packets import some_packet
from tests.property.quick_load import topology_of
from tests.property.strategies import PORTS, RandomLab, labs, steps
from tests.property.test_memo import TYPES, swap_ends
from tests.property.wide_labs import wide_labs

WAITS = (1, 999, 29_999, 30_000, 60_000, 180_000, 350_000)
FOREVER_MS = 10**9
"""Longer than anything is remembered: 5 days (`GROUP_TIMEOUTS`)."""


@dataclass(frozen=True, slots=True, repr=False)
class Case:
    """A lab file as a plain structure, and where its packets are drawn from (None: from the wide labs' addresses)."""

    lab: dict[str, Any]
    dense: RandomLab | None = None

    def packet(self, draw: st.DrawFn, topology: Topology) -> tuple[str, int, bytes]:
        """The interface that sends, the IP version and the packet: mostly one that may arrive, else a strange one."""
        if draw(st.integers(0, 3)):
            return aimed(draw, topology)
        if self.dense is not None:
            step = draw(steps(self.dense))
            return f"{step.node}/eth0", step.family, step.packet
        addresses = own_addresses(topology)
        node = draw(st.sampled_from(sorted(addresses)))
        live = [address for found in addresses.values() for address in found]
        four, six = [a for a in live if ":" not in a], [a for a in live if ":" in a]
        return (node, *some_packet(draw, addresses[node], four, six))


dense_cases = labs().map(lambda lab: Case(json.loads(lab.text), lab))
wide_cases = wide_labs().map(Case)
cases = st.one_of(dense_cases, wide_cases)


@st.composite
def packets_of(draw: st.DrawFn, case: Case, topology: Topology) -> tuple[str, int, bytes]:
    """As `Case.packet`."""
    return case.packet(draw, topology)


def aimed(draw: st.DrawFn, topology: Topology) -> tuple[str, int, bytes]:
    """A plain packet to somebody: a neighbour in the VPC, a host, a public address, sometimes anybody at all."""
    addresses = own_addresses(topology)
    node = draw(st.sampled_from(sorted(addresses)))
    version = 6 if any(":" in each for each in addresses[node]) and draw(st.integers(0, 3)) == 0 else 4
    of_version = {name: [a for a in found if (":" in a) == (version == 6)] for name, found in addresses.items()}
    if not of_version[node]:
        node, version = f"{next(iter(topology.hosts))}/eth0", 4
        of_version = {name: [a for a in found if ":" not in a] for name, found in addresses.items()}
    vpcs = {each.path: each.subnet.vpc for each in topology.interfaces}
    groups = {
        "near": [a for name, found in of_version.items() for a in found if vpcs.get(name) == vpcs.get(node, "")],
        "hosts": [a for name, found in of_version.items() for a in found if name not in vpcs],
        "public": [str(each.public) for each in topology.public_addresses] if version == 4 else [],
        "anybody": [a for found in of_version.values() for a in found],
    }
    groups = {kind: [a for a in found if a not in addresses[node]] for kind, found in groups.items()}
    kinds = [k for k in ("near", "near", "near", "hosts", "hosts", "public", "anybody") if groups[k]]
    ends = {
        "src": draw(st.sampled_from(of_version[node])),
        "dst": draw(st.sampled_from(groups[draw(st.sampled_from(kinds))])),
    }
    ports = {"sport": draw(st.sampled_from(PORTS)), "dport": draw(st.sampled_from(PORTS))}
    what = draw(st.sampled_from(["tcp", "tcp", "udp", "udp", "echo"]))
    upper: Any
    if what == "tcp":
        upper = TCP(**ports, flags=draw(st.sampled_from(["S", "S", "S", "A", "FA", "R"])))
    elif what == "udp":
        upper = UDP(**ports) / b"payload"
    else:
        upper = ICMP(id=draw(st.integers(1, 2))) if version == 4 else ICMPv6EchoRequest(id=draw(st.integers(1, 2)))
    return node, version, bytes((IP if version == 4 else IPv6)(**ends) / upper)


def own_addresses(topology: Topology) -> dict[str, list[str]]:
    """Interfaces that can send, by path, with their addresses."""
    found = {
        each.path: [str(address) for address in (*each.addresses4, *each.addresses6)]
        for each in topology.interfaces
        if each.is_attached and each.kind != "nat-gateway"
    }
    for name, host in topology.hosts.items():
        found[f"{name}/eth0"] = [str(address) for address in (host.address, host.ipv6_address) if address is not None]
    return found


@dataclass(frozen=True, slots=True)
class Step:
    """What happens next.

    `packet`: `node` sends it. `answer`, `error`: the receiver of emission number `which` answers it or complains of it
    (the ICMP error has this `code`). `wait`: time passes.
    """

    what: str
    node: str = ""
    version: int = 4
    packet: bytes = b""
    which: int = 0
    code: int = 3
    wait_ms: int = 0


class Network:
    """A fast engine in names. `told` grows by one entry per step: outcomes and emissions."""

    def __init__(self, lab: dict[str, Any], *, names: Names | None = None, memo: bool = True) -> None:
        self.plane = DataPlane(topology_of(lab), names=names, memo=memo, sessions=4096, flows=256)
        self.now = 1_000
        self.told: list[tuple[list[Any], list[Any]]] = []
        self.emitted: list[tuple[str, bytes]] = []
        self.seen: Counter[str] = Counter()

    def apply(self, lab: dict[str, Any]) -> None:
        self.plane.apply(topology_of(lab))

    def play(self, step: Step) -> tuple[list[Any], list[Any]]:
        """Carry a step out; what it brought is also kept in `told`."""
        if step.what == "wait":
            self.now += step.wait_ms
            told = self._in_names(*self.plane.advance(self.now))
        elif step.what == "packet":
            told = self.send(step.node, TYPES[step.version] + step.packet)
        else:
            told = self._answer(step)
        self.told.append(told)
        return told

    def _answer(self, step: Step) -> tuple[list[Any], list[Any]]:
        usable = [(node, frame) for node, frame in self.emitted if frame[12:14] in TYPES.values()]
        if not usable:
            return [], []
        node, frame = usable[step.which % len(usable)]
        if step.what == "answer":
            return self.send(node, bounce(frame) if is_geneve(frame) else swap_ends(frame))
        return self.send(node, frame[12:14] + unreachable(frame, step.code))

    def send(self, node: str, packet: bytes) -> tuple[list[Any], list[Any]]:
        """Send EtherType and packet from an interface to its router; nothing when the interface is gone."""
        try:
            port = self.plane.port(node)
        except KeyError:
            return [], []
        interface = self.plane.interface(port)
        frame = interface.router_mac + interface.mac + packet
        outcomes, emissions = self.plane.process([frame], [port], self.now)
        self.seen.update(outcome.reason.name for outcome in outcomes)
        self.emitted += [(self.plane.names[e.port].path, e.frame) for e in emissions]
        return self._in_names(outcomes, emissions)

    def _in_names(self, outcomes: list[Any], emissions: list[Any]) -> tuple[list[Any], list[Any]]:
        names = self.plane.names
        return (
            [(o.verdict.name, o.reason.name, str(names[o.object]), str(names[o.rule])) for o in outcomes],
            [(str(names[e.port]), e.cause.name, e.parent, e.frame) for e in emissions],
        )

    def sessions(self) -> list[Any]:
        """What is remembered, in names; which of several admitting rules is shown is nobody's promise."""
        names = self.plane.names
        return sorted(
            (
                s["kind"], str(names[s["owner"]]), s["state"], s["forward"], s["reply"], s["age_ms"], s["idle_ms"],
                s["limit_ms"], s["packets"], s["bytes"],
            )
            for s in self.plane.engine.sessions()
        )  # fmt: skip

    def forget(self) -> None:
        """Let so much time pass that nothing is remembered, nor of the resets by which ends are told of that."""
        for _ in range(2):
            self.now += FOREVER_MS
            self.plane.advance(self.now)
        left = self.sessions()
        assert left == [], left


def draw_step(draw: st.DrawFn, case: Case, topology: Topology) -> Step:
    what = draw(st.sampled_from(["packet", "packet", "packet", "answer", "answer", "error", "wait"]))
    if what == "wait":
        return Step(what, wait_ms=draw(st.sampled_from(WAITS)))
    if what == "packet":
        node, version, packet = case.packet(draw, topology)
        return Step(what, node, version, packet)
    return Step(what, which=draw(st.integers(0, 20)), code=draw(st.sampled_from([1, 3, 4])))


@st.composite
def plays(draw: st.DrawFn, case: Case, topology: Topology, *, most: int = 10) -> list[Step]:
    """Some steps, whatever comes of them; often one of them is a packet to the internet, and an answer to it."""
    drawn = [draw_step(draw, case, topology) for _ in range(draw(st.integers(most // 2, most)))]
    if draw(st.booleans()):
        return drawn
    out = IP(src="10.0.2.10", dst="198.51.100.10") / UDP(sport=draw(st.sampled_from(PORTS)), dport=53)
    return [Step("packet", "c/eth0", 4, bytes(out)), Step("answer"), *drawn]


def unreachable(frame: bytes, code: int) -> bytes:
    """The packet in which the receiver of a frame tells its sender that something is unreachable."""
    packet = frame[14:]
    if frame[12:14] == TYPES[6]:
        six = IPv6(packet)
        return bytes(IPv6(src=six.dst, dst=six.src) / ICMPv6DestUnreach(code=code) / packet[:1232])
    four = IP(packet)
    return bytes(IP(src=four.dst, dst=four.src) / ICMP(type=3, code=code) / packet[: 4 * four.ihl + 8])
