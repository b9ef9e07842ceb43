"""Gateway endpoints to S3 and DynamoDB.

https://docs.aws.amazon.com/vpc/latest/privatelink/gateway-endpoints.html
https://docs.aws.amazon.com/vpc/latest/reachability/explanation-codes.html (VPCE_GATEWAY_*)
"""

from __future__ import annotations

from typing import Any

import pytest
from scapy.layers.inet import ICMP, IP, TCP, UDP, fragment
from scapy.packet import Raw

from dataplane.verdict import Cause, Reason, Verdict
from tests.scenario import gwlb
from tests.scenario.network import Network

# Subnets private and public of VPC shop reach S3 and DynamoDB by gateway endpoints, and the internet by gateways of
# their own. VPC twin has the same addresses and an endpoint of its own; store is a peer of shop.
LAB = """
version: 1
name: services
vpcs:
  shop:
    cidr: 10.0.0.0/16
    internet_gateway: {}
    subnets:
      public: {cidr: 10.0.1.0/24, availability_zone: a, route_table: public}
      private: {cidr: 10.0.2.0/24, availability_zone: a, route_table: private}
    route_tables:
      public: {routes: [{destination: 0.0.0.0/0, target: internet-gateway}]}
      private: {routes: [{destination: 0.0.0.0/0, target: "nat-gateway:nat"}]}
    nat_gateways: {nat: {subnet: public, elastic_ip: 203.0.113.10, private_ip: 10.0.1.5}}
    security_groups:
      open: {description: everything, ingress: [{protocol: all, source: 0.0.0.0/0}]}
      closed:
        description: to the services and nowhere else
        ingress: []
        egress:
          - {protocol: tcp, ports: 443, destination: "prefix-list:com.amazonaws.us-east-1.s3"}
    gateway_endpoints:
      s3: {service: s3, route_tables: [private]}
      tables: {service: dynamodb, route_tables: [private]}
  twin:
    cidr: 10.0.0.0/16
    subnets: {private: {cidr: 10.0.2.0/24, availability_zone: a}}
    security_groups:
      open: {description: everything, ingress: [{protocol: all, source: 0.0.0.0/0}]}
    gateway_endpoints: {s3: {service: s3, route_tables: [main]}}
  store:
    cidr: 10.1.0.0/16
    subnets: {data: {cidr: 10.1.1.0/24, availability_zone: a, route_table: data}}
    route_tables: {data: {routes: [{destination: 10.0.0.0/16, target: "peering:p"}]}}
    security_groups:
      open: {description: everything, ingress: [{protocol: all, source: 0.0.0.0/0}]}
peerings:
  p: {requester: shop, accepter: store, status: active}
instances:
  app: {vpc: shop, subnet: private, private_ip: 10.0.2.10, security_groups: [open]}
  strict: {vpc: shop, subnet: private, private_ip: 10.0.2.20, security_groups: [closed]}
  web: {vpc: shop, subnet: public, private_ip: 10.0.1.10, elastic_ip: 203.0.113.20, security_groups: [open]}
  twin: {vpc: twin, subnet: private, private_ip: 10.0.2.10, security_groups: [open]}
aws_services:
  s3: {address: 52.216.0.10, prefixes: [52.216.0.0/15, 3.5.0.0/19]}
  dynamodb: {address: 52.94.0.10}
internet:
  hosts:
    far: {address: 198.51.100.10}
"""
APP, S3, DYNAMODB = "10.0.2.10", "52.216.0.10", "52.94.0.10"
ENDPOINT = "vpc-endpoint shop/s3"
SYN = IP(src=APP, dst=S3, ttl=64) / TCP(sport=40000, dport=443, flags="S")
SYN_ACK = IP(src=S3, dst=APP, ttl=64) / TCP(sport=443, dport=40000, flags="SA")
PING = IP(src=APP, dst=S3) / ICMP(id=7)


def test_service_sees_the_private_address() -> None:
    net = Network(LAB)
    result = net.send("app", SYN)
    assert (result.to, result.packet.src, result.packet.ttl) == ("s3", APP, 63)
    answer = net.send("s3", SYN_ACK)
    assert (answer.to, answer.packet.dst, answer.packet.ttl) == ("app", APP, 63)


def test_tables_without_the_endpoint_lead_to_the_services_public_way() -> None:
    net = Network(LAB)
    result = net.send("web", IP(src="10.0.1.10", dst=S3) / TCP(sport=1, dport=443, flags="S"))
    assert (result.to, result.packet.src) == ("s3", "203.0.113.20")
    answer = IP(src=S3, dst="203.0.113.20") / TCP(sport=443, dport=1, flags="SA")
    assert net.send("s3", answer).to == "web"
    assert net.send("far", IP(src="198.51.100.10", dst=S3) / UDP(sport=1, dport=2)).to == "s3"
    assert net.send("s3", IP(src=S3, dst="198.51.100.10") / UDP(sport=2, dport=1)).to == "far"


def test_pings_and_their_answers() -> None:
    net = Network(LAB)
    assert net.send("app", PING).to == "s3"
    assert net.send("s3", IP(src=S3, dst=APP) / ICMP(type=0, id=7)).to == "app"


@pytest.mark.parametrize(
    "packet",
    [
        UDP(sport=1, dport=53),
        ICMP(type=0, id=7),
        ICMP(type=13, id=7),
        ICMP(type=3, code=3) / Raw(bytes(SYN_ACK)[:28]),
        Raw(b"gre"),
    ],
)
def test_nothing_else(packet: Any) -> None:
    head = IP(src=APP, dst=S3, proto=47) if isinstance(packet, Raw) else IP(src=APP, dst=S3)
    result = Network(LAB).send("app", head / packet)
    assert (result.reason, result.by, result.sent) == (Reason.ENDPOINT_PROTOCOL, ENDPOINT, ())


@pytest.mark.parametrize(
    "packet",
    [
        IP(src=S3, dst=APP) / TCP(sport=443, dport=40001, flags="S"),
        IP(src=S3, dst=APP) / TCP(sport=444, dport=40000, flags="A"),
        IP(src=S3, dst=APP) / ICMP(type=8, id=7),
        IP(src=S3, dst=APP) / UDP(sport=443, dport=40000),
    ],
)
def test_service_begins_nothing(packet: Any) -> None:
    net = Network(LAB)
    net.send("app", SYN)
    net.send("app", PING)
    result = net.send("s3", packet)
    assert (result.reason, result.by) == (Reason.OUTSIDE_NO_ROUTE, "internet internet")


def test_errors_do_not_come_back() -> None:
    net = Network(LAB)
    net.send("app", SYN)
    error = IP(src=S3, dst=APP) / ICMP(type=3, code=3) / Raw(bytes(SYN)[:28])
    result = net.send("s3", error)
    assert (result.reason, result.by) == (Reason.ENDPOINT_PROTOCOL, ENDPOINT)


def test_source_of_a_service_is_its_own() -> None:
    assert Network(LAB).send("s3", IP(src="52.216.0.11", dst=APP) / TCP()).reason is Reason.SOURCE_CHECK


def test_every_prefix_leads_to_it_and_only_its_host_is_there() -> None:
    net = Network(LAB)
    for address in ("52.216.0.0", "52.217.255.255", "3.5.0.0", "3.5.31.255"):
        result = net.send("app", IP(src=APP, dst=address) / TCP(flags="S"))
        assert (result.reason, result.by) == (Reason.OUTSIDE_NO_ROUTE, "aws-service s3")
    for address in ("52.215.255.255", "52.218.0.0", "3.4.255.255", "3.5.32.0"):
        assert net.send("app", IP(src=APP, dst=address) / TCP(flags="S")).by == "internet internet"


def test_route_of_ones_own_for_the_same_block_wins() -> None:
    text = LAB.replace("private: {routes: [", "private: {routes: [{destination: 52.216.0.0/15, target: blackhole}, ")
    assert Network(text).send("app", SYN).reason is Reason.BLACKHOLE
    wider = text.replace("52.216.0.0/15, target: blackhole", "52.0.0.0/8, target: blackhole")
    assert Network(wider).send("app", SYN).to == "s3"


def test_so_does_one_of_a_list_of_ones_own() -> None:
    text = LAB.replace(
        "private: {routes: [", 'private: {routes: [{destination: "prefix-list:mine", target: blackhole}, '
    )
    text = text.replace("vpcs:\n", "prefix_lists: {mine: {entries: [{cidr: 52.216.0.0/15}]}}\nvpcs:\n", 1)
    assert Network(text).send("app", SYN).reason is Reason.BLACKHOLE


def test_but_not_a_propagated_one() -> None:
    text = LAB.replace("private: {routes: [{destination: 0.0.0.0/0, target: \"nat-gateway:nat\"}]}", (
        "private: {routes: [{destination: 0.0.0.0/0, target: \"nat-gateway:nat\"}], propagated_routes: "
        '[{destination: 52.216.0.0/15, target: "instance:web"}]}'
    ))  # fmt: skip
    assert Network(text).send("app", SYN).to == "s3"


def test_group_rule_for_the_services_prefix_list() -> None:
    net = Network(LAB)
    syn = IP(src="10.0.2.20", dst=S3) / TCP(sport=1, dport=443, flags="S")
    assert net.send("strict", syn).to == "s3"
    assert net.send("s3", IP(src=S3, dst="10.0.2.20") / TCP(sport=443, dport=1, flags="SA")).to == "strict"
    other = IP(src="10.0.2.20", dst=DYNAMODB) / TCP(sport=1, dport=443, flags="S")
    assert net.send("strict", other).reason is Reason.GROUP_EGRESS


# -- who may use it


def test_not_who_came_by_peering_or_from_elsewhere() -> None:
    """A router of the VPC (an instance that forwards) does not lend its endpoint to others."""
    text = LAB.replace("app: {vpc: shop, subnet: private, private_ip: 10.0.2.10, ", (
        "app: {vpc: shop, subnet: private, private_ip: 10.0.2.10, source_dest_check: false, "
    ))  # fmt: skip
    result = Network(text).send("app", IP(src="10.1.1.10", dst=S3) / TCP(flags="S"))
    assert (result.reason, result.by) == (Reason.ENDPOINT_FROM_OUTSIDE, ENDPOINT)


def test_behind_a_nat_gateway_it_sees_the_gateways_private_address() -> None:
    text = LAB.replace("s3: {service: s3, route_tables: [private]}", "s3: {service: s3, route_tables: [public]}")
    net = Network(text)
    result = net.send("app", SYN)
    assert (result.to, result.packet.src) == ("s3", "10.0.1.5")
    answer = IP(src=S3, dst="10.0.1.5") / TCP(sport=443, dport=result.packet[TCP].sport, flags="SA")
    assert net.send("s3", answer).packet.dst == APP


def test_of_two_vpcs_with_one_flow_the_second_loses() -> None:
    net = Network(LAB)
    assert net.send("app", SYN).to == "s3"
    result = net.send("twin", SYN)
    assert (result.reason, result.by, result.sent) == (Reason.ENDPOINT_CONFLICT, "vpc-endpoint twin/s3", ())
    other = SYN.copy()
    other[TCP].sport = 40001
    assert net.send("twin", other).to == "s3"
    back = SYN_ACK.copy()
    back[TCP].dport = 40001
    assert net.send("s3", SYN_ACK).to == "app"
    assert net.send("s3", back).to == "twin"


def test_until_the_first_one_is_over() -> None:
    net = Network(LAB)
    net.send("app", SYN)
    net.wait(349.999)
    assert net.send("twin", SYN).reason is Reason.ENDPOINT_CONFLICT
    net.wait(0.001)
    assert net.send("twin", SYN).to == "s3"
    assert net.send("s3", SYN_ACK).to == "twin"


def test_peering_leads_to_no_endpoint() -> None:
    text = LAB.replace("{destination: 10.0.0.0/16, target", "{destination: 0.0.0.0/0, target")
    text = text.replace(
        "  twin: {vpc: twin,",
        "  db: {vpc: store, subnet: data, private_ip: 10.1.1.10, security_groups: [open]}\n  twin: {vpc: twin,",
    )
    for packet in (TCP(sport=1, dport=443, flags="S"), ICMP(id=7)):
        result = Network(text).send("db", IP(src="10.1.1.10", dst=S3) / packet)
        assert (result.reason, result.sent) == (Reason.PEER_DESTINATION, ())


def test_what_comes_in_by_the_internet_gateway_does_not_go_on_to_a_service() -> None:
    """An instance sends on what the internet sent it, with the source it had."""
    text = LAB.replace("web: {vpc: shop, ", "web: {vpc: shop, source_dest_check: false, ")
    text = text.replace("s3: {service: s3, route_tables: [private]}", "s3: {service: s3, route_tables: [public]}")
    net = Network(text)
    packet = net.send("far", IP(src="198.51.100.10", dst="203.0.113.20") / TCP(sport=1, dport=443, flags="S")).packet
    packet.dst = S3
    del packet.chksum
    del packet[TCP].chksum
    result = net.send("web", packet)
    assert (result.reason, result.by) == (Reason.ENDPOINT_FROM_OUTSIDE, ENDPOINT)


def test_what_has_been_inspected_uses_the_endpoint_of_the_subnet_it_comes_out_in() -> None:
    """Answers go straight to the instance: nothing leads them through the appliance."""
    text = gwlb.LAB.replace(
        "    gateway_load_balancer_endpoints:\n", (
            "    gateway_endpoints: {s3: {service: s3, route_tables: [gwlbe]}}\n    gateway_load_balancer_endpoints:\n"
        ), 1
    ) + "aws_services: {s3: {address: 52.216.0.10}}\n"  # fmt: skip
    net = Network(text)
    there = gwlb.delivered(net.send("app", SYN))
    assert (there.packet.src, there.packet.dst) == (APP, S3)
    result = gwlb.send_back(net, there)
    assert (result.to, result.packet.src, result.packet.ttl) == ("s3", APP, 61)
    assert net.send("s3", SYN_ACK).to == "app"


# -- what is remembered


@pytest.mark.parametrize(("idle", "known"), [(349.999, True), (350, False)])
def test_tcp_is_remembered_for_350_seconds(idle: float, known: bool) -> None:
    net = Network(LAB)
    net.send("app", SYN)
    net.wait(idle)
    assert net.send("s3", SYN_ACK).reason is (Reason.NONE if known else Reason.OUTSIDE_NO_ROUTE)


@pytest.mark.parametrize(("idle", "known"), [(119.999, True), (120, False)])
def test_pings_for_120_seconds(idle: float, known: bool) -> None:
    text = LAB.replace("version: 1\n", "version: 1\nsettings: {icmp_timeout: 600}\n")
    net = Network(text)
    net.send("app", PING)
    net.wait(idle)
    reply = IP(src=S3, dst=APP) / ICMP(type=0, id=7)
    assert net.send("s3", reply).reason is (Reason.NONE if known else Reason.OUTSIDE_NO_ROUTE)


def test_flows_of_dynamodb_are_tracked_whatever_the_rules_say() -> None:
    """An open group tracks no TCP from and to everybody, unless the way is DynamoDB's."""
    for address, node, kinds in ((S3, "s3", {"flow"}), (DYNAMODB, "dynamodb", {"flow", "group"})):
        net = Network(LAB)
        assert net.send("app", IP(src=APP, dst=address) / TCP(sport=1, dport=443, flags="S")).to == node
        assert {each["kind"] for each in net.plane.engine.sessions()} == kinds
        assert net.send(node, IP(src=address, dst=APP) / TCP(sport=443, dport=1, flags="SA")).to == "app"
        assert {each["kind"] for each in net.plane.engine.sessions()} == kinds


def test_sessions_are_the_endpoints() -> None:
    net = Network(LAB)
    net.send("app", SYN)
    [session] = [each for each in net.plane.engine.sessions() if each["kind"] == "flow"]
    assert str(net.plane.names[session["owner"]]) == ENDPOINT


# -- hops


@pytest.mark.parametrize("node", ["app", "s3"])
@pytest.mark.parametrize(("ttl", "reason"), [(1, Reason.TTL_EXCEEDED), (2, Reason.NONE)])
def test_ttl_ends_silently(node: str, ttl: int, reason: Reason) -> None:
    net = Network(LAB)
    net.send("app", SYN)
    packet = (SYN if node == "app" else SYN_ACK).copy()
    packet.ttl = ttl
    result = net.send(node, packet)
    assert result.reason is reason
    assert {each.cause for each in result.sent} <= {Cause.FORWARDED}


@pytest.mark.parametrize("flags", ["", "DF"])
def test_8500_bytes_pass_and_8501_die_silently(flags: str) -> None:
    net = Network(LAB)
    head = IP(src=APP, dst=S3, flags=flags) / TCP(sport=1, dport=443, flags="A")
    assert len(net.send("app", head / Raw(bytes(8460))).packet) == 8500
    result = net.send("app", head / Raw(bytes(8461)))
    assert (result.reason, result.by, result.sent) == (Reason.MTU_EXCEEDED, ENDPOINT, ())


@pytest.mark.parametrize(("node", "packet"), [("app", SYN), ("s3", SYN_ACK)])
def test_mss_is_lowered_both_ways(node: str, packet: Any) -> None:
    net = Network(LAB)
    net.send("app", SYN)
    asking = packet.copy()
    asking[TCP].options = [("MSS", 8961)]
    assert dict(net.send(node, asking).packet[TCP].options)["MSS"] == 8460


def test_fragments_pass() -> None:
    net = Network(LAB)
    pieces = fragment(IP(src=APP, dst=S3, id=9) / TCP(sport=1, dport=443, flags="S") / Raw(bytes(2000)), 1000)
    assert [net.send("app", piece).to for piece in pieces] == ["s3"] * 3
    back = fragment(IP(src=S3, dst=APP, id=9) / TCP(sport=443, dport=1, flags="SA") / Raw(bytes(2000)), 1000)
    assert net.send("s3", back[1]).verdict is Verdict.HOLD
    assert [each.node for each in net.send("s3", back[0]).sent] == ["app", "app"]


def test_acl_of_the_senders_subnet_applies_both_ways() -> None:
    text = LAB.replace("private: {cidr: 10.0.2.0/24, availability_zone: a, route_table: private}", (
        "private: {cidr: 10.0.2.0/24, availability_zone: a, route_table: private, network_acl: strict}"
    )).replace("    nat_gateways:", (
        "    network_acls:\n      strict:\n"
        "        egress: [{rule: 1, protocol: tcp, ports: 443, cidr: 52.216.0.0/15, action: allow}]\n"
        "        ingress: [{rule: 1, protocol: tcp, ports: 40000, cidr: 52.216.0.0/15, action: allow}]\n"
        "    nat_gateways:"
    ), 1)  # fmt: skip
    net = Network(text)
    assert net.send("app", SYN).to == "s3"
    assert net.send("s3", SYN_ACK).to == "app"
    other = IP(src=APP, dst=S3) / TCP(sport=1, dport=443, flags="S")
    assert net.send("app", other).to == "s3"
    assert net.send("s3", IP(src=S3, dst=APP) / TCP(sport=443, dport=1, flags="SA")).reason is Reason.ACL_INGRESS
    assert net.send("app", IP(src=APP, dst=S3) / TCP(sport=1, dport=80)).reason is Reason.ACL_EGRESS


def test_connections_of_an_endpoint_that_is_gone_are_cut() -> None:
    net = Network(LAB)
    net.send("app", SYN)
    net.apply(LAB.replace("      s3: {service: s3, route_tables: [private]}\n", ""))
    assert net.send("s3", SYN_ACK).reason is Reason.OUTSIDE_NO_ROUTE
    net.apply(LAB)
    assert net.send("s3", SYN_ACK).to == "app"
