"""Network interfaces: which addresses are theirs, the source/destination check, and addresses that move."""

from __future__ import annotations

import pytest
from scapy.layers.inet import ICMP, IP, UDP
from scapy.layers.inet6 import ICMPv6EchoRequest, IPv6

from dataplane.verdict import Reason
from tests.conformance.behaviours import behaviour
from tests.conformance.labs import VPC, changed
from tests.conformance.sources import ec2_guide, reachability, vpc_guide
from tests.scenario.network import Network

SECTION = "Addresses, Ethernet and neighbours"

A1, A2, B1, B2, STRANGER = "10.0.1.11", "10.0.1.12", "10.0.2.11", "10.0.2.12", "192.0.2.55"
B1_6, STRANGER_6 = "2001:db8:a:2::11", "2001:db8:77::1"

APPLIANCE = changed(
    VPC,
    ("private_ip: 10.0.2.11,", "private_ip: 10.0.2.11, source_dest_check: false,"),
    (
        "    nat_gateways:",
        """      steered: {routes: [{destination: 192.0.2.0/24, target: "instance:b1"}]}
    nat_gateways:""",
    ),
    ("route_table: public}", "route_table: steered}"),
)
"""b1 forwards for others, and the subnet of a1 and a2 sends 192.0.2.0/24 to it."""


def with_secondary(node: str) -> str:
    """10.0.2.50 as a secondary private address of b1 or b2."""
    primary = {"b1": B1, "b2": B2}[node]
    return changed(VPC, (f"private_ip: {primary},", f"private_ip: {primary}, secondary_private_ips: [10.0.2.50],"))


@behaviour(
    "With the source/destination check a packet from an address that is not the interface's own is dropped; "
    "without it, it is forwarded",
    source=ec2_guide("using-eni"),
    item=5,
)
@pytest.mark.parametrize("source", [STRANGER, B2])
def test_source_check(source: str) -> None:
    result = Network(VPC).send("b1", IP(src=source, dst=A1) / UDP(sport=5, dport=6))
    assert (result.reason, result.sent) == (Reason.SOURCE_CHECK, ())
    assert Network(APPLIANCE).send("b1", IP(src=source, dst=A1) / UDP(sport=5, dport=6)).to == "a1"


@behaviour(
    "With the source/destination check a packet routed to an interface that has not its address is dropped there; "
    "without it, it arrives",
    source=reachability(),
)
def test_destination_check() -> None:
    packet = IP(src=A1, dst=STRANGER) / UDP(sport=5, dport=6)
    result = Network(APPLIANCE).send("a1", packet)
    assert (result.to, result.packet.dst) == ("b1", STRANGER)
    checked = changed(APPLIANCE, (", source_dest_check: false", ""))
    result = Network(checked).send("a1", packet)
    assert (result.reason, result.sent) == (Reason.DESTINATION_CHECK, ())


@behaviour("The source/destination check looks at IPv6 addresses too", source=ec2_guide("using-eni"))
def test_source_check_of_ipv6() -> None:
    foreign = IPv6(src=STRANGER_6, dst="2001:db8:a:1::11") / ICMPv6EchoRequest()
    assert Network(VPC).send("b1", foreign).reason is Reason.SOURCE_CHECK
    assert Network(APPLIANCE).send("b1", foreign).to == "a1"
    own = IPv6(src=B1_6, dst="2001:db8:a:1::11") / ICMPv6EchoRequest()
    assert Network(VPC).send("b1", own).to == "a1"


@behaviour(
    "Packets for a secondary private address reach its interface, and the interface may send from it",
    source=ec2_guide("using-eni"),
)
def test_secondary_address() -> None:
    network = Network(with_secondary("b1"))
    assert network.send("a1", IP(src=A1, dst="10.0.2.50") / ICMP()).to == "b1"
    assert network.send("b1", IP(src="10.0.2.50", dst=A1) / UDP(sport=5, dport=6)).to == "a1"


@behaviour(
    "A secondary private address that was given to another interface is reached there at once, with no ARP from it",
    source=ec2_guide("using-eni"),
    item=6,
)
def test_address_moves() -> None:
    network = Network(with_secondary("b1"))
    ping = IP(src=A1, dst="10.0.2.50") / ICMP(id=9)
    assert network.send("a1", ping).to == "b1"
    network.apply(with_secondary("b2"))
    assert network.send("a1", ping).to == "b2"
    assert network.send("b1", IP(src="10.0.2.50", dst=A1) / ICMP(type=0, id=9)).reason is Reason.SOURCE_CHECK


@behaviour(
    "A private address that nobody has any more is nowhere: packets for it are dropped",
    source=ec2_guide("using-eni"),
)
def test_address_removed() -> None:
    network = Network(with_secondary("b1"))
    network.apply(VPC)
    result = network.send("a1", IP(src=A1, dst="10.0.2.50") / ICMP())
    assert (result.reason, result.sent) == (Reason.DESTINATION_UNKNOWN, ())


@behaviour(
    "Each private IPv4 address of an interface may have an Elastic IP of its own",
    source=vpc_guide("vpc-eips"),
)
def test_elastic_ip_of_a_secondary_address() -> None:
    spare = """    network_interfaces:
      spare: {subnet: public, private_ips: [10.0.1.50, 10.0.1.51], security_groups: [open],
        elastic_ips: {10.0.1.50: 203.0.113.50, 10.0.1.51: 203.0.113.51},
        attachment: {instance: a1, device_index: 1}}
    nat_gateways:"""
    network = Network(changed(VPC, ("    nat_gateways:", spare)))
    for private, public in (("10.0.1.50", "203.0.113.50"), ("10.0.1.51", "203.0.113.51")):
        assert network.send("a1/eth1", IP(src=private, dst="198.51.100.10") / ICMP()).packet.src == public
        inbound = network.send("far", IP(src="198.51.100.10", dst=public) / ICMP())
        assert (inbound.to, inbound.packet.dst) == ("a1", private)


@behaviour(
    "An interface that is not attached keeps its address and receives nothing",
    source=ec2_guide("using-eni"),
)
def test_unattached_interface() -> None:
    spare = "    network_interfaces: {spare: {subnet: private, private_ips: [10.0.2.77], security_groups: [open]}}\n"
    network = Network(changed(VPC, ("    nat_gateways:", spare + "    nat_gateways:")))
    result = network.send("a1", IP(src=A1, dst="10.0.2.77") / ICMP())
    assert (result.reason, result.sent) == (Reason.PORT_DOWN, ())
