"""Counters of one moment, after packets that were sent by hand."""

from __future__ import annotations

from ipaddress import ip_address
from typing import Any
from unittest.mock import Mock

import pytest

from dataplane.engine import DataPlane
from dataplane.load import load_topology
from dataplane.probe import ICMP, TCP, UDP, Probe
from lab.planning import plan_nodes
from lab.traffic import sample

LAB = """
version: 1
vpcs:
  v:
    cidr: 10.0.0.0/16
    internet_gateway: {}
    subnets:
      public: {cidr: 10.0.1.0/24, route_table: public}
      private: {cidr: 10.0.2.0/24, route_table: private}
    route_tables:
      public: {routes: [{destination: 0.0.0.0/0, target: internet-gateway}]}
      private: {routes: [{destination: 0.0.0.0/0, target: "nat-gateway:nat"}]}
    nat_gateways:
      nat: {subnet: public, elastic_ip: 203.0.113.10, private_ip: 10.0.1.5,
        secondary_private_ips: [10.0.1.6], secondary_elastic_ips: [203.0.113.11]}
    security_groups:
      web: {description: web, ingress: [{protocol: tcp, ports: 80, source: 198.51.100.0/24}]}
instances:
  web: {vpc: v, subnet: public, private_ip: 10.0.1.10, elastic_ip: 203.0.113.20, security_groups: [web]}
  a: {vpc: v, subnet: private, private_ip: 10.0.2.10}
  b: {vpc: v, subnet: private, private_ip: 10.0.2.11}
internet:
  hosts: {far: {address: 198.51.100.10}, other: {address: 198.51.100.77}}
"""
ADDRESSES = {
    "web": "10.0.1.10", "a": "10.0.2.10", "b": "10.0.2.11", "far": "198.51.100.10", "other": "198.51.100.77",
    "web outside": "203.0.113.20",
}  # fmt: skip


@pytest.fixture
def lab() -> Mock:
    topology = load_topology(LAB, file_name="traffic.yaml")
    plane = DataPlane(topology)
    return Mock(
        data_plane=plane, topology=topology, plans={plan.name: plan for plan in plan_nodes(topology, plane.names)}
    )


def send(lab: Mock, source: str, destination: str, protocol: int, port: int, *, octets: int = 0) -> None:
    plane: DataPlane = lab.data_plane
    probe = Probe(
        source=ip_address(ADDRESSES[source]),
        destination=ip_address(ADDRESSES[destination]),
        protocol=protocol,
        source_port=40000,
        destination_port=port,
        payload=bytes(octets),
    )
    number = plane.port(f"{source}/eth0")
    plane.process([plane.frame(number, probe)], [number], 1000)


def of(rows: list[dict[str, Any]], **wanted: str) -> dict[str, Any]:
    [found] = [row for row in rows if wanted.items() <= row.items()]
    return found


def test_ports_of_a_nat_gateway_are_counted_for_each_protocol_and_destination(lab: Mock) -> None:
    """A port serves once for each; of each address there are those from 1024 to 65535.

    https://docs.aws.amazon.com/vpc/latest/userguide/nat-gateway-basics.html
    """
    send(lab, "a", "far", UDP, 53)
    send(lab, "b", "far", UDP, 53)
    send(lab, "a", "far", TCP, 53)
    send(lab, "b", "far", TCP, 443)
    send(lab, "a", "other", UDP, 53)
    [gateway] = sample(lab)["gateways"]
    assert (gateway["gateway"], gateway["connections"]) == ("v/nat", 5)
    assert (gateway["ports"], gateway["ports_to"]) == (2, "udp 198.51.100.10:53")
    assert gateway["ports_limit"] == 2 * (65535 - 1024 + 1)
    assert gateway["metrics"]["PacketsInFromSource"] == 5


def test_a_nat_gateway_that_nobody_uses_has_all_its_ports(lab: Mock) -> None:
    [gateway] = sample(lab)["gateways"]
    assert (gateway["connections"], gateway["ports"], gateway["ports_to"]) == (0, 0, None)


def test_counters_are_those_of_who_sends_and_of_who_receives(lab: Mock) -> None:
    """14 bytes of Ethernet, 20 of IPv4, 20 of TCP, 8 of UDP; what dies is of its sender."""
    send(lab, "far", "web outside", TCP, 80)
    send(lab, "far", "web outside", UDP, 53, octets=100)
    send(lab, "other", "web outside", ICMP, 0)
    found = sample(lab)
    far, other, web = (of(found["interfaces"], node=name) for name in ("far", "other", "web"))
    assert (far["sent_packets"], far["sent_bytes"], far["dropped_packets"]) == (2, 54 + 142, 1)
    assert (far["received_packets"], far["received_bytes"]) == (0, 0)
    assert (web["received_packets"], web["received_bytes"]) == (1, 54)
    assert (web["sent_packets"], web["sent_bytes"], web["dropped_packets"]) == (0, 0, 0)
    assert far["reasons"] == other["reasons"] == {"GROUP_INGRESS": 1}
    assert found["drops"] == {"GROUP_INGRESS": 2}
    assert found["remembered"] == {"group": 1}
    assert "ways" not in found


def test_flows_go_over_the_routes_by_which_they_leave_the_subnet(lab: Mock) -> None:
    """Whoever opened them: what comes in answers to where it came from. What a gateway translates leaves by its own."""
    send(lab, "a", "far", UDP, 53)
    send(lab, "far", "web outside", TCP, 80)
    ways = sample(lab, ways=True)["ways"]
    by_owner = {way["flow"].partition(" ")[0]: way["link"] for way in ways}
    assert by_owner == {
        "a/eth0": "routes v/private -> nat-gateway v/nat",
        "v/nat": "routes v/public -> internet-gateway v",
        "web/eth0": "routes v/public -> internet-gateway v",
    }
    assert all(way["packets"] == [1, 0] for way in ways)
