"""Gateway load balancer endpoints: what leads to them, what they do to a packet, and where it goes afterwards."""

from __future__ import annotations

from typing import Any

import pytest
from scapy.layers.inet import ICMP, IP, TCP, UDP
from scapy.layers.inet6 import IPv6
from scapy.packet import Raw

from dataplane.verdict import Cause, Reason
from tests.conformance.behaviours import behaviour
from tests.conformance.labs import accepted, changed, refused
from tests.conformance.sources import balancer_guide, privatelink_guide, reachability, vpc_guide
from tests.scenario.gwlb import (
    APP,
    APP6,
    APP_OUTSIDE,
    DB,
    FAR,
    FAR6,
    LAB,
    ONE,
    answer,
    delivered,
    send_back,
    through,
)
from tests.scenario.network import Network

SECTION = "Endpoints"

PAGE = privatelink_guide("gateway-load-balancer-endpoints")
ROUTING = privatelink_guide("vpce-gateway-load-balancer")
QUOTAS = privatelink_guide("vpc-limits-endpoints")
BALANCER = balancer_guide("gateway-load-balancers")

QUERY = IP(src=APP, dst=DB) / UDP(sport=5000, dport=53)
SYN = IP(src=FAR, dst=APP_OUTSIDE, ttl=64) / TCP(sport=40000, dport=80, flags="S")
SYN_ACK = IP(src=APP, dst=FAR, ttl=64) / TCP(sport=80, dport=40000, flags="SA")
TO_INTERNET = "          - {destination: 0.0.0.0/0, target: internet-gateway}\n"
ID = "vpce-0f583215d2e66b39c"
TO_ENDPOINT = '{destination: 0.0.0.0/0, target: "vpc-endpoint:inspect"}'


def after(text: str, words: str, more: str) -> str:
    """A lab file with more text where words first stand."""
    assert words in text
    return text.replace(words, words + more, 1)


def with_acl(subnet: str, direction: str, rule: str) -> str:
    """The lab, with an ACL at a subnet of VPC shop that denies one thing in one direction."""
    allow = "{rule: 2, protocol: all, cidr: 0.0.0.0/0, action: allow}"
    rules = dict.fromkeys(("ingress", "egress"), f"[{allow}]") | {direction: f"[{rule}, {allow}]"}
    acl = f"    network_acls: {{strict: {{ingress: {rules['ingress']}, egress: {rules['egress']}}}}}\n"
    text = ONE.replace(f"      {subnet}: {{cidr", f"      {subnet}: {{network_acl: strict, cidr", 1)
    return text.replace("    security_groups:\n      open:\n", f"{acl}    security_groups:\n      open:\n", 1)


# -- the three route tables


@behaviour(
    "With an edge route and a default route to it, both directions of a connection from the internet pass the endpoint",
    source=ROUTING,
)
def test_from_the_internet_and_back() -> None:
    network = Network(LAB)
    there = delivered(network.send("far", SYN))
    assert send_back(network, there).to == "app"
    back = delivered(network.send("app", SYN_ACK))
    assert (back.identity, back.target) == (there.identity, there.target)
    result = send_back(network, back)
    assert (result.to, result.packet.src) == ("far", APP_OUTSIDE)


@behaviour(
    "The appliance of a gateway load balancer sees private addresses: the internet gateway translates outside of it",
    source=ROUTING,
)
def test_private_addresses() -> None:
    network = Network(LAB)
    there = delivered(network.send("far", SYN))
    assert (there.packet.src, there.packet.dst) == (FAR, APP)
    send_back(network, there)
    back = delivered(network.send("app", SYN_ACK))
    assert (back.packet.src, back.packet.dst) == (APP, FAR)


@behaviour("What leaves an endpoint is routed by the table of its own subnet, not of the sender's", source=ROUTING)
def test_routed_by_the_table_of_its_subnet() -> None:
    there = IP(src=APP, dst=FAR) / UDP(sport=5000, dport=53)
    assert through(Network(LAB), "app", there).to == "far"
    result = through(Network(changed(LAB, (TO_INTERNET, ""))), "app", there)
    assert (result.reason, result.sent) == (Reason.NO_ROUTE, ())


@behaviour("IPv6 routes lead to an endpoint as IPv4 ones do, from an edge table too", source=ROUTING)
def test_ipv6() -> None:
    network = Network(LAB)
    there = delivered(network.send("far", IPv6(src=FAR6, dst=APP6) / UDP(sport=1, dport=2)))
    assert send_back(network, there).to == "app"
    back = delivered(network.send("app", IPv6(src=APP6, dst=FAR6) / UDP(sport=2, dport=1)))
    assert (back.identity, send_back(network, back).to) == (there.identity, "far")


@behaviour(
    "A subnet whose way in leads through an endpoint cannot go out to the internet past it", source=reachability()
)
def test_no_way_out_past_it() -> None:
    text = changed(LAB, (TO_ENDPOINT, "{destination: 0.0.0.0/0, target: internet-gateway}"))
    result = Network(text).send("app", IP(src=APP, dst=FAR) / UDP())
    assert (result.reason, result.sent) == (Reason.EDGE_REDIRECTED, ())


@behaviour(
    "Routes for whole subnets, more specific than local, put an endpoint between two subnets of a VPC",
    source=vpc_guide("route-table-options"),
)
def test_between_subnets() -> None:
    network = Network(LAB)
    there = delivered(network.send("app", QUERY))
    assert send_back(network, there).to == "db"
    back = delivered(network.send("db", IP(src=DB, dst=APP) / UDP(sport=53, dport=5000)))
    assert (back.identity, send_back(network, back).to) == (there.identity, "app")


@behaviour(
    "A route to an endpoint inside the VPC is for the whole block of a subnet, or of the VPC, instead of local",
    source=vpc_guide("subnet-route-tables"),
)
def test_part_of_a_subnet() -> None:
    at = "vpcs.shop.route_tables.data.routes[0].destination"
    route = 'data: {routes: [{destination: 10.0.2.0/24, target: "vpc-endpoint:inspect"}]}'
    accepted(changed(LAB, (route, route.replace("10.0.2.0/24", "10.0.0.0/16"))))
    for part in ("10.0.2.0/25", "10.0.2.10/32", "10.0.2.0/23"):
        assert (at, "InvalidParameterValue") in refused(changed(LAB, (route, route.replace("10.0.2.0/24", part))))


@behaviour(
    "An edge route to an endpoint is for a whole block of the VPC or of a subnet",
    source=vpc_guide("gateway-route-tables"),
)
def test_edge_routes() -> None:
    at = "vpcs.shop.route_tables.ingress.routes[0].destination"
    route = "      ingress:\n        routes:\n          - {destination: 10.0.2.0/24, target"
    accepted(changed(LAB, (route, route.replace("10.0.2.0/24", "10.0.0.0/16"))))
    for part in ("10.0.2.0/25", "0.0.0.0/0", "198.51.100.0/24"):
        assert (at, "InvalidParameterValue") in refused(changed(LAB, (route, route.replace("10.0.2.0/24", part))))


@behaviour("A prefix list is no destination of a route to an endpoint", source=ROUTING)
def test_prefix_list() -> None:
    lists = "prefix_lists: {mine: {entries: [{cidr: 198.51.100.0/24}]}}\ninstances:\n"
    text = changed(LAB, (TO_ENDPOINT, '{destination: "prefix-list:mine", target: "vpc-endpoint:inspect"}'),
                   ("instances:\n", lists))  # fmt: skip
    assert ("vpcs.shop.route_tables.apps.routes[0].destination", "InvalidParameterValue") in refused(text)


@behaviour(
    "An endpoint is in another subnet than those whose routes lead to it",
    source=balancer_guide("introduction"),
    silent=True,
)
def test_own_subnet() -> None:
    text = changed(
        LAB,
        (
            "      gwlbe:\n        routes:\n" + TO_INTERNET,
            f"      gwlbe:\n        routes:\n          - {TO_ENDPOINT}\n",
        ),
    )
    assert ("vpcs.shop.route_tables.gwlbe.routes[0].target", "") in refused(text)


@behaviour(
    "Neighbours in a subnet reach each other directly: no route leads what stays in a subnet to an endpoint",
    source=vpc_guide("route-table-options"),
)
def test_neighbours() -> None:
    text = changed(
        LAB,
        (
            "  neighbour:",
            "  db3: {vpc: shop, subnet: data, private_ip: 10.0.3.30, security_groups: [open]}\n  neighbour:",
        ),
    )
    result = Network(text).send("db", IP(src=DB, dst="10.0.3.30") / ICMP())
    assert (result.to, result.packet.ttl) == ("db3", 64)


@behaviour("An endpoint cannot be removed while routes lead to it", source=PAGE)
def test_removed_endpoint() -> None:
    endpoint = f"inspect: {{service: security/inspection, subnet: gwlbe, private_ip: 10.0.1.10, id: {ID}}}"
    found = refused(changed(LAB, (endpoint, "other: {service: security/inspection, subnet: gwlbe}")))
    assert ("vpcs.shop.route_tables.apps.routes[0].target", "InvalidVpcEndpointId.NotFound") in found


@behaviour("What has been inspected is dropped at an egress-only internet gateway", source=PAGE)
def test_egress_only() -> None:
    table = LAB[LAB.index("      ingress:\n") : LAB.index("      gwlbe:\n        routes")]
    gateways = "    internet_gateway: {}\n    egress_only_internet_gateway: {}\n"
    route = '- {destination: "::/0", target: '
    text = changed(
        LAB,
        (table, ""),
        ("    internet_gateway: {route_table: ingress}\n", gateways),
        (f"{route}internet-gateway}}", f"{route}egress-only-internet-gateway}}"),
    )
    result = through(Network(text), "app", IPv6(src=APP6, dst=FAR6) / UDP(sport=1, dport=2))
    assert (result.reason, result.sent) == (Reason.EGRESS_ONLY_ENDPOINT, ())


@behaviour("What comes out of one endpoint may be routed to another one", silent=True, source=ROUTING)
def test_two_in_a_row() -> None:
    zone_a = "availability_zone: a"
    again = '          - {destination: 10.0.3.0/24, target: "vpc-endpoint:again"}\n'
    offered = "{gateway_load_balancer: inspection, acceptance_required: false}"
    text = after(LAB, "      gwlbe:\n        routes:\n", again)
    text = after(text, "    subnets:\n", f"      second: {{cidr: 10.0.4.0/24, {zone_a}}}\n")
    text = after(text, f"id: {ID}}}\n", "      again: {service: security/more, subnet: second}\n")
    text = after(text, "    endpoint_services:\n", f"      more: {offered}\n")
    network = Network(text)
    first = delivered(network.send("app", QUERY))
    second = delivered(send_back(network, first))
    assert first.endpoint != second.endpoint
    assert send_back(network, second).to == "db"


# -- what it does to a packet


@behaviour("A packet comes out of an endpoint as it went in, but for its TTL", source=ROUTING)
def test_unchanged() -> None:
    packet = IP(src=APP, dst=DB, ttl=64, tos=184, id=7, flags="DF") / UDP(sport=5000, dport=53) / Raw(b"question")
    result = through(Network(LAB), "app", packet)
    packet.ttl = result.packet.ttl
    assert (result.to, bytes(result.packet)) == ("db", bytes(packet))


@behaviour(
    "An endpoint takes one of the TTL on each of both ways, so that an appliance sees one less",
    silent=True,
    source=ROUTING,
)
def test_ttl() -> None:
    network = Network(LAB)
    got = delivered(network.send("app", QUERY))
    assert (got.packet.ttl, send_back(network, got).packet.ttl) == (63, 62)


@behaviour("Nobody is told of a TTL that ends at an endpoint", silent=True, source=ROUTING)
@pytest.mark.parametrize("ttl", [1, 2])
def test_ttl_ends(ttl: int) -> None:
    network = Network(LAB)
    packet = QUERY.copy()
    packet.ttl = ttl
    result = network.send("app", packet) if ttl == 1 else through(network, "app", packet)
    assert (result.reason, result.sent) == (Reason.TTL_EXCEEDED, ())


@behaviour("A packet over 8500 bytes is dropped at a gateway load balancer endpoint, and nobody is told", source=QUOTAS)
@pytest.mark.parametrize("flags", ["", "DF"])
def test_too_big(flags: str) -> None:
    network = Network(LAB)
    result = network.send("app", IP(src=APP, dst=DB, flags=flags) / UDP(sport=1, dport=2) / Raw(bytes(8473)))
    assert (result.reason, result.sent) == (Reason.MTU_EXCEEDED, ())
    head = IPv6(src=APP6, dst=FAR6) / UDP(sport=1, dport=2)
    assert network.send("app", head / Raw(bytes(8453))).sent == ()
    assert len(delivered(network.send("app", head / Raw(bytes(8452)))).inside) == 8500


@behaviour(
    "A packet over 8500 bytes that a target sends back is dropped at the load balancer, and nobody is told",
    source=BALANCER,
)
@pytest.mark.parametrize("flags", ["", "DF"])
def test_too_big_on_the_way_back(flags: str) -> None:
    network = Network(LAB)
    got = delivered(network.send("app", QUERY))
    for size, passes in ((8500, True), (8501, False), (8900, False)) * 2:
        packet = IP(src=APP, dst=DB, ttl=63, flags=flags) / UDP(sport=5000, dport=53) / Raw(bytes(size - 28))
        result = send_back(network, got, inside=bytes(packet))
        assert result.reason is (Reason.NONE if passes else Reason.MTU_EXCEEDED)
        assert [len(sent.packet) for sent in result.sent] == [size] * passes


@behaviour("A packet of 8500 bytes passes whole: what encapsulation adds does not count", source=BALANCER)
def test_big() -> None:
    network = Network(LAB)
    got = delivered(network.send("app", IP(src=APP, dst=DB, flags="DF") / UDP(sport=1, dport=2) / Raw(bytes(8472))))
    assert len(got.outer) == 8568
    assert len(send_back(network, got).packet) == 8500


@behaviour(
    "TCP with 9001-byte interfaces does not stall at an endpoint: its SYNs are told a smaller segment size",
    source=QUOTAS,
)
@pytest.mark.parametrize(("asked", "left"), [(8961, 8460), (8460, 8460), (1460, 1460)])
def test_segment_size(asked: int, left: int) -> None:
    network = Network(LAB)
    there = IP(src=APP, dst=DB) / TCP(sport=1, dport=2, flags="S", options=[("MSS", asked)])
    back = IP(src=DB, dst=APP) / TCP(sport=2, dport=1, flags="SA", options=[("MSS", asked)])
    for node, packet in (("app", there), ("db", back)):
        got = delivered(network.send(node, packet)).packet
        assert dict(got[TCP].options)["MSS"] == left
        whole = bytes(got)
        del got[TCP].chksum
        assert bytes(got) == whole, "the checksum fits"


@behaviour("For IPv6 the segment size leaves room for its longer header: 8440", source=QUOTAS)
def test_segment_size_of_ipv6() -> None:
    syn = IPv6(src=APP6, dst=FAR6) / TCP(sport=1, dport=2, flags="S", options=[("MSS", 8941)])
    assert dict(delivered(Network(LAB).send("app", syn)).packet[TCP].options)["MSS"] == 8440


@behaviour(
    "The router of an endpoint's subnet tells the sender that the internet gateway takes 1500 bytes of what was "
    "inspected",
    silent=True,
    source=ROUTING,
)
def test_too_big_behind_it() -> None:
    big = IP(src=APP, dst=FAR, flags="DF") / UDP(sport=5000, dport=53) / Raw(bytes(1473))
    result = through(Network(LAB), "app", big)
    [sent] = result.sent
    assert (sent.node, sent.cause, sent.packet.src, sent.packet[ICMP].nexthopmtu) == (
        "app",
        Cause.ERROR,
        "10.0.1.1",
        1500,
    )


# -- who decides at it


@behaviour("An endpoint has no security group: the network ACL of its subnet decides what comes in", source=PAGE)
def test_acl_in() -> None:
    rule = "{rule: 1, protocol: udp, ports: 53, cidr: 10.0.2.0/24, action: deny}"
    network = Network(with_acl("gwlbe", "ingress", rule))
    assert network.send("app", QUERY).reason is Reason.ACL_INGRESS
    assert through(network, "app", IP(src=APP, dst=DB) / UDP(sport=5000, dport=54)).to == "db"


@behaviour("And what leaves it for another subnet, by the addresses of what is inside", source=PAGE)
def test_acl_out() -> None:
    rule = "{rule: 1, protocol: udp, ports: 53, cidr: 10.0.3.0/24, action: deny}"
    network = Network(with_acl("gwlbe", "egress", rule))
    assert through(network, "app", QUERY).reason is Reason.ACL_EGRESS
    assert through(network, "app", IP(src=APP, dst=DB) / UDP(sport=5000, dport=54)).to == "db"


@behaviour(
    "A security group rule that names the sender's group does not admit what came through an endpoint: one for its "
    "addresses does",
    source=vpc_guide("security-group-rules"),
)
def test_group_reference() -> None:
    everybody = 'ingress: [{protocol: all, source: 0.0.0.0/0}, {protocol: all, source: "::/0"}]'
    text = LAB.replace(everybody, 'ingress: [{protocol: all, source: "group:self"}]', 1)
    assert through(Network(text), "app", QUERY).reason is Reason.GROUP_INGRESS
    direct = text.replace('          - {destination: 10.0.3.0/24, target: "vpc-endpoint:inspect"}\n', "", 1)
    assert Network(direct).send("app", QUERY).to == "db"
    by_address = LAB.replace(everybody, "ingress: [{protocol: all, source: 10.0.2.0/24}]", 1)
    assert through(Network(by_address), "app", QUERY).to == "db"


@behaviour("An endpoint answers nothing that is sent to its own address", silent=True, source=PAGE)
@pytest.mark.parametrize("packet", [ICMP(), UDP(sport=1, dport=6081), TCP(dport=443, flags="S")])
def test_endpoint_is_silent(packet: Any) -> None:
    result = Network(LAB).send("neighbour", IP(src="10.0.1.20", dst="10.0.1.10") / packet)
    assert (result.reason, result.sent) == (Reason.ENDPOINT_ADDRESSED, ())


@behaviour(
    "The service begins nothing through an endpoint: it returns packets of the VPC's own flows only", source=PAGE
)
def test_service_begins_nothing() -> None:
    network = Network(ONE)
    got = delivered(network.send("app", QUERY))
    own = IP(src="10.9.1.21", dst=APP) / TCP(sport=1, dport=22, flags="S")
    assert network.send("fw1", answer(got, inside=bytes(own))).sent == ()
    assert network.send("fw1", own).sent == ()


@behaviour(
    "VPCs with the same addresses use one service side by side: a packet comes back to the endpoint it came from",
    silent=True,
    source=ROUTING,
)
def test_same_addresses() -> None:
    network = Network(LAB)
    one, other = delivered(network.send("app", QUERY)), delivered(network.send("app2", QUERY))
    assert one.packet == other.packet
    assert (one.endpoint.hex(), other.endpoint.hex()) == ("f583215d2e66b39c", "0000000000000001")
    assert [send_back(network, each).to for each in (other, one)] == ["db2", "db"]
