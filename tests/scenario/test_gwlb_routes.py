"""Routes through gateway load balancer endpoints: from an internet gateway, between subnets, with other gateways.

https://docs.aws.amazon.com/elasticloadbalancing/latest/gateway/getting-started.html (the three route tables)
https://docs.aws.amazon.com/vpc/latest/userguide/gateway-route-tables.html
https://docs.aws.amazon.com/vpc/latest/privatelink/gateway-load-balancer-endpoints.html
"""

from __future__ import annotations

from ipaddress import ip_address
from typing import Any

import pytest
from scapy.layers.inet import ICMP, IP, TCP, UDP, IPerror, UDPerror
from scapy.layers.inet6 import IPv6
from scapy.layers.l2 import ARP, Ether
from scapy.packet import Raw

from dataplane.verdict import Cause, Reason
from tests.scenario.gwlb import (
    APP,
    APP6,
    APP_OUTSIDE,
    DB,
    ENDPOINT_ID,
    FAR,
    FAR6,
    LAB,
    ONE,
    answer,
    balancer,
    delivered,
    delivery,
    send_back,
    set_state,
    through,
)
from tests.scenario.network import Network

DATA_TABLE = 'data: {routes: [{destination: 10.0.2.0/24, target: "vpc-endpoint:inspect"}]}'
QUERY = IP(src=APP, dst=DB) / UDP(sport=5000, dport=53)


def denying(subnet: str, direction: str, rule: str) -> str:
    """The lab, with an ACL at a subnet of VPC shop that denies one thing in one direction."""
    allow = "{rule: 2, protocol: all, cidr: 0.0.0.0/0, action: allow}"
    rules = dict.fromkeys(("ingress", "egress"), f"[{allow}]") | {direction: f"[{rule}, {allow}]"}
    acl = f"strict: {{ingress: {rules['ingress']}, egress: {rules['egress']}}}"
    text = ONE.replace(f"      {subnet}: {{cidr", f"      {subnet}: {{network_acl: strict, cidr", 1)
    return text.replace(
        "    security_groups:\n      open:\n", f"    network_acls: {{{acl}}}\n    security_groups:\n      open:\n", 1
    )


# -- the internet


def test_in_from_the_internet_and_out_again() -> None:
    net = Network(LAB)
    syn = IP(src=FAR, dst=APP_OUTSIDE, ttl=64) / TCP(sport=40000, dport=80, flags="S")
    there = delivered(net.send("far", syn))
    assert (there.packet.src, there.packet.dst, there.packet.ttl) == (FAR, APP, 63)  # translated before it is inspected
    result = send_back(net, there)
    assert (result.to, result.packet.dst, result.packet.ttl) == ("app", APP, 62)
    reply = IP(src=APP, dst=FAR, ttl=64) / TCP(sport=80, dport=40000, flags="SA")
    back = delivered(net.send("app", reply))
    assert (back.identity, back.target, back.packet.src) == (there.identity, there.target, APP)
    result = send_back(net, back)
    assert (result.to, result.packet.src, result.packet.ttl) == ("far", APP_OUTSIDE, 61)


def test_ipv6_in_and_out() -> None:
    net = Network(LAB)
    there = delivered(net.send("far", IPv6(src=FAR6, dst=APP6) / UDP(sport=1, dport=2)))
    assert send_back(net, there).to == "app"
    back = delivered(net.send("app", IPv6(src=APP6, dst=FAR6) / UDP(sport=2, dport=1)))
    assert back.identity == there.identity
    assert send_back(net, back).to == "far"


def test_endpoint_needs_no_public_address() -> None:
    assert Network(LAB).send("far", IP(src=FAR, dst=APP_OUTSIDE) / UDP()).reason is Reason.NONE


def test_subnet_whose_way_in_is_inspected_does_not_go_out_past_it() -> None:
    text = LAB.replace('- {destination: 0.0.0.0/0, target: "vpc-endpoint:inspect"}',
                       "- {destination: 0.0.0.0/0, target: internet-gateway}")  # fmt: skip
    assert Network(text).send("app", IP(src=APP, dst=FAR) / UDP()).reason is Reason.EDGE_REDIRECTED


def test_error_from_the_internet_about_an_inspected_flow() -> None:
    net = Network(LAB)
    result = through(net, "app", IP(src=APP, dst=FAR) / UDP(sport=5000, dport=53))
    error = IP(src=FAR, dst=APP_OUTSIDE) / ICMP(type=3, code=3) / Raw(bytes(result.packet)[:28])
    got = delivered(net.send("far", error))
    assert (got.packet[IPerror].src, got.packet[UDPerror].sport) == (APP, 5000)
    assert send_back(net, got).to == "app"


def test_router_behind_the_endpoint_tells_the_sender_of_its_mtu() -> None:
    """The internet gateway takes 1500 bytes. What the subnet's router says goes past the appliances."""
    net = Network(LAB)
    packet = IP(src=APP, dst=FAR, flags="DF") / UDP(sport=5000, dport=53) / Raw(bytes(1473))
    result = through(net, "app", packet)
    assert (result.reason, result.by) == (Reason.MTU_EXCEEDED, "internet-gateway shop")
    [sent] = result.sent
    error = sent.packet
    assert (sent.node, sent.cause, error.src, error.dst) == ("app", Cause.ERROR, "10.0.1.1", APP)
    assert (error[ICMP].nexthopmtu, error[IPerror].ttl, error[UDPerror].sport) == (1500, 62, 5000)


def test_egress_only_gateways_let_nothing_out_that_was_inspected() -> None:
    text = LAB.replace("    internet_gateway: {route_table: ingress}\n",
                       "    internet_gateway: {}\n    egress_only_internet_gateway: {}\n")  # fmt: skip
    text = text.replace('- {destination: "::/0", target: internet-gateway}',
                        '- {destination: "::/0", target: egress-only-internet-gateway}')  # fmt: skip
    before, _, after = text.partition("      ingress:\n")
    text = before + after[after.index("      gwlbe:\n") :]  # no table for a gateway that has none
    result = through(Network(text), "app", IPv6(src=APP6, dst=FAR6) / UDP(sport=1, dport=2))
    assert (result.reason, result.by) == (Reason.EGRESS_ONLY_ENDPOINT, "egress-only-internet-gateway shop")


# -- between subnets


def test_both_ways_between_two_subnets() -> None:
    net = Network(LAB)
    there = delivered(net.send("app", QUERY))
    assert send_back(net, there).to == "db"
    back = delivered(net.send("db", IP(src=DB, dst=APP) / UDP(sport=53, dport=5000)))
    assert back.identity == there.identity
    assert send_back(net, back).to == "app"


def test_local_may_lead_through_it_too() -> None:
    text = LAB.replace(DATA_TABLE, 'data: {routes: [{destination: 10.0.0.0/16, target: "vpc-endpoint:inspect"}]}')
    assert through(Network(text), "db", IP(src=DB, dst=APP) / UDP(sport=1, dport=2)).to == "app"


def test_group_of_the_sender_is_lost() -> None:
    text = LAB.replace("ingress: [{protocol: all, source: 0.0.0.0/0}, {protocol: all, source: \"::/0\"}]",
                       'ingress: [{protocol: all, source: "group:self"}]', 1)  # fmt: skip
    assert through(Network(text), "app", QUERY).reason is Reason.GROUP_INGRESS
    direct = text.replace('          - {destination: 10.0.3.0/24, target: "vpc-endpoint:inspect"}\n', "", 1)
    assert Network(direct).send("app", QUERY).to == "db"


def test_two_endpoints_in_a_row() -> None:
    """What one endpoint has let pass may be routed to another one: here VPC shop's own second balancer."""
    text = LAB.replace("      gwlbe:\n        routes:\n", (
        '      gwlbe:\n        routes:\n          - {destination: 10.0.3.0/24, target: "vpc-endpoint:again"}\n'
    ), 1)  # fmt: skip
    text = text.replace("      data: {cidr: 10.0.3.0/24, ipv6", (
        "      second: {cidr: 10.0.4.0/24, availability_zone: a}\n      data: {cidr: 10.0.3.0/24, ipv6"
    ), 1)  # fmt: skip
    text = text.replace("id: vpce-0f583215d2e66b39c}", (
        "id: vpce-0f583215d2e66b39c}\n"
        "      again: {service: shop/second, subnet: second, id: vpce-00000000000000002}\n"
        "    gateway_load_balancers: {second: {subnets: [second], target_group: second}}\n"
        "    target_groups: {second: {targets: [neighbour]}}\n"
        "    endpoint_services: {second: {gateway_load_balancer: second, acceptance_required: false}}"
    ), 1)  # fmt: skip
    net = Network(text)
    first = delivered(net.send("app", QUERY))
    second = delivered(send_back(net, first))
    assert (second.target, second.endpoint.hex(), second.packet.ttl) == ("neighbour", "0000000000000002", 61)
    result = send_back(net, second)
    assert (result.to, result.packet.ttl) == ("db", 60)


# -- gates on the way


def test_acl_of_the_endpoints_subnet_on_the_way_in() -> None:
    rule = "{rule: 1, protocol: udp, ports: 53, cidr: 10.0.2.0/24, action: deny}"
    result = Network(denying("gwlbe", "ingress", rule)).send("app", QUERY)
    assert (result.reason, result.by) == (Reason.ACL_INGRESS, "network-acl shop/strict")


def test_and_on_the_way_out() -> None:
    rule = "{rule: 1, protocol: udp, ports: 53, cidr: 10.0.3.0/24, action: deny}"
    result = through(Network(denying("gwlbe", "egress", rule)), "app", QUERY)
    assert (result.reason, result.by) == (Reason.ACL_EGRESS, "network-acl shop/strict")


def test_security_group_of_a_target_must_let_geneve_in() -> None:
    assert Network(ONE).send("app", QUERY).to == "fw1"
    result = Network(ONE.replace("ports: 6081", "ports: 6082")).send("app", QUERY)
    assert (result.reason, result.by) == (Reason.GROUP_INGRESS, "interface fw1/eth0")


def test_flow_whose_first_packet_died_at_the_target_is_known() -> None:
    net = Network(ONE.replace("ports: 6081", "ports: 6082"))
    net.send("app", QUERY)
    [session] = [each for each in net.plane.engine.sessions() if each["kind"] == "balancer"]
    assert session["forward"][3:] == (17, 5000, 53)
    net.apply(ONE)
    assert send_back(net, delivered(net.send("app", QUERY))).to == "db"


def test_acl_between_node_and_target() -> None:
    text = balancer(ONE, cross_zone="true").replace("targets: [fw1]", "targets: [fw3]").replace(
        "      fw-b: {cidr: 10.9.2.0/24, availability_zone: b}",
        "      fw-b: {cidr: 10.9.2.0/24, availability_zone: b, network_acl: strict}",
    )  # fmt: skip
    acl = (
        "    network_acls: {strict: {ingress: [%s], egress: [{rule: 1, protocol: all, cidr: 0.0.0.0/0, action: %s}]}}\n"
    )
    for ingress, egress in (("allow", "allow"), ("deny", "allow"), ("allow", "deny")):
        rule = f"{{rule: 1, protocol: udp, ports: 6081, cidr: 10.9.1.10/32, action: {ingress}}}"
        net = Network(
            text.replace("    security_groups:\n      fw:", acl % (rule, egress) + "    security_groups:\n      fw:")
        )
        result = net.send("app", QUERY)
        if ingress == "deny":
            assert result.reason is Reason.ACL_INGRESS
            continue
        back = send_back(net, delivered(result))
        assert back.reason is (Reason.NONE if egress == "allow" else Reason.ACL_EGRESS)


@pytest.mark.parametrize(
    "state", ["acceptance_required: true", 'acceptance_required: false, rejected: ["shop/inspect"]']
)
def test_endpoint_that_is_not_available(state: str) -> None:
    net = Network(LAB.replace("acceptance_required: false", state))
    result = net.send("app", QUERY)
    assert (result.reason, result.by, result.sent) == (Reason.ENDPOINT_UNAVAILABLE, "vpc-endpoint shop/inspect", ())
    assert net.send("far", IP(src=FAR, dst=APP_OUTSIDE) / UDP()).reason is Reason.ENDPOINT_UNAVAILABLE


def test_endpoint_that_was_accepted() -> None:
    text = LAB.replace("acceptance_required: false", 'acceptance_required: true, accepted: ["shop/inspect"]')
    net = Network(text)
    assert delivered(net.send("app", QUERY)).endpoint == ENDPOINT_ID
    assert net.send("app2", QUERY).reason is Reason.ENDPOINT_UNAVAILABLE


# -- NAT gateways

GATEWAY = "nat_gateways: {nat: {subnet: nat, elastic_ip: 203.0.113.77, private_ip: 10.0.5.5}}"
TO_NAT, TO_ENDPOINT, TO_INTERNET = (
    f"{{destination: 0.0.0.0/0, target: {target}}}"
    for target in ("nat-gateway:nat", '"vpc-endpoint:inspect"', "internet-gateway")
)
NAT_SUBNET = "nat: {cidr: 10.0.5.0/24, availability_zone: a, route_table: nat}"


def with_nat(data: str, nat: str, gwlbe: str, ingress: str) -> str:
    """The lab, with a NAT gateway: default routes of three subnets, and a block whose way in is inspected."""
    text = LAB.replace(
        "    gateway_load_balancer_endpoints:", f"    {GATEWAY}\n    gateway_load_balancer_endpoints:", 1
    )
    text = text.replace("      data: {cidr", f"      {NAT_SUBNET}\n      data: {{cidr", 1)
    to_data = '{destination: 10.0.3.0/24, target: "vpc-endpoint:inspect"}'
    more = f", {to_data}" if nat != TO_ENDPOINT else ""
    text = text.replace(DATA_TABLE, f"data: {{routes: [{data}]}}\n      nat: {{routes: [{nat}{more}]}}", 1)
    text = text.replace(f"      gwlbe:\n        routes:\n          - {TO_INTERNET}", (
        f"      gwlbe:\n        routes:\n          - {gwlbe}"
    ), 1)  # fmt: skip
    return text.replace("{destination: 10.0.2.0/24, target", f"{{destination: {ingress}, target", 1)


NAT = with_nat(TO_NAT, TO_ENDPOINT, TO_INTERNET, "10.0.5.0/24")
"""Subnet data has a NAT gateway, whose subnet's way out is inspected: what the appliance sees is the gateway's."""


def test_nat_gateway_before_an_endpoint() -> None:
    net = Network(NAT)
    there = delivered(net.send("db", IP(src=DB, dst=FAR) / UDP(sport=5000, dport=53)))
    assert there.packet.src == "10.0.5.5"
    out = send_back(net, there)
    assert (out.to, out.packet.src) == ("far", "203.0.113.77")
    reply = IP(src=FAR, dst="203.0.113.77") / UDP(sport=53, dport=out.packet[UDP].sport)
    back = delivered(net.send("far", reply))
    assert back.identity == there.identity
    result = send_back(net, back)
    assert (result.to, result.packet.dst, result.packet[UDP].dport) == ("db", DB, 5000)


def test_pieces_that_a_nat_gateway_cuts_are_encapsulated_one_by_one() -> None:
    net = Network(NAT)
    result = net.send("db", IP(src=DB, dst=FAR, id=9) / UDP(sport=5000, dport=53) / Raw(bytes(8600)))
    got = [delivery(sent) for sent in result.sent]
    assert {sent.cause for sent in result.sent} == {Cause.FRAGMENT}
    assert [len(each.inside) for each in got] == [8500, 8628 - 8500 + 20]
    assert [each.packet.frag * 8 for each in got] == [0, 8480]
    assert got[0].identity == got[1].identity
    assert {str(each.packet.src) for each in got} == {"10.0.5.5"}


def test_endpoint_before_a_nat_gateway() -> None:
    text = with_nat(TO_ENDPOINT, TO_INTERNET, TO_NAT, "10.0.2.0/24")
    net = Network(text)
    there = delivered(net.send("db", IP(src=DB, dst=FAR) / UDP(sport=5000, dport=53)))
    assert there.packet.src == DB
    out = send_back(net, there)
    assert (out.to, out.packet.src) == ("far", "203.0.113.77")
    reply = IP(src=FAR, dst="203.0.113.77") / UDP(sport=53, dport=out.packet[UDP].sport)
    back = delivered(net.send("far", reply))
    assert (back.identity, back.packet.dst) == (there.identity, DB)
    assert send_back(net, back).to == "db"


# -- between the balancer and its targets

REMOTE = """\
  remote:
    cidr: 10.20.0.0/16
    subnets: {fw: {cidr: 10.20.1.0/24, availability_zone: a, route_table: back}}
    route_tables: {back: {routes: [{destination: 10.9.0.0/16, target: "peering:p"}]}}
    security_groups:
      fw: {description: appliances, ingress: [{protocol: udp, ports: 6081, source: 10.9.0.0/16}]}
peerings:
  p: {requester: security, accepter: remote, status: active}
instances:
  fw9: {vpc: remote, subnet: fw, private_ip: 10.20.1.10, security_groups: [fw]}
"""
PEERED = LAB.replace("instances:\n", REMOTE)
PEERED = PEERED.replace("fleet: {targets: [fw1, fw2, fw3]}", 'fleet: {target_type: ip, targets: ["10.20.1.10"]}')
PEERED = PEERED.replace("fw-a: {cidr: 10.9.1.0/24, ", "fw-a: {cidr: 10.9.1.0/24, route_table: peer, ")
PEERED = PEERED.replace("    gateway_load_balancers:\n", (
    '    route_tables: {peer: {routes: [{destination: 10.20.0.0/16, target: "peering:p"}]}}\n'
    "    gateway_load_balancers:\n"
))  # fmt: skip
"""The appliance is in a peer of the balancer's VPC."""
FAR_AWAY = PEERED.replace("status: active}", "status: active, accepter_region: eu-west-1}")


@pytest.mark.parametrize("text", [PEERED, FAR_AWAY])
def test_target_in_a_peer_vpc(text: str) -> None:
    net = Network(text)
    got = delivered(net.send("app", QUERY))
    assert (got.target, got.destination) == ("fw9", "10.20.1.10")
    assert send_back(net, got).to == "db"


def test_peering_between_regions_cuts_the_outer_packet() -> None:
    """8568 bytes where 8500 fit: DF is clear. What comes back in pieces dies, for a balancer puts nothing together."""
    head = IP(src=APP, dst=DB, flags="DF") / UDP(sport=1, dport=2)
    net = Network(FAR_AWAY)
    fits = delivered(net.send("app", head / Raw(bytes(8404))))
    assert (len(fits.outer), send_back(net, fits).to) == (8500, "db")
    result = net.send("app", head / Raw(bytes(8405)))
    first, second = [bytes(sent.packet) for sent in result.sent]
    assert [(len(each), int.from_bytes(each[6:8])) for each in (first, second)] == [(8500, 0x2000), (21, 8480 // 8)]
    whole = first[:2] + (8501).to_bytes(2) + first[4:6] + bytes(2) + first[8:] + second[20:]
    assert whole[68:][20:] == bytes(head / Raw(bytes(8405)))[20:]
    big = answer(fits, inside=whole[68:])
    assert net.send("fw9", big).reason is Reason.GENEVE_FRAGMENT


def test_packet_to_a_target_must_not_lead_through_an_endpoint_again() -> None:
    text = LAB.replace("      fw-a: {cidr: 10.9.1.0/24, availability_zone: a}", (
        "      fw-a: {cidr: 10.9.1.0/24, availability_zone: a, route_table: nested}\n"
        "      other: {cidr: 10.9.3.0/24, availability_zone: a}"
    )).replace("fleet: {targets: [fw1, fw2, fw3]}", "fleet: {targets: [fw3]}").replace(
        "    gateway_load_balancers:\n      inspection: {",
        '    route_tables: {nested: {routes: [{destination: 10.9.2.0/24, target: "vpc-endpoint:loop"}]}}\n'
        "    gateway_load_balancer_endpoints: {loop: {service: security/inspection, subnet: other}}\n"
        "    gateway_load_balancers:\n      inspection: {cross_zone: true, ",
    )  # fmt: skip
    result = Network(text).send("app", QUERY)
    assert (result.reason, result.by) == (Reason.GENEVE_NESTED, "gateway-load-balancer security/inspection")


# -- neighbours of nodes and endpoints


@pytest.mark.parametrize(("node", "address"), [("neighbour", "10.0.1.10"), ("fw1", "10.9.1.10")])
def test_neighbours_are_told_their_mac(node: str, address: str) -> None:
    net = Network(LAB)
    own = net.mac(node)
    question = Ether(src=own, dst="ff:ff:ff:ff:ff:ff") / ARP(hwsrc=own, psrc="10.0.1.20", pdst=address)
    [sent] = net.put(node, question).sent
    assert (sent.packet.op, sent.packet.psrc) == (2, address)
    assert sent.packet.hwsrc not in (own, net.router_mac(node))


def test_what_is_sent_straight_to_an_endpoints_mac_dies() -> None:
    net = Network(LAB)
    mac = net.plane.next_mac(net.port("neighbour"), ip_address("10.0.1.10"))
    result = net.send("neighbour", IP(src="10.0.1.20", dst=DB) / UDP(), to_mac=mac)
    assert (result.reason, result.by) == (Reason.ENDPOINT_ADDRESSED, "vpc-endpoint shop/inspect")


# -- health checks


def probe(port: int = 40000, flags: str = "S") -> Any:
    return IP(src="10.9.1.10", dst="10.9.1.21") / TCP(sport=port, dport=80, flags=flags)


def test_nodes_see_answers_to_their_own_health_checks_only() -> None:
    net = Network(
        LAB.replace(
            "ingress: [{protocol: udp, ports: 6081",
            "ingress: [{protocol: tcp, ports: 80, source: 10.9.0.0/16}, {protocol: udp, ports: 6081",
        )
    )
    node = net.plane.names.find("gateway-load-balancer-node", "security/inspection/fw-a")
    interface = net.plane.interface(node)
    mac = net.plane.next_mac(node, ip_address("10.9.1.21"))
    assert mac.hex(":") == net.mac("fw1")
    reply = IP(src="10.9.1.21", dst="10.9.1.10") / TCP(sport=80, dport=40000, flags="SA")
    assert net.send("fw1", reply).reason is Reason.ENDPOINT_ADDRESSED
    frame = mac + interface.mac + b"\x08\x00" + bytes(probe())
    [outcome], [emission] = net.plane.process([frame], [node], net.now)
    assert (outcome.reason, emission.port) == (Reason.NONE, net.port("fw1"))
    result = net.send("fw1", reply)
    assert (result.to, result.reason) == ("security", Reason.NONE)
    other = IP(src="10.9.1.21", dst="10.9.1.10") / TCP(sport=80, dport=40001, flags="SA")
    assert net.send("fw1", other).reason is Reason.ENDPOINT_ADDRESSED


def test_health_is_nothing_to_packets_that_are_on_their_way_back() -> None:
    net = Network(LAB)
    got = delivered(net.send("app", QUERY))
    set_state(net, {got.target: "unhealthy"})
    assert send_back(net, got).to == "db"


def test_egress_only_gateways_first_look_at_whose_address_it_is() -> None:
    text = LAB.replace("    internet_gateway: {route_table: ingress}\n",
                       "    internet_gateway: {}\n    egress_only_internet_gateway: {}\n")  # fmt: skip
    text = text.replace('- {destination: "::/0", target: internet-gateway}',
                        '- {destination: "::/0", target: egress-only-internet-gateway}')  # fmt: skip
    text = text.replace("security_groups: [open]}\n  db:", "security_groups: [open], source_dest_check: false}\n  db:")
    before, _, after = text.partition("      ingress:\n")
    net = Network(before + after[after.index("      gwlbe:\n") :])
    there = delivered(net.send("app", IPv6(src="2001:db8:77::1", dst=FAR6) / UDP(sport=1, dport=2)))
    assert send_back(net, there).reason is Reason.GATEWAY_SPOOFED


def test_nat_gateways_do_not_take_what_has_come_from_the_internet() -> None:
    """Behind the endpoint that an edge route leads to, a route to a NAT gateway: not of an interface of the VPC."""
    text = ONE.replace(
        "      gwlbe:\n        routes:\n",
        '      gwlbe:\n        routes:\n          - {destination: 10.0.2.0/24, target: "nat-gateway:nat"}\n',
    )
    own = "    gateway_load_balancer_endpoints:\n      inspect: {service"
    text = text.replace(own, "    nat_gateways: {nat: {subnet: data, elastic_ip: 203.0.113.90}}\n" + own, 1)
    net = Network(text)
    there = delivered(net.send("far", IP(src=FAR, dst=APP_OUTSIDE) / UDP(sport=5, dport=6)))
    result = send_back(net, there)
    assert (result.reason, result.by, result.sent) == (Reason.NAT_FROM_PEER, "nat-gateway shop/nat", ())
