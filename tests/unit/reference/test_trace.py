"""What the reference engine tells of a packet's way: objects in the order AWS's pages have them, and rules by name.

https://docs.aws.amazon.com/vpc/latest/reachability/getting-started-cli.html (order of components)
https://docs.aws.amazon.com/vpc/latest/userguide/nat-gateway-basics.html (ACLs both ways at a NAT gateway's subnet)
"""

from __future__ import annotations

from typing import Any

from scapy.layers.inet import ICMP, IP, TCP, UDP

from dataplane.verdict import Reason
from tests.scenario.labs import SHOP
from tests.scenario.network import Network

APP, WEB, EXAMPLE = "10.0.2.10", "10.0.1.10", "198.51.100.10"
OUT = ("acl-rule shop/default egress 100 allow all to 0.0.0.0/0", "network-acl shop/default", "permit")
IN = ("acl-rule shop/default ingress 100 allow all from 0.0.0.0/0", "network-acl shop/default", "permit")


def story(net: Network, node: str, packet: Any) -> list[tuple[str, str, str]]:
    """Rule, object and action of each step."""
    port, names = net.port(node), net.plane.names
    [outcome], _ = net.plane.process([net.frame(node, packet)], [port], net.now, traced=True)
    return [(str(names[rule]) if rule else "", str(names[object_]), action) for object_, action, rule in outcome.trace]


def shop() -> Network:
    return Network(SHOP, engine="reference")


def test_through_a_nat_gateway_to_the_internet() -> None:
    assert story(shop(), "app", IP(src=APP, dst=EXAMPLE) / TCP(sport=33000, dport=80)) == [
        ("security-group-rule shop/app egress all to 0.0.0.0/0", "interface app/eth0", "track"),
        OUT,
        ("route shop/private 0.0.0.0/0 -> nat-gateway:nat", "route-table shop/private", "route"),
        IN,
        ("", "nat-gateway shop/nat", "translate"),
        OUT,
        ("route shop/public 0.0.0.0/0 -> internet-gateway", "route-table shop/public", "route"),
        ("", "internet-gateway shop", "translate"),
        ("interface example/eth0", "internet internet", "route"),
        ("", "interface example/eth0", "deliver"),
    ]


def test_in_from_the_internet() -> None:
    net = shop()
    packet = IP(src=EXAMPLE, dst="203.0.113.20") / TCP(sport=33000, dport=80)
    way_in = [
        ("route internet 203.0.113.20/32 -> internet-gateway:shop", "internet internet", "route"),
        ("", "internet-gateway shop", "translate"),
        ("interface web/eth0", "vpc shop", "route"),
        IN,
    ]
    rule = "security-group-rule shop/web ingress tcp 80 from 0.0.0.0/0"
    for _ in range(2):  # from anywhere, and everything may go out: not tracked
        assert story(net, "example", packet) == [
            *way_in,
            (rule, "interface web/eth0", "permit"),
            ("", "interface web/eth0", "deliver"),
        ]


def test_known_flow_shows_the_rule_that_had_let_it_pass() -> None:
    net = shop()
    rule = "security-group-rule shop/app egress all to 0.0.0.0/0"
    for action in ("track", "match"):
        assert story(net, "app", IP(src=APP, dst=WEB) / ICMP(id=1))[0] == (rule, "interface app/eth0", action)
    assert story(net, "web", IP(src=WEB, dst=APP) / ICMP(type=0, id=1))[-2:] == [
        (rule, "interface app/eth0", "match"),
        ("", "interface app/eth0", "deliver"),
    ]


def test_drop_is_the_last_step() -> None:
    denied = story(shop(), "app", IP(src=APP, dst="198.51.100.200") / UDP())
    assert [action for _, _, action in denied] == ["track", "permit", "route", "drop"]
    assert denied[-1][:2] == ("route shop/private 198.51.100.128/25 -> blackhole", "route-table shop/private")


def test_router_answers() -> None:
    assert story(shop(), "app", IP(src=APP, dst="10.0.2.1") / ICMP()) == [("", "subnet shop/private", "answer")]


def test_nothing_is_told_unless_asked_for() -> None:
    net = shop()
    frame = net.frame("app", IP(src=APP, dst=WEB) / ICMP())
    [outcome], _ = net.plane.process([frame], [net.port("app")], net.now)
    assert (outcome.reason, outcome.trace) == (Reason.NONE, ())
