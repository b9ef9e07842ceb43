"""The worker's ports: socket pairs stand in for TAP devices (both carry one frame per read and write)."""

from __future__ import annotations

import os
import socket
import threading
import time
from collections.abc import Callable, Iterator

import pytest
from scapy.layers.inet import ICMP, IP

from dataplane.verdict import Reason
from fastpath.worker import Worker
from tests.unit.fastpath.two_hosts import TwoHosts

NO_OFFLOAD = bytes(12)
PING = b"\x08\x00" + bytes(IP(src="10.0.1.10", dst="10.0.2.10") / ICMP(id=1) / b"x")


def eventually(fact: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 5
    while not fact():
        assert time.monotonic() < deadline
        time.sleep(0.001)  # a poll with a deadline


@pytest.fixture
def lab() -> Iterator[tuple[TwoHosts, Worker, socket.socket, socket.socket]]:
    hosts = TwoHosts()
    worker = Worker(hosts.engine)
    ends = []
    for host in (hosts.a, hosts.b):
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with theirs:
            theirs.setblocking(False)
            worker.attach(host.port, theirs.fileno())  # the worker keeps a duplicate
        ours.settimeout(5)
        ends.append(ours)
    worker.start()
    yield hosts, worker, ends[0], ends[1]
    worker.stop()
    for end in ends:
        end.close()


def test_frames_cross(lab: tuple[TwoHosts, Worker, socket.socket, socket.socket]) -> None:
    hosts, worker, a, b = lab
    a.send(NO_OFFLOAD + hosts.a.ether() + PING)
    frame = b.recv(2000)[12:]
    assert frame == hosts.b.mac + hosts.b.router_mac + PING
    eventually(lambda: hosts.engine.counters()[hosts.b.port]["tx_frames"] == 1)
    assert worker.running
    assert worker.thread_id != os.getpid()


def test_a_full_queue_is_counted(lab: tuple[TwoHosts, Worker, socket.socket, socket.socket]) -> None:
    """A receiver that does not read loses frames; nobody waits for it."""
    hosts, _, a, _ = lab
    for _ in range(2000):  # more than a socket holds
        a.send(NO_OFFLOAD + hosts.a.ether() + PING)
    full = Reason.PORT_QUEUE_FULL
    eventually(lambda: full in hosts.engine.counters().get(hosts.b.port, {}).get("reasons", {}))


def test_after_detach_nothing_is_delivered_nor_held_open(
    lab: tuple[TwoHosts, Worker, socket.socket, socket.socket],
) -> None:
    hosts, worker, a, b = lab
    worker.detach(hosts.b.port)
    assert b.recv(1) == b""  # the other end is closed
    a.send(NO_OFFLOAD + hosts.a.ether() + PING)
    eventually(lambda: bool(hosts.engine.counters().get(hosts.b.port, {}).get("reasons")))
    worker.detach(hosts.b.port)  # twice is fine


def test_a_device_that_went_away_does_not_keep_the_worker_busy(
    lab: tuple[TwoHosts, Worker, socket.socket, socket.socket],
) -> None:
    hosts, worker, a, _ = lab
    a.close()
    eventually(lambda: bool(hosts.engine.counters().get(hosts.a.port, {}).get("reasons")))
    before = worker.statistics()["rounds"]
    deadline = time.monotonic() + 0.3
    while time.monotonic() < deadline:
        pass
    assert worker.statistics()["rounds"] - before < 10
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with ours, theirs:
        theirs.setblocking(False)
        worker.attach(hosts.a.port, theirs.fileno())  # the port is free again


def test_ports_attached_by_many_threads_at_once_are_all_there() -> None:
    hosts = TwoHosts()
    worker = Worker(hosts.engine)
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    theirs.setblocking(False)

    def attach(first: int) -> None:
        for port in range(first, 400, 4):
            worker.attach(port, theirs.fileno())

    with ours, theirs:
        threads = [threading.Thread(target=attach, args=(n,)) for n in range(1, 5)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        for port in range(1, 400):
            with pytest.raises(ValueError, match="attached already"):
                worker.attach(port, theirs.fileno())
            worker.detach(port)


def test_wrong_descriptors_are_refused() -> None:
    worker = Worker(TwoHosts().engine)
    ours, theirs = socket.socketpair()
    with ours, theirs:
        with pytest.raises(ValueError, match="non-blocking"):
            worker.attach(1, ours.fileno())
        ours.setblocking(False)
        with pytest.raises(ValueError, match="port 0"):
            worker.attach(0, ours.fileno())


def test_lab_time_only_moves_forward() -> None:
    worker = Worker(TwoHosts().engine)
    before = worker.now_ms()
    worker.set_clock_offset(1000)
    assert worker.engine.now_ms >= before + 1000  # at once, also when no packet comes
    with pytest.raises(ValueError, match="never goes back"):
        worker.set_clock_offset(999)
    assert worker.now_ms() >= before + 1000
