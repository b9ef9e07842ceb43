"""The memory of fragments against a dict: who waits, for how long, how many, and what becomes of them."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field

from hypothesis import given
from hypothesis import strategies as st
from scapy.layers.inet import IP, UDP
from scapy.layers.inet6 import IPv6, IPv6ExtHdrFragment

from dataplane.engine import DataPlane
from dataplane.load import load_topology
from dataplane.verdict import Cause, Reason, Verdict
from tests.property.test_memo import TYPES
from tests.unit.fastpath.two_hosts import TwoHosts

LIFETIME_MS = 30_000
WAITING_PER_SENDER = 64
WAITING_IN_ALL = 2048
"""Ours, as `fastpath/fragment.pyx` states them; RFC 791 (15 s at least) and RFC 8200 (60 s) leave room."""


@dataclass(frozen=True, slots=True)
class Datagram:
    """What all fragments of one datagram share."""

    version: int
    sender: str
    number: int


@dataclass(slots=True)
class Kept:
    """The twin's row."""

    started_ms: int
    known: bool = False
    waiting: list[int] = field(default_factory=list)
    """Offsets, in the order in which they came."""


def piece(datagram: Datagram, offset: int, *, more: bool) -> bytes:
    """A fragment of a UDP datagram of 8-byte units; the one at 0 holds the ports."""
    body = bytes(UDP(sport=1, dport=2, len=1024, chksum=0)) if offset == 0 else bytes([offset & 255] * 8)
    n = 1 if datagram.sender == "a" else 2
    if datagram.version == 4:
        ip = IP(src=f"10.0.{n}.10", dst=f"10.0.{3 - n}.10", id=datagram.number, flags="MF" if more else 0, frag=offset)
        ip.proto = 17
        return bytes(ip / body)
    head = IPv6(src=f"2001:db8:{n}::10", dst=f"2001:db8:{3 - n}::10")
    return bytes(head / IPv6ExtHdrFragment(nh=17, id=datagram.number, offset=offset, m=more) / body)


def offset_of(frame: bytes) -> int:
    if frame[12:14] == TYPES[4]:
        return int(IP(frame[14:]).frag)
    return int(IPv6(frame[14:])[IPv6ExtHdrFragment].offset)


class Both:
    """Two hosts that send each other fragments, and a twin of what is remembered of them."""

    def __init__(self) -> None:
        self.lab = TwoHosts()
        self.now = 1_000
        self.kept: dict[Datagram, Kept] = {}

    def waiting(self, sender: str) -> int:
        return sum(len(kept.waiting) for datagram, kept in self.kept.items() if datagram.sender == sender)

    def send(self, datagram: Datagram, offset: int) -> str:
        host = self.lab.a if datagram.sender == "a" else self.lab.b
        other = self.lab.b if datagram.sender == "a" else self.lab.a
        packet = piece(datagram, offset, more=True)
        [(verdict, reason, _, _)], emissions = self.lab.engine.process(
            [host.ether() + TYPES[datagram.version] + packet], [host.port], self.now
        )
        left = [(port, Cause(cause), offset_of(frame)) for port, frame, cause, _, _ in emissions]
        kept = self.kept.get(datagram)
        if offset == 0:
            kept = self.kept.setdefault(datagram, Kept(self.now))
            released = [(other.port, Cause.RELEASED, each) for each in kept.waiting]
            told = "first with others waiting" if kept.waiting else "first"
            kept.known, kept.waiting = True, []
            assert (verdict, reason) == (Verdict.FORWARD, 0)
            assert left == [(other.port, Cause.FORWARDED, 0), *released]
            return told
        if kept is not None and kept.known:
            assert (verdict, reason, left) == (Verdict.FORWARD, 0, [(other.port, Cause.FORWARDED, offset)])
            return "follows"
        assert left == []
        if self.waiting(datagram.sender) >= WAITING_PER_SENDER:
            assert (verdict, reason) == (Verdict.DROP, Reason.FRAGMENT_LIMIT)
            return "refused"
        assert (verdict, reason) == (Verdict.HOLD, 0)
        self.kept.setdefault(datagram, Kept(self.now)).waiting.append(offset)
        return "waits"

    def wait(self, ms: int) -> int:
        """Let time pass; returns how many fragments died of it."""
        self.now += ms
        outcomes, emissions = self.lab.engine.advance(self.now)
        old = [datagram for datagram, kept in self.kept.items() if self.now - kept.started_ms >= LIFETIME_MS]
        died = sum(len(self.kept.pop(datagram).waiting) for datagram in old)
        assert [outcome[:2] for outcome in outcomes] == [(Verdict.DROP, Reason.FRAGMENT_TIMEOUT)] * died
        assert emissions == []
        return died

    def check(self) -> None:
        total = self.waiting("a") + self.waiting("b")
        assert self.lab.engine.statistics()["fragments_waiting"] == total
        assert max(self.waiting("a"), self.waiting("b")) <= WAITING_PER_SENDER


datagrams = st.builds(
    Datagram, version=st.sampled_from([4, 6]), sender=st.sampled_from("aaab"), number=st.sampled_from([0, 1])
)


def step(both: Both, data: st.DataObject, seen: Counter[str]) -> None:
    kind = data.draw(st.sampled_from(["one", "one", "one", "many", "wait"]))
    if kind == "wait":
        ages = [kept.started_ms + LIFETIME_MS - both.now for kept in both.kept.values()]
        edges = sorted({wait for age in ages for wait in (age - 1, age, age + 1) if wait >= 0}) or [1]
        seen["died"] += both.wait(data.draw(st.sampled_from(edges)))
    elif kind == "many":
        datagram = data.draw(datagrams)
        for offset in range(2, 2 + data.draw(st.sampled_from([30, 63, 64, 65]))):
            seen[both.send(datagram, offset)] += 1
    else:
        seen[both.send(data.draw(datagrams), data.draw(st.sampled_from([0, 0, 1, 1, 8000])))] += 1


@given(data=st.data())
def test_fragments_wait_follow_and_die_as_a_dict_says(data: st.DataObject) -> None:
    both = Both()
    for _ in range(data.draw(st.integers(1, 12))):
        step(both, data, Counter())
        both.check()


def test_the_histories_drawn_fill_the_memory_and_empty_it() -> None:
    seen: Counter[str] = Counter()

    @given(data=st.data())
    def collect(data: st.DataObject) -> None:
        both = Both()
        for _ in range(12):
            step(both, data, seen)

    collect()
    for what in ("waits", "follows", "first", "first with others waiting", "refused", "died"):
        assert seen[what], (what, seen)


def test_who_has_64_waiting_gets_no_more_while_others_do() -> None:
    both = Both()
    for n in range(WAITING_PER_SENDER):
        assert both.send(Datagram(4, "a", n), 1) == "waits"
    assert both.send(Datagram(4, "a", 100), 1) == "refused"
    assert both.send(Datagram(4, "a", 0), 2) == "refused"
    assert both.send(Datagram(6, "b", 0), 1) == "waits"
    assert both.send(Datagram(4, "a", 101), 0) == "first"  # a first fragment needs no room
    assert both.send(Datagram(4, "a", 101), 1) == "follows"
    assert both.send(Datagram(4, "a", 5), 0) == "first with others waiting"
    assert both.send(Datagram(4, "a", 100), 1) == "waits"  # one place is free again
    assert both.send(Datagram(4, "a", 100), 2) == "refused"
    assert both.wait(LIFETIME_MS - 1) == 0
    assert both.wait(1) == WAITING_PER_SENDER + 1
    assert both.send(Datagram(4, "a", 100), 2) == "waits"


def test_all_senders_together_have_2048_waiting_and_all_of_them_arrive() -> None:
    """Each within its own bound; the memory is bounded as a whole too."""
    senders = WAITING_IN_ALL // WAITING_PER_SENDER + 2
    hosts = "\n".join(f"    h{n}: {{address: 198.51.100.{n + 1}}}" for n in range(senders))
    lab = f"version: 1\nname: many\ninternet:\n  hosts:\n    to: {{address: 192.0.2.1}}\n{hosts}\n"
    plane = DataPlane(load_topology(lab, file_name="many.yaml"))

    def send(n: int, offset: int) -> tuple[int, int, int]:
        port = plane.port(f"h{n}/eth0")
        interface = plane.interface(port)
        body = bytes(UDP(sport=1, dport=2, len=1024, chksum=0)) if offset == 0 else bytes(8)
        ip = IP(src=f"198.51.100.{n + 1}", dst="192.0.2.1", id=7, flags="MF", frag=offset, proto=17)
        frame = interface.router_mac + interface.mac + TYPES[4] + bytes(ip / body)
        [outcome], emissions = plane.process([frame], [port], 1_000)
        return outcome.verdict, outcome.reason, len(emissions)

    told = [send(n, offset) for n in range(senders) for offset in range(1, WAITING_PER_SENDER + 1)]
    assert told[:WAITING_IN_ALL] == [(Verdict.HOLD, 0, 0)] * WAITING_IN_ALL
    assert set(told[WAITING_IN_ALL:]) == {(Verdict.DROP, Reason.FRAGMENT_LIMIT, 0)}
    assert plane.engine.statistics()["fragments_waiting"] == WAITING_IN_ALL
    full = senders - 2
    assert [send(n, 0) for n in range(full)] == [(Verdict.FORWARD, 0, WAITING_PER_SENDER + 1)] * full
    assert plane.engine.statistics()["fragments_waiting"] == 0
