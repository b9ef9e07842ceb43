"""Protocols, ports and ICMP types as rules of groups and ACLs write them."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dataplane.errors import ConfigurationError
from dataplane.model._traffic import IcmpMatch, PortRange, Protocol, Traffic
from tests.unit.model.building import lab, vpc


@pytest.mark.parametrize(
    ("value", "number"),
    [("tcp", 6), ("udp", 17), ("icmp", 1), ("icmpv6", 58), ("all", -1), (47, 47), ("50", 50), (0, 0)],
)
def test_protocols(value: object, number: int) -> None:
    assert Protocol.parse(value).number == number


@given(st.integers(0, 255))
def test_a_protocol_is_read_and_written_alike(number: int) -> None:
    assert Protocol.parse(str(Protocol(number))) == Protocol(number)


@pytest.mark.parametrize("value", ["TCP", "", "tcp6", 256, -1, -2, True, None, "1.5", "٣"])
def test_what_is_no_protocol(value: object) -> None:
    with pytest.raises(ValueError, match="; write"):
        Protocol.parse(value)


def test_true_is_no_protocol_where_1_was_read_before() -> None:
    """Python takes True and 1 for equal; what a lab file says are two things."""
    rules = [{"protocol": protocol, "source": "0.0.0.0/0"} for protocol in (1, True)]
    with pytest.raises(ConfigurationError, match=r"ingress\[1\]\.protocol: True is no protocol"):
        lab(vpcs={"shop": vpc(security_groups={"web": {"ingress": rules}})})


@pytest.mark.parametrize(("type_", "code", "fits"), [(255, 255, True), (256, -1, False), (8, 256, False)])
def test_icmp_types_and_codes_are_octets(type_: int, code: int, fits: bool) -> None:
    """RFC 792: a type and a code are one octet each."""
    traffic = Traffic(protocol=Protocol(1), icmp=IcmpMatch(type=type_, code=code))
    assert ([each.code for each in traffic.check_traffic(without_ports="")] == []) is fits


@given(st.integers(0, 65535), st.integers(0, 65535))
def test_ports_are_read_and_written_alike(one: int, other: int) -> None:
    ports = PortRange(min(one, other), max(one, other))
    assert PortRange.parse(str(ports)) == ports


@pytest.mark.parametrize(
    ("value", "first", "last"), [(80, 80, 80), ("80", 80, 80), ("0-65535", 0, 65535), ("1 - 2", 1, 2)]
)
def test_ports(value: object, first: int, last: int) -> None:
    assert PortRange.parse(value) == PortRange(first, last)


@pytest.mark.parametrize(
    "value", ["", "-1", "080", "1-010", 65536, "80-", "-80", "1-2-3", "80,443", "http", True, None, 1.5, "10-5"]
)
def test_what_are_no_ports(value: object) -> None:
    with pytest.raises(ValueError, match="; write"):
        PortRange.parse(value)


@pytest.mark.parametrize(
    ("traffic", "words"),
    [
        (Traffic(protocol=Protocol(6), ports=PortRange(80, 80)), "tcp 80"),
        (Traffic(protocol=Protocol(17), ports=PortRange(1, 9)), "udp 1-9"),
        (Traffic(protocol=Protocol(-1)), "all"),
        (Traffic(protocol=Protocol(47)), "47"),
        (Traffic(protocol=Protocol(1)), "icmp"),
        (Traffic(protocol=Protocol(1), icmp=IcmpMatch()), "icmp"),
        (Traffic(protocol=Protocol(1), icmp=IcmpMatch(type=8)), "icmp type 8"),
        (Traffic(protocol=Protocol(58), icmp=IcmpMatch(type=1, code=4)), "icmpv6 type 1 code 4"),
    ],
)
def test_a_rule_in_words(traffic: Traffic, words: str) -> None:
    assert traffic.in_words() == words


@pytest.mark.parametrize("value", [-1, "all", "Any"])
def test_all_ports_are_a_range(value: object) -> None:
    with pytest.raises(ValueError, match="; all ports are 0-65535"):
        PortRange.parse(value)


@pytest.mark.parametrize("value", ["047", "00"])
def test_protocol_numbers_do_not_begin_with_a_zero(value: str) -> None:
    with pytest.raises(ValueError, match="is no protocol"):
        Protocol.parse(value)
