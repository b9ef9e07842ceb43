"""The report: traffic and trace side by side. Nodes and traces are played by fakes."""

from __future__ import annotations

import io
from dataclasses import replace
from typing import Any

import pytest
from rich.console import Console
from scapy.layers.inet import IP, TCP

from dataplane.names import Name
from dataplane.trace import Action, Packet, Step, Trace, Walk, hops_of
from dataplane.verdict import Reason, Verdict
from lab import report
from lab.report import Finding, Findings, Probe, examine
from lab.report_text import next_steps, render_report, url_host
from vpclab.node import PingResult

A, B = "10.0.1.10", "10.0.1.11"
ROUTE = Step(
    action=Action.ROUTE,
    rule=Name("route", "v/main 10.0.0.0/16 -> local"),
    packet=Packet(protocol=6, source=A, destination=B),
)
OPEN = Walk(hops=hops_of([(Name("route-table", "v/main"), ROUTE)]), verdict=Verdict.FORWARD)
SHUT = Walk(
    hops=OPEN.hops,
    verdict=Verdict.DROP,
    reason=Reason.GROUP_INGRESS,
    object=Name("interface", "b/eth0"),
    note="security group v/b",
)


class FakeNode:
    """Answers as `answers` says: ping, port of TCP."""

    public_addresses = ()
    attached = None
    address6 = None

    def __init__(self, address: str, answers: dict[str, Any]) -> None:
        self.address4 = address
        self.answers = answers

    def ping(self, destination: str, *, count: int, timeout_s: float) -> PingResult:
        got = count if self.answers.get("ping") else 0
        return PingResult(sent=count, received=got, average_ms=0.25 if got else None, output="")

    def connect(self, destination: str, port: int, *, timeout_s: float) -> Any:
        outcome = self.answers.get("connect", TimeoutError())
        if isinstance(outcome, Exception):
            raise outcome
        return io.BytesIO()

    def sr1(self, packet: Any, timeout_s: float) -> Any:
        assert (packet[IP].src, packet[TCP].dport) == (self.address4, report.QUIET_PORT)
        flags = self.answers.get("syn")
        return IP() / TCP(flags=flags) if flags else None


class FakeLab:
    """Two nodes; `shut` holds the destination ports that a trace says are closed (None: ping)."""

    name = "fake"

    def __init__(self, *, shut: set[int | None] | None = None, **answers: Any) -> None:
        self.nodes = {"a": FakeNode(A, answers), "b": FakeNode(B, answers)}
        self.shut = shut or set()
        self.told: Trace | None = None

    def address_of(self, destination: str, *, source: str) -> str:
        return self.nodes[destination].address4

    def ports_of_interest(self) -> dict[str, tuple[int, ...]]:
        return {"a": (), "b": (80, 8080)}

    def trace(
        self, source: str, destination: str, *, protocol: str, port: int | None, source_port: int | None
    ) -> Trace:
        assert (port is None) == (protocol == "icmp")
        assert source.endswith("/eth0") == (port == report.QUIET_PORT), "scapy's packet leaves by that interface"
        if self.told is not None:
            return self.told
        forward = SHUT if port in self.shut else OPEN
        return Trace(source=source, destination=destination, forward=forward, reply=None if forward is SHUT else OPEN)


@pytest.fixture(autouse=True)
def _impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(report, "_SECOND_LOOK_S", 0.01)


def text_of(findings: Findings) -> str:
    screen = Console(width=120, file=io.StringIO(), highlight=False)
    render_report(findings, screen)
    assert isinstance(screen.file, io.StringIO)
    return screen.file.getvalue()


def test_every_pair_and_port_is_probed() -> None:
    findings = examine(FakeLab(ping=True, connect=1, syn="RA"))
    probes = [(row.source, row.address, probe.kind, probe.port) for row in findings.rows for probe in row.probes]
    assert probes == [
        ("a", B, "ping", None),
        ("a", B, "tcp", 80),
        ("a", B, "tcp", 8080),
        ("a", B, "syn", 443),
        ("b", A, "ping", None),
        ("b", A, "tcp", 80),
        ("b", A, "syn", 443),
    ]
    assert findings.disagreements == []


@pytest.mark.parametrize(
    ("outcome", "text", "answered"),
    [
        (1, "open", True),
        (ConnectionRefusedError(), "refused", True),
        (TimeoutError(), "silence", False),
        (OSError(113, "No route to host"), "no route to host", False),
    ],
)
def test_what_a_connect_says(outcome: Any, text: str, answered: bool) -> None:
    findings = examine(FakeLab(connect=outcome))
    probe = findings.rows[0].probes[1]
    assert (probe.outcome, probe.answered) == (text, answered)


@pytest.mark.parametrize(
    ("flags", "text", "answered"), [("SA", "open", True), ("RA", "refused", True), (None, "silence", False)]
)
def test_what_a_syn_says(flags: str | None, text: str, answered: bool) -> None:
    probe = examine(FakeLab(syn=flags)).rows[0].probes[-1]
    assert (probe.outcome, probe.answered) == (text, answered)


def test_a_disagreement_is_a_bug_whoever_is_wrong() -> None:
    findings = examine(FakeLab(ping=True, connect=TimeoutError(), syn="RA", shut={443}))
    wrong = {(row.source, probe.kind, probe.port) for row, probe in findings.disagreements}
    assert wrong == {("a", "tcp", 80), ("a", "tcp", 8080), ("a", "syn", 443), ("b", "tcp", 80), ("b", "syn", 443)}
    text = text_of(findings)
    assert "BUG a -> 10.0.1.11 tcp 80: the traffic says silence, the trace says it is reachable" in text
    assert "BUG a -> 10.0.1.11 syn 443: the traffic says refused, the trace says no inbound rule of" in text
    assert "2 of 7 probes did what the trace of live state says" in text


def test_what_an_instance_on_the_way_does_is_no_bug_of_ours() -> None:
    """A trace that hangs on an appliance to send it on, or ends there, agrees with whatever packets do."""
    passed = replace(OPEN, assumed=("fw",))
    ended = replace(OPEN, astray="interface fw/eth0, which does not have 10.0.1.11")
    for forward, reply, told in (
        (passed, OPEN, "v/main 10.0.0.0/16 -> local, provided that fw sends it on"),
        (OPEN, passed, "v/main 10.0.0.0/16 -> local, provided that fw sends it on"),
        (ended, None, "got as far as interface fw/eth0, which does not have 10.0.1.11"),
    ):
        lab = FakeLab(ping=True, connect=TimeoutError())
        lab.told = Trace(source="a", destination=B, forward=forward, reply=reply)
        findings = examine(lab)
        assert findings.disagreements == []
        assert told in " ".join(text_of(findings).split())


def test_a_late_answer_is_no_disagreement(monkeypatch: pytest.MonkeyPatch) -> None:
    lab = FakeLab(ping=True, connect=1, syn="RA")
    real, asked = FakeNode.ping, []

    def slow(self: FakeNode, destination: str, *, count: int, timeout_s: float) -> PingResult:
        asked.append(timeout_s)
        late = PingResult(sent=1, received=0, average_ms=None, output="")
        return real(self, destination, count=count, timeout_s=timeout_s) if timeout_s == 0.01 else late

    monkeypatch.setattr(FakeNode, "ping", slow)
    assert examine(lab).disagreements == []
    assert sorted(asked) == [0.01, 0.01, 1.0, 1.0]


def test_paths_and_reasons_are_told() -> None:
    text = text_of(examine(FakeLab(ping=True, connect=TimeoutError(), shut={80, 8080, 443})))
    assert "v/main 10.0.0.0/16 -> local" in text
    assert "tcp 80, tcp 8080, syn 443: no inbound rule of security group v/b allows it" in text
    assert "BUG" not in text


def test_large_labs_are_examined_in_part_and_that_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(report, "_MOST_NODES", 1)
    findings = examine(FakeLab(ping=True, connect=1, syn="RA"))
    assert (findings.rows, findings.left_out) == ([], 1)
    assert "1 more nodes were not examined" in text_of(findings)


def test_what_is_behind_a_device_of_the_machine_is_not_examined() -> None:
    """Nothing can be run there, and nobody knows what answers."""
    lab = FakeLab(ping=True, connect=1, syn="RA")
    lab.nodes["c"] = FakeNode("10.0.1.12", {})
    lab.nodes["b"].attached = "tap:vm0"  # type: ignore[assignment]
    assert {(row.source, row.destination) for row in examine(lab).rows} == {("a", "c"), ("c", "a")}
    lab.nodes["b"].attached = "netns:/run/netns/x"  # type: ignore[assignment]
    assert len(examine(lab).rows) == 6


def test_who_has_no_ipv4_address_is_asked_about_others_of_ipv6_only() -> None:
    lab = FakeLab(ping=True, connect=1)
    six, both = lab.nodes.values()
    six.address4, six.address6 = None, "2001:db8::a"  # type: ignore[assignment]
    both.address6 = "2001:db8::b"  # type: ignore[assignment]
    both.public_addresses = ("203.0.113.11",)  # type: ignore[assignment]
    six.sr1 = lambda packet, timeout_s: None  # type: ignore[method-assign]
    both.sr1 = six.sr1  # type: ignore[method-assign]
    lab.address_of = lambda destination, *, source: B if destination == "b" else "2001:db8::a"  # type: ignore[method-assign]
    assert [(row.source, row.address) for row in examine(lab).rows] == [("a", "2001:db8::b"), ("b", "2001:db8::a")]


def test_a_trace_is_about_the_very_packet_that_was_sent() -> None:
    """Of a SYN built here the source port is known: rules and NAT gateways may tell it from others."""
    sent, traced = [], []

    class Noted(FakeLab):
        def trace(self, source: str, destination: str, *, port: int | None, **options: Any) -> Trace:
            if port == report.QUIET_PORT:
                traced.append((source, options["source_port"]))
            else:
                assert options["source_port"] is None
            return super().trace(source, destination, port=port, **options)

    def noted(name: str) -> Any:
        return lambda packet, timeout_s: sent.append((f"{name}/eth0", packet[TCP].sport))

    lab = Noted(ping=True, connect=1)
    for name, node in lab.nodes.items():
        node.sr1 = noted(name)  # type: ignore[method-assign]
    examine(lab)
    assert {*sent} == {*traced}
    assert len({*sent}) == 2


def test_json_holds_everything() -> None:
    found = examine(FakeLab(connect=TimeoutError(), shut={None, 80, 8080, 443})).to_json()
    probe = found["rows"][0]["probes"][1]
    assert {key: probe[key] for key in ("kind", "port", "outcome", "answered", "agrees", "why")} == {
        "kind": "tcp",
        "port": 80,
        "outcome": "silence",
        "answered": False,
        "agrees": True,
        "why": "no inbound rule of security group v/b allows it",
    }
    assert Trace.from_json(probe["trace"]).forward == SHUT


def test_next_steps_use_what_was_found() -> None:
    steps = list(next_steps(examine(FakeLab(ping=True, connect=1, syn="RA")), "./vpclab"))
    assert steps[:2] == ["./vpclab exec a -- curl -s http://10.0.1.11/", "./vpclab ping a b"]
    assert steps[-1] == "./vpclab down fake"
    nothing = list(next_steps(examine(FakeLab(connect=TimeoutError(), shut={None, 80, 8080, 443})), "vpclab"))
    assert nothing[0] == "vpclab trace a b --proto tcp --port 80"
    assert url_host("2001:db8::1") == "[2001:db8::1]"


def test_only_what_listens_at_port_80_is_a_page_to_look_at() -> None:
    trace = Trace(source="a", destination=B, forward=OPEN, reply=OPEN)

    def steps(port: int) -> list[str]:
        probe = Probe(kind="tcp", port=port, outcome="open", answered=True, trace=trace)
        row = Finding(source="a", destination="b", address=B, probes=(probe,))
        return list(next_steps(Findings(lab="fake", rows=[row]), "vpclab"))

    assert steps(80)[0] == "vpclab exec a -- curl -s http://10.0.1.11/"
    assert not [step for step in steps(5432) if "curl" in step]
