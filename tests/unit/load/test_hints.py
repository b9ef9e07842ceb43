"""What a hint says is what a reader can do: slips of newcomers in a whole lab file."""

from __future__ import annotations

import pytest

from dataplane.errors import ConfigurationError
from dataplane.load import load_topology

LAB = """\
version: 1
name: hello
vpcs:
  shop:
    cidr: 10.0.0.0/16
    subnets:
      public: {cidr: 10.0.1.0/24, route_table: public}
    route_tables:
      public: {routes: [{destination: 0.0.0.0/0, target: internet-gateway}]}
    internet_gateway: {}
    security_groups:
      web:
        ingress: [{protocol: tcp, ports: 80, source: 0.0.0.0/0}]
    network_acls: {edge: {ingress: [{rule: 1, action: allow, protocol: all, cidr: 0.0.0.0/0}]}}
    network_interfaces: {spare: {subnet: public, private_ips: [10.0.1.7]}}
instances:
  web: {vpc: shop, subnet: public, elastic_ip: 203.0.113.20, security_groups: [web]}
internet:
  hosts:
    visitor: {address: 198.51.100.77}
prefix_lists:
  partners: {entries: [{cidr: 198.51.100.0/24}]}
checks:
  - {can: visitor -> web, port: 80}
"""


def slip(right: str, wrong: str) -> ConfigurationError:
    assert right in LAB
    with pytest.raises(ConfigurationError) as caught:
        load_topology(LAB.replace(right, wrong, 1), file_name="lab.yaml")
    return caught.value


def test_the_lab_is_right() -> None:
    assert load_topology(LAB).lab.name == "hello"


@pytest.mark.parametrize(
    ("right", "wrong", "hint"),
    [
        ("elastic_ip: 203.0.113.20", "elastic_ip: auto", "write, for example, 203.0.113.20"),
        ("elastic_ip: 203.0.113.20", "elastic_ip: 2001:db8::1", "write, for example, 203.0.113.20"),
        ("elastic_ip: 203.0.113.20", "elastic_ip: true", "write, for example, 203.0.113.20"),
        ("address: 198.51.100.77", "address: auto", "write, for example, 198.51.100.10"),
        ("cidr: 10.0.0.0/16", "cidr: 10.0.0.0", "write, for example, 10.0.0.0/16"),
        ("cidr: 10.0.0.0/16", "cidr: 10.0.0.0/016", "write 10.0.0.0/16"),
        ("cidr: 10.0.0.0/16", 'cidr: "2001:db8::/56"', "write it under ipv6_cidrs"),
        ("cidr: 10.0.1.0/24", "cidr: 10.0.1.0", "write, for example, 10.0.1.0/24"),
        ("cidr: 10.0.1.0/24", 'cidr: "2001:db8::/64"', "write it under ipv6_cidr"),
        ("source: 0.0.0.0/0", "destination: 0.0.0.0/0", "did you mean source?"),
        ("ports: 80,", "from_port: 80,", "write both in one: ports: 1024-65535"),
        ("ports: 80,", "ports: [80, 443],", "write one entry of the list for each"),
        ("ports: 80,", "ports: all,", "all ports are 0-65535"),
        ("ports: 80,", 'ports: "080",', "write 80"),
        ("security_groups: [web]", "security_groups: web", "write [web]"),
        ("security_groups: [web]", "security_groups: web app", "write [web, app]"),
        ("        ingress: [", "        egress: none\n        ingress: [", "write [] for an empty list"),
        ("port: 80}\n", "port: 80, protocol: tpc}\n", "write tcp, udp, icmp, icmpv6 or a number from 1 to 254"),
        ("{cidr: 198.51.100.0/24}", '{cidr: "2001:db8::/32"}', "write family: ipv6"),
        ("{cidr: 198.51.100.0/24}", "{cidr: 198.51.100.9}", "write, for example, 198.51.100.9/32"),
        ("version: 1", 'version: "1"', "write 1"),
        ("version: 1", "version: 2", "write 1"),
        ("private_ips: [10.0.1.7]", "elastic_ips: [203.0.113.9]", "write, for example, 10.0.1.7: 203.0.113.27"),
        ("    internet_gateway: {}", "    vpn_gateway: {}\n    internet_gateway: {}", "a lab has no virtual private"),
        ("    internet_gateway: {}", "    lattice-services: {}\n    internet_gateway: {}", "a lab has no VPC Lattice"),
        ("target: internet-gateway", "target: transit-gateway:x", "a lab has no transit gateways"),
    ],
)
def test_what_a_hint_says(right: str, wrong: str, hint: str) -> None:
    assert slip(right, wrong).problems[0].hint.startswith(hint)


def test_words_of_problems() -> None:
    rule = slip("protocol: all, cidr: 0.0.0.0/0", 'protocol: all, cidr: "group:web"')
    assert "is no IPv4 or IPv6 CIDR block" in str(rule)
    groups = slip("security_groups: [web]", "security_groups: {web: x}")
    assert "keys and values are written where a list is wanted" in str(groups)


@pytest.mark.parametrize("block", ["10.0.1.0/30", "10.0.1.6/31", "10.0.1.7/32"])
def test_a_subnet_too_small_is_no_crash(block: str) -> None:
    found = slip("cidr: 10.0.1.0/24", f"cidr: {block}")
    assert any(f"{block} has 0: use a larger subnet" in each.hint for each in found.problems)
    assert found.problems[0].code == "InvalidSubnet.Range"


def test_what_is_not_judged_is_told() -> None:
    unread = slip("ports: 80,", "ports: foo,")
    assert unread.unjudged == ("vpcs.shop", "instances.web", "checks")
    assert str(unread).splitlines()[-1] == "vpcs.shop, instances.web and checks are judged once this is mended"
    assert slip("name: hello", "title: hello").outlook == "everything else is judged once this is mended"
    assert slip("name: hello", "name: hello\n\tx: y").outlook == "everything else is judged once this is mended"
    assert slip("address: 198.51.100.77", "adress: 198.51.100.77").unjudged == ("internet.hosts.visitor", "checks")
    assert slip("target: internet-gateway", "target: nat-gateway:x").unjudged == ("checks",)
    assert slip("visitor -> web", "visitr -> web").unjudged == ()
    assert ConfigurationError([], unjudged=map(str, range(100))).outlook == (
        "0, 1, 2, 3, 4 and 95 more are judged once this is mended"
    )
