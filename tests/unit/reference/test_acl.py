"""Network ACLs of the reference engine: order by number, implicit deny, ports, types, families."""

from __future__ import annotations

from ipaddress import ip_address, ip_network
from typing import Any

import pytest

from dataplane.model._traffic import IcmpMatch, PortRange, Protocol
from dataplane.model.network_acl import NetworkAclRule
from dataplane.reference.acl import Acl, AclRule
from dataplane.reference.packets import Packet

SOURCE, DESTINATION = "10.0.2.10", "10.0.1.10"


def rule(number: int, action: Any, protocol: int = -1, cidr: str = "0.0.0.0/0", **more: Any) -> AclRule:
    network = ip_network(cidr)
    return AclRule(
        NetworkAclRule(rule=number, protocol=Protocol(protocol), cidr=network, action=action, **more), number
    )


def packet(protocol: int = 6, source: str = SOURCE, **more: Any) -> Packet:
    ends: Any = {"source": ip_address(source), "destination": ip_address(DESTINATION)}
    return Packet(raw=b"", version=4, ttl=64, protocol=protocol, transport=20, **ends, **more)


def judge(rules: list[AclRule], what: Packet) -> tuple[bool, int]:
    return Acl(1, tuple(rules), ()).judge(rules, what, what.source)


def test_lowest_number_decides_whatever_the_order_written() -> None:
    rules = [rule(200, "allow"), rule(90, "deny", 6, ports=PortRange(80, 80)), rule(100, "allow", 6)]
    assert judge(rules, packet(destination_port=80)) == (False, 90)
    assert judge(rules, packet(destination_port=81)) == (True, 100)
    assert judge(rules, packet(17, destination_port=80)) == (True, 200)


def test_no_rule_denies_without_naming_one() -> None:
    assert judge([], packet()) == (False, 0)
    assert judge([rule(1, "allow", cidr="10.0.3.0/24")], packet()) == (False, 0)


@pytest.mark.parametrize(("port", "passes"), [(1023, False), (1024, True), (2048, True), (2049, False)])
def test_ports_are_of_the_destination_and_inclusive(port: int, passes: bool) -> None:
    rules = [rule(1, "allow", 17, ports=PortRange(1024, 2048))]
    assert judge(rules, packet(17, source_port=1500, destination_port=port))[0] is passes


def test_icmp_type_and_code() -> None:
    rules = [rule(1, "allow", 1, icmp=IcmpMatch(type=3, code=4))]
    assert judge(rules, packet(1, icmp_type=3, icmp_code=4))[0]
    assert not judge(rules, packet(1, icmp_type=3, icmp_code=3))[0]
    assert not judge(rules, packet(1, icmp_type=8, icmp_code=4))[0]


@pytest.mark.parametrize(
    ("source", "passes"),
    [("10.0.1.255", False), ("10.0.2.0", True), ("10.0.2.255", True), ("10.0.3.0", False)],
)
def test_blocks_at_their_edges(source: str, passes: bool) -> None:
    assert judge([rule(1, "allow", cidr="10.0.2.0/24")], packet(source=source))[0] is passes


def test_ipv6_block_matches_no_ipv4_packet() -> None:
    assert not judge([rule(1, "allow", cidr="::/0")], packet())[0]
