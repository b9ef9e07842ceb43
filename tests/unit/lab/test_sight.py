"""By which interface a node sends: what a trace starts from."""

from __future__ import annotations

from unittest.mock import Mock

import pytest

from dataplane.load import load_topology
from dataplane.names import Names
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
