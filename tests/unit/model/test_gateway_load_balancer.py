"""Gateway load balancers: what AWS refuses, where their nodes are, and what a node is made of."""

from __future__ import annotations

from ipaddress import IPv4Address
from typing import Any

import pytest

from dataplane.program import Decapsulate, Direction, FlowGate, GateMode
from dataplane.verdict import Reason
from tests.unit.model.building import expect, lab, problems, program, routes, shape, topology
from tests.unit.model.inspection import BALANCER, inspected

NODE = "gateway-load-balancer:sec/gw-us-east-1a"


def test_a_lab_with_one_is_fine() -> None:
    assert problems(lab(**inspected())) == []


def test_it_has_a_node_in_each_subnet_at_the_address_asked_for_or_the_lowest_free_one() -> None:
    nodes = topology(**inspected({"balancer": {"private_ips": {"fw-b": "10.9.2.77"}}})).balancer_nodes("sec", "gw")
    assert [(zone, node.path, node.subnet.name, node.addresses4) for zone, node in nodes.items()] == [
        ("us-east-1a", "sec/gw-us-east-1a", "fw-a", (IPv4Address("10.9.1.4"),)),
        ("us-east-1b", "sec/gw-us-east-1b", "fw-b", (IPv4Address("10.9.2.77"),)),
    ]
    assert {node.kind for node in nodes.values()} == {"gateway-load-balancer"}
    assert not any(node.is_attached for node in nodes.values())


@pytest.mark.parametrize(
    ("balancer", "path", "code", "words"),
    [
        ({"subnets": ["fw-a", "fw-x"]}, "subnets[1]", "SubnetNotFound", "did you mean fw-"),
        ({"subnets": ["fw-a", "fw-a"]}, "subnets[1]", "InvalidConfigurationRequest", "listed twice"),
        ({"private_ips": {"fw-c": "10.9.3.9"}}, "private_ips.fw-c", "InvalidConfigurationRequest", "fw-a, fw-b"),
        ({"private_ips": {"fw-a": "10.9.2.9"}}, "private_ips.fw-a", "InvalidParameterValue", "is in subnet fw-b"),
        ({"private_ips": {"fw-a": "10.9.1.21"}}, "private_ips.fw-a", None, "in use already"),
        ({"target_group": "flet"}, "target_group", "TargetGroupNotFound", "did you mean fleet?"),
        ({"tcp_idle_timeout": 59}, "tcp_idle_timeout", "InvalidConfigurationRequest", "not from 60 to 6000"),
        ({"tcp_idle_timeout": 6001}, "tcp_idle_timeout", "InvalidConfigurationRequest", "the default is 350"),
    ],
)
def test_what_aws_refuses(balancer: dict[str, Any], path: str, code: str | None, words: str) -> None:
    if code is None:  # of two who want one address the later one in the file is told
        found = problems(lab(**inspected({"balancer": balancer})))
        assert [each.path for each in found] == ["instances.fw-1.private_ip"]
        assert words in found[0].message
        return
    expect(lab(**inspected({"balancer": balancer})), f"{BALANCER}.{path}", code, words)


@pytest.mark.parametrize("seconds", [60, 6000])
def test_idle_timeouts_aws_takes(seconds: int) -> None:
    assert problems(lab(**inspected({"balancer": {"tcp_idle_timeout": seconds}}))) == []


def test_one_subnet_in_each_zone() -> None:
    subnets = {"one": {"cidr": "10.9.1.0/24"}, "two": {"cidr": "10.9.2.0/24"}}
    declared = inspected({"subnets": subnets, "balancer": {"subnets": ["one", "two"]}, "group": {"targets": []}})
    del declared["instances"]["fw-1"], declared["instances"]["fw-2"]
    code, words = "InvalidConfigurationRequest", "two is in us-east-1a, as one is"
    expect(lab(**declared), f"{BALANCER}.subnets[1]", code, words)


def test_it_needs_a_subnet() -> None:
    found = problems(lab(**inspected({"balancer": {"subnets": []}})))
    assert (f"{BALANCER}.subnets", "ValidationError") in [(each.path, each.code) for each in found]


@pytest.mark.parametrize(("others", "is_refused"), [(3, False), (4, True)])
def test_a_subnet_needs_eight_free_addresses(others: int, is_refused: bool) -> None:
    subnets = {"fw-a": {"cidr": "10.9.1.0/28"}, "fw-b": {"cidr": "10.9.2.0/24", "availability_zone": "b"}}
    declared = inspected({"subnets": subnets, "group": {"targets": []}})
    declared["instances"] = {f"i-{n}": {"vpc": "sec", "subnet": "fw-a"} for n in range(others)}
    found = [(each.path, each.code, each.message) for each in problems(lab(**declared))]
    message = "subnet sec/fw-a has 7 free addresses, and 8 are needed"
    assert found == ([(f"{BALANCER}.subnets[0]", "InvalidSubnet", message)] if is_refused else [])


@pytest.mark.parametrize(("others", "is_refused"), [(2, False), (3, True)])
def test_the_node_of_another_load_balancer_takes_an_address_as_well(others: int, is_refused: bool) -> None:
    """Of the eleven addresses of a /28 that are not AWS's: one each for the other one's node and for instances."""
    subnets = {"fw-a": {"cidr": "10.9.1.0/28"}}
    both = {name: {"subnets": ["fw-a"], "target_group": f"of-{name}"} for name in ("gw", "hw")}
    groups: dict[str, Any] = {"of-gw": {}, "of-hw": {}}
    declared = inspected({"subnets": subnets, "gateway_load_balancers": both, "target_groups": groups})
    declared["instances"] = {f"i-{n}": {"vpc": "sec", "subnet": "fw-a"} for n in range(others)}
    found = {each.path: each.code for each in problems(lab(**declared))}
    paths = [f"vpcs.sec.gateway_load_balancers.{name}.subnets[0]" for name in both]
    assert found == (dict.fromkeys(paths, "InvalidSubnet") if is_refused else {})


def test_a_target_group_is_of_one_load_balancer() -> None:
    more = {"gw": {"subnets": ["fw-a"], "target_group": "fleet"}, "hw": {"subnets": ["fw-a"], "target_group": "fleet"}}
    declared = lab(**inspected({"gateway_load_balancers": more}))
    path = "vpcs.sec.gateway_load_balancers.hw.target_group"
    expect(declared, path, "TargetGroupAssociationLimit", "of gw already")


def test_quotas_hold() -> None:
    declared = lab(**inspected(), quotas={"gateway_load_balancers_per_vpc": 1, "targets_per_zone": 1})
    assert problems(declared) == []


def test_what_comes_to_a_node_is_decapsulated_or_an_answer_to_its_health_checks() -> None:
    lowered = program(**inspected())
    assert shape(lowered, f"{NODE}/in") == ["Filter ACL_INGRESS", "Decapsulate"]
    tunnel = lowered.nodes[f"{NODE}/in/tunnel"]
    assert isinstance(tunnel, Decapsulate)
    assert lowered.names[tunnel.owner] == ("gateway-load-balancer", "sec/gw")
    assert shape(lowered, tunnel.otherwise) == ["FlowGate ENDPOINT_ADDRESSED", "Emit"]
    probes, out = lowered.nodes[tunnel.otherwise], lowered.nodes[f"{NODE}/out"]
    assert isinstance(probes, FlowGate)
    assert isinstance(out, FlowGate)
    assert (probes.mode, probes.direction, probes.policy) == (GateMode.REQUIRE, Direction.INGRESS, out.policy)
    assert (out.mode, out.direction, out.reason) == (GateMode.OPEN, Direction.EGRESS, Reason.NONE)


def test_a_node_has_a_port_and_is_found_at_its_address() -> None:
    lowered = program(**inspected())
    interface = lowered.interfaces[NODE]
    assert lowered.names[interface.number] == ("gateway-load-balancer-node", "sec/gw/fw-a")
    assert interface.port == interface.number
    assert interface.number in {context.number for context in lowered.contexts}
    assert routes(lowered, "vpc:sec/hosts")["10.9.1.4/32"] == f"{NODE}/in"
    assert (interface.mac, f"{NODE}/in") in lowered.bridges["subnet:sec/fw-a"]
