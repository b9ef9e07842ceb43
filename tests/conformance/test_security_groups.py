"""Security groups: which rules admit a packet."""

from __future__ import annotations

import pytest
from scapy.layers.inet import ICMP, IP, TCP, UDP
from scapy.layers.inet6 import ICMPv6EchoRequest, IPv6

from dataplane.verdict import Reason, Verdict
from tests.conformance.behaviours import behaviour
from tests.conformance.labs import changed, refused
from tests.conformance.sources import ec2_api, ec2_guide, vpc_guide
from tests.scenario.network import Network

SECTION = "Security groups"

CLIENT, SERVER, NEAR = "10.0.2.11", "10.0.1.11", "10.0.1.12"
CLIENT_6, SERVER_6 = "2001:db8:a:2::11", "2001:db8:a:1::11"
RULES = vpc_guide("security-group-rules")

# A client in one subnet, a server and its neighbour in another; RULES are the server's inbound rules.
LAB = """
version: 1
vpcs:
  v:
    cidr: 10.0.0.0/16
    ipv6_cidrs: ["2001:db8:a::/56"]
    subnets:
      servers: {cidr: 10.0.1.0/24, ipv6_cidr: "2001:db8:a:1::/64"}
      clients: {cidr: 10.0.2.0/24, ipv6_cidr: "2001:db8:a:2::/64"}
    security_groups:
      client: {description: nothing in}
      server: {description: as the test says, ingress: [RULES]}
      second: {description: as the test says, ingress: []}
instances:
  client: {vpc: v, subnet: clients, private_ip: 10.0.2.11, ipv6_address: "2001:db8:a:2::11", security_groups: [client]}
  server: {vpc: v, subnet: servers, private_ip: 10.0.1.11, ipv6_address: "2001:db8:a:1::11", security_groups: [server]}
  near: {vpc: v, subnet: servers, private_ip: 10.0.1.12, security_groups: [client]}
"""


def lab(*rules: str) -> str:
    """The lab with these inbound rules of the server."""
    return LAB.replace("RULES", ", ".join(f"{{{rule}}}" for rule in rules))


def admits(network: Network, body: object, source: str = CLIENT) -> bool:
    """Whether the server gets a packet of the client or of its neighbour."""
    result = network.send("near" if source == NEAR else "client", IP(src=source, dst=SERVER) / body)
    assert result.reason in (Reason.NONE, Reason.GROUP_INGRESS)
    return bool(result.sent) and result.to == "server"


@behaviour("What no rule of an interface's groups allows is dropped, and nobody is told", source=RULES)
@pytest.mark.parametrize("body", [TCP(dport=22), UDP(dport=53), ICMP(), TCP(dport=22, flags="A")])
def test_silent_drop(body: object) -> None:
    result = Network(lab("protocol: tcp, ports: 80, source: 0.0.0.0/0")).send(
        "client", IP(src=CLIENT, dst=SERVER) / body
    )
    assert (result.verdict, result.reason, result.sent) == (Verdict.DROP, Reason.GROUP_INGRESS, ())


@behaviour("A new security group lets nothing in and everything out", source=RULES)
def test_new_group() -> None:
    network = Network(lab())
    for body in (TCP(dport=80), UDP(dport=53), ICMP()):
        assert not admits(network, body)
    assert network.send("server", IP(src=SERVER, dst="10.0.1.1") / ICMP()).sent
    opened = Network(
        changed(
            lab(),
            (
                "client: {description: nothing in}",
                "client: {description: all, ingress: [{protocol: all, source: 0.0.0.0/0}]}",
            ),
        )
    )
    for body in (TCP(dport=80), UDP(dport=53), ICMP(), b"x"):
        assert (
            opened.send("server", IP(src=SERVER, dst=CLIENT, proto=None if body != b"x" else 47) / body).to == "client"
        )


@behaviour(
    "The default security group lets its own members in, and nobody else", source=vpc_guide("default-security-group")
)
def test_default_group() -> None:
    members = changed(
        lab(),
        (", security_groups: [server]", ""),
        ('ipv6_address: "2001:db8:a:2::11", security_groups: [client]', 'ipv6_address: "2001:db8:a:2::11"'),
    )
    network = Network(members)
    assert network.send("client", IP(src=CLIENT, dst=SERVER) / TCP(dport=80)).to == "server"
    assert network.send("near", IP(src=NEAR, dst=SERVER) / TCP(dport=80)).reason is Reason.GROUP_INGRESS


@behaviour("The rules of all groups of an interface count together", source=RULES)
def test_union() -> None:
    text = changed(
        lab("protocol: tcp, ports: 80, source: 0.0.0.0/0"),
        (
            "second: {description: as the test says, ingress: []}",
            "second: {description: dns, ingress: [{protocol: udp, ports: 53, source: 10.0.2.0/24}]}",
        ),
    )
    both = changed(text, ("security_groups: [server]", "security_groups: [server, second]"))
    assert [admits(Network(t), UDP(dport=53)) for t in (text, both)] == [False, True]
    assert admits(Network(both), TCP(dport=80))


@behaviour("The order in which rules are written changes nothing: what any of them allows passes", source=RULES)
def test_order() -> None:
    rules = [
        "protocol: tcp, ports: 80, source: 10.0.2.11/32",
        "protocol: tcp, ports: 1-100, source: 10.0.0.0/16",
        "protocol: icmp, source: 10.0.1.0/24",
    ]
    for order in (rules, rules[::-1]):
        network = Network(lab(*order))
        found = [
            admits(network, body, source)
            for source in (CLIENT, NEAR)
            for body in (TCP(dport=80), TCP(dport=101), ICMP())
        ]
        assert found == [True, False, False, True, False, True]


@behaviour(
    "A rule's port range is inclusive, of destination ports, and of its protocol alone", source=ec2_api("IpPermission")
)
def test_ports() -> None:
    network = Network(lab("protocol: tcp, ports: 1000-2000, source: 0.0.0.0/0"))
    found = [admits(network, TCP(sport=1500, dport=port)) for port in (999, 1000, 2000, 2001)]
    assert found == [False, True, True, False]
    assert not admits(network, UDP(dport=1500))


@behaviour("Rules for IPv4 blocks never match IPv6, nor the other way round", source=RULES)
def test_families() -> None:
    four, six = Network(lab("protocol: all, source: 0.0.0.0/0")), Network(lab('protocol: all, source: "::/0"'))
    ping6 = IPv6(src=CLIENT_6, dst=SERVER_6) / ICMPv6EchoRequest()
    assert admits(four, ICMP())
    assert four.send("client", ping6).reason is Reason.GROUP_INGRESS
    assert six.send("client", ping6).to == "server"
    assert not admits(six, ICMP())


@behaviour("A rule for ICMP is for a type and code, or all codes of a type, or all", source=ec2_api("IpPermission"))
def test_icmp_types() -> None:
    rules = {
        "icmp: {type: 13, code: 0}, ": [(13, 0)],
        "icmp: {type: 13}, ": [(13, 0), (13, 7)],
        "": [(13, 0), (13, 7), (8, 0)],
    }
    for rule, admitted in rules.items():
        for type_, code in ((13, 0), (13, 7), (8, 0)):
            network = Network(lab(f"protocol: icmp, {rule}source: 0.0.0.0/0"))
            assert admits(network, ICMP(type=type_, code=code)) == ((type_, code) in admitted)


@behaviour("A rule may be for any protocol by its number", source=ec2_api("IpPermission"))
def test_protocol_number() -> None:
    network = Network(lab("protocol: 47, source: 0.0.0.0/0"))
    for number, passes in ((47, True), (50, False)):
        result = network.send("client", IP(src=CLIENT, dst=SERVER, proto=number) / bytes(24))
        assert bool(result.sent) == passes


@behaviour("Neighbours in one subnet meet each other's security groups", source=vpc_guide("vpc-security-groups"))
def test_neighbours() -> None:
    network = Network(lab("protocol: tcp, ports: 80, source: 0.0.0.0/0"))
    assert admits(network, TCP(dport=80), NEAR)
    assert not admits(network, TCP(dport=81), NEAR)


@behaviour("Outbound rules are a gate of their own: what they do not allow is not sent", source=RULES)
def test_outbound() -> None:
    restricted = "client: {description: web only, egress: [{protocol: tcp, ports: 80, destination: 10.0.1.11/32}]}"
    network = Network(
        changed(lab("protocol: all, source: 0.0.0.0/0"), ("client: {description: nothing in}", restricted))
    )
    assert network.send("client", IP(src=CLIENT, dst=SERVER) / TCP(dport=80)).to == "server"
    for destination, port in ((SERVER, 81), (NEAR, 80)):
        result = network.send("client", IP(src=CLIENT, dst=destination) / TCP(dport=port))
        assert (result.reason, result.sent) == (Reason.GROUP_EGRESS, ())


@behaviour(
    "A rule for a prefix list is for each block of it, and follows it when it changes",
    source=vpc_guide("managed-prefix-lists"),
)
def test_prefix_list() -> None:
    def text(cidr: str) -> str:
        return (
            lab("protocol: icmp, source: prefix-list:peers")
            + f"prefix_lists: {{peers: {{entries: [{{cidr: {cidr}}}]}}}}\n"
        )

    network = Network(text("10.0.2.0/24"))
    assert admits(network, ICMP(id=1))
    network.apply(text("10.0.3.0/24"))
    assert not admits(network, ICMP(id=2))


@behaviour(
    "A security group has 60 rules of each direction and family, and a prefix list counts its maximum of entries",
    source=vpc_guide("amazon-vpc-limits"),
)
def test_quota() -> None:
    rules = [f"protocol: tcp, ports: {n}, source: 10.0.2.0/24" for n in range(1, 61)]
    assert admits(Network(lab(*rules)), TCP(dport=60))
    too_many = {("vpcs.v.security_groups.server.ingress", "RulesPerSecurityGroupLimitExceeded")}
    assert refused(lab(*rules, "protocol: udp, ports: 53, source: 10.0.2.0/24")) == too_many
    lists = "prefix_lists: {big: {max_entries: 61, entries: [{cidr: 10.0.2.0/24}]}}\n"
    assert refused(lab("protocol: tcp, ports: 80, source: prefix-list:big") + lists) == too_many


@behaviour("An interface has at most five security groups, of its own VPC", source=vpc_guide("amazon-vpc-limits"))
def test_groups_of_an_interface() -> None:
    more = "".join(f"      g{n}: {{description: one more}}\n" for n in range(4))
    text = changed(lab(), ("      second:", more + "      second:"))
    five = changed(text, ("security_groups: [server]", "security_groups: [server, g0, g1, g2, g3]"))
    assert not admits(Network(five), ICMP())
    six = changed(five, ("g2, g3]", "g2, g3, second]"))
    assert {code for _, code in refused(six)} == {"SecurityGroupsPerInterfaceLimitExceeded"}
    elsewhere = changed(
        lab(), ("vpcs:\n", "vpcs:\n  w: {cidr: 10.9.0.0/16, security_groups: {theirs: {description: x}}}\n")
    )
    foreign = changed(elsewhere, ("security_groups: [server]", "security_groups: [theirs]"))
    assert {code for _, code in refused(foreign)} == {"InvalidGroup.NotFound"}


@behaviour("A changed rule decides about the next new flow", source=ec2_guide("ena-nitro-perf"))
def test_changed_rule() -> None:
    network = Network(lab("protocol: icmp, source: 10.0.2.0/24"))
    assert admits(network, ICMP(id=1))
    network.apply(lab("protocol: icmp, source: 10.0.1.0/24"))
    assert not admits(network, ICMP(id=2))
    network.apply(lab("protocol: icmp, source: 10.0.2.0/24"))
    assert admits(network, ICMP(id=3))
