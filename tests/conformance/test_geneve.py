"""GENEVE between a gateway load balancer and its targets, to the byte.

What is expected is written out by hand: the header and the options as RFC 8926 draws them, with the values that packets
of real load balancers have in captures.
"""

from __future__ import annotations

import pytest
from scapy.layers.inet import ICMP, IP, TCP, UDP, fragment
from scapy.layers.inet6 import ICMPv6EchoRequest, IPv6
from scapy.packet import Raw

from dataplane.verdict import Reason
from tests.conformance.behaviours import behaviour
from tests.conformance.sources import balancer_guide, networking_blog, privatelink_guide, rfc
from tests.scenario.gwlb import APP, APP6, DB, FAR6, LAB, ONE, Delivery, answer, delivered, send_back
from tests.scenario.network import Network

SECTION = "GENEVE"

HEADER, OPTIONS, UDP_HEADER = rfc(8926, "3.4"), rfc(8926, "3.5"), rfc(8926, "3.3")
GUIDE = balancer_guide("gateway-load-balancers")
CONTRACT = networking_blog("integrate-your-custom-logic-or-appliance-with-aws-gateway-load-balancer")

PING = IP(src=APP, dst=DB, ttl=64) / ICMP(id=7, seq=1) / Raw(bytes(56))
QUERY = IP(src=APP, dst=DB) / UDP(sport=5000, dport=53) / Raw(b"question")
REPLY = IP(src=DB, dst=APP) / UDP(sport=53, dport=5000) / Raw(b"answer")

# Of endpoint vpce-0f583215d2e66b39c; the flow's cookie follows.
BEFORE_COOKIE = bytes.fromhex(
    "08 00 08 00"  # version 0, options of 8 words, no flags, IPv4
    "00 00 00 00"  # network 0
    "01 08 01 02 f5 83 21 5d 2e 66 b3 9c"
    "01 08 02 02 00 00 00 00 00 00 00 00"
    "01 08 03 01"
)


def begun(text: str = ONE) -> tuple[Network, Delivery]:
    """A lab, and what its target got of a flow."""
    network = Network(text)
    return network, delivered(network.send("app", QUERY))


def with_options(options: bytes) -> bytes:
    """A header of RFC 8926 for IPv4, with these options."""
    return bytes([len(options) // 4, 0, 8, 0, 0, 0, 0, 0]) + options


# -- what a target gets


@behaviour(
    "A target gets packets in UDP to port 6081, from the load balancer's node in the zone, behind a GENEVE header of "
    "version 0 with 8 words of options, no flags and network 0",
    source=HEADER,
)
def test_header() -> None:
    outer = delivered(Network(ONE).send("app", PING)).outer
    assert outer[:1] + outer[9:10] + outer[12:20] == bytes([0x45, 17, 10, 9, 1, 10, 10, 9, 1, 21])
    assert int.from_bytes(outer[22:24]) == 6081
    assert outer[28:36] == bytes.fromhex("08 00 08 00 00 00 00 00")


@behaviour(
    "Its options, all of class 0x0108, are the 64 bits of the endpoint's id, 64 zero bits, and a flow cookie of 32",
    source=CONTRACT,
)
def test_options() -> None:
    outer = delivered(Network(LAB).send("app", PING)).outer
    assert outer[28:64] == BEFORE_COOKIE
    assert len(outer[64:68]) == 4


@behaviour("Encapsulation adds 68 bytes: a ping of 84 bytes becomes a packet of 152", source=GUIDE)
def test_size() -> None:
    outer = delivered(Network(LAB).send("app", PING)).outer
    assert (len(PING), len(outer)) == (84, 152)
    assert (int.from_bytes(outer[2:4]), int.from_bytes(outer[24:26])) == (152, 132)


@behaviour("What is inside is the IP packet itself, without Ethernet, as the protocol type 0x0800 says", source=HEADER)
def test_packet_inside() -> None:
    outer = delivered(Network(LAB).send("app", PING)).outer
    expected = PING.copy()
    expected.ttl = 63
    assert (outer[30:32], outer[68:]) == (b"\x08\x00", bytes(expected))


@behaviour(
    "IPv6 too goes to the target inside IPv4, with protocol type 0x86DD: appliances need no IPv6",
    source=privatelink_guide("vpce-gateway-load-balancer"),
)
def test_ipv6_inside_ipv4() -> None:
    ping = IPv6(src=APP6, dst=FAR6, hlim=9) / ICMPv6EchoRequest(id=3, data=b"abc")
    outer = delivered(Network(LAB).send("app", ping)).outer
    ping.hlim = 8
    assert outer[0] == 0x45
    assert outer[28:64] == bytes.fromhex("08 00 86 dd") + BEFORE_COOKIE[4:]
    assert outer[68:] == bytes(IPv6(bytes(ping)))


@behaviour(
    "The outer packet has TTL 255, type of service and identification 0, and DF clear", silent=True, source=GUIDE
)
@pytest.mark.parametrize("packet", [PING, IP(src=APP, dst=DB, tos=184, id=9, flags="DF", ttl=7) / UDP()])
def test_outer_header(packet: IP) -> None:
    outer = delivered(Network(LAB).send("app", packet)).outer
    assert outer[1:2] + outer[4:9] == bytes([0, 0, 0, 0, 0, 255])


@behaviour("The outer UDP checksum is there, and right", source=UDP_HEADER)
def test_udp_checksum() -> None:
    outer = delivered(Network(LAB).send("app", QUERY)).outer
    assert outer[26:28] != bytes(2)
    summed = outer[12:20] + bytes([0, 17]) + outer[24:26] + outer[20:] + bytes(len(outer) % 2)
    total = sum(int.from_bytes(summed[at : at + 2]) for at in range(0, len(summed), 2))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    assert total == 0xFFFF


@behaviour("The outer source port is the same for all packets of a flow", source=UDP_HEADER)
def test_source_port_of_a_flow() -> None:
    network = Network(LAB)
    got = [delivered(network.send(node, packet)) for node, packet in (("app", QUERY), ("db", REPLY), ("app", QUERY))]
    assert len({each.source_port for each in got}) == 1


@behaviour("Source ports are from 49152 to 65535, and differ between flows", silent=True, source=UDP_HEADER)
def test_source_ports_of_flows() -> None:
    network = Network(LAB)
    flows = [IP(src=APP, dst=DB) / UDP(sport=1000 + number, dport=53) for number in range(30)]
    ports = {delivered(network.send("app", each)).source_port for each in flows}
    assert len(ports) > 20
    assert all(49152 <= port <= 65535 for port in ports)


@behaviour(
    "Both directions of a flow carry one cookie and one endpoint id; another flow has a cookie of its own",
    source=CONTRACT,
)
def test_cookies() -> None:
    network = Network(LAB)
    there, back = delivered(network.send("app", QUERY)), delivered(network.send("db", REPLY))
    assert there.outer[36:68] == back.outer[36:68]
    assert delivered(network.send("app", PING)).outer[64:68] != there.outer[64:68]


# -- what it sends back


@behaviour(
    "What a target sends back with the outer addresses swapped, and ports and GENEVE as they came, goes on its way",
    source=CONTRACT,
)
def test_round_trip() -> None:
    network, got = begun()
    back = network.send("fw1", IP(src="10.9.1.21", dst="10.9.1.10", proto=17) / Raw(got.outer[20:]))
    assert (back.to, bytes(back.packet)[20:]) == ("db", bytes(QUERY)[20:])


@behaviour(
    "An appliance that only turns packets round, without knowing GENEVE, works behind a load balancer", source=CONTRACT
)
def test_appliance_that_translates_addresses_only() -> None:
    """As a kernel does that translates destination and source: its own address, one hop less, all else kept."""
    network = Network(ONE)
    for node, packet, receiver in (("app", QUERY, "db"), ("db", REPLY, "app")):
        outer = IP(delivered(network.send(node, packet)).outer)
        outer.src, outer.dst, outer.ttl = outer.dst, outer.src, 254
        del outer.chksum
        del outer[UDP].chksum
        assert network.send("fw1", outer).to == receiver


@behaviour(
    "A target drops a packet by not sending it back: the load balancer neither repeats it nor tells anybody",
    source=CONTRACT,
)
def test_dropped_by_the_target() -> None:
    network, _ = begun()
    network.now += 10_000
    _, emissions = network.plane.advance(network.now)
    assert list(emissions) == []


@behaviour(
    "A target answers in the name of the other end, as with a reset, in the header of the flow it belongs to",
    source=CONTRACT,
)
def test_reset_by_the_target() -> None:
    network = Network(ONE)
    syn = IP(src=APP, dst=DB) / TCP(sport=40000, dport=80, flags="S", seq=1)
    got = delivered(network.send("app", syn))
    reset = IP(src=DB, dst=APP) / TCP(sport=80, dport=40000, flags="RA", ack=2)
    result = send_back(network, got, inside=bytes(reset))
    assert (result.to, str(result.packet[TCP].flags)) == ("app", "RA")


@behaviour(
    "An ICMP error that a target makes reaches the sender in the header of the flow it is about",
    silent=True,
    source=CONTRACT,
)
def test_error_by_the_target() -> None:
    network, got = begun()
    error = IP(src="10.9.1.21", dst=APP) / ICMP(type=3, code=13) / Raw(bytes(QUERY)[:28])
    assert send_back(network, got, inside=bytes(error)).to == "app"
    other = IP(src="10.9.1.21", dst=APP) / ICMP(type=3, code=13) / Raw(bytes(PING)[:28])
    assert send_back(network, got, inside=bytes(other)).reason is Reason.GENEVE_FLOW_CHANGED


@behaviour(
    "A target that translates what is inside has its packets dropped: they are of no flow", silent=True, source=CONTRACT
)
@pytest.mark.parametrize(
    "inside",
    [
        IP(src="10.9.1.21", dst=DB) / UDP(sport=5000, dport=53),
        IP(src=APP, dst="10.0.3.11") / UDP(sport=5000, dport=53),
        IP(src=APP, dst=DB) / UDP(sport=5001, dport=53),
        IP(src=APP, dst=DB) / TCP(sport=5000, dport=53, flags="S"),
    ],
)
def test_translated_inside(inside: IP) -> None:
    network, got = begun()
    result = send_back(network, got, inside=bytes(inside))
    assert (result.reason, result.sent) == (Reason.GENEVE_FLOW_CHANGED, ())


# -- what is tolerated, and what is not


@behaviour("A GENEVE packet of another version than 0 is dropped", source=HEADER)
@pytest.mark.parametrize("first", [0x48, 0x88, 0xC8])
def test_other_version(first: int) -> None:
    network, got = begun()
    result = send_back(network, got, geneve=bytes([first]) + got.geneve[1:])
    assert (result.reason, result.sent) == (Reason.GENEVE_MALFORMED, ())


@behaviour("Reserved bits of the header are ignored on receipt", source=HEADER)
@pytest.mark.parametrize(("at", "bits"), [(1, 0x3F), (7, 0xFF)])
def test_reserved_bits(at: int, bits: int) -> None:
    network, got = begun()
    header = bytearray(got.geneve)
    header[at] |= bits
    assert send_back(network, got, geneve=bytes(header)).to == "db"


@behaviour("Any network and both flags are taken, though none was sent", silent=True, source=HEADER)
@pytest.mark.parametrize("start", ["0880 0800 00000000", "0840 0800 00000000", "0800 0800 12345600"])
def test_network_and_flags(start: str) -> None:
    network, got = begun()
    assert send_back(network, got, geneve=bytes.fromhex(start) + got.geneve[8:]).to == "db"


@behaviour("Options come back in any order, among others that nobody knows", source=OPTIONS)
def test_order_of_options() -> None:
    network, got = begun()
    endpoint, cookie = got.geneve[8:20], got.geneve[32:40]
    unknown = bytes.fromhex("0102 0702 0011223344556677")
    for options in (cookie + endpoint, unknown + cookie + unknown + endpoint, endpoint + cookie + unknown):
        assert send_back(network, got, geneve=with_options(options)).to == "db"


@behaviour(
    "Options that do not end where the header says they do make the packet invalid: it is dropped", source=OPTIONS
)
@pytest.mark.parametrize("words", [1, 7, 9, 63])
def test_length_of_options(words: int) -> None:
    network, got = begun()
    result = send_back(network, got, geneve=bytes([words]) + got.geneve[1:])
    assert (result.reason, result.sent) == (Reason.GENEVE_MALFORMED, ())


@behaviour(
    "What is inside has to be IPv4 or IPv6, as it was sent: Ethernet is dropped, and what is no packet",
    silent=True,
    source=HEADER,
)
@pytest.mark.parametrize(
    ("kind", "inside"), [("6558", None), ("0806", None), ("86dd", None), ("0800", b"hello"), ("0800", b"")]
)
def test_other_contents(kind: str, inside: bytes | None) -> None:
    network, got = begun()
    header = got.geneve[:2] + bytes.fromhex(kind) + got.geneve[4:]
    assert send_back(network, got, geneve=header, inside=inside).reason is Reason.GENEVE_MALFORMED


@behaviour(
    "A packet without the endpoint's id or the cookie is dropped, silently as all that is wrong with what comes back",
    silent=True,
    source=CONTRACT,
)
def test_missing_options() -> None:
    network, got = begun()
    for options in (b"", got.geneve[8:20], got.geneve[32:40], got.geneve[20:40]):
        result = send_back(network, got, geneve=with_options(options))
        assert (result.reason, result.sent) == (Reason.GENEVE_OPTIONS_MISSING, ())


@behaviour(
    "A cookie that no flow of the endpoint has is dropped: a target cannot begin a flow", silent=True, source=CONTRACT
)
@pytest.mark.parametrize("at", [12, 19, 36, 39])
def test_unknown_cookie(at: int) -> None:
    network, got = begun()
    header = bytearray(got.geneve)
    header[at] ^= 0x10
    result = send_back(network, got, geneve=bytes(header))
    assert (result.reason, result.sent) == (Reason.GENEVE_COOKIE_UNKNOWN, ())


@behaviour(
    "Only the flow's own target sends its packets back: those of another are dropped", silent=True, source=CONTRACT
)
def test_another_target() -> None:
    network, got = begun()
    packet = answer(got)
    packet.src = "10.9.1.22"
    result = network.send("fw2", packet)
    assert (result.reason, result.sent) == (Reason.GENEVE_SENDER, ())


@behaviour("Packets whose UDP ports have been swapped, or changed, are dropped", silent=True, source=CONTRACT)
def test_other_ports() -> None:
    network, got = begun()
    assert send_back(network, got, sport=6081, dport=got.source_port).reason is Reason.ENDPOINT_ADDRESSED
    assert send_back(network, got, sport=got.source_port ^ 1).reason is Reason.GENEVE_PORTS


@behaviour("A UDP checksum of zero is taken", source=UDP_HEADER)
def test_no_udp_checksum() -> None:
    network, got = begun()
    assert send_back(network, got, chksum=0).to == "db"


@behaviour(
    "Neither a wrong UDP checksum nor an outer TTL of 2 is in the way of what AWS's tunnel handler sends back",
    silent=True,
    source=CONTRACT,
)
def test_ttl_and_wrong_checksum() -> None:
    network, got = begun()
    for ttl in (1, 2, 254):
        packet = answer(got, chksum=0x1234)
        packet.ttl = ttl
        assert network.send("fw1", packet).to == "db"


@behaviour(
    "A GENEVE packet in fragments is dropped: the load balancer puts nothing together", silent=True, source=GUIDE
)
def test_fragments() -> None:
    network, got = begun()
    for piece in fragment(answer(got), 48):
        result = network.send("fw1", piece)
        assert (result.reason, result.sent) == (Reason.GENEVE_FRAGMENT, ())
