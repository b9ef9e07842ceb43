"""Route tables, network ACLs and peering: who decides, in which order, with which name."""

from __future__ import annotations

import pytest
from scapy.layers.inet import ICMP, IP, TCP, UDP

from dataplane.verdict import Reason, Verdict
from tests.scenario.labs import SHOP
from tests.scenario.network import Network

CLOSED = """
    network_acls:
      closed: {}
      web:
        ingress:
          - {rule: 200, protocol: all, cidr: 0.0.0.0/0, action: allow}
          - {rule: 90, protocol: tcp, ports: 8080, cidr: 0.0.0.0/0, action: deny}
          - {rule: 100, protocol: tcp, ports: 8080, cidr: 0.0.0.0/0, action: allow}
        egress:
          - {rule: 100, protocol: tcp, ports: 443, cidr: 0.0.0.0/0, action: allow}
    security_groups:
      open:"""


def with_acl(subnet: str, acl: str) -> Network:
    text = SHOP.replace("\n    security_groups:\n      open:", CLOSED, 1)
    return Network(text.replace(f"route_table: {subnet}}}", f"route_table: {subnet}, network_acl: {acl}}}", 1))


def test_longest_prefix_wins_and_a_blackhole_that_wins_drops() -> None:
    network = Network(SHOP)
    result = network.send("open", IP(src="10.0.2.11", dst="198.51.100.200") / UDP())
    assert (result.reason, result.rule) == (Reason.BLACKHOLE, "route shop/private 198.51.100.128/25 -> blackhole")
    assert network.send("open", IP(src="10.0.2.11", dst="198.51.100.77") / UDP()).to == "visitor"


@pytest.mark.parametrize("longer", ["prefix list", "propagated"])
def test_a_longer_prefix_wins_over_a_static_route_of_whatever_kind_it_is(longer: str) -> None:
    """Kinds are compared between routes for one prefix only ("Route priority" of the VPC User Guide)."""
    static = "          - {destination: 198.51.100.0/24, target: blackhole}\n"
    text = SHOP.replace("          - {destination: 198.51.100.128/25, target: blackhole}\n", static)
    if longer == "prefix list":
        lists = "prefix_lists: {near: {entries: [{cidr: 198.51.100.64/26}]}}\n"
        text = text.replace(
            static, f'{static}          - {{destination: "prefix-list:near", target: "nat-gateway:nat"}}\n'
        )
        network = Network(text + lists)
    else:
        learned = '{destination: 198.51.100.64/26, target: "instance:bare"}'
        text = text.replace(static, f"{static}        propagated_routes: [{learned}]\n")
        network = Network(text.replace("private_ip: 10.0.1.11,", "private_ip: 10.0.1.11, source_dest_check: false,"))
    to = "visitor" if longer == "prefix list" else "bare"
    assert network.send("open", IP(src="10.0.2.11", dst="198.51.100.77") / UDP()).to == to
    assert network.send("open", IP(src="10.0.2.11", dst="198.51.100.10") / UDP()).reason is Reason.BLACKHOLE


def test_table_without_a_route_is_named() -> None:
    result = Network(SHOP).send("db", IP(src="10.1.1.10", dst="198.51.100.10") / UDP())
    assert (result.reason, result.by, result.sent) == (Reason.NO_ROUTE, "route-table store/data", ())


def test_address_nobody_has() -> None:
    result = Network(SHOP).send("open", IP(src="10.0.2.11", dst="10.0.1.200") / UDP())
    assert (result.reason, result.by) == (Reason.DESTINATION_UNKNOWN, "vpc shop")


def test_both_directions_over_a_peering() -> None:
    network = Network(SHOP)
    assert network.send("open", IP(src="10.0.2.11", dst="10.1.1.10", ttl=1) / ICMP(id=1)).packet.ttl == 1
    assert network.send("db", IP(src="10.1.1.10", dst="10.0.2.11") / ICMP(type=0, id=1)).to == "open"


@pytest.mark.parametrize("status", ["pending-acceptance", "deleted", "rejected"])
def test_peering_that_is_not_active_is_a_blackhole(status: str) -> None:
    network = Network(
        SHOP.replace("status: active", f"status: {status}").replace('source: "group:shop/app"', "source: 10.0.0.0/16")
    )
    result = network.send("open", IP(src="10.0.2.11", dst="10.1.1.10") / ICMP())
    assert (result.reason, result.rule) == (Reason.BLACKHOLE, "route shop/private 10.1.0.0/16 -> peering:shop-store")


def test_custom_acl_without_rules_denies_everything_that_crosses() -> None:
    network = with_acl("private", "closed")
    result = network.send("open", IP(src="10.0.2.11", dst="10.0.1.11") / ICMP())
    assert (result.reason, result.by, result.rule) == (Reason.ACL_EGRESS, "network-acl shop/closed", "")
    result = network.send("bare", IP(src="10.0.1.11", dst="10.0.2.11") / ICMP())
    assert (result.reason, result.by) == (Reason.ACL_INGRESS, "network-acl shop/closed")


def test_acl_is_not_met_inside_a_subnet() -> None:
    network = with_acl("private", "closed")
    assert network.send("app", IP(src="10.0.2.10", dst="10.0.2.11") / ICMP()).to == "open"
    router = network.plane.interface(network.port("app")).router_mac  # nor when sent to the router
    assert network.send("app", IP(src="10.0.2.10", dst="10.0.2.11") / ICMP(), to_mac=router).to == "open"


def test_rules_count_in_the_order_of_their_numbers() -> None:
    network = with_acl("public", "web")
    result = network.send("open", IP(src="10.0.2.11", dst="10.0.1.11") / TCP(dport=8080))
    assert (result.reason, result.rule) == (
        Reason.ACL_INGRESS,
        "acl-rule shop/web ingress 90 deny tcp 8080 from 0.0.0.0/0",
    )
    assert network.send("open", IP(src="10.0.2.11", dst="10.0.1.11") / TCP(dport=8081)).to == "bare"


def test_acl_is_stateless() -> None:
    network = with_acl("public", "web")
    assert network.send("app", IP(src="10.0.2.10", dst="10.0.1.10") / TCP(sport=40000, dport=80)).to == "web"
    result = network.send("web", IP(src="10.0.1.10", dst="10.0.2.10") / TCP(sport=80, dport=40000, flags="SA"))
    assert (result.verdict, result.reason) == (Verdict.DROP, Reason.ACL_EGRESS)


def test_egress_group_comes_before_the_acl_and_leaves_its_trace() -> None:
    network = with_acl("private", "closed")
    network.send("open", IP(src="10.0.2.11", dst="10.1.1.10") / ICMP(id=5))
    assert [s["kind"] for s in network.plane.engine.sessions()] == ["group"]  # tracked, though the ACL dropped it


def test_no_edge_to_edge_over_a_peering() -> None:
    text = SHOP.replace("data: {routes: [", 'data: {routes: [{destination: 0.0.0.0/0, target: "peering:shop-store"}, ')
    result = Network(text).send("db", IP(src="10.1.1.10", dst="198.51.100.10") / UDP())
    assert result.reason is Reason.PEER_DESTINATION


def test_spoofed_and_foreign_packets_meet_the_source_destination_check() -> None:
    network = Network(SHOP)
    assert network.send("open", IP(src="10.0.2.99", dst="10.0.1.11") / UDP()).reason is Reason.SOURCE_CHECK
    unchecked = Network(SHOP.replace("private_ip: 10.0.2.11,", "private_ip: 10.0.2.11, source_dest_check: false,"))
    assert unchecked.send("open", IP(src="10.0.2.99", dst="10.0.1.11") / UDP()).to == "bare"


def test_router_of_another_subnet_does_not_answer() -> None:
    network = Network(SHOP)
    assert network.send("app", IP(src="10.0.2.10", dst="10.0.2.1") / ICMP()).verdict is Verdict.SERVE
    assert network.send("app", IP(src="10.0.2.10", dst="10.0.1.1") / ICMP()).reason is Reason.NOT_SERVED
