"""Which addresses VPCs, subnets and interfaces may have: what EC2 refuses, with its error codes."""

from __future__ import annotations

import pytest
from scapy.layers.inet import ICMP, IP

from tests.conformance.behaviours import behaviour
from tests.conformance.labs import accepted, changed, refused
from tests.conformance.sources import vpc_guide
from tests.scenario.network import Network

SECTION = "Addresses, Ethernet and neighbours"

BLOCKS = vpc_guide("vpc-cidr-blocks")
SIZES = vpc_guide("subnet-sizing")

TWINS = """
version: 1
vpcs:
  one:
    cidr: 10.0.0.0/16
    subnets: {net: {cidr: 10.0.1.0/24}}
    security_groups: {open: {description: all, ingress: [{protocol: all, source: 0.0.0.0/0}]}}
  two:
    cidr: 10.0.0.0/16
    subnets: {net: {cidr: 10.0.1.0/24}}
    security_groups: {open: {description: all, ingress: [{protocol: all, source: 0.0.0.0/0}]}}
instances:
  client: {vpc: one, subnet: net, private_ip: 10.0.1.11, security_groups: [open]}
  mine: {vpc: one, subnet: net, private_ip: 10.0.1.12, security_groups: [open]}
  theirs: {vpc: two, subnet: net, private_ip: 10.0.1.12, security_groups: [open]}
  lonely: {vpc: two, subnet: net, private_ip: 10.0.1.13, security_groups: [open]}
"""


def vpc(cidr: str, more: str = "") -> str:
    return f"version: 1\nvpcs: {{v: {{cidr: {cidr}{more}}}}}\n"


def subnet(cidr: str, instance: str = "") -> str:
    """A subnet, perhaps with an instance at an address of it."""
    lines = ["version: 1", f"vpcs: {{v: {{cidr: 10.0.0.0/16, subnets: {{s: {{cidr: {cidr}}}}}}}}}"]
    if instance:
        lines.append(f"instances: {{i: {{vpc: v, subnet: s, private_ip: {instance}}}}}")
    return "\n".join(lines) + "\n"


@behaviour("An IPv4 block of a VPC is from /16 to /28", source=BLOCKS)
def test_size_of_a_vpc() -> None:
    for cidr in ("10.0.0.0/16", "10.0.0.0/28"):
        accepted(vpc(cidr))
    for cidr in ("10.0.0.0/15", "10.0.0.0/29"):
        assert refused(vpc(cidr)) == {("vpcs.v.cidr", "InvalidVpc.Range")}


@behaviour("0.0.0.0/8, 127.0.0.0/8, 169.254.0.0/16 and 224.0.0.0/4 are no block of a VPC", source=BLOCKS)
@pytest.mark.parametrize("cidr", ["0.1.0.0/16", "127.0.0.0/16", "169.254.0.0/16", "169.254.1.0/24", "224.0.0.0/16"])
def test_forbidden_blocks(cidr: str) -> None:
    assert ("vpcs.v.cidr", "InvalidVpc.Range") in refused(vpc(cidr))


@behaviour("A secondary block does not overlap the VPC's others", source=BLOCKS)
def test_overlapping_blocks() -> None:
    found = refused(vpc("10.0.0.0/16", ", secondary_cidrs: [10.0.4.0/24]"))
    assert found == {("vpcs.v.secondary_cidrs[0]", "InvalidVpc.Conflict")}


@behaviour("Private ranges do not mix in a VPC; blocks of 100.64.0.0/10 and public ones may join any", source=BLOCKS)
@pytest.mark.parametrize(
    ("primary", "secondary", "fits"),
    [
        ("10.5.0.0/16", "10.6.0.0/16", True),
        ("10.5.0.0/16", "172.16.0.0/16", False),
        ("10.5.0.0/16", "192.168.0.0/16", False),
        ("10.5.0.0/16", "198.19.0.0/16", False),
        ("10.1.0.0/16", "10.0.0.0/16", False),
        ("10.5.0.0/16", "100.64.0.0/16", True),
        ("10.5.0.0/16", "203.0.113.0/24", True),
        ("172.16.0.0/16", "172.31.0.0/16", False),
        ("172.16.0.0/16", "172.18.0.0/16", True),
        ("192.168.0.0/24", "192.168.1.0/24", True),
        ("192.168.0.0/24", "10.5.0.0/16", False),
        ("100.64.0.0/16", "10.5.0.0/16", False),
    ],
)
def test_blocks_that_join(primary: str, secondary: str, fits: bool) -> None:
    text = vpc(primary, f", secondary_cidrs: [{secondary}]")
    if fits:
        accepted(text)
    else:
        assert refused(text) == {("vpcs.v.secondary_cidrs[0]", "InvalidVpc.Range")}


@behaviour("A secondary block is not as large as, or larger than, the destination of a route", source=BLOCKS)
def test_block_against_routes() -> None:
    def text(block: str) -> str:
        table = "{main: {routes: [{destination: 100.64.8.0/24, target: internet-gateway}]}}"
        return vpc("10.0.0.0/16", f", secondary_cidrs: [{block}], internet_gateway: {{}}, route_tables: {table}")

    for block in ("100.64.8.0/24", "100.64.8.0/23"):
        assert ("vpcs.v.secondary_cidrs[0]", "InvalidVpc.Conflict") in refused(text(block))
    accepted(text("100.64.8.0/25"))


@behaviour("Each block of a VPC is routed local by every route table, the main one included", source=BLOCKS)
def test_secondary_block_is_local() -> None:
    text = changed(
        TWINS,
        (
            "    subnets: {net: {cidr: 10.0.1.0/24}}\n",
            "    subnets: {net: {cidr: 10.0.1.0/24}, far: {cidr: 100.64.1.0/24}}\n",
        ),
        ("cidr: 10.0.0.0/16\n", "cidr: 10.0.0.0/16\n    secondary_cidrs: [100.64.0.0/16]\n"),
        (
            "mine: {vpc: one, subnet: net, private_ip: 10.0.1.12",
            "mine: {vpc: one, subnet: far, private_ip: 100.64.1.12",
        ),
    )
    network = Network(text)
    assert network.send("client", IP(src="10.0.1.11", dst="100.64.1.12") / ICMP(id=1)).to == "mine"
    assert network.send("mine", IP(src="100.64.1.12", dst="10.0.1.11") / ICMP(id=2)).to == "client"


@behaviour("Two VPCs with the same block know nothing of each other", source=vpc_guide("what-is-amazon-vpc"))
def test_equal_blocks() -> None:
    network = Network(TWINS)
    assert network.send("client", IP(src="10.0.1.11", dst="10.0.1.12") / ICMP()).to == "mine"
    assert network.send("client", IP(src="10.0.1.11", dst="10.0.1.13") / ICMP()).sent == ()


@behaviour("A subnet is from /16 to /28, inside a block of its VPC, and overlaps no other", source=SIZES)
def test_subnets() -> None:
    accepted(subnet("10.0.0.0/16"))
    accepted(subnet("10.0.0.0/28"))
    assert ("vpcs.v.subnets.s.cidr", "InvalidSubnet.Range") in refused(subnet("10.0.0.0/29"))
    assert ("vpcs.v.subnets.s.cidr", "InvalidSubnet.Range") in refused(subnet("10.1.0.0/24"))
    two = changed(subnet("10.0.0.0/24"), ("{s: ", "{r: {cidr: 10.0.0.0/25}, s: "))
    assert {code for _, code in refused(two)} == {"InvalidSubnet.Conflict"}


@behaviour("The first four addresses of a subnet and the last are nobody's: a /28 has eleven", source=SIZES)
def test_reserved_addresses() -> None:
    taken = [f"10.0.0.{n}" for n in (16, 17, 18, 19, 31)]
    for n in range(16, 32):
        text = subnet("10.0.0.16/28", f"10.0.0.{n}")
        if f"10.0.0.{n}" in taken:
            assert {path for path, _ in refused(text)} == {"instances.i.private_ip"}
        else:
            accepted(text)


@behaviour("The first four addresses of an IPv6 block of a subnet and the last are nobody's", source=SIZES)
def test_reserved_ipv6_addresses() -> None:
    def text(address: str) -> str:
        block = '"2001:db8:a:1::/64"'
        return f"""
version: 1
vpcs:
  v: {{cidr: 10.0.0.0/16, ipv6_cidrs: ["2001:db8:a::/56"], subnets: {{s: {{cidr: 10.0.0.0/24, ipv6_cidr: {block}}}}}}}
instances: {{i: {{vpc: v, subnet: s, ipv6_address: "{address}"}}}}
"""

    for last in ("", "1", "2", "3", "ffff:ffff:ffff:ffff"):
        address = f"2001:db8:a:1::{last}" if len(last) < 2 else f"2001:db8:a:1:{last}"
        assert {path for path, _ in refused(text(address))} == {"instances.i.ipv6_address"}
    for last in (":4", "ffff:ffff:ffff:fffe"):
        accepted(text(f"2001:db8:a:1:{last}"))


@behaviour("An IPv6 block of a VPC is a /44 to /60 and one of a subnet a /44 to /64, in steps of four", source=BLOCKS)
def test_ipv6_sizes() -> None:
    for size in (44, 48, 52, 56, 60):
        accepted(vpc("10.0.0.0/16", f', ipv6_cidrs: ["2001:db8::/{size}"]'))
    for size in (40, 45, 64):
        found = refused(vpc("10.0.0.0/16", f', ipv6_cidrs: ["2001:db8::/{size}"]'))
        assert found == {("vpcs.v.ipv6_cidrs[0]", "InvalidVpc.Range")}
    for size, fits in ((60, True), (64, True), (62, False), (66, False)):
        net = f'{{s: {{cidr: 10.0.0.0/24, ipv6_cidr: "2001:db8::/{size}"}}}}'
        text = vpc("10.0.0.0/16", f', ipv6_cidrs: ["2001:db8::/56"], subnets: {net}')
        if fits:
            accepted(text)
        else:
            assert ("vpcs.v.subnets.s.ipv6_cidr", "InvalidSubnet.Range") in refused(text)
