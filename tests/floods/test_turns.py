"""Turns of ports at the worker: who sends frames that take long has as much time as others, not as many frames.

Socket pairs stand in for TAP devices, which nobody reads: what is delivered takes no time.
"""

from __future__ import annotations

import socket
import time
from contextlib import ExitStack
from itertools import islice

from dataplane.capture import Record
from dataplane.probe import UDP
from fastpath.recorder import Recorder
from fastpath.worker import Worker
from tests.e2e.lab.stage import best_of
from tests.floods.frames import ipv4
from tests.floods.kinds import FLOODS
from tests.floods.network import Flooded

NO_OFFLOAD = bytes(12)
SLOW, QUICK = 64, 256
"""Frames that wait at the ports of both when the worker starts."""
FEWER = 3
"""A packet in a loop takes six times as long as one that arrives, or more, when both are recorded."""


def test_frames_that_take_long_do_not_keep_a_neighbour_from_its_share_of_the_time() -> None:
    assert best_of(_quick_ones_per_slow_one, FEWER, tries=5) >= FEWER


def _quick_ones_per_slow_one() -> float:
    """Of frames that the worker took while both ports had some."""
    made = Flooded()
    [loop] = [each for each in FLOODS if each.name == "a loop"]
    slow = list(islice(loop.frames(made), SLOW))
    mac, router = made.macs("calm")
    quick = [ipv4(mac, router, "10.0.3.10", "10.0.1.10", protocol=UDP, source_port=5, destination_port=9)] * QUICK
    ports = [made.port(loop.node), made.port("calm")]
    recorder = Recorder([("interface", 1, port, 1, lane, None, []) for lane, port in enumerate(ports)])
    made.plane.engine.watch(recorder)
    worker = Worker(made.plane.engine)
    with ExitStack() as stack:
        for port, frames in zip(ports, (slow, quick), strict=True):
            ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
            stack.callback(ours.close)
            with theirs:
                theirs.setblocking(False)
                worker.attach(port, theirs.fileno())
            ours.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 1 << 20)
            ours.settimeout(20)
            for frame in frames:
                ours.send(NO_OFFLOAD + frame)
        worker.start()
        stack.callback(worker.stop)
        order: list[int] = []
        deadline = time.monotonic() + 20
        while len(order) < SLOW + QUICK:
            assert time.monotonic() < deadline, f"{len(order)} frames were taken"
            order += [row.lane for row in (Record(*each) for each in recorder.read()) if row.outgoing and not row.cause]
    both = order[: min(len(order) - order[::-1].index(lane) for lane in range(2))]
    return both.count(1) / both.count(0)
