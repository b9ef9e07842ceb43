"""The memo changes speed and nothing else: with it, without it, and with it emptied at random, the same happens."""

from __future__ import annotations

import struct
from collections import Counter
from typing import Any

from hypothesis import event, given, settings
from hypothesis import strategies as st

from dataplane.engine import DataPlane
from dataplane.load import load_topology
from dataplane.verdict import Reason
from tests.property.strategies import RandomLab, Step, labs, steps

TYPES = {4: b"\x08\x00", 6: b"\x86\xdd"}


class Triplet:
    """Three data planes that get the same packets at the same times."""

    def __init__(self, lab: RandomLab) -> None:
        self.lab = lab
        topology = load_topology(lab.text, file_name="random.yaml")
        self.planes = [DataPlane(topology, memo=memo, sessions=256, flows=64) for memo in (False, True, True)]
        self.now = 1_000
        self.emitted: list[tuple[int, bytes]] = []
        self.seen: Counter[Reason] = Counter()

    def send(self, port: int, frames: list[bytes], keep: int) -> None:
        self.planes[2].engine.forget(keep)
        results = [plane.process(frames, [port] * len(frames), self.now) for plane in self.planes]
        assert results[0] == results[1] == results[2]
        outcomes, emissions = results[0]
        self.seen.update(o.reason for o in outcomes)
        self.emitted += [(e.port, e.frame) for e in emissions]
        self.compare()

    def compare(self) -> None:
        states = [sorted(map(_comparable, plane.engine.sessions())) for plane in self.planes]
        assert states[0] == states[1] == states[2]
        counters = [plane.engine.counters() for plane in self.planes]
        assert counters[0] == counters[1] == counters[2]
        for plane in self.planes:
            plane.engine.selfcheck()

    def step(self, step: Step, keep: int) -> None:
        self.now += step.wait_ms
        port = self.planes[0].port(f"{step.node}/eth0")
        interface = self.planes[0].interface(port)
        frame = interface.router_mac + interface.mac + TYPES[step.family] + step.packet
        self.send(port, [frame] * step.repeat, keep)

    def answer(self, number: int, keep: int) -> None:
        """Whoever got an earlier frame sends back what it makes of it: ends swapped, echo requests answered."""
        port, frame = self.emitted[number % len(self.emitted)]
        interface = self.planes[0].interface(port)
        self.send(port, [interface.router_mac + interface.mac + swap_ends(frame)] * 2, keep)

    def complain(self, number: int, keep: int) -> None:
        """Whoever got an earlier IPv4 frame sends an ICMP error about it."""
        port, frame = self.emitted[number % len(self.emitted)]
        interface = self.planes[0].interface(port)
        if frame[12:14] != TYPES[4]:
            return
        packet = frame[14:]
        icmp = b"\x03\x03\0\0\0\0\0\0" + packet[:28]
        icmp = icmp[:2] + struct.pack(">H", internet_sum(icmp)) + icmp[4:]
        head = struct.pack(">BBHHHBBH", 0x45, 0, 20 + len(icmp), 0, 0, 64, 1, 0) + packet[16:20] + packet[12:16]
        head = head[:10] + struct.pack(">H", internet_sum(head)) + head[12:]
        self.send(port, [interface.router_mac + interface.mac + TYPES[4] + head + icmp], keep)


def _comparable(session: dict[str, Any]) -> tuple[tuple[str, str], ...]:
    return tuple(sorted((key, repr(value)) for key, value in session.items()))


def internet_sum(data: bytes) -> int:
    if len(data) % 2:
        data += b"\0"
    total = sum(struct.unpack(f">{len(data) // 2}H", data))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return ~total & 0xFFFF


def swap_ends(frame: bytes) -> bytes:
    """EtherType and packet with addresses and ports swapped (no checksum changes by that) and a fresh TTL."""
    packet = bytearray(frame[14:])
    if frame[12:14] == TYPES[4]:
        head = (packet[0] & 15) * 4
        packet[12:16], packet[16:20] = packet[16:20], packet[12:16]
        packet[8], protocol = 64, packet[9]
        packet[10:12] = b"\0\0"
        packet[10:12] = struct.pack(">H", internet_sum(bytes(packet[:head])))
    else:
        head, protocol = 40, packet[6]
        packet[8:24], packet[24:40] = packet[24:40], packet[8:24]
        packet[7] = 64
    if protocol in (6, 17) and len(packet) >= head + 4:
        packet[head : head + 2], packet[head + 2 : head + 4] = packet[head + 2 : head + 4], packet[head : head + 2]
        if protocol == 6 and len(packet) > head + 13 and packet[head + 13] & 2:
            packet[head + 13] |= 16
    elif protocol in (1, 58) and len(packet) > head and packet[head] in (8, 128):
        packet[head] = 0 if protocol == 1 else 129
    return frame[12:14] + bytes(packet)


@given(lab=labs(), data=st.data())
def test_memo_changes_nothing(lab: RandomLab, data: st.DataObject) -> None:
    triplet = Triplet(lab)
    for _ in range(data.draw(st.integers(1, 14), label="steps")):
        keep = data.draw(st.sampled_from([0, 2**64 - 1, 0x5555555555555555]), label="flow entries kept")
        kind = data.draw(st.sampled_from(["step", "step", "answer", "answer", "complain", "swap"]), label="kind")
        if kind == "swap":
            topology = load_topology(lab.text, file_name="random.yaml")
            for plane in triplet.planes:
                plane.apply(topology)
            triplet.compare()
        elif kind == "step" or not triplet.emitted:
            triplet.step(data.draw(steps(lab), label="packet"), keep)
        else:
            number = data.draw(st.integers(0, 50), label="which")
            (triplet.answer if kind == "answer" else triplet.complain)(number, keep)
    for reason in triplet.seen:
        event(reason.name)
    if triplet.planes[1].engine.statistics()["flow_hits"]:
        event("memo hit")


def test_the_comparison_is_not_vacuous() -> None:
    """Over the examples that the property draws, the memo is hit and packets die of many different reasons."""
    seen: Counter[Reason] = Counter()
    hits = 0

    @settings(max_examples=80, database=None, derandomize=True, deadline=None)
    @given(lab=labs(), data=st.data())
    def collect(lab: RandomLab, data: st.DataObject) -> None:
        nonlocal hits
        triplet = Triplet(lab)
        for _ in range(8):
            triplet.step(data.draw(steps(lab)), 2**64 - 1)
            if triplet.emitted:
                triplet.answer(data.draw(st.integers(0, 9)), 2**64 - 1)
        seen.update(triplet.seen)
        hits += triplet.planes[1].engine.statistics()["flow_hits"]

    collect()
    wanted = {
        Reason.NONE,
        Reason.GROUP_INGRESS,
        Reason.GROUP_EGRESS,
        Reason.SOURCE_CHECK,
        Reason.NO_ROUTE,
        Reason.MTU_EXCEEDED,
        Reason.TTL_EXCEEDED,
        Reason.NAT_NO_SESSION,
        Reason.PUBLIC_SOURCE_MISSING,
        Reason.DESTINATION_UNKNOWN,
    }
    assert wanted <= set(seen), f"never seen: {wanted - set(seen)}"
    assert hits > 50
    assert seen[Reason.NONE] > 100
