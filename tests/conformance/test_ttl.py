"""Who counts as a hop: a VPC's router does not, gateways do."""

from __future__ import annotations

import pytest
from scapy.layers.inet import ICMP, IP

from tests.conformance.behaviours import behaviour
from tests.conformance.labs import VPC
from tests.conformance.sources import vpc_guide
from tests.scenario.network import Network

SECTION = "TTL"

A2, B1, FAR = "10.0.1.12", "10.0.2.11", "198.51.100.10"


@behaviour(
    "A packet between two subnets of a VPC arrives with the TTL it was sent with",
    source=vpc_guide("how-it-works"),
    item=1,
)
@pytest.mark.parametrize("ttl", [1, 64, 255])
def test_between_subnets_it_is_unchanged(ttl: int) -> None:
    result = Network(VPC).send("b1", IP(src=B1, dst=A2, ttl=ttl) / ICMP())
    assert (result.to, result.packet.ttl) == ("a2", ttl)
