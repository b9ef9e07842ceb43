"""What is seen of a running lab: by which interface a node sends, who is meant by an address, counters and ports."""

from __future__ import annotations

from unittest.mock import Mock

import pytest

from dataplane.engine import DataPlane
from dataplane.load import load_topology
from dataplane.names import Names
from dataplane.verdict import Reason
from lab import sight
from lab.control import RequestError
from lab.planning import plan_nodes
from lab.sight import ends_of_trace

LAB = """
version: 1
name: l
vpcs:
  v:
    cidr: 10.0.0.0/16
    ipv6_cidrs: ["2001:db8:10::/56"]
    subnets:
      one: {cidr: 10.0.1.0/24}
      two: {cidr: 10.0.2.0/24, ipv6_cidr: "2001:db8:10:2::/64"}
    network_interfaces:
      second:
        {subnet: two, private_ips: [10.0.2.20], ipv6_addresses: ["2001:db8:10:2::20"],
         attachment: {instance: fw, device_index: 1}}
instances:
  fw: {vpc: v, subnet: one, private_ip: 10.0.1.10}
  y: {vpc: v, subnet: two, private_ip: 10.0.2.10}
"""


@pytest.fixture
def lab() -> Mock:
    topology = load_topology(LAB, file_name="lab.yaml")
    return Mock(topology=topology, plans={plan.name: plan for plan in plan_nodes(topology, Names())}, missing=())


@pytest.mark.parametrize(
    ("source", "destination", "ends"),
    [
        ("fw", "10.0.2.10", ("fw/eth1", "10.0.2.10")),
        ("fw", "y", ("fw/eth1", "10.0.2.10")),
        ("fw", "2001:db8:10:2::30", ("fw/eth1", "2001:db8:10:2::30")),
        ("fw", "10.0.1.99", ("fw/eth0", "10.0.1.99")),
        ("fw", "10.0.3.10", ("fw/eth0", "10.0.3.10")),
        ("fw", "198.51.100.10", ("fw/eth0", "198.51.100.10")),
        ("fw/eth0", "10.0.2.10", ("fw/eth0", "10.0.2.10")),
        ("fw/eth1", "10.0.1.99", ("fw/eth1", "10.0.1.99")),
        ("10.0.1.10", "10.0.2.10", ("fw/eth0", "10.0.2.10")),
        ("y", "fw", ("y/eth0", "10.0.1.10")),
    ],
)
def test_a_node_sends_by_the_interface_in_whose_subnet_the_destination_is(
    lab: Mock, source: str, destination: str, ends: tuple[str, str]
) -> None:
    """As its kernel does; everything else by the first interface, which has the default routes."""
    assert ends_of_trace(lab, source, destination) == ends


def test_an_interface_that_a_node_does_not_have(lab: Mock) -> None:
    with pytest.raises(RequestError, match="node fw has no interface 'eth7'; it has eth0, eth1"):
        ends_of_trace(lab, "fw/eth7", "y")


TWINS = """
version: 1
vpcs:
  left: &vpc
    cidr: 10.0.0.0/16
    internet_gateway: {}
    subnets: {s: {cidr: 10.0.1.0/24}}
    security_groups:
      web:
        description: web
        ingress:
          - {protocol: tcp, ports: 80, source: 0.0.0.0/0}
          - {protocol: tcp, ports: 8000-8999, source: 0.0.0.0/0}
          - {protocol: udp, ports: 53, source: 0.0.0.0/0}
      ssh: {description: ssh, ingress: [{protocol: tcp, ports: 22, source: 0.0.0.0/0}]}
  right: *vpc
instances:
  a: {vpc: left, subnet: s, private_ip: 10.0.1.10, elastic_ip: 203.0.113.20, security_groups: [web],
      programs: {p: {command: [p], ready: {tcp: 8080}}}}
  b: {vpc: right, subnet: s, private_ip: 10.0.1.10, elastic_ip: 203.0.113.21, security_groups: [ssh]}
  c: {vpc: right, subnet: s, private_ip: 10.0.1.12, secondary_private_ips: [10.0.1.13]}
internet:
  hosts:
    host: {address: 198.51.100.10, ipv6_address: "2001:db8:ffff::10"}
"""


@pytest.fixture
def twins() -> Mock:
    """Two VPCs of one block, which know nothing of each other."""
    topology = load_topology(TWINS, file_name="lab.yaml")
    plane = DataPlane(topology)
    plans = {plan.name: plan for plan in plan_nodes(topology, plane.names)}
    found = Mock(topology=topology, plans=plans, missing=("gone",), data_plane=plane)
    found.name = "twins"
    return found


@pytest.mark.parametrize(
    ("source", "start"),
    [
        ("203.0.113.20", "a/eth0"),
        ("203.0.113.21", "b/eth0"),
        ("10.0.1.12", "c/eth0"),
        ("198.51.100.10", "host/eth0"),
        ("2001:db8:ffff::10", "host/eth0"),
    ],
)
def test_an_address_means_who_has_it(twins: Mock, source: str, start: str) -> None:
    """A public one means the one interface it is mapped to, whoever else has the private address behind it."""
    assert ends_of_trace(twins, source, "198.51.100.77") == (start, "198.51.100.77")


@pytest.mark.parametrize(
    ("source", "words"),
    [
        ("10.0.1.10", "several nodes have the address 10.0.1.10: say a/eth0 or b/eth0"),
        ("10.0.1.13", "10.0.1.13 is a secondary address of c/eth0"),
        ("10.0.1.99", "no node of lab twins has the address 10.0.1.99"),
        ("gone", "node gone could not be made when lab twins was brought back"),
        ("host2", "did you mean host?"),
    ],
)
def test_an_address_that_does_not_say_where_to_start_is_refused(twins: Mock, source: str, words: str) -> None:
    with pytest.raises(RequestError, match=words.replace("?", r"\?")):
        ends_of_trace(twins, source, "198.51.100.10")


def test_a_node_is_known_by_its_first_address_ipv4_before_ipv6(twins: Mock) -> None:
    assert sight.resolve(twins, "a", "host") == "198.51.100.10"
    assert sight.resolve(twins, "a", "2001:DB8:FFFF::10") == "2001:db8:ffff::10"
    assert sight.resolve(twins, "host", "b") == "203.0.113.21", "out there it has no other"
    known = twins.plans["a"].hosts
    twins.plans["a"] = Mock(hosts={**known, "host": tuple(reversed(known["host"]))})
    assert sight.resolve(twins, "a", "host") == "198.51.100.10"


def test_ports_worth_trying_are_those_of_programs_and_those_a_group_opens_one_by_one(twins: Mock) -> None:
    """A range of a thousand is no hint, nor is a port of UDP; and groups of others say nothing."""
    assert sight.tcp_ports(twins, "a") == [80, 8080]
    assert sight.tcp_ports(twins, "b") == [22]
    assert sight.tcp_ports(twins, "host") == []


def test_where_interfaces_are_and_what_the_internet_calls_them(twins: Mock) -> None:
    [of_a] = sight.node(twins, "a")["interfaces"]
    assert (of_a["subnet"], of_a["addresses"], of_a["public_addresses"]) == ("left/s", ["10.0.1.10"], ["203.0.113.20"])
    host = sight.node(twins, "host")
    [of_host] = host["interfaces"]
    assert (host["kind"], of_host["subnet"]) == ("internet-host", None)
    assert of_host["public_addresses"] == ["198.51.100.10", "2001:db8:ffff::10"]


def test_a_device_of_the_machine_is_listened_to_by_its_own_name(twins: Mock) -> None:
    """What the lab file calls eth0 of it is called otherwise where the lab was started."""
    text = TWINS.replace("private_ip: 10.0.1.12,", 'private_ip: 10.0.1.12, attach: "tap:vm0",')
    twins.topology = load_topology(text, file_name="lab.yaml")
    twins.plans = {plan.name: plan for plan in plan_nodes(twins.topology, twins.data_plane.names)}
    of = {name: sight.node(twins, name)["interfaces"][0] for name in ("a", "c")}
    assert {name: (each["device"], each["link"]) for name, each in of.items()} == {
        "a": ("eth0", "eth0"),
        "c": ("eth0", "vm0"),
    }


def test_a_node_has_sent_what_its_port_received() -> None:
    row = {"rx_frames": 1, "rx_packets": 2, "rx_bytes": 3, "tx_frames": 4, "tx_packets": 5, "tx_bytes": 6}
    found = sight.counters({**row, "errors_withheld": 7, "reasons": {Reason.NO_ROUTE: 8, Reason.TTL_EXCEEDED: 1}})
    assert found == {
        "sent_frames": 1,
        "sent_packets": 2,
        "sent_bytes": 3,
        "received_frames": 4,
        "received_packets": 5,
        "received_bytes": 6,
        "dropped_packets": 9,
        "errors_withheld": 7,
        "reasons": {"NO_ROUTE": 8, "TTL_EXCEEDED": 1},
    }
    assert not any(number for name, number in sight.counters(None).items() if name != "reasons")
