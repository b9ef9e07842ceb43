"""The largest packet each path carries, and what becomes of larger ones. Sizes are of whole IP packets, in bytes."""

from __future__ import annotations

import pytest
from scapy.layers.inet import ICMP, IP, TCP, UDP, defragment
from scapy.layers.inet6 import ICMPv6EchoRequest, ICMPv6PacketTooBig, IPv6

from dataplane.verdict import Cause, Reason
from tests.conformance.behaviours import behaviour
from tests.conformance.labs import PEERED, VPC, changed
from tests.conformance.sources import ec2_guide, peering_guide, rfc, vpc_guide
from tests.scenario.network import Network

SECTION = "MTU"

A2, B1, FAR = "10.0.1.12", "10.0.2.11", "198.51.100.10"
A2_6, FAR_6 = "2001:db8:a:1::12", "2001:db8:99::10"
MTUS = ec2_guide("network_mtu")

ABROAD = changed(PEERED, ("accepter: b}", "accepter: b, accepter_region: eu-west-1}"))
THROUGH_NAT = changed(
    VPC,
    ('{destination: 0.0.0.0/0, target: "nat-gateway:nat"}', '{destination: 10.0.1.0/24, target: "nat-gateway:nat"}'),
)
"""The private subnet reaches the public one by the NAT gateway."""


def datagram(source: str, destination: str, size: int, **fields: object) -> IP:
    """A UDP datagram whose IP packet has `size` bytes."""
    return IP(src=source, dst=destination, **fields) / UDP(sport=5, dport=6) / (bytes(range(256)) * 40)[: size - 28]


@behaviour(
    "A packet of 1600 bytes with DF for the internet is answered by the subnet's router with a next-hop MTU of 1500",
    source=MTUS,
    item=9,
)
def test_too_big_for_the_internet() -> None:
    packet = datagram(A2, FAR, 1600, flags="DF", id=77)
    result = Network(VPC).send("a2", packet)
    [sent] = result.sent
    assert (result.reason, sent.node, sent.cause) == (Reason.MTU_EXCEEDED, "a2", Cause.ERROR)
    error = sent.packet[ICMP]
    assert (sent.packet.src, sent.packet.dst) == ("10.0.1.1", A2)
    assert (error.type, error.code, error.nexthopmtu) == (3, 4, 1500)
    assert bytes(packet).startswith(bytes(sent.ether)[14 + 28 :][:28])  # quotes what was sent, not what was translated


@behaviour(
    "The same packet without DF leaves the internet gateway in fragments of at most 1500 bytes",
    source=MTUS,
    item=10,
)
def test_fragments_for_the_internet() -> None:
    packet = datagram(A2, FAR, 1600, id=77)
    result = Network(VPC).send("a2", packet)
    assert {(s.node, s.cause) for s in result.sent} == {("far", Cause.FRAGMENT)}
    assert len(result.sent) == 2
    assert all(len(s.packet) <= 1500 for s in result.sent)
    [whole] = list(defragment([s.packet for s in result.sent]))
    assert (whole.src, bytes(IP(bytes(whole))[UDP].payload)) == ("203.0.113.12", bytes(packet[UDP].payload))


@behaviour("A packet of 1500 bytes leaves through the internet gateway whole", source=MTUS)
def test_just_fits_the_internet() -> None:
    network = Network(VPC)
    assert len(network.send("a2", datagram(A2, FAR, 1500, flags="DF")).packet) == 1500
    assert network.send("a2", datagram(A2, FAR, 1501, flags="DF")).reason is Reason.MTU_EXCEEDED


@behaviour("An IPv6 packet over 1500 bytes for the internet is answered with packet too big, MTU 1500", source=MTUS)
def test_ipv6_too_big_for_the_internet() -> None:
    def ping(size: int) -> IPv6:
        return IPv6(src=A2_6, dst=FAR_6) / ICMPv6EchoRequest(data=bytes(size - 48))

    network = Network(VPC)
    assert network.send("a2", ping(1500)).to == "far"
    [sent] = network.send("a2", ping(1501)).sent
    assert (sent.node, sent.packet.src, sent.packet[ICMPv6PacketTooBig].mtu) == ("a2", "2001:db8:a:1::1", 1500)
    assert len(sent.packet) <= 1280  # RFC 4443, section 2.4


@behaviour("Packets of 9001 bytes pass inside a VPC, between subnets as well", source=MTUS)
def test_jumbo_frames_inside() -> None:
    network = Network(VPC)
    assert len(network.send("b1", datagram(B1, A2, 9001, flags="DF")).packet) == 9001
    assert len(network.send("b1", datagram(B1, "10.0.2.12", 9001, flags="DF")).packet) == 9001


@behaviour("What is larger than 9001 bytes does not get out of an instance, with DF or without", source=MTUS)
@pytest.mark.parametrize("flags", ["DF", ""])
def test_too_big_for_an_interface(flags: str) -> None:
    network = Network(VPC)
    for destination in ("10.0.2.12", A2, FAR):
        result = network.send("b1", datagram(B1, destination, 9002, flags=flags))
        assert (result.reason, result.by, result.sent) == (Reason.MTU_EXCEEDED, "interface b1/eth0", ())


@behaviour("An internet gateway forwards packets up to 1500 bytes only, inwards as well", source=MTUS)
def test_too_big_from_the_internet() -> None:
    network = Network(VPC)
    assert network.send("far", datagram(FAR, "203.0.113.12", 1500, flags="DF")).to == "a2"
    for flags in ("DF", ""):
        result = network.send("far", datagram(FAR, "203.0.113.12", 1501, flags=flags))
        assert (result.reason, result.sent) == (Reason.MTU_EXCEEDED, ())


@behaviour("Packets of 9001 bytes pass over a peering inside a Region", source=peering_guide("vpc-peering-basics"))
def test_jumbo_frames_over_a_peering() -> None:
    packet = datagram("10.0.1.11", "10.1.1.11", 9001, flags="DF")
    assert len(Network(PEERED).send("a", packet).packet) == 9001


@behaviour(
    "A peering between Regions carries 8500 bytes; larger with DF is dropped, "
    "and the sender told unless the lab's settings say otherwise",
    silent=True,
    source=peering_guide("vpc-peering-basics"),
)
def test_inter_region_peering() -> None:
    fits, too_big = (datagram("10.0.1.11", "10.1.1.11", size, flags="DF") for size in (8500, 8501))
    network = Network(ABROAD)
    assert len(network.send("a", fits).packet) == 8500
    [sent] = network.send("a", too_big).sent
    assert (sent.node, sent.packet.src, sent.packet[ICMP].nexthopmtu) == ("a", "10.0.1.1", 8500)
    silent = Network("settings: {inter_region_too_big: silent}\n" + ABROAD)
    result = silent.send("a", too_big)
    assert (result.reason, result.sent) == (Reason.MTU_EXCEEDED, ())


@behaviour(
    "A NAT gateway carries 8500 bytes; larger with DF it answers itself, without DF it fragments",
    source=vpc_guide("nat-gateway-basics"),
)
def test_nat_gateway() -> None:
    network = Network(THROUGH_NAT)
    assert len(network.send("b1", datagram(B1, A2, 8500, flags="DF")).packet) == 8500
    [sent] = network.send("b1", datagram(B1, A2, 8501, flags="DF")).sent
    assert (sent.node, sent.packet.src, sent.packet[ICMP].nexthopmtu) == ("b1", "10.0.1.5", 8500)
    pieces = [s.packet for s in network.send("b1", datagram(B1, A2, 9001, id=5)).sent]
    assert len(pieces) == 2
    assert all(len(piece) <= 8500 and piece.src == "10.0.1.5" for piece in pieces)


@behaviour(
    "A NAT gateway lowers the MSS of SYN and SYN-ACK to 8460: segments of the other end are no larger than its MTU",
    source=vpc_guide("nat-gateway-basics"),
)
def test_mss_at_a_nat_gateway() -> None:
    network = Network(THROUGH_NAT)
    for sport, asked, told in ((9, 8961, 8460), (10, 8460, 8460), (11, 1460, 1460)):
        options = [("NOP", None), ("MSS", asked), ("SAckOK", b"")]
        syn = network.send("b1", IP(src=B1, dst=A2) / TCP(sport=sport, dport=80, options=options)).packet
        answer = TCP(sport=80, dport=syn[TCP].sport, flags="SA", options=options)
        back = network.send("a2", IP(src=A2, dst="10.0.1.5") / answer).packet
        for seen in (syn, back):
            assert dict(seen[TCP].options)["MSS"] == told
            summed = seen[TCP].chksum
            del seen[TCP].chksum
            assert IP(bytes(seen))[TCP].chksum == summed


@behaviour(
    "What is told about a SYN beyond a NAT gateway comes back to its sender",
    silent=True,
    source=vpc_guide("nat-gateway-basics"),
)
def test_error_about_a_lowered_mss() -> None:
    syn = IP(src=B1, dst=FAR, flags="DF") / TCP(sport=9, dport=80, options=[("MSS", 8961)]) / bytes(1500)
    [sent] = Network(VPC).send("b1", syn).sent
    quoted = IP(bytes(sent.ether)[14 + 28 :])
    assert (sent.node, sent.packet[ICMP].nexthopmtu, quoted.src, quoted[TCP].sport) == ("b1", 1500, B1, 9)
    assert dict(quoted[TCP].options)["MSS"] == 8460


@behaviour(
    "A NAT gateway does not fragment TCP and ICMP: what is larger than 8500 bytes dies there",
    source=vpc_guide("vpc-nat-comparison"),
)
@pytest.mark.parametrize("body", [TCP(sport=5, dport=80), ICMP(id=7)], ids=["tcp", "icmp"])
def test_a_nat_gateway_fragments_udp_only(body: TCP | ICMP) -> None:
    network = Network(THROUGH_NAT)
    room = 8500 - 20 - len(body)
    assert len(network.send("b1", IP(src=B1, dst=A2) / body / bytes(room)).packet) == 8500
    result = network.send("b1", IP(src=B1, dst=A2) / body / bytes(room + 1))
    assert (result.reason, result.sent) == (Reason.NAT_FRAGMENT, ())
    result = network.send("b1", IP(src=B1, dst=A2, flags="DF") / body / bytes(room + 1))
    assert result.reason is Reason.MTU_EXCEEDED
    assert [(s.node, s.packet[ICMP].nexthopmtu) for s in result.sent] == [("b1", 8500)]


@behaviour(
    "A packet too big for the internet behind a NAT gateway is told to the instance as it sent it",
    source=MTUS,
)
def test_too_big_behind_a_nat_gateway() -> None:
    [sent] = Network(VPC).send("b1", datagram(B1, FAR, 1501, flags="DF")).sent
    assert (sent.node, sent.packet.dst, sent.packet[ICMP].code, sent.packet[ICMP].nexthopmtu) == ("b1", B1, 4, 1500)
    quoted = IP(bytes(sent.ether)[14 + 28 :])
    assert (quoted.src, quoted.dst, quoted[UDP].sport) == (B1, FAR, 5)


@behaviour(
    "Fragmentation needed from the internet about a tracked flow reaches the instance without an inbound rule for ICMP",
    source=MTUS,
)
def test_path_mtu_from_the_internet() -> None:
    closed = changed(VPC, ("        ingress: [{protocol: all, source: 0.0.0.0/0}, ", "        ingress: ["))
    network = Network(closed)
    outside = network.send("a2", IP(src=A2, dst=FAR, flags="DF") / TCP(sport=9, dport=80) / bytes(1400)).packet
    error = IP(src="198.51.100.77", dst="203.0.113.12") / ICMP(type=3, code=4, nexthopmtu=1280) / IP(bytes(outside))
    result = network.send("other", error)
    assert (result.to, result.packet.dst, result.packet[ICMP].nexthopmtu) == ("a2", A2, 1280)


@behaviour("Nobody is told that an ICMP error or a later fragment is too big", source=rfc(1812, "4.3.2.7"))
@pytest.mark.parametrize(
    "packet",
    [
        IP(src=A2, dst=FAR, flags="DF") / ICMP(type=3, code=3) / IP(src=FAR, dst=A2) / UDP() / bytes(1600),
        IP(src=A2, dst=FAR, flags="DF") / ICMP(type=5, code=1) / IP(src=FAR, dst=A2) / UDP() / bytes(1600),
        IP(src=A2, dst=FAR, flags="DF", proto=17, frag=9, id=7) / bytes(1600),
    ],
    ids=["error", "redirect", "fragment"],
)
def test_no_errors_about_these(packet: IP) -> None:
    network = Network(VPC)
    first = IP(src=A2, dst=FAR, flags="MF", id=7) / UDP(sport=5, dport=6, len=1672) / bytes(64)
    assert network.send("a2", first).to == "far"
    result = network.send("a2", packet)
    assert (result.reason, result.sent) == (Reason.MTU_EXCEEDED, ())
