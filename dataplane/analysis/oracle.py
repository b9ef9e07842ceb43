"""Checks decided by the reference engine: no lab, no root, no packet that leaves this process.

What programs do is taken for granted: the destination answers, a target of a load balancer sends back what it gets,
and an instance that carries what is not its own (source/destination check off) sends it on by the same interface.
Targets are healthy.
"""

from __future__ import annotations

from collections import deque
from ipaddress import ip_address

from dataplane.analysis.course import Course, is_tunnelled
from dataplane.analysis.headers import read_headers
from dataplane.analysis.passing import back_from_target, sent_on
from dataplane.model.check import Resolved
from dataplane.probe import TRACE_SOURCE_PORT, Probe, read_probe
from dataplane.reference import Emission, ReferencePlane
from dataplane.topology import Topology
from dataplane.verdict import Cause

LONGEST_WAY = 32
"""Frames after which a probe is taken to go in circles."""
_APART_MS = 10 * 86_400_000
"""Lab time between two probes: nothing is remembered of the one before (the longest timeout is five days)."""
_ITSELF = (Cause.FORWARDED, Cause.FRAGMENT, Cause.RELEASED)


class Oracle:
    """Decides probes in one topology, each as if nothing had been sent before."""

    def __init__(self, topology: Topology) -> None:
        self.topology = topology
        self._plane = ReferencePlane(topology)
        self._owners = topology.own_addresses
        self._now_ms = 0

    def follow(self, resolved: Resolved, source_port: int = TRACE_SOURCE_PORT) -> Course:
        """Send a probe and what comes of it until nothing more does."""
        plane = self._plane
        self._now_ms += _APART_MS
        plane.advance(self._now_ms)
        course = Course(self.topology, plane.names, resolved, source_port, self._owners)
        start = plane.port(resolved.sender.path)
        probe = Probe(
            source=resolved.source,
            destination=resolved.destination,
            protocol=resolved.protocol,
            source_port=source_port,
            destination_port=resolved.port,
            payload=bytes(resolved.payload_bytes or 0),
        )
        first = probe.frame(plane.interface(start).mac, plane.next_mac(start, resolved.destination))
        waiting = deque([(start, first)])
        for _ in range(LONGEST_WAY):
            if not waiting:
                break
            port, frame = waiting.popleft()
            outcomes, left = plane.process([frame], [port], self._now_ms, traced=True)
            headers = read_headers(frame)
            if not course.see(port, frame, outcomes[0], left, headers):
                continue
            for each in left:
                if each.cause in _ITSELF:
                    inside, is_answer = is_tunnelled(outcomes[0]), course.is_of_answer(headers)
                    waiting += self._come_of(course, each, inside=inside, is_answer=is_answer)
        return course

    def _come_of(self, course: Course, arrived: Emission, *, inside: bool, is_answer: bool) -> list[tuple[int, bytes]]:
        """What whoever got a frame sends because of it."""
        plane, port = self._plane, arrived.port
        flow = read_headers(arrived.frame).flow
        if flow is None:
            return []
        path = plane.names[port].path
        if inside:
            return [(port, back_from_target(plane, port, arrived.frame))]
        destination = ip_address(flow.destination)
        if destination in self._owners.get(path, ()):
            if is_answer:
                return []
            answer = read_probe(arrived.frame).answer()
            return [(port, answer.frame(plane.interface(port).mac, plane.next_mac(port, answer.destination)))]
        frame = sent_on(plane, port, arrived.frame, destination)
        if frame is None:
            return []
        node = path.partition("/")[0]
        if node not in course.assumed:
            course.assumed.append(node)
        return [(port, frame)]
