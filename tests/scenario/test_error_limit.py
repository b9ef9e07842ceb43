"""How many ICMP errors the network sends: so many at once about packets of one interface, then one each millisecond.

RFC 4443, 2.4 (f); RFC 1812, 4.3.2.8. A thousand at once in a lab (`tests/conformance/test_ttl.py`); here fewer will do.
"""

from __future__ import annotations

from typing import Any

import pytest
from scapy.layers.inet import ICMP, IP, TCP, UDP
from scapy.layers.inet6 import IPv6

from dataplane.limits import ERRORS_AT_ONCE
from dataplane.reference.error_limit import AT_ONCE
from dataplane.verdict import Cause, Reason, Verdict
from fastpath.tracer import Overlay
from tests.scenario import gwlb
from tests.scenario.labs import SHOP
from tests.scenario.network import Network

APP, WEB, FAR = "10.0.2.10", "10.0.1.10", "198.51.100.10"
MOST = 8
EXPIRES = IP(src=APP, dst=FAR, ttl=1) / UDP(sport=5, dport=6)
"""Has no TTL left at the NAT gateway."""
TOO_BIG = IP(src=APP, dst=FAR, flags="DF") / UDP(sport=5, dport=6) / bytes(1500)
"""Does not fit through the internet gateway."""


@pytest.fixture
def network() -> Network:
    return Network(SHOP, errors=MOST)


def told(network: Network, packet: Any, count: int = 1) -> int:
    """How many of so many packets from app somebody is told of; all die."""
    results = network.send_all("app", [packet] * count)
    assert {result.verdict for result in results} == {Verdict.DROP}
    assert {sent.cause for result in results for sent in result.sent} <= {Cause.ERROR}
    return sum(len(result.sent) for result in results)


def test_both_engines_have_one_number() -> None:
    assert AT_ONCE == ERRORS_AT_ONCE


def test_as_many_as_there_may_be_at_once_and_one_each_millisecond_then(network: Network) -> None:
    assert told(network, EXPIRES, MOST + 1) == MOST
    for wait_ms in (1, 2, MOST - 1):
        network.wait(wait_ms / 1000)
        assert told(network, EXPIRES, MOST) == wait_ms


def test_who_was_silent_for_long_is_told_of_no_more_at_once(network: Network) -> None:
    assert told(network, EXPIRES, MOST + 1) == MOST
    network.wait(3600)
    assert told(network, EXPIRES, MOST + 1) == MOST


def test_one_each_millisecond_may_go_on_for_ever(network: Network) -> None:
    for _ in range(5 * MOST):
        assert told(network, EXPIRES) == 1
        network.wait(0.001)


def test_all_kinds_of_errors_are_counted_together(network: Network) -> None:
    assert told(network, EXPIRES, MOST) == MOST
    assert told(network, TOO_BIG) == 0
    network.wait(0.001)
    assert told(network, TOO_BIG) == 1
    assert told(network, EXPIRES) == 0


def test_packets_die_of_the_same_whether_it_is_told_or_not(network: Network) -> None:
    results = network.send_all("app", [EXPIRES] * (MOST + 1))
    assert {(result.reason, result.by) for result in results} == {(Reason.TTL_EXCEEDED, "nat-gateway shop/nat")}


def test_each_interface_has_as_many_of_its_own(network: Network) -> None:
    assert told(network, EXPIRES, 2 * MOST) == MOST
    [error] = network.send("web", IP(src=WEB, dst=FAR, flags="DF") / UDP() / bytes(1500)).sent
    assert (error.node, error.packet[ICMP].code) == ("web", 4)


def test_nothing_else_is_limited() -> None:
    """Neither errors that others send, nor answers of the router, nor resets."""
    resets = f"ingress: [{{protocol: tcp, ports: 9, source: {FAR}/32}}]"
    network = Network(SHOP.replace("ingress: []", resets), errors=MOST)
    out = network.send("app", IP(src=APP, dst=FAR) / UDP(sport=7, dport=8)).packet
    network.send("app", IP(src=APP, dst=FAR) / TCP(sport=7, dport=8, flags="S"))
    assert told(network, EXPIRES, MOST + 1) == MOST
    for _ in range(2 * MOST):
        assert network.send("app", IP(src=APP, dst="10.0.2.1") / ICMP()).packet[ICMP].type == 0
        assert network.send("example", IP(src=FAR, dst=out.src) / ICMP(type=3, code=3) / out).to == "app"
        [reset] = network.send("app", IP(src=APP, dst=FAR) / TCP(sport=9, dport=8, flags="A")).sent
        assert reset.cause is Cause.RESET
    assert told(network, EXPIRES) == 0


def test_errors_about_what_has_become_another_packet_count_for_who_sent_it() -> None:
    """IPv6 that has become IPv4 at a NAT gateway, and is too large behind it."""
    route = '          - {destination: "64:ff9b::/96", target: "nat-gateway:nat"}\n'
    blackhole = "          - {destination: 198.51.100.128/25, target: blackhole}\n"
    network = Network(SHOP.replace(blackhole, blackhole + route), errors=MOST)
    large = IPv6(src="2001:db8:10:2::10", dst="64:ff9b::c633:640a") / UDP(sport=5, dport=6) / bytes(1500)
    assert told(network, large, 2 * MOST) == MOST
    assert told(network, EXPIRES) == 0
    assert network.plane.nat_metrics()["shop/nat"]["PacketsInFromSource"] == 2 * MOST + 1


def test_errors_about_what_comes_out_of_a_tunnel_count_for_the_appliance_that_sent_it() -> None:
    network = Network(gwlb.LAB, errors=MOST)
    got: dict[str, gwlb.Delivery] = {}
    for target, other in (("fw1", "fw2"), ("fw2", "fw1")):
        gwlb.set_state(network, {target: "healthy", other: "unhealthy"})
        large = IP(src=gwlb.APP, dst=FAR, flags="DF") / UDP(sport=len(got), dport=6) / bytes(1500)
        got[target] = gwlb.delivered(network.send("app", large))
        assert got[target].target == target
    for target in ("fw1", "fw2"):
        results = [gwlb.send_back(network, got[target]) for _ in range(MOST + 1)]
        assert {result.reason for result in results} == {Reason.MTU_EXCEEDED}
        assert [[sent.node for sent in result.sent] for result in results] == [["app"]] * MOST + [[]]


def test_a_trace_says_whether_an_error_would_be_sent_now() -> None:
    network = Network(SHOP, errors=MOST)
    frame, port = network.frame("app", EXPIRES), network.port("app")

    def says() -> bool:
        return "error" in network.plane.engine.trace(frame, port, Overlay(), network.now)

    assert says()
    assert told(network, EXPIRES, MOST + 7) == MOST
    assert not says()
    network.now += 1
    assert says()
    assert says()  # which costs nothing
    assert told(network, EXPIRES, 2) == 1
    assert network.plane.engine.counters()[port]["errors_withheld"] == 8


def test_a_trace_is_of_now_though_somebody_asks_for_an_earlier_time() -> None:
    network = Network(SHOP, errors=MOST)
    frame, port, begun = network.frame("app", EXPIRES), network.port("app"), network.now
    assert told(network, EXPIRES, MOST) == MOST
    assert "error" not in network.plane.engine.trace(frame, port, Overlay(), begun)
    network.wait(MOST / 1000)
    assert "error" in network.plane.engine.trace(frame, port, Overlay(), begun)
