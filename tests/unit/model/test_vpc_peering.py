from __future__ import annotations

from typing import Any

import pytest

from dataplane.program import Enter, Guard, Hop, TtlAction, Via
from dataplane.program import Test as GuardTest
from tests.unit.model.building import chain, expect, lab, peered, problems, program, shape, vpc


def peering(**fields: Any) -> dict[str, Any]:
    sections = peered()
    sections["peerings"]["link"].update(fields)
    return sections


@pytest.mark.parametrize(
    ("fields", "path", "code", "words"),
    [
        ({"accepter": "stor"}, "peerings.link.accepter", "InvalidVpcID.NotFound", "did you mean store?"),
        ({"requester": "sop"}, "peerings.link.requester", "InvalidVpcID.NotFound", "did you mean shop?"),
        ({"accepter": "shop"}, "peerings.link.accepter", "InvalidParameterValue", "cannot peer with itself"),
    ],
)
def test_what_aws_refuses(fields: dict[str, Any], path: str, code: str, words: str) -> None:
    expect(lab(**peering(**fields)), path, code, words)


@pytest.mark.parametrize(
    ("shop", "store", "words"),
    [
        ({}, vpc(), "10.0.0.0/16 of VPC shop and 10.0.0.0/16 of VPC store overlap"),
        ({"secondary_cidrs": ["10.1.128.0/17"]}, vpc("10.1.0.0/16"), "10.1.128.0/17 of VPC shop and 10.1.0.0/16"),
    ],
)
def test_overlapping_blocks(shop: dict[str, Any], store: dict[str, Any], words: str) -> None:
    sections = peered(**shop)
    sections["vpcs"]["store"] = store
    found = [problem for problem in problems(lab(**sections)) if problem.path == "peerings.link"]
    assert [words in problem.message for problem in found] == [True]


@pytest.mark.parametrize("status", ["failed", "rejected", "deleted", "expired"])
def test_a_peering_that_failed_may_overlap(status: str) -> None:
    sections = peering(status=status)
    sections["vpcs"]["store"] = vpc()
    assert problems(lab(**sections)) == []


def test_one_peering_for_each_pair() -> None:
    sections = peered()
    sections["peerings"]["again"] = {"requester": "store", "accepter": "shop"}
    expect(lab(**sections), "peerings.again", "VpcPeeringConnectionAlreadyExists", "have a peering already, link")
    sections["peerings"]["link"]["status"] = "deleted"
    assert problems(lab(**sections)) == []


@pytest.mark.parametrize("status", ["active", "pending-acceptance", "provisioning"])
def test_a_peering_on_its_way_stands_in_the_way_of_another_one(status: str) -> None:
    """VPC Peering Guide, "VPC peering basics": not more than one between two VPCs at the same time, be it pending."""
    sections = peered()
    sections["peerings"]["link"]["status"] = status
    sections["peerings"]["again"] = {"requester": "shop", "accepter": "store"}
    expect(lab(**sections), "peerings.again", "VpcPeeringConnectionAlreadyExists", "have a peering already, link")


def test_a_vpc_is_in_one_region() -> None:
    sections = peered()
    sections["vpcs"]["far"] = vpc("10.2.0.0/16")
    sections["peerings"] = {
        "a": {"requester": "shop", "accepter": "far", "accepter_region": "eu-west-1"},
        "b": {"requester": "store", "accepter": "far", "accepter_region": "eu-west-2"},
    }
    expect(lab(**sections), "peerings.a.accepter_region", "InvalidVpcID.NotFound", "write eu-west-2")
    sections["peerings"]["b"] = {"requester": "store", "accepter": "far"}
    expect(lab(**sections), "peerings.b", "InvalidVpcID.NotFound", "write accepter_region: eu-west-1")
    sections["peerings"]["b"] = {"requester": "far", "accepter": "store", "accepter_region": "us-east-1"}
    assert problems(lab(**sections)) == []


def test_the_way_to_the_peer() -> None:
    lowered = program(**peered())
    assert shape(lowered, "vpc-peering:link/from:shop") == [
        "Guard EDGE_TO_EDGE",
        "Guard PEER_DESTINATION",
        "Hop",
        "Enter",
        "Lookup DESTINATION_UNKNOWN",
    ]
    edge, destination, hop, enter, _ = chain(lowered, "vpc-peering:link/from:shop")
    assert isinstance(edge, Guard)
    assert (edge.test, edge.via, edge.negate) == (GuardTest.VIA, Via.PEERING | Via.GATEWAY, True)
    assert isinstance(destination, Guard)
    assert [str(block) for block in lowered.sets[destination.table]] == ["10.1.0.0/16"]
    assert isinstance(hop, Hop)
    assert (hop.mtu, hop.ttl) == (9001, TtlAction.KEEP)
    assert isinstance(enter, Enter)
    assert (lowered.names[enter.realm].path, enter.via, enter.keep_groups) == ("store", Via.PEERING, True)


def test_between_regions_packets_are_smaller_and_groups_are_lost() -> None:
    lowered = program(**peering(accepter_region="eu-west-1"))
    for origin in ("shop", "store"):
        *_, hop, enter, _ = chain(lowered, f"vpc-peering:link/from:{origin}")
        assert isinstance(hop, Hop)
        assert isinstance(enter, Enter)
        assert (hop.mtu, enter.keep_groups) == (8500, False)


def test_a_peering_that_is_not_active_is_not_there() -> None:
    assert not any("vpc-peering:" in label for label in program(**peering(status="rejected")).nodes)
