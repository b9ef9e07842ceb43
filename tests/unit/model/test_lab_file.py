from __future__ import annotations

from dataclasses import fields
from typing import Any

import pytest

from dataplane.limits import Quotas
from dataplane.program import Lookup
from dataplane.verdict import Reason
from tests.unit.model.building import expect, instance, lab, problems, program, vpc


def test_the_smallest_lab() -> None:
    lowered = program()
    assert list(lowered.nodes) == ["internet/route"]
    assert lowered.contexts == []


def test_the_internet_is_a_lookup() -> None:
    route = program().nodes["internet/route"]
    assert isinstance(route, Lookup)
    assert (route.fib, route.reason) == ("internet", Reason.OUTSIDE_NO_ROUTE)


@pytest.mark.parametrize("name", ["../x", "My Lab", "-a", "a" * 64, "a_b"])
def test_the_name_is_a_name(name: str) -> None:
    expect(lab(name=name), "name", "", "names are a-z")


def test_all_problems_at_once() -> None:
    shop = vpc(
        "10.0.0.0/8",
        route_tables={"main": {"routes": [{"destination": "0.0.0.0/0", "target": "internet-gateway"}]}},
        security_groups={"web": {"ingress": [{"protocol": "tcp", "source": "group:nobody"}]}},
    )
    declared = lab(
        vpcs={"shop": shop},
        peerings={"x": {"requester": "shop", "accepter": "nowhere"}},
        instances={"a": instance(private_ip="10.0.1.1"), "b": instance("two")},
        prefix_lists={"p": {"max_entries": 0}},
        internet={"hosts": {"h": {"address": "10.0.0.1"}}},
    )
    assert {(each.path, each.code) for each in problems(declared)} == {
        ("vpcs.shop.cidr", "InvalidVpc.Range"),
        ("vpcs.shop.route_tables.main.routes[0].target", "Gateway.NotAttached"),
        ("vpcs.shop.security_groups.web.ingress[0].ports", "InvalidParameterValue"),
        ("vpcs.shop.security_groups.web.ingress[0].source", "InvalidGroup.NotFound"),
        ("peerings.x.accepter", "InvalidVpcID.NotFound"),
        ("instances.a.private_ip", "InvalidParameterValue"),
        ("instances.b.subnet", "InvalidSubnetID.NotFound"),
        ("prefix_lists.p.max_entries", "InvalidParameterValue"),
        ("internet.hosts.h.address", ""),
    }


@pytest.mark.parametrize(
    ("quotas", "path", "words"),
    [
        ({"vpcs_per_region": 0}, "quotas.vpcs_per_region", "not from 1 up; AWS's default is 5"),
        ({"rules_per_network_acl": 41}, "quotas.rules_per_network_acl", "not from 1 to 40"),
        ({"security_groups_per_interface": 17}, "quotas.rules_per_security_group", "more than 1000"),
        ({"rules_per_security_group": 201}, "quotas.rules_per_security_group", "more than 1000"),
    ],
)
def test_quotas_aws_would_not_give(quotas: dict[str, int], path: str, words: str) -> None:
    found = problems(lab(quotas=quotas))
    assert any(each.path == path and words in f"{each.message}; {each.hint}" for each in found)


AWS_QUOTAS: dict[str, tuple[int, int | None, str]] = {
    "vpcs_per_region": (5, None, "VpcLimitExceeded"),
    "subnets_per_vpc": (200, None, "SubnetLimitExceeded"),
    "ipv4_cidrs_per_vpc": (5, 50, "CidrLimitExceeded"),
    "ipv6_cidrs_per_vpc": (5, 50, "CidrLimitExceeded"),
    "route_tables_per_vpc": (200, None, "RouteTableLimitExceeded"),
    "routes_per_table": (500, 1000, "RouteLimitExceeded"),
    "elastic_ips_per_region": (5, None, "AddressLimitExceeded"),
    "nat_gateways_per_zone": (5, None, "NatGatewayLimitExceeded"),
    "network_acls_per_vpc": (200, None, "NetworkAclLimitExceeded"),
    "rules_per_network_acl": (20, 40, "NetworkAclEntryLimitExceeded"),
    "security_groups_per_region": (2500, None, "SecurityGroupLimitExceeded"),
    "rules_per_security_group": (60, None, "RulesPerSecurityGroupLimitExceeded"),
    "security_groups_per_interface": (5, 16, "SecurityGroupsPerInterfaceLimitExceeded"),
    "network_interfaces_per_zone": (5000, None, "NetworkInterfaceLimitExceeded"),
    "active_peerings_per_vpc": (50, 125, "ActiveVpcPeeringConnectionPerVpcLimitExceeded"),
    "pending_peerings_per_vpc": (25, None, "OutstandingVpcPeeringConnectionLimitExceeded"),
    "elastic_ips_per_nat_gateway": (2, 8, "NatGatewayLimitExceeded"),
    "private_ips_per_nat_gateway": (8, 8, "PrivateIpAddressLimitExceeded"),
    "propagated_routes_per_table": (100, 100, "RouteLimitExceeded"),
    "gateway_load_balancers_per_region": (100, None, "TooManyLoadBalancers"),
    "gateway_load_balancers_per_vpc": (100, None, "TooManyLoadBalancers"),
    "target_groups_per_region": (100, None, "TooManyTargetGroups"),
    "targets_per_zone": (300, 300, "TooManyTargets"),
    "targets_per_balancer": (300, 300, "TooManyTargets"),
    "endpoints_per_vpc": (50, None, "VpcEndpointLimitExceeded"),
    "gateway_endpoints_per_region": (20, None, "VpcEndpointLimitExceeded"),
    "prefix_lists_per_region": (100, None, "ResourceLimitExceeded"),
}
"""Default, where AWS stops raising it, and what the API answers beyond it.

https://docs.aws.amazon.com/vpc/latest/userguide/amazon-vpc-limits.html
https://docs.aws.amazon.com/vpc/latest/peering/vpc-peering-connection-quotas.html
https://docs.aws.amazon.com/elasticloadbalancing/latest/gateway/quotas-limits.html
https://docs.aws.amazon.com/vpc/latest/privatelink/vpc-limits-endpoints.html
https://docs.aws.amazon.com/AWSEC2/latest/APIReference/errors-overview.html
"""


def test_quotas_are_those_of_aws() -> None:
    found = {quota.name: (quota.default, quota.metadata["max"], quota.metadata["code"]) for quota in fields(Quotas)}
    assert found == AWS_QUOTAS


@pytest.mark.parametrize(
    ("rules", "groups", "fits"), [(200, 5, True), (125, 8, True), (143, 7, False), (91, 11, False)]
)
def test_rules_times_groups_are_a_thousand_at_most(rules: int, groups: int, fits: bool) -> None:
    """Amazon VPC quotas, "Security groups": the two quotas multiplied may not be more."""
    quotas = {"rules_per_security_group": rules, "security_groups_per_interface": groups}
    assert (problems(lab(quotas=quotas)) == []) is fits


def test_every_quota_has_a_page_and_a_code() -> None:
    for quota in fields(Quotas):
        assert quota.metadata["page"].startswith("https://docs.aws.amazon.com/")
        code = quota.metadata["code"]
        assert code.endswith("LimitExceeded") or code.startswith("TooMany")
        assert quota.metadata["doc"]


def test_every_quota_is_enforced_somewhere() -> None:
    from pathlib import Path

    import dataplane

    assert dataplane.__file__ is not None
    text = "".join(path.read_text() for path in (Path(dataplane.__file__).parent / "model").glob("*.py"))
    assert [quota.name for quota in fields(Quotas) if f'"{quota.name}"' not in text] == []


def test_dead_ends_do_not_break_the_checks() -> None:
    """Whatever is unknown is reported, and nothing falls over because of it."""
    broken: dict[str, Any] = {
        "vpcs": {
            "shop": vpc(
                nat_gateways={"nat": {"subnet": "x", "elastic_ip": "203.0.113.1"}},
                network_interfaces={"eni": {"subnet": "x", "attachment": {"instance": "y", "device_index": 1}}},
                route_tables={
                    "main": {
                        "routes": [
                            {"destination": "0.0.0.0/0", "target": "nat-gateway:nat"},
                            {"destination": "10.1.0.0/16", "target": "network-interface:eni"},
                            {"destination": "10.2.0.0/16", "target": "instance:lost"},
                        ]
                    }
                },
            )
        },
        "instances": {"lost": instance("x"), "stray": instance(vpc="y")},
    }
    assert {each.path for each in problems(lab(**broken))} == {
        "vpcs.shop.nat_gateways.nat.subnet",
        "vpcs.shop.network_interfaces.eni.subnet",
        "vpcs.shop.network_interfaces.eni.attachment.instance",
        "instances.lost.subnet",
        "instances.stray.vpc",
    }
