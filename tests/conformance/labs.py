"""Lab files that several behaviours share. Public addresses are from RFC 5737 and RFC 3849."""

from __future__ import annotations

import pytest

from dataplane.errors import ConfigurationError
from dataplane.load import load_topology

VPC = """
version: 1
vpcs:
  main:
    cidr: 10.0.0.0/16
    ipv6_cidrs: ["2001:db8:a::/56"]
    internet_gateway: {}
    subnets:
      public: {cidr: 10.0.1.0/24, ipv6_cidr: "2001:db8:a:1::/64", availability_zone: a, route_table: public}
      private: {cidr: 10.0.2.0/24, ipv6_cidr: "2001:db8:a:2::/64", availability_zone: b, route_table: private}
    route_tables:
      public:
        routes: [{destination: 0.0.0.0/0, target: internet-gateway}, {destination: "::/0", target: internet-gateway}]
      private:
        routes: [{destination: 0.0.0.0/0, target: "nat-gateway:nat"}]
    nat_gateways:
      nat: {subnet: public, elastic_ip: 203.0.113.10, private_ip: 10.0.1.5}
    security_groups:
      open:
        description: everything in, everything out
        ingress: [{protocol: all, source: 0.0.0.0/0}, {protocol: all, source: "::/0"}]
instances:
  a1: {vpc: main, subnet: public, private_ip: 10.0.1.11, ipv6_address: "2001:db8:a:1::11", security_groups: [open]}
  a2: {vpc: main, subnet: public, private_ip: 10.0.1.12, ipv6_address: "2001:db8:a:1::12", security_groups: [open],
    elastic_ip: 203.0.113.12}
  b1: {vpc: main, subnet: private, private_ip: 10.0.2.11, ipv6_address: "2001:db8:a:2::11", security_groups: [open]}
  b2: {vpc: main, subnet: private, private_ip: 10.0.2.12, ipv6_address: "2001:db8:a:2::12", security_groups: [open]}
internet:
  hosts:
    far: {address: 198.51.100.10, ipv6_address: "2001:db8:99::10"}
    other: {address: 198.51.100.77, ipv6_address: "2001:db8:99::77"}
"""
"""A VPC with a public subnet (a1 without a public address, a2 with one) and a private one behind a NAT gateway."""

PEERED = """
version: 1
vpcs:
  a:
    cidr: 10.0.0.0/16
    ipv6_cidrs: ["2001:db8:a::/56"]
    internet_gateway: {}
    subnets: {net: {cidr: 10.0.1.0/24, ipv6_cidr: "2001:db8:a:1::/64", route_table: net}}
    route_tables:
      net:
        routes:
          - {destination: 0.0.0.0/0, target: internet-gateway}
          - {destination: 10.1.0.0/16, target: "peering:a-b"}
          - {destination: "2001:db8:b::/56", target: "peering:a-b"}
    security_groups: &open
      open:
        description: everything in, everything out
        ingress: [{protocol: all, source: 0.0.0.0/0}, {protocol: all, source: "::/0"}]
  b:
    cidr: 10.1.0.0/16
    ipv6_cidrs: ["2001:db8:b::/56"]
    subnets: {net: {cidr: 10.1.1.0/24, ipv6_cidr: "2001:db8:b:1::/64", route_table: net}}
    route_tables:
      net:
        routes:
          - {destination: 10.0.0.0/16, target: "peering:a-b"}
          - {destination: "2001:db8:a::/56", target: "peering:a-b"}
    security_groups: *open
peerings:
  a-b: {requester: a, accepter: b}
instances:
  a: {vpc: a, subnet: net, private_ip: 10.0.1.11, ipv6_address: "2001:db8:a:1::11", security_groups: [open],
    elastic_ip: 203.0.113.11}
  b: {vpc: b, subnet: net, private_ip: 10.1.1.11, ipv6_address: "2001:db8:b:1::11", security_groups: [open]}
internet:
  hosts:
    far: {address: 198.51.100.10, ipv6_address: "2001:db8:99::10"}
"""
"""Two peered VPCs with routes both ways; one has an internet gateway."""


def changed(text: str, *changes: tuple[str, str]) -> str:
    """A lab file with words replaced; every one of them has to be there."""
    for old, new in changes:
        assert old in text, f"nothing to change: {old!r}"
        text = text.replace(old, new)
    return text


def refused(text: str) -> set[tuple[str, str]]:
    """What is wrong with a lab file: the path of each problem, and its AWS error code."""
    with pytest.raises(ConfigurationError) as error:
        load_topology(text, file_name="test.yaml")
    return {(problem.path, problem.code) for problem in error.value.problems}


def accepted(text: str) -> None:
    """Fails when anything is wrong with a lab file."""
    load_topology(text, file_name="test.yaml")
