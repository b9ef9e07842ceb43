"""What the two engines did not agree on about load balancers and endpoints, in the smallest form."""

from __future__ import annotations

from typing import Any

import pytest
from scapy.layers.inet import ICMP, IP, TCP, UDP, fragment
from scapy.layers.inet6 import ICMPv6PacketTooBig, IPv6
from scapy.packet import Raw

from dataplane.verdict import Cause, Reason, Verdict
from tests.scenario.gwlb import (
    APP,
    APP6,
    DB,
    FAR,
    FAR6,
    LAB,
    ONE,
    answer,
    delivered,
    group,
    send_back,
    set_state,
    through,
)
from tests.scenario.network import ENGINES, Network

BEHIND_NAT = ONE.replace(
    "      gwlbe:\n        routes:\n          - {destination: 0.0.0.0/0, target: internet-gateway}",
    "      gwlbe:\n        routes:\n          - {destination: 0.0.0.0/0, target: nat-gateway:nat}",
    1,
).replace(
    "    subnets:\n      gwlbe: {cidr: 10.0.1.0/24,",
    "    nat_gateways: {nat: {subnet: nat, elastic_ip: 203.0.113.10, private_ip: 10.0.4.5}}\n"
    "    subnets:\n      nat: {cidr: 10.0.4.0/24, availability_zone: a, route_table: nat}\n"
    "      gwlbe: {cidr: 10.0.1.0/24,",
    1,
).replace(
    "    route_tables:\n      ingress:",
    "    route_tables:\n      nat: {routes: [{destination: 0.0.0.0/0, target: internet-gateway}]}\n      ingress:",
    1,
)  # fmt: skip
"""What has been inspected leaves by a NAT gateway."""
SERVED = """
version: 1
name: served
aws_services: {s3: {}}
vpcs:
  shop: &vpc
    cidr: 10.0.0.0/16
    subnets: {apps: {cidr: 10.0.1.0/24}}
    gateway_endpoints: {objects: {service: s3, route_tables: [main]}}
  twin: *vpc
instances:
  app: {vpc: shop, subnet: apps, private_ip: 10.0.1.10}
  app2: {vpc: twin, subnet: apps, private_ip: 10.0.1.10}
"""
S3 = "52.216.0.10"
AROUND = LAB.replace("      fw-b: {cidr: 10.9.2.0/24, availability_zone: b}", (
    "      fw-b: {cidr: 10.9.2.0/24, availability_zone: b, route_table: around}\n"
    "      around: {cidr: 10.9.3.0/24, availability_zone: a}"
)).replace("fleet: {targets: [fw1, fw2, fw3]}", "fleet: {targets: [fw3]}\n      second: {targets: [fw1]}").replace(
    "    gateway_load_balancers:\n      inspection: {",
    '    route_tables: {around: {routes: [{destination: 10.9.1.0/24, target: "vpc-endpoint:around"}]}}\n'
    "    gateway_load_balancer_endpoints: {around: {service: security/second, subnet: around}}\n"
    "    gateway_load_balancers:\n"
    "      second: {subnets: [fw-a], target_group: second}\n"
    "      inspection: {cross_zone: true, ",
).replace(
    "      inspection: {gateway_load_balancer: inspection,",
    '      second: {gateway_load_balancer: second, acceptance_required: false, allowed_principals: ["*"]}\n'
    "      inspection: {gateway_load_balancer: inspection,",
)  # fmt: skip
"""What fw3 sends back to a load balancer is inspected by fw1 on its way."""

NAT_FIRST = ONE.replace("route_table: apps}", "route_table: nat}", 1).replace(
    "    subnets:\n", "    subnets:\n      out: {cidr: 10.0.4.0/24, availability_zone: a, route_table: apps}\n", 1
).replace(
    "    route_tables:\n      ingress:",
    "    nat_gateways: {nat: {subnet: out, elastic_ip: 203.0.113.10}}\n"
    "    route_tables:\n      nat: {routes: [{destination: 0.0.0.0/0, target: nat-gateway:nat}]}\n      ingress:",
    1,
).replace("    cidr: 10.9.0.0/16\n", "    cidr: 10.9.0.0/16\n    flow_logs: {log: {}}\n")  # fmt: skip
"""What goes out goes through a NAT gateway, and then to an appliance, whose VPC has a flow log."""


@pytest.fixture(params=ENGINES)
def engine(request: pytest.FixtureRequest) -> Any:
    return request.param


def test_the_route_to_an_endpoint_that_is_not_available_is_told(engine: str) -> None:
    text = ONE.replace("acceptance_required: false", "acceptance_required: true")
    result = Network(text, engine=engine).send("app", IP(src=APP, dst=FAR) / UDP())
    assert result.reason is Reason.ENDPOINT_UNAVAILABLE
    assert result.rule == "route shop/apps 0.0.0.0/0 -> vpc-endpoint:inspect"


def test_a_nat_gateway_has_the_flow_inside_tracked_and_not_the_one_around_it(engine: str) -> None:
    """Connections that go through NAT gateways are (EC2 User Guide, "Automatically tracked connections")."""
    anybody = BEHIND_NAT.replace(
        "ingress: [{protocol: udp, ports: 6081, source: 10.9.0.0/16}]", "ingress: [{protocol: all, source: 0.0.0.0/0}]"
    )
    net = Network(anybody, engine=engine)
    assert through(net, "app", IP(src=APP, dst=FAR) / UDP(sport=5, dport=6)).to == "far"
    assert {row["kind"] for row in net.plane.engine.sessions()} == {"nat", "balancer"}


def test_a_nat_gateway_quotes_a_packet_as_it_came_to_it(engine: str) -> None:
    """RFC 792: of what has run out the header as received; at the endpoint it has lost one."""
    net = Network(BEHIND_NAT, engine=engine)
    result = through(net, "app", IP(src=APP, dst=FAR, ttl=3) / UDP(sport=5, dport=6))
    assert result.reason is Reason.TTL_EXCEEDED
    error = result.packet
    quoted = IP(bytes(error[ICMP].payload))
    assert (error.src, quoted.src, quoted.ttl) == ("10.0.4.5", APP, 1)


def test_what_is_too_big_behind_an_endpoint_is_told_to_its_sender(engine: str) -> None:
    """EC2 User Guide, "Network maximum transmission unit": path MTU discovery works for IPv6 through the gateway."""
    net = Network(ONE, engine=engine)
    result = through(net, "app", IPv6(src=APP6, dst=FAR6) / UDP(sport=5, dport=6) / bytes(1500))
    assert result.reason is Reason.MTU_EXCEEDED
    [error] = result.sent
    assert (error.node, error.cause, error.packet.src) == ("app", Cause.ERROR, "2001:db8:10:1::1")
    assert error.packet[ICMPv6PacketTooBig].mtu == 1500


def test_what_is_cut_already_is_not_cut_by_an_endpoint(engine: str) -> None:
    """A packet that one gateway had to cut reaches an endpoint in pieces that fit."""
    outside = ONE.replace("private_ip: 10.0.1.20,", "private_ip: 10.0.1.20, elastic_ip: 203.0.113.21,")
    net = Network(outside, engine=engine)
    port, frame = (
        net.port("neighbour"),
        net.frame("neighbour", IP(src="10.0.1.20", dst="203.0.113.20") / UDP() / bytes(3000)),
    )
    [outcome], _ = net.plane.process([frame], [port], net.now, traced=True)
    assert outcome.verdict is Verdict.FORWARD
    told = [str(net.plane.names[object_]) for object_, action, _ in outcome.trace if action == "fragment"]
    assert told == ["internet-gateway shop"]


def test_records_of_what_was_cut_before_it_went_to_a_target_are_of_the_whole(engine: str) -> None:
    """At the target as at the load balancer: once the whole packet, and the 68 bytes around it."""
    net = Network(NAT_FIRST, engine=engine)
    packet = IP(src=APP, dst=FAR) / UDP(sport=5, dport=6) / bytes(8476)
    assert [sent.node for sent in net.send("app", packet).sent] == ["fw1", "fw1"]
    records = [line.split()[8:10] for line in net.flow_log("security/log") if line.endswith(" OK")]
    assert records == [["1", str(len(packet) + 68)]] * 2


def test_addresses_that_are_never_forwarded_are_so_inside_as_well(engine: str) -> None:
    """But first what is inside must be of the flow: so it is an error about it, from a loopback address."""
    net = Network(ONE, engine=engine)
    got = delivered(net.send("app", IP(src=APP, dst=DB) / UDP(sport=5, dport=6)))
    assert send_back(net, got, inside=bytes(IP(src="127.0.0.1", dst=DB) / UDP())).reason is Reason.GENEVE_FLOW_CHANGED
    error = bytes(IP(src="127.0.0.1", dst=APP) / ICMP(type=3, code=3) / got.inside[:28])
    assert send_back(net, got, inside=error).reason is Reason.SOURCE_MARTIAN


@pytest.mark.parametrize(("becomes", "reason"), [(None, Reason.NONE), ("_proto", Reason.BALANCER_NO_TARGET)])
def test_flows_of_another_stickiness_are_no_companions(engine: str, becomes: str | None, reason: Reason) -> None:
    """A target that takes no new flows gets those that belong to one it has, unless that was opened otherwise."""
    sticky = group(stickiness="source_ip_dest_ip")
    net = Network(sticky, engine=engine)
    got = delivered(net.send("app", IP(src=APP, dst=DB) / UDP(sport=5, dport=6)))
    if becomes is not None:
        net.apply(sticky.replace("source_ip_dest_ip", f"source_ip_dest_ip{becomes}"))
    set_state(net, dict.fromkeys(("fw1", "fw2", "fw3"), "draining"))
    result = net.send("app", IP(src=APP, dst=DB) / UDP(sport=7, dport=6))
    assert result.reason is reason
    if becomes is None:
        assert delivered(result).target == got.target


def test_an_error_about_a_flow_changes_nothing_of_it(engine: str) -> None:
    """It goes with the flow, to the flow's target: neither does the flow live on by it, nor move."""
    net = Network(group(on_deregistration="rebalance", on_unhealthy="rebalance"), engine=engine)
    got = delivered(net.send("app", IP(src=APP, dst=DB) / UDP(sport=5, dport=6)))
    net.wait(119)
    set_state(net, {got.target: "unhealthy"})
    error = IP(src=DB, dst=APP) / ICMP(type=3, code=3) / IP(src=APP, dst=DB) / UDP(sport=5, dport=6)
    about = delivered(net.send("db", error))
    assert (about.target, about.identity) == (got.target, got.identity)
    net.wait(1)
    assert delivered(net.send("app", IP(src=APP, dst=DB) / UDP(sport=5, dport=6))).target != got.target


@pytest.mark.parametrize(("number", "tracked"), [(3, False), (11, False), (8, True), (17, True)])
def test_a_later_fragment_of_an_error_that_comes_back_opens_nothing(engine: str, number: int, tracked: bool) -> None:
    """What it is a piece of follows from the first one, and about an error no answer is to be expected; a query, and
    what asks nothing, are tracked (EC2 User Guide, "Connection tracking")."""
    net = Network(ONE, engine=engine)
    unknown = IP(src=DB, dst=APP) / TCP(sport=10, dport=80)
    pieces = fragment(IP(src=APP, dst=DB, id=2) / ICMP(type=number) / unknown / Raw(bytes(60)), 48)
    _, later, *_ = [delivered(net.send("app", piece)) for piece in pieces]
    assert send_back(net, later).to == "db"
    db = net.plane.names.find("interface", "db/eth0")
    tracks = [row for row in net.plane.engine.sessions() if (row["kind"], row["owner"]) == ("group", db)]
    assert bool(tracks) is tracked


def test_a_flow_of_a_service_does_not_live_on_by_packets_of_another_vpc(engine: str) -> None:
    net = Network(SERVED, engine=engine)
    segment = IP(src="10.0.1.10", dst=S3) / TCP(sport=5, dport=443, flags="S")
    assert net.send("app", segment).to == "s3"
    net.wait(349)
    conflict = net.send("app2", segment)
    assert conflict.reason is Reason.ENDPOINT_CONFLICT
    assert conflict.rule.startswith("route twin/main 52.216.0.0/15")
    reset = IP(src="10.0.1.10", dst=S3) / TCP(sport=5, dport=443, flags="R")
    assert net.send("app2", reset).reason is Reason.ENDPOINT_CONFLICT
    net.wait(1)
    assert net.send("app2", segment).to == "s3"


def test_what_has_come_out_of_geneve_is_not_opened_again(engine: str) -> None:
    """The network opens one packet on its way, and says so of the second, whatever is in it."""
    net = Network(AROUND, engine=engine)
    got = delivered(net.send("app", IP(src=APP, dst=DB) / UDP(sport=5, dport=6)))
    back = answer(got)
    back.ttl = 64
    around = delivered(net.send("fw3", back))
    assert (got.target, around.target) == ("fw3", "fw1")
    result = send_back(net, around)
    assert (result.reason, result.by) == (Reason.GENEVE_NESTED, "gateway-load-balancer security/inspection")
