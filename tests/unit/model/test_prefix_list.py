from __future__ import annotations

from typing import Any

import pytest

from tests.unit.model.building import expect, lab, peered, problems, program

A, B = {"cidr": "198.51.100.0/24", "description": "partner"}, {"cidr": "192.0.2.0/24"}


@pytest.mark.parametrize(
    ("fields", "path", "code", "words"),
    [
        ({"max_entries": 0}, "max_entries", "InvalidParameterValue", "not from 1 to 1000"),
        ({"max_entries": 1001}, "max_entries", "InvalidParameterValue", "not from 1 to 1000"),
        ({"max_entries": 1, "entries": [A, B]}, "entries", "PrefixListMaxEntriesExceeded", "write max_entries: 2"),
        ({"entries": [A, A]}, "entries[1].cidr", "InvalidParameterValue", "in the list twice"),
        ({"entries": [{"cidr": "::/0"}]}, "entries[0].cidr", "InvalidParameterValue", "the list is of ipv4"),
        ({"family": "ipv6", "entries": [A]}, "entries[0].cidr", "InvalidParameterValue", "is no IPv6 block"),
    ],
)
def test_what_aws_refuses(fields: dict[str, Any], path: str, code: str, words: str) -> None:
    expect(lab(prefix_lists={"partners": fields}), f"prefix_lists.partners.{path}", code, words)


def test_what_a_list_counts_for() -> None:
    lists = lab(prefix_lists={"a": {"entries": [A, B]}, "b": {"max_entries": 7, "entries": [A]}, "c": {}}).prefix_lists
    assert [each.weight for each in lists.values()] == [2, 7, 1]


def test_entries_become_a_set() -> None:
    lowered = program(prefix_lists={"partners": {"entries": [A, B]}, "none": {}})
    assert [str(each) for each in lowered.sets["prefix-list:partners"]] == ["198.51.100.0/24", "192.0.2.0/24"]
    assert lowered.sets["prefix-list:none"] == []


def test_more_than_a_thousand_entries() -> None:
    entries = [{"cidr": f"10.{n // 256}.{n % 256}.0/24"} for n in range(1001)]
    found = problems(lab(prefix_lists={"many": {"entries": entries}}))
    assert [each.path for each in found] == ["prefix_lists.many.entries"]
    assert problems(lab(prefix_lists={"many": {"entries": entries[:1000]}})) == []


def test_a_list_of_aws_s_own_is_known_in_its_region_only() -> None:
    """Managed prefix lists are of a Region; `com.amazonaws.us-east-1.s3` cannot be referred to from elsewhere."""
    rule = {"protocol": "tcp", "ports": 443, "destination": "prefix-list:com.amazonaws.us-east-1.s3"}
    sections = peered(security_groups={"web": {"egress": [rule]}})
    sections["vpcs"]["store"]["security_groups"] = {"db": {"egress": [rule]}}
    sections["aws_services"] = {"s3": {}}
    assert problems(lab(**sections)) == []
    sections["peerings"]["link"]["accepter_region"] = "eu-west-1"
    path = "vpcs.store.security_groups.db.egress[0].destination"
    expect(lab(**sections), path, "InvalidPrefixListID.NotFound", "write its blocks")
