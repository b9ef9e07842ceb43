"""NAT gateways: how many connections there may be at once, and to where."""

from __future__ import annotations

import struct
from collections import Counter
from ipaddress import IPv4Address

import pytest
from scapy.layers.inet import IP, UDP

from dataplane.verdict import Reason
from tests.conformance.behaviours import behaviour
from tests.conformance.labs import VPC, accepted, changed, refused
from tests.conformance.sources import vpc_guide
from tests.scenario.network import Network

SECTION = "NAT gateways"

B1, B2, FAR = "10.0.2.11", "10.0.2.12", "198.51.100.10"
BASICS = vpc_guide("nat-gateway-basics")
LIMIT = 55_000
"""Simultaneous connections of one address to one destination (`BASICS`)."""
BURST = 1000
SECOND = changed(
    VPC,
    (
        "private_ip: 10.0.1.5}",
        "private_ip: 10.0.1.5, secondary_private_ips: [10.0.1.6], secondary_elastic_ips: [203.0.113.16]}",
    ),
)
"""The NAT gateway has two addresses."""


def open_flows(network: Network, node: str, ports: range, to_port: int) -> Counter[tuple[Reason, str]]:
    """Send one datagram from each port; how many met which fate, and which public source they left with."""
    port = network.port(node)
    datagram = bytes(network.frame(node, IP(src={"b1": B1, "b2": B2}[node], dst=FAR) / UDP(dport=to_port, chksum=0)))
    frames = [datagram[:34] + struct.pack("!H", own) + datagram[36:] for own in ports]
    fates: Counter[tuple[Reason, str]] = Counter()
    for start in range(0, len(frames), BURST):
        burst = frames[start : start + BURST]
        outcomes, emissions = network.plane.process(burst, [port] * len(burst), network.now)
        sources = {e.parent: str(IPv4Address(e.frame[26:30])) for e in emissions}
        fates.update((outcome.reason, sources.get(number, "")) for number, outcome in enumerate(outcomes))
    return fates


@behaviour(
    "With 55,000 connections open to one destination the next is dropped and counted in ErrorPortAllocation; "
    "one to another port works",
    source=BASICS,
    item=26,
)
@behaviour("A further address of a NAT gateway makes room for more connections to one destination", source=BASICS)
@pytest.mark.slow
def test_ports_are_exhausted() -> None:
    network = Network(VPC, sessions=1 << 18)
    opened = open_flows(network, "b1", range(1, 50_001), 53) + open_flows(network, "b2", range(1, 5_001), 53)
    assert opened == {(Reason.NONE, "203.0.113.10"): LIMIT}
    one_more = IP(src=B2, dst=FAR) / UDP(sport=60_000, dport=53)
    assert network.plane.nat_metrics()["main/nat"]["ErrorPortAllocation"] == 0
    result = network.send("b2", one_more)
    assert (result.reason, result.sent) == (Reason.NAT_PORTS_EXHAUSTED, ())
    assert network.plane.nat_metrics()["main/nat"]["ErrorPortAllocation"] == 1
    assert network.send("b2", IP(src=B2, dst=FAR) / UDP(sport=60_000, dport=54)).to == "far"
    assert network.send("b2", IP(src=B2, dst="198.51.100.77") / UDP(sport=60_000, dport=53)).to == "other"
    network.apply(SECOND)
    seen = network.send("b2", one_more)
    assert (seen.to, seen.packet.src) == ("far", "203.0.113.16")
    network.apply(VPC)
    network.wait(350)
    seen = network.send("b2", one_more)
    assert (seen.to, seen.packet.src) == ("far", "203.0.113.10")


@behaviour(
    "A connection keeps the address of the NAT gateway it began with, and its answers go there",
    silent=True,
    source=BASICS,
)
def test_connection_keeps_its_address() -> None:
    network = Network(SECOND)
    for own in range(1, 41):
        packet = IP(src=B1, dst=FAR) / UDP(sport=own, dport=53)
        first, second = (network.send("b1", packet).packet for _ in range(2))
        assert (first.src, first[UDP].sport) == (second.src, second[UDP].sport)
        assert first.src in ("203.0.113.10", "203.0.113.16")
        answer = network.send("far", IP(src=FAR, dst=first.src) / UDP(sport=53, dport=first[UDP].sport))
        assert (answer.to, answer.packet[UDP].dport) == ("b1", own)


@behaviour("A NAT gateway has at most eight addresses, and a public one an Elastic IP for each", source=BASICS)
@pytest.mark.parametrize(("secondary", "public", "fits"), [(7, 7, True), (8, 8, False), (2, 1, False), (1, 2, False)])
def test_number_of_addresses(secondary: int, public: int, fits: bool) -> None:
    own = ", ".join(f"10.0.1.{n}" for n in range(100, 100 + secondary))
    elastic = ", ".join(f"203.0.113.{n}" for n in range(100, 100 + public))
    more = f"private_ip: 10.0.1.5, secondary_private_ips: [{own}], secondary_elastic_ips: [{elastic}]}}"
    text = "quotas: {elastic_ips_per_nat_gateway: 8, elastic_ips_per_region: 20}\n"
    text += changed(VPC, ("private_ip: 10.0.1.5}", more))
    if fits:
        accepted(text)
    else:
        assert {path.rpartition(".")[2] for path, _ in refused(text)} <= {
            "secondary_private_ips",
            "secondary_elastic_ips",
        }
