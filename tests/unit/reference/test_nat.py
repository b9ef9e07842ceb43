"""NAT gateways of the reference engine: ports, filtering by the far end, age, and what may be proposed."""

from __future__ import annotations

from dataclasses import replace
from ipaddress import IPv4Address

import pytest
from scapy.layers.inet import ICMP, IP, TCP, UDP

from dataplane.model.settings import Settings
from dataplane.reference.lifetimes import limits_of_nat_gateways
from dataplane.reference.nat import InadmissiblePortError, NatTables
from dataplane.reference.nat_ports import MOST_PER_DESTINATION
from dataplane.reference.nodes import NatGateway
from dataplane.reference.packets import Packet, read
from dataplane.reference.proposals import Proposals, Proposed
from dataplane.reference.room import Room
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
TWO = replace(
    GATEWAY,
    addresses=(IPv4Address("10.0.1.5"), IPv4Address("10.0.1.6")),
    known_as={
        **GATEWAY.known_as,
        **{IPv4Address(each): IPv4Address("10.0.1.6") for each in ("10.0.1.6", "203.0.113.11")},
    },
)
CLIENT, OTHER, FAR = "10.0.2.10", "10.0.2.11", "198.51.100.10"


def packet(built: IP) -> Packet:
    found = read(4, bytes(built))
    assert isinstance(found, Packet)
    return found


def proposed(*packets: Packet) -> Proposed:
    return Proposed(packets, (), frozenset(), frozenset(), frozenset())


def out(nat: NatTables, built: IP, now: int = 0, proposals: Proposals = None) -> Packet:
    translated = nat.outbound(GATEWAY, packet(built), now, proposals)
    assert isinstance(translated, Packet), translated
    return translated


def back(nat: NatTables, built: IP, now: int = 0) -> Packet | Reason:
    return nat.inbound(GATEWAY, packet(built), now, is_ours=False)


def test_each_flow_to_one_destination_has_a_port_of_its_own_from_1024_up() -> None:
    nat = NatTables(Room())
    ports = [
        out(nat, IP(src=source, dst=FAR) / UDP(sport=n, dport=53)).source_port
        for n in (1, 2)
        for source in (CLIENT, OTHER)
    ]
    assert ports == [1024, 1025, 1026, 1027]
    assert out(nat, IP(src=CLIENT, dst=FAR) / UDP(sport=1, dport=53)).source_port == 1024


def test_another_destination_may_use_the_port_again() -> None:
    nat = NatTables(Room())
    assert out(nat, IP(src=CLIENT, dst=FAR) / UDP(sport=1, dport=53)).source_port == 1024
    assert out(nat, IP(src=OTHER, dst=FAR) / UDP(sport=1, dport=54)).source_port == 1024


def test_answers_are_those_of_the_same_far_end_and_port() -> None:
    nat = NatTables(Room())
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
    nat = NatTables(Room())
    port = out(nat, IP(src=CLIENT, dst=FAR) / UDP(sport=7, dport=53)).source_port
    answer = back(nat, IP(src=FAR, dst="10.0.1.5") / UDP(sport=53, dport=port), idle)
    assert isinstance(answer, Packet) is alive


def test_echo_has_its_identifier_translated_and_back() -> None:
    nat = NatTables(Room())
    request = out(nat, IP(src=CLIENT, dst=FAR) / ICMP(id=7))
    reply = back(nat, IP(src=FAR, dst="10.0.1.5") / ICMP(type=0, id=request.source_port))
    assert isinstance(reply, Packet)
    assert (IP(reply.raw)[ICMP].id, reply.destination) == (7, IPv4Address(CLIENT))
    assert back(nat, IP(src=FAR, dst="10.0.1.5") / ICMP(type=8, id=request.source_port)) is Reason.NAT_NO_SESSION


def test_proposed_port_is_adopted_when_it_is_admissible() -> None:
    nat = NatTables(Room())
    flow = IP(src=CLIENT, dst=FAR) / UDP(sport=7, dport=53)
    seen = packet(IP(src="203.0.113.10", dst=FAR) / UDP(sport=40001, dport=53))
    assert out(nat, flow, proposals=proposed(seen)).source_port == 40001
    for port in (40001, 1023, 0):
        other = IP(src=OTHER, dst=FAR) / UDP(sport=7, dport=53)
        with pytest.raises(InadmissiblePortError):
            out(NatTables(Room()) if port != 40001 else nat, other, proposals=proposed(replace(seen, source_port=port)))


def test_port_that_nobody_has_seen_answers_nobody() -> None:
    nat = NatTables(Room())
    port = out(nat, IP(src=CLIENT, dst=FAR) / UDP(sport=7, dport=53), proposals=proposed()).source_port
    assert back(nat, IP(src=FAR, dst="10.0.1.5") / UDP(sport=53, dport=port)) is Reason.NAT_NO_SESSION


def test_proposed_address_may_be_any_of_its_own_seen_inside_or_outside() -> None:
    for seen, own in (("10.0.1.5", "10.0.1.5"), ("10.0.1.6", "10.0.1.6"), ("203.0.113.11", "10.0.1.6")):
        nat = NatTables(Room())
        proposal = packet(IP(src=seen, dst=FAR) / UDP(sport=40001, dport=53))
        flow = packet(IP(src=CLIENT, dst=FAR) / UDP(sport=7, dport=53))
        there = nat.outbound(TWO, flow, 0, proposed(proposal))
        assert isinstance(there, Packet)
        assert (str(there.source), there.source_port) == (own, 40001)
        for address in ("10.0.1.5", "10.0.1.6"):
            answer = packet(IP(src=FAR, dst=address) / UDP(sport=53, dport=40001))
            assert isinstance(nat.inbound(TWO, answer, 0, is_ours=False), Packet) is (address == own)


def test_what_another_gateway_made_of_it_is_not_adopted() -> None:
    """Behind a second NAT gateway its own address and port are not to be seen; answers come by that one."""
    nat = NatTables(Room())
    proposal = packet(IP(src="10.0.9.9", dst=FAR) / UDP(sport=40001, dport=53))
    there = out(nat, IP(src=CLIENT, dst=FAR) / UDP(sport=7, dport=53), proposals=proposed(proposal))
    answer = packet(IP(src=FAR, dst="10.0.1.5") / UDP(sport=53, dport=there.source_port))
    assert nat.inbound(GATEWAY, answer, 0, is_ours=False) is Reason.NAT_NO_SESSION
    assert isinstance(nat.inbound(GATEWAY, answer, 0, is_ours=True), Packet)


def test_port_that_only_stood_in_makes_room_for_one_that_is_seen() -> None:
    nat = NatTables(Room())
    unseen = out(nat, IP(src=CLIENT, dst=FAR) / UDP(sport=7, dport=53), proposals=proposed())
    proposal = packet(IP(src="203.0.113.10", dst=FAR) / UDP(sport=unseen.source_port, dport=53))
    assert out(nat, IP(src=OTHER, dst=FAR) / UDP(sport=7, dport=53), proposals=proposed(proposal)).source_port == (
        unseen.source_port
    )
    assert out(nat, IP(src=CLIENT, dst=FAR) / UDP(sport=7, dport=53)).source_port != unseen.source_port


def test_so_many_connections_for_each_address_and_destination(monkeypatch: pytest.MonkeyPatch) -> None:
    """ "55,000 simultaneous connections to each unique destination" for each address (NAT gateway basics); here 55."""
    assert MOST_PER_DESTINATION == 55_000
    monkeypatch.setattr("dataplane.reference.nat.MOST_PER_DESTINATION", 55)
    nat = NatTables(Room())

    def send(number: int, dport: int = 53, now: int = 0) -> Packet | Reason:
        flow = IP(src=CLIENT, dst=FAR) / UDP(sport=number, dport=dport)
        return nat.outbound(TWO, packet(flow), now, None)

    sent = [send(number) for number in range(110)]
    taken = {(each.source, each.source_port) for each in sent if isinstance(each, Packet)}
    assert taken == {(address, port) for address in TWO.addresses for port in range(1024, 1079)}
    assert send(200) is Reason.NAT_PORTS_EXHAUSTED
    assert isinstance(send(0), Packet)
    assert isinstance(send(200, dport=54), Packet)
    assert nat.metrics(TWO.number, 0)["ErrorPortAllocation"] == 1
    assert isinstance(send(200, now=350_000), Packet)
    assert nat.metrics(TWO.number, 350_000)["IdleTimeoutCount"] == 111


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
    assert NatTables(Room()).outbound(GATEWAY, packet(built), 0, None) is reason
