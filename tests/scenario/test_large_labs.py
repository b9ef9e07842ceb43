"""What a packet costs in hops does not grow with the lab: quotas full of peers and subnets forward like one of each."""

from __future__ import annotations

import json
from typing import Any

from scapy.layers.inet import IP, UDP

from dataplane.verdict import Reason, Verdict
from tests.scenario.network import Network

OPEN = {"open": {"description": "open", "ingress": [{"protocol": "all", "source": "0.0.0.0/0"}]}}


def network(lab: dict[str, Any]) -> Network:
    return Network(json.dumps({"version": 1, "name": "large", **lab}))


def test_fifty_peers_with_nat_gateways_are_no_loop() -> None:
    """Fifty peerings are the quota of a VPC; each peer could be sending through its NAT gateway."""
    peers = {f"p{n}": f"10.{n}.0.0/24" for n in range(1, 51)}
    hub = {
        "cidr": "10.200.0.0/16",
        "internet_gateway": {},
        "subnets": {"one": {"cidr": "10.200.1.0/24", "route_table": "one"}, "two": {"cidr": "10.200.2.0/24"}},
        "route_tables": {
            "one": {"routes": [{"destination": "0.0.0.0/0", "target": "nat-gateway:nat"}]},
            "main": {"routes": [{"destination": "0.0.0.0/0", "target": "internet-gateway"}]},
        },
        "nat_gateways": {"nat": {"subnet": "two", "elastic_ip": "203.0.113.10"}},
    }
    vpcs = {
        name: {
            "cidr": cidr,
            "subnets": {"one": {"cidr": cidr}},
            "nat_gateways": {"nat": {"subnet": "one", "connectivity": "private"}},
        }
        for name, cidr in peers.items()
    }
    lab = network(
        {
            "quotas": {"vpcs_per_region": 60, "nat_gateways_per_zone": 60},
            "vpcs": {"hub": hub, **vpcs},
            "peerings": {name: {"requester": name, "accepter": "hub"} for name in peers},
            "instances": {"a": {"vpc": "hub", "subnet": "one", "private_ip": "10.200.1.10"}},
            "internet": {"hosts": {"example": {"address": "198.51.100.10"}}},
        }
    )
    result = lab.send("a", IP(src="10.200.1.10", dst="198.51.100.10") / UDP(sport=5, dport=6))
    assert (result.verdict, result.reason, result.to) == (Verdict.FORWARD, Reason.NONE, "example")


def test_hundreds_of_redirected_subnets_are_no_loop() -> None:
    """Two hundred subnets are the quota of a VPC; a gateway route for its whole block redirects them all."""
    subnets = {f"s{n}": {"cidr": f"10.0.{n}.0/24", "ipv6_cidr": f"2001:db8:0:{n:x}::/64"} for n in range(200)}
    subnets["s1"]["route_table"] = "out"
    shop = {
        "cidr": "10.0.0.0/16",
        "ipv6_cidrs": ["2001:db8::/56"],
        "internet_gateway": {"route_table": "edge"},
        "subnets": subnets,
        "route_tables": {
            "edge": {"routes": [{"destination": b, "target": "instance:fw"} for b in ("10.0.0.0/16", "2001:db8::/56")]},
            "out": {"routes": [{"destination": "0.0.0.0/0", "target": "internet-gateway"}]},
        },
        "security_groups": OPEN,
    }
    fw = {"vpc": "shop", "subnet": "s1", "private_ip": "10.0.1.10", "elastic_ip": "203.0.113.20"}
    lab = network(
        {
            "vpcs": {"shop": shop},
            "instances": {"fw": {**fw, "source_dest_check": False, "security_groups": ["open"]}},
            "internet": {"hosts": {"example": {"address": "198.51.100.10"}}},
        }
    )
    assert lab.send("fw", IP(src="10.0.1.10", dst="198.51.100.10") / UDP(sport=5, dport=6)).to == "example"
    assert lab.send("example", IP(src="198.51.100.10", dst="203.0.113.20") / UDP(sport=5, dport=6)).to == "fw"
