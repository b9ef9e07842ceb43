"""Checks proven in a running lab: real packets out, and what became of each told by the engine that decided.

No verdict rests on waiting. A packet that dies is seen to die, at a rule; one that arrives is seen to arrive. Waiting
only ends what nobody decides: an instance on the way that swallows, a destination that does not answer.
"""

from __future__ import annotations

import socket
import time
from collections.abc import Sequence
from typing import TYPE_CHECKING

from dataplane.analysis.course import Course, Found, addresses_of
from dataplane.analysis.headers import read_headers
from dataplane.analysis.judge import Result, judge
from dataplane.engine import Emission, Outcome
from dataplane.model.check import Check, Resolved
from dataplane.probe import ICMP, ICMPV6, TCP, read_probe
from lab.enter import NodeView, open_sockets
from lab.node_plan import is_tap
from lab.probing import Probe, prepare
from lab.traced import TracedPorts

if TYPE_CHECKING:
    from lab.running import RunningLab

PATIENCE_S = 3.0
"""How long a probe that is on its way may show no sign of life."""
STAND_IN_S = 0.2
"""How long a program may take to answer a datagram before an answer is made in its place."""
_TOGETHER = 200
"""Probes on their way at the same time."""


def prove(lab: RunningLab, checks: Sequence[Check], *, patience_s: float = PATIENCE_S) -> list[Result]:
    """Prove checks of a running lab; names are looked up in it, and must be there."""
    resolved = [check.resolve(lab.topology) for check in checks]
    courses = follow(lab, resolved, patience_s=patience_s)
    return [judge(number, course) for number, course in enumerate(courses, start=1)]


def follow(lab: RunningLab, resolved: Sequence[Resolved], *, patience_s: float = PATIENCE_S) -> list[Course]:
    """Send probes, many at a time, and follow each to its end.

    What a security group remembers of a protocol without ports would let others through that go the other way: those
    that are not to arrive go first.
    """
    found: dict[int, Course] = {}
    order = sorted(range(len(resolved)), key=lambda index: _may_open(resolved[index]))
    with lab.traced() as ports:
        while order:
            turn = [index for index in order if _may_open(resolved[index]) == _may_open(resolved[order[0]])][:_TOGETHER]
            order = [index for index in order if index not in turn]
            probes = prepare([(resolved[index], _view(lab, resolved[index])) for index in turn])
            try:
                found |= zip(turn, _Round(lab, ports, probes, patience_s).run(), strict=True)
            finally:
                for probe in probes:
                    probe.close()
    return [found[index] for index in range(len(resolved))]


def _may_open(resolved: Resolved) -> bool:
    has_ports = resolved.check.protocol.has_ports or resolved.protocol in (ICMP, ICMPV6)
    return not has_ports and resolved.check.can is not None


def _view(lab: RunningLab, resolved: Resolved) -> NodeView | None:
    node = resolved.sender.node
    return None if is_tap(lab.plans[node].attach) else lab.runtime.view(node)


class _Round:
    """Probes that are on their way together."""

    def __init__(self, lab: RunningLab, ports: TracedPorts, probes: Sequence[Probe], patience_s: float) -> None:
        self._lab = lab
        self._ports = ports
        self._probes = probes
        self._patience_s = patience_s
        plane, owners = lab.data_plane, addresses_of(lab.topology)
        self._courses = [Course(lab.topology, plane.names, p.resolved, p.source_port, owners) for p in probes]
        self._last = [0.0] * len(probes)
        """When something was last seen of each."""
        self._arrived: dict[int, Emission] = {}
        """The last frame of each that left for a node."""
        self._stood_in: set[int] = set()

    def run(self) -> list[Course]:
        """Send them all, and move frames until every one is decided or has shown no sign of life for long enough."""
        began = time.monotonic()
        self._last = [began] * len(self._probes)
        for probe in self._probes:
            probe.send()
        while self._open():
            self._ports.move(0.02, self._see)
            self._answer_in_place()
        for probe, course in zip(self._probes, self._courses, strict=True):
            course.trouble = course.trouble or probe.error
        return self._courses

    def _open(self) -> bool:
        now = time.monotonic()
        return any(
            not course.is_decided and not probe.trouble and now - last < self._patience_s
            for course, probe, last in zip(self._courses, self._probes, self._last, strict=True)
        )

    def _see(self, port: int, frame: bytes, outcome: Outcome, left: Sequence[Emission]) -> None:
        headers = read_headers(frame)
        for index, course in enumerate(self._courses):
            if not course.is_decided and course.see(port, frame, outcome, left, headers):
                self._last[index] = time.monotonic()
                if left and headers.own not in course.answers:
                    self._arrived[index] = left[-1]

    def _answer_in_place(self) -> None:
        """Answer datagrams that no program has answered: what is asked is whether an answer would come back."""
        now = time.monotonic()
        waiting = [
            index
            for index, course in enumerate(self._courses)
            if course.found is Found.ARRIVED
            and course.resolved.protocol not in (TCP, ICMP, ICMPV6)
            and now - self._last[index] > STAND_IN_S
            and index not in self._stood_in
        ]
        for index in waiting:
            self._stood_in.add(index)
            self._courses[index].stand_in = self._stand_in(self._arrived[index])

    def _stand_in(self, arrived: Emission) -> bool:
        """Send the answer to a datagram from the interface that it has come to; whether that could be done."""
        plane = self._lab.data_plane
        node, _, device = plane.names[arrived.port].path.partition("/")
        plan = self._lab.plans[node]
        interface = next(each for each in plan.interfaces if each.device == device)
        [made] = open_sockets([(self._lab.runtime.view(node), [(socket.AF_PACKET, socket.SOCK_RAW, 0)])])
        if isinstance(made, OSError):
            return False
        answer = read_probe(arrived.frame).answer()
        with made:
            made.bind((interface.kernel_device, 0))
            made.send(plane.frame(arrived.port, answer))
        return True
