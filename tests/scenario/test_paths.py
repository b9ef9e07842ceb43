"""Which way packets go: the ordered hops of a trace, there and back."""

from __future__ import annotations

import pytest

from dataplane.verdict import Reason
from tests.scenario.labs import SHOP
from tests.scenario.network import Network

SENDS_APP = ["interface app/eth0", "network-acl shop/default", "route-table shop/private"]


@pytest.fixture
def shop() -> Network:
    return Network(SHOP)


def paths(network: Network, source: str, destination: str, **words: object) -> tuple[list[str], list[str]]:
    trace = network.trace(source, destination, **words)
    return list(trace.forward.path()), list(trace.reply.path()) if trace.reply else []


def test_to_the_internet_through_the_nat_gateway(shop: Network) -> None:
    there, back = paths(shop, "app", "198.51.100.10", protocol="tcp", port=443)
    assert there == [
        *SENDS_APP,
        "network-acl shop/default",
        "nat-gateway shop/nat",
        "network-acl shop/default",
        "route-table shop/public",
        "internet-gateway shop",
        "internet internet",
        "interface example/eth0",
    ]
    assert back == [
        "interface example/eth0",
        "internet internet",
        "internet-gateway shop",
        "vpc shop",
        "network-acl shop/default",
        "nat-gateway shop/nat",
        "network-acl shop/default",
        "route-table shop/public",
        "vpc shop",
        "network-acl shop/default",
        "interface app/eth0",
    ]


def test_over_the_peering(shop: Network) -> None:
    there, back = paths(shop, "app", "10.1.1.10", protocol="tcp", port=5432)
    assert there == [
        *SENDS_APP,
        "vpc-peering shop-store",
        "vpc store",
        "network-acl store/default",
        "interface db/eth0",
    ]
    assert back == [
        "interface db/eth0",
        "network-acl store/default",
        "route-table store/data",
        "vpc-peering shop-store",
        "vpc shop",
        "network-acl shop/default",
        "interface app/eth0",
    ]


def test_inside_a_subnet_neither_acl_nor_route_table(shop: Network) -> None:
    there, back = paths(shop, "app", "10.0.2.11", protocol="icmp")
    assert there == ["interface app/eth0", "interface open/eth0"]
    assert back == ["interface open/eth0", "interface app/eth0"]


def test_from_the_internet_to_an_elastic_ip(shop: Network) -> None:
    there, back = paths(shop, "visitor", "203.0.113.20", protocol="tcp", port=80)
    assert there == [
        "interface visitor/eth0",
        "internet internet",
        "internet-gateway shop",
        "vpc shop",
        "network-acl shop/default",
        "interface web/eth0",
    ]
    assert back == [
        "interface web/eth0",
        "network-acl shop/default",
        "route-table shop/public",
        "internet-gateway shop",
        "internet internet",
        "interface visitor/eth0",
    ]


def test_the_subnets_router_answers_before_any_filter(shop: Network) -> None:
    there, back = paths(shop, "app", "10.0.2.1", protocol="icmp")
    assert (there, back) == (["interface app/eth0", "subnet shop/private"], [])


def test_reply_that_dies_is_told_apart_from_a_request_that_dies(shop: Network) -> None:
    text = SHOP.replace('{destination: 10.0.0.0/16, target: "peering:shop-store"}', "")
    trace = Network(text).trace("app", "10.1.1.10", protocol="tcp", port=5432)
    assert trace.forward.delivered
    assert trace.reply is not None
    assert (trace.reply.reason, str(trace.reply.object)) == (Reason.NO_ROUTE, "route-table store/data")
    assert not trace.reachable


def test_trace_changes_nothing(shop: Network) -> None:
    before = (shop.plane.engine.sessions(), shop.plane.engine.counters())
    for port in range(20):
        shop.trace("app", "198.51.100.10", protocol="udp", port=port)
    assert (shop.plane.engine.sessions(), shop.plane.engine.counters()) == before
