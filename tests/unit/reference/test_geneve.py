"""GENEVE of the reference engine, against a header worked out by hand and RFC 8926."""

from __future__ import annotations

from ipaddress import IPv4Address

import pytest
from scapy.layers.inet import ICMP, IP, UDP
from scapy.layers.inet6 import IPv6
from scapy.packet import Raw

from dataplane.reference.geneve import Inside, Label, around, is_geneve, read_label, unwrap, wrap
from dataplane.reference.packets import Packet, read
from dataplane.verdict import Reason

# The values of a capture of real traffic: endpoint vpce-0f583215d2e66b39c, cookie 0x6742cc6d.
HEADER = bytes.fromhex(
    "08000800 00000000"  # version 0, 8 words of options; no flags; IPv4; network identifier 0
    "01080102 f583215d2e66b39c"  # Amazon, type 1, 2 words
    "01080202 0000000000000000"
    "01080301 6742cc6d"
)
LABEL = Label(0xF583215D2E66B39C, 0x6742CC6D)
PING = bytes(IP(src="10.0.2.10", dst="10.0.3.10") / ICMP(id=1) / Raw(bytes(56)))
NODE, TARGET = IPv4Address("10.9.1.10"), IPv4Address("10.9.1.21")


def packet(built: IP) -> Packet:
    found = read(4, bytes(built))
    assert isinstance(found, Packet)
    return found


def outer(message: bytes) -> Packet:
    return packet(IP(src="10.9.1.21", dst="10.9.1.10") / UDP(sport=60001, dport=6081, chksum=0) / Raw(message))


def test_what_a_target_gets() -> None:
    made = wrap(PING, LABEL, NODE, 60001, TARGET)
    header = IP(src="10.9.1.10", dst="10.9.1.21", ttl=255, id=0, flags=0)
    assert made.raw == bytes(header / UDP(sport=60001, dport=6081) / Raw(HEADER + PING))
    assert len(made.raw) == 152  # as captured, for a ping of 84 bytes


def test_ipv6_inside() -> None:
    inside = bytes(IPv6(src="2001:db8::1", dst="2001:db8::2") / UDP(sport=1, dport=2))
    made = wrap(inside, LABEL, NODE, 60001, TARGET)
    assert made.raw[28:36].hex() == "080086dd00000000"
    assert made.raw[68:] == inside


def test_same_around_something_else() -> None:
    made = wrap(PING, LABEL, NODE, 60001, TARGET)
    assert around(made, PING[:60]).raw == wrap(PING[:60], LABEL, NODE, 60001, TARGET).raw


def test_udp_checksum_is_never_zero() -> None:
    """Zero would say that there is none (RFC 768): where the sum comes to it, all ones are sent."""
    raw = bytearray(PING)
    before = wrap(bytes(raw), LABEL, NODE, 60001, TARGET)
    raw[-2:] = before.raw[26:28]  # what makes the sum zero
    raw[-2:] = ((int.from_bytes(before.raw[26:28]) + int.from_bytes(PING[-2:])) % 0xFFFF).to_bytes(2)
    assert wrap(bytes(raw), LABEL, NODE, 60001, TARGET).raw[26:28] == b"\xff\xff"


def test_what_a_target_sends_back() -> None:
    found = unwrap(outer(HEADER + PING))
    assert isinstance(found, Inside)
    assert (found.label, found.packet.raw) == (LABEL, PING)
    assert read_label(outer(HEADER + PING)) == LABEL


def test_only_as_much_as_the_udp_header_says() -> None:
    raw = bytes(
        IP(src="10.9.1.21", dst="10.9.1.10") / UDP(sport=60001, dport=6081, chksum=0, len=48) / Raw(HEADER + PING)
    )
    found = read(4, raw)
    assert isinstance(found, Packet)
    assert unwrap(found) is Reason.GENEVE_MALFORMED  # nothing inside
    assert read_label(found) == LABEL


@pytest.mark.parametrize("words", range(9))
def test_header_says_where_the_options_end(words: int) -> None:
    found = unwrap(outer(bytes([words]) + HEADER[1 : 8 + words * 4] + PING))
    if words == 8:
        assert isinstance(found, Inside)
    else:  # in the middle of an option, or without the cookie
        assert found is (Reason.GENEVE_OPTIONS_MISSING if words in (0, 3, 6) else Reason.GENEVE_MALFORMED)


def test_most_options_there_can_be() -> None:
    options = HEADER[8:] + bytes.fromhex("ffff001f") + bytes(124) + bytes.fromhex("ffff0016") + bytes(88)
    assert len(options) == 252
    assert isinstance(unwrap(outer(bytes([63]) + HEADER[1:8] + options + PING)), Inside)


def test_first_of_two_options_counts() -> None:
    options = HEADER[8:] + bytes.fromhex("0108030100000001")
    found = unwrap(outer(bytes([10]) + HEADER[1:8] + options + PING))
    assert isinstance(found, Inside)
    assert found.label == LABEL


def test_critical_bit_makes_another_option() -> None:
    options = HEADER[8:].replace(bytes.fromhex("01080301"), bytes.fromhex("01088301"))
    assert unwrap(outer(HEADER[:8] + options + PING)) is Reason.GENEVE_OPTIONS_MISSING


@pytest.mark.parametrize(("layer", "is_one"), [(UDP(sport=1, dport=6081), True), (UDP(sport=6081, dport=1), False)])
def test_port_makes_it_geneve(layer: UDP, is_one: bool) -> None:
    assert is_geneve(packet(IP(src="10.9.1.21", dst="10.9.1.10") / layer)) is is_one
