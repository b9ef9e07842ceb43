"""Return to sender: what answers a NAT gateway over a peering finds back to it (VPC User Guide, "NAT gateway basics").

https://docs.aws.amazon.com/vpc/latest/userguide/nat-gateway-basics.html
"""

from __future__ import annotations

from typing import Any

import pytest
from scapy.layers.inet import ICMP, IP, TCP, UDP

from dataplane.verdict import Reason
from tests.scenario.network import Network

# near's clients reach far by a NAT gateway and a peering; far has no route back.
LAB = """
version: 1
name: sender
vpcs:
  near:
    cidr: 10.0.0.0/16
    subnets:
      apps: {cidr: 10.0.2.0/24, availability_zone: a, route_table: apps}
      nats: {cidr: 10.0.1.0/24, availability_zone: a, route_table: nats}
    route_tables:
      apps: {routes: [{destination: 10.1.0.0/16, target: "nat-gateway:nat"}]}
      nats: {routes: [{destination: 10.1.0.0/16, target: "peering:both"}]}
    security_groups:
      open: {description: everything, ingress: [{protocol: all, source: 0.0.0.0/0}]}
    nat_gateways:
      nat: {subnet: nats, connectivity: private, private_ip: 10.0.1.5}
  far:
    cidr: 10.1.0.0/16
    subnets:
      data: {cidr: 10.1.1.0/24, availability_zone: a, route_table: data}
      else: {cidr: 10.1.2.0/24, availability_zone: a, route_table: data}
    route_tables:
      data: {routes: []}
    security_groups:
      open: {description: everything, ingress: [{protocol: all, source: 0.0.0.0/0}]}
peerings:
  both: {requester: near, accepter: far, status: active}
instances:
  app: {vpc: near, subnet: apps, private_ip: 10.0.2.10, security_groups: [open]}
  direct: {vpc: near, subnet: nats, private_ip: 10.0.1.11, security_groups: [open]}
  db: {vpc: far, subnet: data, private_ip: 10.1.1.10, security_groups: [open], source_dest_check: false}
  trap: {vpc: far, subnet: else, private_ip: 10.1.2.10, security_groups: [open], source_dest_check: false}
"""
APP, DB, NAT = "10.0.2.10", "10.1.1.10", "10.0.1.5"


@pytest.fixture
def net() -> Network:
    return Network(LAB)


def ask(net: Network, layer: Any) -> Any:
    result = net.send("app", IP(src=APP, dst=DB) / layer)
    assert (result.to, result.packet.src) == ("db", NAT)
    return result.packet.payload


def test_answer_finds_back_without_a_route(net: Network) -> None:
    port = ask(net, UDP(sport=5, dport=6)).sport
    answer = net.send("db", IP(src=DB, dst=NAT) / UDP(sport=6, dport=port))
    assert (answer.to, answer.packet.src, answer.packet.dst, answer.packet[UDP].dport) == ("app", DB, APP, 5)


def test_answer_of_ping_too(net: Network) -> None:
    identifier = ask(net, ICMP(id=7)).id
    answer = net.send("db", IP(src=DB, dst=NAT) / ICMP(type=0, id=identifier))
    assert (answer.to, answer.packet[ICMP].id) == ("app", 7)


def test_what_answers_nothing_has_no_route(net: Network) -> None:
    port = ask(net, UDP(sport=5, dport=6)).sport
    for sport, dport in ((7, port), (6, port ^ 1)):
        result = net.send("db", IP(src=DB, dst=NAT) / UDP(sport=sport, dport=dport))
        assert (result.reason, result.by) == (Reason.NO_ROUTE, "route-table far/data")
    other = net.send("trap", IP(src="10.1.2.10", dst=NAT) / UDP(sport=6, dport=port))
    assert other.reason is Reason.NO_ROUTE


def test_only_nat_gateways_get_it(net: Network) -> None:
    assert net.send("direct", IP(src="10.0.1.11", dst=DB) / UDP(sport=5, dport=6)).to == "db"
    answer = net.send("db", IP(src=DB, dst="10.0.1.11") / UDP(sport=6, dport=5))
    assert (answer.reason, answer.by) == (Reason.NO_ROUTE, "route-table far/data")


@pytest.mark.parametrize("target", ["blackhole", '"instance:trap"'])
def test_route_tables_are_not_asked(target: str) -> None:
    routes = f"data: {{routes: [{{destination: 10.0.0.0/8, target: {target}}}]}}"
    net = Network(LAB.replace("data: {routes: []}", routes))
    port = ask(net, UDP(sport=5, dport=6)).sport
    assert net.send("db", IP(src=DB, dst=NAT) / UDP(sport=6, dport=port)).to == "app"


def test_acl_of_the_answering_subnet_is() -> None:
    acl = "{egress: [], ingress: [{rule: 1, protocol: all, cidr: 0.0.0.0/0, action: allow}]}"
    text = LAB.replace("route_tables:\n      data", f"network_acls: {{shut: {acl}}}\n    route_tables:\n      data")
    net = Network(text.replace("10.1.1.0/24,", "10.1.1.0/24, network_acl: shut,"))
    port = ask(net, UDP(sport=5, dport=6)).sport
    answer = net.send("db", IP(src=DB, dst=NAT) / UDP(sport=6, dport=port))
    assert (answer.reason, answer.by) == (Reason.ACL_EGRESS, "network-acl far/shut")


def test_error_about_what_it_sent_finds_back(net: Network) -> None:
    packet = net.send("app", IP(src=APP, dst=DB) / UDP(sport=5, dport=6)).packet
    error = net.send("db", IP(src=DB, dst=NAT) / ICMP(type=3, code=3) / bytes(packet))
    assert (error.to, error.packet.dst) == ("app", APP)
    router = net.send("trap", IP(src="10.1.2.10", dst=NAT) / ICMP(type=11) / bytes(packet))
    assert (router.to, router.packet.src) == ("app", "10.1.2.10")
    packet[UDP].dport = 9
    about_nothing = net.send("db", IP(src=DB, dst=NAT) / ICMP(type=3, code=3) / bytes(packet))
    assert about_nothing.reason is Reason.NO_ROUTE


@pytest.mark.parametrize(("wait", "reason"), [(349.999, Reason.NONE), (350, Reason.NO_ROUTE)])
def test_it_is_forgotten_after_350_seconds(net: Network, wait: float, reason: Reason) -> None:
    port = ask(net, UDP(sport=5, dport=6)).sport
    net.wait(wait)
    assert net.send("db", IP(src=DB, dst=NAT) / UDP(sport=6, dport=port)).reason is reason


def test_packets_both_ways_keep_it_alive(net: Network) -> None:
    port = ask(net, UDP(sport=5, dport=6)).sport
    for _ in range(2):
        net.wait(200)
        assert net.send("db", IP(src=DB, dst=NAT) / UDP(sport=6, dport=port)).to == "app"
        net.wait(200)
        assert ask(net, UDP(sport=5, dport=6)).sport == port


@pytest.mark.parametrize(("wait", "reason"), [(59.999, Reason.NONE), (60, Reason.NO_ROUTE)])
def test_closed_tcp_is_forgotten_after_60_seconds(net: Network, wait: float, reason: Reason) -> None:
    port = ask(net, TCP(sport=5, dport=6)).sport
    assert net.send("db", IP(src=DB, dst=NAT) / TCP(sport=6, dport=port, flags="R")).to == "app"
    net.wait(wait)
    assert net.send("db", IP(src=DB, dst=NAT) / TCP(sport=6, dport=port, flags="A")).reason is reason


def test_over_a_peering_that_is_no_longer_active_the_route_table_decides(net: Network) -> None:
    port = ask(net, UDP(sport=5, dport=6)).sport
    net.apply(LAB.replace("status: active", "status: deleted"))
    answer = net.send("db", IP(src=DB, dst=NAT) / UDP(sport=6, dport=port))
    assert (answer.reason, answer.by) == (Reason.NO_ROUTE, "route-table far/data")


def test_memory_that_comes_back_is_asked_again_whatever_the_route_table_said_meanwhile(net: Network) -> None:
    """While nothing was remembered the table led to an appliance; that is no reason to go on there."""
    text = LAB.replace("data: {routes: []}", 'data: {routes: [{destination: 10.0.0.0/16, target: "instance:trap"}]}')
    net.apply(text)
    port = ask(net, UDP(sport=5, dport=6)).sport
    answer = IP(src=DB, dst=NAT) / UDP(sport=6, dport=port)
    net.wait(350)
    assert [net.send("db", answer).to for _ in range(3)] == ["trap"] * 3
    assert ask(net, UDP(sport=5, dport=6)).sport == port
    assert net.send("db", answer).to == "app"


def test_what_looks_like_the_answer_on_the_near_side_is_none(net: Network) -> None:
    """Each side remembers what came into it: the far VPC's memory is not the near one's."""
    gateway = "    nat_gateways:\n      back: {subnet: data, connectivity: private, private_ip: 10.1.1.5}\npeerings:"
    net.apply(
        LAB.replace("peerings:", gateway, 1).replace(
            "direct: {vpc: near, subnet: nats, private_ip: 10.0.1.11,",
            "direct: {vpc: near, subnet: nats, private_ip: 10.0.1.11, source_dest_check: false,",
        )
    )
    port = ask(net, UDP(sport=5, dport=6)).sport
    spoofed = net.send("direct", IP(src=DB, dst=NAT) / UDP(sport=6, dport=port))
    assert spoofed.reason is not Reason.PEER_DESTINATION


def test_without_the_gateway_the_route_table_decides(net: Network) -> None:
    port = ask(net, UDP(sport=5, dport=6)).sport
    gone = LAB.replace("nat: {subnet: nats, connectivity: private, private_ip: 10.0.1.5}", "")
    gone = gone.replace("    nat_gateways:\n      \n", "").replace('target: "nat-gateway:nat"', "target: blackhole")
    net.apply(gone)
    answer = net.send("db", IP(src=DB, dst=NAT) / UDP(sport=6, dport=port))
    assert (answer.reason, answer.by) == (Reason.NO_ROUTE, "route-table far/data")


def test_untracked_flow_becomes_tracked_when_its_answer_takes_the_nat_gateway(net: Network) -> None:
    """What goes by a NAT gateway is tracked (EC2 User Guide); then the far end's packets belong to that flow."""
    there = 'data: {routes: [{destination: 10.0.0.0/16, target: "peering:both"}]}'
    net.apply(LAB.replace("data: {routes: []}", there))
    request = IP(src=DB, dst=APP) / UDP(sport=6, dport=5)
    assert {net.send("db", request).to for _ in range(2)} == {"app"}  # and once more, as it is remembered
    assert net.send("app", IP(src=APP, dst=DB) / UDP(sport=5, dport=6)).packet.src == NAT
    net.wait(20)
    assert net.send("db", request).to == "app"
    net.wait(25)
    closed = "closed: {description: nothing, ingress: []}\n      open"
    shut = LAB.replace("data: {routes: []}", there).replace("      open", f"      {closed}", 1)
    net.apply(
        shut.replace(
            "private_ip: 10.0.2.10, security_groups: [open]", "private_ip: 10.0.2.10, security_groups: [closed]"
        )
    )
    assert net.send("db", request).to == "app"
    net.wait(30)
    assert net.send("db", request).reason is Reason.GROUP_INGRESS
