"""How long idle flows are remembered: per interface as declared, elsewhere by the lab's settings.

https://docs.aws.amazon.com/AWSEC2/latest/UserGuide/security-group-connection-tracking.html
"""

from __future__ import annotations

import pytest
from scapy.layers.inet import ICMP, IP, TCP, UDP, fragment
from scapy.layers.inet6 import ICMPv6ND_NS, IPv6
from scapy.layers.l2 import ARP, Ether

from dataplane.verdict import Cause, Reason, Verdict
from tests.scenario.labs import SHOP
from tests.scenario.network import Network

APP, OPEN, EXAMPLE, EIP = "10.0.2.10", "10.0.2.11", "198.51.100.10", "203.0.113.10"


def tracking(words: str, text: str = SHOP) -> str:
    return text.replace("private_ip: 10.0.2.10,", f"private_ip: 10.0.2.10, connection_tracking: {{{words}}},")


def settings(words: str) -> str:
    return SHOP.replace("vpcs:\n", f"settings: {{{words}}}\nvpcs:\n", 1)


def exchange(net: Network, protocol: str, packets: int) -> None:
    """`app` talks to `open` first, and then both take turns."""
    for turn in range(packets):
        there = turn % 2 == 0
        if protocol == "udp":
            layer = UDP(sport=5, dport=6) if there else UDP(sport=6, dport=5)
        elif protocol == "icmp":
            layer = ICMP(id=9) if there else ICMP(type=0, id=9)
        else:
            flags = ("S", "SA", "A")[turn]
            layer = TCP(sport=5, dport=6, flags=flags) if there else TCP(sport=6, dport=5, flags=flags)
        ends = {"src": APP, "dst": OPEN} if there else {"src": OPEN, "dst": APP}
        assert net.send("app" if there else "open", IP(**ends) / layer).verdict is Verdict.FORWARD


def answer(net: Network, protocol: str) -> Reason:
    layers = {"udp": UDP(sport=6, dport=5), "icmp": ICMP(type=0, id=9), "tcp": TCP(sport=6, dport=5, flags="A")}
    return net.send("open", IP(src=OPEN, dst=APP) / layers[protocol]).reason


@pytest.mark.parametrize(
    ("text", "protocol", "packets", "seconds"),
    [
        (SHOP, "udp", 1, 30),
        (SHOP, "udp", 2, 30),
        (SHOP, "udp", 3, 180),
        (SHOP, "icmp", 1, 30),
        (SHOP, "tcp", 1, 60),
        (SHOP, "tcp", 3, 432_000),
        (tracking("udp_timeout: 60"), "udp", 2, 60),
        (tracking("udp_timeout: 60"), "udp", 3, 180),
        (tracking("udp_stream_timeout: 61"), "udp", 3, 61),
        (tracking("udp_stream_timeout: 61"), "udp", 1, 30),
        (tracking("tcp_established_timeout: 350"), "tcp", 3, 350),
        (tracking("tcp_established_timeout: 350"), "tcp", 1, 60),
        (settings("tcp_opening_timeout: 5"), "tcp", 1, 5),
        (settings("tcp_opening_timeout: 5"), "tcp", 3, 432_000),
        (settings("icmp_timeout: 7"), "icmp", 1, 7),
    ],
)
def test_idle_for_so_long_is_forgotten(text: str, protocol: str, packets: int, seconds: int) -> None:
    net = Network(text)
    exchange(net, protocol, packets)
    net.wait(seconds - 0.001)
    assert answer(net, protocol) is Reason.NONE
    net = Network(text)
    exchange(net, protocol, packets)
    net.wait(seconds)
    assert answer(net, protocol) is Reason.GROUP_INGRESS


@pytest.mark.parametrize(("text", "seconds"), [(SHOP, 60), (settings("tcp_closing_timeout: 9"), 9)])
def test_closed_tcp_is_forgotten_soon(text: str, seconds: int) -> None:
    for wait, reason in ((seconds - 0.001, Reason.NONE), (seconds, Reason.GROUP_INGRESS)):
        net = Network(text)
        exchange(net, "tcp", 3)
        net.send("app", IP(src=APP, dst=OPEN) / TCP(sport=5, dport=6, flags="R"))
        net.wait(wait)
        assert answer(net, "tcp") is reason


def test_each_interface_has_limits_of_its_own() -> None:
    """`open` lets everything in anyway; what `app` tracks is by what is declared of `app`."""
    net = Network(
        SHOP.replace("private_ip: 10.0.2.11,", "private_ip: 10.0.2.11, connection_tracking: {udp_timeout: 60},")
    )
    exchange(net, "udp", 1)
    net.wait(30)
    assert answer(net, "udp") is Reason.GROUP_INGRESS


def test_new_limit_counts_from_the_next_packet_on() -> None:
    longer = tracking("udp_timeout: 60")
    net = Network(SHOP)
    exchange(net, "udp", 1)
    net.apply(longer)
    net.wait(30)
    assert answer(net, "udp") is Reason.GROUP_INGRESS
    net = Network(SHOP)
    exchange(net, "udp", 1)
    net.apply(longer)
    net.wait(29)
    exchange(net, "udp", 1)
    net.wait(59)
    assert answer(net, "udp") is Reason.NONE
    net.apply(SHOP)
    net.wait(59)
    assert answer(net, "udp") is Reason.NONE


@pytest.mark.parametrize("bits", [30, 31, 32])
def test_a_flow_is_not_in_use_again_when_a_clock_has_gone_round(bits: int) -> None:
    """What was in use once is not in use again when so many milliseconds have passed: 32 bits are 49.7 days."""
    net = Network(SHOP)
    exchange(net, "udp", 12)
    net.now += 2**bits + 1_000
    assert answer(net, "udp") is Reason.GROUP_INGRESS


def test_nat_gateway_remembers_a_closed_connection_as_long_as_set() -> None:
    for wait, reason in ((4.999, Reason.NONE), (5, Reason.NAT_NO_SESSION)):
        net = Network(settings("nat_closing_timeout: 5"))
        out = IP(src=APP, dst=EXAMPLE) / TCP(sport=33000, dport=80)
        port = net.send("app", out).packet[TCP].sport
        out[TCP].flags = "R"
        net.send("app", out)
        net.wait(wait)
        late = IP(src=EXAMPLE, dst=EIP) / TCP(sport=80, dport=port, flags="A")
        assert net.send("example", late).reason is reason


def test_fragments_wait_and_follow_as_long_as_set() -> None:
    first, second, third = fragment(IP(src=APP, dst=OPEN, id=1) / UDP(sport=5, dport=6) / bytes(2000), 800)
    net = Network(settings("fragment_timeout: 3"))
    net.send("app", second)
    net.wait(2.999)
    [released] = net.send_all("app", [first])
    assert [each.cause for each in released.sent] == [Cause.FORWARDED, Cause.RELEASED]
    net.wait(0.001)
    assert net.send("app", third).verdict is Verdict.HOLD
    net = Network(settings("fragment_timeout: 3"))
    net.send("app", second)
    net.wait(3)
    [alone] = net.send_all("app", [first])
    assert [each.cause for each in alone.sent] == [Cause.FORWARDED]


def ask(net: Network, address: str) -> tuple[Reason, list[str]]:
    """Who `app` is told has an address."""
    port, mac = net.port("app"), net.plane.interface(net.port("app")).mac
    if ":" in address:
        question = IPv6(src="2001:db8:10:2::10", dst="ff02::1:ff00:1", hlim=255) / ICMPv6ND_NS(tgt=address)
        frame = bytes(Ether(src=mac.hex(":"), dst="33:33:ff:00:00:01") / question)
    else:
        frame = bytes(
            Ether(src=mac.hex(":"), dst="ff:ff:ff:ff:ff:ff") / ARP(hwsrc=mac.hex(":"), psrc=APP, pdst=address)
        )
    outcomes, emissions = net.plane.process([frame], [port], net.now)
    return outcomes[0].reason, [each.frame[6:12].hex(":") for each in emissions]


@pytest.mark.parametrize("address", ["10.0.2.99", "10.0.2.2", "2001:db8:10:2::99"])
def test_free_address_of_the_subnet_is_nobodys_unless_set(address: str) -> None:
    reason, told = ask(Network(SHOP), address)
    assert (reason, told) == (Reason.ND_UNANSWERED if ":" in address else Reason.ARP_UNANSWERED, [])
    net = Network(settings("arp_for_unassigned: router"))
    router = net.plane.interface(net.port("app")).router_mac.hex(":")
    assert ask(net, address) == (Reason.NONE, [router])


@pytest.mark.parametrize("address", [APP, "10.0.1.99", "10.9.9.9", "2001:db8:10:2::10", "2001:db8:10:1::99"])
def test_own_addresses_and_those_of_other_subnets_are_never_the_routers(address: str) -> None:
    reason, told = ask(Network(settings("arp_for_unassigned: router")), address)
    assert (reason, told) == (Reason.ND_UNANSWERED if ":" in address else Reason.ARP_UNANSWERED, [])


def test_address_that_somebody_has_is_that_ones_mac() -> None:
    net = Network(settings("arp_for_unassigned: router"))
    mac = net.plane.interface(net.port("open")).mac.hex(":")
    assert ask(net, OPEN) == (Reason.NONE, [mac])


WEB = "10.0.1.10"


def test_internet_gateway_keeps_the_ttl_if_set() -> None:
    packet = IP(src=WEB, dst=EXAMPLE, ttl=1) / UDP()
    assert Network(SHOP).send("web", packet).reason is Reason.TTL_EXCEEDED
    assert Network(settings("internet_gateway_ttl: keep")).send("web", packet).packet.ttl == 1


def test_peering_counts_as_a_silent_hop_if_set() -> None:
    packet = IP(src=APP, dst="10.1.1.10", ttl=2) / ICMP()
    assert Network(SHOP).send("app", packet).packet.ttl == 2
    net = Network(settings("peering_ttl: decrement"))
    assert net.send("app", packet).packet.ttl == 1
    result = net.send("app", IP(src=APP, dst="10.1.1.10", ttl=1) / ICMP())
    assert (result.reason, result.by, result.sent) == (Reason.TTL_EXCEEDED, "vpc-peering shop-store", ())


def elsewhere(text: str) -> str:
    """VPC `store` in another Region, where the groups of `shop` are not known."""
    text = text.replace(', {protocol: tcp, ports: 5432, source: "group:shop/app"}', "")
    return text.replace(
        "accepter: store, status: active", "accepter: store, status: active, accepter_region: eu-west-1"
    )


def test_too_big_for_another_region_is_told_unless_set() -> None:
    """8500 bytes (VPC Peering Guide, "VPC peering basics")."""
    packet = IP(src=APP, dst="10.1.1.10", flags="DF") / ICMP() / bytes(8473)
    told = Network(elsewhere(SHOP)).send("app", packet)
    assert (told.reason, told.sent[0].packet.src, told.sent[0].packet[ICMP].nexthopmtu) == (
        Reason.MTU_EXCEEDED,
        "10.0.2.1",
        8500,
    )
    silent = Network(elsewhere(settings("inter_region_too_big: silent"))).send("app", packet)
    assert (silent.reason, silent.sent) == (Reason.MTU_EXCEEDED, ())
