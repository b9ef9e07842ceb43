"""Frames moved by hand: socket pairs stand in for TAP devices (both carry one frame per read and write)."""

from __future__ import annotations

import errno
import socket
import struct
from collections.abc import Iterator, Sequence
from ipaddress import IPv4Address
from typing import Any
from unittest.mock import Mock

import pytest

from dataplane.engine import DataPlane, Emission, Outcome
from dataplane.probe import ICMP, TCP, Probe
from dataplane.verdict import Reason, Verdict
from lab.traced import ROUND, TracedPorts
from tests.unit.model.building import instance, topology, vpc

NO_OFFLOAD = bytes(12)


class Wires:
    """Instances a and b, each with a wire whose other end is a test's."""

    def __init__(self, *rules: dict[str, Any]) -> None:
        """What everybody may send to them; pings, unless it is said."""
        wanted = rules or ({"protocol": "icmp"},)
        groups = {"open": {"ingress": [{**rule, "source": "0.0.0.0/0"} for rule in wanted]}}
        declared = topology(
            vpcs={"shop": vpc(security_groups=groups)},
            instances={
                name: instance(private_ip=f"10.0.1.1{n}", security_groups=["open"]) for n, name in enumerate("ab")
            },
        )
        self.plane = DataPlane(declared)
        self.ends: dict[str, socket.socket] = {}
        self._others = []
        descriptors = {}
        for name in "ab":
            ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
            theirs.setblocking(False)
            ours.settimeout(20)
            self.ends[name] = ours
            self._others.append(theirs)
            descriptors[self.plane.port(f"{name}/eth0")] = theirs.fileno()
        self.ports = TracedPorts(self.plane, lambda: 1000, descriptors)
        self.told: list[tuple[int, bytes, Outcome, Sequence[Emission]]] = []

    def frame(self, protocol: int = ICMP, identifier: int = 7) -> bytes:
        port = self.plane.port("a/eth0")
        a, b = (self.plane.interface(self.plane.port(f"{name}/eth0")).address4 for name in "ab")
        assert a is not None
        assert b is not None
        return self.plane.frame(port, Probe(source=a, destination=b, protocol=protocol, source_port=identifier))

    def move(self) -> bool:
        return self.ports.move(0.01, lambda *each: self.told.append(each))

    def close(self) -> None:
        self.ports.close()
        for each in (*self.ends.values(), *self._others):
            each.close()


@pytest.fixture
def wires() -> Iterator[Wires]:
    made = Wires()
    yield made
    made.close()


def test_a_frame_crosses_and_is_told_of(wires: Wires) -> None:
    frame = wires.frame()
    wires.ends["a"].send(NO_OFFLOAD + frame)
    assert wires.move()
    assert wires.ends["b"].recv(2000)[12 + 14 :] == frame[14:]
    [(port, seen, outcome, left)] = wires.told
    assert (port, seen, outcome.verdict) == (wires.plane.port("a/eth0"), frame, Verdict.FORWARD)
    assert [each.port for each in left] == [wires.plane.port("b/eth0")]
    assert [wires.plane.names[rule].path for _, action, rule in outcome.trace if action == "track"] == [
        "shop/open egress all to 0.0.0.0/0",
        "shop/open ingress icmp from 0.0.0.0/0",
    ]


def test_segments_that_are_left_to_be_cut_are_left_so() -> None:
    """virtio_net.h: flags 1 (the checksum is only begun), type 1 (TCPv4), header bytes, segment bytes, where it is."""
    wires = Wires({"protocol": "tcp", "ports": 80})
    offload = struct.pack("<BBHHHHH", 1, 1, 54, 1400, 34, 16, 0)
    ends: dict[str, Any] = {"source": IPv4Address("10.0.1.10"), "destination": IPv4Address("10.0.1.11")}
    segments = Probe(protocol=TCP, source_port=40000, destination_port=80, payload=bytes(20_000), **ends)
    wires.ends["a"].send(offload + wires.plane.frame(wires.plane.port("a/eth0"), segments))
    wires.move()
    arrived = wires.ends["b"].recv(30_000)
    assert len(arrived) == 12 + 54 + 20_000, "more than a link carries at once"
    assert arrived[:6] == offload[:6]
    wires.close()


def test_a_frame_that_dies_is_told_of_and_counted(wires: Wires) -> None:
    wires.ends["a"].send(NO_OFFLOAD + wires.frame(protocol=50))
    wires.move()
    [(port, _, outcome, left)] = wires.told
    assert (outcome.verdict, outcome.reason, left) == (Verdict.DROP, Reason.GROUP_INGRESS, [])
    assert wires.plane.engine.counters()[port]["reasons"] == {Reason.GROUP_INGRESS: 1}


def test_each_frame_has_what_left_because_of_it(wires: Wires) -> None:
    """Several at once: no more than a round of them, and nobody is told of what left for another."""
    for identifier in range(ROUND + 1):
        wires.ends["a"].send(NO_OFFLOAD + wires.frame(identifier=identifier))
    wires.move()
    assert len(wires.told) == ROUND
    wires.move()
    assert len(wires.told) == ROUND + 1
    for _, frame, _, left in wires.told:
        assert [each.frame[14:] for each in left] == [frame[14:]]


def test_a_receiver_that_does_not_read_holds_nobody_up(wires: Wires) -> None:
    sent = 0
    while sent < 3000:
        for _ in range(ROUND):
            wires.ends["a"].send(NO_OFFLOAD + wires.frame())
            sent += 1
        assert wires.move()
    assert len(wires.told) == sent


def test_what_is_no_frame_is_passed_over_and_nothing_is_waited_for_in_vain(wires: Wires) -> None:
    wires.ends["a"].send(b"short")
    wires.move()
    assert wires.told == []
    assert not wires.move()
    wires.ends["b"].close()
    wires.ends["a"].send(NO_OFFLOAD + wires.frame())
    wires.move()
    assert len(wires.told) == 1, "the receiver is gone, the sender is not"


@pytest.mark.parametrize("error", [None, errno.EBADFD])
def test_a_device_that_is_gone_is_not_looked_at_any_more(
    wires: Wires, monkeypatch: pytest.MonkeyPatch, error: int | None
) -> None:
    """It would be ready for ever, and time would never pass. One that is deleted says EBADFD (drivers/net/tun.c)."""
    wires.ends["a"].close()
    if error is not None:
        monkeypatch.setattr("os.read", Mock(side_effect=OSError(error, "File descriptor in bad state")))
    wires.move()
    assert not wires.move()
    assert wires.told == []


def test_what_is_said_to_be_lost_is_as_if_it_had_not_been_sent(wires: Wires) -> None:
    for identifier in (1, 2):
        wires.ends["a"].send(NO_OFFLOAD + wires.frame(identifier=identifier))
    asked: list[tuple[int, bytes]] = []

    def lost(port: int, frame: bytes) -> bool:
        asked.append((port, frame))
        return len(asked) == 1

    assert wires.ports.move(0.01, lambda *each: wires.told.append(each), lost)
    port = wires.plane.port("a/eth0")
    assert asked == [(port, wires.frame(identifier=identifier)) for identifier in (1, 2)]
    [(_, frame, _, _)] = wires.told
    assert frame == wires.frame(identifier=2)
    assert wires.plane.engine.counters()[port]["rx_frames"] == 1


def test_time_passes_when_nothing_comes(wires: Wires, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[int] = []

    def advance(now_ms: int) -> tuple[list[Any], list[Any]]:
        asked.append(now_ms)
        return [], []

    monkeypatch.setattr(wires.plane, "advance", advance)
    wires.move()
    assert asked == [1000]
