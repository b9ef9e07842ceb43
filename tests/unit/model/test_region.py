from __future__ import annotations

import pytest

from dataplane.model.region import Region
from tests.unit.model.building import expect, instance, lab, shop, topology, vpc


@pytest.mark.parametrize("name", ["us-east-1", "eu-central-2", "us-gov-west-1", "ap-southeast-5"])
def test_a_region_is_read_and_written_alike(name: str) -> None:
    assert str(Region.parse(name)) == name


@pytest.mark.parametrize("name", ["", "us-east", "us-east-1a", "US-EAST-1", "us_east_1", 7, None])
def test_what_is_no_region(name: object) -> None:
    with pytest.raises(ValueError, match="is no Region; write"):
        Region.parse(name)


@pytest.mark.parametrize("text", ["b", "us-east-1b"])
def test_a_zone_by_letter_or_in_full(text: str) -> None:
    assert Region("us-east-1").zone(text) == "us-east-1b"
    placed = topology(vpcs={"shop": vpc(subnets={"one": {"cidr": "10.0.1.0/24", "availability_zone": text}})})
    assert placed.zone_of("shop", "one") == "us-east-1b"


@pytest.mark.parametrize("text", ["", "g", "ab", "eu-west-1a", "A"])
def test_what_is_no_zone_of_the_region(text: str) -> None:
    declared = shop(subnets={"one": {"cidr": "10.0.1.0/24", "availability_zone": text}})
    expect(declared, "vpcs.shop.subnets.one.availability_zone", "InvalidParameterValue", "a letter from a to f")


def test_too_many_vpcs_in_the_region() -> None:
    vpcs = {f"v{n}": vpc() for n in range(6)}
    expect(lab(vpcs=vpcs), "vpcs.v5", "VpcLimitExceeded", "6 VPCs in a Region, and the quota is 5")
    topology(vpcs=vpcs, quotas={"vpcs_per_region": 6})


def test_vpcs_of_another_region_do_not_count() -> None:
    vpcs = {f"v{n}": vpc(f"10.{n}.0.0/16") for n in range(6)}
    far = {"far": {"requester": "v0", "accepter": "v5", "accepter_region": "eu-west-1"}}
    topology(vpcs=vpcs, peerings=far)


def test_too_many_elastic_ips_names_the_first_too_many() -> None:
    instances = {f"i{n}": instance(elastic_ip=f"203.0.113.{n + 1}") for n in range(6)}
    declared = lab(vpcs={"shop": vpc(internet_gateway={})}, instances=instances)
    expect(declared, "instances.i5.elastic_ip", "AddressLimitExceeded", "quotas: {elastic_ips_per_region: 6}")


def test_too_many_nat_gateways_in_a_zone() -> None:
    gateways = {f"n{n}": {"subnet": "one", "elastic_ip": f"203.0.113.{n + 1}"} for n in range(2)}
    declared = lab(vpcs={"shop": vpc(internet_gateway={}, nat_gateways=gateways)}, quotas={"nat_gateways_per_zone": 1})
    expect(declared, "vpcs.shop.nat_gateways.n1", "NatGatewayLimitExceeded", "quota is 1")


def test_too_many_network_interfaces_in_a_zone() -> None:
    declared = lab(
        vpcs={"shop": vpc()},
        instances={"a": instance(), "b": instance()},
        quotas={"network_interfaces_per_zone": 1},
    )
    expect(declared, "instances.b", "NetworkInterfaceLimitExceeded", "quota is 1")


def test_too_many_security_groups_and_prefix_lists() -> None:
    groups = lab(vpcs={"shop": vpc(security_groups={"web": {}})}, quotas={"security_groups_per_region": 1})
    expect(groups, "vpcs.shop.security_groups.web", "SecurityGroupLimitExceeded", "the default ones included")
    lists = lab(prefix_lists={"a": {}, "b": {}}, quotas={"prefix_lists_per_region": 1})
    expect(lists, "prefix_lists.b", "ResourceLimitExceeded", "quota is 1")
