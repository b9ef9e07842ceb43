"""Probes on their way together, followed frame by frame: socket pairs stand in for devices, a test for kernels."""

from __future__ import annotations

import time
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any
from unittest.mock import Mock

import pytest

from dataplane.analysis.course import Course, Found
from dataplane.analysis.judge import judge
from dataplane.model._probe_ends import Ends
from dataplane.model.check import Check, ProbeProtocol, Resolved
from dataplane.probe import Probe, read_probe
from lab import checking
from lab.planning import plan_nodes
from tests.unit.lab.test_traced import NO_OFFLOAD, Wires

PATIENCE_S = 0.3


class Sent:
    """A probe of a's kernel, which may send it more than once."""

    trouble = error = ""
    source_port = 40000

    def __init__(self, wires: Wires, resolved: Resolved, times: int) -> None:
        self.resolved, self._wires, self._times = resolved, wires, times

    def send(self) -> None:
        r = self.resolved
        ports: dict[str, Any] = {"source_port": self.source_port, "destination_port": r.port}
        probe = Probe(source=r.source, destination=r.destination, protocol=r.protocol, **ports)
        frame = self._wires.plane.frame(self._wires.plane.port("a/eth0"), probe)
        for _ in range(self._times):
            self._wires.ends["a"].send(NO_OFFLOAD + frame)


class Standing:
    """A packet socket in a node: what it sends comes from the node's device."""

    def __init__(self, wires: Wires, *, swallows: bool = False) -> None:
        self._wires, self._swallows = wires, swallows
        self.bound: list[tuple[str, int]] = []

    def __enter__(self) -> Standing:
        return self

    def __exit__(self, *_: object) -> None: ...

    def bind(self, end: tuple[str, int]) -> None:
        self.bound.append(end)

    def send(self, frame: bytes) -> None:
        if not self._swallows:
            self._wires.ends["b"].send(NO_OFFLOAD + frame)


@pytest.fixture
def wires(monkeypatch: pytest.MonkeyPatch) -> Iterator[Wires]:
    monkeypatch.setattr(checking, "STAND_IN_S", 0.05)
    made = Wires({"protocol": "udp", "ports": 53}, {"protocol": "tcp", "ports": 80})
    yield made
    made.close()


def follow(wires: Wires, protocol: str, port: int, *, times: int = 1, missing: str = "") -> Course:
    """Follow a probe from a to b; one of the two may be missing."""
    plane = wires.plane
    plans = {plan.name: plan for plan in plan_nodes(plane.topology, plane.names) if plan.name != missing}
    facts = {"data_plane": plane, "topology": plane.topology, "plans": plans, "missing": {missing} - {""}}
    lab: Any = SimpleNamespace(name="fake", is_ending=False, runtime=Mock(), **facts)
    check = Check(can=Ends.parse("a -> b"), protocol=ProbeProtocol.parse(protocol), port=port)
    probe: Any = Sent(wires, check.resolve(plane.topology), times)
    [course] = checking._Round(lab, wires.ports, [probe], PATIENCE_S).run()
    return course


def arrived(wires: Wires) -> list[Probe]:
    """What has come to b."""
    line, found = wires.ends["b"], []
    line.setblocking(False)
    try:
        while True:
            found.append(read_probe(line.recv(2000)[len(NO_OFFLOAD) :]))
    except BlockingIOError:
        return found


def test_what_a_kernel_sends_again_while_the_first_is_on_its_way_gets_lost(wires: Wires) -> None:
    """A check is one packet; a second SYN would begin another flow at a load balancer."""
    assert follow(wires, "tcp", 80, times=3).found is Found.ARRIVED
    assert [each.destination_port for each in arrived(wires)] == [80]


def test_a_datagram_that_no_program_answers_is_answered_in_its_place(
    wires: Wires, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is asked is whether an answer would come back; that nobody has given one is told."""
    standing = Standing(wires)
    monkeypatch.setattr(checking, "open_sockets", lambda views: [standing] * len(views))
    course = follow(wires, "udp", 53)
    assert (course.found, course.stand_in, standing.bound) == (Found.ANSWERED, True, [("eth0", 0)])
    assert judge(1, course).why == "answered, in place of a program that did not"


def test_an_answer_that_gets_lost_is_not_given_again(wires: Wires, monkeypatch: pytest.MonkeyPatch) -> None:
    standing = Standing(wires, swallows=True)
    monkeypatch.setattr(checking, "open_sockets", lambda views: [standing] * len(views))
    assert follow(wires, "udp", 53).found is Found.ARRIVED
    assert standing.bound == [("eth0", 0)]


def test_a_probe_has_all_the_time_that_is_asked_for(wires: Wires) -> None:
    began = time.monotonic()
    assert follow(wires, "tcp", 80).found is Found.ARRIVED
    assert time.monotonic() - began >= PATIENCE_S


@pytest.mark.parametrize("protocol", ["tcp", "udp"])
def test_who_answers_without_a_program_of_his_own_is_not_answered_for(
    wires: Wires, monkeypatch: pytest.MonkeyPatch, protocol: str
) -> None:
    """TCP is answered by kernels, or by nobody; and where no socket can be made nobody answers in its place."""
    monkeypatch.setattr(checking, "open_sockets", lambda views: [OSError(1, "Operation not permitted")] * len(views))
    course = follow(wires, protocol, 80 if protocol == "tcp" else 53)
    assert (course.found, course.stand_in) == (Found.ARRIVED, False)


def test_that_the_one_it_was_for_is_not_there_is_told(wires: Wires, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(checking, "open_sockets", lambda views: [] if not views else pytest.fail("nobody is there"))
    for protocol, port in (("tcp", 80), ("udp", 53)):
        course = follow(wires, protocol, port, missing="b")
        assert course.found is Found.ARRIVED
        assert course.trouble == "node b could not be made when lab fake was brought back; apply its file again"


def test_a_reset_is_an_answer_though_this_process_has_waited_for_its_processor(wires: Wires) -> None:
    """Nobody listens, and the way is open: RFC 9293, section 3.10.7.1, answers a SYN to a closed port with a reset.

    Longer than the probe may show no sign of life: that was no silence of its own.
    """
    answered: list[Probe] = []
    move = wires.ports.move

    def with_kernel(timeout_s: float, *rest: Any) -> bool:
        came = move(timeout_s, *rest)
        if not answered:
            time.sleep(PATIENCE_S + 0.2)
        for probe in arrived(wires):
            answered.append(probe)
            frame = bytearray(wires.plane.frame(wires.plane.port("b/eth0"), probe.answer()))
            frame[47] = 0x14  # RST, ACK
            wires.ends["b"].send(NO_OFFLOAD + bytes(frame))
        return came

    wires.ports.move = with_kernel  # type: ignore[assignment]
    course = follow(wires, "tcp", 80)
    assert (course.found, course.refused, len(answered)) == (Found.ANSWERED, True, 1)
