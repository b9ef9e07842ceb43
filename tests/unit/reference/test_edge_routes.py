"""Whose incoming packets a gateway route table redirects (VPC User Guide, "Gateway route tables").

https://docs.aws.amazon.com/vpc/latest/userguide/gateway-route-tables.html
"""

from __future__ import annotations

from dataclasses import replace
from ipaddress import ip_address, ip_network

import pytest

from dataplane.load import load_topology
from dataplane.names import Names
from dataplane.reference.edge_routes import is_redirected
from dataplane.reference.inventory import Inventory
from dataplane.reference.routes import Origin, Route, Table

LAB = """
version: 1
name: edge
vpcs:
  shop:
    cidr: 10.0.0.0/16
    internet_gateway: {route_table: ingress}
    subnets:
      boxes: {cidr: 10.0.1.0/24, availability_zone: a}
      apps: {cidr: 10.0.2.0/24, availability_zone: a}
      more: {cidr: 10.0.3.0/24, availability_zone: a}
    route_tables:
      ingress: {routes: []}
instances:
  box: {vpc: shop, subnet: boxes, private_ip: 10.0.1.10, source_dest_check: false}
"""


def redirected(*routes: tuple[str, str]) -> set[str]:
    """The subnets redirected by a gateway table with these routes besides local."""
    inventory = Inventory(load_topology(LAB, file_name="test.yaml"), Names())
    written = [Route(ip_network(cidr), target, 0, Origin.STATIC) for cidr, target in routes]
    if all(route.prefix.prefixlen > 16 for route in written):
        written.append(Route(ip_network("10.0.0.0/16"), "local", 0, Origin.STATIC))
    inventory.tables["shop", "ingress"] = Table(1, tuple(written))
    subnets = {name: subnet for (_, name), subnet in inventory.subnets.items()}
    return {name for name, subnet in subnets.items() if is_redirected(inventory, "shop", subnet, 4)}


@pytest.mark.parametrize(
    ("routes", "expected"),
    [
        ([], set()),
        ([("10.0.2.0/24", "instance:box")], {"apps"}),
        ([("10.0.2.0/24", "network-interface:box/eth0")], {"apps"}),
        ([("10.0.2.0/24", "blackhole")], {"apps"}),
        ([("10.0.2.0/24", "local")], set()),
        ([("10.0.0.0/16", "instance:box")], {"apps", "more"}),
        ([("10.0.0.0/16", "instance:box"), ("10.0.3.0/24", "local")], {"apps"}),
        ([("10.0.0.0/16", "blackhole")], {"apps", "boxes", "more"}),
        ([("10.0.1.0/24", "instance:box")], {"boxes"}),
    ],
)
def test_redirected_subnets(routes: list[tuple[str, str]], expected: set[str]) -> None:
    assert redirected(*routes) == expected


def test_packet_in_no_subnet_or_of_the_other_family_is_not() -> None:
    inventory = Inventory(load_topology(LAB, file_name="test.yaml"), Names())
    route = Route(ip_network("10.0.2.0/24"), "instance:box", 0, Origin.STATIC)
    inventory.tables["shop", "ingress"] = Table(1, (route, replace(route, prefix=ip_network("10.0.0.0/16"))))
    apps = inventory.subnets["shop", "apps"]
    assert apps.holds(ip_address("10.0.2.1"))
    assert is_redirected(inventory, "shop", apps, 4)
    assert not is_redirected(inventory, "shop", apps, 6)
    assert not is_redirected(inventory, "shop", None, 4)
