"""The worker's ports: socket pairs stand in for TAP devices (both carry one frame per read and write)."""

from __future__ import annotations

import os
import socket
import struct
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from scapy.layers.inet import ICMP, IP, UDP
from scapy.layers.inet6 import IPv6

from dataplane.capture import Record
from dataplane.verdict import Reason, Verdict
from fastpath.recorder import Recorder
from fastpath.worker import SPIN_LIMIT_US, Worker
from tests.scenario.labs import SHOP
from tests.scenario.network import Network
from tests.unit.fastpath.two_hosts import TwoHosts

NO_OFFLOAD = bytes(12)
PING = b"\x08\x00" + bytes(IP(src="10.0.1.10", dst="10.0.2.10") / ICMP(id=1) / b"x")


def eventually(fact: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 20
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
        ours.settimeout(20)
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


def test_what_is_shorter_than_an_offload_header_is_no_frame(
    lab: tuple[TwoHosts, Worker, socket.socket, socket.socket],
) -> None:
    """The header alone is one, of no bytes; what follows is received like anything else."""
    hosts, _, a, b = lab
    for octets in (b"x", NO_OFFLOAD[1:], NO_OFFLOAD, NO_OFFLOAD + hosts.a.ether() + PING):
        a.send(octets)
    assert b.recv(2000)[12:] == hosts.b.mac + hosts.b.router_mac + PING
    counted = hosts.engine.counters()[hosts.a.port]
    assert (counted["rx_frames"], counted["rx_bytes"]) == (2, 14 + 28 + 1)
    assert counted["reasons"] == {Reason.RUNT_FRAME: 1}


def test_a_full_queue_is_counted(lab: tuple[TwoHosts, Worker, socket.socket, socket.socket]) -> None:
    """A receiver that does not read loses frames; nobody waits for it."""
    hosts, _, a, _ = lab
    for _ in range(2000):  # more than a socket holds
        a.send(NO_OFFLOAD + hosts.a.ether() + PING)
    full = Reason.PORT_QUEUE_FULL
    eventually(lambda: full in hosts.engine.counters().get(hosts.b.port, {}).get("reasons", {}))


def test_what_a_port_did_not_take_is_recorded_once(lab: tuple[TwoHosts, Worker, socket.socket, socket.socket]) -> None:
    """What stands there as forwarded was received, byte by byte; the rest is told as what it was: a full queue."""
    hosts, _, a, b = lab
    recorder = Recorder([("interface", 1, hosts.b.port, 1, 0, None, [])], capacity=1 << 20)
    hosts.engine.watch(recorder)
    seen: list[Record] = []

    def all_told() -> bool:
        seen.extend(Record(*row) for row in recorder.read())
        return len(seen) >= 2000

    for number in range(2000):  # more than a socket holds
        ping = IP(src="10.0.1.10", dst="10.0.2.10", id=number) / ICMP(id=1) / b"x"
        a.send(NO_OFFLOAD + hosts.a.ether() + PING[:2] + bytes(ping))
    eventually(all_told)
    assert [int.from_bytes(each.data[18:20], "big") for each in seen] == list(range(2000))
    arrived = [each for each in seen if each.verdict == Verdict.FORWARD]
    assert 0 < len(arrived) < 2000
    assert [b.recv(2000)[12:] for _ in arrived] == [each.data for each in arrived]
    lost = [each for each in seen if each.verdict != Verdict.FORWARD]
    assert {(each.verdict, each.reason, each.object) for each in lost} == {
        (Verdict.DROP, Reason.PORT_QUEUE_FULL, hosts.b.port)
    }
    assert not recorder.read()
    assert recorder.lost == 0


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


def test_what_was_sent_before_time_passed_is_not_late(
    lab: tuple[TwoHosts, Worker, socket.socket, socket.socket],
) -> None:
    """Else a connection that was just made would have waited for the end of its handshake all that time."""
    hosts, worker, a, b = lab
    for hour in range(1, 9):
        for number in range(100):
            ping = IP(src="10.0.1.10", dst="10.0.2.10") / ICMP(id=number) / b"x"
            a.send(NO_OFFLOAD + hosts.a.ether() + PING[:2] + bytes(ping))
        worker.set_clock_offset(3_600_000 * hour)
        for number in range(100):
            assert IP(b.recv(2000)[12 + 14 :])[ICMP].id == number
        assert hosts.engine.sessions() == []  # all have been idle for an hour
    a.send(NO_OFFLOAD + hosts.a.ether() + PING)
    assert b.recv(2000)[12:].endswith(PING)
    assert len(hosts.engine.sessions()) > 0


@contextmanager
def behind(network: Network, *nodes: str) -> Iterator[tuple[Worker, dict[str, socket.socket]]]:
    """A running worker, and what stands for the devices of some nodes."""
    worker = Worker(network.plane.engine)
    ends = {}
    for node in nodes:
        ends[node], theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with theirs:
            theirs.setblocking(False)
            worker.attach(network.port(node), theirs.fileno())
        ends[node].settimeout(20)
    worker.start()
    try:
        yield worker, ends
    finally:
        worker.stop()
        for end in ends.values():
            end.close()


def test_what_is_left_to_hardware_is_said_of_the_packet_as_it_leaves() -> None:
    """The checksum of what was IPv6 begins 20 bytes sooner in IPv4."""
    route = '          - {destination: "64:ff9b::/96", target: "nat-gateway:nat"}\n'
    blackhole = "          - {destination: 198.51.100.128/25, target: blackhole}\n"
    network = Network(SHOP.replace(blackhole, blackhole + route), engine="fast")
    with behind(network, "app", "example") as (_, ends):
        packet = IPv6(src="2001:db8:10:2::10", dst="64:ff9b::c633:640a") / UDP(sport=5, dport=53) / b"abc"
        ends["app"].send(struct.pack("<BBHHHHH", 1, 0, 0, 0, 54, 6, 0) + network.frame("app", packet))
        assert ends["example"].recv(2000)[:12] == struct.pack("<BBHHHHH", 1, 0, 0, 0, 34, 6, 0)


# -- how often it asks the kernel --------------------------------------------------------------------------------------


def spent_on_a_full_queue(idle_ports: int, frames: int) -> dict[str, int]:
    """What `frames` that are there already cost, among so many ports that nothing comes by."""
    hosts = TwoHosts()
    worker = Worker(hosts.engine, spin_us=0)
    pairs = [socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET) for _ in range(3)]
    for _, theirs in pairs:
        theirs.setblocking(False)
    worker.attach(hosts.a.port, pairs[0][1].fileno())
    worker.attach(hosts.b.port, pairs[1][1].fileno())
    for number in range(idle_ports):
        worker.attach(1000 + number, pairs[2][1].fileno())
    for _ in range(frames):
        pairs[0][0].send(NO_OFFLOAD + hosts.a.ether() + PING)
    worker.start()
    eventually(lambda: worker.statistics()["writes"] == frames)
    worker.stop()
    for pair in pairs:
        for end in pair:
            end.close()
    return worker.statistics()


def test_a_frame_takes_one_call_to_read_and_one_to_write() -> None:
    spent = spent_on_a_full_queue(idle_ports=0, frames=100)
    assert spent["frames"] == spent["writes"] == 100
    assert spent["reads"] <= 102  # one may come back empty at the end, and the one that wakes it up to stop
    assert spent["waits"] <= 12


def test_ports_that_are_silent_cost_nothing() -> None:
    many, none = (spent_on_a_full_queue(idle_ports=ports, frames=100) for ports in (500, 0))
    assert (many["frames"], many["writes"]) == (none["frames"], none["writes"])
    assert many["reads"] <= none["reads"] + 2  # each may come back empty at the end, and be woken up to stop
    assert many["waits"] <= none["waits"] + 2


# -- waiting -----------------------------------------------------------------------------------------------------------


def sleeps(worker: Worker) -> int:
    """How often its thread has gone to sleep of its own accord."""
    lines = Path(f"/proc/self/task/{worker.thread_id}/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("voluntary_ctxt_switches"))


def busy_s(worker: Worker) -> float:
    """Processor time of its thread."""
    return int(Path(f"/proc/self/task/{worker.thread_id}/schedstat").read_text().split()[0]) / 1e9


def exchange(hosts: TwoHosts, a: socket.socket, b: socket.socket, frames: int) -> None:
    """Send frames from a to b, each when the one before has arrived."""
    for _ in range(frames):
        a.send(NO_OFFLOAD + hosts.a.ether() + PING)
        b.recv(2000)


@pytest.fixture
def spinning() -> Iterator[tuple[TwoHosts, Worker, socket.socket, socket.socket]]:
    hosts = TwoHosts()
    worker = Worker(hosts.engine, spin_us=SPIN_LIMIT_US)
    pairs = [socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET) for _ in range(2)]
    for host, (ours, theirs) in zip((hosts.a, hosts.b), pairs, strict=True):
        with theirs:
            theirs.setblocking(False)
            worker.attach(host.port, theirs.fileno())
        ours.settimeout(20)
    worker.start()
    yield hosts, worker, pairs[0][0], pairs[1][0]
    worker.stop()
    for ours, _ in pairs:
        ours.close()


def test_nobody_wakes_the_worker_for_frames_that_come_one_after_the_other(
    spinning: tuple[TwoHosts, Worker, socket.socket, socket.socket],
) -> None:
    hosts, worker, a, b = spinning
    exchange(hosts, a, b, 100)
    before = sleeps(worker)
    exchange(hosts, a, b, 1000)
    assert sleeps(worker) - before < 500


def test_a_worker_sleeps_when_frames_stop_coming(
    spinning: tuple[TwoHosts, Worker, socket.socket, socket.socket],
) -> None:
    hosts, worker, a, b = spinning
    exchange(hosts, a, b, 1000)

    def is_idle() -> bool:
        before, began = busy_s(worker), time.monotonic()
        while time.monotonic() - began < 0.5:
            threading.Event().wait(0.5)  # what is measured is a time
        return busy_s(worker) - before < 0.01 * (time.monotonic() - began)

    eventually(is_idle)


def test_frames_far_apart_are_not_waited_for_spinning(
    spinning: tuple[TwoHosts, Worker, socket.socket, socket.socket],
) -> None:
    """Ten times the longest spin apart: who spun for them would be busy a tenth of the time."""
    hosts, worker, a, b = spinning
    exchange(hosts, a, b, 100)
    apart_s, frames = SPIN_LIMIT_US * 1e-6 * 10, 50
    threading.Event().wait(apart_s)
    before = busy_s(worker)
    for _ in range(frames):
        exchange(hosts, a, b, 1)
        threading.Event().wait(apart_s)
    assert busy_s(worker) - before < frames * SPIN_LIMIT_US * 1e-6 / 2


def test_how_long_to_spin_can_be_said(monkeypatch: pytest.MonkeyPatch) -> None:
    for wrong in ("-1", "soon", str(SPIN_LIMIT_US + 1)):
        monkeypatch.setenv("VPCLAB_SPIN_US", wrong)
        with pytest.raises(ValueError, match=f"VPCLAB_SPIN_US={wrong}: it is a number of microseconds from 0"):
            Worker(TwoHosts().engine)
    monkeypatch.setenv("VPCLAB_SPIN_US", "0")
    Worker(TwoHosts().engine)
