"""How long the reference engine remembers idle flows.

Expected values: https://docs.aws.amazon.com/AWSEC2/latest/UserGuide/security-group-connection-tracking.html and
https://docs.aws.amazon.com/vpc/latest/userguide/nat-gateway-basics.html; the rest are settings of ours.
"""

from __future__ import annotations

import pytest
from scapy.layers.inet import ICMP, IP, TCP, UDP
from scapy.packet import Packet as Layer

from dataplane.model.connection_tracking import ConnectionTracking
from dataplane.model.settings import Settings
from dataplane.reference.lifetimes import (
    Lifetime,
    Limits,
    Stage,
    limits_of_egress_only,
    limits_of_interface,
    limits_of_nat_gateways,
)
from dataplane.reference.packets import Packet, read

INTERFACE = limits_of_interface(ConnectionTracking(), Settings())
SYN, SYN_ACK, ACK, FIN, RST = TCP(flags="S"), TCP(flags="SA"), TCP(flags="A"), TCP(flags="FA"), TCP(flags="R")


def packet(layer: Layer) -> Packet:
    found = read(4, bytes(IP(src="10.0.0.1", dst="10.0.0.2") / layer))
    assert isinstance(found, Packet)
    return found


def life_of(turns: list[tuple[bool, Layer]], limits: Limits = INTERFACE) -> Lifetime:
    """A flow whose packets all come at once: (by the opener?, what)."""
    life = Lifetime.begin(packet(turns[0][1]), 0, limits)
    for by_opener, layer in turns[1:]:
        life.see(packet(layer), 0, limits, by_opener=by_opener)
    return life


@pytest.mark.parametrize(
    ("turns", "seconds"),
    [
        ([(True, SYN)], 60),
        ([(True, SYN), (False, SYN_ACK)], 60),
        ([(True, SYN), (False, SYN_ACK), (True, ACK)], 432_000),
        ([(True, SYN), (False, SYN_ACK), (True, ACK), (True, FIN)], 432_000),
        ([(True, SYN), (False, SYN_ACK), (True, ACK), (True, FIN), (False, FIN)], 60),
        ([(True, SYN), (False, RST)], 60),
        ([(True, UDP())], 30),
        ([(True, UDP()), (True, UDP())], 30),
        ([(True, UDP()), (False, UDP())], 30),
        ([(True, UDP()), (False, UDP()), (True, UDP())], 180),
        ([(True, ICMP())], 30),
    ],
)
def test_documented_limits_of_an_interface(turns: list[tuple[bool, Layer]], seconds: int) -> None:
    life = life_of(turns)
    assert not life.is_over(seconds * 1000 - 1)
    assert life.is_over(seconds * 1000)


def test_other_protocols_are_remembered_for_600_seconds() -> None:
    found = read(4, bytes(IP(src="10.0.0.1", dst="10.0.0.2", proto=47) / b"x"))
    assert isinstance(found, Packet)
    life = Lifetime.begin(found, 0, INTERFACE)
    assert (life.stage, life.is_over(599_999), life.is_over(600_000)) == (Stage.OTHER, False, True)


def test_declared_limits_take_the_place_of_documented_ones() -> None:
    declared = ConnectionTracking(tcp_established_timeout=350, udp_stream_timeout=60, udp_timeout=45)
    mine = limits_of_interface(declared, Settings(tcp_opening_timeout=1, tcp_closing_timeout=2, icmp_timeout=3))
    assert mine == Limits(
        opening=1_000, open=350_000, closing=2_000, single=45_000, stream=60_000, query=3_000, other=600_000
    )


def test_nat_gateway_forgets_everything_after_350_seconds_but_what_is_closed() -> None:
    limits = limits_of_nat_gateways(Settings(nat_closing_timeout=9))
    assert {stage: limits.of(stage) for stage in Stage} == {
        **dict.fromkeys(Stage, 350_000),
        Stage.CLOSING: 9_000,
    }


def test_egress_only_gateway_by_settings() -> None:
    limits = limits_of_egress_only(Settings(egress_only_tcp_timeout=7, egress_only_other_timeout=5))
    assert (limits.opening, limits.open, limits.closing) == (7_000, 7_000, 60_000)
    assert {limits.single, limits.stream, limits.query, limits.other} == {5_000}


def test_limit_is_that_of_the_last_packets_time() -> None:
    shorter = limits_of_interface(ConnectionTracking(udp_timeout=30), Settings())
    longer = limits_of_interface(ConnectionTracking(udp_timeout=60), Settings())
    life = Lifetime.begin(packet(UDP()), 0, longer)
    assert not life.is_over(59_999)
    life.see(packet(UDP()), 1_000, shorter, by_opener=True)
    assert (life.is_over(30_999), life.is_over(31_000)) == (False, True)
