"""Captures that a lab file declares, and the points that they may name."""

from __future__ import annotations

from typing import Any

import pytest

from dataplane.model._capture_points import UnknownPointError, find_point, known_points
from tests.unit.model.building import expect, instance, lab, peered, problems, topology

NAT = {"nat": {"subnet": "one", "elastic_ip": "203.0.113.10"}}


def declared(**captures: Any) -> dict[str, Any]:
    return {
        **peered(internet_gateway={}, nat_gateways=NAT),
        "instances": {"web": instance(private_ip="10.0.1.10"), "api-1": instance(private_ip="10.0.1.11")},
        "internet": {"hosts": {"site": {"address": "198.51.100.80"}}},
        **({"captures": captures} if captures else {}),
    }


def test_every_point_has_a_word() -> None:
    made = topology(**declared())
    assert known_points(made) == [
        "web/eth0",
        "api-1/eth0",
        "site/eth0",
        "nat:shop/nat",
        "igw:shop",
        "peering:link",
        "internet",
    ]
    for word in known_points(made):
        point = find_point(made, word)
        assert [side.name.removesuffix("/inside").removesuffix("/outside") for side in point.sides] == [word] * len(
            point.sides
        )


@pytest.mark.parametrize(
    ("word", "sides"),
    [
        ("web", ["web/eth0"]),
        ("nat:nat", ["nat:shop/nat/inside", "nat:shop/nat/outside"]),
        ("nat:nat/outside", ["nat:shop/nat/outside"]),
        ("nat:shop/nat/inside", ["nat:shop/nat/inside"]),
        ("igw:shop/outside", ["igw:shop/outside"]),
        ("internet", ["internet"]),
    ],
)
def test_words_for_points_and_their_sides(word: str, sides: list[str]) -> None:
    assert [side.name for side in find_point(topology(**declared()), word).sides] == sides


@pytest.mark.parametrize(
    ("word", "words"),
    [
        ("wbe", "called 'wbe'; did you mean web?"),
        ("web/eth1", "called 'web/eth1'; did you mean web?"),
        ("igw:store", "called 'igw:store'; did you mean igw:shop?"),
        ("gwlb:lb", "the lab has no gwlb"),
        ("tap:web", "no such kind as tap; there is nat, igw, eigw, peering, gwlb"),
        ("nat:nat/inner", "sides of nat:nat are inside and outside"),
        ("", "called ''"),
    ],
)
def test_what_is_no_point(word: str, words: str) -> None:
    with pytest.raises(UnknownPointError) as refused:
        find_point(topology(**declared()), word)
    assert words in str(refused.value)


def test_a_gateway_of_two_vpcs_needs_the_vpc() -> None:
    sections = declared()
    sections["vpcs"]["store"]["nat_gateways"] = {"nat": {"subnet": "one", "connectivity": "private"}}
    with pytest.raises(UnknownPointError, match="several are called nat:nat: say nat:shop/nat or nat:store/nat"):
        find_point(topology(**sections), "nat:nat")


def test_points_of_every_kind_of_gateway_and_end() -> None:
    """What has no cable, a network interface of no instance, is no point; nor is that of a NAT gateway."""
    sections = declared()
    shop = sections["vpcs"]["shop"]
    shop.update(
        ipv6_cidrs=["2001:db8::/56"],
        egress_only_internet_gateway={},
        gateway_load_balancers={"lb": {"subnets": ["one"], "target_group": "fleet"}},
        target_groups={"fleet": {"targets": ["web"]}},
        network_interfaces={
            "more": {"subnet": "one", "attachment": {"instance": "web", "device_index": 1}},
            "spare": {"subnet": "one"},
        },
    )
    sections["aws_services"] = {"s3": {}}
    made = topology(**sections)
    points = {word: find_point(made, word) for word in known_points(made)}
    assert {word: (point.kind, str(point.object), str(point.realm or "")) for word, point in points.items()} == {
        "web/eth0": ("interface", "interface web/eth0", "vpc shop"),
        "api-1/eth0": ("interface", "interface api-1/eth0", "vpc shop"),
        "web/eth1": ("interface", "interface web/eth1", "vpc shop"),
        "site/eth0": ("interface", "interface site/eth0", "internet internet"),
        "s3/eth0": ("interface", "interface s3/eth0", "internet internet"),
        "nat:shop/nat": ("translator", "nat-gateway shop/nat", ""),
        "igw:shop": ("border", "internet-gateway shop", "internet internet"),
        "eigw:shop": ("border", "egress-only-internet-gateway shop", "internet internet"),
        "peering:link": ("passage", "vpc-peering link", ""),
        "gwlb:shop/lb": ("tunnel", "gateway-load-balancer shop/lb", ""),
        "internet": ("passage", "internet internet", ""),
    }
    sides = {side.name: side.frames for point in points.values() for side in point.sides}
    framed = {"web/eth0", "api-1/eth0", "web/eth1", "site/eth0", "s3/eth0", "gwlb:shop/lb/outer"}
    assert {name for name, frames in sides.items() if frames} == framed, "the outer side has GENEVE in whole frames"
    assert {str(each) for each in points["web/eth0"].addresses} == {"10.0.1.10"}
    inner = find_point(made, "gwlb:lb/inner")
    assert (inner.inside, inner.outside) == (points["gwlb:shop/lb"].inside, None)


def test_a_gateway_may_have_the_name_of_a_side() -> None:
    sections = declared()
    sections["vpcs"]["shop"]["nat_gateways"]["inside"] = {"subnet": "one", "connectivity": "private"}
    made = topology(**sections)
    names = [side.name for side in find_point(made, "nat:shop/inside").sides]
    assert names == ["nat:shop/inside/inside", "nat:shop/inside/outside"]
    assert [side.name for side in find_point(made, "nat:shop/inside/outside").sides] == names[1:]


def test_a_capture_that_is_right() -> None:
    capture = {"points": ["web", "nat:nat/inside", "peering:link"], "file": "way.pcapng", "filter": "icmp"}
    assert problems(lab(**declared(way=capture))) == []


@pytest.mark.parametrize(
    ("captures", "path", "words"),
    [
        ({"a": {"points": ["wbe"], "file": "a"}}, "captures.a.points[0]", "'wbe'; did you mean web?"),
        ({"a": {"points": ["web", "web/eth0"], "file": "a"}}, "captures.a.points[1]", "web/eth0 is there twice"),
        ({"a": {"points": [], "file": "a"}}, "captures.a.points", "there are none"),
        ({"a": {"points": ["web"], "file": ""}}, "captures.a.file", "it has no name"),
        (
            {"a": {"points": ["web"], "file": "x"}, "b": {"points": ["api-1"], "file": "x"}},
            "captures.b.file",
            "capture a is written to x too",
        ),
    ],
)
def test_captures_that_are_wrong(captures: dict[str, Any], path: str, words: str) -> None:
    expect(lab(**declared(**captures)), path, "", words)
