"""Rings of records: who reads late, or little at a time, gets whole records in their order, and knows of each gap."""

from __future__ import annotations

import random
import socket

import pytest
from scapy.layers.inet import IP, UDP

from dataplane.capture import Record
from dataplane.verdict import Reason, Verdict
from fastpath.recorder import Recorder
from fastpath.worker import Worker
from tests.unit.fastpath.test_worker import NO_OFFLOAD, eventually
from tests.unit.fastpath.two_hosts import TwoHosts

LEAST_RING = 1 << 18
IPV4 = b"\x08\x00"


class Sender:
    """Host a, with a recorder at its port, and all that it has sent."""

    def __init__(self) -> None:
        self.hosts = TwoHosts()
        self.port = self.hosts.a.port
        self.recorder = Recorder([("interface", self.port, self.port, 1, 0, None, [])], capacity=LEAST_RING)
        self.hosts.engine.watch(self.recorder)
        self.sent: list[bytes] = []
        self.kept: list[int] = []
        """Which of these have been read."""

    def send(self, size: int) -> None:
        number = len(self.sent).to_bytes(4)
        packet = IP(src="10.0.1.10", dst="10.0.2.10") / UDP() / (number + bytes(size))
        self.sent.append(self.hosts.a.ether() + IPV4 + bytes(packet))
        self.hosts.engine.process(self.sent[-1:], [self.port], 1000)

    def read(self, most: int) -> int:
        """Read so many; each is what was sent, and as many are missing before it as it says."""
        records = [Record(*row) for row in self.recorder.read(most)]
        assert len(records) <= most
        for record in records:
            number = int.from_bytes(record.data[42:46])
            assert record.data == self.sent[number]
            assert record.lost == number - (self.kept[-1] + 1 if self.kept else 0)
            assert (record.verdict, record.reason, record.outgoing) == (Verdict.FORWARD, Reason.NONE, 1)
            self.kept.append(number)
        return len(records)


@pytest.mark.parametrize("seed", range(2))
def test_a_reader_that_is_behind_gets_whole_records_in_order(seed: int) -> None:
    """The ring goes round many times, with a reader who takes some of what there is, and at times nothing is left."""
    choose, sender = random.Random(seed), Sender()
    for _ in range(80):
        for _ in range(choose.randrange(40)):
            sender.send(choose.randrange(8000))
        sender.read(choose.randrange(40))
    while sender.read(7):
        pass
    assert sum(map(len, sender.sent)) > 15 * LEAST_RING
    assert 0 < sender.recorder.lost == len(sender.sent) - len(sender.kept)


def test_what_is_not_read_yet_is_never_overwritten() -> None:
    """The ring is full all the time, also each time that it begins anew, where its end is too short for a record."""
    choose, sender = random.Random(1), Sender()
    for _ in range(100):
        lost = sender.recorder.lost
        while sender.recorder.lost == lost:
            sender.send(choose.randrange(60_000))
        sender.read(choose.randrange(1, 3))
    while sender.read(100):
        pass
    assert sum(len(sender.sent[number]) for number in sender.kept) > 10 * LEAST_RING


@pytest.mark.parametrize("frames", [2, 40])
def test_each_frame_of_a_burst_has_a_verdict_of_its_own(frames: int) -> None:
    """What a worker takes at once is published together, and still each record is told what became of its frame."""
    hosts = TwoHosts()
    recorder = Recorder([("interface", hosts.a.port, hosts.a.port, 1, 0, None, [])])
    hosts.engine.watch(recorder)
    worker = Worker(hosts.engine)
    pairs = [socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET) for _ in range(2)]
    for host, (_, theirs) in zip((hosts.a, hosts.b), pairs, strict=True):
        theirs.setblocking(False)
        worker.attach(host.port, theirs.fileno())
    targets = ["10.0.2.10" if n % 2 else "10.0.3.10" for n in range(frames)]
    for n, target in enumerate(targets):
        packet = IP(src="10.0.1.10", dst=target, id=n) / UDP()
        pairs[0][0].send(NO_OFFLOAD + hosts.a.ether() + IPV4 + bytes(packet))
    seen: list[Record] = []

    def all_told() -> bool:
        seen.extend(Record(*row) for row in recorder.read())
        return len(seen) >= frames

    worker.start()
    eventually(all_told)
    worker.stop()
    for pair in pairs:
        for end in pair:
            end.close()
    assert [(int.from_bytes(each.data[18:20]), each.verdict, each.reason) for each in seen] == [
        (n, *((Verdict.FORWARD, Reason.NONE) if n % 2 else (Verdict.DROP, Reason.NO_ROUTE))) for n in range(frames)
    ]
