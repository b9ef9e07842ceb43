"""Hosts that stand for AWS's services: what cannot be, and how they are reached."""

from __future__ import annotations

from ipaddress import IPv4Address
from typing import Any

import pytest

from dataplane.errors import ConfigurationError
from dataplane.load import load
from tests.unit.model.building import expect, instance, lab, peered, problems, program, routes, shape, topology, vpc


@pytest.mark.parametrize(
    ("prefix", "address"), [("52.216.0.0/15", "52.216.0.10"), ("52.216.0.0/29", "52.216.0.7"), ("52.216.0.9/32", None)]
)
def test_its_address_is_the_tenth_of_its_first_prefix_or_the_last(prefix: str, address: str | None) -> None:
    found = topology(aws_services={"s3": {"prefixes": [prefix, "52.220.0.0/16"]}}).host("s3").address
    assert str(found) == (address or prefix.partition("/")[0])


def test_its_packets_are_no_larger_than_those_of_the_internet() -> None:
    """EC2 User Guide, "Network MTU": 1500 through an internet gateway, by which a service is reached as well."""
    assert program(aws_services={"s3": {}}).interfaces["aws-service:s3"].mtu == 1500


@pytest.mark.parametrize(
    ("service", "path", "words"),
    [
        ({"address": "52.94.0.10"}, "aws_services.s3.address", "an address in 52.216.0.0/15"),
        ({"prefixes": ["10.64.0.0/24"]}, "aws_services.s3.prefixes", "no public address of its prefixes"),
        ({"prefixes": ["52.216.0.0/16", "52.216.4.0/22"]}, "aws_services.s3.prefixes[1]", "overlaps an earlier one"),
        ({"prefixes": ["203.0.113.0/25"]}, "aws_services.s3.prefixes[0]", "203.0.113.20 of the interface at"),
        ({"prefixes": ["198.51.100.0/24"]}, "aws_services.s3.prefixes[0]", "198.51.100.10 of host you"),
        ({"programs": {"web": {"command": []}}}, "aws_services.s3.programs.web.command", "no program to run"),
        ({"environment": {"A": "x\0"}}, "aws_services.s3.environment.A", "NUL"),
    ],
)
def test_what_cannot_be(service: dict[str, Any], path: str, words: str) -> None:
    declared = lab(
        vpcs={"shop": vpc(internet_gateway={})},
        instances={"web": instance(elastic_ip="203.0.113.20")},
        internet={"hosts": {"you": {"address": "198.51.100.10"}}},
        aws_services={"s3": service},
    )
    expect(declared, path, "", words)


def test_only_services_with_gateway_endpoints() -> None:
    expect(lab(aws_services={"sqs": {}}), "aws_services.sqs", "", "there is s3 and dynamodb")


def test_prefixes_of_two_services_do_not_overlap() -> None:
    services = {"s3": {}, "dynamodb": {"prefixes": ["52.217.0.0/24"]}}
    expect(lab(aws_services=services), "aws_services.dynamodb.prefixes[0]", "", "overlaps a prefix of s3")


def test_prefixes_are_outside_all_vpcs() -> None:
    declared = lab(vpcs={"shop": vpc("52.216.0.0/16")}, aws_services={"s3": {"prefixes": ["52.216.0.0/15"]}})
    expect(declared, "aws_services.s3.prefixes[0]", "", "overlaps a block of VPC shop")


def test_prefixes_it_has_by_itself_are_outside_all_vpcs_too() -> None:
    declared = lab(vpcs={"shop": vpc("52.216.0.0/16")}, aws_services={"s3": {}})
    expect(declared, "aws_services.s3", "", "52.216.0.0/15 overlaps a block of VPC shop")


@pytest.mark.parametrize("section", ["instances", "internet"])
def test_its_name_is_its_own(section: str) -> None:
    sections: dict[str, Any] = peered()
    if section == "instances":
        sections["instances"] = {"s3": instance()}
    else:
        sections["internet"] = {"hosts": {"s3": {"address": "198.51.100.10"}}}
    expect(lab(**sections, aws_services={"s3": {}}), "aws_services.s3", "", "give it another name")


def test_its_address() -> None:
    found = topology(aws_services={"s3": {}, "dynamodb": {"address": "52.94.1.1"}})
    assert {name: host.address for name, host in found.hosts.items()} == {
        "s3": IPv4Address("52.216.0.10"),
        "dynamodb": IPv4Address("52.94.1.1"),
    }


def test_the_internet_finds_it_and_it_the_internet() -> None:
    lowered = program(aws_services={"s3": {}})
    assert routes(lowered, "internet") == {"52.216.0.10/32": "aws-service:s3/in"}
    assert shape(lowered, "aws-service:s3/out") == ["Guard SOURCE_CHECK", "Enter", "Lookup OUTSIDE_NO_ROUTE"]
    interface = lowered.interfaces["aws-service:s3"]
    assert lowered.names[interface.number] == ("interface", "s3/eth0")
    assert lowered.names[interface.realm] == ("aws-service", "s3")


def test_its_prefix_list_counts_as_one_entry_in_security_groups_and_routes() -> None:
    rule = {"protocol": "tcp", "ports": 443, "destination": "prefix-list:com.amazonaws.us-east-1.s3"}
    route = {"destination": "prefix-list:com.amazonaws.us-east-1.s3", "target": "internet-gateway"}
    shop = vpc(
        internet_gateway={},
        security_groups={"web": {"egress": [rule]}},
        route_tables={"main": {"routes": [route]}},
    )
    services = {"s3": {"prefixes": ["52.216.0.0/16", "52.217.0.0/16"]}}
    quotas = {"rules_per_security_group": 1, "routes_per_table": 1}
    sections = {"vpcs": {"shop": shop}, "aws_services": services, "instances": {"w": instance(security_groups=["web"])}}
    assert problems(lab(**sections, quotas=quotas)) == []
    lowered = program(**sections)
    assert set(routes(lowered, "route-table:shop/main")) >= {"52.216.0.0/16", "52.217.0.0/16"}
    assert [str(each) for each in lowered.sets["prefix-list:com.amazonaws.us-east-1.s3"]] == services["s3"]["prefixes"]


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("com.amazonaws.us-east-1.s3", "write aws_services: {s3: {}}"),
        ("com.amazonaws.eu-west-1.s3", "there is no prefix list"),
    ],
)
def test_prefix_lists_of_services_that_are_not_there(name: str, words: str) -> None:
    rule = {"protocol": "tcp", "ports": 443, "destination": f"prefix-list:{name}"}
    declared = lab(vpcs={"shop": vpc(security_groups={"web": {"egress": [rule]}})})
    path = "vpcs.shop.security_groups.web.egress[0].destination"
    expect(declared, path, "InvalidPrefixListID.NotFound", words)


def test_a_slip_in_it_is_reported_alone() -> None:
    text = """\
version: 1
aws_services: {s3: {address: nowhere}}
vpcs:
  shop:
    cidr: 10.0.0.0/16
    gateway_endpoints: {s3: {service: s3}}
  store:
    cidr: 10.1.0.0/16
    security_groups:
      db: {egress: [{protocol: tcp, ports: 443, destination: "prefix-list:com.amazonaws.us-east-1.s3"}]}
"""
    with pytest.raises(ConfigurationError) as refused:
        load(text, file_name="lab.yaml")
    assert [each.path for each in refused.value.problems] == ["aws_services.s3.address"]


def test_a_prefix_list_is_known_in_its_region() -> None:
    sections = peered()
    sections["peerings"]["link"]["accepter_region"] = "eu-west-1"
    rule = {"protocol": "tcp", "ports": 443, "destination": "prefix-list:com.amazonaws.us-east-1.s3"}
    sections["vpcs"]["store"]["security_groups"] = {"db": {"egress": [rule]}}
    path = "vpcs.store.security_groups.db.egress[0].destination"
    expect(lab(**sections, aws_services={"s3": {}}), path, "InvalidPrefixListID.NotFound", "known in us-east-1 only")
