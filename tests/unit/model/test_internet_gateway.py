from __future__ import annotations

from typing import Any

from dataplane.program import Enter, Guard, Hop, Rewrite, Side, TtlAction, Via
from dataplane.program import Test as GuardTest
from tests.unit.model.building import chain, instance, program, routes, shape, vpc

SECTIONS: dict[str, Any] = {
    "vpcs": {
        "shop": vpc(
            internet_gateway={},
            ipv6_cidrs=["2001:db8::/56"],
            subnets={"one": {"cidr": "10.0.1.0/24", "ipv6_cidr": "2001:db8::/64"}},
        )
    },
    "instances": {"web": instance(private_ip="10.0.1.9", ipv6_address="2001:db8::9", elastic_ip="203.0.113.20")},
}


def test_the_way_out() -> None:
    lowered = program(**SECTIONS)
    assert shape(lowered, "internet-gateway:shop/out") == [
        "Guard EDGE_TO_EDGE",
        "Guard GATEWAY_SPOOFED",
        "Guard PRIVATE_DESTINATION",
        "Rewrite PUBLIC_SOURCE_MISSING",
        "Hop",
        "Enter",
        "Lookup OUTSIDE_NO_ROUTE",
    ]
    edge, spoofed, private, translate, hop, enter, _ = chain(lowered, "internet-gateway:shop/out")
    assert isinstance(edge, Guard)
    assert (edge.test, edge.via, edge.negate) == (GuardTest.VIA, Via.PEERING | Via.GATEWAY, True)
    assert isinstance(private, Guard)
    assert (private.test, private.family, private.negate) == (GuardTest.DESTINATION_IN, 4, True)
    assert {str(block) for block in lowered.sets[private.table]} == {
        "10.0.0.0/8",
        "172.16.0.0/12",
        "192.168.0.0/16",
        "100.64.0.0/10",
    }
    assert isinstance(spoofed, Guard)
    assert (spoofed.test, spoofed.family) == (GuardTest.SOURCE_IN, 6)
    assert [str(each) for each in lowered.sets[spoofed.table]] == ["2001:db8::9/128"]
    assert isinstance(translate, Rewrite)
    assert translate.side is Side.SOURCE
    assert isinstance(hop, Hop)
    assert (hop.mtu, hop.ttl, hop.answers_mtu, hop.answer_as) == (1500, TtlAction.SILENT, True, "")
    assert isinstance(enter, Enter)
    assert (lowered.names[enter.realm].kind, enter.via, enter.keep_groups) == ("internet", Via.GATEWAY, False)


def test_the_way_in() -> None:
    lowered = program(**SECTIONS)
    assert shape(lowered, "internet-gateway:shop/in") == [
        "Guard PRIVATE_SOURCE",
        "Rewrite PUBLIC_DESTINATION_MISSING",
        "Enter",
        "Lookup DESTINATION_UNKNOWN",
    ]
    enter = lowered.nodes["internet-gateway:shop/in/cross"]
    assert isinstance(enter, Enter)
    assert (str(lowered.names[enter.realm]), enter.subnet, enter.via) == ("vpc shop", 0, Via.GATEWAY)


def test_the_internet_knows_public_addresses_and_ipv6_blocks() -> None:
    lowered = program(**SECTIONS, internet={"hosts": {"visitor": {"address": "198.51.100.77"}}})
    assert routes(lowered, "internet") == {
        "203.0.113.20/32": "internet-gateway:shop/in",
        "2001:db8::/56": "internet-gateway:shop/in",
        "198.51.100.77/32": "internet-host:visitor/in",
    }


def test_a_vpc_without_one_has_no_way_to_the_internet() -> None:
    lowered = program(vpcs={"shop": vpc(ipv6_cidrs=["2001:db8::/56"])})
    assert lowered.fibs["internet"] == []
    assert not any(label.startswith("internet-gateway:") for label in lowered.nodes)


def test_a_gateway_nobody_can_use_yet_is_sound() -> None:
    assert program(vpcs={"shop": vpc(internet_gateway={})}).maps == {"internet-gateway:shop": []}
