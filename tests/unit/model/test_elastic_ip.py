from __future__ import annotations

from ipaddress import IPv4Address, IPv4Network

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dataplane.limits import AUTO_PUBLIC_POOLS
from tests.unit.model.building import expect, instance, lab, problems, program, routes, topology, vpc

GATEWAY = vpc(internet_gateway={})
LAUNCH = vpc(internet_gateway={}, subnets={"one": {"cidr": "10.0.0.0/20", "map_public_ip_on_launch": True}})


@pytest.mark.parametrize("address", ["10.0.0.5", "172.31.0.1", "192.168.1.1", "100.64.0.1", "127.0.0.1", "224.0.0.1"])
def test_an_elastic_ip_is_public(address: str) -> None:
    declared = lab(vpcs={"shop": GATEWAY}, instances={"web": instance(elastic_ip=address)})
    expect(declared, "instances.web.elastic_ip", "InvalidAddress.NotFound", "is no public address")


def test_an_elastic_ip_wants_an_internet_gateway() -> None:
    declared = lab(vpcs={"shop": vpc()}, instances={"web": instance(elastic_ip="203.0.113.20")})
    expect(declared, "instances.web.elastic_ip", "Gateway.NotAttached", "write internet_gateway: {} under vpcs.shop")


def test_an_elastic_ip_is_associated_once() -> None:
    nat = {"nat": {"subnet": "one", "elastic_ip": "203.0.113.20"}}
    declared = lab(
        vpcs={"shop": {**GATEWAY, "nat_gateways": nat}}, instances={"web": instance(elastic_ip="203.0.113.20")}
    )
    words = "associated already, at vpcs.shop.nat_gateways.nat.elastic_ip"
    expect(declared, "instances.web.elastic_ip", "Resource.AlreadyAssociated", words)


def test_a_public_address_stands_for_a_private_one_at_the_gateway() -> None:
    lowered = program(
        vpcs={"shop": GATEWAY}, instances={"web": instance(private_ip="10.0.1.9", elastic_ip="203.0.113.20")}
    )
    assert lowered.maps["internet-gateway:shop"] == [(IPv4Address("10.0.1.9"), IPv4Address("203.0.113.20"))]
    assert routes(lowered, "internet") == {"203.0.113.20/32": "internet-gateway:shop/in"}


def test_assigned_addresses_are_the_lowest_free_ones() -> None:
    placed = topology(
        vpcs={"shop": LAUNCH},
        instances={
            "a": instance(),
            "b": instance(elastic_ip="203.0.113.129"),
            "c": instance(),
            "d": instance(),
        },
        internet={"hosts": {"visitor": {"address": "203.0.113.130"}}},
    )
    mine = {each.path: str(*placed.public_addresses_of(each).values()) for each in placed.interfaces}
    assert mine == {
        "a/eth0": "203.0.113.128",
        "b/eth0": "203.0.113.129",
        "c/eth0": "203.0.113.131",
        "d/eth0": "203.0.113.132",
    }


def test_an_assigned_address_without_a_gateway_is_of_no_use() -> None:
    shop = vpc(subnets={"one": {"cidr": "10.0.1.0/24", "map_public_ip_on_launch": True}})
    lowered = program(vpcs={"shop": shop}, instances={"a": instance()})
    assert lowered.fibs["internet"] == []
    assert lowered.maps == {}


def test_an_elastic_ip_in_another_vpc_with_the_same_block_keeps_nobody_from_an_assigned_address() -> None:
    instances = {
        "a": instance(private_ip="10.0.0.9", elastic_ip="203.0.113.20"),
        "b": {**instance(private_ip="10.0.0.9"), "vpc": "twin"},
    }
    placed = topology(vpcs={"shop": LAUNCH, "twin": LAUNCH}, instances=instances)
    found = [(each.vpc, str(each.private), str(each.public)) for each in placed.public_addresses]
    assert found == [("shop", "10.0.0.9", "203.0.113.20"), ("twin", "10.0.0.9", "203.0.113.128")]


def test_assigned_addresses_go_on_in_a_second_range() -> None:
    instances = {f"i{n}": instance() for n in range(130)}
    placed = topology(vpcs={"shop": LAUNCH}, instances=instances)
    assert str(placed.public_addresses[127].public) == "203.0.113.255"
    assert str(placed.public_addresses[128].public) == "198.18.0.0"


def test_assigned_addresses_are_of_no_vpc() -> None:
    placed = topology(vpcs={"shop": LAUNCH, "odd": vpc("203.0.113.128/28", subnets={})}, instances={"a": instance()})
    assert str(placed.public_addresses[0].public) == "203.0.113.144"


@given(st.lists(st.tuples(st.booleans(), st.integers(100, 150)), max_size=20))
def test_no_public_address_is_ever_given_twice(drawn: list[tuple[bool, int]]) -> None:
    taken: set[int] = set()
    instances = {}
    for number, (elastic, last) in enumerate(drawn):
        wanted = {"elastic_ip": f"203.0.113.{last}"} if elastic and last not in taken else {}
        taken |= {last} if wanted else set()
        instances[f"i{number}"] = instance(**wanted)
    declared = lab(vpcs={"shop": LAUNCH}, instances=instances, quotas={"elastic_ips_per_region": 100})
    assert problems(declared) == []
    placed = topology(vpcs={"shop": LAUNCH}, instances=instances, quotas={"elastic_ips_per_region": 100})
    public = [each.public for each in placed.public_addresses]
    assert len(public) == len(set(public)) == len(drawn)
    chosen = [each.public for each in placed.public_addresses if each.automatic]
    assert all(any(address in pool for pool in AUTO_PUBLIC_POOLS) for address in chosen)


@pytest.mark.parametrize("cidr", ["10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", "198.19.0.0/16", "100.64.0.0/10"])
def test_what_a_vpc_has_of_its_own_is_no_public_address(cidr: str) -> None:
    """https://docs.aws.amazon.com/vpc/latest/userguide/vpc-cidr-blocks.html names these as blocks of VPCs."""
    assert not any(pool.overlaps(IPv4Network(cidr)) for pool in AUTO_PUBLIC_POOLS)
