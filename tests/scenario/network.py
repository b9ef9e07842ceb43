"""A lab file's network without a lab: packets in, what became of them and what left, in names.

Frames are built with scapy as a guest's kernel would build them; nothing here knows how the router works.
"""

from __future__ import annotations

from dataclasses import dataclass
from ipaddress import ip_address
from typing import Any

from scapy.layers.inet import IP
from scapy.layers.inet6 import IPv6
from scapy.layers.l2 import Ether

from dataplane.engine import DataPlane, Emission, Outcome
from dataplane.limits import ERRORS_AT_ONCE
from dataplane.load import load_topology
from dataplane.observe.flow_log_lines import Services, lines, watched_interfaces
from dataplane.observe.records import Window
from dataplane.trace import Trace
from dataplane.verdict import Cause, Reason, Verdict
from tests.scenario.reference_plane import ReferenceDataPlane

ENGINES = ("fast", "reference")
engine_in_use = "fast"
"""What a `Network` runs on unless told otherwise; `conftest` sets it, so that each scenario is played on both."""


@dataclass(frozen=True, slots=True)
class Sent:
    """One frame that left: which node gets it, why it was sent, and the packet in it."""

    node: str
    cause: Cause
    packet: Any
    ether: Any
    parent: int


@dataclass(frozen=True, slots=True)
class Result:
    """What became of one packet: verdict, reason, the names that decided, and everything that left for it."""

    verdict: Verdict
    reason: Reason
    by: str
    rule: str
    sent: tuple[Sent, ...]

    @property
    def packet(self) -> Any:
        """The only packet that left."""
        [sent] = self.sent
        return sent.packet

    @property
    def to(self) -> str:
        """The node that got the only packet that left."""
        [sent] = self.sent
        return sent.node


class Network:
    """A network described by the text of a lab file; `now` is lab time in milliseconds.

    `engine`: ``fast`` or ``reference``. Seed and memo are the fast engine's alone.
    """

    def __init__(
        self,
        text: str,
        *,
        memo: bool = True,
        seed: int = 0,
        sessions: int = 65536,
        errors: int = ERRORS_AT_ONCE,
        engine: str | None = None,
    ) -> None:
        topology = load_topology(text, file_name="test.yaml")
        self.plane: Any
        if (engine or engine_in_use) == "reference":
            self.plane = ReferenceDataPlane(topology, sessions=sessions, errors=errors)
        else:
            self.plane = DataPlane(topology, memo=memo, seed=seed, sessions=sessions, errors=errors)
        self.plane.record_flows(flows=4096)
        self.now = 1_000_000

    def apply(self, text: str) -> None:
        self.plane.apply(load_topology(text, file_name="test.yaml"))

    def port(self, node: str) -> int:
        return self.plane.port(node if "/" in node else f"{node}/eth0")

    def frame(self, node: str, packet: Any, *, to_mac: bytes | None = None) -> bytes:
        """The frame in which `node` would send `packet` (to its router, or to a neighbour in its subnet)."""
        port = self.port(node)
        interface = self.plane.interface(port)
        layer = packet[IPv6] if IPv6 in packet and IP not in packet else packet[IP]
        mac = to_mac or self.plane.next_mac(port, ip_address(layer.dst))
        kind = b"\x86\xdd" if isinstance(layer, IPv6) else b"\x08\x00"
        return mac + interface.mac + kind + bytes(packet)

    def send(self, node: str, packet: Any, *, to_mac: bytes | None = None) -> Result:
        """Send one packet from `node` and tell what became of it."""
        [result] = self.send_all(node, [packet], to_mac=to_mac)
        return result

    def send_all(self, node: str, packets: list[Any], *, to_mac: bytes | None = None) -> list[Result]:
        """Send packets back to back; each result holds what left because of that packet."""
        frames = [self.frame(node, packet, to_mac=to_mac) for packet in packets]
        outcomes, emissions = self.plane.process(frames, [self.port(node)] * len(frames), self.now)
        return [self._result(outcome, [e for e in emissions if e.parent == n]) for n, outcome in enumerate(outcomes)]

    def put(self, node: str, frame: Any) -> Result:
        """Hand over one frame as it is."""
        [outcome], emissions = self.plane.process([bytes(frame)], [self.port(node)], self.now)
        return self._result(outcome, emissions)

    def mac(self, node: str) -> str:
        """The MAC of an interface, as scapy writes it."""
        return str(self.plane.interface(self.port(node)).mac.hex(":"))

    def router_mac(self, node: str) -> str:
        """The MAC of the router of the interface's subnet, as scapy writes it."""
        return str(self.plane.interface(self.port(node)).router_mac.hex(":"))

    def _result(self, outcome: Outcome, emissions: list[Emission]) -> Result:
        names = self.plane.names
        return Result(
            outcome.verdict,
            outcome.reason,
            str(names[outcome.object]) if outcome.object else "",
            str(names[outcome.rule]) if outcome.rule else "",
            tuple(self._sent(e) for e in emissions),
        )

    def _sent(self, emission: Emission) -> Sent:
        ether = Ether(emission.frame)
        check_sums(ether.payload)
        return Sent(
            self.plane.names[emission.port].path.split("/")[0], emission.cause, ether.payload, ether, emission.parent
        )

    def wait(self, seconds: float) -> None:
        """Let lab time pass."""
        self.now += round(seconds * 1000)
        self.plane.advance(self.now)

    def flow_log(self, path: str) -> list[str]:
        """Records of flow log VPC/NAME of what has been seen since they were asked for, as if it were one interval."""
        vpc, _, name = path.partition("/")
        topology = self.plane.topology
        declared = topology.vpc(vpc).flow_logs[name]
        together = Window()
        for window in self.plane.take_flow_records(unfinished=True)[1].values():
            together.add(window)
        watched = watched_interfaces(topology, self.plane.names, vpc, declared)
        begin = self.now // 1000 // declared.max_aggregation_interval * declared.max_aggregation_interval
        found = lines(declared, watched, together, Services(topology), start_s=begin, epoch_ms=0)
        return [line for _, line in found]

    def trace(self, source: str, destination: str, **words: Any) -> Trace:
        return self.plane.trace(source, destination, now_ms=self.now, **words)


def check_sums(packet: Any) -> None:
    """Every checksum of a packet that left is what scapy computes for the same bytes (fragments: IP only)."""
    rebuilt = packet.copy()
    layers = [rebuilt]
    fragment = isinstance(rebuilt, IP) and (rebuilt.frag or "MF" in rebuilt.flags)
    if not fragment and rebuilt.payload:
        layers.append(rebuilt.payload)
    for layer in layers:
        for name in ("chksum", "cksum"):
            if layer.fields.get(name):  # a UDP checksum of 0 means there is none
                layer.delfieldval(name)
    assert bytes(rebuilt) == bytes(packet), f"a checksum is wrong in {packet!r}"
