"""Checks proven in a running lab: real packets out, and what became of each told by the engine that decided.

No verdict rests on waiting. A packet that dies is seen to die, at a rule; one that arrives is seen to arrive. Waiting
only ends what nobody decides: an instance on the way that swallows, a destination that does not answer.
"""

from __future__ import annotations

import socket
import time
from collections.abc import Sequence
from itertools import count
from typing import TYPE_CHECKING

from dataplane.analysis.classes import addresses_of_sender
from dataplane.analysis.course import Course, Found
from dataplane.analysis.headers import read_headers
from dataplane.analysis.judge import Result, judge
from dataplane.engine import Emission, Outcome
from dataplane.errors import LabError
from dataplane.model._probe_ends import senders_of
from dataplane.model.check import Check, Resolved
from dataplane.probe import ICMP, ICMPV6, TCP, read_probe
from lab.enter import NodeView, open_sockets
from lab.node_plan import is_tap
from lab.probing import Probe, prepare
from lab.sight import no_such_node
from lab.traced import TracedPorts

if TYPE_CHECKING:
    from dataplane.topology import Topology
    from lab.running import RunningLab

PATIENCE_S = 3.0
"""How long a probe that is on its way may show no new sign of life; to be sent again is none."""
STAND_IN_S = 0.5
"""How long a program may take to answer a datagram before an answer is made in its place, where patience allows it."""
_GLANCE_S = 0.1
"""As long as one look at the ports takes, moving what is there included; what takes longer was spent elsewhere."""
_PACKETS = [(int(socket.AF_PACKET), int(socket.SOCK_RAW), 0)]
TOGETHER = 200
"""Probes on their way at the same time."""
APART_MS = 10 * 86_400_000
"""Lab time after which nothing is remembered of a flow (the longest timeout is five days)."""


def prove(
    lab: RunningLab, checks: Sequence[Check], *, patience_s: float = PATIENCE_S, apart: bool = False
) -> list[Result]:
    """Prove checks of a running lab; names are looked up in it, and must be there. Arguments are those of `follow`."""
    resolved = [check.resolve(lab.topology) for check in checks]
    courses = follow(lab, resolved, patience_s=patience_s, apart=apart)
    return [judge(number, course) for number, course in enumerate(courses, start=1)]


def follow(
    lab: RunningLab, resolved: Sequence[Resolved], *, patience_s: float = PATIENCE_S, apart: bool = False
) -> list[Course]:
    """Send probes, many at a time, and follow each to its end.

    What a security group remembers of a protocol without ports lets through what goes the other way. So of these, the
    probes that are not to arrive go first; with `apart`, no two of a node are on their way together, and each goes as
    if it were the first: the lab's clock moves on by days in between.

    Raises:
        LabError: the lab is going down.
    """
    found: dict[int, Course] = {}
    with lab.traced() as ports:
        for number, turn in enumerate(_turns(lab.topology, resolved, apart=apart)):
            if apart and number:
                lab.advance_clock(APART_MS)
            probes = prepare([(resolved[index], _view(lab, resolved[index])) for index in turn])
            try:
                found |= zip(turn, _Round(lab, ports, probes, patience_s).run(), strict=True)
            finally:
                for probe in probes:
                    probe.close()
    return [found[index] for index in range(len(resolved))]


def _turns(topology: Topology, resolved: Sequence[Resolved], *, apart: bool) -> list[list[int]]:
    """Which probes are on their way together."""
    owners = [(set(addresses_of_sender(topology, each)), each.node) for each in senders_of(topology)]
    busy: dict[tuple[int, int], set[str]] = {}
    places: dict[int, list[int]] = {}
    for index, each in enumerate(resolved):
        place = 0
        if not has_ports(each) and not apart:
            place = int(each.check.can is not None)
        elif not has_ports(each):
            nodes = {each.sender.node, *(node for addresses, node in owners if each.destination in addresses)}
            place = next(n for n in count(1) if not nodes & busy.get((n, each.protocol), set()))
            busy.setdefault((place, each.protocol), set()).update(nodes)
        places.setdefault(place, []).append(index)
    return [
        those[start : start + TOGETHER]
        for _, those in sorted(places.items())
        for start in range(0, len(those), TOGETHER)
    ]


def has_ports(resolved: Resolved) -> bool:
    """Whether a flow of this protocol can be told from another between the same addresses."""
    return resolved.check.protocol.has_ports or resolved.protocol in (ICMP, ICMPV6)


def _view(lab: RunningLab, resolved: Resolved) -> NodeView | str:
    """How to enter the node that sends, or why nothing can be sent from there."""
    node = resolved.sender.node
    if node not in lab.plans:
        return no_such_node(lab, node)
    if is_tap(lab.plans[node].attach):
        return "a TAP device: what is behind it sends, not we"
    return lab.runtime.view(node)


class _Round:
    """Probes that are on their way together."""

    def __init__(self, lab: RunningLab, ports: TracedPorts, probes: Sequence[Probe], patience_s: float) -> None:
        self._lab = lab
        self._ports = ports
        self._probes = probes
        self._patience_s = patience_s
        plane, owners = lab.data_plane, lab.topology.own_addresses
        self._courses = [Course(lab.topology, plane.names, p.resolved, p.source_port, owners) for p in probes]
        self._sent: set[int] = set()
        """Those whose SYN has been let out."""
        self._connecting = {
            (plane.port(course.resolved.sender.path), course.sent_as): index
            for index, course in enumerate(self._courses)
            if course.resolved.protocol == TCP
        }
        self._now = 0.0
        """Seconds that frames were looked for: those in which this process got no processor are nobody's silence."""
        self._looked = time.monotonic()
        self._last = [0.0] * len(probes)
        """When something new was last seen of each."""
        self._arrived: dict[int, Emission] = {}
        """The last frame of each that left for a node."""
        self._unanswered: set[int] = set()
        """Those that a kernel has sent an ICMP error about: no program is there, or no port."""
        self._stood_in: set[int] = set()

    def run(self) -> list[Course]:
        """Send them all, and move frames until every one is decided or has shown no sign of life for long enough."""
        for probe in self._probes:
            probe.send()
        while self._open():
            self._ports.move(0.02, self._see, self._is_sent_again)
            self._answer_in_place()
            before, self._looked = self._looked, time.monotonic()
            self._now += min(self._looked - before, _GLANCE_S)
        for probe, course in zip(self._probes, self._courses, strict=True):
            course.trouble = course.trouble or self._nobody_there(course) or probe.error
        return self._courses

    def _open(self) -> bool:
        if self._lab.is_ending:
            raise LabError(f"lab {self._lab.name} is going down")
        return any(
            not course.is_decided and not probe.trouble and self._now - last < self._patience_s
            for course, probe, last in zip(self._courses, self._probes, self._last, strict=True)
        )

    def _is_sent_again(self, port: int, frame: bytes) -> bool:
        """Whether a kernel sends its SYN again while the first is on its way: a check is one packet.

        A second one, which overtakes the answer to the first at a load balancer, would begin another flow there.
        """
        flow = read_headers(frame).flow
        index = None if flow is None else self._connecting.get((port, flow))
        if index is None or self._courses[index].is_decided:
            return False
        was_sent = index in self._sent
        self._sent.add(index)
        return was_sent

    def _see(self, port: int, frame: bytes, outcome: Outcome, left: Sequence[Emission]) -> None:
        headers = read_headers(frame)
        for index, course in enumerate(self._courses):
            if course.is_decided:
                continue
            known = len(course.legs)
            if course.see(port, frame, outcome, left, headers):
                if len(course.legs) > known:
                    self._last[index] = self._now
                if left and not course.is_of_answer(headers):
                    self._arrived[index] = left[-1]
            elif headers.about is not None and course.is_probe(headers.about):
                self._unanswered.add(index)

    def _answer_in_place(self) -> None:
        """Answer datagrams that no program has answered: what is asked is whether an answer would come back."""
        stand_in_s = min(STAND_IN_S, self._patience_s / 2)
        waiting = [
            index
            for index, course in enumerate(self._courses)
            if course.found is Found.ARRIVED
            and course.resolved.protocol not in (TCP, ICMP, ICMPV6)
            and (index in self._unanswered or self._now - self._last[index] > stand_in_s)
            and index not in self._stood_in
        ]
        self._stood_in.update(waiting)
        places = {index: place for index in waiting if (place := self._place(self._arrived[index])) is not None}
        views = [(self._lab.runtime.view(node), _PACKETS) for node, _ in places.values()]
        for (index, (_, device)), made in zip(places.items(), open_sockets(views), strict=True):
            if isinstance(made, OSError):
                continue
            arrived = self._arrived[index]
            with made:
                made.bind((device, 0))
                made.send(self._lab.data_plane.frame(arrived.port, read_probe(arrived.frame).answer()))
            self._courses[index].stand_in = True

    def _place(self, arrived: Emission) -> tuple[str, str] | None:
        """The node that a frame has come to, and what its kernel calls the device; None when it is not there."""
        node, _, device = self._lab.data_plane.names[arrived.port].path.partition("/")
        if node not in self._lab.plans:
            return None
        interface = next(each for each in self._lab.plans[node].interfaces if each.device == device)
        return node, interface.kernel_device

    def _nobody_there(self, course: Course) -> str:
        """Why a packet that has left for a node is not answered or sent on, if that node is not there."""
        receiver = course.legs[-1].receiver if course.legs else None
        node = "" if receiver is None else receiver.path.partition("/")[0]
        return no_such_node(self._lab, node) if node in self._lab.missing else ""
