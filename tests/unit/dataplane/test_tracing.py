"""Traces of live state say what groups and gateways remember, and will."""

from __future__ import annotations

import json
from ipaddress import ip_address
from pathlib import Path
from typing import Any

import pytest
from scapy.layers.inet import ICMP, IP, TCP, UDP
from scapy.layers.inet6 import ICMPv6DestUnreach, IPv6

from dataplane.engine import DataPlane
from dataplane.load import load_topology
from dataplane.probe import Probe
from dataplane.trace import QUIET, Action, Step, Trace, Walk
from dataplane.verdict import Reason, Verdict
from fastpath.tracer import Overlay
from lab.capture import Stories
from tests.scenario.labs import SHOP
from tests.scenario.network import Network

EXAMPLES = Path(__file__).parents[3] / "examples"


@pytest.mark.parametrize(
    ("example", "source", "destination", "note"),
    [
        (
            "ipv6-egress",
            "worker",
            "2001:db8:ffff::10",
            "tracked, as it goes by egress-only-internet-gateway lab",
        ),
        ("ipv6-egress", "worker", "64:ff9b::198.51.100.20", "tracked, as it goes by nat-gateway lab/nat"),
        ("inspection", "fw", "198.51.100.77", "not tracked"),
    ],
)
def test_open_rules_do_not_track_except_by_some_gateways(
    example: str, source: str, destination: str, note: str
) -> None:
    """Security group connection tracking, "Automatically tracked connections"."""
    plane = DataPlane(load_topology(EXAMPLES / f"{example}.yaml"))
    trace = plane.trace(source, destination, protocol="tcp", port=80)
    [found] = [s for s in trace.forward.hops[0].steps if s.rule is not None and s.rule.kind == "security-group-rule"]
    assert found.note == note


@pytest.mark.parametrize(
    ("service", "note"), [("dynamodb", "tracked, as it goes by vpc-endpoint shop/aws"), ("s3", "not tracked")]
)
def test_of_gateway_endpoints_those_of_dynamodb_track(service: str, note: str) -> None:
    """Security group connection tracking: "DynamoDB gateway endpoints" are tracked whatever the rules say."""
    text = f"""
version: 1
vpcs:
  shop:
    cidr: 10.0.0.0/16
    subnets: {{one: {{cidr: 10.0.1.0/24}}}}
    gateway_endpoints: {{aws: {{service: {service}, route_tables: [main]}}}}
    security_groups: {{open: {{ingress: [{{protocol: all, source: 0.0.0.0/0}}]}}}}
instances: {{app: {{vpc: shop, subnet: one, security_groups: [open]}}}}
aws_services: {{{service}: {{}}}}
"""
    topology = load_topology(text, file_name="lab")
    trace = DataPlane(topology).trace("app", str(topology.host(service).address), protocol="tcp", port=443)
    assert trace.reachable
    [found] = [s for s in trace.forward.hops[0].steps if s.rule is not None and s.rule.kind == "security-group-rule"]
    assert found.note == note


def steps(walk: Walk | None, kind: str) -> list[Step]:
    """The steps at objects of a kind."""
    assert walk is not None
    return [step for hop in walk.hops for step in hop.steps if hop.object.kind == kind]


def told(walk: Walk | None, kind: str) -> set[tuple[Action, str]]:
    """What objects of a kind did, and the notes on it, where it was more than a check or a border."""
    return {(s.action, s.note) for s in steps(walk, kind) if s.action not in (*QUIET, Action.CROSS)}


QUICKSTART = (EXAMPLES / "quickstart.yaml").read_text()


def test_a_nat_gateway_says_whether_it_knows_a_connection() -> None:
    network = Network(QUICKSTART, engine="fast")
    asked = {"protocol": "tcp", "port": 80, "source_port": 40000}
    trace = network.trace("app", "198.51.100.10", **asked)
    assert told(trace.forward, "nat-gateway") == {(Action.TRANSLATE, "new connection")}
    assert (str(trace.forward.object), trace.forward.rule) == ("interface example/eth0", None), "no rule stopped it"
    assert told(trace.reply, "nat-gateway") == {(Action.TRANSLATE, "reply of a known connection")}
    network.send("app", IP(src="10.0.2.10", dst="198.51.100.10") / TCP(sport=40000, dport=80, flags="S"))
    trace = network.trace("app", "198.51.100.10", **asked)
    assert told(trace.forward, "nat-gateway") == {(Action.TRANSLATE, "known connection")}
    sent = [step for step in steps(trace.forward, "interface") if step.rule is not None]
    assert [(step.action, str(step.rule), step.note) for step in sent] == [
        (Action.MATCH, "security-group-rule shop/app egress all to 0.0.0.0/0", "")
    ]


OPEN = """
version: 1
vpcs:
  v:
    cidr: 10.0.0.0/16
    internet_gateway: {}
    subnets:
      public: {cidr: 10.0.1.0/24, route_table: public}
      private: {cidr: 10.0.2.0/24, route_table: private}
    route_tables:
      public: {routes: [{destination: 0.0.0.0/0, target: internet-gateway}]}
      private: {routes: [{destination: 0.0.0.0/0, target: "nat-gateway:nat"}]}
    nat_gateways: {nat: {subnet: public, elastic_ip: 203.0.113.10}}
    security_groups: {open: {ingress: [{protocol: all, source: 0.0.0.0/0}]}}
instances: {app: {vpc: v, subnet: private, private_ip: 10.0.2.10, security_groups: [open]}}
internet: {hosts: {far: {address: 198.51.100.10}}}
"""


@pytest.mark.parametrize(
    ("size", "note", "kinds"),
    [(0, "tracked, as it goes by nat-gateway v/nat", ["group", "nat"]), (8800, "not tracked", [])],
)
def test_what_a_gateway_drops_has_not_gone_by_it(size: int, note: str, kinds: list[str]) -> None:
    """A trace says that a flow is tracked where its packet leaves it tracked; a NAT gateway carries 8500 bytes."""
    network = Network(OPEN, engine="fast")
    trace = network.trace("app", "198.51.100.10", protocol="udp", port=53, size=size)
    [step] = [each for each in trace.forward.hops[0].steps if each.rule is not None]
    assert step.note == note
    network.send("app", IP(src="10.0.2.10", dst="198.51.100.10", flags="DF") / UDP(sport=40000, dport=53) / bytes(size))
    assert sorted(each["kind"] for each in network.plane.engine.sessions()) == kinds


def followed(network: Network, node: str, packet: Any) -> Walk:
    """What a packet goes through."""
    stories = Stories(network.plane)
    network.send(node, packet)
    lines: list[bytes] = []
    stories.run(lines.append, lambda seconds: True)
    return Trace.from_json(json.loads(b"".join(lines).splitlines()[0])["trace"]).forward


def test_an_error_is_known_by_what_it_is_about() -> None:
    network = Network(QUICKSTART, engine="fast")
    seen = network.send("app", IP(src="10.0.2.10", dst="198.51.100.10") / UDP(sport=7, dport=9)).packet
    walk = followed(network, "example", IP(src="198.51.100.10", dst="203.0.113.10") / ICMP(type=3, code=3) / seen)
    assert walk.verdict is Verdict.FORWARD
    assert (Action.MATCH, "an ICMP error about it") in told(walk, "interface")
    network = Network((EXAMPLES / "ipv6-egress.yaml").read_text(), engine="fast")
    worker = str(network.plane.interface(network.port("worker")).address6)
    packet = IPv6(src=worker, dst="2001:db8:ffff::10") / UDP(sport=7, dport=9)
    assert (Action.OPEN, "") in told(followed(network, "worker", packet), "egress-only-internet-gateway")
    assert (Action.KNOWN, "") in told(followed(network, "worker", packet), "egress-only-internet-gateway")
    error = IPv6(src="2001:db8:ffff::10", dst=worker) / ICMPv6DestUnreach(code=4) / packet
    walk = followed(network, "www", error)
    assert walk.verdict is Verdict.FORWARD
    assert (Action.KNOWN, "an ICMP error about it") in told(walk, "egress-only-internet-gateway")


def test_an_acl_that_has_no_rule_for_a_packet_denies_it_by_its_last_one() -> None:
    network = Network(QUICKSTART, engine="fast")
    walk = network.trace("visitor", "203.0.113.20", protocol="tcp", port=443).forward
    assert walk.reason is Reason.ACL_INGRESS
    assert walk.hops[-1].steps[-1].note == "implicit deny: rule *"
    ruled = network.trace("visitor", "203.0.113.20", protocol="tcp", port=22).forward
    assert ruled.reason is Reason.ACL_INGRESS
    assert (ruled.hops[-1].steps[-1].note, ruled.hops[-1].steps[-1].rule is not None) == ("", True)


def of_groups(walk: Walk | None) -> list[tuple[str, str, str]]:
    """What groups did: action, rule, note."""
    assert walk is not None
    steps = [step for hop in walk.hops for step in hop.steps]
    return [(s.action, s.rule.path, s.note) for s in steps if s.rule and s.rule.kind == "security-group-rule"]


def test_an_answer_is_known_where_its_request_is_tracked_and_nowhere_else() -> None:
    """By the rule that let the request pass. The rules of web, all open to everybody, track nothing."""
    trace = DataPlane(load_topology(SHOP, file_name="shop.yaml")).trace("app", "10.0.1.10", port=80)
    out = "shop/app egress all to 0.0.0.0/0"
    assert of_groups(trace.forward) == [
        (Action.TRACK, out, ""),
        (Action.PERMIT, "shop/web ingress tcp 80 from 0.0.0.0/0", "not tracked"),
    ]
    assert of_groups(trace.reply) == [
        (Action.PERMIT, "shop/web egress all to 0.0.0.0/0", "not tracked"),
        (Action.MATCH, out, ""),
    ]


@pytest.mark.parametrize(("destination", "node"), [("10.0.1.10", "web/eth0"), ("198.51.100.10", "example/eth0")])
def test_a_flow_that_is_known_is_known_both_ways(destination: str, node: str) -> None:
    """By the rule that let its first packet pass, and at a NAT gateway, too."""
    plane = DataPlane(load_topology(SHOP, file_name="shop.yaml"))
    port = plane.port("app/eth0")
    sent = Probe(
        source=ip_address("10.0.2.10"),
        destination=ip_address(destination),
        protocol=6,
        source_port=5,
        destination_port=80,
    )
    [outcome], _ = plane.process([plane.frame(port, sent)], [port], 1_000)
    assert outcome.verdict is Verdict.FORWARD
    before = plane.engine.sessions()
    trace = plane.trace("app", destination, port=80, source_port=5)
    assert trace.reachable
    assert trace.forward.object is not None
    assert trace.forward.object.path == node
    known = (Action.MATCH, "shop/app egress all to 0.0.0.0/0", "")
    assert of_groups(trace.forward)[0] == of_groups(trace.reply)[-1] == known
    assert plane.engine.sessions() == before


@pytest.mark.parametrize(("size", "mtu"), [(1473, 1500), (1472, 0)])
def test_what_leaves_in_pieces_is_traced_whole_with_the_size_of_its_pieces(size: int, mtu: int) -> None:
    """The internet takes 1500 bytes, of which 28 are headers."""
    plane = DataPlane(load_topology(SHOP, file_name="shop.yaml"))
    port = plane.port("app/eth0")
    app = plane.interface(port)
    packet = IP(src="10.0.2.10", dst="198.51.100.10") / UDP(sport=5, dport=6) / bytes(size)
    found = plane.engine.trace(app.router_mac + app.mac + b"\x08\x00" + bytes(packet), port, Overlay(), 1_000)
    assert (found["verdict"], len(found["frame"]), found["mtu"]) == (Verdict.FORWARD, 14 + 28 + size, mtu)
