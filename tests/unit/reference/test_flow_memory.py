"""What egress-only gateways and return to sender remember: who opened a flow, and what belongs to it."""

from __future__ import annotations

from typing import Any

import pytest
from scapy.layers.inet import ICMP, IP, TCP, UDP

from dataplane.model.settings import Settings
from dataplane.reference.flow_memory import FlowMemory
from dataplane.reference.lifetimes import limits_of_egress_only
from dataplane.reference.packets import Packet, read
from dataplane.reference.room import Room

LIMITS = limits_of_egress_only(Settings())
ONE, TWO = 1, 2
HERE, THERE = "10.0.0.1", "198.51.100.1"


def packet(built: Any) -> Packet:
    found = read(4, bytes(built))
    assert isinstance(found, Packet)
    return found


def out(layer: Any) -> Packet:
    return packet(IP(src=HERE, dst=THERE) / layer)


def back(layer: Any) -> Packet:
    return packet(IP(src=THERE, dst=HERE) / layer)


def test_flow_is_opened_once_and_then_known() -> None:
    memory = FlowMemory(Room())
    assert [memory.see(ONE, out(UDP(sport=5, dport=6)), 0, LIMITS) for _ in range(2)] == ["open", "known"]
    assert memory.see(TWO, out(UDP(sport=5, dport=6)), 0, LIMITS) == "open"


@pytest.mark.parametrize(
    ("answer", "belongs"),
    [
        (UDP(sport=6, dport=5), True),
        (UDP(sport=5, dport=6), False),
        (UDP(sport=6, dport=7), False),
        (TCP(sport=6, dport=5, flags="A"), False),
        (ICMP(type=3, code=3) / IP(src=HERE, dst=THERE) / UDP(sport=5, dport=6), True),
        (ICMP(type=3, code=3) / IP(src=THERE, dst=HERE) / UDP(sport=6, dport=5), False),
        (ICMP(type=3, code=3) / IP(src=HERE, dst=THERE, frag=1) / bytes(8), False),
    ],
)
def test_answers_and_errors_about_it_belong_to_it(answer: Any, belongs: bool) -> None:
    memory = FlowMemory(Room())
    memory.see(ONE, out(UDP(sport=5, dport=6)), 0, LIMITS)
    assert memory.see_answer(ONE, back(answer), 0, LIMITS) is belongs
    assert not memory.see_answer(TWO, back(answer), 0, LIMITS)


@pytest.mark.parametrize("layer", [ICMP(type=3) / IP() / UDP(), ICMP(type=5) / IP() / UDP(), ICMP(type=11)])
def test_icmp_that_asks_nothing_opens_nothing(layer: Any) -> None:
    assert FlowMemory(Room()).see(ONE, out(layer), 0, LIMITS) == ""


def test_packet_that_went_out_is_no_answer_to_itself() -> None:
    memory = FlowMemory(Room())
    memory.see(ONE, out(UDP(sport=5, dport=6)), 0, LIMITS)
    assert not memory.see_answer(ONE, out(UDP(sport=5, dport=6)), 0, LIMITS)


def test_answers_keep_it_alive_and_errors_do_not() -> None:
    memory = FlowMemory(Room())
    memory.see(ONE, out(UDP(sport=5, dport=6)), 0, LIMITS)
    error = back(ICMP(type=3, code=3) / IP(src=HERE, dst=THERE) / UDP(sport=5, dport=6))
    assert memory.see_answer(ONE, back(UDP(sport=6, dport=5)), 100_000, LIMITS)
    assert memory.see_answer(ONE, error, 219_999, LIMITS)
    assert not memory.see_answer(ONE, error, 220_000, LIMITS)


def test_syn_begins_a_closed_flow_anew_on_its_own_side_only() -> None:
    memory = FlowMemory(Room())
    memory.see(ONE, out(TCP(sport=5, dport=6)), 0, LIMITS)
    assert memory.see_answer(ONE, back(TCP(sport=6, dport=5, flags="R")), 0, LIMITS)
    assert not memory.see_answer(ONE, back(TCP(sport=6, dport=5, flags="S")), 0, LIMITS)
    assert memory.see(ONE, out(TCP(sport=5, dport=6)), 0, LIMITS) == "open"
    assert memory.see_answer(ONE, back(TCP(sport=6, dport=5, flags="SA")), 349_999, LIMITS)
