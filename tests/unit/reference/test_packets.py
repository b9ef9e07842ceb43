"""Parser, checksums, translation and fragments of the reference engine, against scapy and against the RFCs."""

from __future__ import annotations

import struct
from dataclasses import replace
from ipaddress import IPv4Address
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from scapy.layers.inet import ICMP, IP, TCP, UDP, IPOption
from scapy.packet import Raw

from dataplane.reference.checksum import carried_over, checksum
from dataplane.reference.fragmentation import cut
from dataplane.reference.packets import Packet, read
from dataplane.reference.translation import decrement_ttl, translate, translate_quoted
from tests.unit.fastpath.test_receive import IPV4_CASES, IPV6_CASES

ELSEWHERE = {
    "spoofed source", "no route", "router asked for TCP", "land", "loopback source", "multicast source", "zero source",
    "multicast destination", "broadcast destination", "link-local destination", "unspecified source",
    "neighbour solicitation from afar", "neighbour solicitation for nobody",
    "neighbour solicitation with a code", "neighbour solicitation of 20 bytes",
}  # fmt: skip
"""Packets that are sound as such, or to who is no neighbour."""


@pytest.mark.parametrize("name", [name for name in IPV4_CASES if name not in ELSEWHERE])
def test_bad_ipv4_packet_is_refused_for_its_reason(name: str) -> None:
    packet, reason = IPV4_CASES[name]
    assert read(4, packet) is reason


@pytest.mark.parametrize("name", [name for name in IPV6_CASES if name not in ELSEWHERE])
def test_bad_ipv6_packet_is_refused_for_its_reason(name: str) -> None:
    packet, reason = IPV6_CASES[name]
    assert read(6, packet) is reason


@given(st.binary(max_size=90), st.sampled_from([4, 6]))
def test_any_bytes_are_read_or_refused(data: bytes, version: int) -> None:
    first = bytes([version << 4 | 5]) + data[1:] if data else data
    read(version, first)


def test_example_of_rfc_1071() -> None:
    assert checksum(bytes.fromhex("0001f203f4f5f6f7")) == 0x220D


@given(st.binary(min_size=8, max_size=60), st.integers(0, 65535), st.binary(min_size=2, max_size=2))
def test_wrong_checksum_stays_as_wrong(data: bytes, error: int, change: bytes) -> None:
    """What scapy finds wrong before, it finds wrong by as much after; what is right stays right."""
    right = checksum(b"\0\0" + data[2:])
    before = struct.pack(">H", (right + error) % 65535) + data[2:]
    after = before[:2] + change + before[4:]
    fixed = carried_over(before, after, 0)
    assert (fixed - checksum(b"\0\0" + after[2:])) % 65535 == error % 65535


def packet(built: Any) -> Packet:
    found = read(4, bytes(built))
    assert isinstance(found, Packet)
    return found


@pytest.mark.parametrize(
    "payload",
    [TCP(sport=5, dport=6) / b"odd", UDP(sport=5, dport=6) / b"x", UDP(sport=5, dport=6, chksum=0), ICMP(id=5)],
)
def test_translated_packet_is_what_scapy_builds(payload: Any) -> None:
    before = packet(IP(src="10.0.2.10", dst="198.51.100.10", ttl=9) / payload)
    flow = replace(before.flow, source=IPv4Address("203.0.113.10"), source_port=1024)
    if before.is_icmp:
        flow = replace(flow, destination_port=1024)
    wanted = IP(src="203.0.113.10", dst="198.51.100.10", ttl=8) / payload.copy()
    layer = wanted.payload
    setattr(layer, "id" if before.is_icmp else "sport", 1024)
    assert decrement_ttl(translate(before, flow)).raw == bytes(wanted)


def test_quoted_packet_is_translated_to_the_bytes_that_were_sent() -> None:
    sent = IP(src="10.0.2.10", dst="198.51.100.10", ttl=9) / UDP(sport=5, dport=6) / b"data"
    outside = IP(src="203.0.113.10", dst="198.51.100.10", ttl=9) / UDP(sport=1024, dport=6) / b"data"
    error = packet(IP(src="198.51.100.10", dst="10.0.2.10") / ICMP(type=3, code=3) / outside)
    assert error.quoted is not None
    flow = replace(error.quoted.flow, source=IPv4Address("10.0.2.10"), source_port=5)
    wanted = IP(src="198.51.100.10", dst="10.0.2.10") / ICMP(type=3, code=3) / sent
    assert translate_quoted(error, flow).raw == bytes(wanted)


@given(st.integers(0, 4000), st.sampled_from([576, 577, 583, 1500]), st.booleans())
def test_pieces_fit_and_hold_everything_once(size: int, mtu: int, optioned: bool) -> None:
    body = bytes(n % 251 for n in range(size))
    options = [IPOption(b"\x94\x04\0\0"), IPOption(b"\x07\x07\x04\0\0\0\0")] if optioned else []
    pieces = [IP(piece) for piece in cut(bytes(IP(proto=253, options=options) / Raw(body)), mtu)]
    assert all(len(bytes(piece)) <= mtu for piece in pieces)
    assert b"".join(bytes(piece.payload) for piece in pieces) == body
    offset = 0
    for piece in pieces:
        assert piece.frag * 8 == offset
        offset += len(piece.payload)
        rebuilt = piece.copy()
        del rebuilt.chksum
        assert bytes(rebuilt) == bytes(piece)
    assert ["MF" in piece.flags for piece in pieces] == [True] * (len(pieces) - 1) + [False]
