"""TCP resets of the reference engine, against RFC 9293 (section 3.10.7.1) and what scapy builds."""

from __future__ import annotations

import pytest
from scapy.layers.inet import IP, TCP, UDP
from scapy.layers.inet6 import IPv6, IPv6ExtHdrDestOpt

from dataplane.reference.packets import Packet, read
from dataplane.reference.resets import build_reset, is_due


def packet(built: IP | IPv6) -> Packet:
    found = read(built.version, bytes(built))
    assert isinstance(found, Packet)
    return found


@pytest.mark.parametrize(
    ("flags", "sequence", "acknowledgment", "data", "expected"),
    [
        ("A", 5, 2**32 - 1, 0, {"flags": "R", "seq": 2**32 - 1, "ack": 0}),
        ("FPA", 5, 9, 10, {"flags": "R", "seq": 9, "ack": 0}),
        ("SA", 5, 9, 0, {"flags": "R", "seq": 9, "ack": 0}),
        ("", 5, 9, 10, {"flags": "RA", "seq": 0, "ack": 15}),
        ("F", 5, 9, 0, {"flags": "RA", "seq": 0, "ack": 6}),
        ("SF", 5, 9, 1, {"flags": "RA", "seq": 0, "ack": 8}),
        ("P", 2**32 - 1, 0, 2, {"flags": "RA", "seq": 0, "ack": 1}),
    ],
)
def test_reset_is_acceptable_to_who_sent_the_segment(
    flags: str, sequence: int, acknowledgment: int, data: int, expected: dict[str, int | str]
) -> None:
    tcp = TCP(sport=40000, dport=80, flags=flags, seq=sequence, ack=acknowledgment, options=[("NOP", None)] * 4)
    answer = TCP(sport=80, dport=40000, window=0, **expected)
    reset = build_reset(packet(IP(src="10.0.0.1", dst="198.51.100.1", tos=8, id=7, ttl=3) / tcp / bytes(data)))
    assert reset.raw == bytes(IP(src="198.51.100.1", dst="10.0.0.1", id=0, ttl=64) / answer)
    chain = IPv6(src="2001:db8::1", dst="64:ff9b::1", tc=8, fl=7) / IPv6ExtHdrDestOpt() / tcp / bytes(data)
    assert build_reset(packet(chain)).raw == bytes(IPv6(src="64:ff9b::1", dst="2001:db8::1", hlim=64) / answer)


@pytest.mark.parametrize(
    ("layer", "due"),
    [(TCP(flags="A"), True), (TCP(flags="RA"), False), (TCP(flags="SR"), False), (UDP(), False)],
)
def test_no_reset_answers_a_reset(layer: TCP, due: bool) -> None:
    assert is_due(packet(IP(src="10.0.0.1", dst="198.51.100.1") / layer)) is due
