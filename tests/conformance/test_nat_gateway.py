"""NAT gateways: who is translated, to what, and who is not."""

from __future__ import annotations

import pytest
from scapy.layers.inet import ICMP, IP, TCP, UDP, fragment

from dataplane.verdict import Reason, Verdict
from tests.conformance.behaviours import behaviour
from tests.conformance.labs import VPC, changed
from tests.conformance.sources import ec2_guide, reachability, rfc, vpc_guide
from tests.scenario.network import Network

SECTION = "NAT gateways"

B1, B2, FAR, OTHER = "10.0.2.11", "10.0.2.12", "198.51.100.10", "198.51.100.77"
NAT, PUBLIC = "10.0.1.5", "203.0.113.10"
BASICS = vpc_guide("nat-gateway-basics")
TROUBLE = vpc_guide("nat-gateway-troubleshooting")
COMPARED = vpc_guide("vpc-nat-comparison")


@behaviour(
    "Behind a public NAT gateway the outside sees its Elastic IP and a port from 1024 to 65535, and answers come back",
    source=BASICS,
    item=24,
)
def test_source_is_translated() -> None:
    network = Network(VPC)
    for own in (22, 1023, 33000, 65535):
        seen = network.send("b1", IP(src=B1, dst=FAR) / TCP(sport=own, dport=80))
        assert (seen.to, seen.packet.src) == ("far", PUBLIC)
        port = seen.packet[TCP].sport
        assert 1024 <= port <= 65535
        answer = network.send("far", IP(src=FAR, dst=PUBLIC) / TCP(sport=80, dport=port, flags="SA"))
        assert (answer.to, answer.packet.src, answer.packet.dst, answer.packet[TCP].dport) == ("b1", FAR, B1, own)


@behaviour("A NAT gateway never changes the destination or its port", source=reachability())
def test_destination_is_kept() -> None:
    seen = Network(VPC).send("b1", IP(src=B1, dst=FAR) / UDP(sport=5, dport=53) / b"abc").packet
    assert (seen.dst, seen[UDP].dport, bytes(seen[UDP].payload)) == (FAR, 53, b"abc")


@behaviour(
    "Two clients that use one port get two ports at the NAT gateway, and each gets its own answers", source=BASICS
)
def test_clients_are_kept_apart() -> None:
    network = Network(VPC)
    ports = {
        node: network.send(node, IP(src=own, dst=FAR) / UDP(sport=500, dport=53)).packet[UDP].sport
        for node, own in (("b1", B1), ("b2", B2))
    }
    assert ports["b1"] != ports["b2"]
    for node, port in ports.items():
        answer = network.send("far", IP(src=FAR, dst=PUBLIC) / UDP(sport=53, dport=port))
        assert (answer.to, answer.packet[UDP].dport) == (node, 500)


@behaviour("Only who was asked may answer through a NAT gateway, from the port that was asked", source=rfc(4787, "5"))
def test_who_may_answer() -> None:
    network = Network(VPC)
    port = network.send("b1", IP(src=B1, dst=FAR) / UDP(sport=500, dport=53)).packet[UDP].sport
    wrong = [("other", OTHER, 53, port), ("far", FAR, 54, port), ("far", FAR, 53, port ^ 1)]
    for node, source, sport, dport in wrong:
        result = network.send(node, IP(src=source, dst=PUBLIC) / UDP(sport=sport, dport=dport))
        assert (result.reason, result.sent) == (Reason.NAT_NO_SESSION, ())


@behaviour(
    "A NAT gateway answers no ping, at its Elastic IP or its private address, and forwards no ESP",
    source=TROUBLE,
    item=28,
)
def test_it_answers_nobody() -> None:
    network = Network(VPC)
    for node, source, destination in (("far", FAR, PUBLIC), ("b1", B1, NAT), ("a1", "10.0.1.11", NAT)):
        for body in (ICMP(id=7), TCP(sport=5, dport=22), UDP(sport=5, dport=33434)):
            result = network.send(node, IP(src=source, dst=destination) / body)
            assert (result.verdict, result.sent) == (Verdict.DROP, ())
    result = network.send("b1", IP(src=B1, dst=FAR, proto=50) / bytes(24))
    assert (result.reason, result.sent) == (Reason.NAT_PROTOCOL, ())


@behaviour("A NAT gateway translates TCP, UDP and ICMP, and nothing else", source=BASICS)
@pytest.mark.parametrize("protocol", [4, 41, 47, 51, 89, 132])
def test_protocols(protocol: int) -> None:
    result = Network(VPC).send("b1", IP(src=B1, dst=FAR, proto=protocol) / bytes(32))
    assert (result.reason, result.sent) == (Reason.NAT_PROTOCOL, ())


@behaviour(
    "Fragments of UDP pass a NAT gateway; fragments of TCP and ICMP do not",
    source=COMPARED,
    item=27,
)
def test_fragments() -> None:
    network = Network(VPC)
    results = network.send_all("b1", fragment(IP(src=B1, dst=FAR, id=9) / UDP(sport=5, dport=6) / bytes(3000), 1400))
    assert [(r.to, r.packet.src) for r in results] == [("far", PUBLIC)] * 3
    port = results[0].packet[UDP].sport
    answer = fragment(IP(src=FAR, dst=PUBLIC, id=10) / UDP(sport=6, dport=port) / bytes(3000), 1400)
    assert [(r.to, r.packet.dst) for r in network.send_all("far", answer)] == [("b1", B1)] * 3
    for number, body in enumerate((TCP(sport=5, dport=6), ICMP(id=7))):
        pieces = fragment(IP(src=B1, dst=FAR, id=20 + number) / body / bytes(3000), 1400)
        assert {(r.reason, r.sent) for r in network.send_all("b1", pieces)} == {(Reason.NAT_FRAGMENT, ())}


@behaviour(
    "A ping through a NAT gateway has an identifier of the gateway's outside, and the client's own in the answer",
    source=rfc(5508, "3.1"),
)
def test_ping() -> None:
    network = Network(VPC)
    seen = [
        network.send(n, IP(src=s, dst=FAR) / ICMP(id=7, seq=2) / b"abc").packet for n, s in (("b1", B1), ("b2", B2))
    ]
    assert seen[0][ICMP].id != seen[1][ICMP].id
    for node, packet in zip(("b1", "b2"), seen, strict=True):
        answer = network.send("far", IP(src=FAR, dst=PUBLIC) / ICMP(type=0, id=packet[ICMP].id, seq=2) / b"abc")
        assert (answer.to, answer.packet[ICMP].id, answer.packet[ICMP].seq) == (node, 7, 2)


@behaviour(
    "An ICMP error about what a NAT gateway translated reaches the client with the packet it sent quoted",
    source=rfc(5508, "4.2"),
)
def test_errors() -> None:
    network = Network(VPC)
    sent = IP(src=B1, dst=FAR) / UDP(sport=40000, dport=9) / b"abc"
    outside = network.send("b1", sent).packet
    for node, source in (("far", FAR), ("other", OTHER)):
        error = network.send(node, IP(src=source, dst=PUBLIC) / ICMP(type=3, code=3) / IP(bytes(outside)))
        quoted = IP(bytes(error.sent[0].ether)[14 + 28 :])
        assert (error.to, error.packet.src, error.packet.dst) == ("b1", source, B1)
        assert bytes(quoted.payload) == bytes(sent.payload)
        assert (quoted.src, quoted.dst) == (B1, FAR)


@behaviour(
    "An ICMP error that a client behind a NAT gateway sends reaches the far end, about what that sent",
    source=rfc(5508, "4.2"),
)
def test_errors_of_clients() -> None:
    network = Network(VPC)
    port = network.send("b1", IP(src=B1, dst=FAR) / UDP(sport=500, dport=53)).packet[UDP].sport
    answer = IP(src=FAR, dst=PUBLIC) / UDP(sport=53, dport=port) / b"abc"
    seen = network.send("far", answer).packet
    error = network.send("b1", IP(src=B1, dst=FAR) / ICMP(type=3, code=3) / IP(bytes(seen)))
    quoted = IP(bytes(error.sent[0].ether)[14 + 28 :])
    assert (error.to, error.packet.src, error.packet[ICMP].code) == ("far", PUBLIC, 3)
    assert (quoted.src, quoted.dst, bytes(quoted.payload)) == (FAR, PUBLIC, bytes(IP(bytes(answer)).payload))
    stray = IP(src=B1, dst=FAR) / ICMP(type=3, code=3) / IP(src=FAR, dst=B1) / UDP(sport=54, dport=500)
    assert network.send("b1", stray).sent == ()


@behaviour(
    "The network ACL of a NAT gateway's subnet is passed four times in a round trip",
    source=BASICS,
)
@pytest.mark.parametrize(
    "closed", ["", "ingress 10.0.2.0/24", "egress 10.0.2.0/24", "ingress 0.0.0.0/0", "egress 0.0.0.0/0"]
)
def test_acl_of_its_subnet(closed: str) -> None:
    """From and to the client, from and to the far end; one of them closed."""
    rules = {
        "ingress 10.0.2.0/24": "{rule: 1, protocol: udp, ports: 53, cidr: 10.0.2.0/24, action: ACTION}",
        "ingress 0.0.0.0/0": "{rule: 2, protocol: udp, ports: 1024-65535, cidr: 0.0.0.0/0, action: ACTION}",
        "egress 0.0.0.0/0": "{rule: 1, protocol: udp, ports: 53, cidr: 0.0.0.0/0, action: ACTION}",
        "egress 10.0.2.0/24": "{rule: 2, protocol: udp, ports: 500, cidr: 10.0.2.0/24, action: ACTION}",
    }
    text = {name: rule.replace("ACTION", "deny" if name == closed else "allow") for name, rule in rules.items()}
    acl = "    network_acls: {nat: {" + ", ".join(
        f"{way}: [{', '.join(text[name] for name in text if name.startswith(way))}]" for way in ("ingress", "egress")
    )
    network = Network(
        changed(
            VPC,
            ("    security_groups:\n", acl + "}}\n    security_groups:\n"),
            ("route_table: public}", "route_table: public, network_acl: nat}"),
        )
    )
    out = network.send("b1", IP(src=B1, dst=FAR) / UDP(sport=500, dport=53))
    if closed in ("ingress 10.0.2.0/24", "egress 0.0.0.0/0"):
        assert out.reason is (Reason.ACL_INGRESS if closed.startswith("i") else Reason.ACL_EGRESS)
        return
    answer = network.send("far", IP(src=FAR, dst=PUBLIC) / UDP(sport=53, dport=out.packet[UDP].sport))
    if closed:
        assert answer.reason is (Reason.ACL_INGRESS if closed.startswith("i") else Reason.ACL_EGRESS)
    else:
        assert answer.to == "b1"


@behaviour(
    "A NAT gateway in a subnet without a route to the internet gateway forwards nothing to the internet", source=TROUBLE
)
def test_without_a_route() -> None:
    network = Network(changed(VPC, ("routes: [{destination: 0.0.0.0/0, target: internet-gateway}, ", "routes: [")))
    result = network.send("b1", IP(src=B1, dst=FAR) / UDP(sport=5, dport=53))
    assert (result.reason, result.sent) == (Reason.NO_ROUTE, ())


@behaviour(
    "A route more specific than local may lead to a NAT gateway: it translates between subnets of a VPC",
    source=vpc_guide("subnet-route-tables"),
)
def test_between_subnets() -> None:
    network = Network(
        changed(
            VPC,
            (
                'destination: 0.0.0.0/0, target: "nat-gateway:nat"',
                'destination: 10.0.1.0/24, target: "nat-gateway:nat"',
            ),
        )
    )
    seen = network.send("b1", IP(src=B1, dst="10.0.1.12") / UDP(sport=5, dport=53))
    assert (seen.to, seen.packet.src) == ("a2", NAT)
    answer = network.send("a2", IP(src="10.0.1.12", dst=NAT) / UDP(sport=53, dport=seen.packet[UDP].sport))
    assert (answer.to, answer.packet.src, answer.packet[UDP].dport) == ("b1", "10.0.1.12", 5)


@behaviour(
    "Security groups track what goes by a NAT gateway, though rules for everything would not be: it outlives its rule, "
    "and the group sees the far end's own address",
    source=ec2_guide("security-group-connection-tracking"),
)
def test_flows_are_tracked() -> None:
    network = Network(VPC)
    port = network.send("b1", IP(src=B1, dst=FAR) / UDP(sport=5, dport=53)).packet[UDP].sport
    network.apply(
        changed(VPC, ("{protocol: all, source: 0.0.0.0/0}", "{protocol: tcp, ports: 22, source: 203.0.113.0/24}"))
    )
    answer = network.send("far", IP(src=FAR, dst=PUBLIC) / UDP(sport=53, dport=port))
    assert (answer.to, answer.packet.src) == ("b1", FAR)


@behaviour(
    "A route that is moved from one NAT gateway to another breaks the connections that were open", source=COMPARED
)
def test_another_gateway() -> None:
    two = changed(
        VPC, ("      nat: {subnet", "      new: {subnet: public, elastic_ip: 203.0.113.14}\n      nat: {subnet")
    )
    network = Network(two)
    network.send("b1", IP(src=B1, dst=FAR) / TCP(sport=5000, dport=80))
    network.apply(changed(two, ('target: "nat-gateway:nat"', 'target: "nat-gateway:new"')))
    late = network.send("b1", IP(src=B1, dst=FAR) / TCP(sport=5000, dport=80, flags="A"))
    assert late.reason is Reason.NAT_NO_SESSION
    assert network.send("b1", IP(src=B1, dst=FAR) / TCP(sport=5001, dport=80)).packet.src == "203.0.113.14"
