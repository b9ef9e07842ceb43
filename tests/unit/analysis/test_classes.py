"""What a configuration tells apart, and that whoever is of one kind is treated alike."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dataplane.analysis.classes import (
    TrafficClass,
    addresses_of_sender,
    can_be_asked,
    interface_classes,
    questions,
    traffic_classes,
)
from dataplane.analysis.judge import judge
from dataplane.analysis.oracle import Oracle
from dataplane.load import load_topology
from dataplane.model._probe_ends import Ends, senders_of
from dataplane.model.check import Check, ProbeProtocol
from tests.unit.analysis.claims import EXAMPLES, example
from tests.unit.model.building import instance, topology, vpc


def rule(ports: Any = None, protocol: Any = "tcp", source: str = "0.0.0.0/0") -> dict[str, Any]:
    return {"protocol": protocol, "source": source} | ({} if ports is None else {"ports": ports})


def kinds_of(*rules: dict[str, Any], protocol: int = 6) -> list[tuple[tuple[int, int], ...]]:
    declared = topology(vpcs={"shop": vpc(security_groups={"web": {"ingress": list(rules)}})})
    return [each.ports for each in traffic_classes(declared) if each.protocol == protocol]


@pytest.mark.parametrize(
    ("rules", "kinds"),
    [
        ([], [((1, 65535),)]),
        ([rule(80)], [((1, 79), (81, 65535)), ((80, 80),)]),
        ([rule("0-65535")], [((1, 65535),)]),
        ([rule("1-10"), rule("5-20")], [((1, 4),), ((5, 10),), ((11, 20),), ((21, 65535),)]),
        ([rule("1-10"), rule("11-20")], [((1, 10),), ((11, 20),), ((21, 65535),)]),
        ([rule(65535), rule(80, "udp")], [((1, 65534),), ((65535, 65535),)]),
    ],
)
def test_ports_are_cut_at_the_edges_of_rules(rules: list[Any], kinds: list[Any]) -> None:
    assert kinds_of(*rules) == kinds


@given(st.lists(st.tuples(st.integers(0, 65535), st.integers(0, 300)), max_size=6), st.integers(1, 65535))
def test_kinds_are_all_ports_once_and_rules_say_the_same_of_each(ranges: list[tuple[int, int]], port: int) -> None:
    spans = [(first, min(first + more, 65535)) for first, more in dict(ranges).items()]
    kinds = kinds_of(*(rule(f"{first}-{last}") for first, last in spans))
    pieces = sorted(piece for kind in kinds for piece in kind)
    assert [first for first, _ in pieces] == [1, *(last + 1 for _, last in pieces[:-1])]
    assert pieces[-1][1] == 65535
    mine = next(kind for kind in kinds if any(first <= port <= last for first, last in kind))
    for first, last in mine:
        for other in (first, last):
            assert [low <= port <= high for low, high in spans] == [low <= other <= high for low, high in spans]


def test_protocols_that_rules_name_and_one_for_all_others() -> None:
    declared = topology(
        vpcs={"shop": vpc(security_groups={"web": {"ingress": [rule(protocol=n) for n in (50, 89, 0, 255)]}})}
    )
    assert [each.protocol for each in traffic_classes(declared)] == [6, 17, 1, 50, 89, 47]


def test_the_first_and_the_last_port_of_all_ranges_stand_for_them() -> None:
    assert TrafficClass(protocol=6, ports=((1, 79), (81, 90), (100, 65535))).samples() == (1, 65535)
    assert TrafficClass(protocol=6, ports=((80, 80),)).samples() == (80,)
    assert TrafficClass(protocol=1).samples() == (None,)


def members(**sections: Any) -> list[list[str]]:
    return [[each.node for each in kind.members] for kind in interface_classes(topology(**sections))]


def test_interfaces_that_nothing_tells_apart_are_of_one_kind() -> None:
    shop = vpc(security_groups={"web": {"ingress": [rule(80, source="10.0.1.12/32")]}})
    shop["subnets"]["two"] = {"cidr": "10.0.2.0/24"}
    found = members(
        vpcs={"shop": shop},
        instances={
            "a": instance(private_ip="10.0.1.10"),
            "b": instance(private_ip="10.0.1.11"),
            "named-by-a-rule": instance(private_ip="10.0.1.12"),
            "other-subnet": instance("two", private_ip="10.0.2.10"),
            "other-group": instance(private_ip="10.0.1.13", security_groups=["web"]),
            "unchecked": instance(private_ip="10.0.1.14", source_dest_check=False),
        },
        internet={"hosts": {"x": {"address": "198.51.100.1"}, "y": {"address": "198.51.100.2"}}},
    )
    assert found == [["a", "b"], ["named-by-a-rule"], ["other-subnet"], ["other-group"], ["unchecked"], ["x", "y"]]


def test_who_can_be_asked_stands_for_its_kind() -> None:
    """What is behind a TAP device sends by itself; it is asked, by rules, only where nobody else is like it."""
    declared = topology(
        vpcs={"shop": vpc(security_groups={"web": {}})},
        instances={
            "tap": instance(private_ip="10.0.1.10", attach="tap:vm0"),
            "other": instance(private_ip="10.0.1.11"),
            "alone": instance(private_ip="10.0.1.12", attach="tap:vm1", security_groups=["web"]),
            "namespace": instance(private_ip="10.0.1.13", attach="netns:/run/netns/x", security_groups=["web"]),
        },
    )
    asked = [each.check.resolve(declared).sender.node for each in questions(declared, every_sample=True)]
    assert set(asked) == {"other", "namespace"}
    assert [can_be_asked(declared, name) for name in declared.lab.instances] == [False, True, False, True]


def test_targets_of_routes_and_balancers_stand_for_themselves() -> None:
    declared = example("inspection-east-west", "can: shop -> db, port: 5432")
    assert [[each.node for each in kind.members] for kind in interface_classes(declared)] == [
        ["shop", "neighbour"],
        ["db"],
        ["fw"],
    ]


def test_a_target_that_is_named_by_its_address_stands_for_itself() -> None:
    groups = {"fleet": {"target_type": "ip", "targets": ["10.0.1.10"]}}
    shop = vpc(target_groups=groups, gateway_load_balancers={"lb": {"subnets": ["one"], "target_group": "fleet"}})
    same = {name: instance(private_ip=f"10.0.1.{number}") for number, name in enumerate("abc", start=10)}
    assert members(vpcs={"shop": shop}, instances=same) == [["a"], ["b", "c"]]
    del shop["gateway_load_balancers"], shop["target_groups"]
    assert members(vpcs={"shop": shop}, instances=same) == [["a", "b", "c"]]


def test_a_target_s_address_in_another_vpc_hides_it_not() -> None:
    """Two VPCs may have one block: the target is in the VPC of the load balancer."""
    groups = {"fleet": {"target_type": "ip", "targets": ["10.0.1.10"]}}
    same = {name: instance(private_ip=f"10.0.1.{number}") for number, name in enumerate("abc", start=10)}
    twins = {f"{name}2": {**declared, "vpc": "twin"} for name, declared in same.items()}
    declared = {"shop": vpc(target_groups=groups), "twin": vpc()}
    assert members(vpcs=declared, instances={**same, **twins}) == [["a"], ["b", "c"], ["a2", "b2", "c2"]]


BOTH_FAMILIES = """
version: 1
vpcs:
  v:
    cidr: 10.0.0.0/16
    ipv6_cidrs: ["2001:db8:10::/56"]
    subnets:
      one: {cidr: 10.0.1.0/24, ipv6_cidr: "2001:db8:10:1::/64"}
      two: {cidr: 10.0.2.0/24, ipv6_cidr: "2001:db8:10:2::/64"}
    network_interfaces:
      second: {subnet: two, private_ips: [10.0.2.20], attachment: {instance: fw, device_index: 1}}
instances:
  fw: {vpc: v, subnet: one, private_ip: 10.0.1.10, ipv6_address: "2001:db8:10:1::10"}
  y: {vpc: v, subnet: two, private_ip: 10.0.2.10, ipv6_address: "2001:db8:10:2::10"}
"""


def test_pings_are_of_the_family_of_the_address_and_nobody_is_asked_about_itself() -> None:
    """ICMP is protocol 1, of IPv6 58, whatever else a node has; its second interface is no other node."""
    declared = load_topology(BOTH_FAMILIES, file_name="lab.yaml")
    asked = [each.check.resolve(declared) for each in questions(declared, every_sample=False)]
    assert {(each.destination.version, each.protocol) for each in asked if each.protocol in (1, 58)} == {
        (4, 1),
        (6, 58),
    }
    assert {(each.sender.node, str(each.destination)) for each in asked} == {
        ("fw", "10.0.2.10"),
        ("fw", "2001:db8:10:2::10"),
        ("y", "10.0.1.10"),
        ("y", "10.0.2.20"),
        ("y", "2001:db8:10:1::10"),
    }


TWINS = """
version: 1
vpcs:
  left: &vpc {cidr: 10.0.0.0/16, internet_gateway: {}, subnets: {s: {cidr: 10.0.1.0/24}}}
  right: *vpc
instances:
  a: {vpc: left, subnet: s, private_ip: 10.0.1.10, elastic_ip: 203.0.113.20}
  b: {vpc: right, subnet: s, private_ip: 10.0.1.10, elastic_ip: 203.0.113.21}
"""


def test_two_vpcs_of_one_block_have_their_own_public_addresses() -> None:
    """Nor is anybody asked for the address that is its own: that never leaves it."""
    declared = load_topology(TWINS, file_name="lab.yaml")
    found = {
        each.node: [str(address) for address in addresses_of_sender(declared, each)] for each in senders_of(declared)
    }
    assert found == {"a": ["10.0.1.10", "203.0.113.20"], "b": ["10.0.1.10", "203.0.113.21"]}
    asked = {
        (each.sender.members[0].node, str(each.check.ends.destination))
        for each in questions(declared, every_sample=False)
    }
    assert asked == {("a", "203.0.113.21"), ("b", "203.0.113.20")}


@pytest.mark.parametrize("name", ["quickstart", "inspection-east-west", "three-tier"])
def test_whoever_is_of_a_kind_is_treated_alike(name: str) -> None:
    """All members and both ends of all ranges against the one that stands for them."""
    declared = load_topology(EXAMPLES / f"{name}.yaml")
    oracle = Oracle(declared)
    compared = 0
    for question in questions(declared, every_sample=False):
        expected = judge(1, oracle.follow(question.check.resolve(declared)))
        for sender in question.sender.members:
            for receiver in question.receiver.members:
                if sender.node == receiver.node:
                    continue
                address = list(addresses_of_sender(declared, receiver))[question.way]
                ends: list[int | None] = [edge for span in question.traffic.ports for edge in span]
                for port in ends or [None]:
                    check = Check(
                        can=Ends(sender.path, str(address)),
                        protocol=ProbeProtocol(expected.resolved.protocol),
                        port=port,
                    )
                    result = judge(1, oracle.follow(check.resolve(declared)))
                    assert (result.found, result.passed) == (expected.found, expected.passed), str(check)
                    compared += 1
    assert compared > 50
