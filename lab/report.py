"""Who reaches whom in a running lab, found out with real packets: the table that `make lab` prints.

For every ordered pair of nodes (and once more by public address where the receiver has one) three probes go
out from inside the sender: the kernel's ping, a TCP connect to a port of interest, and a SYN built with scapy
to a port where nobody listens. Next to what the traffic did stands what the trace says: by which path, or
which rule, route or ACL entry stopped it. Where the two disagree, one of them is wrong, and the report says so.
"""

from __future__ import annotations

import random
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any, Protocol

from dataplane.errors import LabError
from dataplane.trace import Trace
from dataplane.trace_text import path_text, why_text
from lab.node_plan import is_tap

QUIET_PORT = 443
"""Where the SYN built with scapy goes: a port of its own, so that it tests other rules than the connect."""
_DEFAULT_PORT = 80
_PATIENCE_S = 1.0
_SECOND_LOOK_S = 3.0
_PARALLEL = 24
_MOST_NODES = 8
_MOST_PORTS = 3
SILENCE = "silence"
"""Outcome of a probe that nobody answered."""


class ReportedNode(Protocol):
    """What the report needs of a node; `vpclab.Node` has it, and says what each means."""

    @property
    def public_addresses(self) -> tuple[str, ...]:
        """Public addresses that are mapped to it."""

    @property
    def address4(self) -> str | None:
        """First IPv4 address."""

    @property
    def address6(self) -> str | None:
        """First IPv6 address."""

    @property
    def attached(self) -> str | None:
        """What of the user's stands in for it."""

    def ping(self, destination: str, *, count: int, timeout_s: float) -> Any:
        """Ping with the node's kernel."""

    def connect(self, destination: str, port: int, *, timeout_s: float) -> Any:
        """Make a TCP connection."""

    def sr1(self, packet: Any, timeout_s: float) -> Any:
        """Send a packet, return the answer."""


class ReportedLab(Protocol):
    """What the report needs of a lab; `vpclab.Lab` has it, and says what each means."""

    @property
    def name(self) -> str:
        """Name of the lab."""

    @property
    def nodes(self) -> Mapping[str, Any]:
        """Nodes by name."""

    def address_of(self, destination: str, *, source: str) -> str:
        """The address by which one node knows another."""

    def ports_of_interest(self) -> Mapping[str, tuple[int, ...]]:
        """TCP ports worth trying, by node."""

    def trace(
        self, source: str, destination: str, *, protocol: str, port: int | None, source_port: int | None
    ) -> Trace:
        """Trace a packet through live state."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Probe:
    """One probe: what the traffic did and what the trace says about the same packet."""

    kind: str
    """``ping``, ``tcp`` or ``syn``."""
    port: int | None
    outcome: str
    """What came back, e.g. ``0.21 ms``, ``open``, ``refused``, ``silence``."""
    answered: bool
    trace: Trace

    @property
    def agrees(self) -> bool:
        """True when traffic and trace tell the same, as far as the trace can tell."""
        return self.answered == self.trace.reachable or not self.trace.is_certain


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """One sender, one address, all probes."""

    source: str
    destination: str
    address: str
    probes: tuple[Probe, ...]


@dataclass(slots=True, kw_only=True)
class Findings:
    """The whole report."""

    lab: str
    rows: list[Finding] = field(default_factory=list)
    left_out: int = 0
    """Nodes not examined because the lab is large."""

    @property
    def disagreements(self) -> list[tuple[Finding, Probe]]:
        """Probes where traffic and trace differ: bugs."""
        return [(row, probe) for row in self.rows for probe in row.probes if not probe.agrees]

    def to_json(self) -> dict[str, Any]:
        """The report as a JSON object."""
        return {
            "lab": self.lab,
            "left_out": self.left_out,
            "rows": [
                {
                    "source": row.source,
                    "destination": row.destination,
                    "address": row.address,
                    "probes": [
                        {
                            "kind": probe.kind,
                            "port": probe.port,
                            "outcome": probe.outcome,
                            "answered": probe.answered,
                            "agrees": probe.agrees,
                            "path": path_text(probe.trace),
                            "why": why_text(probe.trace),
                            "trace": probe.trace.to_json(),
                        }
                        for probe in row.probes
                    ],
                }
                for row in self.rows
            ],
        }


@dataclass(frozen=True, slots=True)
class _Question:
    source: str
    destination: str
    address: str
    kind: str
    port: int | None
    source_port: int | None


def examine(lab: ReportedLab) -> Findings:
    """Send the probes, all at the same time, and put the traces beside them. Takes a few seconds."""
    # Nothing can be run at a TAP device, and nobody knows what answers there.
    names = [name for name, node in lab.nodes.items() if not is_tap(node.attached)]
    findings = Findings(lab=lab.name, left_out=max(0, len(names) - _MOST_NODES))
    questions = list(_questions(lab, names[:_MOST_NODES]))
    _load_scapy()  # before the threads: its first import is slow and not made for several at once
    with ThreadPoolExecutor(max_workers=_PARALLEL, thread_name_prefix="probe") as pool:
        answers = list(pool.map(lambda question: _ask(lab, question, _PATIENCE_S), questions))
        # A machine under load can make an answer late; only what stays different is a disagreement.
        doubts = [index for index, probe in enumerate(answers) if not probe.agrees]
        for index, probe in zip(
            doubts, pool.map(lambda i: _ask(lab, questions[i], _SECOND_LOOK_S), doubts), strict=True
        ):
            answers[index] = probe
    grouped: dict[tuple[str, str, str], list[Probe]] = {}
    for question, probe in zip(questions, answers, strict=True):
        grouped.setdefault((question.source, question.destination, question.address), []).append(probe)
    findings.rows = [
        Finding(source=source, destination=destination, address=address, probes=tuple(probes))
        for (source, destination, address), probes in grouped.items()
    ]
    return findings


def _questions(lab: ReportedLab, names: list[str]) -> Iterator[_Question]:
    ports = lab.ports_of_interest()
    everywhere = min((port for some in ports.values() for port in some), default=_DEFAULT_PORT)
    dice = random.Random(lab.name)
    for source in names:
        for destination in names:
            if source == destination:
                continue
            ours, theirs = lab.nodes[source], lab.nodes[destination]
            addresses = [lab.address_of(destination, source=source), *theirs.public_addresses]
            if ours.address6 and theirs.address6:
                addresses.append(theirs.address6)
            if ours.address4 is None:
                addresses = [address for address in addresses if ":" in address]
            for address in dict.fromkeys(addresses):
                yield _Question(source, destination, address, "ping", None, None)
                for port in ports.get(destination, ())[:_MOST_PORTS] or (everywhere,):
                    yield _Question(source, destination, address, "tcp", port, None)
                yield _Question(source, destination, address, "syn", QUIET_PORT, dice.randrange(20000, 30000))


def _ask(lab: ReportedLab, question: _Question, patience_s: float) -> Probe:
    node: ReportedNode = lab.nodes[question.source]
    if question.kind == "ping":
        outcome, answered = _ping(node, question.address, patience_s)
    elif question.kind == "tcp":
        outcome, answered = _connect(node, question.address, question.port or 0, patience_s)
    else:
        outcome, answered = _syn(lab, node, question, patience_s)
    trace = lab.trace(
        f"{question.source}/eth0" if question.kind == "syn" else question.source,  # scapy's goes out there
        question.address,
        protocol="icmp" if question.kind == "ping" else "tcp",
        port=question.port,
        source_port=question.source_port,
    )
    return Probe(kind=question.kind, port=question.port, outcome=outcome, answered=answered, trace=trace)


def _ping(node: ReportedNode, address: str, patience_s: float) -> tuple[str, bool]:
    result = node.ping(address, count=1, timeout_s=patience_s)
    if result.received:
        return f"{result.average_ms:.2f} ms", True
    return SILENCE, False


def _connect(node: ReportedNode, address: str, port: int, patience_s: float) -> tuple[str, bool]:
    try:
        node.connect(address, port, timeout_s=patience_s).close()
    except ConnectionRefusedError:
        return "refused", True  # a reset is an answer: the path is open, only nobody listens
    except TimeoutError:
        return SILENCE, False
    except OSError as error:
        return (error.strerror or str(error)).lower(), False
    return "open", True


def _syn(lab: ReportedLab, node: ReportedNode, question: _Question, patience_s: float) -> tuple[str, bool]:
    from scapy.layers.inet import IP, TCP
    from scapy.layers.inet6 import IPv6

    layer, source = (IPv6, node.address6) if ":" in question.address else (IP, node.address4)
    packet = layer(src=source, dst=question.address) / TCP(
        sport=question.source_port, dport=question.port, flags="S", seq=1
    )
    answer = node.sr1(packet, patience_s)
    if answer is None:
        return SILENCE, False
    if not answer.haslayer(TCP):
        return "ICMP error", False
    return ("open" if "A" in answer[TCP].flags and "S" in answer[TCP].flags else "refused"), True


def _load_scapy() -> None:
    try:
        import scapy.layers.inet
        import scapy.layers.inet6  # noqa: F401
    except ImportError:
        raise LabError("the report builds packets with scapy; run: pip install scapy") from None
