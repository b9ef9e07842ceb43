"""NAT gateways forget idle connections after 350 seconds, and reset the TCP of whoever goes on inside."""

from __future__ import annotations

import pytest
from scapy.layers.inet import ICMP, IP, TCP, UDP

from dataplane.verdict import Cause, Reason, Verdict
from tests.conformance.behaviours import behaviour
from tests.conformance.labs import VPC
from tests.conformance.sources import rfc, vpc_guide
from tests.scenario.network import Network

SECTION = "NAT gateways"

B1, FAR, PUBLIC, NAT = "10.0.2.11", "198.51.100.10", "203.0.113.10", "main/nat"
TROUBLE = vpc_guide("nat-gateway-troubleshooting")


def established(network: Network) -> int:
    """Open a TCP connection through the NAT gateway; returns its port outside."""
    syn = IP(src=B1, dst=FAR) / TCP(sport=5000, dport=80, seq=1000)
    port = int(network.send("b1", syn).packet[TCP].sport)
    answer = IP(src=FAR, dst=PUBLIC) / TCP(sport=80, dport=port, flags="SA", seq=9000, ack=1001)
    assert network.send("far", answer).to == "b1"
    network.send("b1", IP(src=B1, dst=FAR) / TCP(sport=5000, dport=80, flags="A", seq=1001, ack=9001))
    return port


def data() -> IP:
    return IP(src=B1, dst=FAR) / TCP(sport=5000, dport=80, flags="PA", seq=1001, ack=9001) / b"late"


@behaviour(
    "TCP that was idle for more than 350 seconds is reset towards the client that goes on, and counted as timed out",
    source=TROUBLE,
    item=25,
)
def test_idle_connection_is_reset() -> None:
    network = Network(VPC)
    established(network)
    network.wait(351)
    assert network.plane.nat_metrics()[NAT]["IdleTimeoutCount"] == 1
    result = network.send("b1", data())
    [reset] = result.sent
    assert (result.verdict, result.reason, reset.node, reset.cause) == (
        Verdict.DROP,
        Reason.NAT_NO_SESSION,
        "b1",
        Cause.RESET,
    )
    assert (reset.packet.src, reset.packet.dst) == (FAR, B1)
    tcp = reset.packet[TCP]
    assert (tcp.sport, tcp.dport, str(tcp.flags), tcp.seq, bytes(tcp.payload)) == (80, 5000, "R", 9001, b"")


@behaviour("Traffic within 350 seconds, in either direction, keeps a connection through a NAT gateway", source=TROUBLE)
def test_traffic_keeps_it() -> None:
    network = Network(VPC)
    port = established(network)
    for _ in range(3):
        network.wait(349.999)
        assert network.send("b1", data()).to == "far"
        network.wait(349.999)
        answer = IP(src=FAR, dst=PUBLIC) / TCP(sport=80, dport=port, flags="A", seq=9001, ack=1005)
        assert network.send("far", answer).to == "b1"
    assert network.plane.nat_metrics()[NAT]["IdleTimeoutCount"] == 0


@behaviour("What comes from outside on a connection that timed out is dropped silently", source=TROUBLE)
@pytest.mark.parametrize("flags", ["A", "PA", "FA", "R", "SA"])
def test_late_from_outside(flags: str) -> None:
    network = Network(VPC)
    port = established(network)
    network.wait(351)
    late = IP(src=FAR, dst=PUBLIC) / TCP(sport=80, dport=port, flags=flags, seq=9001, ack=1001)
    result = network.send("far", late)
    assert (result.reason, result.sent) == (Reason.NAT_NO_SESSION, ())


@behaviour("UDP and pings through a NAT gateway are forgotten after 350 idle seconds too", silent=True, source=TROUBLE)
def test_udp_and_icmp() -> None:
    for request in (UDP(sport=5, dport=53), ICMP(id=7)):
        network = Network(VPC)
        outside = network.send("b1", IP(src=B1, dst=FAR) / request).packet
        if UDP in outside:
            answer = IP(src=FAR, dst=PUBLIC) / UDP(sport=53, dport=outside[UDP].sport)
        else:
            answer = IP(src=FAR, dst=PUBLIC) / ICMP(type=0, id=outside[ICMP].id)
        network.wait(349.999)
        assert network.send("far", answer).to == "b1"
        network.wait(350)
        result = network.send("far", answer)
        assert (result.reason, result.sent) == (Reason.NAT_NO_SESSION, ())


@behaviour(
    "The reset fits what it answers: its number is the one acknowledged, else it acknowledges what it answers",
    source=rfc(9293, "3.10.7.1"),
)
@pytest.mark.parametrize(
    ("flags", "payload", "expected"),
    [
        ("A", b"", ("R", 7000, 0)),
        ("PA", b"abc", ("R", 7000, 0)),
        ("FA", b"", ("R", 7000, 0)),
        ("SA", b"", ("R", 7000, 0)),
        ("", b"abc", ("RA", 0, 103)),
        ("F", b"abc", ("RA", 0, 104)),
    ],
)
def test_numbers_of_the_reset(flags: str, payload: bytes, expected: tuple[str, int, int]) -> None:
    stray = IP(src=B1, dst=FAR) / TCP(sport=5000, dport=80, flags=flags, seq=100, ack=7000) / payload
    [reset] = Network(VPC).send("b1", stray).sent
    tcp = reset.packet[TCP]
    assert ("".join(sorted(str(tcp.flags), key="RA".index)), tcp.seq, tcp.ack) == expected
    assert (reset.node, reset.packet.ttl, len(reset.packet)) == ("b1", 64, 40)


@behaviour("A reset is not answered with a reset", source=rfc(9293, "3.10.7.1"))
@pytest.mark.parametrize("flags", ["R", "RA"])
def test_reset_of_a_reset(flags: str) -> None:
    stray = IP(src=B1, dst=FAR) / TCP(sport=5000, dport=80, flags=flags, seq=100, ack=7000)
    result = Network(VPC).send("b1", stray)
    assert (result.reason, result.sent) == (Reason.NAT_NO_SESSION, ())


@behaviour("A client that was reset may connect again with the same port", source=TROUBLE)
def test_connecting_again() -> None:
    network = Network(VPC)
    established(network)
    network.wait(351)
    network.send("b1", data())
    established(network)
    assert network.send("b1", data()).to == "far"
