"""Internet gateways: one-to-one translation of IPv4 addresses, without memory; IPv6 as it is."""

from __future__ import annotations

import pytest
from scapy.layers.inet import ICMP, IP, TCP, UDP, fragment
from scapy.layers.inet6 import ICMPv6EchoRequest, IPv6

from dataplane.verdict import Reason, Verdict
from tests.conformance.behaviours import behaviour
from tests.conformance.labs import VPC, changed
from tests.conformance.sources import ec2_guide, reachability, rfc, vpc_guide
from tests.scenario.network import Network

SECTION = "Internet gateways"

A1, A2, B1, FAR, OTHER = "10.0.1.11", "10.0.1.12", "10.0.2.11", "198.51.100.10", "198.51.100.77"
PUBLIC = "203.0.113.12"
PAGE = vpc_guide("VPC_Internet_Gateway")
TWO_PUBLIC = changed(
    VPC, ('ipv6_address: "2001:db8:a:1::11",', 'ipv6_address: "2001:db8:a:1::11", elastic_ip: 203.0.113.11,')
)
"""a1 has a public address too."""


@behaviour(
    "Outside one sees an instance's Elastic IP and the port it chose; the instance sees its private address",
    source=PAGE,
    item=19,
)
def test_one_to_one() -> None:
    network = Network(VPC)
    out = network.send("a2", IP(src=A2, dst=FAR) / TCP(sport=4321, dport=80))
    assert (out.to, out.packet.src, out.packet.dst) == ("far", PUBLIC, FAR)
    assert (out.packet[TCP].sport, out.packet[TCP].dport) == (4321, 80)
    back = network.send("other", IP(src=OTHER, dst=PUBLIC) / TCP(sport=5555, dport=22))  # no state is needed
    assert (back.to, back.packet.src, back.packet.dst, back.packet[TCP].dport) == ("a2", OTHER, A2, 22)


@behaviour(
    "What an instance without a public address sends to the internet from a public subnet goes nowhere, silently",
    source=PAGE,
    item=20,
)
def test_no_public_address() -> None:
    result = Network(VPC).send("a1", IP(src=A1, dst=FAR) / ICMP())
    assert (result.verdict, result.reason, result.sent) == (Verdict.DROP, Reason.PUBLIC_SOURCE_MISSING, ())


@behaviour(
    "A default route to the internet gateway takes nothing to private addresses outside of the VPC",
    source=reachability(),
    item=21,
)
@pytest.mark.parametrize("destination", ["10.99.0.1", "172.16.0.1", "172.31.255.255", "192.168.0.1", "100.64.0.1"])
def test_private_destinations(destination: str) -> None:
    result = Network(VPC).send("a2", IP(src=A2, dst=destination) / UDP(sport=5, dport=6))
    assert (result.reason, result.sent) == (Reason.PRIVATE_DESTINATION, ())


@behaviour("Nothing comes in from a private address", source=reachability())
@pytest.mark.parametrize("source", ["10.99.0.1", "172.16.0.1", "192.168.0.1", "100.64.0.1"])
def test_private_sources(source: str) -> None:
    """Hosts on the internet cannot even send from one: like their providers, the lab lets out own addresses only."""
    result = Network(VPC).send("far", IP(src=source, dst=PUBLIC) / UDP(sport=5, dport=6))
    assert (result.reason, result.sent) == (Reason.SOURCE_CHECK, ())


@behaviour(
    "An instance reached at its Elastic IP from inside the VPC sees the other's Elastic IP, which is in no group",
    source=vpc_guide("security-group-rules"),
    item=22,
)
def test_hairpin() -> None:
    network = Network(TWO_PUBLIC)
    seen = network.send("a1", IP(src=A1, dst=PUBLIC) / TCP(sport=999, dport=80))
    assert (seen.to, seen.packet.src, seen.packet.dst) == ("a2", "203.0.113.11", A2)
    only_group = "ingress: [{protocol: all, source: self}, "
    network = Network(changed(TWO_PUBLIC, ("ingress: [{protocol: all, source: 0.0.0.0/0}, ", only_group)))
    assert network.send("a1", IP(src=A1, dst=PUBLIC) / TCP(sport=999, dport=80)).reason is Reason.GROUP_INGRESS
    assert network.send("a1", IP(src=A1, dst=A2) / TCP(sport=999, dport=80)).to == "a2"


@behaviour(
    "An instance behind a NAT gateway that goes to an Elastic IP of its VPC is seen as the NAT's Elastic IP",
    source=PAGE,
)
def test_hairpin_behind_nat() -> None:
    seen = Network(VPC).send("b1", IP(src=B1, dst=PUBLIC) / TCP(sport=999, dport=80))
    assert (seen.to, seen.packet.src, seen.packet.dst) == ("a2", "203.0.113.10", A2)


@behaviour("Any protocol passes the internet gateway, not only those with ports", source=PAGE)
@pytest.mark.parametrize("protocol", [4, 41, 47, 50, 51, 132, 253])
def test_any_protocol(protocol: int) -> None:
    network = Network(VPC)
    out = network.send("a2", IP(src=A2, dst=FAR, proto=protocol) / b"whatever it is")
    assert (out.to, out.packet.src, bytes(out.packet.payload)) == ("far", PUBLIC, b"whatever it is")
    back = network.send("other", IP(src=OTHER, dst=PUBLIC, proto=protocol) / b"whatever it is")
    assert (back.to, back.packet.dst) == ("a2", A2)


@behaviour(
    "The mapping is by source address, not by interface: what an appliance relays leaves with its owner's Elastic IP",
    source=reachability(),
)
def test_mapping_is_by_address() -> None:
    unchecked = changed(TWO_PUBLIC, ("private_ip: 10.0.1.11,", "private_ip: 10.0.1.11, source_dest_check: false,"))
    result = Network(unchecked).send("a1", IP(src=A2, dst=FAR) / ICMP())
    assert (result.to, result.packet.src) == ("far", PUBLIC)


@behaviour("A packet for a public address that no interface of a VPC has is dropped", source=reachability())
def test_unmapped_destination() -> None:
    result = Network(VPC).send("far", IP(src=FAR, dst="203.0.113.99") / ICMP())
    assert (result.verdict, result.sent) == (Verdict.DROP, ())


@behaviour(
    "A public address in a subnet without a route to the internet gateway is reached from outside, and cannot answer",
    source=PAGE,
)
def test_no_route_to_the_gateway() -> None:
    text = changed(
        VPC,
        (
            'routes: [{destination: 0.0.0.0/0, target: internet-gateway}, {destination: "::/0"',
            'routes: [{destination: "::/0"',
        ),
    )
    network = Network(text)
    assert network.send("far", IP(src=FAR, dst=PUBLIC) / TCP(sport=5000, dport=80)).to == "a2"
    answer = network.send("a2", IP(src=A2, dst=FAR) / TCP(sport=80, dport=5000, flags="SA"))
    assert (answer.reason, answer.sent) == (Reason.NO_ROUTE, ())


@behaviour(
    "An Elastic IP that is moved takes effect with the next packet, also for connections that are open",
    source=ec2_guide("elastic-ip-addresses-eip"),
)
def test_moved_elastic_ip() -> None:
    network = Network(VPC)
    network.send("a2", IP(src=A2, dst=FAR) / TCP(sport=4321, dport=80))
    answer = IP(src=FAR, dst=PUBLIC) / TCP(sport=80, dport=4321, flags="SA")
    assert network.send("far", answer).to == "a2"
    moved = changed(
        VPC,
        (",\n    elastic_ip: 203.0.113.12", ""),
        ('ipv6_address: "2001:db8:a:1::11",', 'ipv6_address: "2001:db8:a:1::11", elastic_ip: 203.0.113.12,'),
    )
    network.apply(moved)
    assert network.send("far", answer).to == "a1"
    late = network.send("a2", IP(src=A2, dst=FAR) / TCP(sport=4321, dport=80, flags="A"))
    assert late.reason is Reason.PUBLIC_SOURCE_MISSING


@behaviour(
    "An ICMP error from outside is translated with the packet it quotes, whose checksums fit again",
    source=rfc(5508, "4.2"),
)
@pytest.mark.parametrize("body", [UDP(sport=7000, dport=9) / b"abc", TCP(sport=7000, dport=80), ICMP(id=7) / b"abc"])
def test_quoted_packet(body: object) -> None:
    network = Network(VPC)
    sent = IP(src=A2, dst=FAR) / body
    outside = network.send("a2", sent).packet
    result = network.send("other", IP(src=OTHER, dst=PUBLIC) / ICMP(type=3, code=1) / IP(bytes(outside)))
    assert (result.to, result.packet.dst) == ("a2", A2)
    expected = IP(bytes(sent))
    expected.ttl = outside.ttl
    del expected.chksum
    assert bytes(result.sent[0].ether)[14 + 28 :] == bytes(expected)


@behaviour("An ICMP error that an instance sends is translated with the packet it quotes", source=rfc(5508, "4.2"))
def test_quoted_packet_outbound() -> None:
    network = Network(VPC)
    seen = network.send("far", IP(src=FAR, dst=PUBLIC) / UDP(sport=5, dport=6) / b"abc").packet
    result = network.send("a2", IP(src=A2, dst=FAR) / ICMP(type=3, code=3) / IP(bytes(seen)))
    quoted = IP(bytes(result.sent[0].ether)[14 + 28 :])
    assert (result.to, result.packet.src, quoted.src, quoted.dst) == ("far", PUBLIC, FAR, PUBLIC)


@behaviour("A UDP checksum of zero, which means none, stays zero through the internet gateway", source=rfc(3022, "4.1"))
def test_no_udp_checksum() -> None:
    out = Network(VPC).send("a2", IP(src=A2, dst=FAR) / UDP(sport=5, dport=6, chksum=0) / b"abc")
    assert (out.to, out.packet[UDP].chksum) == ("far", 0)


@behaviour("A checksum that comes to zero when it is translated is sent as 0xffff by UDP, as 0 by TCP", source=rfc(768))
@pytest.mark.parametrize(("layer", "written"), [(UDP, 0xFFFF), (TCP, 0)])
def test_checksum_of_zero(layer: type, written: int) -> None:
    outside = IP(bytes(IP(src=PUBLIC, dst=FAR) / layer(sport=5, dport=80) / b"\0\0"))
    makes_zero = outside[layer].chksum.to_bytes(2, "big")
    seen = Network(VPC).send("a2", IP(src=A2, dst=FAR) / layer(sport=5, dport=80) / makes_zero).packet
    assert (seen.src, seen[layer].chksum) == (PUBLIC, written)


@behaviour("All fragments of a datagram pass the internet gateway, translated", source=PAGE)
@pytest.mark.parametrize("body", [UDP(sport=5, dport=6), TCP(sport=5, dport=6), ICMP(id=7)])
def test_fragments(body: object) -> None:
    pieces = fragment(IP(src=A2, dst=FAR, id=9) / body / bytes(3000), 1400)
    results = Network(VPC).send_all("a2", pieces)
    assert [r.to for r in results] == ["far"] * 3
    assert {r.packet.src for r in results} == {PUBLIC}


@behaviour("IPv6 passes the internet gateway untranslated, both ways", source=PAGE)
def test_ipv6() -> None:
    network = Network(VPC)
    out = network.send("a2", IPv6(src="2001:db8:a:1::12", dst="2001:db8:99::10") / ICMPv6EchoRequest())
    assert (out.to, out.packet.src) == ("far", "2001:db8:a:1::12")
    back = network.send("other", IPv6(src="2001:db8:99::77", dst="2001:db8:a:1::12") / TCP(sport=5, dport=80))
    assert (back.to, back.packet.dst) == ("a2", "2001:db8:a:1::12")


@behaviour("An Elastic IP of an interface that is not attached leads nowhere", source=reachability())
def test_detached_interface() -> None:
    def text(attachment: str) -> str:
        extra = f"""    network_interfaces:
      extra: {{subnet: public, private_ips: [10.0.1.50], elastic_ips: {{10.0.1.50: 203.0.113.50}},
        security_groups: [open]{attachment}}}
    nat_gateways:"""
        return changed(VPC, ("    nat_gateways:", extra))

    probe = IP(src=FAR, dst="203.0.113.50") / ICMP()
    assert Network(text(", attachment: {instance: a1, device_index: 1}")).send("far", probe).to == "a1"
    result = Network(text("")).send("far", probe)
    assert (result.reason, result.sent) == (Reason.PUBLIC_DESTINATION_MISSING, ())


@behaviour(
    "An IPv6 address of an interface that is not attached does not leave through a gateway",
    source=reachability(),
    silent=True,
)
def test_detached_interface_ipv6() -> None:
    unchecked = changed(VPC, ("private_ip: 10.0.1.11,", "private_ip: 10.0.1.11, source_dest_check: false,"))

    def text(attachment: str) -> str:
        extra = f"""    network_interfaces:
      extra: {{subnet: public, ipv6_addresses: ["2001:db8:a:1::50"], security_groups: [open]{attachment}}}
    nat_gateways:"""
        return changed(unchecked, ("    nat_gateways:", extra))

    probe = IPv6(src="2001:db8:a:1::50", dst="2001:db8:99::10") / ICMPv6EchoRequest()
    network = Network(text(", attachment: {instance: a2, device_index: 1}"))
    assert network.send("a1", probe).to == "far"
    network.apply(text(""))
    result = network.send("a1", probe)
    assert (result.reason, result.sent) == (Reason.GATEWAY_SPOOFED, ())


@behaviour("An IPv6 source that no interface of the VPC has does not leave through a gateway", source=reachability())
def test_spoofed_ipv6() -> None:
    unchecked = changed(VPC, ("private_ip: 10.0.1.11,", "private_ip: 10.0.1.11, source_dest_check: false,"))
    for source in ("2001:db8:77::1", "2001:db8:a:1::99"):
        result = Network(unchecked).send("a1", IPv6(src=source, dst="2001:db8:99::10") / ICMPv6EchoRequest())
        assert (result.reason, result.sent) == (Reason.GATEWAY_SPOOFED, ())


@behaviour(
    "In a subnet that maps public addresses at launch an instance is reached by one, on its primary private address",
    source=vpc_guide("vpc-ip-addressing"),
)
def test_automatic_public_address() -> None:
    text = changed(
        VPC,
        (
            "availability_zone: a, route_table: public}",
            "availability_zone: a, route_table: public, map_public_ip_on_launch: true}",
        ),
        ("private_ip: 10.0.1.11,", "private_ip: 10.0.1.11, secondary_private_ips: [10.0.1.50],"),
    )
    network = Network(text)
    public = network.send("a1", IP(src=A1, dst=FAR) / ICMP()).packet.src
    assert public not in (A1, PUBLIC)
    assert network.send("far", IP(src=FAR, dst=public) / ICMP()).packet.dst == A1
    assert network.send("a1", IP(src="10.0.1.50", dst=FAR) / ICMP()).reason is Reason.PUBLIC_SOURCE_MISSING
    assert network.send("a2", IP(src=A2, dst=FAR) / ICMP()).packet.src == PUBLIC
