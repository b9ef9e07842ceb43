"""What the two engines once disagreed on, settled: each in its smallest form, on both."""

from __future__ import annotations

import pytest
from scapy.layers.inet import ICMP, IP, TCP, UDP, fragment
from scapy.layers.inet6 import ICMPv6ND_NS, IPv6

from dataplane.verdict import Cause, Reason, Verdict
from tests.scenario.labs import SHOP
from tests.scenario.network import Network

APP, OPEN, WEB, BARE, EXAMPLE = "10.0.2.10", "10.0.2.11", "10.0.1.10", "10.0.1.11", "198.51.100.10"
UNCHECKED_APP = SHOP.replace("private_ip: 10.0.2.10,", "private_ip: 10.0.2.10, source_dest_check: false,")


def test_middle_of_a_connection_the_nat_gateway_does_not_know_opens_none() -> None:
    """AWS answers it with a reset (VPC User Guide, "Troubleshoot NAT gateways")."""
    shop = Network(SHOP)
    port = shop.send("app", IP(src=APP, dst=EXAMPLE) / TCP(sport=33000, dport=80)).packet[TCP].sport
    shop.send("example", IP(src=EXAMPLE, dst="203.0.113.10") / TCP(sport=80, dport=port, flags="SA"))
    shop.send("app", IP(src=APP, dst=EXAMPLE) / TCP(sport=33000, dport=80, flags="A"))
    shop.wait(350)
    late = shop.send("app", IP(src=APP, dst=EXAMPLE) / TCP(sport=33000, dport=80, flags="A"))
    assert (late.verdict, late.reason) == (Verdict.DROP, Reason.NAT_NO_SESSION)
    [reset] = late.sent
    assert (reset.node, reset.cause, reset.packet.src, reset.packet[TCP].flags) == ("app", Cause.RESET, EXAMPLE, "R")


def test_middle_of_a_connection_the_nat_gateway_knows_is_tracked_again() -> None:
    """Flows through it are tracked whatever the rules say (EC2 User Guide, "Automatically tracked connections")."""
    limited = "private_ip: 10.0.2.10, connection_tracking: {tcp_established_timeout: 60},"
    shop = Network(SHOP.replace("private_ip: 10.0.2.10,", limited))
    port = shop.send("app", IP(src=APP, dst=EXAMPLE) / TCP(sport=33000, dport=80)).packet[TCP].sport
    answer = IP(src=EXAMPLE, dst="203.0.113.10") / TCP(sport=80, dport=port, flags="SA")
    assert shop.send("example", answer).to == "app"
    shop.send("app", IP(src=APP, dst=EXAMPLE) / TCP(sport=33000, dport=80, flags="A"))
    shop.wait(61)
    assert shop.send("example", answer).reason is Reason.GROUP_INGRESS
    assert shop.send("app", IP(src=APP, dst=EXAMPLE) / TCP(sport=33000, dport=80, flags="PA")).to == "example"
    assert [shop.send("example", answer).to for _ in range(2)] == ["app"] * 2


def test_packet_that_comes_back_in_is_no_answer_to_itself() -> None:
    """Its direction is that of the flow it opened; the second one must not get in where the first did not."""
    shop = Network(UNCHECKED_APP)
    packet = IP(src=BARE, dst=APP) / UDP(sport=5, dport=6)
    assert {r.reason for r in shop.send_all("app", [packet] * 3)} == {Reason.GROUP_INGRESS}


def test_who_forwards_for_others_does_not_lend_them_its_groups() -> None:
    """web lets pings of group app in; app forwards one of somebody else."""
    shop = Network(UNCHECKED_APP)
    assert shop.send("app", IP(src="192.0.2.1", dst=WEB) / ICMP()).reason is Reason.GROUP_INGRESS


def test_error_for_somebody_who_did_not_send_what_it_quotes_is_not_related() -> None:
    shop = Network(SHOP)
    shop.send("app", IP(src=APP, dst=OPEN) / UDP(sport=5, dport=6))
    about_the_answer = IP(src=OPEN, dst=APP) / UDP(sport=6, dport=5)
    error = IP(src=OPEN, dst=APP) / ICMP(type=3, code=3) / about_the_answer
    assert shop.send("open", error).reason is Reason.GROUP_INGRESS


def test_error_for_somebody_else_does_not_leave_by_the_nat_gateway() -> None:
    shop = Network(SHOP)
    port = shop.send("open", IP(src=OPEN, dst=EXAMPLE) / UDP(sport=5, dport=6)).packet[UDP].sport
    answer = shop.send("example", IP(src=EXAMPLE, dst="203.0.113.10") / UDP(sport=6, dport=port) / b"8 bytes.").packet
    unreachable = ICMP(type=3, code=3) / answer
    other = shop.send("open", IP(src=OPEN, dst="198.51.100.77") / unreachable)
    assert (other.reason, other.sent) == (Reason.NAT_NO_SESSION, ())
    assert shop.send("open", IP(src=OPEN, dst=EXAMPLE) / unreachable).to == "example"


def test_solicitation_with_a_wrong_checksum_is_not_answered() -> None:
    """RFC 4861, section 7.1.1."""
    shop = Network(SHOP)
    port = shop.port("app")
    question = IPv6(src="2001:db8:10:2::10", dst="ff02::1:ff00:1") / ICMPv6ND_NS(tgt="2001:db8:10:2::1", cksum=1)
    frame = b"\x33\x33\xff\0\0\x01" + shop.plane.interface(port).mac + b"\x86\xdd" + bytes(question)
    outcomes, emissions = shop.plane.process([frame], [port], shop.now)
    assert (outcomes[0].reason, emissions) == (Reason.ND_MALFORMED, [])


def test_nobody_has_a_multicast_address() -> None:
    """RFC 4861, section 7.1.1: the target of a solicitation is not multicast. Hosts on the internet are told it is."""
    shop = Network(SHOP)
    port = shop.port("example")
    question = IPv6(src="2001:db8:99::10", dst="ff02::1:ff00:1") / ICMPv6ND_NS(tgt="ff02::1")
    frame = b"\x33\x33\xff\0\0\x01" + shop.plane.interface(port).mac + b"\x86\xdd" + bytes(question)
    outcomes, emissions = shop.plane.process([frame], [port], shop.now)
    assert (outcomes[0].verdict, emissions) == (Verdict.DROP, [])


def test_unattached_interface_is_named_once() -> None:
    """It decides; there is no rule."""
    spare = "network_interfaces: {spare: {subnet: public, private_ips: [10.0.1.31]}}"
    shop = Network(SHOP.replace("    nat_gateways:", f"    {spare}\n    nat_gateways:", 1))
    result = shop.send("open", IP(src=OPEN, dst="10.0.1.31") / UDP())
    assert (result.reason, result.by, result.rule) == (Reason.PORT_DOWN, "network-interface shop/spare", "")


def test_router_behind_a_nat_gateway_quotes_the_ttl_it_saw() -> None:
    """RFC 792: the header of the datagram as it arrived there, one hop further on."""
    shop = Network(SHOP)
    result = shop.send("app", IP(src=APP, dst=EXAMPLE, flags="DF", ttl=64) / UDP(sport=5, dport=6) / bytes(1573))
    assert IP(bytes(result.sent[0].ether)[14 + 28 :]).ttl == 63


def test_what_had_waited_since_an_earlier_burst_stems_from_what_released_it() -> None:
    shop = Network(SHOP)
    first, *others = fragment(IP(src=OPEN, dst=BARE, id=1) / UDP(sport=5, dport=6) / bytes(400), 80)
    shop.send_all("open", others)
    [result] = shop.send_all("open", [first])
    assert [s.cause for s in result.sent] == [Cause.FORWARDED, *[Cause.RELEASED] * len(others)]


@pytest.mark.parametrize("back", [5, 9, 17])
def test_icmp_message_that_asks_nothing_lets_nothing_back_in(back: int) -> None:
    """Only requests have answers; a router advertisement of mine is no reason to take a redirect."""
    shop = Network(SHOP)
    assert shop.send("app", IP(src=APP, dst=OPEN) / ICMP(type=9)).to == "open"
    assert shop.send("open", IP(src=OPEN, dst=APP) / ICMP(type=back)).reason is Reason.GROUP_INGRESS
