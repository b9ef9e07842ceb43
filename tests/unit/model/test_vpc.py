from __future__ import annotations

from typing import Any

import pytest

from dataplane.program import Lookup
from dataplane.verdict import Reason
from tests.unit.model.building import expect, instance, lab, problems, program, routes, shop, topology, vpc


@pytest.mark.parametrize(
    ("fields", "path", "code", "words"),
    [
        ({"cidr": "10.0.0.0/8"}, "cidr", "InvalidVpc.Range", "from /16 to /28"),
        ({"cidr": "10.0.0.0/29"}, "cidr", "InvalidVpc.Range", "from /16 to /28"),
        ({"cidr": "127.0.0.0/16"}, "cidr", "InvalidVpc.Range", "overlaps 127.0.0.0/8"),
        ({"cidr": "0.1.0.0/16"}, "cidr", "InvalidVpc.Range", "overlaps 0.0.0.0/8"),
        ({"cidr": "169.254.0.0/16"}, "cidr", "InvalidVpc.Range", "overlaps 169.254.0.0/16"),
        ({"cidr": "239.1.0.0/16"}, "cidr", "InvalidVpc.Range", "overlaps 224.0.0.0/3"),
        ({"secondary_cidrs": ["10.0.128.0/17"]}, "secondary_cidrs[0]", "InvalidVpc.Conflict", "overlaps cidr"),
        ({"secondary_cidrs": ["10.2.0.0/15"]}, "secondary_cidrs[0]", "InvalidVpc.Range", "is a /15"),
        ({"secondary_cidrs": ["192.168.0.0/16"]}, "secondary_cidrs[0]", "InvalidVpc.Range", "cannot join"),
        ({"secondary_cidrs": ["198.19.0.0/16"]}, "secondary_cidrs[0]", "InvalidVpc.Range", "cannot join"),
        (
            {"cidr": "10.1.0.0/16", "secondary_cidrs": ["10.0.0.0/16"]},
            "secondary_cidrs[0]",
            "InvalidVpc.Range",
            "of 10.0.0.0/16",
        ),
        (
            {"cidr": "10.0.128.0/17", "secondary_cidrs": ["10.0.0.0/17"]},
            "secondary_cidrs[0]",
            "InvalidVpc.Range",
            "of 10.0.0.0/16",
        ),
        (
            {"cidr": "172.16.0.0/16", "secondary_cidrs": ["172.31.0.0/16"]},
            "secondary_cidrs[0]",
            "InvalidVpc.Range",
            "of 172.31.0.0/16",
        ),
        (
            {"cidr": "54.0.0.0/16", "secondary_cidrs": ["10.0.0.0/16"]},
            "secondary_cidrs[0]",
            "InvalidVpc.Range",
            "cannot join 54.0.0.0/16 (public)",
        ),
        (
            {"secondary_cidrs": ["100.64.0.0/16", "10.5.0.0/16"]},
            "secondary_cidrs[1]",
            "InvalidVpc.Range",
            "cannot join 100.64.0.0/16",
        ),
        ({"ipv6_cidrs": ["2001:db8::/58"]}, "ipv6_cidrs[0]", "InvalidVpc.Range", "/44, /48, /52, /56 or /60"),
        ({"ipv6_cidrs": ["fd00::/56"]}, "ipv6_cidrs[0]", "InvalidVpc.Range", "inside 2000::/3"),
        (
            {"ipv6_cidrs": ["2001:db8::/56", "2001:db8:0:10::/60"]},
            "ipv6_cidrs[1]",
            "InvalidVpc.Conflict",
            "overlaps 2001:db8::/56",
        ),
        (
            {"route_tables": {"a": {"main": True}, "b": {"main": True}}},
            "route_tables.b.main",
            "InvalidParameterValue",
            "a is the main table already",
        ),
    ],
)
def test_what_aws_refuses(fields: dict[str, Any], path: str, code: str, words: str) -> None:
    expect(lab(vpcs={"shop": {"cidr": "10.0.0.0/16", **fields}}), f"vpcs.shop.{path}", code, words)


@pytest.mark.parametrize("account", ["", "12345678901", "1234567890123", "12345678901a", "\uff11" * 12])
def test_an_account_is_twelve_digits(account: str) -> None:
    """Account Management Reference Guide: an AWS account ID is a 12-digit number."""
    expect(shop(account=account), "vpcs.shop.account", "InvalidParameterValue", "write 12 digits, in quotes")
    assert problems(shop(account="012345678901")) == []


@pytest.mark.parametrize(
    ("cidr", "secondary"),
    [
        ("10.0.0.0/16", ["10.2.0.0/16", "100.64.0.0/16", "54.1.0.0/16"]),
        ("172.31.0.0/16", ["172.16.0.0/16"]),
        ("192.168.0.0/16", ["100.64.0.0/28"]),
        ("198.19.0.0/16", ["54.1.0.0/16"]),
        ("10.0.0.0/28", []),
        # on either side of the private ranges is what is public (RFC 1918)
        ("10.2.0.0/16", ["9.255.0.0/16", "11.0.0.0/16", "172.15.0.0/16", "172.32.0.0/16"]),
        ("10.2.0.0/16", ["192.167.0.0/16", "192.169.0.0/16", "198.18.0.0/16", "198.20.0.0/16"]),
        # and of 10.0.0.0/15, whose blocks keep those of 10.0.0.0/16 out
        ("10.2.0.0/16", ["10.0.0.0/16"]),
        ("10.0.0.0/16", ["10.1.0.0/16"]),
    ],
)
def test_blocks_that_go_together(cidr: str, secondary: list[str]) -> None:
    assert problems(lab(vpcs={"shop": {"cidr": cidr, "secondary_cidrs": secondary}})) == []


@pytest.mark.parametrize(
    ("destination", "fits"), [("10.2.0.0/24", False), ("10.2.0.0/16", False), ("10.0.0.0/8", True)]
)
def test_a_secondary_block_not_wider_than_any_route(destination: str, fits: bool) -> None:
    declared = shop(
        secondary_cidrs=["10.2.0.0/16"],
        route_tables={"main": {"routes": [{"destination": destination, "target": "internet-gateway"}]}},
        internet_gateway={},
    )
    messages = [str(problem) for problem in problems(declared)]
    assert fits == (messages == [])
    if not fits:
        assert any("secondary_cidrs[0]" in message and "InvalidVpc.Conflict" in message for message in messages)


@pytest.mark.parametrize("target", ["local", "blackhole"])
def test_a_route_for_the_whole_secondary_block_may_stand_in_for_local(target: str) -> None:
    """VPC User Guide, "Replace or restore the target for a local route"."""
    routes = [{"destination": "10.2.0.0/16", "target": target}]
    declared = shop(secondary_cidrs=["10.2.0.0/16"], route_tables={"main": {"routes": routes}})
    assert problems(declared) == []


def test_two_vpcs_with_one_ipv4_block_stand_side_by_side() -> None:
    lowered = program(
        vpcs={"a": vpc(), "b": vpc()},
        instances={"x": instance(vpc="a", private_ip="10.0.1.9"), "y": instance(vpc="b", private_ip="10.0.1.9")},
    )
    assert routes(lowered, "vpc:a/hosts")["10.0.1.9/32"] == "interface:x/eth0/in"
    assert routes(lowered, "vpc:b/hosts")["10.0.1.9/32"] == "interface:y/eth0/in"


def test_two_vpcs_do_not_share_ipv6_addresses() -> None:
    vpcs = {"a": vpc(ipv6_cidrs=["2001:db8::/56"]), "b": vpc(ipv6_cidrs=["2001:db8::/60"])}
    expect(lab(vpcs=vpcs), "vpcs.b.ipv6_cidrs[0]", "InvalidVpc.Range", "of VPC a")


@pytest.mark.parametrize(
    ("quota", "fields", "path", "code"),
    [
        ("subnets_per_vpc", {"subnets": {}}, "", ""),
        (
            "subnets_per_vpc",
            {"subnets": {"a": {"cidr": "10.0.1.0/24"}, "b": {"cidr": "10.0.2.0/24"}}},
            "subnets",
            "SubnetLimitExceeded",
        ),
        ("ipv4_cidrs_per_vpc", {"secondary_cidrs": ["10.2.0.0/16"]}, "secondary_cidrs", "CidrLimitExceeded"),
        (
            "ipv6_cidrs_per_vpc",
            {"ipv6_cidrs": ["2001:db8::/56", "2001:db8:1::/56"]},
            "ipv6_cidrs",
            "CidrLimitExceeded",
        ),
        ("route_tables_per_vpc", {"route_tables": {"a": {}}}, "route_tables", "RouteTableLimitExceeded"),
        ("network_acls_per_vpc", {"network_acls": {"a": {}}}, "network_acls", "NetworkAclLimitExceeded"),
    ],
)
def test_quotas(quota: str, fields: dict[str, Any], path: str, code: str) -> None:
    declared = lab(vpcs={"shop": vpc(**fields)}, quotas={quota: 1})
    if code:
        expect(declared, f"vpcs.shop.{path}", code, "the quota is 1")
    else:
        assert problems(declared) == []


def test_peerings_count_for_both_vpcs() -> None:
    vpcs = {name: vpc(f"10.{n}.0.0/16") for n, name in enumerate("abc")}
    peerings = {"ab": {"requester": "a", "accepter": "b"}, "cb": {"requester": "c", "accepter": "b"}}
    active = lab(vpcs=vpcs, peerings=peerings, quotas={"active_peerings_per_vpc": 1})
    expect(active, "vpcs.b", "ActiveVpcPeeringConnectionPerVpcLimitExceeded", "2 active peerings")
    waiting = {name: {**peering, "status": "pending-acceptance"} for name, peering in peerings.items()}
    waiting["ac"] = {"requester": "a", "accepter": "c", "status": "pending-acceptance"}
    pending = lab(vpcs=vpcs, peerings=waiting, quotas={"pending_peerings_per_vpc": 1})
    expect(pending, "vpcs.a", "OutstandingVpcPeeringConnectionLimitExceeded", "2 peerings a VPC has asked for")


def test_what_is_there_without_being_declared() -> None:
    declared = topology(vpcs={"shop": {"cidr": "10.0.0.0/16"}}).vpc("shop")
    assert list(declared.all_route_tables()) == ["main"]
    assert list(declared.all_network_acls()) == ["default"]
    assert list(declared.all_security_groups()) == ["default"]


def test_another_table_than_main_can_be_the_main_one() -> None:
    placed = topology(vpcs={"shop": vpc(route_tables={"main": {}, "other": {"main": True}})})
    assert placed.subnet("shop", "one").route_table == "other"


def test_delivery_is_by_address_and_knows_every_address() -> None:
    lowered = program(
        vpcs={"shop": vpc()}, instances={"web": instance(private_ip="10.0.1.9", secondary_private_ips=["10.0.1.10"])}
    )
    deliver = lowered.nodes["vpc:shop/deliver"]
    assert isinstance(deliver, Lookup)
    assert deliver.reason is Reason.DESTINATION_UNKNOWN
    assert routes(lowered, deliver.fib) == {
        "10.0.1.1/32": "subnet:shop/one/router",
        "10.0.1.9/32": "interface:web/eth0/in",
        "10.0.1.10/32": "interface:web/eth0/in",
    }
