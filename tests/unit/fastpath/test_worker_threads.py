"""The worker's thread against everybody who controls it, all at once: what is told is whole, nobody waits for ever.

`make tsan` runs this with a thread sanitizer, which sees a race also when it does no harm that day.
"""

from __future__ import annotations

import contextlib
import itertools
import os
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest
from scapy.layers.inet import ICMP, IP, UDP

from dataplane.compile import compile_program
from fastpath.tracer import Overlay
from fastpath.worker import Worker
from tests.unit.fastpath.two_hosts import TwoHosts

NO_OFFLOAD = bytes(12)
ROUNDS = int(os.environ.get("VPCLAB_ROUNDS", "100"))
"""How often each controller does what it does."""
PATIENCE_S = 120


class Running:
    """Two hosts behind a running worker, with frames going both ways without pause."""

    def __init__(self) -> None:
        self.hosts = TwoHosts(sessions=256, flows=64)
        self.worker = Worker(self.hosts.engine)
        self.over = threading.Event()
        self.plugging = threading.Lock()
        """Held by whoever uses or replaces `ends`."""
        self.failed: list[BaseException] = []
        self.ends = {host.port: self.plug(host.port) for host in (self.hosts.a, self.hosts.b)}
        self.generation = itertools.count(2)

    def plug(self, port: int) -> socket.socket:
        """Attach a socket pair to a port; its other end."""
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with theirs:
            theirs.setblocking(False)
            self.worker.attach(port, theirs.fileno())
        ours.setblocking(False)
        return ours

    def talk(self) -> None:
        """Send from both ends until it is over, many flows, and read what comes."""
        a, b = self.hosts.a, self.hosts.b
        for number in itertools.count():
            if self.over.is_set():
                return
            there = IP(src=a.address, dst=b.address) / UDP(sport=number % 512, dport=53) / b"x"
            back = IP(src=b.address, dst=a.address) / ICMP(id=number % 512) / b"y"
            frames = {
                each: NO_OFFLOAD + each.ether() + b"\x08\x00" + bytes(packet)
                for each, packet in ((a, there), (b, back))
            }
            for host, frame in frames.items():
                with self.plugging:
                    end = self.ends[host.port]
                    with contextlib.suppress(BlockingIOError):  # full
                        end.send(frame)
                    with contextlib.suppress(BlockingIOError):
                        while end.recv(2000):
                            pass

    def controller(self, act: Callable[[], object]) -> threading.Thread:
        """A thread that does something over and over; what it raises fails the test."""

        def run() -> None:
            try:
                for _ in range(ROUNDS):
                    act()
            except BaseException as error:
                self.failed.append(error)

        return threading.Thread(target=run)

    # -- what controllers do

    def swap(self) -> None:
        """Other tables, the same ones in a new generation."""
        self.hosts.engine.swap(compile_program(self.hosts.program, generation=next(self.generation)))

    def look(self) -> None:
        """Everything one can ask."""
        engine = self.hosts.engine
        engine.selfcheck()
        for row in engine.sessions():
            assert row["limit_ms"] > 0
            assert row["idle_ms"] <= row["age_ms"]
        engine.counters()
        engine.gateways()
        assert engine.statistics()["flows"] <= 64
        assert engine.now_ms <= self.worker.now_ms()
        assert self.worker.statistics()["frames"] >= 0
        assert self.worker.running
        assert self.worker.thread_id >= 0

    def trace(self) -> None:
        """Trace a packet."""
        frame = self.hosts.a.ether() + b"\x08\x00" + bytes(IP(src="10.0.1.10", dst="10.0.2.10") / UDP())
        assert self.hosts.engine.trace(frame, self.hosts.a.port, Overlay(), 0)["verdict"] == 1

    def forget(self) -> None:
        """Empty the memo, turn it off and on."""
        engine = self.hosts.engine
        engine.forget(0x00FF00FF00FF00FF)
        engine.memo = not engine.memo

    def step_clock(self) -> None:
        """Lab time jumps ahead."""
        self.worker.set_clock_offset(self.worker.clock_offset_ms + 10_000)

    def replug(self) -> None:
        """A port goes and comes back, and the table of ports grows."""
        port = self.hosts.b.port
        with self.plugging:
            self.worker.detach(port)
            self.ends[port].close()
            self.ends[port] = self.plug(port)
        far = 1000 + 70 * next(self.generation)
        self.plug(far).close()
        self.worker.detach(far)

    def process(self) -> None:
        """Packets that do not come by the worker."""
        engine = self.hosts.engine
        frame = self.hosts.a.ether() + b"\x08\x00" + bytes(IP(src="10.0.1.10", dst="10.0.2.10") / UDP(sport=7))
        outcomes, emissions = engine.process([frame] * 3, [self.hosts.a.port] * 3, engine.now_ms)
        assert len(outcomes) == 3
        assert len(emissions) >= 3  # with what time alone had made leave
        engine.advance(engine.now_ms)


@contextmanager
def running() -> Iterator[Running]:
    """A worker under load."""
    it = Running()
    talker = threading.Thread(target=it.talk)
    it.worker.start()
    talker.start()
    try:
        yield it
    finally:
        it.over.set()
        talker.join()
        it.worker.stop()
        for end in it.ends.values():
            end.close()


def finish(it: Running, threads: list[threading.Thread]) -> None:
    deadline = time.monotonic() + PATIENCE_S
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(max(0.0, deadline - time.monotonic()))
        assert not thread.is_alive(), "somebody waits for ever"
    assert not it.failed, it.failed


CONTROLS = ("swap", "look", "trace", "forget", "step_clock", "replug", "process")


@pytest.mark.parametrize("control", CONTROLS)
def test_one_controller_against_the_worker(control: str) -> None:
    with running() as it:
        finish(it, [it.controller(getattr(it, control))])


def test_all_controllers_against_the_worker() -> None:
    with running() as it:
        finish(it, [it.controller(getattr(it, control)) for control in CONTROLS])
        before = it.worker.statistics()["frames"]
        deadline = time.monotonic() + PATIENCE_S
        while it.worker.statistics()["frames"] == before:  # it still moves frames
            assert time.monotonic() < deadline


def test_a_worker_that_is_stopped_and_started_loses_no_port() -> None:
    with running() as it:
        for _ in range(ROUNDS):
            it.worker.stop()
            assert not it.worker.running
            it.worker.start()
        before = it.worker.statistics()["frames"]
        deadline = time.monotonic() + PATIENCE_S
        while it.worker.statistics()["frames"] == before:
            assert time.monotonic() < deadline
