"""Fragments: the first decides; others wait for it or follow it, within bounds that no neighbour can use up."""

from __future__ import annotations

import pytest
from scapy.layers.inet import ICMP, IP, UDP, fragment
from scapy.layers.inet6 import IPv6, IPv6ExtHdrDestOpt, IPv6ExtHdrFragment

from dataplane.verdict import Cause, Reason, Verdict
from tests.scenario.labs import SHOP
from tests.scenario.network import Network

OPEN, BARE = "10.0.2.11", "10.0.1.11"


@pytest.fixture
def shop() -> Network:
    return Network(SHOP)


def pieces(number: int, size: int = 3000) -> list[IP]:
    return list(fragment(IP(src=OPEN, dst=BARE, id=number) / UDP(sport=5, dport=6) / bytes(size), 1400))


def test_in_any_order_they_arrive_once_the_first_has_come(shop: Network) -> None:
    first, second, third = pieces(1)
    assert [r.verdict for r in shop.send_all("open", [third, second])] == [Verdict.HOLD, Verdict.HOLD]
    results = shop.send_all("open", [first, second])
    causes = [(s.cause, s.packet.frag) for r in results for s in r.sent]
    assert (Cause.FORWARDED, 0) in causes
    assert sum(cause is Cause.RELEASED for cause, _ in causes) == 2
    assert results[1].verdict is Verdict.FORWARD


def test_one_whose_first_never_comes_dies_of_age(shop: Network) -> None:
    port = shop.port("open")
    assert shop.send("open", pieces(2)[1]).verdict is Verdict.HOLD
    shop.wait(29.999)
    assert shop.plane.engine.statistics()["fragments_waiting"] == 1
    shop.wait(0.001)
    shop.wait(1)
    assert shop.plane.engine.statistics()["fragments_waiting"] == 0
    assert shop.plane.engine.counters()[port]["reasons"] == {Reason.FRAGMENT_TIMEOUT: 1}


@pytest.mark.parametrize(("idle_ms", "verdict"), [(29_999, Verdict.FORWARD), (30_000, Verdict.HOLD)])
def test_a_first_fragment_is_followed_for_30_seconds(shop: Network, idle_ms: int, verdict: Verdict) -> None:
    """Its identification may be another datagram's by then. Also when what is old was cleared away just before."""
    first, second, _ = pieces(9)
    assert shop.send("open", first).verdict is Verdict.FORWARD
    shop.wait((idle_ms - 500) / 1000)
    shop.now += 500
    assert shop.send("open", second).verdict is verdict


def test_fragments_of_a_refused_datagram_are_refused_like_the_first(shop: Network) -> None:
    refused = list(fragment(IP(src=OPEN, dst="10.0.2.10", id=3) / UDP(sport=5, dport=6) / bytes(3000), 1400))
    assert {r.reason for r in shop.send_all("open", refused)} == {Reason.GROUP_INGRESS}


def test_what_waited_and_is_refused_then_is_counted_like_what_did_not_wait(shop: Network) -> None:
    first, second, third = fragment(IP(src=OPEN, dst="10.0.2.10", id=3) / UDP(sport=5, dport=6) / bytes(3000), 1400)
    assert {r.verdict for r in shop.send_all("open", [second, third])} == {Verdict.HOLD}
    assert shop.send("open", first).reason is Reason.GROUP_INGRESS
    assert shop.plane.engine.counters()[shop.port("open")]["reasons"] == {Reason.GROUP_INGRESS: 3}


def test_what_waited_for_a_neighbour_comes_from_its_senders_mac(shop: Network) -> None:
    """Neighbours hear each other, not the router, whoever's piece came first."""
    app = "10.0.2.10"
    first, second, third = fragment(IP(src=app, dst=OPEN, id=4) / UDP(sport=5, dport=6) / bytes(3000), 1400)
    assert {r.verdict for r in shop.send_all("app", [third, second])} == {Verdict.HOLD}
    sent = shop.send("app", first).sent
    assert [(each.node, each.packet.frag) for each in sent] == [("open", 0), ("open", 350), ("open", 175)]
    assert {(each.ether.src, each.ether.dst) for each in sent} == {(shop.mac("app"), shop.mac("open"))}


def test_a_steady_stream_of_fragmented_datagrams_loses_none(shop: Network) -> None:
    for number in range(1200):
        shop.now += 1
        results = shop.send_all("open", pieces(number, 1500))
        assert [r.verdict for r in results] == [Verdict.FORWARD] * 2, number


def test_a_neighbour_that_floods_lone_fragments_harms_only_itself(shop: Network) -> None:
    lone = IP(src=BARE, dst=OPEN, proto=17, frag=64) / bytes(16)
    held = refused = 0
    for number in range(3000):
        lone.id = number
        result = shop.send("bare", lone)
        held += result.verdict is Verdict.HOLD
        refused += result.reason is Reason.FRAGMENT_LIMIT
    assert (held, refused) == (64, 2936)
    for number in range(100):
        assert [r.verdict for r in shop.send_all("open", pieces(number, 1500))] == [Verdict.FORWARD] * 2


def test_later_ipv6_fragment_has_the_protocol_of_the_first(shop: Network) -> None:
    """The fragment header names what follows it, which need not be the transport header."""
    ends = {"src": "2001:db8:10:2::11", "dst": "2001:db8:10:1::11"}
    body = bytes(IPv6ExtHdrDestOpt(nh=17) / UDP(sport=5, dport=6, len=24) / bytes(16))
    first = IPv6(**ends) / IPv6ExtHdrFragment(nh=60, id=7, m=1) / body[:16]
    later = IPv6(**ends) / IPv6ExtHdrFragment(nh=60, id=7, offset=2) / body[16:]
    results = shop.send_all("open", [first, later])
    assert [r.verdict for r in results] == [Verdict.FORWARD] * 2
    assert {s["forward"][3] for s in shop.plane.engine.sessions()} <= {17}


def test_later_fragment_of_an_icmp_error_is_related_like_the_first(shop: Network) -> None:
    shop.send("app", IP(src="10.0.2.10", dst=OPEN) / UDP(sport=5, dport=6) / b"x")
    quoted = bytes(IP(src="10.0.2.10", dst=OPEN) / UDP(sport=5, dport=6) / b"x") + bytes(1600)
    error = IP(src=OPEN, dst="10.0.2.10", id=9) / ICMP(type=3, code=3) / quoted
    assert {r.to for r in shop.send_all("open", list(fragment(error, 800)))} == {"app"}


PING = IP(src="10.0.2.10", dst=OPEN) / ICMP(id=7) / b"ping"


@pytest.mark.parametrize(
    "answer",
    [ICMP(type=0, id=7) / bytes(1600), ICMP(type=3, code=3) / bytes(PING) / bytes(1600)],
    ids=["reply", "error about the request"],
)
def test_later_fragments_of_what_answers_a_ping_are_of_its_flow(shop: Network, answer: ICMP) -> None:
    """The app's group lets nothing else in."""
    assert shop.send("app", PING).to == "open"
    pieces = list(fragment(IP(src=OPEN, dst="10.0.2.10", id=9) / answer, 800))
    assert {r.to for r in shop.send_all("open", pieces)} == {"app"}


def test_later_fragments_have_the_icmp_code_of_the_first() -> None:
    rule = "{rule: 100, protocol: icmp, icmp: {type: 3, code: 3}, cidr: 0.0.0.0/0, action: allow}"
    acl = f"{{ingress: [{rule}], egress: [{{rule: 1, protocol: all, cidr: 0.0.0.0/0, action: allow}}]}}"
    net = Network(
        SHOP.replace(
            "    security_groups:\n", f"    network_acls:\n      one: {acl}\n    security_groups:\n", 1
        ).replace("route_table: public}", "route_table: public, network_acl: one}", 1)
    )
    asked = IP(src=BARE, dst=OPEN) / UDP(sport=5, dport=6) / b"x"
    assert net.send("bare", asked).to == "open"
    for code, reasons in ((3, {Reason.NONE}), (1, {Reason.ACL_INGRESS})):
        error = IP(src=OPEN, dst=BARE, id=code) / ICMP(type=3, code=code) / bytes(asked) / bytes(1600)
        assert {r.reason for r in net.send_all("open", list(fragment(error, 800)))} == reasons
