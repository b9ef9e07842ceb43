"""What a target may send back, and what it may not: GENEVE, cookie, sender, ports, the flow inside.

https://aws.amazon.com/blogs/networking-and-content-delivery/integrate-your-custom-logic-or-appliance-with-aws-gateway-load-balancer/
https://github.com/aws-samples/aws-gateway-load-balancer-tunnel-handler
RFC 8926, section 3.4 and 3.5
"""

from __future__ import annotations

from typing import Any

import pytest
from scapy.layers.inet import ICMP, IP, TCP, UDP, fragment
from scapy.layers.inet6 import ICMPv6EchoReply, ICMPv6EchoRequest, IPv6, IPv6ExtHdrFragment
from scapy.packet import Raw

from dataplane.verdict import Reason
from tests.scenario.gwlb import (
    APP,
    APP6,
    APP_OUTSIDE,
    DB,
    FAR,
    FAR6,
    LAB,
    NODE_A,
    NODE_B,
    ONE,
    Delivery,
    answer,
    balancer,
    delivered,
    delivery,
    send_back,
)
from tests.scenario.network import Network

QUERY = IP(src=APP, dst=DB) / UDP(sport=5000, dport=53) / Raw(b"question")
BALANCER = "gateway-load-balancer security/inspection"


def begun(text: str = ONE, packet: Any = QUERY) -> tuple[Network, Delivery]:
    """A lab, and what a target got of a flow."""
    net = Network(text)
    return net, delivered(net.send("app", packet))


def geneve(got: Delivery, *, first: str = "08000800", vni: str = "00000000", options: bytes | None = None) -> bytes:
    """A GENEVE header of one's own; `options` None: those that came."""
    return bytes.fromhex(first + vni) + (got.geneve[8:] if options is None else options)


def test_packet_that_comes_back_goes_on_from_the_endpoint() -> None:
    net, got = begun()
    result = send_back(net, got)
    assert (result.to, result.packet.dst, result.packet[UDP].load) == ("db", DB, b"question")


def test_appliance_may_change_what_is_said() -> None:
    net, got = begun()
    other = IP(src=APP, dst=DB, ttl=63, tos=4) / UDP(sport=5000, dport=53) / Raw(b"another question")
    assert send_back(net, got, inside=bytes(other)).packet[UDP].load == b"another question"


def test_appliance_may_answer_itself() -> None:
    net, got = begun()
    reply = IP(src=DB, dst=APP) / UDP(sport=53, dport=5000) / Raw(b"no")
    result = send_back(net, got, inside=bytes(reply))
    assert (result.to, result.packet[UDP].load) == ("app", b"no")


def test_what_a_target_may_not_say_it_may_not_say_of_a_flow_that_is_known() -> None:
    net, got = begun()
    for _ in range(4):
        assert send_back(net, got).to == "db"
    assert send_back(net, got, sport=got.source_port ^ 1).reason is Reason.GENEVE_PORTS
    spoofed = answer(got)
    spoofed[IP].src = "10.9.1.22"
    assert net.send(got.target, spoofed).reason is Reason.SOURCE_CHECK
    assert send_back(net, got).to == "db"


def test_what_comes_out_is_measured_by_the_links_ahead_whatever_small_packets_went_before() -> None:
    """The internet takes 1500 bytes, the tunnel more."""
    net = Network(ONE)
    small, fits, large = (IP(src=APP, dst=FAR, flags="DF") / UDP(sport=1, dport=2) / bytes(n) for n in (9, 1472, 1473))
    for _ in range(4):
        assert send_back(net, delivered(net.send("app", small))).to == "far"
    assert send_back(net, delivered(net.send("app", fits))).to == "far"
    assert send_back(net, delivered(net.send("app", large))).reason is Reason.MTU_EXCEEDED


QUERIES = [
    (IP(src=APP, dst=FAR) / ICMP(type=8, id=7), IP(src=FAR, dst=APP_OUTSIDE) / ICMP(type=0, id=7)),
    (IP(src=APP, dst=FAR) / ICMP(type=13, id=7), IP(src=FAR, dst=APP_OUTSIDE) / ICMP(type=14, id=7)),
    (IPv6(src=APP6, dst=FAR6) / ICMPv6EchoRequest(id=7), IPv6(src=FAR6, dst=APP6) / ICMPv6EchoReply(id=7)),
]


@pytest.mark.parametrize(("request_", "reply"), QUERIES, ids=["echo", "timestamp", "echo of IPv6"])
def test_pieces_of_an_answer_are_of_its_type_for_an_acl_behind_the_endpoint(request_: Any, reply: Any) -> None:
    kind = reply.payload.type
    words = ("icmpv6", "::/0") if reply.version == 6 else ("icmp", "0.0.0.0/0")
    rule = f'{{rule: 100, protocol: {words[0]}, icmp: {{type: {kind}}}, cidr: "{words[1]}", action: allow}}'
    every = [
        f'{{rule: {n}, protocol: all, cidr: "{cidr}", action: allow}}' for n, cidr in ((1, "0.0.0.0/0"), (2, "::/0"))
    ]
    acls = f"    network_acls:\n      one: {{ingress: [{rule}], egress: [{', '.join(every)}]}}\n    security_groups:\n"
    net = Network(
        ONE.replace("    security_groups:\n", acls, 1).replace(
            "route_table: apps}", "route_table: apps, network_acl: one}", 1
        )
    )
    assert send_back(net, delivered(net.send("app", request_))).to == "far"
    whole = reply.__class__(bytes(reply / Raw(bytes(1200))))
    for piece in pieces_of(whole):
        assert send_back(net, delivered(net.send("far", piece))).to == "app"


def pieces_of(packet: Any) -> list[Any]:
    """Two fragments."""
    if packet.version == 4:
        return list(fragment(packet, 800))
    body, head = bytes(packet.payload), packet.copy()
    head.remove_payload()
    del head.plen, head.nh
    parts = ((0, 1, body[:800]), (100, 0, body[800:]))
    return [head / IPv6ExtHdrFragment(nh=58, id=9, offset=at, m=more) / Raw(part) for at, more, part in parts]


def test_appliance_may_send_a_packet_as_often_as_it_likes() -> None:
    net, got = begun()
    assert [send_back(net, got).to for _ in range(3)] == ["db"] * 3


@pytest.mark.parametrize("ttl", [1, 2, 254])
def test_outer_ttl_is_not_looked_at(ttl: int) -> None:
    net, got = begun()
    packet = answer(got)
    packet.ttl = ttl
    assert net.send("fw1", packet).to == "db"


@pytest.mark.parametrize("total", [0, 1, 0xFFFF])
def test_nor_is_the_udp_checksum(total: int) -> None:
    net, got = begun()
    assert send_back(net, got, chksum=total).to == "db"


@pytest.mark.parametrize(
    ("first", "vni"),
    [
        ("08000800", "12345600"),
        ("08000800", "000000ff"),
        ("08800800", "00000000"),  # O
        ("08400800", "00000000"),  # C
        ("083f0800", "00000000"),  # reserved bits
    ],
)
def test_what_appliances_do_to_the_header_is_tolerated(first: str, vni: str) -> None:
    net, got = begun()
    assert send_back(net, got, geneve=geneve(got, first=first, vni=vni)).to == "db"


def test_any_order_of_options_and_unknown_ones_are_tolerated() -> None:
    net, got = begun()
    endpoint, attachment, cookie = got.geneve[8:20], got.geneve[20:32], got.geneve[32:40]
    unknown = bytes.fromhex("0102800200000000 00000000") + bytes.fromhex("010a7f00") + bytes.fromhex("01080400")
    for options in (
        cookie + endpoint,
        cookie + attachment + endpoint,
        unknown + endpoint + unknown + cookie + unknown,
        endpoint + cookie + bytes.fromhex("0108030000000000")[:4],  # a cookie without content is none
    ):
        header = bytes([len(options) // 4]) + bytes.fromhex("000800") + bytes(4)
        assert send_back(net, got, geneve=header + options).to == "db"


def test_options_may_take_63_words() -> None:
    """The length field has six bits, in words of four bytes (RFC 8926, section 3.4)."""
    net, got = begun()
    endpoint, cookie = got.geneve[8:20], got.geneve[32:40]
    unknown = bytes.fromhex("0102801f") + bytes(124) + bytes.fromhex("01028019") + bytes(100)
    for options in (endpoint + cookie + unknown, unknown + endpoint + cookie):
        assert len(options) == 252
        assert send_back(net, got, geneve=geneve(got, first="3f000800", options=options)).to == "db"


# -- what is malformed


@pytest.mark.parametrize("first", ["48000800", "88000800", "c8000800"])
def test_other_versions(first: str) -> None:
    net, got = begun()
    result = send_back(net, got, geneve=geneve(got, first=first))
    assert (result.reason, result.by, result.sent) == (Reason.GENEVE_MALFORMED, BALANCER, ())


@pytest.mark.parametrize("kind", ["6558", "0806", "0000", "86dd"])
def test_other_contents(kind: str) -> None:
    net, got = begun()
    assert send_back(net, got, geneve=geneve(got, first=f"0800{kind}")).reason is Reason.GENEVE_MALFORMED


@pytest.mark.parametrize("size", [0, 1, 7, 8, 39, 40, 59, 60, 67])
def test_message_cut_short(size: int) -> None:
    net, got = begun()
    message = (got.geneve + got.inside)[:size]
    result = send_back(net, got, geneve=message, inside=b"")
    assert result.reason is Reason.GENEVE_MALFORMED


@pytest.mark.parametrize(
    "options",
    [
        bytes.fromhex("0108031f") + bytes(28),  # 31 words where there are 7
        bytes.fromhex("01080102f583215d"),
    ],
)
def test_option_that_runs_over(options: bytes) -> None:
    net, got = begun()
    header = bytes([len(options) // 4]) + bytes.fromhex("000800") + bytes(4)
    assert send_back(net, got, geneve=header + options).reason is Reason.GENEVE_MALFORMED


def test_options_longer_than_the_message() -> None:
    net, got = begun()
    result = send_back(net, got, geneve=bytes([63]) + got.geneve[1:], inside=b"")
    assert result.reason is Reason.GENEVE_MALFORMED


@pytest.mark.parametrize(
    "inside",
    [
        b"",
        b"hello",
        bytes(IPv6(src=APP6, dst="2001:db8:99::10") / UDP()),
        bytes(QUERY)[:-1],
        bytes(IP(src=APP, dst=DB, chksum=1) / UDP(sport=5000, dport=53)),
        bytes(IP(src=APP, dst=DB, ttl=0) / UDP(sport=5000, dport=53)),
    ],
)
def test_no_packet_inside(inside: bytes) -> None:
    net, got = begun()
    assert send_back(net, got, inside=inside).reason is Reason.GENEVE_MALFORMED


def test_what_follows_the_packet_inside_is_cut_off() -> None:
    net, got = begun()
    result = send_back(net, got, inside=got.inside + bytes(5))
    assert bytes(result.packet)[20:] == bytes(QUERY)[20:]


# -- what is missing or unknown


@pytest.mark.parametrize("kept", [(), ("endpoint",), ("cookie",), ("attachment",), ("attachment", "cookie")])
def test_without_endpoint_or_cookie(kept: tuple[str, ...]) -> None:
    net, got = begun()
    whole = {"endpoint": got.geneve[8:20], "attachment": got.geneve[20:32], "cookie": got.geneve[32:40]}
    options = b"".join(whole[name] for name in kept)
    header = bytes([len(options) // 4]) + bytes.fromhex("000800") + bytes(4)
    result = send_back(net, got, geneve=header + options)
    assert (result.reason, result.by) == (Reason.GENEVE_OPTIONS_MISSING, BALANCER)


def test_options_of_another_class_are_not_meant() -> None:
    net, got = begun()
    options = got.geneve[8:].replace(bytes.fromhex("01080301"), bytes.fromhex("01090301"))
    assert send_back(net, got, geneve=geneve(got, options=options)).reason is Reason.GENEVE_OPTIONS_MISSING


@pytest.mark.parametrize("at", [12, 19, 36, 39])
def test_unknown_cookie_or_endpoint(at: int) -> None:
    net, got = begun()
    changed = bytearray(got.geneve)
    changed[at] ^= 0x40
    result = send_back(net, got, geneve=bytes(changed))
    assert (result.reason, result.by) == (Reason.GENEVE_COOKIE_UNKNOWN, BALANCER)


def test_cookie_of_another_endpoint() -> None:
    net, got = begun()
    header = geneve(got, options=got.geneve[8:12] + (1).to_bytes(8) + got.geneve[20:])
    assert send_back(net, got, geneve=header).reason is Reason.GENEVE_COOKIE_UNKNOWN


def test_second_option_is_not_looked_at() -> None:
    net, got = begun()
    header = geneve(got, options=got.geneve[8:24] + bytes(range(8)) + got.geneve[32:])
    assert send_back(net, got, geneve=header).to == "db"


# -- who sends it


def test_another_target() -> None:
    net, got = begun()
    packet = answer(got)
    packet.src = "10.9.1.22"
    result = net.send("fw2", packet)
    assert (result.reason, result.by) == (Reason.GENEVE_SENDER, BALANCER)


def test_to_another_node_of_the_balancer() -> None:
    net, got = begun()
    packet = answer(got)
    packet.dst = NODE_B
    assert net.send("fw1", packet).to == "db"


@pytest.mark.parametrize("port", [0, 6081, 49151])
def test_another_source_port(port: int) -> None:
    net, got = begun()
    result = send_back(net, got, sport=port)
    assert (result.reason, result.by) == (Reason.GENEVE_PORTS, BALANCER)


def test_ports_swapped() -> None:
    net, got = begun()
    result = send_back(net, got, sport=6081, dport=got.source_port)
    assert result.reason is Reason.ENDPOINT_ADDRESSED


def test_fragments() -> None:
    net, got = begun()
    for piece in fragment(answer(got), 48):
        result = net.send("fw1", piece)
        assert (result.reason, result.by) == (Reason.GENEVE_FRAGMENT, BALANCER)


# -- the flow inside


@pytest.mark.parametrize(
    "inside",
    [
        IP(src=APP, dst=DB) / UDP(sport=5001, dport=53),
        IP(src=APP, dst=DB) / UDP(sport=5000, dport=54),
        IP(src=APP, dst=FAR) / UDP(sport=5000, dport=53),
        IP(src="10.0.2.11", dst=DB) / UDP(sport=5000, dport=53),
        IP(src=APP, dst=DB) / TCP(sport=5000, dport=53, flags="S"),
        IP(src=DB, dst=APP) / UDP(sport=5000, dport=53),
        IP(src=APP, dst=DB) / ICMP(id=5000),
        IP(src=APP, dst=DB) / ICMP(type=3, code=1) / Raw(bytes(IP(src=APP, dst=DB) / UDP(sport=1, dport=2))),
        IP(src=APP, dst=DB) / ICMP(type=3, code=1) / Raw(bytes(QUERY)[:24]),
        IP(src="127.0.0.1", dst=DB) / UDP(sport=5000, dport=53),
    ],
)
def test_packet_of_another_flow(inside: Any) -> None:
    net, got = begun()
    result = send_back(net, got, inside=bytes(inside))
    assert (result.reason, result.by, result.sent) == (Reason.GENEVE_FLOW_CHANGED, BALANCER, ())


@pytest.mark.parametrize(("about", "to"), [(QUERY, "app"), (IP(src=DB, dst=APP) / UDP(sport=53, dport=5000), "db")])
def test_error_about_the_flow(about: Any, to: str) -> None:
    net, got = begun()
    error = IP(src="10.9.1.21", dst=about.src) / ICMP(type=3, code=13) / Raw(bytes(about)[:28])
    assert send_back(net, got, inside=bytes(error)).to == to
    elsewhere = IP(src="10.9.1.21", dst=about.dst) / ICMP(type=3, code=13) / Raw(bytes(about)[:28])
    assert send_back(net, got, inside=bytes(elsewhere)).reason is Reason.GENEVE_FLOW_CHANGED


def test_error_of_somebody_who_cannot_be_a_sender() -> None:
    net, got = begun()
    error = IP(src="127.0.0.1", dst=APP) / ICMP(type=3, code=13) / Raw(bytes(QUERY)[:28])
    result = send_back(net, got, inside=bytes(error))
    assert (result.reason, result.by) == (Reason.SOURCE_MARTIAN, BALANCER)


PIECES = fragment(IP(src=APP, dst=DB, id=5) / UDP(sport=5000, dport=53) / Raw(bytes(1200)), 800)


def in_pieces(net: Network, node: str, pieces: list[Any]) -> list[Delivery]:
    """What a target gets of a datagram in pieces."""
    return [delivered(net.send(node, piece)) for piece in pieces]


def test_later_fragment_is_of_the_flow_by_its_addresses() -> None:
    net = Network(ONE)
    first, second = in_pieces(net, "app", PIECES)
    assert send_back(net, second).to == "db"
    assert send_back(net, first).to == "db"
    for changes in ({"src": "10.0.2.11"}, {"proto": 6}):
        other = IP(second.inside)
        for name, value in changes.items():
            setattr(other, name, value)
        del other.chksum
        assert send_back(net, second, inside=bytes(other)).reason is Reason.GENEVE_FLOW_CHANGED


def test_later_fragment_that_an_appliance_made_is_dropped() -> None:
    """ "Because layer 4 header is not present"; the first one has its."""
    net, got = begun(packet=IP(src=APP, dst=DB, id=5) / UDP(sport=5000, dport=53) / Raw(bytes(1200)))
    first, second = fragment(IP(got.inside), 800)
    assert send_back(net, got, inside=bytes(first)).to == "db"
    result = send_back(net, got, inside=bytes(second))
    assert (result.reason, result.by, result.sent) == (Reason.GENEVE_FRAGMENT, BALANCER, ())


def test_later_fragment_follows_the_first_one_of_its_own_sender() -> None:
    net = Network(ONE)
    _, second = in_pieces(net, "app", PIECES)
    turned = IP(second.inside)
    turned.src, turned.dst = turned.dst, turned.src
    del turned.chksum
    assert send_back(net, second, inside=bytes(turned)).reason is Reason.GENEVE_FRAGMENT
    in_pieces(net, "db", fragment(IP(src=DB, dst=APP, id=6) / UDP(sport=53, dport=5000) / Raw(bytes(1200)), 800))
    assert send_back(net, second, inside=bytes(turned)).to == "app"


def test_later_fragment_has_the_ports_of_its_flow() -> None:
    """Which an ACL looks at, here that of the server's subnet."""
    text = ONE.replace(
        "      data: {cidr: 10.0.3.0/24, ", "      data: {network_acl: dns, cidr: 10.0.3.0/24, ", 1
    ).replace(
        "    security_groups:\n      open:\n",
        "    network_acls:\n      dns:\n        ingress:\n"
        "          - {rule: 1, protocol: udp, ports: 53, cidr: 10.0.0.0/16, action: allow}\n"
        "        egress: []\n    security_groups:\n      open:\n",
        1,
    )
    for port, reason in ((53, Reason.NONE), (54, Reason.ACL_INGRESS)):
        net = Network(text)
        datagram = IP(src=APP, dst=DB, id=5) / UDP(sport=5000, dport=port) / Raw(bytes(1200))
        second = in_pieces(net, "app", fragment(datagram, 800))[1]
        assert send_back(net, second).reason is reason


def test_later_fragments_of_a_ping_are_echo_too() -> None:
    net = Network(ONE)
    pieces = in_pieces(net, "app", fragment(IP(src=APP, dst=DB, id=5) / ICMP(id=4) / Raw(bytes(1200)), 800))
    assert [send_back(net, each).to for each in pieces] == ["db", "db"]


# -- what else is sent to a node or an endpoint


@pytest.mark.parametrize(
    "packet", [UDP(sport=6081, dport=6080), TCP(sport=6081, dport=6081, flags="S"), ICMP(), UDP(sport=53, dport=80)]
)
def test_node_answers_nothing_else(packet: Any) -> None:
    result = Network(LAB).send("fw1", IP(src="10.9.1.21", dst=NODE_A) / packet)
    assert (result.reason, result.sent) == (Reason.ENDPOINT_ADDRESSED, ())
    assert result.by == "gateway-load-balancer-node security/inspection/fw-a"


@pytest.mark.parametrize("packet", [UDP(sport=1, dport=6081), TCP(sport=1, dport=80, flags="S"), ICMP()])
def test_nor_does_an_endpoint(packet: Any) -> None:
    result = Network(LAB).send("neighbour", IP(src="10.0.1.20", dst="10.0.1.10") / packet)
    assert (result.reason, result.sent, result.by) == (Reason.ENDPOINT_ADDRESSED, (), "vpc-endpoint shop/inspect")


def test_stranger_cannot_send_geneve() -> None:
    net, got = begun(ONE)
    packet = answer(got)
    packet.src = "10.9.2.23"
    assert net.send("fw3", packet).reason is Reason.GENEVE_SENDER


def test_endpoint_that_was_rejected_since_knows_no_flow() -> None:
    net, got = begun()
    net.apply(ONE.replace("acceptance_required: false", 'acceptance_required: false, rejected: ["shop/inspect"]'))
    assert send_back(net, got).reason is Reason.GENEVE_COOKIE_UNKNOWN


def test_and_knows_it_again_when_it_is_accepted() -> None:
    net, got = begun()
    net.apply(ONE.replace("acceptance_required: false", 'acceptance_required: false, rejected: ["shop/inspect"]'))
    net.apply(ONE)
    assert send_back(net, got).to == "db"


def test_pieces_come_back_one_by_one() -> None:
    net = Network(balancer(ONE))
    pieces = fragment(IP(src=APP, dst=FAR, id=8) / UDP(sport=1, dport=2) / Raw(bytes(2000)), 1000)
    got = [delivery(sent) for piece in pieces for sent in net.send("app", piece).sent]
    assert [send_back(net, each).packet.frag for each in reversed(got)] == [piece.frag for piece in reversed(pieces)]


def test_what_comes_back_to_another_balancer_is_of_none_of_its_flows() -> None:
    """The appliance is a target of both; the id is of an endpoint of the first one."""
    other = "      other: {subnets: [fw-a], private_ips: {fw-a: 10.9.1.11}, target_group: spare}\n"
    groups = "    target_groups:\n"
    text = LAB.replace(groups, f"{other}{groups}      spare: {{targets: [fw1, fw2]}}\n")
    net = Network(text)
    got = delivered(net.send("app", QUERY))
    assert got.source == "10.9.1.10"
    sent = answer(got)
    sent.dst = "10.9.1.11"
    result = net.send(got.target, sent)
    assert (result.reason, result.by) == (Reason.GENEVE_COOKIE_UNKNOWN, "gateway-load-balancer security/other")
    assert send_back(net, got).to == "db"
