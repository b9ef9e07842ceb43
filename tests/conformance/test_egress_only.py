"""Egress-only internet gateways: IPv6 out, and only the answers in."""

from __future__ import annotations

import pytest
from scapy.layers.inet import TCP, UDP
from scapy.layers.inet6 import (
    ICMPv6DestUnreach,
    ICMPv6EchoReply,
    ICMPv6EchoRequest,
    ICMPv6PacketTooBig,
    IPv6,
    IPv6ExtHdrFragment,
)

from dataplane.verdict import Reason, Verdict
from tests.conformance.behaviours import behaviour
from tests.conformance.labs import changed, refused
from tests.conformance.sources import ec2_guide, peering_guide, reachability, rfc, vpc_guide
from tests.scenario.network import Network

SECTION = "Egress-only internet gateways"

PAGE = vpc_guide("egress-only-internet-gateway")
HOST, FAR, OTHER = "2001:db8:a:1::11", "2001:db8:99::10", "2001:db8:99::77"

# `open` lets everything in and out: only the gateway keeps anybody out.
LAB = """
version: 1
vpcs:
  v:
    cidr: 10.0.0.0/16
    ipv6_cidrs: ["2001:db8:a::/56"]
    egress_only_internet_gateway: {}
    subnets: {net: {cidr: 10.0.1.0/24, ipv6_cidr: "2001:db8:a:1::/64", route_table: out}}
    route_tables: {out: {routes: [{destination: "::/0", target: egress-only-internet-gateway}]}}
    security_groups: {open: {description: all, ingress: [{protocol: all, source: "::/0"}]}}
instances:
  host: {vpc: v, subnet: net, private_ip: 10.0.1.11, ipv6_address: "2001:db8:a:1::11", security_groups: [open]}
internet:
  hosts: {far: {address: 198.51.100.10, ipv6_address: "2001:db8:99::10"},
    other: {address: 198.51.100.77, ipv6_address: "2001:db8:99::77"}}
"""


def out(body: object, **fields: object) -> IPv6:
    return IPv6(src=HOST, dst=FAR, **fields) / body


def back(body: object) -> IPv6:
    return IPv6(src=FAR, dst=HOST) / body


@behaviour(
    "Nothing from outside passes an egress-only internet gateway unasked; the answer to what went out does",
    source=PAGE,
    item=23,
)
@pytest.mark.parametrize(
    ("request_", "answer"),
    [
        (TCP(sport=5, dport=80), TCP(sport=80, dport=5, flags="SA")),
        (UDP(sport=5, dport=53), UDP(sport=53, dport=5)),
        (ICMPv6EchoRequest(id=7), ICMPv6EchoReply(id=7)),
    ],
)
def test_only_answers_come_in(request_: object, answer: object) -> None:
    network = Network(LAB)
    for unasked in (back(TCP(sport=5, dport=80)), back(answer), back(ICMPv6EchoRequest(id=7))):
        result = network.send("far", unasked)
        assert (result.verdict, result.reason, result.sent) == (Verdict.DROP, Reason.EGRESS_ONLY_NO_SESSION, ())
    seen = network.send("host", out(request_))
    assert (seen.to, seen.packet.src) == ("far", HOST)  # no address is translated
    assert network.send("far", back(answer)).to == "host"


@behaviour("An answer comes from where the request went, ports included", source=PAGE)
def test_who_may_answer() -> None:
    network = Network(LAB)
    network.send("host", out(UDP(sport=5, dport=53)))
    assert network.send("far", back(UDP(sport=54, dport=5))).reason is Reason.EGRESS_ONLY_NO_SESSION
    assert network.send("far", back(UDP(sport=53, dport=6))).reason is Reason.EGRESS_ONLY_NO_SESSION
    elsewhere = IPv6(src=OTHER, dst=HOST) / UDP(sport=53, dport=5)
    assert network.send("other", elsewhere).reason is Reason.EGRESS_ONLY_NO_SESSION
    assert network.send("far", back(UDP(sport=53, dport=5))).to == "host"


@behaviour("An egress-only internet gateway is for IPv6 alone, and a VPC without IPv6 has none", source=PAGE)
def test_ipv6_only() -> None:
    found = refused(changed(LAB, ('destination: "::/0"', "destination: 0.0.0.0/0")))
    assert {path for path, _ in found} == {"vpcs.v.route_tables.out.routes[0].target"}
    plain = changed(LAB, ('    ipv6_cidrs: ["2001:db8:a::/56"]\n', ""))
    plain = changed(plain, (', ipv6_cidr: "2001:db8:a:1::/64"', ""), (' ipv6_address: "2001:db8:a:1::11",', ""))
    assert "vpcs.v.egress_only_internet_gateway" in {path for path, _ in refused(plain)}


@behaviour(
    "Security groups track what goes by an egress-only internet gateway even where rules for everything would not be "
    "tracked: it outlives its rule",
    source=ec2_guide("security-group-connection-tracking"),
)
def test_flows_are_tracked() -> None:
    network = Network(LAB)
    network.send("host", out(TCP(sport=5, dport=80)))
    network.send("far", back(TCP(sport=80, dport=5, flags="SA")))
    network.apply(changed(LAB, ('ingress: [{protocol: all, source: "::/0"}]', "ingress: [], egress: []")))
    assert network.send("far", back(TCP(sport=80, dport=5, flags="A"))).to == "host"
    assert network.send("host", out(TCP(sport=5, dport=80, flags="A"))).to == "far"
    assert network.send("host", out(TCP(sport=6, dport=80))).reason is Reason.GROUP_EGRESS


@behaviour("Network ACLs apply to what goes by an egress-only internet gateway, answers included", source=PAGE)
def test_acl_applies() -> None:
    acl = """    network_acls:
      half:
        egress: [{rule: 100, protocol: all, cidr: "::/0", action: allow}]
        ingress: [{rule: 100, protocol: udp, ports: 1024-65535, cidr: "::/0", action: allow}]
    security_groups"""
    text = changed(LAB, ("    security_groups", acl), ("route_table: out}", "route_table: out, network_acl: half}"))
    network = Network(text)
    network.send("host", out(UDP(sport=5, dport=53)))
    network.send("host", out(UDP(sport=5000, dport=53)))
    assert network.send("far", back(UDP(sport=53, dport=5))).reason is Reason.ACL_INGRESS
    assert network.send("far", back(UDP(sport=53, dport=5000))).to == "host"


@behaviour("ICMPv6 errors about what went out come in, from whatever router; others do not", source=rfc(4890, "4.3.1"))
def test_errors_come_in() -> None:
    network = Network(LAB)
    sent = network.send("host", out(UDP(sport=5, dport=53) / b"abc")).packet
    for error in (ICMPv6DestUnreach(code=4), ICMPv6PacketTooBig(mtu=1280)):
        assert network.send("other", IPv6(src=OTHER, dst=HOST) / error / IPv6(bytes(sent))).to == "host"
    never_sent = out(UDP(sport=6, dport=53) / b"abc")
    result = network.send("other", IPv6(src=OTHER, dst=HOST) / ICMPv6DestUnreach(code=4) / never_sent)
    assert (result.reason, result.sent) == (Reason.EGRESS_ONLY_NO_SESSION, ())


@behaviour("An ICMPv6 error about a flow comes in to who has it, and to nobody else", source=rfc(4443, "2.2"))
def test_errors_for_others() -> None:
    interface = 'private_ip: 10.0.1.12, ipv6_address: "2001:db8:a:1::12"'
    quiet = f"  quiet: {{vpc: v, subnet: net, {interface}, security_groups: [open]}}\ninternet:\n"
    network = Network(changed(LAB, ("internet:\n", quiet)))
    sent = network.send("host", out(UDP(sport=5, dport=53) / b"abc")).packet
    error = ICMPv6DestUnreach(code=4) / IPv6(bytes(sent))
    result = network.send("far", IPv6(src=FAR, dst="2001:db8:a:1::12") / error)
    assert (result.reason, result.sent) == (Reason.EGRESS_ONLY_NO_SESSION, ())
    assert network.send("far", back(error)).to == "host"


@behaviour(
    "A reply that nobody has asked for leaves by an egress-only internet gateway, and lets no request in",
    source=PAGE,
    silent=True,
)
def test_unsolicited_replies() -> None:
    network = Network(LAB)
    for _ in range(2):
        assert [network.send("host", out(ICMPv6EchoReply(id=7))).to for _ in range(2)] == ["far"] * 2
        assert network.send("far", back(ICMPv6EchoRequest(id=7))).reason is Reason.EGRESS_ONLY_NO_SESSION
    assert network.send("host", out(ICMPv6EchoRequest(id=7))).to == "far"
    assert network.send("far", back(ICMPv6EchoReply(id=7))).to == "host"


@behaviour(
    "A source that no interface of the VPC has does not leave by an egress-only internet gateway", source=reachability()
)
def test_spoofed_source() -> None:
    network = Network(changed(LAB, ("private_ip: 10.0.1.11,", "private_ip: 10.0.1.11, source_dest_check: false,")))
    result = network.send("host", IPv6(src="2001:db8:a:1::99", dst=FAR) / UDP(sport=5, dport=6))
    assert (result.reason, result.sent) == (Reason.GATEWAY_SPOOFED, ())


@behaviour(
    "An idle flow is forgotten after what the lab's settings say: 350 seconds of TCP, 120 of all else by default",
    silent=True,
    source=PAGE,
)
@pytest.mark.parametrize(
    ("body", "answer", "seconds"),
    [
        (TCP(sport=5, dport=80), TCP(sport=80, dport=5, flags="SA"), 350),
        (UDP(sport=5, dport=53), UDP(sport=53, dport=5), 120),
        (ICMPv6EchoRequest(id=7), ICMPv6EchoReply(id=7), 120),
    ],
)
def test_idle_flows(body: object, answer: object, seconds: int) -> None:
    settings = "settings: {egress_only_tcp_timeout: 20, egress_only_other_timeout: 10}\n"
    for text, limit in ((LAB, seconds), (settings + LAB, 20 if seconds == 350 else 10)):
        network = Network(text)
        network.send("host", out(body))
        network.wait(limit)
        assert network.send("far", back(answer)).reason is Reason.EGRESS_ONLY_NO_SESSION
        network.send("host", out(body))
        network.wait(limit - 0.001)
        assert network.send("far", back(answer)).to == "host"


@behaviour(
    "What is too big for the internet is answered by the subnet's router, as at an internet gateway",
    source=ec2_guide("network_mtu"),
)
def test_too_big() -> None:
    [sent] = Network(LAB).send("host", out(UDP(sport=5, dport=6) / bytes(1453))).sent
    assert (sent.node, sent.packet.src, sent.packet[ICMPv6PacketTooBig].mtu) == ("host", "2001:db8:a:1::1", 1500)


@behaviour("Fragments of an answer come in with their first", source=rfc(8200, "4.5"))
def test_fragments_of_an_answer() -> None:
    network = Network(LAB)
    network.send("host", out(UDP(sport=5, dport=53)))
    body = bytes(UDP(sport=53, dport=5, len=24) / bytes(16))
    first = IPv6(src=FAR, dst=HOST) / IPv6ExtHdrFragment(nh=17, id=7, m=1) / body[:16]
    later = IPv6(src=FAR, dst=HOST) / IPv6ExtHdrFragment(nh=17, id=7, offset=2) / body[16:]
    unasked = IPv6(src=FAR, dst=HOST) / IPv6ExtHdrFragment(nh=17, id=8, m=1) / bytes(UDP(sport=53, dport=6) / bytes(8))
    assert [r.to for r in network.send_all("far", [first, later])] == ["host"] * 2
    assert network.send("far", unasked).reason is Reason.EGRESS_ONLY_NO_SESSION


@behaviour(
    "Where a VPC has both gateways, what comes in enters by the one that its subnet sends answers to",
    silent=True,
    source=vpc_guide("VPC_Internet_Gateway"),
)
def test_both_gateways() -> None:
    """AWS does not say how it tells them apart; the lab goes by the route table of the destination's subnet."""
    both = changed(
        LAB,
        ("    egress_only_internet_gateway: {}\n", "    egress_only_internet_gateway: {}\n    internet_gateway: {}\n"),
    )
    unasked = back(TCP(sport=5, dport=80))
    assert Network(both).send("far", unasked).reason is Reason.EGRESS_ONLY_NO_SESSION
    public = changed(both, ("target: egress-only-internet-gateway", "target: internet-gateway"))
    assert Network(public).send("far", unasked).to == "host"
    split = '{destination: "::/0", target: internet-gateway}, {destination: "2001:db8:99::10/128", target: egress-only'
    network = Network(changed(both, ('{destination: "::/0", target: egress-only', split)))
    assert network.send("far", unasked).reason is Reason.EGRESS_ONLY_NO_SESSION
    assert network.send("other", IPv6(src=OTHER, dst=HOST) / TCP(sport=5, dport=80)).to == "host"


@behaviour(
    "A peer VPC does not use an egress-only internet gateway", source=peering_guide("invalid-peering-configurations")
)
def test_peer_is_not_served() -> None:
    peer = """  p:
    cidr: 10.9.0.0/16
    ipv6_cidrs: ["2001:db8:9::/56"]
    subnets: {net: {cidr: 10.9.1.0/24, ipv6_cidr: "2001:db8:9:1::/64", route_table: net}}
    route_tables: {net: {routes: [{destination: "::/0", target: "peering:v-p"}]}}
peerings: {v-p: {requester: v, accepter: p}}
instances:
  peer: {vpc: p, subnet: net, private_ip: 10.9.1.11, ipv6_address: "2001:db8:9:1::11"}
"""
    network = Network(changed(LAB, ("instances:\n", peer)))
    source = "2001:db8:9:1::11"
    assert network.send("peer", IPv6(src=source, dst=HOST) / UDP(sport=5, dport=53)).to == "host"
    result = network.send("peer", IPv6(src=source, dst=FAR) / UDP(sport=5, dport=53))
    assert (result.reason, result.sent) == (Reason.PEER_DESTINATION, ())
