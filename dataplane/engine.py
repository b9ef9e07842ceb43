"""DataPlane: a topology, compiled, in front of the packet path.

    topology --lower--> Program --compile--> Snapshot --swap--> Engine

`apply` does the same again with another topology: numbers of what stayed are kept (`Names`), so sessions,
counters and traces go on; the engine changes over between two bursts. What did not change is neither lowered nor
compiled again (`dataplane.topology.lowering`, `dataplane.compile`).
"""

from __future__ import annotations

import threading
from collections.abc import Sequence
from dataclasses import dataclass, replace
from ipaddress import ip_address
from typing import TYPE_CHECKING, Any

from dataplane.analysis.passing import back_from_target, goes_to_target, sent_on
from dataplane.compile import Compiler, Packed
from dataplane.errors import VpclabError
from dataplane.limits import ERRORS_AT_ONCE
from dataplane.names import Names
from dataplane.nat_metrics import metrics_of
from dataplane.observe.records import WINDOW_MS, Window, windows_of
from dataplane.probe import ICMP, ICMPV6, Probe, ports_of, protocol_number, read_probe
from dataplane.program import Address, Context, Interface, Program
from dataplane.topology.lowering import Lowered, lower
from dataplane.trace import Trace, Walk
from dataplane.tracing import TraceStep, steps_of, walk_of
from dataplane.verdict import Cause, Reason, Verdict
from fastpath.engine import Engine
from fastpath.snapshot import Snapshot
from fastpath.tracer import Overlay

if TYPE_CHECKING:
    from dataplane.topology import Topology
    from dataplane.topology.runtime_state import RuntimeState

MOST_RECORDS = 1 << 28


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of one received frame; `object` and `rule` are numbers of `DataPlane.names`."""

    verdict: Verdict
    reason: Reason
    object: int
    rule: int
    trace: tuple[TraceStep, ...] = ()
    """What decided on its way, when `process` was asked to tell: (object, action, rule) of each step."""


@dataclass(frozen=True, slots=True)
class Emission:
    """One frame that left: by which port, why, and the index of the received frame it stems from (-1: none)."""

    port: int
    frame: bytes
    cause: Cause
    parent: int
    offload: bytes
    """struct virtio_net_hdr_v1, 12 bytes: the checksum and segmentation left to the receiver."""


class DataPlane:
    """One lab's packet path.

    Args:
        topology: what to run.
        names: numbers given so far; a new set when omitted.
        seed: makes every choice left open (NAT ports) repeatable.
        sessions: most tracked connections at once.
        memo: whether flow entries are used (they change speed, never a verdict).
        errors: most ICMP errors at once about packets of one interface; afterwards there may be one each millisecond.
    """

    def __init__(
        self,
        topology: Topology,
        *,
        names: Names | None = None,
        seed: int = 0,
        sessions: int = 262144,
        flows: int = 65536,
        memo: bool = True,
        errors: int = ERRORS_AT_ONCE,
    ) -> None:
        self.names = Names() if names is None else names
        self.engine = Engine(sessions=sessions, flows=flows, seed=seed, memo=memo, errors=errors)
        self._changing = threading.Lock()
        self._in_use = threading.RLock()
        """Held while tables and what is known of them here change together, and while a trace needs both."""
        self.compiler = Compiler()
        self._records_taken = 0
        """The window in which flow records were taken last."""
        self._lowered: Lowered | None = None
        self._packed: Packed | None = None
        self.topology: Topology
        self.program: Program
        self._interfaces: dict[int, Interface] = {}
        self._contexts: dict[int, Context] = {}
        self.apply(topology)

    def apply(self, topology: Topology) -> None:
        """Change over to another topology: lower, compile, swap. Nothing changes when any of it fails."""
        with self._changing:
            self._change_over(topology)

    def set_runtime(self, state: RuntimeState) -> None:
        """Change over to the same topology in another state: the health of targets, who has been deregistered."""
        with self._changing:
            self._change_over(self.topology.with_runtime(state))

    def _change_over(self, topology: Topology) -> None:
        lowered = lower(topology, self.names, self._lowered)
        program = lowered.program
        packed = self.compiler.compile(program, generation=self.engine.generation + 1, before=self._packed)
        with self._in_use:
            self.engine.swap(packed.snapshot)
            before, self._lowered, self._packed = self._lowered, lowered, packed
            self.topology, self.program = topology, program
            if before is None or program.interfaces is not before.program.interfaces:
                self._interfaces = {i.number: i for i in program.interfaces.values()}
            if before is None or program.contexts is not before.program.contexts:
                self._contexts = {c.number: c for c in program.contexts}

    @property
    def snapshot(self) -> Snapshot:
        """The tables in use."""
        assert self._packed is not None
        return self._packed.snapshot

    def process(
        self,
        frames: Sequence[bytes],
        ports: Sequence[int],
        now_ms: int,
        offloads: Sequence[bytes | None] | None = None,
        *,
        traced: bool = False,
    ) -> tuple[list[Outcome], list[Emission]]:
        """Receive `frames`, each through its port, at `now_ms`; one Outcome per frame, and all that left, in order.

        `traced`: each Outcome tells what decided on the way.
        """
        return _typed(self.engine.process(frames, ports, now_ms, offloads, traced=traced))

    def advance(self, now_ms: int) -> tuple[list[Outcome], list[Emission]]:
        """Let time pass: what died of it. Nothing leaves because of that alone."""
        return _typed(self.engine.advance(now_ms))

    def nat_metrics(self) -> dict[str, dict[str, int]]:
        """What each NAT gateway (``"vpc/name"``) has counted up to now, under CloudWatch's names.

        Those of gateways that are gone stay. Bytes are of IP packets.
        https://docs.aws.amazon.com/vpc/latest/userguide/metrics-dimensions-nat-gateway.html
        """
        return {self.names[owner].path: metrics_of(row) for owner, row in self.engine.gateways().items()}

    def record_flows(self, *, flows: int | None = None, waiting: int | None = None, epoch_ms: int = 0) -> None:
        """Record flows at watched interfaces from now on, in windows of a minute.

        Args:
            flows: most flows and interfaces at once; when omitted, four times as many as flow entries, each of
                which may count at several interfaces (about 110 bytes each, touched as used).
            waiting: most records of windows that are over and that nobody has taken yet; when omitted, as many.
            epoch_ms: the Unix time at which lab time was 0: windows are full minutes of Unix time.

        Raises:
            RuntimeError: they are recorded already.
        """
        if flows is None:
            flows = min(4 * self.engine.statistics()["flow_limit"], MOST_RECORDS)
        self.engine.open_records(
            capacity=flows,
            waiting=flows if waiting is None else waiting,
            window_ms=WINDOW_MS,
            phase_ms=epoch_ms,
        )
        self._records_taken = self.engine.take_records()[0]

    def take_flow_records(self, *, unfinished: bool = False) -> tuple[int, dict[int, Window]]:
        """The number of the present window (minutes of Unix time), and what has been recorded up to it, told once.

        What was lost in a window may be told in a later call as well. `unfinished`: of the present window too. What was
        lost nobody knows where is told in all windows in which it may have been: those since the last call, of more
        than an hour the first and the last ones.
        """
        window, rows, lost, elsewhere = self.engine.take_records(unfinished=unfinished)
        windows = windows_of(rows, lost)
        if elsewhere:
            for number in {self._records_taken, *range(max(self._records_taken, window - 59), window + 1)}:
                windows.setdefault(number, Window()).lost_anywhere += elsewhere
        self._records_taken = window
        return window, windows

    def port(self, interface: str) -> int:
        """The port number of an interface, e.g. ``"web/eth0"``.

        Raises:
            KeyError: no such interface in the present topology.
        """
        number = self.names.find("interface", interface)
        if number not in self._contexts:
            raise KeyError(interface)
        return number

    def interface(self, port: int) -> Interface:
        """The lowered interface behind a port."""
        return self._interfaces[port]

    def next_mac(self, port: int, destination: Address) -> bytes:
        """The MAC a host behind `port` would send to for `destination`: its neighbour's, or the router's."""
        context = self._contexts[port]
        for prefix, mac in self.program.neighbours[context.neighbours]:
            if (
                mac is not None
                and prefix.version == destination.version
                and prefix.prefixlen == prefix.max_prefixlen
                and destination in prefix
            ):
                return mac
        return self._interfaces[port].router_mac

    def frame(self, port: int, probe: Probe) -> bytes:
        """The frame a host behind `port` would send `probe` in."""
        return probe.frame(self._interfaces[port].mac, self.next_mac(port, probe.destination))

    def trace(
        self,
        source: str,
        destination: str,
        *,
        protocol: str = "tcp",
        port: int | None = None,
        source_port: int | None = None,
        now_ms: int | None = None,
        size: int = 0,
    ) -> Trace:
        """Trace a packet from an interface to an address, and the answer to it, changing nothing.

        What comes to an instance that does not have its destination goes on as if that sent it on, and the trace says
        so; where nobody can tell by which interface it would, the trace ends there.

        Args:
            source: an interface (``"web/eth0"``) or a node (its ``eth0``).
            destination: an IPv4 or IPv6 address.
            protocol: ``tcp``, ``udp``, ``icmp``, ``icmpv6`` or a number.
            port: destination port, for TCP and UDP (80 when omitted).
            source_port: source port or echo identifier; 40000 when omitted. A connection from it may be open: then the
                packet is one of that connection.
            now_ms: lab time; the engine's own when omitted.
            size: bytes of payload.

        Raises:
            VpclabError: the source is not an interface, or has no address of the destination's family; or a port is
                given that the protocol does not have.
        """
        with self._in_use:
            number, probe = self._probe(source, destination, protocol, port, source_port, size)
            forward, reply = self._there_and_back(number, probe, self.engine.now_ms if now_ms is None else now_ms)
        return Trace(source=source, destination=destination, forward=forward, reply=reply)

    def _probe(
        self, source: str, destination: str, protocol: str, port: int | None, source_port: int | None, size: int
    ) -> tuple[int, Probe]:
        """The port that a trace begins at, and its packet."""
        start = source if "/" in source else f"{source}/eth0"
        try:
            number = self.port(start)
        except KeyError:
            raise VpclabError(f"no interface is called {start!r}") from None
        target = ip_address(destination)
        interface = self._interfaces[number]
        own = interface.address4 if target.version == 4 else interface.address6
        if own is None:
            raise VpclabError(f"{start} has no IPv{target.version} address")
        proto = protocol_number(protocol)
        if proto == ICMP and target.version == 6:
            proto = ICMPV6
        from_port, to_port = ports_of(proto, port, source_port)
        return number, Probe(
            source=own,
            destination=target,
            protocol=proto,
            source_port=from_port,
            destination_port=to_port,
            payload=bytes(size),
        )

    def _there_and_back(self, number: int, probe: Probe, now: int) -> tuple[Walk, Walk | None]:
        overlay = Overlay()
        answer = self._follow(self.frame(number, probe), number, overlay, now)
        forward = walk_of(answer, probe, self.names[number], self.names)
        if forward.verdict is not Verdict.FORWARD or not forward.delivered:
            return forward, None
        receiver = answer["port"]
        back = read_probe(answer["frame"]).answer()
        back_answer = self._follow(self.frame(receiver, back), receiver, overlay, now)
        if back_answer["verdict"] == Verdict.FORWARD and not back_answer["astray"]:
            sender, end = (self.names[port].path.partition("/")[0] for port in (number, back_answer["port"]))
            if sender != end:  # an address may be there more than once, in VPCs that do not know of each other
                back_answer["astray"] = f"{self.names[back_answer['port']]}, which is not {sender}'s"
        return forward, walk_of(back_answer, back, self.names[receiver], self.names)

    def _follow(self, frame: bytes, port: int, overlay: Overlay, now_ms: int) -> dict[str, Any]:
        """Trace a frame to whoever has its destination: on from targets of load balancers and instances on the way.

        It ends: endpoints and instances count the TTL down.
        """
        hops: list[dict[str, Any]] = []
        assumed: list[str] = []
        seen: set[tuple[int, Probe]] = set()
        while True:
            answer = self.engine.trace(frame, port, overlay, now_ms)
            is_inside = goes_to_target(answer["hops"])
            hops += answer["hops"]
            answer = {**answer, "hops": hops, "assumed": tuple(assumed), "astray": ""}
            if answer["verdict"] != Verdict.FORWARD:
                return answer
            port, arrived = answer["port"], answer["frame"]
            if is_inside:
                op, frame = "return", back_from_target(self, port, arrived)
            else:
                came = replace(read_probe(arrived), ttl=0)
                if self._is_own(port, came.destination):
                    return answer
                if (port, came) in seen:
                    return {**answer, "astray": f"{self.names[port]}, where it comes by again"}
                seen.add((port, came))
                on = sent_on(self, port, arrived, came.destination)
                if on is None:
                    return {**answer, "astray": f"{self.names[port]}, which does not have {came.destination}"}
                op, frame = "send-on", on
                node = self.names[port].path.partition("/")[0]
                assumed += [node] if node not in assumed else []
            hops.append({**hops[-1], "op": op, "detail": "passed", "object": port, "rule": 0, "ttl_spent": 0})

    def _is_own(self, port: int, address: Address) -> bool:
        """Whether who gets a packet through a port has its destination; interfaces that AWS owns get nothing else."""
        name = self.names[port]
        return name.kind != "interface" or address in self.topology.own_addresses[name.path]


def _typed(
    result: tuple[list[tuple[Any, ...]], list[tuple[int, bytes, int, int, bytes]]],
) -> tuple[list[Outcome], list[Emission]]:
    outcomes, emissions = result
    return (
        [_outcome(*row) for row in outcomes],
        [Emission(port, frame, Cause(cause), parent, offload) for port, frame, cause, parent, offload in emissions],
    )


def _outcome(verdict: int, reason: int, object_: int, rule: int, story: list[Any] | None = None) -> Outcome:
    trace = () if story is None else steps_of(story, Verdict(verdict), object_, rule)
    return Outcome(Verdict(verdict), Reason(reason), object_, rule, trace)
