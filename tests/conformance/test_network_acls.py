"""Network ACLs: numbered rules without memory, at the border of a subnet."""

from __future__ import annotations

import pytest
from scapy.layers.inet import ICMP, IP, TCP, UDP
from scapy.layers.inet6 import ICMPv6EchoRequest, IPv6
from scapy.packet import Raw

from dataplane.verdict import Reason
from tests.conformance.behaviours import behaviour
from tests.conformance.labs import accepted, changed, refused
from tests.conformance.sources import ec2_api, ec2_guide, reachability, vpc_guide
from tests.scenario.network import Network

SECTION = "Network ACLs"

PAGE = vpc_guide("vpc-network-acls")
IN, OUT, NEAR, FAR = "10.0.1.11", "10.0.2.11", "10.0.1.12", "198.51.100.10"
PUBLIC = "203.0.113.11"
ALL = "{rule: 100, protocol: all, cidr: 0.0.0.0/0, action: allow}"

# Instances in and near behind the ACL, out in another subnet; groups let everything pass.
LAB = """
version: 1
vpcs:
  v:
    cidr: 10.0.0.0/16
    ipv6_cidrs: ["2001:db8:a::/56"]
    internet_gateway: {}
    subnets:
      behind: {cidr: 10.0.1.0/24, ipv6_cidr: "2001:db8:a:1::/64", network_acl: acl}
      other: {cidr: 10.0.2.0/24, ipv6_cidr: "2001:db8:a:2::/64"}
    route_tables: {main: {routes: [{destination: 0.0.0.0/0, target: internet-gateway}]}}
    network_acls: {acl: {ingress: [INGRESS], egress: [EGRESS]}}
    security_groups: {open: {description: all, ingress: [{protocol: all, source: 0.0.0.0/0},
      {protocol: all, source: "::/0"}]}}
instances:
  in: {vpc: v, subnet: behind, private_ip: 10.0.1.11, ipv6_address: "2001:db8:a:1::11", security_groups: [open],
    elastic_ip: 203.0.113.11}
  near: {vpc: v, subnet: behind, private_ip: 10.0.1.12, security_groups: [open]}
  out: {vpc: v, subnet: other, private_ip: 10.0.2.11, ipv6_address: "2001:db8:a:2::11", security_groups: [open]}
internet: {hosts: {far: {address: 198.51.100.10}}}
"""


def lab(ingress: str = "", egress: str = "") -> str:
    return LAB.replace("INGRESS", ingress).replace("EGRESS", egress)


def comes_in(network: Network, body: object) -> bool:
    result = network.send("out", IP(src=OUT, dst=IN) / body)
    assert result.reason in (Reason.NONE, Reason.ACL_INGRESS)
    return bool(result.sent)


def goes_out(network: Network, body: object) -> bool:
    result = network.send("in", IP(src=IN, dst=OUT) / body)
    assert result.reason in (Reason.NONE, Reason.ACL_EGRESS)
    return bool(result.sent)


@behaviour(
    "Of a deny rule with a lower number and an allow rule with a higher one the deny decides, in whatever order they "
    "stand; and a SYN that is let in has its answer dropped where ephemeral ports are not let out",
    source=PAGE,
    item=35,
)
def test_order_and_no_memory() -> None:
    allow, deny = (
        f"{{rule: {n}, protocol: tcp, ports: 80, cidr: 0.0.0.0/0, action: {a}}}"
        for n, a in ((100, "allow"), (90, "deny"))
    )
    for order in (f"{allow}, {deny}", f"{deny}, {allow}"):
        assert not comes_in(Network(lab(order)), TCP(dport=80))
    web_out = "{rule: 100, protocol: tcp, ports: 80, cidr: 0.0.0.0/0, action: allow}"
    ephemeral = "{rule: 110, protocol: tcp, ports: 1024-65535, cidr: 0.0.0.0/0, action: allow}"
    for egress, passes in ((web_out, False), (f"{web_out}, {ephemeral}", True)):
        network = Network(lab(allow, egress))
        assert comes_in(network, TCP(sport=40000, dport=80))
        assert goes_out(network, TCP(sport=80, dport=40000, flags="SA")) == passes


@behaviour("Hosts of one subnet talk freely though its ACL denies everything", source=PAGE, item=36)
def test_not_inside_a_subnet() -> None:
    network = Network(lab())
    for body in (ICMP(), TCP(dport=80), UDP(dport=53)):
        assert network.send("in", IP(src=IN, dst=NEAR) / body).to == "near"
    assert not comes_in(network, ICMP())
    assert not goes_out(network, ICMP())


@behaviour("A new network ACL denies everything; the default one allows everything, IPv6 included", source=PAGE)
def test_new_and_default() -> None:
    ping6 = IPv6(src="2001:db8:a:2::11", dst="2001:db8:a:1::11") / ICMPv6EchoRequest()
    custom = Network(lab())
    assert (comes_in(custom, TCP(dport=80)), goes_out(custom, TCP(dport=80))) == (False, False)
    assert custom.send("out", ping6).reason is Reason.ACL_INGRESS
    default = Network(changed(lab(), (", network_acl: acl", "")))
    assert (comes_in(default, TCP(dport=80)), goes_out(default, TCP(dport=80))) == (True, True)
    assert default.send("out", ping6).to == "in"


@behaviour("The port range of a rule is of destination ports, in both directions", source=PAGE)
def test_ports() -> None:
    rule = "{rule: 1, protocol: tcp, ports: 1000-2000, cidr: 0.0.0.0/0, action: allow}"
    network = Network(lab(rule, rule))
    for crosses in (comes_in, goes_out):
        found = [crosses(network, TCP(sport=s, dport=d)) for s, d in ((9, 1000), (9, 2000), (1500, 999), (1500, 2001))]
        assert found == [True, True, False, False]


@behaviour(
    "The block of a rule is the other end: the source of what comes in, the destination of what goes out",
    source=ec2_api("CreateNetworkAclEntry"),
)
def test_remote() -> None:
    theirs = "{rule: 1, protocol: all, cidr: 10.0.2.0/24, action: allow}"
    ours = "{rule: 1, protocol: all, cidr: 10.0.1.0/24, action: allow}"
    network = Network(lab(theirs, theirs))
    assert (comes_in(network, ICMP()), goes_out(network, ICMP())) == (True, True)
    network = Network(lab(ours, ours))
    assert (comes_in(network, ICMP()), goes_out(network, ICMP())) == (False, False)


@behaviour(
    "A rule for protocol 58 with an IPv4 block is for all types and codes, and none is said",
    source=ec2_api("CreateNetworkAclEntry"),
)
def test_icmpv6_in_ipv4() -> None:
    rule = "{rule: 90, protocol: icmpv6, cidr: 0.0.0.0/0, action: deny}"
    for kind in (0, 128, 255):
        probe = IP(src=OUT, dst=IN, proto=58) / Raw(bytes([kind, 0]) + bytes(6))
        assert Network(lab(ALL, ALL)).send("out", probe).to == "in"
        assert Network(lab(f"{rule}, {ALL}", ALL)).send("out", probe).reason is Reason.ACL_INGRESS
    with_type = rule.replace("action", "icmp: {type: 128}, action")
    assert refused(lab(f"{with_type}, {ALL}", ALL)) == {("vpcs.v.network_acls.acl.ingress[0].icmp", "")}


@behaviour(
    "A rule for a protocol other than TCP, UDP and ICMP, or for all, is for all ports and types",
    source=ec2_api("CreateNetworkAclEntry"),
)
def test_protocols() -> None:
    by_number = Network(lab("{rule: 1, protocol: 50, cidr: 0.0.0.0/0, action: allow}"))
    for number, passes in ((50, True), (51, False), (17, False)):
        result = by_number.send("out", IP(src=OUT, dst=IN, proto=number) / bytes(24))
        assert bool(result.sent) == passes
    everything = Network(lab(ALL))
    for body in (TCP(dport=1), UDP(dport=65535), ICMP(type=13), ICMP(type=3, code=3) / IP() / UDP()):
        assert comes_in(everything, body)


@behaviour("A rule for ICMP is for a type and code, all codes of a type, or all types", source=ec2_api("IcmpTypeCode"))
def test_icmp() -> None:
    for match, admitted in (
        ("icmp: {type: 3, code: 4}, ", [(3, 4)]),
        ("icmp: {type: 3}, ", [(3, 4), (3, 1)]),
        ("", [(3, 4), (3, 1), (8, 0)]),
    ):
        network = Network(lab(f"{{rule: 1, protocol: icmp, {match}cidr: 0.0.0.0/0, action: allow}}"))
        for type_, code in ((3, 4), (3, 1), (8, 0)):
            body = ICMP(type=type_, code=code) / (IP(src=IN, dst=OUT) / UDP() if type_ == 3 else b"")
            assert comes_in(network, body) == ((type_, code) in admitted)


@behaviour("Rules for IPv4 blocks say nothing about IPv6, and the other way round", source=PAGE)
def test_families() -> None:
    ping6 = IPv6(src="2001:db8:a:2::11", dst="2001:db8:a:1::11") / ICMPv6EchoRequest()
    four = Network(lab(ALL))
    assert comes_in(four, ICMP())
    assert four.send("out", ping6).reason is Reason.ACL_INGRESS
    six = Network(lab(ALL.replace("0.0.0.0/0", '"::/0"')))
    assert six.send("out", ping6).to == "in"
    assert not comes_in(six, ICMP())


@behaviour("A changed rule decides about the next packet, of connections that are open as well", source=PAGE)
def test_change() -> None:
    network = Network(lab(ALL, ALL))
    assert comes_in(network, TCP(sport=5000, dport=80))
    assert goes_out(network, TCP(sport=80, dport=5000, flags="SA"))
    network.apply(lab(ALL, ""))
    assert comes_in(network, TCP(sport=5000, dport=80, flags="A"))
    assert not goes_out(network, TCP(sport=80, dport=5000, flags="A"))
    network.apply(lab(ALL, ALL))
    assert goes_out(network, TCP(sport=80, dport=5000, flags="A"))


@behaviour(
    "An ACL sees the private address of its own side and the real one of the far side, never a public one of its own",
    source=vpc_guide("flow-log-records"),
)
def test_addresses_at_the_internet_gateway() -> None:
    acl = ("{rule: 1, protocol: all, cidr: 198.51.100.0/24, action: allow}",) * 2
    network = Network(lab(*acl))
    assert network.send("far", IP(src=FAR, dst=PUBLIC) / ICMP()).to == "in"
    assert network.send("in", IP(src=IN, dst=FAR) / ICMP(type=0)).packet.src == PUBLIC
    for rules in (("{rule: 1, protocol: all, cidr: 203.0.113.0/24, action: allow}",) * 2, acl[:1]):
        closed = Network(lab(*rules))
        assert closed.send("in", IP(src=IN, dst=FAR) / ICMP(type=0)).reason is Reason.ACL_EGRESS


@behaviour(
    "The ACL of a subnet is asked before the security group on the way in, and after it on the way out",
    source=reachability("getting-started-cli"),
)
def test_order_with_groups() -> None:
    closed = changed(
        lab(),
        (
            'ingress: [{protocol: all, source: 0.0.0.0/0},\n      {protocol: all, source: "::/0"}]',
            "ingress: [], egress: []",
        ),
    )
    inward = changed(
        closed,
        ("private_ip: 10.0.2.11, ", "private_ip: 10.0.2.11, "),
        ('"2001:db8:a:2::11", security_groups: [open]', '"2001:db8:a:2::11"'),
    )
    assert Network(inward).send("out", IP(src=OUT, dst=IN) / ICMP()).reason is Reason.ACL_INGRESS
    assert Network(closed).send("in", IP(src=IN, dst=OUT) / ICMP()).reason is Reason.GROUP_EGRESS


@behaviour(
    "ICMP errors need rules of their own: fragmentation needed and time exceeded are dropped without",
    source=ec2_guide("network_mtu"),
)
@pytest.mark.parametrize(("type_", "code"), [(3, 4), (11, 0)])
def test_errors(type_: int, code: int) -> None:
    tcp = "{rule: 100, protocol: tcp, ports: 0-65535, cidr: 0.0.0.0/0, action: allow}"
    icmp = f"{{rule: 110, protocol: icmp, icmp: {{type: {type_}, code: {code}}}, cidr: 0.0.0.0/0, action: allow}}"
    for rules, passes in ((tcp, False), (f"{tcp}, {icmp}", True)):
        network = Network(lab(rules, tcp))
        sent = IP(src=IN, dst=OUT) / TCP(sport=5000, dport=80)
        assert network.send("in", sent).to == "out"
        assert comes_in(network, ICMP(type=type_, code=code) / sent) == passes


@behaviour("Rules are numbered 1 to 32766, each number once in a direction", source=ec2_api("CreateNetworkAclEntry"))
def test_numbers() -> None:
    def rule(number: int) -> str:
        return f"{{rule: {number}, protocol: all, cidr: 0.0.0.0/0, action: allow}}"

    accepted(lab(f"{rule(1)}, {rule(32766)}", rule(1)))
    for number in (0, 32767):
        assert refused(lab(rule(number))) == {("vpcs.v.network_acls.acl.ingress[0].rule", "InvalidParameterValue")}
    found = refused(lab(f"{rule(7)}, {rule(7)}"))
    assert found == {("vpcs.v.network_acls.acl.ingress[1].rule", "NetworkAclEntryAlreadyExists")}


@behaviour(
    "An ACL has 20 rules of each direction and family, the last deny included", source=vpc_guide("amazon-vpc-limits")
)
def test_quota() -> None:
    rules = [f"{{rule: {n}, protocol: tcp, ports: {n}, cidr: 0.0.0.0/0, action: allow}}" for n in range(1, 21)]
    assert comes_in(Network(lab(", ".join(rules[:19]))), TCP(dport=19))
    assert {code for _, code in refused(lab(", ".join(rules)))} == {"NetworkAclEntryLimitExceeded"}


@behaviour("An ACL names no prefix list and no security group", source=PAGE)
@pytest.mark.parametrize("remote", ["prefix-list:list", "group:open"])
def test_no_prefix_lists(remote: str) -> None:
    text = lab(f'{{rule: 1, protocol: all, cidr: "{remote}", action: allow}}')
    assert {path for path, _ in refused(text)} == {"vpcs.v.network_acls.acl.ingress[0].cidr"}
