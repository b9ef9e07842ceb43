"""Fragments: the first carries the ports, so it decides; the others share its fate."""

from __future__ import annotations

from itertools import permutations

import pytest
from scapy.layers.inet import IP, TCP, UDP, defragment, fragment
from scapy.layers.inet6 import IPv6, IPv6ExtHdrDestOpt, IPv6ExtHdrFragment

from dataplane.verdict import Reason, Verdict
from tests.conformance.behaviours import behaviour
from tests.conformance.labs import VPC, changed
from tests.conformance.sources import rfc
from tests.scenario.network import Network

SECTION = "Fragments"

A1, A2, B1, B2 = "10.0.1.11", "10.0.1.12", "10.0.2.11", "10.0.2.12"
B1_6, A1_6 = "2001:db8:a:2::11", "2001:db8:a:1::11"
DNS_ONLY = changed(
    VPC,
    ("ingress: [{protocol: all, source: 0.0.0.0/0}, ", "ingress: [{protocol: udp, ports: 53, source: 10.0.0.0/16}, "),
)


def pieces(number: int, port: int = 53, size: int = 3000) -> list[IP]:
    """A datagram in fragments."""
    return list(fragment(IP(src=B1, dst=A1, id=number) / UDP(sport=5, dport=port) / bytes(size), 1400))


@behaviour("Fragments of an admitted datagram arrive, in whatever order they come", source=rfc(791, "3.2"))
@pytest.mark.parametrize("order", list(permutations(range(3))))
def test_any_order(order: tuple[int, ...]) -> None:
    datagram = pieces(1)
    network = Network(DNS_ONLY)
    results = network.send_all("b1", [datagram[n] for n in order])
    arrived = [sent for result in results for sent in result.sent]
    assert {sent.node for sent in arrived} == {"a1"}
    assert sorted(sent.packet.frag for sent in arrived) == sorted(piece.frag for piece in datagram)


@behaviour(
    "Fragments of a refused datagram are refused with the first, in whatever order they come", source=rfc(1858, "2")
)
@pytest.mark.parametrize("order", list(permutations(range(3))))
def test_refused(order: tuple[int, ...]) -> None:
    datagram = pieces(1, port=54)
    network = Network(DNS_ONLY)
    results = network.send_all("b1", [datagram[n] for n in order])
    assert [sent for result in results for sent in result.sent] == []


@behaviour("A fragment whose first never comes is not delivered", source=rfc(1858, "2"))
def test_lone_fragment() -> None:
    network = Network(VPC)
    assert network.send("b1", pieces(1)[1]).sent == ()
    network.wait(31)
    results = network.send_all("b1", pieces(1)[:1])
    assert [sent.packet.frag for result in results for sent in result.sent] == [0]


@behaviour("Datagrams of two senders with one identification are kept apart", source=rfc(791, "3.2"))
def test_senders_are_kept_apart() -> None:
    network = Network(DNS_ONLY)
    network.send_all("b1", pieces(7)[:1])
    theirs = IP(bytes(pieces(7)[1]))
    theirs.src = B2
    del theirs.chksum
    assert network.send("b2", theirs).sent == ()


@behaviour("A first fragment too small for the ports is dropped, and so are the others", source=rfc(1858, "3"))
def test_tiny_fragment() -> None:
    network = Network(VPC)
    body = bytes(TCP(sport=5, dport=80) / bytes(64))
    tiny = IP(src=B1, dst=A1, id=1, flags="MF", proto=6) / body[:8]
    rest = IP(src=B1, dst=A1, id=1, frag=1, proto=6) / body[8:]
    for result in network.send_all("b1", [tiny, rest]):
        assert result.sent == ()


@behaviour("A datagram that was fragmented is put together again with the bytes it had", source=rfc(791, "3.2"))
def test_contents() -> None:
    network = Network(VPC)
    sent = IP(src=A2, dst="198.51.100.10", id=9) / UDP(sport=5, dport=6) / (bytes(range(256)) * 20)
    arrived = [s.packet for s in network.send("a2", sent).sent]
    assert all(len(p.payload) % 8 == 0 for p in arrived[:-1])
    [whole] = list(defragment(arrived))
    assert bytes(IP(bytes(whole))[UDP].payload) == bytes(range(256)) * 20
    assert whole.id == 9


@behaviour("An IPv6 fragment that is the whole packet is judged as one", source=rfc(6946, "4"))
def test_atomic_fragment() -> None:
    closed = changed(VPC, ('{protocol: all, source: "::/0"}', '{protocol: udp, ports: 53, source: "::/0"}'))
    network = Network(closed)
    for port, arrives in ((53, True), (54, False)):
        packet = IPv6(src=B1_6, dst=A1_6) / IPv6ExtHdrFragment(nh=17, id=1) / UDP(sport=5, dport=port)
        assert bool(network.send("b1", packet).sent) == arrives


@behaviour("An IPv6 first fragment without all headers up to the ports is dropped", source=rfc(7112, "5"))
def test_incomplete_header_chain() -> None:
    network = Network(VPC)
    chain = bytes(IPv6ExtHdrDestOpt(nh=17, options=[]) / UDP(sport=5, dport=53, len=24) / bytes(16))
    first = IPv6(src=B1_6, dst=A1_6) / IPv6ExtHdrFragment(nh=60, id=1, m=1) / chain[:8]
    rest = IPv6(src=B1_6, dst=A1_6) / IPv6ExtHdrFragment(nh=60, id=1, offset=1) / chain[8:]
    for result in network.send_all("b1", [first, rest]):
        assert result.sent == ()


@behaviour(
    "IPv6 fragments follow their first through security groups, in whatever order they come", source=rfc(8200, "4.5")
)
@pytest.mark.parametrize("order", [(0, 1), (1, 0)])
def test_ipv6(order: tuple[int, ...]) -> None:
    network = Network(changed(VPC, ('{protocol: all, source: "::/0"}', '{protocol: udp, ports: 53, source: "::/0"}')))
    for port, count in ((53, 2), (54, 0)):
        body = bytes(UDP(sport=5, dport=port, len=48) / bytes(40))
        datagram = [
            IPv6(src=B1_6, dst=A1_6) / IPv6ExtHdrFragment(nh=17, id=port, m=1) / body[:24],
            IPv6(src=B1_6, dst=A1_6) / IPv6ExtHdrFragment(nh=17, id=port, offset=3) / body[24:],
        ]
        results = network.send_all("b1", [datagram[n] for n in order])
        assert sum(len(result.sent) for result in results) == count


@behaviour("A flood of fragments without their first takes nothing from other senders", source=rfc(4963, "1"))
def test_flood() -> None:
    network = Network(VPC)
    lone = IP(src=B2, dst=A1, proto=17, frag=64) / bytes(16)
    reasons = set()
    for number in range(2000):
        lone.id = number
        reasons.add(network.send("b2", lone).reason)
    assert Reason.FRAGMENT_LIMIT in reasons
    for number in range(50):
        assert [r.verdict for r in network.send_all("b1", pieces(number))] == [Verdict.FORWARD] * 3
