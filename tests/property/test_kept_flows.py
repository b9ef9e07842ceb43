"""What is remembered of flows stays when a lab changes, but for those that met what has changed: nothing shows of that.

Three data planes get the same packets and the same changes. One keeps what a change leaves alone, one forgets all flow
entries with each change, one never has any. They must say the same, packet by packet: verdicts, traces, frames,
sessions, counters, what gateways count and what flow logs see.
"""

from __future__ import annotations

import copy
from collections import Counter
from collections.abc import Callable, Iterator
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st
from scapy.layers.inet import IP, UDP
from scapy.layers.inet import TCP as ScapyTCP

from dataplane.engine import DataPlane
from dataplane.errors import ConfigurationError
from dataplane.names import Names
from dataplane.observe.records import Window
from dataplane.topology import Topology
from tests.property import balanced_packets, open_lab
from tests.property.geneve_frames import bounce, is_geneve
from tests.property.lab_changes import changed
from tests.property.lab_packets import Draw, opening
from tests.property.quick_load import topology_of
from tests.property.test_memo import TYPES, swap_ends
from tests.property.wide_labs import wide_labs

FORMS = ("keeping", "forgetting", "plain")
ROUND_TRIPS = 6
"""Packets in GENEVE that come back by themselves, of one packet."""
TCP, ACK = 6, 0x10
IN_PARTS = ("group-rule", "acl", "acl-rule", "route", "route-table", "source-check", "health", "target")
"""Changes that leave much alone, and so are tried more often."""
Spoken = tuple[int, bytes]
"""A port, and a frame that somebody sends through it."""
Change = Callable[[Draw, dict[str, Any]], tuple[str, dict[str, Any]]]
"""Draws another lab: what was changed, and the lab after it."""


class Sides:
    """The three, and what was said so far."""

    def __init__(self, topology: Topology) -> None:
        self.names = Names()
        self.planes = {
            form: DataPlane(topology, names=self.names, memo=form != "plain", sessions=512, flows=256) for form in FORMS
        }
        for plane in self.planes.values():
            plane.record_flows(flows=2048)
        self.windows: dict[str, dict[int, Window]] = {form: {} for form in FORMS}
        self.now = 1_000
        self.spoken: list[Spoken] = []

    def change(self, topology: Topology) -> None:
        self.planes["forgetting"].engine.forget()
        for plane in self.planes.values():
            plane.apply(topology)

    def send(self, port: int, frame: bytes, times: int = 1, *, traced: bool = False) -> list[Spoken]:
        """What left, after all three have been given a frame."""
        found = {f: p.process([frame] * times, [port] * times, self.now, traced=traced) for f, p in self.planes.items()}
        assert found["keeping"] == found["forgetting"] == found["plain"]
        return [(each.port, each.frame) for each in found["plain"][1]]

    def say(self, port: int, frame: bytes) -> list[Spoken]:
        """The same with what appliances send back; what left last. It can be said again."""
        self.spoken.append((port, frame))
        left = self.send(port, frame, 2)
        for _ in range(ROUND_TRIPS):
            if not left or not is_geneve(left[-1][1]):
                break
            port, frame = left[-1]
            if (head := self.head(port)) is None:
                break
            self.spoken.append((port, head + bounce(frame)))
            left = self.send(*self.spoken[-1], 2)
        return left

    def head(self, port: int) -> bytes | None:
        """Destination and source of what somebody sends to his router; None: he is gone."""
        try:
            interface = self.planes["plain"].interface(port)
        except KeyError:
            return None
        return interface.router_mac + interface.mac

    def converse(self, port: int, packet: bytes) -> None:
        """A packet (behind its EtherType), the answer, and both again, as what follows a handshake."""
        head = self.head(port)
        assert head is not None
        left = self.say(port, head + packet)
        if not left or (back := self.head(left[-1][0])) is None:
            return
        there, answer = left[-1][0], back + swap_ends(left[-1][1])
        self.say(there, answer)
        for port_, frame in ((port, head + packet), (there, answer), (port, head + packet)):
            self.say(port_, acknowledging(frame))

    def again(self, traced: bool) -> None:
        """All that was said is said again."""
        for port, frame in self.spoken:
            if traced:
                self.send(port, frame, traced=True)
            self.send(port, frame, 2)

    def compare(self) -> None:
        seen: list[Any] = []
        for form, plane in self.planes.items():
            plane.engine.selfcheck()
            for number, window in plane.take_flow_records(unfinished=True)[1].items():
                self.windows[form].setdefault(number, Window()).add(window)
            sessions = sorted(map(repr, plane.engine.sessions()))
            seen.append((sessions, plane.engine.counters(), plane.engine.gateways(), self.windows[form]))
        assert seen[0] == seen[1] == seen[2]

    @property
    def hits(self) -> int:
        """More hits than where all is forgotten: what changes have left alone."""
        kept, forgotten = (self.planes[form].engine.statistics()["flow_hits"] for form in FORMS[:2])
        return kept - forgotten


def acknowledging(frame: bytes) -> bytes:
    """The same; of TCP a packet in the middle of the connection."""
    at = 34 if frame[12:14] == TYPES[4] else 54
    if frame[23 if at == 34 else 20] != TCP:
        return frame
    return frame[: at + 13] + bytes([ACK]) + frame[at + 14 :]


def begins(draw: Draw, lab: dict[str, Any]) -> tuple[str, int, bytes]:
    balancers, services = "guard" in lab["vpcs"], "aws_services" in lab
    if (balancers or services) and draw(st.booleans()):
        return balanced_packets.opening(draw, balancers=balancers, services=services)
    return opening(draw)


def play(draw: Draw, lab: dict[str, Any], change: Change, kinds: Counter[str]) -> None:
    """Packets, and changes among them; `kinds` counts changes after which entries were kept."""
    sides = Sides(topology_of(lab))
    earlier = [lab]
    for node, packet in conversations(draw, lab):
        try:
            port = sides.planes["plain"].port(node)
        except KeyError:
            continue
        sides.converse(port, packet)
    for _ in range(draw(st.integers(1, 5))):
        kind = "back"
        if draw(st.integers(0, 5)) == 0:
            lab = draw(st.sampled_from(earlier))
        else:
            kind, lab = change(draw, lab)
        try:
            sides.change(topology_of(lab))
        except ConfigurationError:
            lab = earlier[-1]
        earlier.append(lab)
        if draw(st.integers(0, 3)) == 0:
            continue  # the next change comes before anybody says anything
        sides.now += draw(st.sampled_from([1, 1, 1, 500, 5_000, 29_999]))
        before = sides.hits
        sides.again(draw(st.integers(0, 3)) == 0)
        sides.compare()
        kinds[kind] += sides.hits > before


def conversations(draw: Draw, lab: dict[str, Any]) -> Iterator[tuple[str, bytes]]:
    """First packets, behind their EtherTypes, and the interfaces that send them."""
    if lab["vpcs"].keys() == open_lab.VPCS:
        for source, to, port, protocol in draw(st.lists(st.sampled_from(open_lab.FLOWS), min_size=10, max_size=20)):
            upper = UDP(sport=40000, dport=port) if protocol == "udp" else ScapyTCP(sport=40000, dport=port, flags="S")
            yield f"{source}/eth0", TYPES[4] + bytes(IP(src=open_lab.ADDRESSES[source], dst=to) / upper)
        return
    for _ in range(draw(st.integers(2, 8))):
        node, version, packet = begins(draw, lab)
        yield node, TYPES[version] + packet


def in_wide_lab(draw: Draw, lab: dict[str, Any]) -> tuple[str, dict[str, Any]]:
    return changed(draw, lab, IN_PARTS if draw(st.integers(0, 3)) else ())


def in_open_lab(draw: Draw, lab: dict[str, Any]) -> tuple[str, dict[str, Any]]:
    kind = draw(st.sampled_from([*open_lab.OFTEN, *sorted(open_lab.CHANGES)]))
    other = copy.deepcopy(lab)
    open_lab.CHANGES[kind](draw, other)
    return kind, other


@given(lab=wide_labs(), data=st.data())
def test_nothing_shows_of_what_stays_in_labs_of_any_shape(lab: dict[str, Any], data: st.DataObject) -> None:
    play(data.draw, lab, in_wide_lab, Counter())


@settings(max_examples=2 * settings().max_examples)
@given(data=st.data())
def test_nothing_shows_of_what_stays_where_nearly_all_passes(data: st.DataObject) -> None:
    play(data.draw, open_lab.open_lab(), in_open_lab, Counter())


def test_the_comparison_is_not_vacuous() -> None:
    """Entries outlive changes of many kinds."""
    kinds: Counter[str] = Counter()

    @settings(max_examples=150, database=None, derandomize=True, deadline=None)
    @given(data=st.data())
    def collect(data: st.DataObject) -> None:
        play(data.draw, open_lab.open_lab(), in_open_lab, kinds)

    collect()
    for kind in set(open_lab.OFTEN):
        assert kinds[kind], f"{kind}: {kinds}"
