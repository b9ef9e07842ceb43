"""The session table against a dict: what is in it, how long it lives, and what happens when it is full."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field, fields, replace
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st
from scapy.layers.inet import ICMP, IP, TCP, UDP

from dataplane.program import Timeouts
from dataplane.verdict import Reason, Verdict
from tests.property.fresh import FRESH, PHASES
from tests.property.test_tables_matching import recompiled
from tests.unit.fastpath.two_hosts import Host, TwoHosts

IPV4 = b"\x08\x00"
PROTOCOLS = {"tcp": 6, "udp": 17, "icmp": 1, "gre": 47}
FLAGS = ("S", "S", "SA", "A", "A", "PA", "FA", "FA", "R")


@dataclass(slots=True)
class Flow:
    """One flow as its owner remembers it: the twin's row."""

    last_ms: int
    limit_ms: int
    state: str
    sent: int = 1
    """Packets of the opener's direction."""
    answered: int = 0
    ended: set[str] = field(default_factory=set)
    """Which sides have sent FIN: "opener", "other"."""
    acknowledged: set[str] = field(default_factory=set)
    """Which sides have sent ACK."""


class Memory:
    """The twin: what one interface remembers, written from "Security group connection tracking" of the EC2 User Guide.

    A TCP connection begins with a SYN, and what is of none passes by its rule alone. It is open once both sides have
    acknowledged; it closes by FIN from both or one RST, and a new SYN may then open it again. UDP is a stream from the
    request that follows an answer. Silence for as long as the limit of the state ends every flow.
    """

    def __init__(self, limits: Timeouts) -> None:
        self.limits = limits
        self.flows: dict[tuple[str, int], Flow] = {}

    def limit(self, state: str) -> int:
        return {
            "opening": self.limits.tcp_opening,
            "open": self.limits.tcp_established,
            "closing": self.limits.tcp_closing,
            "single": self.limits.udp_single,
            "replied": self.limits.udp_single,
            "stream": self.limits.udp_stream,
            "query": self.limits.icmp,
            "other": self.limits.other,
        }[state]

    def alive(self, name: tuple[str, int], now: int) -> Flow | None:
        flow = self.flows.get(name)
        return flow if flow is not None and now - flow.last_ms < flow.limit_ms else None

    def known(self, name: tuple[str, int], flags: str, now: int) -> Flow | None:
        """The flow a packet belongs to; a closing connection makes way for a SYN."""
        flow = self.alive(name, now)
        return None if flow is not None and flow.state == "closing" and flags == "S" else flow

    def open(self, name: tuple[str, int], flags: str, now: int) -> None:
        state = {"tcp": "opening", "udp": "single", "icmp": "query"}.get(name[0], "other")
        self.flows[name] = flow = Flow(now, self.limit(state), state)
        self.note(flow, flags, "opener")

    def note(self, flow: Flow, flags: str, side: str) -> None:
        flow.ended |= {side} if "F" in flags else set()
        flow.acknowledged |= {side} if "A" in flags else set()

    def touch(self, name: tuple[str, int], flow: Flow, flags: str, *, back: bool, now: int) -> None:
        flow.last_ms = now
        flow.sent, flow.answered = flow.sent + (not back), flow.answered + back
        self.note(flow, flags, "other" if back else "opener")
        if name[0] == "tcp":
            if "R" in flags or len(flow.ended) == 2:
                flow.state = "closing"
            elif flow.state == "opening" and len(flow.acknowledged) == 2:
                flow.state = "open"
        elif name[0] == "udp" and back and flow.state == "single":
            flow.state = "replied"
        elif name[0] == "udp" and not back and flow.state == "replied":
            flow.state = "stream"
        flow.limit_ms = self.limit(flow.state)

    def living(self, now: int) -> dict[tuple[str, int], tuple[str, int, int, tuple[int, int]]]:
        found = {}
        for name, flow in self.flows.items():
            if self.alive(name, now):
                found[name] = (flow.state, now - flow.last_ms, flow.limit_ms, (flow.sent, flow.answered))
        return found


class Both:
    """Host a, which may open flows to host b and nothing else, and a twin of what each of them remembers."""

    def __init__(self, limits: tuple[Timeouts, Timeouts], *, memo: bool, sessions: int = 64) -> None:
        self.lab = lab = TwoHosts(memo=memo, sessions=sessions)
        tracked = [lab.rule("near", prefix="10.0.0.0/8")]  # not from anywhere: then flows are tracked
        policies, rules = lab.program.group_policies, lab.program.filters
        rules |= {"a/rules-out": tracked, "a/rules-in": [], "b/rules-out": [], "b/rules-in": tracked}
        policies["a"] = replace(policies["a"], timeouts=limits[0])
        policies["b"] = replace(policies["b"], timeouts=limits[1])
        recompiled(lab)
        self.now = 1_000
        self.memories = {"a": Memory(limits[0]), "b": Memory(limits[1])}

    def send(self, protocol: str, n: int, flags: str, *, back: bool) -> tuple[int, int]:
        """One packet of flow `n`; returns verdict and reason."""
        sender, receiver = (self.lab.b, self.lab.a) if back else (self.lab.a, self.lab.b)
        frame = sender.ether() + IPV4 + bytes(packet(protocol, n, flags, sender, receiver, back=back))
        [(verdict, reason, _, _)], _ = self.lab.engine.process([frame], [sender.port], self.now)
        return verdict, reason

    def expect(self, protocol: str, n: int, flags: str, *, back: bool) -> tuple[int, int]:
        """What the twin says of the same packet."""
        name = (protocol, n)
        for owner in ("b", "a") if back else ("a", "b"):
            memory = self.memories[owner]
            flow = memory.known(name, flags, self.now)
            if flow is not None:
                memory.touch(name, flow, flags, back=back, now=self.now)
            elif back:
                return Verdict.DROP, Reason.GROUP_EGRESS if owner == "b" else Reason.GROUP_INGRESS
            elif protocol != "tcp" or flags == "S":
                memory.open(name, flags, self.now)
        return Verdict.FORWARD, Reason.NONE

    def agree(self, protocol: str, n: int, flags: str, *, back: bool) -> str:
        """One packet, of which both say the same reason."""
        told = self.send(protocol, n, flags, back=back)
        assert told == self.expect(protocol, n, flags, back=back), (protocol, n, flags, back)
        return Reason(told[1]).name

    def check(self) -> None:
        self.lab.engine.selfcheck()
        for owner, host in (("a", self.lab.a), ("b", self.lab.b)):
            found = {name_of(s): shown(s) for s in self.lab.engine.sessions() if s["owner"] == host.port}
            assert found == self.memories[owner].living(self.lab.engine.now_ms)


def packet(protocol: str, n: int, flags: str, sender: Host, receiver: Host, *, back: bool) -> Any:
    ip = IP(src=sender.address, dst=receiver.address)
    near, far = 1000 + n, 80
    ports = {"sport": far, "dport": near} if back else {"sport": near, "dport": far}
    if protocol == "tcp":
        return ip / TCP(**ports, flags=flags)
    if protocol == "udp":
        return ip / UDP(**ports)
    if protocol == "icmp":
        return ip / ICMP(type=0 if back else 8, id=near)
    ip.proto = 47
    return ip / bytes(8)


def name_of(session: dict[str, Any]) -> tuple[str, int]:
    _, _, _, number, sport, dport = session["forward"]
    protocol = next(name for name, each in PROTOCOLS.items() if each == number)
    return protocol, 0 if protocol == "gre" else max(sport, dport) - 1000


def shown(session: dict[str, Any]) -> tuple[str, int, int, tuple[int, int]]:
    return session["state"], session["idle_ms"], session["limit_ms"], session["packets"]


limit_ms = st.sampled_from([500, 1_000, 5_000, 30_000, 350_000])
limits_drawn = st.tuples(*[st.builds(Timeouts, **{each.name: limit_ms for each in fields(Timeouts)})] * 2)


def step(both: Both, data: st.DataObject) -> str:
    """One packet or a wait that ends just before, at or after the death of something."""
    kind = data.draw(st.sampled_from(["packet", "packet", "packet", "handshake", "wait", "swap"]))
    if kind == "swap":
        recompiled(both.lab)
        return "swap"
    if kind == "handshake":
        n = data.draw(st.integers(0, 1))
        return [both.agree("tcp", n, flags, back=flags == "SA") for flags in ("S", "SA", "A")][-1]
    if kind == "wait":
        deaths = [f.last_ms + f.limit_ms - both.now for m in both.memories.values() for f in m.flows.values()]
        edges = sorted({wait for death in deaths for wait in (death - 1, death, death + 1) if wait >= 0}) or [1]
        both.now += data.draw(st.sampled_from(edges), label="wait")
        if data.draw(st.booleans(), label="swept"):
            both.lab.engine.advance(both.now)
        return "wait"
    protocol = data.draw(st.sampled_from(["tcp", "tcp", "tcp", "udp", "udp", "icmp", "gre"]))
    n = 0 if protocol in ("udp", "gre") else data.draw(st.integers(0, 1))
    flags = data.draw(st.sampled_from(FLAGS)) if protocol == "tcp" else ""
    back = data.draw(st.booleans())
    return both.agree(protocol, n, flags, back=back)


@given(limits=limits_drawn, memo=st.booleans(), data=st.data())
def test_a_flow_lives_as_long_as_its_state_says(
    limits: tuple[Timeouts, Timeouts], memo: bool, data: st.DataObject
) -> None:
    both = Both(limits, memo=memo)
    for _ in range(data.draw(st.integers(1, 25))):
        step(both, data)
        both.check()


def test_the_histories_drawn_reach_every_state() -> None:
    seen: Counter[str] = Counter()

    @settings(backend=FRESH, phases=PHASES, max_examples=50)
    @given(limits=limits_drawn, data=st.data())
    def collect(limits: tuple[Timeouts, Timeouts], data: st.DataObject) -> None:
        both = Both(limits, memo=True)
        for _ in range(25):
            before = {owner: set(memory.living(both.now)) for owner, memory in both.memories.items()}
            seen[step(both, data)] += 1
            for owner, memory in both.memories.items():
                seen.update(flow[0] for flow in memory.living(both.now).values())
                seen["died"] += len(before[owner] - set(memory.living(both.now)))

    collect()
    states = ("opening", "open", "closing", "single", "replied", "stream", "query", "other")
    for what in (*states, "died", "NONE", "GROUP_EGRESS", "GROUP_INGRESS"):
        assert seen[what], (what, seen)


@given(capacity=st.sampled_from([16, 17, 31, 64]), data=st.data())
def test_a_full_table_refuses_new_flows_and_serves_the_ones_it_has(capacity: int, data: st.DataObject) -> None:
    limits = Timeouts(
        tcp_established=9_000, tcp_opening=9_000, tcp_closing=9_000, udp_single=9_000, udp_stream=9_000, icmp=9_000,
        other=9_000,
    )  # fmt: skip
    both = Both((limits, limits), memo=data.draw(st.booleans()), sessions=capacity)
    accepted = []
    for n in range(capacity):
        verdict, reason = both.send("udp", n, "", back=False)
        assert (verdict, reason) in ((Verdict.FORWARD, 0), (Verdict.DROP, Reason.SESSION_LIMIT))
        if reason == 0:
            accepted.append(n)
    kept = both.lab.engine.statistics()
    assert kept["sessions"] <= kept["session_limit"] == capacity
    # Each flow takes two rows, and who opens one leaves as many free as he has.
    assert capacity // 4 - 2 <= len(accepted) <= capacity // 4
    both.lab.engine.selfcheck()
    for n in data.draw(st.lists(st.sampled_from(accepted), max_size=5)):
        assert both.send("udp", n, "", back=data.draw(st.booleans())) == (Verdict.FORWARD, 0)
    # What no packet keeps alive makes room, and not a millisecond sooner.
    both.now += 9_000 - 1
    assert both.send("udp", 500, "", back=False) == (Verdict.DROP, Reason.SESSION_LIMIT)
    both.now += 9_000
    both.lab.engine.advance(both.now)
    assert both.send("udp", 501, "", back=False) == (Verdict.FORWARD, 0)
    both.lab.engine.selfcheck()
