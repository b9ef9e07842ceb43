from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dataplane.model.network_acl import NetworkAcl
from dataplane.program import Filter, Side
from tests.unit.model.building import ANYWHERE, expect, instance, lab, problems, program, shop, vpc

ALLOW: dict[str, Any] = {"rule": 100, "protocol": "tcp", "ports": 80, "cidr": ANYWHERE, "action": "allow"}


def rule(**fields: Any) -> dict[str, Any]:
    return {key: value for key, value in {**ALLOW, **fields}.items() if value is not None}


@pytest.mark.parametrize("direction", ["ingress", "egress"])
@pytest.mark.parametrize(
    ("fields", "key", "code", "words"),
    [
        ({"rule": 0}, ".rule", "InvalidParameterValue", "from 1 to 32766"),
        ({"rule": 32767}, ".rule", "InvalidParameterValue", "from 1 to 32766"),
        ({"ports": None}, ".ports", "MissingParameter", "a tcp rule needs ports"),
        ({"protocol": "udp", "ports": None}, ".ports", "MissingParameter", "all ports are 0-65535"),
        ({"protocol": "all"}, ".ports", "", "ports mean nothing for protocol all"),
        ({"protocol": 47}, ".ports", "", "ports mean nothing for protocol 47"),
        ({"icmp": {"type": 8}}, ".icmp", "", "an ICMP type means nothing for protocol tcp"),
        (
            {"protocol": "icmp", "ports": None, "icmp": {"type": 256}},
            ".icmp.type",
            "InvalidParameterValue",
            "256 is no ICMP type",
        ),
        (
            {"protocol": "icmp", "ports": None, "icmp": {"type": 3, "code": -2}},
            ".icmp.code",
            "InvalidParameterValue",
            "-2 is no ICMP code",
        ),
        (
            {"protocol": "icmpv6", "ports": None, "cidr": "::/0", "icmp": {"code": 4}},
            ".icmp.code",
            "InvalidParameterValue",
            "any type goes with any code",
        ),
    ],
)
def test_rules_aws_refuses(direction: str, fields: dict[str, Any], key: str, code: str, words: str) -> None:
    declared = shop(network_acls={"edge": {direction: [rule(**fields)]}})
    expect(declared, f"vpcs.shop.network_acls.edge.{direction}[0]{key}", code, words)


@pytest.mark.parametrize("direction", ["ingress", "egress"])
def test_icmpv6_with_an_ipv4_block_has_no_type(direction: str) -> None:
    def declared(**fields: Any) -> Any:
        return shop(network_acls={"edge": {direction: [rule(protocol="icmpv6", ports=None, **fields)]}})

    path = f"vpcs.shop.network_acls.edge.{direction}[0].icmp"
    expect(declared(icmp={"type": 128}), path, "", "of all types and codes")
    assert problems(declared(icmp={"type": 128}, cidr="::/0")) == problems(declared()) == []


def test_a_number_is_there_once_in_each_direction() -> None:
    two = [rule(), rule(ports=443)]
    declared = shop(network_acls={"edge": {"ingress": two, "egress": [rule()]}})
    path = "vpcs.shop.network_acls.edge.ingress[1].rule"
    expect(declared, path, "NetworkAclEntryAlreadyExists", "has a rule 100 already")


@pytest.mark.parametrize(("count", "fits"), [(19, True), (20, False)])
def test_quota_counts_the_last_deny_and_the_families_apart(count: int, fits: bool) -> None:
    rules = [rule(rule=n) for n in range(1, count + 1)] + [rule(rule=n, cidr="::/0") for n in range(100, 119)]
    declared = shop(network_acls={"edge": {"egress": rules}})
    if fits:
        assert problems(declared) == []
    else:
        expect(declared, "vpcs.shop.network_acls.edge.egress", "NetworkAclEntryLimitExceeded", "21 rules")


def test_prefix_lists_are_refused() -> None:
    with pytest.raises(Exception, match="prefix-list:partners"):
        shop(network_acls={"edge": {"ingress": [rule(cidr="prefix-list:partners")]}})


def test_rules_are_lowered_in_the_order_of_their_numbers() -> None:
    icmp = {"rule": 5, "protocol": "icmp", "icmp": {"type": 8, "code": 0}, "cidr": "10.0.0.0/8", "action": "deny"}
    all_of_it = {"rule": 200, "protocol": "all", "cidr": "::/0", "action": "allow"}
    lowered = program(vpcs={"shop": vpc(network_acls={"edge": {"ingress": [all_of_it, rule(), icmp]}})})
    first, second, third = lowered.filters["network-acl:shop/edge/ingress"]
    assert (first.protocol, first.icmp, first.ports, str(first.prefix), first.allow) == (
        1,
        (8, 0),
        None,
        "10.0.0.0/8",
        False,
    )
    assert (second.protocol, second.ports, second.allow) == (6, (80, 80), True)
    assert (third.protocol, third.ports, third.icmp, str(third.prefix)) == (-1, None, None, "::/0")
    assert [lowered.names[each.rule].path for each in (first, second, third)] == [
        "shop/edge ingress 5 deny icmp type 8 code 0 from 10.0.0.0/8",
        "shop/edge ingress 100 allow tcp 80 from 0.0.0.0/0",
        "shop/edge ingress 200 allow all from ::/0",
    ]
    assert lowered.filters["network-acl:shop/edge/egress"] == []


@pytest.mark.parametrize(("blocks", "expected"), [([], [ANYWHERE]), (["2001:db8::/56"], [ANYWHERE, "::/0"])])
def test_the_default_acl_lets_everything_pass(blocks: list[str], expected: list[str]) -> None:
    lowered = program(vpcs={"shop": vpc(ipv6_cidrs=blocks)})
    for direction in ("ingress", "egress"):
        rules = lowered.filters[f"network-acl:shop/default/{direction}"]
        assert [str(each.prefix) for each in rules] == expected
        assert all(each.allow and each.protocol == -1 for each in rules)


def test_rules_of_the_default_acl_have_the_numbers_that_aws_gives_them() -> None:
    """VPC User Guide, "Default network ACL": 100, and 101 for IPv6."""
    both = NetworkAcl.default(ipv6=True)
    for rules in (both.ingress, both.egress):
        assert [(each.rule, str(each.cidr)) for each in rules] == [(100, ANYWHERE), (101, "::/0")]


def test_the_default_acl_is_as_declared_when_it_is_declared() -> None:
    lowered = program(vpcs={"shop": vpc(network_acls={"default": {}})})
    assert lowered.filters["network-acl:shop/default/ingress"] == []


def test_subnets_are_crossed_by_their_own_acl() -> None:
    subnets = {"one": {"cidr": "10.0.1.0/24", "network_acl": "edge"}, "two": {"cidr": "10.0.2.0/24"}}
    lowered = program(
        vpcs={"shop": vpc(subnets=subnets, network_acls={"edge": {}})},
        instances={"a": instance(), "b": instance("two")},
    )
    for name, subnet, acl in (("a", "one", "edge"), ("b", "two", "default")):
        into = lowered.nodes[f"interface:{name}/eth0/in"]
        assert isinstance(into, Filter)
        assert (into.table, into.remote) == (f"network-acl:shop/{acl}/ingress", Side.SOURCE)
        assert lowered.names[into.skip_subnet].path == f"shop/{subnet}"
        out = lowered.nodes[f"subnet:shop/{subnet}/leave/acl"]
        assert isinstance(out, Filter)
        assert (out.table, out.remote, out.skip_subnet) == (f"network-acl:shop/{acl}/egress", Side.DESTINATION, 0)


@given(st.lists(st.integers(1, 32766), unique=True, max_size=15))
def test_any_order_in_the_file_is_the_order_of_numbers_when_lowered(numbers: list[int]) -> None:
    declared = {"edge": {"ingress": [rule(rule=number) for number in numbers]}}
    lowered = program(vpcs={"shop": vpc(network_acls=declared)})
    found = [int(lowered.names[each.rule].path.split()[2]) for each in lowered.filters["network-acl:shop/edge/ingress"]]
    assert found == sorted(numbers)


def test_unknown_keys_are_errors() -> None:
    with pytest.raises(Exception, match="did you mean action"):
        lab(vpcs={"shop": vpc(network_acls={"edge": {"ingress": [{**rule(), "actoin": "allow"}]}})})
