"""Security groups (VPC User Guide, "Security group rules"; EC2 User Guide, "Security group connection tracking")."""

from __future__ import annotations

import pytest
from scapy.layers.inet import ICMP, IP, TCP, UDP
from scapy.layers.inet6 import ICMPv6EchoRequest, IPv6
from scapy.packet import Raw

from dataplane.verdict import Reason, Verdict
from tests.scenario.labs import SHOP
from tests.scenario.network import Network

WEB, APP, OPEN, DB = "10.0.1.10", "10.0.2.10", "10.0.2.11", "10.1.1.10"


@pytest.fixture
def shop() -> Network:
    return Network(SHOP)


def test_no_rule_means_no_entry(shop: Network) -> None:
    result = shop.send("open", IP(src=OPEN, dst=APP) / TCP(dport=22))
    assert (result.verdict, result.reason, result.by, result.rule) == (
        Verdict.DROP,
        Reason.GROUP_INGRESS,
        "interface app/eth0",
        "",
    )


def test_reference_matches_members_of_the_group_only(shop: Network) -> None:
    assert shop.send("app", IP(src=APP, dst=WEB) / ICMP()).to == "web"
    assert shop.send("open", IP(src=OPEN, dst=WEB) / ICMP()).reason is Reason.GROUP_INGRESS


def test_reference_works_over_an_active_peering(shop: Network) -> None:
    assert shop.send("app", IP(src=APP, dst=DB) / TCP(dport=5432)).to == "db"
    assert shop.send("open", IP(src=OPEN, dst=DB) / TCP(dport=5432)).reason is Reason.GROUP_INGRESS


def test_reply_of_a_tracked_flow_passes_without_a_rule(shop: Network) -> None:
    shop.send("app", IP(src=APP, dst=WEB) / TCP(sport=1000, dport=80))
    result = shop.send("web", IP(src=WEB, dst=APP) / TCP(sport=80, dport=1000, flags="SA"))
    assert result.to == "app"
    assert shop.send("web", IP(src=WEB, dst=APP) / TCP(sport=80, dport=1001, flags="SA")).reason is Reason.GROUP_INGRESS


@pytest.mark.parametrize(("exchanges", "limit"), [(1, 30), (2, 180)])
def test_udp_reply_is_late_after_30_or_180_seconds(shop: Network, exchanges: int, limit: int) -> None:
    request, reply = IP(src=APP, dst=OPEN) / UDP(sport=5, dport=6), IP(src=OPEN, dst=APP) / UDP(sport=6, dport=5)
    shop.send("app", request)
    for _ in range(exchanges - 1):
        assert shop.send("open", reply).to == "app"
        shop.send("app", request)
    shop.wait(limit - 0.001)
    assert shop.send("open", reply).to == "app"
    shop.send("app", request)
    shop.wait(181)
    assert shop.send("open", reply).reason is Reason.GROUP_INGRESS


def test_tracked_flow_survives_the_removal_of_its_rule_and_new_ones_do_not() -> None:
    with_rule = SHOP.replace(
        "ingress: [{protocol: tcp, ports: 80, source: 0.0.0.0/0}, {protocol: icmp",
        "ingress: [{protocol: tcp, ports: 80, source: 10.0.2.0/24}, {protocol: icmp",
    )
    network = Network(with_rule)
    syn = IP(src=APP, dst=WEB) / TCP(sport=1000, dport=80)
    assert network.send("app", syn).to == "web"
    network.send("web", IP(src=WEB, dst=APP) / TCP(sport=80, dport=1000, flags="SA"))
    network.apply(with_rule.replace("{protocol: tcp, ports: 80, source: 10.0.2.0/24}, ", ""))
    assert network.send("app", IP(src=APP, dst=WEB) / TCP(sport=1000, dport=80, flags="A")).to == "web"
    assert network.send("app", IP(src=APP, dst=WEB) / TCP(sport=1001, dport=80)).reason is Reason.GROUP_INGRESS


def test_untracked_flow_stops_with_its_rule() -> None:
    network = Network(SHOP)
    assert (
        network.send("app", IP(src=APP, dst=WEB) / TCP(sport=1000, dport=80)).to == "web"
    )  # from anywhere in, everything out: not tracked
    assert (
        network.send("web", IP(src=WEB, dst=APP) / TCP(sport=80, dport=1000, flags="SA")).to == "app"
    )  # and so are its responses
    network.apply(SHOP.replace("{protocol: tcp, ports: 80, source: 0.0.0.0/0}, ", ""))
    assert (
        network.send("app", IP(src=APP, dst=WEB) / TCP(sport=1000, dport=80, flags="A")).reason is Reason.GROUP_INGRESS
    )


def test_flow_through_a_nat_gateway_is_tracked_whatever_the_rules(shop: Network) -> None:
    port = shop.send("open", IP(src=OPEN, dst="198.51.100.10") / UDP(sport=5, dport=6)).packet[UDP].sport
    assert port
    tracked = [s for s in shop.plane.engine.sessions() if s["kind"] == "group"]
    assert [str(shop.plane.names[s["owner"]]) for s in tracked] == ["interface open/eth0"]


def test_closed_tcp_flow_may_be_opened_again_with_the_same_ports(shop: Network) -> None:
    def client(flags: str) -> bool:
        return shop.send("app", IP(src=APP, dst=OPEN) / TCP(sport=9, dport=10, flags=flags)).verdict is Verdict.FORWARD

    def server(flags: str) -> bool:
        return shop.send("open", IP(src=OPEN, dst=APP) / TCP(sport=10, dport=9, flags=flags)).verdict is Verdict.FORWARD

    assert all([client("S"), server("SA"), client("A"), client("FA"), server("FA"), client("A")])
    assert all([client("S"), server("SA"), client("A")])
    shop.wait(61)  # longer than a closing flow lives
    assert server("PA")


def test_ipv4_rules_never_match_ipv6(shop: Network) -> None:
    v6 = IPv6(src="2001:db8:10:2::11", dst="2001:db8:10:1::10") / ICMPv6EchoRequest()
    assert shop.send("open", v6).reason is Reason.GROUP_INGRESS


def test_neighbour_in_the_subnet_meets_the_groups_but_not_the_router(shop: Network) -> None:
    result = shop.send("app", IP(src=APP, dst=OPEN, ttl=1) / ICMP())
    assert (result.to, result.packet.ttl) == ("open", 1)
    assert shop.send("open", IP(src=OPEN, dst=APP) / ICMP(id=77)).reason is Reason.GROUP_INGRESS


def test_ttl_is_unchanged_between_subnets(shop: Network) -> None:
    assert shop.send("open", IP(src=OPEN, dst="10.0.1.11", ttl=1) / ICMP()).packet.ttl == 1


@pytest.mark.parametrize("identifier", [0, 7, 8, 65535])
def test_echo_request_of_the_other_side_is_not_a_reply(shop: Network, identifier: int) -> None:
    assert shop.send("app", IP(src=APP, dst=OPEN) / ICMP(id=identifier)).to == "open"
    assert shop.send("open", IP(src=OPEN, dst=APP) / ICMP(id=identifier)).reason is Reason.GROUP_INGRESS
    assert shop.send("open", IP(src=OPEN, dst=APP) / ICMP(type=14, id=identifier)).reason is Reason.GROUP_INGRESS
    assert shop.send("open", IP(src=OPEN, dst=APP) / ICMP(type=0, id=identifier)).to == "app"


def test_flows_that_died_of_silence_leave_room_for_new_ones() -> None:
    network = Network(SHOP, sessions=64)

    def opened() -> int:
        results = [network.send("app", IP(src=APP, dst=OPEN) / UDP(sport=n, dport=6)) for n in range(100)]
        return sum(r.reason is Reason.SESSION_LIMIT for r in results)

    refused = opened()
    assert refused
    network.now += 31_000
    assert opened() == refused


def test_tracing_the_future_does_not_bring_it_about(shop: Network) -> None:
    shop.send("app", IP(src=APP, dst=OPEN) / UDP(sport=5, dport=6))
    before = shop.plane.engine.sessions()
    shop.plane.trace("app", OPEN, protocol="udp", now_ms=10**12)
    assert shop.plane.engine.sessions() == before


AUTHENTICATION = 51


def authentication(words: int) -> bytes:
    """An authentication header in front of UDP, of so many 4-byte words; its length field lacks two (RFC 4302, 2.2)."""
    return bytes([17, words - 2]) + bytes(4 * words - 2)


@pytest.mark.parametrize(
    ("kind", "headers"),
    [
        (0, bytes([17, 0, 1, 4, 0, 0, 0, 0])),  # hop-by-hop options: 8 bytes, none beyond the first (RFC 8200, 4.3)
        (60, bytes([17, 2, 1, 20]) + bytes(20)),  # destination options: 24 bytes
        (43, bytes([17, 2, 4, 0]) + bytes(20)),  # routing, no segments left
        (AUTHENTICATION, authentication(6)),
        (AUTHENTICATION, authentication(8)),
        (60, bytes([AUTHENTICATION, 0, 1, 4, 0, 0, 0, 0]) + authentication(6)),
    ],
    ids=["hop-by-hop", "destination", "routing", "authentication", "longer authentication", "two"],
)
def test_ports_are_found_behind_extension_headers(kind: int, headers: bytes) -> None:
    rule = '{protocol: udp, ports: 53, source: "::/0"}'
    network = Network(SHOP.replace("{protocol: tcp, ports: 80, source: 0.0.0.0/0}", rule))
    ends = {"src": "2001:db8:99::77", "dst": "2001:db8:10:1::10"}
    for port, expected in ((53, Reason.NONE), (54, Reason.GROUP_INGRESS)):
        datagram = bytes(IPv6(**ends) / UDP(sport=5000, dport=port) / b"question")[40:]
        result = network.send("visitor", IPv6(**ends, nh=kind) / Raw(headers + datagram))
        assert result.reason is expected


def test_icmp_messages_that_ask_nothing_are_of_one_flow_with_their_like_only() -> None:
    """A rule lets in one type, which is then known; another one needs a rule of its own."""
    rule = "{protocol: icmp, icmp: {type: 10}, source: 0.0.0.0/0}"
    net = Network(SHOP.replace("ingress: []", f"ingress: [{rule}]", 1))
    reasons = [net.send("open", IP(src="10.0.2.11", dst="10.0.2.10") / ICMP(type=n)).reason for n in (10, 10, 9)]
    assert reasons == [Reason.NONE, Reason.NONE, Reason.GROUP_INGRESS]
