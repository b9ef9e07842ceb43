"""Checks decided by rules alone: what holds, what does not, and which rule decides."""

from __future__ import annotations

from ipaddress import ip_address
from itertools import permutations

import pytest

from dataplane.analysis.course import Found
from dataplane.analysis.oracle import Oracle
from dataplane.engine import DataPlane
from dataplane.load import load_topology
from dataplane.model._probe_ends import Ends, senders_of
from dataplane.model.check import Check, ProbeProtocol
from tests.unit.analysis.claims import EXAMPLES, decided, example, names, the_result


@pytest.mark.parametrize(
    ("lab", "check"),
    [
        ("quickstart", "can: app -> example, port: 80, via: 'nat-gateway:shop/nat', source_seen: 203.0.113.10"),
        ("quickstart", "can: visitor -> web, port: 80, via: 'internet-gateway:shop', source_seen: 198.51.100.77"),
        ("quickstart", "can: app -> db, protocol: icmp, via: 'peering:shop-store'"),
        ("quickstart", "can: app -> example, port: 80, via: ['nat-gateway:shop/nat', 'internet-gateway:shop']"),
        ("quickstart", "can: app -> 10.0.2.1, protocol: icmp"),  # the subnet's router answers itself
        ("gateway-endpoint", "can: app -> s3, port: 80, via: 'vpc-endpoint:shop/s3', source_seen: 10.95.1.10"),
        ("inspection-edge", "can: customer -> web, port: 80, via: ['vpc-endpoint:site/inspect', 'instance:fw-1']"),
        ("inspection", "can: customer -> web, port: 80, via: 'instance:fw'"),
        ("ipv6-egress", "can: 'worker -> 2001:db8:ffff::10', port: 80, via: 'egress-only-internet-gateway:lab'"),
        ("ipv6-egress", "can: 'worker -> 64:ff9b::198.51.100.20', port: 80, source_seen: 203.0.113.70"),
        ("quickstart", "can: app -> example, protocol: icmp, packet_size: 1500"),
        ("quickstart", "can: example -> visitor, protocol: 50, packet_size: 1500"),
        ("dual-stack", "can: web -> 2001:db8:ffff::10, protocol: icmpv6, packet_size: 1500"),
        ("inspection-east-west", "can: shop -> db, protocol: icmp, packet_size: 8500"),
    ],
)
def test_what_can(lab: str, check: str) -> None:
    result = the_result(lab, check)
    assert result.holds, result.why
    assert result.found is Found.ANSWERED


@pytest.mark.parametrize(
    ("lab", "check", "decider"),
    [
        (
            "quickstart",
            "cannot: db -> example, protocol: icmp",
            {"object": "route-table store/main", "rule": None, "reason": "NO_ROUTE"},
        ),
        (
            "quickstart",
            "cannot: visitor -> web, protocol: icmp",
            {"object": "interface web/eth0", "rule": None, "reason": "GROUP_INGRESS"},
        ),
        (
            "quickstart",
            "cannot: visitor -> web, port: 22",
            {
                "object": "network-acl shop/edge",
                "rule": "shop/edge ingress 90 deny tcp 22 from 0.0.0.0/0",
                "reason": "ACL_INGRESS",
            },
        ),
        (
            "ipv6-egress",
            "cannot: www -> 2001:db8:70:2::10, port: 80",
            {"object": "egress-only-internet-gateway lab", "rule": None, "reason": "EGRESS_ONLY_NO_SESSION"},
        ),
        (
            "quickstart",
            "cannot: app -> example, protocol: udp, port: 53, packet_size: 1501",
            {"object": "internet-gateway shop", "rule": None, "reason": "MTU_EXCEEDED"},
        ),
        (
            "quickstart",
            "cannot: app -> example, protocol: icmp, packet_size: 8501",
            {"object": "nat-gateway shop/nat", "rule": None, "reason": "MTU_EXCEEDED"},
        ),
        (
            "dual-stack",
            "cannot: web -> 2001:db8:ffff::10, protocol: icmpv6, packet_size: 1501",
            {"object": "internet-gateway front", "rule": None, "reason": "MTU_EXCEEDED"},
        ),
        (
            "inspection-east-west",
            "cannot: shop -> db, protocol: icmp, packet_size: 8501",
            {"object": "vpc-endpoint company/inspect", "rule": None, "reason": "MTU_EXCEEDED"},
        ),
    ],
)
def test_what_cannot_and_who_says_so(lab: str, check: str, decider: dict[str, str | None]) -> None:
    result = the_result(lab, check)
    assert result.holds, result.why
    assert names(result) == decider


@pytest.mark.parametrize(
    ("check", "words"),
    [
        ("cannot: app -> web, protocol: icmp", "answered"),
        ("can: visitor -> web, protocol: icmp", "DROPPED by interface web/eth0 (security group shop/web)"),
        (
            "can: app -> example, port: 80, via: 'peering:shop-store'",
            "not via peering:shop-store: it passed nat-gateway:shop/nat, internet-gateway:shop",
        ),
        (
            "can: app -> example, port: 80, via: ['internet-gateway:shop', 'nat-gateway:shop/nat']",
            "not via nat-gateway:shop/nat",
        ),
        ("can: app -> web, protocol: icmp, via: 'instance:db'", "it passed none of these"),
        ("can: app -> example, port: 80, source_seen: 10.0.2.10", "it arrived, but seen as 203.0.113.10"),
    ],
)
def test_what_does_not_hold_and_why(check: str, words: str) -> None:
    result = the_result("quickstart", check)
    assert not result.holds
    assert words in result.why


def test_an_answer_that_dies_is_told_apart() -> None:
    """A stateless filter that lets questions out and no answers in."""
    text = """
version: 1
vpcs:
  shop:
    cidr: 10.0.0.0/16
    subnets:
      a: {cidr: 10.0.1.0/24, network_acl: shut}
      b: {cidr: 10.0.2.0/24}
    network_acls:
      shut:
        ingress: [{rule: 100, protocol: tcp, ports: 22, cidr: 0.0.0.0/0, action: allow}]
        egress: [{rule: 100, protocol: all, cidr: 0.0.0.0/0, action: allow}]
    security_groups:
      open: {ingress: [{protocol: all, source: 0.0.0.0/0}]}
instances:
  one: {vpc: shop, subnet: a, private_ip: 10.0.1.10, security_groups: [open]}
  two: {vpc: shop, subnet: b, private_ip: 10.0.2.10, security_groups: [open]}
checks:
  - {cannot: one -> two, port: 80}
  - {can: two -> one, port: 22}
"""
    there, back = decided(load_topology(text, file_name="lab"))
    assert there.holds
    assert there.why.startswith("the answer is DROPPED by network-acl shop/shut (rule *, as no other matches)")
    assert [leg.is_answer for leg in there.legs] == [False, True]
    assert back.holds


def test_what_an_instance_on_the_way_does_is_said_to_be_assumed() -> None:
    result = the_result("inspection", "can: customer -> web, port: 80")
    assert result.assumed == ("fw",)
    assert result.why == "answered, provided that fw sends it on"


def test_each_check_is_decided_as_if_it_were_the_first() -> None:
    """A protocol without ports: what the group remembers of one check would let the other through."""
    out, back = decided(example("quickstart", "cannot: web -> db, protocol: 50", "cannot: db -> web, protocol: 50"))
    assert (names(out)["object"], names(back)["object"]) == ("interface db/eth0", "interface web/eth0")
    first, second = decided(
        example("quickstart", "can: app -> web, protocol: icmp", "cannot: web -> app, protocol: 47")
    )
    assert first.holds
    assert second.holds


@pytest.mark.parametrize("name", sorted(path.stem for path in EXAMPLES.glob("*.yaml")))
def test_both_engines_say_the_same_of_every_pair(name: str) -> None:
    topology = load_topology(EXAMPLES / f"{name}.yaml")
    oracle, fast = Oracle(topology), DataPlane(topology)
    compared = 0
    for source, destination in permutations(senders_of(topology), 2):
        for address in (destination.address4, destination.address6):
            if address is None or source.address(address.version) in (None, address):
                continue
            for protocol, port in (("tcp", 80), ("tcp", 5432), ("udp", 53), ("icmp", None)):
                ends = Ends(source.path, str(address))
                check = Check(can=ends, protocol=ProbeProtocol.parse(protocol), port=port)
                course = oracle.follow(check.resolve(topology))
                trace = fast.trace(source.path, str(address), protocol=protocol, port=port)
                assert (course.found is Found.ANSWERED) == trace.reachable, str(check)
                assert sorted(course.assumed) == sorted(trace.assumed), str(check)
                if not trace.reachable:
                    leg, walk = course.blocked_by, trace.deciding_walk
                    assert leg is not None
                    assert (leg.object, leg.rule, leg.reason) == (walk.object, walk.rule, walk.reason), str(check)
                compared += 1
    assert compared >= 8  # four kinds of packets each way, between two


def test_nobody_in_the_subnet_has_the_address() -> None:
    result = the_result("quickstart", "cannot: app -> 10.0.2.99, port: 80")
    assert result.holds
    assert names(result)["reason"] == "DESTINATION_UNKNOWN"
    assert result.resolved.destination == ip_address("10.0.2.99")


def test_a_datagram_to_the_port_of_tunnels_is_followed_through_one() -> None:
    result = the_result("inspection-edge", "cannot: customer -> web, protocol: udp, port: 6081")
    assert result.holds, result.why
    assert names(result) == {"object": "interface web/eth0", "rule": None, "reason": "GROUP_INGRESS"}


def test_no_node_sees_what_a_router_answers() -> None:
    result = the_result("quickstart", "can: app -> 10.0.2.1, protocol: icmp, source_seen: 10.0.2.10")
    assert (result.holds, result.why) == (False, "it arrived, but a router answered, and no node has seen it")


TWINS = """
version: 1
vpcs:
  a:
    cidr: 10.0.0.0/16
    subnets: {{s: {{cidr: 10.0.1.0/24, route_table: t}}}}
    route_tables: {{t: {{routes: [{{destination: 10.1.0.0/16, target: "peering:a-{answers}"}}]}}}}
    security_groups: {{open: {{ingress: [{{protocol: all, source: 0.0.0.0/0}}]}}}}
  b: &twin
    cidr: 10.1.0.0/16
    subnets: {{s: {{cidr: 10.1.1.0/24, route_table: t}}}}
    route_tables: {{t: {{routes: [{{destination: 10.0.0.0/16, target: "peering:a-b"}}]}}}}
    security_groups: {{open: {{ingress: [{{protocol: all, source: 0.0.0.0/0}}]}}}}
  c:
    <<: *twin
    route_tables: {{t: {{routes: [{{destination: 10.0.0.0/16, target: "peering:a-c"}}]}}}}
peerings: {{a-b: {{requester: a, accepter: b}}, a-c: {{requester: a, accepter: c}}}}
instances:
  far: {{vpc: a, subnet: s, private_ip: 10.0.1.10, security_groups: [open]}}
  mine: {{vpc: b, subnet: s, private_ip: 10.1.1.10, security_groups: [open]}}
  other: {{vpc: c, subnet: s, private_ip: 10.1.1.10, security_groups: [open]}}
checks: [{{can: mine -> 10.0.1.10, port: 80}}]
"""


@pytest.mark.parametrize(("answers", "holds"), [("b", True), ("c", False)])
def test_an_answer_to_another_of_the_same_address_is_none(answers: str, holds: bool) -> None:
    """Two VPCs of one block: the answer goes by the peering that the route table of who answers names."""
    [result] = decided(load_topology(TWINS.format(answers=answers), file_name="twins.yaml"))
    assert result.holds is holds
    if not holds:
        assert result.why == "the answer arrived at interface other/eth0, which did not send it on"
