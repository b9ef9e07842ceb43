"""Two engines, one network: the fast engine and the reference engine say the same of every packet.

What is compared, and how, is in `pairing`.
"""

from __future__ import annotations

import contextlib
import struct
from typing import Any

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from dataplane.load import load_topology
from tests.property import script
from tests.property.disagreements import IncomparableError
from tests.property.exercised import TALLY, Tally, required
from tests.property.fresh import FRESH, PHASES
from tests.property.pairing import Pair
from tests.property.playing import Playground, play
from tests.property.strategies import RandomLab, Step, labs, steps
from tests.property.test_memo import TYPES, internet_sum, swap_ends
from tests.property.wide_labs import wide_labs

ROOMS = st.sampled_from([script.SESSIONS, script.SESSIONS, 16, 24, 48])
"""Connections there is room for: now and then packets are to meet the end of it, wherever one is opened."""
FEW_ERRORS = st.sampled_from([script.ERRORS, script.ERRORS, 0, 1])
"""ICMP errors at once about packets of one port."""


class Lab(Pair):
    """Both engines running a random lab."""

    def __init__(self, lab: RandomLab) -> None:
        super().__init__(load_topology(lab.text, file_name="random.yaml"))
        script.begin(lab.text)
        self.lab = lab

    def ether(self, port: int) -> bytes:
        interface = self.fast.interface(port)
        return interface.router_mac + interface.mac

    def step(self, step: Step) -> None:
        self.now += step.wait_ms
        port = self.fast.port(f"{step.node}/eth0")
        self.send(port, [self.ether(port) + TYPES[step.family] + step.packet] * step.repeat)

    def answer(self, number: int) -> None:
        """Whoever got an earlier frame sends back what it makes of it."""
        port, frame = self.emitted[number % len(self.emitted)]
        self.send(port, [self.ether(port) + swap_ends(frame)] * 2)

    def complain(self, number: int, code: int) -> None:
        """Whoever got an earlier IPv4 frame sends an ICMP error about it."""
        port, frame = self.emitted[number % len(self.emitted)]
        if frame[12:14] == TYPES[4]:
            self.send(port, [self.ether(port) + TYPES[4] + unreachable(frame[14:], code)])


def unreachable(packet: bytes, code: int) -> bytes:
    icmp = bytes([3, code]) + bytes(6) + packet[:28]
    icmp = icmp[:2] + struct.pack(">H", internet_sum(icmp)) + icmp[4:]
    head = struct.pack(">BBHHHBBH", 0x45, 0, 20 + len(icmp), 0, 0, 64, 1, 0) + packet[16:20] + packet[12:16]
    return head[:10] + struct.pack(">H", internet_sum(head)) + head[12:] + icmp


def step(pair: Lab, data: st.DataObject) -> None:
    """One drawn step in a lab of rules and routes drawn densely."""
    kind = data.draw(st.sampled_from(["step", "step", "answer", "answer", "complain", "wait"]), label="kind")
    if kind == "wait":
        pair.advance(data.draw(st.sampled_from([1, 29_999, 30_000, 60_000]), label="wait"))
    elif kind == "step" or not pair.emitted:
        pair.step(data.draw(steps(pair.lab), label="packet"))
    elif kind == "answer":
        pair.answer(data.draw(st.integers(0, 50), label="which"))
    else:
        pair.complain(data.draw(st.integers(0, 50), label="which"), data.draw(st.sampled_from([1, 3, 4])))


@settings(backend=FRESH, phases=PHASES)
@given(lab=labs(), data=st.data())
def test_both_engines_agree(lab: RandomLab, data: st.DataObject) -> None:
    pair = Lab(lab)
    with contextlib.suppress(IncomparableError):
        for _ in range(data.draw(st.integers(1, 12), label="steps")):
            step(pair, data)
    TALLY.add(pair.seen)


@settings(backend=FRESH, phases=PHASES)
@given(lab=wide_labs(), sessions=ROOMS, errors=FEW_ERRORS, data=st.data())
def test_both_engines_agree_on_every_construct(
    lab: dict[str, Any], sessions: int, errors: int, data: st.DataObject
) -> None:
    play(Playground(lab, sessions=sessions, errors=errors), data.draw, most=12)


def test_the_comparison_is_not_vacuous() -> None:
    """The same examples each time: packets meet every construct and operation, and few examples end early."""
    tally = Tally()

    @settings(
        max_examples=100,
        backend=FRESH,
        phases=PHASES,
        database=None,
        derandomize=True,
        deadline=None,
        suppress_health_check=list(HealthCheck),
    )
    @given(lab=wide_labs(), data=st.data())
    def collect(lab: dict[str, Any], data: st.DataObject) -> None:
        pair = Playground(lab)
        play(pair, data.draw, most=60)
        tally.add(pair.seen, pair.steps)

    collect()
    assert tally.lacking(1, required()) == {}
    assert tally.counts["cut short"] < tally.examples / 5
    assert tally.steps > 1000
