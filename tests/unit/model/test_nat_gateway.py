from __future__ import annotations

from ipaddress import IPv4Address
from typing import Any

import pytest

from dataplane.program import Enter, Filter, Guard, Hop, NatSession, TtlAction, Via
from dataplane.program import Test as GuardTest
from dataplane.verdict import Reason
from tests.unit.model.building import chain, expect, instance, lab, problems, program, routes, shape, topology, vpc


def shop(**nat: Any) -> dict[str, Any]:
    gateway = {"subnet": "one", "elastic_ip": "203.0.113.10", **nat}
    return vpc(internet_gateway={}, nat_gateways={"nat": gateway})


@pytest.mark.parametrize(
    ("fields", "key", "code", "words"),
    [
        ({"subnet": "on"}, "subnet", "InvalidSubnetID.NotFound", "did you mean one?"),
        ({"private_ip": "10.0.1.3"}, "private_ip", "InvalidParameterValue", "reserved by AWS"),
        ({"private_ip": "10.0.2.9"}, "private_ip", "InvalidParameterValue", "from 10.0.1.4 to 10.0.1.254"),
        ({"elastic_ip": "10.0.1.9"}, "elastic_ip", "InvalidAddress.NotFound", "no public address"),
    ],
)
def test_what_aws_refuses(fields: dict[str, Any], key: str, code: str, words: str) -> None:
    expect(lab(vpcs={"shop": shop(**fields)}), f"vpcs.shop.nat_gateways.nat.{key}", code, words)


@pytest.mark.parametrize(
    ("fields", "key", "code", "words"),
    [
        ({"elastic_ip": None}, "", "MissingParameter", "needs an Elastic IP"),
        ({"connectivity": "private"}, ".elastic_ip", "InvalidParameterCombination", "no Elastic IPs"),
        (
            {"secondary_private_ips": ["10.0.1.30"]},
            ".secondary_elastic_ips",
            "InvalidParameterCombination",
            "has one for each",
        ),
        (
            {"connectivity": "private", "elastic_ip": None, "secondary_elastic_ips": ["203.0.113.11"]},
            ".secondary_elastic_ips",
            "InvalidParameterCombination",
            "no Elastic IPs",
        ),
    ],
)
def test_elastic_ips_go_with_its_kind(fields: dict[str, Any], key: str, code: str, words: str) -> None:
    expect(lab(vpcs={"shop": shop(**fields)}), f"vpcs.shop.nat_gateways.nat{key}", code, words)


def test_it_has_eight_addresses_at_most() -> None:
    """VPC User Guide, "Amazon VPC quotas": 8 private IPv4 addresses, 2 Elastic IPs unless raised."""
    private = {"connectivity": "private", "elastic_ip": None}
    many = [f"10.0.1.{n}" for n in range(30, 38)]
    path = "vpcs.shop.nat_gateways.nat.secondary_private_ips"
    declared = lab(vpcs={"shop": shop(**private, secondary_private_ips=many)})
    expect(declared, path, "PrivateIpAddressLimitExceeded", "8")
    public = {"secondary_private_ips": many[:2], "secondary_elastic_ips": ["203.0.113.11", "203.0.113.12"]}
    path = "vpcs.shop.nat_gateways.nat.secondary_elastic_ips"
    expect(lab(vpcs={"shop": shop(**public)}), path, "NatGatewayLimitExceeded", "2")


@pytest.mark.parametrize(
    ("count", "hint"), [(8, "write quotas: {elastic_ips_per_nat_gateway: 8} to raise it"), (9, "")]
)
def test_a_quota_is_raised_as_far_as_aws_does_and_no_further(count: int, hint: str) -> None:
    """VPC User Guide, "Amazon VPC quotas": Elastic IPs of a public NAT gateway can be raised up to 8."""
    private, public = ([f"{net}.{n}" for n in range(30, 29 + count)] for net in ("10.0.1", "203.0.113"))
    declared = lab(
        vpcs={"shop": shop(secondary_private_ips=private, secondary_elastic_ips=public)},
        quotas={"elastic_ips_per_region": 20},
    )
    found = {each.code: each.hint for each in problems(declared)}
    assert found["NatGatewayLimitExceeded"] == hint


def test_each_address_is_its_own() -> None:
    further = {"secondary_private_ips": ["10.0.1.21"], "secondary_elastic_ips": ["203.0.113.11"]}
    lowered = program(vpcs={"shop": shop(private_ip="10.0.1.20", **further)})
    assert [str(each) for each in lowered.nat_policies["nat-gateway:shop/nat"].addresses] == ["10.0.1.20", "10.0.1.21"]
    found = routes(lowered, "vpc:shop/hosts")
    assert found["10.0.1.20/32"] == found["10.0.1.21/32"] == "nat-gateway:shop/nat/in"
    pairs = [(str(t.inside), str(t.outside)) for t in lowered.maps["internet-gateway:shop"]]
    assert pairs == [("10.0.1.20", "203.0.113.10"), ("10.0.1.21", "203.0.113.11")]


def test_a_private_one_needs_no_internet_gateway() -> None:
    private = {"subnet": "one", "connectivity": "private"}
    assert program(vpcs={"shop": vpc(nat_gateways={"nat": private})}).maps == {}


def test_it_needs_an_internet_gateway() -> None:
    declared = lab(vpcs={"shop": {**shop(), "internet_gateway": None}})
    expect(declared, "vpcs.shop.nat_gateways.nat.elastic_ip", "Gateway.NotAttached", "has no internet gateway")


def test_its_address_is_taken_before_those_of_instances() -> None:
    placed = topology(vpcs={"shop": shop()}, instances={"web": instance()})
    assert [str(each.addresses4[0]) for each in placed.interfaces] == ["10.0.1.4", "10.0.1.5"]


def test_the_way_through() -> None:
    lowered = program(vpcs={"shop": shop(private_ip="10.0.1.20")})
    assert shape(lowered, "nat-gateway:shop/nat/in") == [
        "Filter ACL_INGRESS",
        "Guard",
        "NatSession",
        "Hop",
        "Enter",
        "Guard",
        "Filter ACL_EGRESS",
        "Lookup NO_ROUTE",
    ]
    ingress, own, translate, hop, enter, *_ = chain(lowered, "nat-gateway:shop/nat/in")
    assert isinstance(ingress, Filter)
    assert lowered.names[ingress.skip_subnet].path == "shop/one"
    assert isinstance(own, Guard)
    assert [str(each) for each in lowered.sets[own.table]] == ["10.0.1.20/32"]
    origin = lowered.nodes[own.otherwise]
    assert isinstance(origin, Guard)
    assert (origin.test, origin.table, origin.negate) == (GuardTest.SOURCE_IN, "vpc:shop/interfaces", False)
    assert (origin.reason, origin.next) == (Reason.NAT_FROM_PEER, own.next)
    assert isinstance(translate, NatSession)
    assert (translate.mtu, translate.answer_as) == (8500, "nat-gateway:shop/nat")
    assert isinstance(hop, Hop)
    assert (hop.mtu, hop.ttl, hop.answer_as) == (0, TtlAction.ANSWER, "nat-gateway:shop/nat")
    assert isinstance(enter, Enter)
    assert (enter.interface, enter.via, enter.keep_groups) == ("nat-gateway:shop/nat", Via.NAT | Via.TRACKED, False)


def test_its_policy_is_what_aws_documents() -> None:
    policy = program(vpcs={"shop": shop(private_ip="10.0.1.20")}).nat_policies["nat-gateway:shop/nat"]
    assert policy.addresses == (IPv4Address("10.0.1.20"),)
    assert (policy.port_first, policy.port_last, policy.per_destination) == (1024, 65535, 55_000)
    assert policy.timeouts.tcp_established == policy.timeouts.udp_stream == policy.timeouts.icmp == 350_000


def test_it_is_an_interface_of_its_subnet_without_port_and_groups() -> None:
    lowered = program(vpcs={"shop": shop(private_ip="10.0.1.20")})
    interface = lowered.interfaces["nat-gateway:shop/nat"]
    assert (interface.port, interface.groups) == (0, ())
    assert lowered.names[interface.number].kind == "nat-gateway"
    assert lowered.bridges["subnet:shop/one"] == [(interface.mac, "nat-gateway:shop/nat/in")]
    assert routes(lowered, "vpc:shop/hosts")["10.0.1.20/32"] == "nat-gateway:shop/nat/in"
    assert lowered.maps["internet-gateway:shop"] == [(IPv4Address("10.0.1.20"), IPv4Address("203.0.113.10"))]
    assert lowered.contexts == []
