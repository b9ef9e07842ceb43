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

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from dataplane.errors import LabError
from dataplane.trace import Action, Trace, object_text, rule_text
from dataplane.verdict import REASON_TEXT, Reason

QUIET_PORT = 443
"""Where the SYN built with scapy goes: a port of its own, so that it tests other rules than the connect."""
_DEFAULT_PORT = 80
_PATIENCE_S = 1.0
_SECOND_LOOK_S = 3.0
_PARALLEL = 24
_MOST_NODES = 12
_MOST_PORTS = 3
_SILENCE = "silence"


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
        """True when traffic and trace tell the same."""
        return self.answered == self.trace.reachable


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
    names = list(lab.nodes)
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
        question.source,
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
    return _SILENCE, False


def _connect(node: ReportedNode, address: str, port: int, patience_s: float) -> tuple[str, bool]:
    try:
        node.connect(address, port, timeout_s=patience_s).close()
    except ConnectionRefusedError:
        return "refused", True  # a reset is an answer: the path is open, only nobody listens
    except TimeoutError:
        return _SILENCE, False
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
        return _SILENCE, False
    if not answer.haslayer(TCP):
        return "ICMP error", False
    return ("open" if "A" in answer[TCP].flags and "S" in answer[TCP].flags else "refused"), True


def _load_scapy() -> None:
    try:
        import scapy.layers.inet
        import scapy.layers.inet6  # noqa: F401
    except ImportError:
        raise LabError("the report builds packets with scapy; run: pip install 'vpclab[scapy]'") from None


def path_text(trace: Trace) -> str:
    """The routes that the packet took, in order: what says most about its path in the fewest words."""
    steps = [step for hop in trace.forward.hops for step in hop.steps]
    taken = [
        step.rule.path for step in steps if step.action is Action.ROUTE and step.rule and step.rule.kind == "route"
    ]
    if taken:
        return ", then ".join(dict.fromkeys(taken))
    return (
        "across the internet" if any(hop.object.kind == "internet" for hop in trace.forward.hops) else "in one subnet"
    )


_SHORT = {
    Reason.GROUP_EGRESS: "no outbound rule of {note} allows it",
    Reason.GROUP_INGRESS: "no inbound rule of {note} allows it",
    Reason.ACL_EGRESS: "{where} egress, {rule}",
    Reason.ACL_INGRESS: "{where} ingress, {rule}",
    Reason.NO_ROUTE: "{where} has no route to {destination}",
    Reason.BLACKHOLE: "{where}: {rule} is a blackhole",
    Reason.OUTSIDE_NO_ROUTE: "nobody on the internet has {destination}",
}
"""The commonest reasons in fewer words than `REASON_TEXT` has: a table is narrow."""


def why_text(trace: Trace) -> str:
    """What stopped the packet or its answer: the rule that decided, where, and the reason; empty if nothing did."""
    if trace.reachable:
        return ""
    walk = trace.deciding_walk
    which = "" if walk is trace.forward else "the answer: "
    packet = walk.hops[-1].packet if walk.hops else None
    words = {
        "where": object_text(walk.object) if walk.object else "",
        "rule": rule_text(walk.rule, walk.object) if walk.rule else walk.note,
        "note": walk.note,
        "destination": packet.destination if packet else "",
    }
    if walk.reason in _SHORT:
        return which + _SHORT[walk.reason].format(**words)
    decided = walk.decided_by
    text = REASON_TEXT[walk.reason].text
    return f"{which}{object_text(decided)}: {text}" if decided else which + text


# -- on paper ------------------------------------------------------------------------------------------


def render_report(findings: Findings, screen: Console) -> None:
    """Print the report as a table, one row per sender and address, and what to try next."""
    table = Table(
        title=f"lab {findings.lab}: who reaches whom, by real packets (SYN: built with scapy; -: no answer)",
        title_justify="left",
        header_style="bold",
        pad_edge=False,
        box=None,
    )
    for heading in ("from", "to", "ping", "tcp", f"SYN {QUIET_PORT}"):
        table.add_column(heading, no_wrap=heading == "from")
    table.add_column("by which path, or what decided", ratio=1, overflow="fold")
    last = ""
    for row in findings.rows:
        cells = [_kind_cell(row, kind) for kind in ("ping", "tcp", "syn")]
        source = row.source if row.source != last else ""
        last = row.source
        table.add_row(source, f"{row.destination} {row.address}", *cells, "\n".join(_story(row)), end_section=True)
    screen.print(table)
    probes = sum(len(row.probes) for row in findings.rows)
    agreeing = probes - len(findings.disagreements)
    screen.print(f"{agreeing} of {probes} probes did what the trace of live state says", markup=False)
    if findings.left_out:
        screen.print(f"{findings.left_out} more nodes were not examined: a lab of this size would take too long")
    for row, probe in findings.disagreements:
        says = "it is reachable" if probe.trace.reachable else why_text(probe.trace)
        screen.print(
            f"[bold red]BUG[/] {row.source} -> {row.address} {_probe_name(probe)}: "
            f"the traffic says {escape(probe.outcome)}, the trace says {escape(says)}"
        )


def _kind_cell(row: Finding, kind: str) -> str:
    words = []
    for probe in row.probes:
        if probe.kind == kind:
            colour = "green" if probe.answered else "red"
            port = f"{probe.port} " if kind == "tcp" else ""
            shown = "-" if probe.outcome == _SILENCE else probe.outcome
            words.append(f"{port}[{colour}]{escape(shown)}[/]")
    return "\n".join(words)


def _story(row: Finding) -> Iterator[str]:
    """The path, if anything got through, and each different reason why something did not."""
    open_ = [probe for probe in row.probes if probe.trace.reachable]
    if open_:
        yield escape(path_text(open_[0].trace))
    reasons: dict[str, list[str]] = {}
    for probe in row.probes:
        if not probe.trace.reachable:
            reasons.setdefault(why_text(probe.trace), []).append(_probe_name(probe))
    for reason, names in reasons.items():
        which = f"{', '.join(names)}: " if open_ or len(reasons) > 1 else ""
        yield f"[dim]{which}[/]{escape(reason)}"


def _probe_name(probe: Probe) -> str:
    return probe.kind if probe.port is None else f"{probe.kind} {probe.port}"


def next_steps(findings: Findings, command: str) -> Iterator[str]:
    """Commands worth trying on this lab, made of its own nodes, each with what it shows."""
    probes = [(row, probe) for row in findings.rows for probe in row.probes]
    web = next((row for row, probe in probes if probe.outcome == "open"), None)
    pinged = next((row for row, probe in probes if probe.kind == "ping" and probe.answered), None)
    shut = next((row for row in findings.rows if not any(probe.answered for probe in row.probes)), None)
    if web is not None:
        yield f"{command} exec {web.source} -- curl -s http://{web.address}/"
    if pinged is not None:
        yield f"{command} ping {pinged.source} {pinged.destination}"
    if shut is not None:
        yield f"{command} trace {shut.source} {shut.destination} --proto tcp --port 80"
    if web is not None:
        yield f"{command} capture {web.source} -w - | wireshark -k -i -"
    yield f"{command} apply FILE   (after a change of the lab file; --dry-run shows it first)"
    yield f"{command} down {findings.lab}"
