"""Packets inside packets, where only the fast engine has something to get wrong."""

from __future__ import annotations

import struct

from scapy.layers.inet import ICMP, IP, UDP

from dataplane.verdict import Reason, Verdict
from fastpath.tracer import Overlay
from tests.scenario.gwlb import APP, DB, FAR, ONE, answer, delivered, through
from tests.scenario.network import Network, check_sums
from tests.scenario.test_gwlb_routes import TO_ENDPOINT, TO_INTERNET, TO_NAT, with_nat

NO_ID = ONE.replace("id: vpce-0f583215d2e66b39c", "id: vpce-00000000000000000")

CIRCLE = (
    ONE.replace(
        "      apps: {cidr: 10.0.2.0/24,",
        "      other: {cidr: 10.0.4.0/24, availability_zone: b, route_table: other}\n      apps: {cidr: 10.0.2.0/24,",
        1,
    )
    .replace(
        "      gwlbe:\n        routes:\n          - {destination: 0.0.0.0/0, target: internet-gateway}\n",
        '      other: {routes: [{destination: 0.0.0.0/0, target: "vpc-endpoint:inspect"}]}\n'
        '      gwlbe:\n        routes:\n          - {destination: 0.0.0.0/0, target: "vpc-endpoint:second"}\n',
        1,
    )
    .replace(
        "    gateway_load_balancer_endpoints:\n",
        "    gateway_load_balancer_endpoints:\n      second: {service: security/inspection, subnet: other}\n",
        1,
    )
    .replace("targets: [fw1]", "targets: [fw1, fw3]")
)


def fast(text: str) -> Network:
    return Network(text, engine="fast")


def test_a_traced_error_may_leave_inside_another_packet() -> None:
    """The NAT gateway's "too big" goes back by the endpoint: 68 bytes are written in front of it."""
    net = fast(with_nat(TO_ENDPOINT, TO_INTERNET, TO_NAT, "10.0.2.0/24"))
    frame = net.frame("db", IP(src=DB, dst=FAR, flags="DF") / UDP(sport=5000, dport=53) / bytes(2000))
    planned = net.plane._follow(frame, net.port("db"), Overlay(), net.now)
    assert planned["reason"] == Reason.MTU_EXCEEDED
    outer = IP(planned["error"]["frame"][14:])
    assert (outer.proto, outer[UDP].dport, outer[UDP].len) == (17, 6081, len(outer) - 20)
    check_sums(outer)
    error = IP(bytes(outer[UDP].payload)[40:])
    assert (error.dst, error[ICMP].type, error[ICMP].code, error[ICMP].nexthopmtu) == (DB, 3, 4, 1500)


def test_what_comes_back_is_counted_once() -> None:
    """On its way to the target; remembered packets too."""
    net = fast(ONE)
    for _ in range(4):
        assert through(net, "app", IP(src=APP, dst=DB) / UDP(sport=5000, dport=53)).to == "db"
    [session] = [each for each in net.plane.engine.sessions() if each["kind"] == "balancer"]
    assert (session["packets"], session["bytes"]) == ((4, 0), (4 * 28, 0))


def test_an_option_that_is_missing_is_not_one_of_zeros() -> None:
    """Also for the memo, which has seen the flow with the option."""
    net = fast(NO_ID)
    got = delivered(net.send("app", IP(src=APP, dst=DB) / UDP(sport=5000, dport=53)))
    for _ in range(3):
        assert net.send("fw1", answer(got)).reason is Reason.NONE
    without = b"\x05" + got.geneve[1:8] + got.geneve[20:]
    assert net.send("fw1", answer(got, geneve=without)).reason is Reason.GENEVE_OPTIONS_MISSING


def test_a_trace_in_circles_says_so() -> None:
    """Two endpoints whose subnets' tables lead to each other: every round costs two of the TTL."""
    trace = fast(CIRCLE).trace("app", FAR, protocol="udp", port=53)
    assert trace.forward.verdict is Verdict.DROP
    assert trace.forward.reason in (Reason.TTL_EXCEEDED, Reason.LOOP)


def test_a_udp_sum_left_to_hardware_that_comes_out_as_zero_is_all_ones_inside() -> None:
    """RFC 768: zero says that there is none. The first packet walks, those behind it are of a flow that is known."""
    net = fast(ONE)
    port, head = net.port("app"), IP(src=APP, dst=DB)
    missing = IP(bytes(head / UDP(sport=5000, dport=53) / bytes(2)))[UDP].chksum
    packet = bytearray(bytes(head / UDP(sport=5000, dport=53) / missing.to_bytes(2)))
    assert packet[26:28] == b"\xff\xff"
    pseudo = sum(int.from_bytes(packet[at : at + 2]) for at in range(12, 20, 2)) + 17 + 10
    packet[26:28] = ((pseudo & 0xFFFF) + (pseudo >> 16)).to_bytes(2)
    frame = net.frame("app", IP(bytes(packet)))[:14] + packet
    for _ in range(4):
        [outcome], [emission] = net.plane.process(
            [frame], [port], net.now, [struct.pack("<BBHHHHH", 1, 0, 0, 0, 34, 6, 0)]
        )
        assert outcome.verdict is Verdict.FORWARD
        assert IP(emission.frame[14 + 68 :])[UDP].chksum == 0xFFFF
    assert net.plane.engine.statistics()["flow_hits"] > 0
