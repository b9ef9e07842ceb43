from __future__ import annotations

from typing import Any

import pytest

from dataplane.model._rule_peer import RulePeer
from dataplane.program import Program, Rule
from tests.unit.model.building import ANYWHERE, expect, instance, lab, peered, problems, program, shop, vpc

LISTS = {
    "partners": {"max_entries": 10, "entries": [{"cidr": "198.51.100.0/24"}]},
    "six": {"family": "ipv6", "entries": [{"cidr": "2001:db8:5::/48"}]},
}


def admit(source: str, **fields: Any) -> dict[str, Any]:
    return {"protocol": "tcp", "ports": 80, "source": source, **fields}


def sections(*ingress: dict[str, Any], **fields: Any) -> dict[str, Any]:
    """VPCs shop and store, peered; shop has group web with these rules, and group app; store has group db."""
    groups = {"web": {"ingress": list(ingress)}, "app": {}}
    return {**peered(security_groups=groups), "prefix_lists": LISTS, **fields}


@pytest.mark.parametrize(
    "text", ["0.0.0.0/0", "::/0", "2001:db8::/32", "group:app", "group:store/db", "self", "prefix-list:partners"]
)
def test_the_other_end_is_read_and_written_alike(text: str) -> None:
    assert str(RulePeer.parse(text)) == text


@pytest.mark.parametrize(
    ("value", "words"),
    [
        ("10.0.0.1/8", "has bits set beyond /8; write 10.0.0.0/8"),
        ("10.0.0.1", "has no prefix length; write 10.0.0.1/32"),
        ("2001:db8::1/32", "write 2001:db8::/32"),
        ("group:", "write group:NAME"),
        ("group:a/b/c", "write group:NAME"),
        ("group:/b", "write group:NAME"),
        ("prefix-list:", "write prefix-list:NAME"),
        ("prefix-list:a/b", "write prefix-list:NAME"),
        ("gruop:app", "did you mean group?"),
        ("app", "write a CIDR block, group:NAME, self or prefix-list:NAME"),
        ("", "write a CIDR block"),
        (80, "write a CIDR block|no CIDR block"),
        (None, "write a CIDR block"),
    ],
)
def test_what_is_no_other_end(value: object, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        RulePeer.parse(value)


@pytest.mark.parametrize(
    ("source", "code", "words"),
    [
        ("group:ap", "InvalidGroup.NotFound", "did you mean app?"),
        ("group:store/dbb", "InvalidGroup.NotFound", "did you mean db?"),
        ("group:stoer/db", "InvalidVpcID.NotFound", "did you mean store?"),
        ("prefix-list:partner", "InvalidPrefixListID.NotFound", "did you mean partners?"),
    ],
)
def test_unknown_names(source: str, code: str, words: str) -> None:
    expect(lab(**sections(admit(source))), "vpcs.shop.security_groups.web.ingress[0].source", code, words)


def test_a_group_of_a_vpc_without_a_peering() -> None:
    declared = lab(**sections(admit("group:store/db"), peerings={}))
    path = "vpcs.shop.security_groups.web.ingress[0].source"
    expect(declared, path, "InvalidGroup.NotFound", "VPCs shop and store have no peering")


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"status": "pending-acceptance"}, "the peering with VPC store is pending-acceptance"),
        ({"accepter_region": "eu-west-1"}, "VPC store is in eu-west-1"),
        ({"status": "deleting"}, ""),
        ({"status": "deleted"}, ""),
    ],
)
def test_a_group_over_a_peering_that_does_not_carry_groups(fields: dict[str, Any], words: str) -> None:
    peering = {"link": {"requester": "shop", "accepter": "store", **fields}}
    declared = lab(**sections(admit("group:store/db"), peerings=peering))
    if words:
        expect(declared, "vpcs.shop.security_groups.web.ingress[0].source", "InvalidGroup.NotFound", words)
    else:
        assert problems(declared) == []


def test_rules_of_both_directions_are_checked() -> None:
    group = {
        "ingress": [{"protocol": "tcp", "source": "self"}],
        "egress": [{"protocol": "icmp", "ports": 1, "destination": "self"}],
    }
    found = problems(shop(security_groups={"web": group}))
    assert [(each.path, each.code) for each in found] == [
        ("vpcs.shop.security_groups.web.ingress[0].ports", "InvalidParameterValue"),
        ("vpcs.shop.security_groups.web.egress[0].ports", ""),
    ]


def test_the_same_rule_twice() -> None:
    declared = lab(**sections(admit("group:app", description="one"), admit("group:app", description="two")))
    expect(declared, "vpcs.shop.security_groups.web.ingress[1]", "InvalidPermission.Duplicate", "same as ingress[0]")


@pytest.mark.parametrize("alias", ["group:web", "group:shop/web"])
def test_the_same_rule_twice_by_another_name_of_the_group(alias: str) -> None:
    declared = lab(**sections(admit("self"), admit(alias)))
    expect(declared, "vpcs.shop.security_groups.web.ingress[1]", "InvalidPermission.Duplicate", "same as ingress[0]")


@pytest.mark.parametrize(
    ("protocol", "source", "other"),
    [
        ("icmp", "::/0", "icmpv6"),
        ("icmp", "prefix-list:six", "icmpv6"),
        ("icmpv6", ANYWHERE, "icmp"),
        ("icmpv6", "prefix-list:partners", "icmp"),
        ("icmpv6", "::/0", ""),
        ("icmp", "group:app", ""),
        ("icmpv6", "group:app", ""),
    ],
)
def test_icmp_has_a_protocol_for_each_family(protocol: str, source: str, other: str) -> None:
    declared = lab(**sections({"protocol": protocol, "source": source}))
    if other:
        expect(declared, "vpcs.shop.security_groups.web.ingress[0].protocol", "", f"match nothing; write {other}")
    else:
        assert problems(declared) == []


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("a" * 255, ""),
        ("a-z, A-Z, 0-9 and ._-:/()#,@[]+=&;{}!$*", ""),
        ("a" * 256, "has 256 characters, and 255"),
        ("web|app", "cannot have '|'"),
        ("café", "cannot have 'é'"),
    ],
)
def test_descriptions(text: str, words: str) -> None:
    group = {"description": text, "egress": [{"protocol": "all", "destination": "self", "description": text}]}
    found = problems(shop(security_groups={"web": group}))
    at = "vpcs.shop.security_groups.web"
    assert [each.path for each in found] == ([f"{at}.description", f"{at}.egress[0].description"] if words else [])
    assert all(words in each.message and each.code == "InvalidParameterValue" for each in found)


def test_quota_counts_prefix_lists_by_their_size_and_groups_in_both_families() -> None:
    quotas = {"rules_per_security_group": 11}
    fits = sections(admit("prefix-list:partners"), admit("group:app"), admit("::/0"), quotas=quotas)
    assert problems(lab(**fits)) == []
    over = sections(admit("prefix-list:partners"), admit("group:app"), admit(ANYWHERE), quotas=quotas)
    path = "vpcs.shop.security_groups.web.ingress"
    expect(lab(**over), path, "RulesPerSecurityGroupLimitExceeded", "12 rules")
    over6 = sections(admit("group:app"), admit("::/0"), quotas={"rules_per_security_group": 1})
    expect(lab(**over6), path, "RulesPerSecurityGroupLimitExceeded", "2 rules")


@pytest.mark.parametrize(
    ("groups", "index", "code", "words"),
    [
        (["weeb"], "[0]", "InvalidGroup.NotFound", "did you mean web?"),
        (["web", "web"], "[1]", "InvalidParameterValue", "listed twice"),
        (["g0", "g1", "g2", "g3", "g4", "g5"], "", "SecurityGroupsPerInterfaceLimitExceeded", "quota is 5"),
    ],
)
def test_groups_of_an_interface(groups: list[str], index: str, code: str, words: str) -> None:
    declared = vpc(security_groups={"web": {}, **{f"g{n}": {} for n in range(6)}})
    with_groups = lab(vpcs={"shop": declared}, instances={"x": instance(security_groups=groups)})
    expect(with_groups, f"instances.x.security_groups{index}", code, words)


# -- lowering


def policy(lowered: Program, interface: str = "x/eth0") -> tuple[list[Rule], list[Rule]]:
    found = lowered.group_policies[f"interface:{interface}"]
    return lowered.filters[found.ingress], lowered.filters[found.egress]


def lowered_with(*ingress: dict[str, Any], egress: list[dict[str, Any]] | None = None, **fields: Any) -> Program:
    declared = sections(*ingress, **fields)
    declared["vpcs"]["shop"]["security_groups"]["web"]["egress"] = egress
    declared["instances"] = {
        "x": instance(security_groups=["web"], private_ip="10.0.1.10"),
        "y": instance(security_groups=["app", "web"], private_ip="10.0.1.11"),
        "z": instance(vpc="store", security_groups=["db"], private_ip="10.1.1.12"),
    }
    return program(**declared)


def test_the_rules_of_all_groups_together() -> None:
    lowered = lowered_with(admit(ANYWHERE), admit("::/0", ports="8000-8100"))
    ingress, egress = policy(lowered, "y/eth0")
    assert [lowered.names[each.rule].path for each in ingress] == [
        "shop/web ingress tcp 80 from 0.0.0.0/0",
        "shop/web ingress tcp 8000-8100 from ::/0",
    ]
    assert [lowered.names[each.rule].path for each in egress] == [
        "shop/app egress all to 0.0.0.0/0",
        "shop/web egress all to 0.0.0.0/0",
    ]
    assert lowered.names[lowered.group_policies["interface:y/eth0"].owner].path == "y/eth0"


def test_references_inbound_are_to_the_groups_of_the_sender() -> None:
    lowered = lowered_with(admit("self"), admit("group:app"), admit("group:store/db"), admit("prefix-list:partners"))
    itself, app, db, partners = policy(lowered)[0]
    assert [lowered.names[each.group].path for each in (itself, app, db)] == ["shop/web", "shop/app", "store/db"]
    assert (partners.table, [str(each) for each in lowered.sets[partners.table]]) == (
        "prefix-list:partners",
        ["198.51.100.0/24"],
    )
    assert lowered.interfaces["interface:y/eth0"].groups == (app.group, itself.group)


def test_references_outbound_are_to_addresses() -> None:
    egress = [
        {"protocol": "all", "destination": target} for target in ("self", "group:app", "group:store/db", "10.0.0.0/8")
    ]
    lowered = lowered_with(egress=egress)
    itself, app, db, block = policy(lowered)[1]
    members = [[str(each) for each in lowered.sets[rule.table]] for rule in (itself, app, db)]
    assert members == [["10.0.1.10/32", "10.0.1.11/32"], ["10.0.1.11/32"], ["10.1.1.12/32"]]
    assert str(block.prefix) == "10.0.0.0/8"


def test_a_stale_reference_matches_nobody() -> None:
    gone = {"link": {"requester": "shop", "accepter": "store", "status": "deleted"}}
    egress = [{"protocol": "all", "destination": "group:store/db"}]
    lowered = lowered_with(egress=egress, peerings=gone)
    (rule,) = policy(lowered)[1]
    assert lowered.sets[rule.table] == []


def test_no_egress_rules_are_not_the_same_as_the_default() -> None:
    assert policy(lowered_with(egress=[]))[1] == []


@pytest.mark.parametrize(("blocks", "expected"), [([], [ANYWHERE]), (["2001:db8::/56"], [ANYWHERE, "::/0"])])
def test_the_default_group(blocks: list[str], expected: list[str]) -> None:
    lowered = program(vpcs={"shop": vpc(ipv6_cidrs=blocks)}, instances={"x": instance()})
    ingress, egress = policy(lowered)
    assert [lowered.names[each.group].path for each in ingress] == ["shop/default"]
    assert [str(each.prefix) for each in egress] == expected
    assert lowered.interfaces["interface:x/eth0"].groups == (ingress[0].group,)


def test_idle_limits_are_those_of_ec2() -> None:
    timeouts = lowered_with().group_policies["interface:x/eth0"].timeouts
    assert (timeouts.tcp_established, timeouts.udp_single, timeouts.udp_stream, timeouts.other) == (
        432_000_000,
        30_000,
        180_000,
        600_000,
    )


def test_a_rule_of_one_group_keeps_its_number_when_another_changes() -> None:
    first = lowered_with(admit(ANYWHERE))
    declared = sections(admit(ANYWHERE), admit("group:app"))
    declared["instances"] = {"x": instance(security_groups=["web"])}
    from dataplane.topology import build

    second = build(lab(**declared)).lower(first.names)
    assert policy(second)[0][0].rule == policy(first)[0][0].rule
