"""NAT gateway (VPC User Guide, "NAT gateway basics" and "Troubleshoot NAT gateways")."""

from __future__ import annotations

import pytest
from scapy.layers.inet import ICMP, IP, TCP, UDP, fragment

from dataplane.verdict import Cause, Reason, Verdict
from tests.scenario.labs import SHOP
from tests.scenario.network import Network

APP, EXAMPLE, EIP = "10.0.2.10", "198.51.100.10", "203.0.113.10"


@pytest.fixture
def shop() -> Network:
    return Network(SHOP)


def test_outside_sees_the_elastic_ip_and_a_port_from_1024_up(shop: Network) -> None:
    result = shop.send("app", IP(src=APP, dst=EXAMPLE, ttl=64) / TCP(sport=33000, dport=80))
    assert result.to == "example"
    seen = result.packet
    assert (seen.src, seen.dst, seen[TCP].dport) == (EIP, EXAMPLE, 80)
    assert 1024 <= seen[TCP].sport <= 65535
    assert seen.ttl == 62  # the NAT gateway and the internet gateway


def test_reply_comes_back_to_the_client_and_its_port(shop: Network) -> None:
    port = shop.send("app", IP(src=APP, dst=EXAMPLE) / TCP(sport=33000, dport=80)).packet[TCP].sport
    result = shop.send("example", IP(src=EXAMPLE, dst=EIP) / TCP(sport=80, dport=port, flags="SA"))
    assert (result.to, result.packet.src, result.packet.dst, result.packet[TCP].dport) == ("app", EXAMPLE, APP, 33000)


def test_one_flow_keeps_its_port_and_two_flows_never_share_one(shop: Network) -> None:
    ports = []
    for sport in (1000, 1001, 1000, 1002):
        for client, address in (("app", APP), ("open", "10.0.2.11")):
            ports.append(
                (
                    sport,
                    client,
                    shop.send(client, IP(src=address, dst=EXAMPLE) / UDP(sport=sport, dport=53)).packet[UDP].sport,
                )
            )
    assert ports[:2] == ports[4:6]
    assert len({port for _, _, port in ports}) == 6


def test_a_udp_checksum_that_becomes_zero_is_all_ones_both_ways(shop: Network) -> None:
    """RFC 768: zero says that there is none."""

    def datagram(source: str, destination: str, sport: int, dport: int, payload: bytes) -> IP:
        return IP(bytes(IP(src=source, dst=destination) / UDP(sport=sport, dport=dport) / payload))

    port = shop.send("app", datagram(APP, EXAMPLE, 33000, 53, bytes(2))).packet[UDP].sport
    # what the sums of the translated datagrams lack to 0xFFFF
    asked = datagram(EIP, EXAMPLE, port, 53, bytes(2))[UDP].chksum.to_bytes(2)
    answered = datagram(EXAMPLE, APP, 53, 33000, bytes(2))[UDP].chksum.to_bytes(2)
    for _ in range(3):
        seen = shop.send("app", datagram(APP, EXAMPLE, 33000, 53, asked)).packet
        assert (seen.src, seen[UDP].sport, seen[UDP].chksum) == (EIP, port, 0xFFFF)
        seen = shop.send("example", datagram(EXAMPLE, EIP, 53, port, answered)).packet
        assert (seen.dst, seen[UDP].dport, seen[UDP].chksum) == (APP, 33000, 0xFFFF)


def test_unsolicited_packet_from_outside_is_dropped(shop: Network) -> None:
    port = shop.send("app", IP(src=APP, dst=EXAMPLE) / TCP(sport=33000, dport=80)).packet[TCP].sport
    for sender, address, sport, dport in (
        ("visitor", "198.51.100.77", 80, port),  # filtering is per full tuple
        ("example", EXAMPLE, 81, port),
        ("example", EXAMPLE, 80, port ^ 1),
    ):
        result = shop.send(sender, IP(src=address, dst=EIP) / TCP(sport=sport, dport=dport, flags="SA"))
        assert (result.reason, result.sent, result.by) == (Reason.NAT_NO_SESSION, (), "nat-gateway shop/nat")


def test_it_answers_no_ping_and_forwards_no_other_protocol(shop: Network) -> None:
    assert shop.send("visitor", IP(src="198.51.100.77", dst=EIP) / ICMP()).reason is Reason.NAT_NO_SESSION
    assert shop.send("open", IP(src="10.0.2.11", dst="10.0.1.5") / ICMP()).reason is Reason.NAT_NO_SESSION
    assert shop.send("open", IP(src="10.0.2.11", dst=EXAMPLE, proto=50) / bytes(24)).reason is Reason.NAT_PROTOCOL
    assert shop.send("open", IP(src="10.0.2.11", dst=EXAMPLE, proto=47) / bytes(24)).reason is Reason.NAT_PROTOCOL


def test_ping_through_it_translates_the_identifier(shop: Network) -> None:
    first = shop.send("app", IP(src=APP, dst=EXAMPLE) / ICMP(id=7, seq=1) / b"abc").packet
    other = shop.send("open", IP(src="10.0.2.11", dst=EXAMPLE) / ICMP(id=7, seq=1) / b"abc").packet
    assert first[ICMP].id != other[ICMP].id
    assert first.src == other.src == EIP
    reply = shop.send("example", IP(src=EXAMPLE, dst=EIP) / ICMP(type=0, id=first[ICMP].id, seq=1) / b"abc")
    assert (reply.to, reply.packet[ICMP].id, reply.packet.dst) == ("app", 7, APP)


def test_udp_fragments_pass_and_icmp_and_tcp_fragments_do_not(shop: Network) -> None:
    pieces = fragment(IP(src=APP, dst=EXAMPLE, id=9) / UDP(sport=5, dport=6) / bytes(3000), 1400)
    results = shop.send_all("app", pieces)
    assert [r.verdict for r in results] == [Verdict.FORWARD] * 3
    assert all(r.packet.src == EIP for r in results)
    pieces = fragment(IP(src=APP, dst=EXAMPLE, id=10) / ICMP(id=1) / bytes(3000), 1400)
    assert {r.reason for r in shop.send_all("app", pieces)} == {Reason.NAT_FRAGMENT}
    pieces = fragment(IP(src=APP, dst=EXAMPLE, id=11) / TCP(sport=5, dport=6) / bytes(3000), 1400)
    assert {r.reason for r in shop.send_all("app", pieces)} == {Reason.NAT_FRAGMENT}


def test_traceroute_shows_its_private_address(shop: Network) -> None:
    probe = IP(src=APP, dst=EXAMPLE, ttl=1) / UDP(sport=40000, dport=33434) / b"probe"
    result = shop.send("app", probe)
    assert (result.verdict, result.reason) == (Verdict.DROP, Reason.TTL_EXCEEDED)
    [sent] = result.sent
    assert (sent.node, sent.cause, sent.packet.src, sent.packet.dst) == ("app", Cause.ERROR, "10.0.1.5", APP)
    assert (sent.packet[ICMP].type, sent.packet[ICMP].code) == (11, 0)
    quoted = bytes(sent.ether)[14 + 28 :]
    assert quoted == bytes(probe)  # as it reached the gateway, before translation


def test_the_internet_gateway_behind_it_is_silent(shop: Network) -> None:
    result = shop.send("app", IP(src=APP, dst=EXAMPLE, ttl=2) / UDP(sport=40000, dport=33435))
    assert (result.reason, result.sent, result.by) == (Reason.TTL_EXCEEDED, (), "internet-gateway shop")


def test_error_about_a_translated_packet_reaches_the_client(shop: Network) -> None:
    port = shop.send("app", IP(src=APP, dst=EXAMPLE) / UDP(sport=40000, dport=9) / b"x").packet[UDP].sport
    quoted = IP(src=EIP, dst=EXAMPLE) / UDP(sport=port, dport=9) / b"x"
    result = shop.send("example", IP(src=EXAMPLE, dst=EIP) / ICMP(type=3, code=3) / quoted)
    assert (result.to, result.packet.dst) == ("app", APP)
    assert bytes(result.sent[0].ether)[14 + 28 :] == bytes(IP(src=APP, dst=EXAMPLE) / UDP(sport=40000, dport=9) / b"x")


def test_error_from_a_router_in_between_reaches_the_client_too(shop: Network) -> None:
    port = shop.send("app", IP(src=APP, dst=EXAMPLE) / UDP(sport=40000, dport=9) / b"x").packet[UDP].sport
    quoted = IP(src=EIP, dst=EXAMPLE) / UDP(sport=port, dport=9) / b"x"
    result = shop.send("visitor", IP(src="198.51.100.77", dst=EIP) / ICMP(type=11, code=0) / quoted)
    assert (result.to, result.packet.src, result.packet.dst) == ("app", "198.51.100.77", APP)


def test_too_big_behind_it_is_told_to_the_client(shop: Network) -> None:
    result = shop.send("app", IP(src=APP, dst=EXAMPLE, flags="DF") / UDP(sport=40000, dport=9) / bytes(1573))
    assert result.reason is Reason.MTU_EXCEEDED
    [sent] = result.sent
    assert (sent.node, sent.packet.src, sent.packet[ICMP].nexthopmtu) == ("app", "10.0.1.1", 1500)
    inner = IP(bytes(sent.ether)[14 + 28 :])
    assert (inner.src, inner.dst, inner[UDP].sport) == (APP, EXAMPLE, 40000)


def test_idle_flow_is_forgotten_after_350_seconds(shop: Network) -> None:
    port = shop.send("app", IP(src=APP, dst=EXAMPLE) / TCP(sport=33000, dport=80)).packet[TCP].sport
    back = IP(src=EXAMPLE, dst=EIP) / TCP(sport=80, dport=port, flags="SA")
    shop.send("example", back)
    shop.send("app", IP(src=APP, dst=EXAMPLE) / TCP(sport=33000, dport=80, flags="A"))
    shop.wait(349.999)
    assert shop.send("example", back).to == "app"
    shop.wait(350)
    assert shop.send("example", back).reason is Reason.NAT_NO_SESSION


def test_client_by_peering_is_refused(shop: Network) -> None:
    routes = 'routes: [{destination: 10.0.0.0/16, target: "peering:shop-store"}'
    more = ', {destination: 198.51.100.0/24, target: "peering:shop-store"}'
    text = SHOP.replace(f"data: {{{routes}", f"data: {{{routes}{more}")
    network = Network(text)
    result = network.send("db", IP(src="10.1.1.10", dst=EXAMPLE) / UDP())
    assert (result.reason, result.by) == (
        Reason.PEER_DESTINATION,
        "vpc-peering shop-store",
    )  # a peering carries to the peer's own addresses only


def test_packet_that_looks_like_a_counter_of_the_gateway_is_a_flow_like_any_other() -> None:
    network = Network(SHOP.replace("private_ip: 10.0.2.11,", "private_ip: 10.0.2.11, source_dest_check: false,"))
    for sport in (1, 2):
        network.send("app", IP(src=APP, dst=EXAMPLE) / UDP(sport=sport, dport=80))
    network.send("open", IP(src="10.0.1.5", dst=EXAMPLE) / UDP(sport=0, dport=80))
    network.plane.engine.selfcheck()
    network.wait(351)
    network.plane.engine.selfcheck()
    assert network.plane.engine.statistics()["sessions"] == 0


@pytest.mark.parametrize("identifier", [0, 3, 8])
def test_unsolicited_echo_reply_does_not_open_a_flow(shop: Network, identifier: int) -> None:
    result = shop.send("open", IP(src="10.0.2.11", dst=EXAMPLE) / ICMP(type=0, id=identifier))
    assert result.reason is Reason.NAT_NO_SESSION


def test_closed_flow_lets_no_new_one_in_from_outside(shop: Network) -> None:
    port = shop.send("app", IP(src=APP, dst=EXAMPLE) / TCP(sport=33000, dport=80)).packet[TCP].sport
    shop.send("app", IP(src=APP, dst=EXAMPLE) / TCP(sport=33000, dport=80, flags="R"))
    result = shop.send("example", IP(src=EXAMPLE, dst=EIP) / TCP(sport=80, dport=port, flags="S"))
    assert result.reason is Reason.NAT_NO_SESSION
