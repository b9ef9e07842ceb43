"""Egress-only internet gateway (VPC User Guide, "Egress-only internet gateways").

https://docs.aws.amazon.com/vpc/latest/userguide/egress-only-internet-gateway.html
"""

from __future__ import annotations

from typing import Any

import pytest
from scapy.layers.inet import TCP, UDP
from scapy.layers.inet6 import ICMPv6DestUnreach, ICMPv6EchoReply, ICMPv6EchoRequest, ICMPv6TimeExceeded, IPv6

from dataplane.verdict import Cause, Reason, Verdict
from tests.scenario.network import Network

LAB = """
version: 1
name: outward
vpcs:
  inner:
    cidr: 10.0.0.0/16
    ipv6_cidrs: ["2001:db8:10::/56"]
    egress_only_internet_gateway: {}
    subnets:
      quiet: {cidr: 10.0.1.0/24, ipv6_cidr: "2001:db8:10:1::/64", availability_zone: a, route_table: out}
    route_tables:
      out: {routes: [{destination: "::/0", target: egress-only-internet-gateway}]}
    security_groups:
      open: {description: everything, ingress: [{protocol: all, source: "::/0"}]}
      shut: {description: nothing comes in, ingress: []}
instances:
  quiet: {vpc: inner, subnet: quiet, private_ip: 10.0.1.10, ipv6_address: "2001:db8:10:1::10", security_groups: [shut]}
  open: {vpc: inner, subnet: quiet, private_ip: 10.0.1.11, ipv6_address: "2001:db8:10:1::11", security_groups: [open],
    source_dest_check: false}
internet:
  hosts:
    far: {address: 198.51.100.10, ipv6_address: "2001:db8:99::10"}
    other: {address: 198.51.100.11, ipv6_address: "2001:db8:99::11"}
"""
QUIET, OPEN, FAR, OTHER = "2001:db8:10:1::10", "2001:db8:10:1::11", "2001:db8:99::10", "2001:db8:99::11"
BOTH = LAB.replace(
    "    egress_only_internet_gateway: {}\n", "    egress_only_internet_gateway: {}\n    internet_gateway: {}\n"
)
"""With an internet gateway besides."""


@pytest.fixture
def net() -> Network:
    return Network(LAB)


def out(source: str = OPEN, **words: Any) -> IPv6:
    return IPv6(src=source, dst=FAR, hlim=64) / TCP(sport=33000, dport=443, **words)


def back(destination: str = OPEN, **words: Any) -> IPv6:
    return IPv6(src=FAR, dst=destination, hlim=64) / TCP(sport=443, dport=33000, **words)


def test_connection_from_inside_gets_its_answers(net: Network) -> None:
    syn = net.send("quiet", out(QUIET))
    assert (syn.to, syn.packet.src, syn.packet[TCP].sport, syn.packet.hlim) == ("far", QUIET, 33000, 63)
    answer = net.send("far", back(QUIET, flags="SA"))
    assert (answer.to, answer.packet.dst, answer.packet.hlim) == ("quiet", QUIET, 64)


def test_unsolicited_packet_is_dropped_silently_by_the_gateway(net: Network) -> None:
    result = net.send("far", back(flags="S"))
    assert (result.verdict, result.reason, result.sent) == (Verdict.DROP, Reason.EGRESS_ONLY_NO_SESSION, ())
    assert (result.by, result.rule) == ("egress-only-internet-gateway inner", "")


def test_answers_are_those_of_the_far_end_and_its_ports(net: Network) -> None:
    net.send("open", out())
    assert net.send("other", IPv6(src=OTHER, dst=OPEN) / TCP(sport=443, dport=33000, flags="SA")).reason is (
        Reason.EGRESS_ONLY_NO_SESSION
    )
    for sport, dport in ((444, 33000), (443, 33001)):
        stranger = IPv6(src=FAR, dst=OPEN) / TCP(sport=sport, dport=dport, flags="SA")
        assert net.send("far", stranger).reason is Reason.EGRESS_ONLY_NO_SESSION


@pytest.mark.parametrize(("wait", "reason"), [(349.999, Reason.NONE), (350, Reason.EGRESS_ONLY_NO_SESSION)])
def test_open_tcp_is_remembered_for_350_seconds(net: Network, wait: float, reason: Reason) -> None:
    net.send("open", out())
    net.send("far", back(flags="SA"))
    net.send("open", out(flags="A"))
    net.wait(wait)
    assert net.send("far", back(flags="A")).reason is reason


@pytest.mark.parametrize(("wait", "reason"), [(59.999, Reason.NONE), (60, Reason.EGRESS_ONLY_NO_SESSION)])
def test_closed_tcp_is_remembered_for_60_seconds(net: Network, wait: float, reason: Reason) -> None:
    net.send("open", out())
    net.send("open", out(flags="R"))
    net.wait(wait)
    assert net.send("far", back(flags="A")).reason is reason


@pytest.mark.parametrize(("wait", "reason"), [(119.999, Reason.NONE), (120, Reason.EGRESS_ONLY_NO_SESSION)])
def test_udp_and_others_are_remembered_for_120_seconds(net: Network, wait: float, reason: Reason) -> None:
    net.send("open", IPv6(src=OPEN, dst=FAR) / UDP(sport=5, dport=53))
    net.send("open", IPv6(src=OPEN, dst=FAR, nh=50) / bytes(24))
    net.wait(wait)
    assert net.send("far", IPv6(src=FAR, dst=OPEN) / UDP(sport=53, dport=5)).reason is reason
    assert net.send("far", IPv6(src=FAR, dst=OPEN, nh=50) / bytes(24)).reason is reason


def test_times_are_settings() -> None:
    times = "settings: {egress_only_tcp_timeout: 70, egress_only_other_timeout: 7, nat_closing_timeout: 3}\n"
    net = Network(LAB.replace("vpcs:\n", f"{times}vpcs:\n", 1))
    net.send("open", out())
    net.send("open", IPv6(src=OPEN, dst=FAR) / UDP(sport=5, dport=53))
    net.wait(7)
    assert net.send("far", IPv6(src=FAR, dst=OPEN) / UDP(sport=53, dport=5)).reason is Reason.EGRESS_ONLY_NO_SESSION
    net.wait(62.999)
    assert net.send("far", back(flags="SA")).to == "open"
    net.wait(70)
    assert net.send("far", back(flags="SA")).reason is Reason.EGRESS_ONLY_NO_SESSION


def test_closed_connection_is_begun_anew_from_inside_only(net: Network) -> None:
    net.send("open", out())
    net.send("open", out(flags="R"))
    assert net.send("far", back(flags="S")).reason is Reason.EGRESS_ONLY_NO_SESSION
    assert net.send("open", out(flags="S")).to == "far"
    net.wait(349)
    assert net.send("far", back(flags="SA")).to == "open"


def test_middle_of_a_connection_opens_it_too(net: Network) -> None:
    assert net.send("open", out(flags="A")).to == "far"
    assert net.send("far", back(flags="A")).to == "open"


def test_echo_is_answered_and_no_other_identifier(net: Network) -> None:
    net.send("quiet", IPv6(src=QUIET, dst=FAR) / ICMPv6EchoRequest(id=7))
    assert net.send("far", IPv6(src=FAR, dst=QUIET) / ICMPv6EchoReply(id=7)).to == "quiet"
    assert net.send("far", IPv6(src=FAR, dst=QUIET) / ICMPv6EchoReply(id=8)).reason is Reason.EGRESS_ONLY_NO_SESSION
    assert net.send("far", IPv6(src=FAR, dst=QUIET) / ICMPv6EchoRequest(id=7)).reason is Reason.EGRESS_ONLY_NO_SESSION


def test_error_about_a_flow_comes_in_whoever_sends_it(net: Network) -> None:
    sent = net.send("quiet", out(QUIET)).packet
    error = IPv6(src=OTHER, dst=QUIET) / ICMPv6TimeExceeded() / bytes(sent)
    assert net.send("other", error).to == "quiet"
    about_nothing = IPv6(src=OTHER, dst=QUIET) / ICMPv6TimeExceeded() / bytes(out(QUIET, seq=1))[:40] / b"\0\1\0\2aaaa"
    assert net.send("other", about_nothing).reason is Reason.EGRESS_ONLY_NO_SESSION


def test_error_that_goes_out_opens_nothing(net: Network) -> None:
    error = IPv6(src=OPEN, dst=FAR) / ICMPv6DestUnreach(code=4) / bytes(back())
    assert net.send("open", error).to == "far"
    assert net.send("far", back()).reason is Reason.EGRESS_ONLY_NO_SESSION


def test_only_addresses_of_the_vpc_go_out(net: Network) -> None:
    result = net.send("open", IPv6(src="2001:db8:10:1::99", dst=FAR) / UDP())
    assert (result.reason, result.by) == (Reason.GATEWAY_SPOOFED, "egress-only-internet-gateway inner")


def test_last_hop_dies_silently_after_it_was_remembered(net: Network) -> None:
    packet = out()
    packet.hlim = 1
    result = net.send("open", packet)
    assert (result.reason, result.sent) == (Reason.TTL_EXCEEDED, ())
    assert net.send("far", back(flags="SA")).to == "open"


def test_too_big_is_told_by_the_subnets_router(net: Network) -> None:
    """1500 bytes, as at an internet gateway (EC2 User Guide, "Network MTU")."""
    result = net.send("open", IPv6(src=OPEN, dst=FAR) / UDP(sport=5, dport=6) / bytes(1453))
    assert result.reason is Reason.MTU_EXCEEDED
    [sent] = result.sent
    assert (sent.node, sent.cause, sent.packet.src) == ("open", Cause.ERROR, "2001:db8:10:1::1")
    assert (sent.packet.payload.type, sent.packet.payload.mtu) == (2, 1500)


def test_its_flows_are_tracked_whatever_the_rules_say(net: Network) -> None:
    """Security groups, "Automatically tracked connections": the rule may go, and the flow goes on."""
    net.send("open", out())
    net.apply(LAB.replace('ingress: [{protocol: all, source: "::/0"}]', "ingress: []"))
    assert net.send("far", back(flags="SA")).to == "open"


def test_ipv4_does_not_use_it() -> None:
    from scapy.layers.inet import IP

    result = Network(LAB).send("open", IP(src="10.0.1.11", dst="198.51.100.10") / UDP())
    assert (result.reason, result.by) == (Reason.NO_ROUTE, "route-table inner/out")


def test_beside_an_internet_gateway_the_route_back_decides() -> None:
    """The subnet would answer by the egress-only gateway; with a route of its own for the far end, by the other."""
    assert Network(BOTH).send("far", back(flags="S")).reason is Reason.EGRESS_ONLY_NO_SESSION
    one = '{destination: "2001:db8:99::10/128", target: internet-gateway}'
    net = Network(BOTH.replace("routes: [{", f"routes: [{one}, {{", 1))
    assert net.send("far", back(flags="S")).to == "open"
    stranger = IPv6(src=OTHER, dst=OPEN) / TCP(sport=443, dport=33000, flags="S")
    assert net.send("other", stranger).reason is Reason.EGRESS_ONLY_NO_SESSION


def test_without_a_route_back_the_internet_gateway_takes_it() -> None:
    net = Network(BOTH.replace('[{destination: "::/0", target: egress-only-internet-gateway}]', "[]"))
    assert net.send("far", back(flags="S")).to == "open"


def test_address_in_no_subnet_is_the_internet_gateways_if_there_is_one() -> None:
    nobody = IPv6(src=FAR, dst="2001:db8:10:7::1") / UDP()
    only = Network(LAB).send("far", nobody)
    assert (only.reason, only.by) == (Reason.EGRESS_ONLY_NO_SESSION, "egress-only-internet-gateway inner")
    both = Network(BOTH).send("far", nobody)
    assert (both.reason, both.by) == (Reason.DESTINATION_UNKNOWN, "vpc inner")


@pytest.mark.parametrize(("wait", "reason"), [(6.999, Reason.NONE), (7, Reason.EGRESS_ONLY_NO_SESSION)])
def test_a_new_limit_counts_from_the_next_packet_on(net: Network, wait: float, reason: Reason) -> None:
    """Also of a flow that has gone by often."""
    datagram, answer = (
        IPv6(src=source, dst=to) / UDP(sport=sport, dport=dport)
        for source, to, sport, dport in ((OPEN, FAR, 5, 6), (FAR, OPEN, 6, 5))
    )
    for _ in range(4):
        assert net.send("open", datagram).to == "far"
    net.apply("settings: {egress_only_other_timeout: 7}\n" + LAB)
    net.wait(20)
    assert net.send("open", datagram).to == "far"
    net.wait(wait)
    assert net.send("far", answer).reason is reason
