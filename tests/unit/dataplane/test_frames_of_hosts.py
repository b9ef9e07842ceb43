"""In which frame a kernel behind a port sends a packet: what traces and checks begin with."""

from __future__ import annotations

from ipaddress import ip_address

import pytest

from dataplane.engine import DataPlane
from dataplane.errors import VpclabError
from dataplane.load import load_topology

LAB = """
version: 1
settings: {{arp_for_unassigned: {arp}}}
vpcs:
  v:
    cidr: 10.0.0.0/16
    ipv6_cidrs: ["2001:db8:1::/56"]
    subnets:
      one: {{cidr: 10.0.1.0/24, ipv6_cidr: "2001:db8:1:1::/64"}}
      two: {{cidr: 10.0.2.0/24, ipv6_cidr: "2001:db8:1:2::/64"}}
instances:
  a: {{vpc: v, subnet: one, private_ip: 10.0.1.10, ipv6_address: "2001:db8:1:1::10"}}
  b: {{vpc: v, subnet: one, private_ip: 10.0.1.11, ipv6_address: "2001:db8:1:1::11"}}
  c: {{vpc: v, subnet: two, private_ip: 10.0.2.10, ipv6_address: "2001:db8:1:2::10"}}
internet:
  hosts: {{far: {{address: 198.51.100.10}}, other: {{address: 198.51.100.11}}}}
"""


@pytest.fixture(params=["router", "silent"])
def plane(request: pytest.FixtureRequest) -> DataPlane:
    """Whoever answers for addresses that nobody has: those that somebody has are asked for all the same."""
    return DataPlane(load_topology(LAB.format(arp=request.param), file_name="lab.yaml"))


@pytest.mark.parametrize("destination", ["10.0.1.11", "2001:db8:1:1::11"])
def test_neighbours_are_sent_to_directly(plane: DataPlane, destination: str) -> None:
    mac = plane.interface(plane.port("b/eth0")).mac
    assert plane.next_mac(plane.port("a/eth0"), ip_address(destination)) == mac


@pytest.mark.parametrize(
    ("sender", "destination"),
    [
        ("a", "10.0.2.10"),
        ("a", "2001:db8:1:2::10"),
        ("a", "198.51.100.10"),
        ("a", "10.0.1.1"),
        ("far", "198.51.100.11"),
        ("far", "203.0.113.1"),
    ],
)
def test_everybody_else_is_sent_to_by_the_router(plane: DataPlane, sender: str, destination: str) -> None:
    """Other subnets, the internet, the router itself; hosts on the internet share no link with each other."""
    port = plane.port(f"{sender}/eth0")
    assert plane.next_mac(port, ip_address(destination)) == plane.interface(port).router_mac


def test_who_is_gone_has_no_port(plane: DataPlane) -> None:
    """Its number stays its own, for what is told of the past; nothing can be sent there."""
    number = plane.port("b/eth0")
    text = LAB.format(arp="router")
    without = "".join(line for line in text.splitlines(keepends=True) if not line.startswith("  b:"))
    plane.apply(load_topology(without, file_name="lab.yaml"))
    with pytest.raises(KeyError):
        plane.port("b/eth0")
    with pytest.raises(VpclabError, match="no interface is called 'b/eth0'"):
        plane.trace("b", "10.0.1.10")
    assert str(plane.names[number]) == "interface b/eth0"
    plane.apply(load_topology(text, file_name="lab.yaml"))
    assert plane.port("b/eth0") == number


@pytest.mark.parametrize(("destination", "protocol", "kind"), [("10.0.1.11", 1, 8), ("2001:db8:1:1::11", 58, 128)])
@pytest.mark.parametrize("sender", ["a", "a/eth0"])
def test_a_ping_is_of_the_family_of_its_destination(
    plane: DataPlane, sender: str, destination: str, protocol: int, kind: int
) -> None:
    """ICMP of IPv4 is protocol 1, an echo request type 8 (RFC 792); of IPv6 58 and 128 (RFC 4443)."""
    packet = plane.trace(sender, destination, protocol="icmp").forward.hops[0].steps[0].packet
    assert (packet.protocol, packet.icmp) == (protocol, (kind, 0))
