"""NAT gateways: several addresses, private connectivity, resets, what they count.

https://docs.aws.amazon.com/vpc/latest/userguide/nat-gateway-basics.html
https://docs.aws.amazon.com/vpc/latest/userguide/nat-gateway-troubleshooting.html
https://docs.aws.amazon.com/vpc/latest/userguide/metrics-dimensions-nat-gateway.html
"""

from __future__ import annotations

from ipaddress import ip_address
from typing import Any

import pytest
from scapy.layers.inet import ICMP, IP, TCP, UDP

from dataplane.verdict import Cause, Reason, Verdict
from tests.scenario.labs import SHOP
from tests.scenario.network import Network

APP, OPEN, EXAMPLE, EIP = "10.0.2.10", "10.0.2.11", "198.51.100.10", "203.0.113.10"
NAT = "nat: {subnet: public, elastic_ip: 203.0.113.10, private_ip: 10.0.1.5}"
TWO = SHOP.replace(
    NAT,
    "nat: {subnet: public, elastic_ip: 203.0.113.10, private_ip: 10.0.1.5, secondary_private_ips: [10.0.1.6],"
    " secondary_elastic_ips: [203.0.113.11]}",
)
PRIVATE = SHOP.replace(NAT, "nat: {subnet: public, connectivity: private, private_ip: 10.0.1.5}")


def by_nat_to_the_peer(text: str) -> str:
    """The lab, but that subnet private reaches the peer VPC through its NAT gateway."""
    way, tail = "{destination: 10.1.0.0/16, target: ", "}\n          - {destination: 198"
    return text.replace(f'{way}"peering:shop-store"{tail}', f'{way}"nat-gateway:nat"{tail}')


def tcp(source: str = APP, **words: Any) -> IP:
    return IP(src=source, dst=EXAMPLE) / TCP(**{"sport": 33000, "dport": 80, "flags": "S", **words})


def metrics(net: Network) -> dict[str, int]:
    found: dict[str, int] = net.plane.nat_metrics()["shop/nat"]
    return {name: value for name, value in found.items() if value}


def test_connections_use_every_address_and_keep_theirs() -> None:
    net = Network(TWO)
    first = [net.send("app", tcp(sport=n)).packet for n in range(1000, 1064)]
    again = [net.send("app", tcp(sport=n)).packet for n in range(1000, 1064)]
    seen = [(packet.src, packet[TCP].sport) for packet in first]
    assert seen == [(packet.src, packet[TCP].sport) for packet in again]
    assert {source for source, _ in seen} <= {EIP, "203.0.113.11"}
    assert len(set(seen)) == 64


def test_answers_come_in_by_the_address_of_the_connection_only() -> None:
    net = Network(TWO)
    there = net.send("app", tcp()).packet
    [other] = {EIP, "203.0.113.11"} - {there.src}
    answer = IP(src=EXAMPLE, dst=there.src) / TCP(sport=80, dport=there[TCP].sport, flags="SA")
    assert (net.send("example", answer).to, net.send("example", answer).packet[TCP].dport) == ("app", 33000)
    answer.dst = other
    assert net.send("example", answer).reason is Reason.NAT_NO_SESSION


def test_neighbours_find_every_address() -> None:
    net = Network(TWO)
    port = net.port("bare")
    macs = {net.plane.next_mac(port, ip_address(address)) for address in ("10.0.1.5", "10.0.1.6")}
    assert len(macs) == 1
    assert macs != {net.plane.interface(port).router_mac}
    for address in ("10.0.1.5", "10.0.1.6"):
        result = net.send("bare", IP(src="10.0.1.11", dst=address) / ICMP())
        assert (result.reason, result.by) == (Reason.NAT_NO_SESSION, "nat-gateway shop/nat")


def test_errors_of_its_own_come_from_the_primary_address() -> None:
    net = Network(TWO)
    for n in range(16):
        result = net.send("app", IP(src=APP, dst=EXAMPLE, ttl=1) / UDP(sport=n, dport=33434))
        assert result.packet.src == "10.0.1.5"


def test_private_gateway_leads_to_peers_and_not_to_the_internet() -> None:
    net = Network(by_nat_to_the_peer(PRIVATE))
    there = net.send("app", IP(src=APP, dst="10.1.1.10") / ICMP(id=7))
    assert (there.to, there.packet.src) == ("db", "10.0.1.5")
    result = net.send("app", tcp())
    assert (result.reason, result.by) == (Reason.PUBLIC_SOURCE_MISSING, "internet-gateway shop")


@pytest.mark.parametrize(
    ("flags", "data", "answer"),
    [
        ("A", 0, ("R", 77, 0)),
        ("PA", 100, ("R", 77, 0)),
        ("SA", 0, ("R", 77, 0)),
        ("FA", 3, ("R", 77, 0)),
        ("F", 10, ("RA", 0, 1011)),
        ("P", 10, ("RA", 0, 1010)),
        ("", 0, ("RA", 0, 1000)),
    ],
)
def test_segment_of_no_connection_gets_a_reset(flags: str, data: int, answer: tuple[str, int, int]) -> None:
    """RFC 9293, section 3.10.7.1: from the far end, acceptable to who sent it."""
    net = Network(SHOP)
    segment = tcp(OPEN, flags=flags, seq=1000, ack=77 if "A" in flags else 0) / bytes(data)
    result = net.send("open", segment)
    assert (result.verdict, result.reason, result.by) == (Verdict.DROP, Reason.NAT_NO_SESSION, "nat-gateway shop/nat")
    [sent] = result.sent
    assert (sent.node, sent.cause, sent.parent) == ("open", Cause.RESET, 0)
    expected = IP(src=EXAMPLE, dst=OPEN, id=0, ttl=64) / TCP(
        sport=80, dport=33000, flags=answer[0], seq=answer[1], ack=answer[2], window=0
    )
    assert bytes(sent.packet) == bytes(expected)


def test_connection_that_died_of_silence_is_reset_when_its_client_goes_on() -> None:
    """ "Internet connection drops after 350 seconds": never a FIN."""
    net = Network(SHOP)
    port = net.send("app", tcp()).packet[TCP].sport
    net.send("example", IP(src=EXAMPLE, dst=EIP) / TCP(sport=80, dport=port, flags="SA"))
    net.send("app", tcp(flags="A"))
    net.wait(350)
    [sent] = net.send("app", tcp(flags="PA", ack=5) / b"late").sent
    assert (sent.cause, sent.packet[TCP].flags, sent.packet[TCP].seq) == (Cause.RESET, "R", 5)
    assert metrics(net)["IdleTimeoutCount"] == 1


@pytest.mark.parametrize("flags", ["R", "RA", "SR"])
def test_reset_gets_none(flags: str) -> None:
    result = Network(SHOP).send("app", tcp(flags=flags))
    assert (result.reason, result.sent) == (Reason.NAT_NO_SESSION, ())


def test_segment_from_outside_or_for_the_gateway_itself_gets_none() -> None:
    net = Network(SHOP)
    late = net.send("example", IP(src=EXAMPLE, dst=EIP) / TCP(sport=80, dport=5000, flags="A"))
    own = net.send("open", IP(src=OPEN, dst="10.0.1.5") / TCP(flags="A"))
    assert [(each.reason, each.sent) for each in (late, own)] == [(Reason.NAT_NO_SESSION, ())] * 2


def test_reset_is_for_the_acl_of_the_gateways_subnet_to_let_out() -> None:
    acl = (
        "{ingress: [{rule: 1, protocol: all, cidr: 0.0.0.0/0, action: allow}],"
        " egress: [{rule: 1, protocol: all, cidr: 10.0.2.10/32, action: deny},"
        " {rule: 2, protocol: all, cidr: 0.0.0.0/0, action: allow}]}"
    )
    text = SHOP.replace("zone: a, route_table: public}", "zone: a, route_table: public, network_acl: edge}")
    groups = "    security_groups:\n"
    text = text.replace(groups, f"    network_acls: {{edge: {acl}}}\n{groups}", 1)
    net = Network(text)
    assert net.send("app", tcp(flags="A")).sent == ()
    assert [each.cause for each in net.send("open", tcp(OPEN, flags="A")).sent] == [Cause.RESET]


def test_it_counts_what_comes_and_goes_on_both_sides() -> None:
    """Bytes of the IP packet: 40 each way, and 100 of data."""
    net = Network(SHOP)
    assert metrics(net) == {}
    port = net.send("app", tcp()).packet[TCP].sport
    assert metrics(net) == {
        "ActiveConnectionCount": 1,
        "ConnectionAttemptCount": 1,
        "PacketsInFromSource": 1,
        "BytesInFromSource": 40,
        "PacketsOutToDestination": 1,
        "BytesOutToDestination": 40,
    }
    net.send("example", IP(src=EXAMPLE, dst=EIP) / TCP(sport=80, dport=port, flags="SA"))
    net.send("app", tcp(flags="A") / bytes(100))
    assert metrics(net) == {
        "ActiveConnectionCount": 1,
        "ConnectionAttemptCount": 1,
        "ConnectionEstablishedCount": 1,
        "PacketsInFromSource": 2,
        "BytesInFromSource": 180,
        "PacketsOutToDestination": 2,
        "BytesOutToDestination": 180,
        "PacketsInFromDestination": 1,
        "BytesInFromDestination": 40,
        "PacketsOutToSource": 1,
        "BytesOutToSource": 40,
    }
    net.send("app", tcp(flags="R"))
    assert "ActiveConnectionCount" not in metrics(net)


def test_it_counts_drops_and_not_its_own_packets() -> None:
    net = Network(SHOP)
    net.send("app", tcp(flags="A"))  # a reset
    net.send("app", IP(src=APP, dst=EXAMPLE, ttl=1) / UDP(sport=1, dport=2))  # time exceeded
    net.send("open", IP(src=OPEN, dst=EXAMPLE, proto=50) / bytes(20))
    net.send("example", IP(src=EXAMPLE, dst=EIP) / UDP(sport=9, dport=9))
    found = metrics(net)
    assert (found["PacketsInFromSource"], found["PacketsInFromDestination"], found["PacketsDropCount"]) == (3, 1, 4)
    assert not {name for name in found if "Out" in name}


def test_it_counts_errors_that_come_back() -> None:
    net = Network(SHOP)
    sent = net.send("app", IP(src=APP, dst=EXAMPLE) / UDP(sport=1, dport=2)).packet
    assert net.send("example", IP(src=EXAMPLE, dst=EIP) / ICMP(type=3, code=3) / bytes(sent)).to == "app"
    assert (metrics(net)["PacketsInFromDestination"], metrics(net)["BytesOutToSource"]) == (1, 56)


def test_it_counts_who_died_of_silence_of_any_protocol_but_not_the_closed() -> None:
    net = Network(SHOP)
    net.send("app", IP(src=APP, dst=EXAMPLE) / UDP(sport=1, dport=2))
    net.send("app", IP(src=APP, dst=EXAMPLE) / ICMP(id=1))
    net.send("app", tcp())
    net.send("app", tcp(sport=1))
    net.send("app", tcp(sport=1, flags="R"))
    net.wait(349.999)
    assert "IdleTimeoutCount" not in metrics(net)
    net.wait(0.001)
    assert metrics(net)["IdleTimeoutCount"] == 3
    net.send("app", tcp())
    net.wait(350)
    net.send("app", tcp())
    assert metrics(net)["IdleTimeoutCount"] == 4


def test_closed_connection_begun_anew_is_another_attempt() -> None:
    net = Network(SHOP)
    for flags in ("S", "R", "S"):
        net.send("app", tcp(flags=flags))
    found = metrics(net)
    assert (found["ConnectionAttemptCount"], found["ActiveConnectionCount"]) == (2, 1)
    assert "IdleTimeoutCount" not in found


def test_what_comes_by_peering_for_its_own_address_is_counted() -> None:
    net = Network(SHOP)
    result = net.send("db", IP(src="10.1.1.10", dst="10.0.1.5") / UDP())
    assert (result.reason, metrics(net)["PacketsInFromDestination"]) == (Reason.NAT_NO_SESSION, 1)


def test_nat_between_subnets_counts_both_directions() -> None:
    """A route more specific than local (Subnet route tables): clients in `private` reach `public` through it."""
    text = SHOP.replace(
        "- {destination: 198.51.100.128/25, target: blackhole}",
        '- {destination: 10.0.1.0/24, target: "nat-gateway:nat"}',
    )
    net = Network(text)
    there = net.send("app", IP(src=APP, dst="10.0.1.11") / UDP(sport=5, dport=6))
    assert (there.to, there.packet.src) == ("bare", "10.0.1.5")
    back = net.send("bare", IP(src="10.0.1.11", dst="10.0.1.5") / UDP(sport=6, dport=there.packet[UDP].sport))
    assert (back.to, back.packet.src, back.packet[UDP].dport) == ("app", "10.0.1.11", 5)
    assert (metrics(net)["PacketsOutToDestination"], metrics(net)["PacketsOutToSource"]) == (1, 1)


def test_flows_of_an_address_the_gateway_has_lost_are_gone() -> None:
    """ "If you change the NAT gateway, existing connections end" (VPC User Guide, "Compare NAT devices")."""

    route = "{destination: 198.51.100.128/25, target: blackhole}"
    way = '{destination: 10.0.1.0/24, target: "nat-gateway:nat"}'
    assert route in PRIVATE
    first, second = (text.replace(route, way) for text in (PRIVATE.replace("10.0.1.5", "10.0.1.7"), PRIVATE))
    net = Network(first)
    bare = IP(src=APP, dst="10.0.1.11")
    assert net.send("app", bare / UDP(sport=5, dport=6)).packet.src == "10.0.1.7"
    assert net.send("app", bare / TCP(sport=7, dport=80)).packet.src == "10.0.1.7"
    net.apply(second)
    assert net.send("app", bare / UDP(sport=5, dport=6)).packet.src == "10.0.1.5"
    late = net.send("app", bare / TCP(sport=7, dport=80, flags="A"))
    assert (late.reason, [sent.cause for sent in late.sent]) == (Reason.NAT_NO_SESSION, [Cause.RESET])


def test_gateway_whose_own_subnet_leads_to_it_goes_in_circles() -> None:
    """A common mistake: the NAT gateway lives in the subnet it is for."""
    net = Network(SHOP.replace("nat: {subnet: public,", "nat: {subnet: private,").replace("10.0.1.5", "10.0.2.5"))
    result = net.send("app", tcp())
    assert (result.reason, result.by) == (Reason.LOOP, "nat-gateway shop/nat")
    assert len([each for each in net.plane.engine.sessions() if each["kind"] == "nat"]) == 1


def test_connection_is_established_by_the_first_acknowledgement_whatever_came_before() -> None:
    """Segments without ACK are no reason to overlook the one that has it (RFC 9293, section 3.10.7.4)."""
    net = Network(SHOP)
    port = net.send("app", tcp()).packet[TCP].sport
    net.send("example", IP(src=EXAMPLE, dst=EIP) / TCP(sport=80, dport=port, flags="SA"))
    for flags in ("", "", "A"):
        assert net.send("app", tcp(flags=flags)).to == "example"
    assert metrics(net)["ConnectionEstablishedCount"] == 1


def test_what_came_through_a_nat_gateway_is_tracked_behind_a_peering_too() -> None:
    """EC2 User Guide, "Automatically tracked connections": rules that would leave it untracked may go meanwhile."""
    text = by_nat_to_the_peer(SHOP)
    rules = '[{protocol: icmp, source: 10.0.0.0/16}, {protocol: tcp, ports: 5432, source: "group:shop/app"}]'
    net = Network(text.replace(rules, "[{protocol: all, source: 0.0.0.0/0}]"))
    there = net.send("app", IP(src=APP, dst="10.1.1.10") / UDP(sport=5000, dport=53))
    assert (there.to, there.packet.src) == ("db", "10.0.1.5")
    net.apply(text.replace(rules, "[]\n        egress: []"))
    answer = IP(src="10.1.1.10", dst="10.0.1.5") / UDP(sport=53, dport=there.packet[UDP].sport)
    assert net.send("db", answer).to == "app"
