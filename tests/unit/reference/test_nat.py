"""NAT gateways of the reference engine: ports, filtering by the far end, age, and what may be proposed."""

from __future__ import annotations

from dataclasses import replace
from ipaddress import IPv4Address

import pytest
from scapy.layers.inet import ICMP, IP, TCP, UDP

from dataplane.model.settings import Settings
from dataplane.reference.lifetimes import limits_of_nat_gateways
from dataplane.reference.nat import InadmissiblePortError, NatTables, Proposals
from dataplane.reference.nodes import NatGateway
from dataplane.reference.packets import Packet, read
from dataplane.verdict import Reason

GATEWAY = NatGateway(
    number=1,
    vpc="shop",
    name="nat",
    subnet=None,  # type: ignore[arg-type]
    mac=b"\2" * 6,
    addresses=(IPv4Address("10.0.1.5"),),
    known_as={IPv4Address(each): IPv4Address("10.0.1.5") for each in ("10.0.1.5", "203.0.113.10")},
    limits=limits_of_nat_gateways(Settings()),
)
CLIENT, OTHER, FAR = "10.0.2.10", "10.0.2.11", "198.51.100.10"


def packet(built: IP) -> Packet:
    found = read(4, bytes(built))
    assert isinstance(found, Packet)
    return found


def out(nat: NatTables, built: IP, now: int = 0, proposals: Proposals = None) -> Packet:
    translated = nat.outbound(GATEWAY, packet(built), now, proposals)
    assert isinstance(translated, Packet), translated
    return translated


def back(nat: NatTables, built: IP, now: int = 0) -> Packet | Reason:
    return nat.inbound(GATEWAY, packet(built), now, is_ours=False)


def test_each_flow_to_one_destination_has_a_port_of_its_own_from_1024_up() -> None:
    nat = NatTables()
    ports = [
        out(nat, IP(src=source, dst=FAR) / UDP(sport=n, dport=53)).source_port
        for n in (1, 2)
        for source in (CLIENT, OTHER)
    ]
    assert ports == [1024, 1025, 1026, 1027]
    assert out(nat, IP(src=CLIENT, dst=FAR) / UDP(sport=1, dport=53)).source_port == 1024


def test_another_destination_may_use_the_port_again() -> None:
    nat = NatTables()
    assert out(nat, IP(src=CLIENT, dst=FAR) / UDP(sport=1, dport=53)).source_port == 1024
    assert out(nat, IP(src=OTHER, dst=FAR) / UDP(sport=1, dport=54)).source_port == 1024


def test_answers_are_those_of_the_same_far_end_and_port() -> None:
    nat = NatTables()
    port = out(nat, IP(src=CLIENT, dst=FAR) / UDP(sport=7, dport=53)).source_port
    answer = back(nat, IP(src=FAR, dst="10.0.1.5") / UDP(sport=53, dport=port))
    assert isinstance(answer, Packet)
    assert (str(answer.destination), answer.destination_port) == (CLIENT, 7)
    assert IP(answer.raw)[UDP].chksum == IP(bytes(IP(src=FAR, dst=CLIENT) / UDP(sport=53, dport=7)))[UDP].chksum
    for stranger in (
        IP(src=FAR, dst="10.0.1.5") / UDP(sport=54, dport=port),
        IP(src="198.51.100.11", dst="10.0.1.5") / UDP(sport=53, dport=port),
        IP(src=FAR, dst="10.0.1.5") / UDP(sport=53, dport=port + 1),
    ):
        assert back(nat, stranger) is Reason.NAT_NO_SESSION


@pytest.mark.parametrize(("idle", "alive"), [(349_999, True), (350_000, False)])
def test_idle_for_350_seconds_is_over(idle: int, alive: bool) -> None:
    nat = NatTables()
    port = out(nat, IP(src=CLIENT, dst=FAR) / UDP(sport=7, dport=53)).source_port
    answer = back(nat, IP(src=FAR, dst="10.0.1.5") / UDP(sport=53, dport=port), idle)
    assert isinstance(answer, Packet) is alive


def test_echo_has_its_identifier_translated_and_back() -> None:
    nat = NatTables()
    request = out(nat, IP(src=CLIENT, dst=FAR) / ICMP(id=7))
    reply = back(nat, IP(src=FAR, dst="10.0.1.5") / ICMP(type=0, id=request.source_port))
    assert isinstance(reply, Packet)
    assert (IP(reply.raw)[ICMP].id, reply.destination) == (7, IPv4Address(CLIENT))
    assert back(nat, IP(src=FAR, dst="10.0.1.5") / ICMP(type=8, id=request.source_port)) is Reason.NAT_NO_SESSION


def test_proposed_port_is_adopted_when_it_is_admissible() -> None:
    nat = NatTables()
    flow = IP(src=CLIENT, dst=FAR) / UDP(sport=7, dport=53)
    seen = packet(IP(src="203.0.113.10", dst=FAR) / UDP(sport=40001, dport=53))
    assert out(nat, flow, proposals=[seen]).source_port == 40001
    for port in (40001, 1023, 0):
        other = IP(src=OTHER, dst=FAR) / UDP(sport=7, dport=53)
        with pytest.raises(InadmissiblePortError):
            out(NatTables() if port != 40001 else nat, other, proposals=[replace(seen, source_port=port)])


def test_port_that_nobody_has_seen_answers_nobody() -> None:
    nat = NatTables()
    port = out(nat, IP(src=CLIENT, dst=FAR) / UDP(sport=7, dport=53), proposals=[]).source_port
    assert back(nat, IP(src=FAR, dst="10.0.1.5") / UDP(sport=53, dport=port)) is Reason.NAT_NO_SESSION


@pytest.mark.parametrize(
    ("built", "reason"),
    [
        (IP(src=CLIENT, dst=FAR, proto=47) / b"x", Reason.NAT_PROTOCOL),
        (IP(src=CLIENT, dst=FAR) / ICMP(type=0, id=1), Reason.NAT_NO_SESSION),
        (IP(src=CLIENT, dst=FAR) / TCP(flags="A"), Reason.NAT_NO_SESSION),
        (IP(src=CLIENT, dst=FAR, flags="MF") / TCP(flags="S") / bytes(4), Reason.NAT_FRAGMENT),
    ],
)
def test_what_opens_nothing(built: IP, reason: Reason) -> None:
    assert NatTables().outbound(GATEWAY, packet(built), 0, None) is reason
