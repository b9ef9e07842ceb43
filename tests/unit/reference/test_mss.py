"""MSS clamping of the reference engine: which options are touched, and that checksums stay right (or wrong)."""

from __future__ import annotations

import pytest
from scapy.layers.inet import IP, TCP, in4_chksum
from scapy.layers.inet6 import IPv6, IPv6ExtHdrDestOpt
from scapy.packet import Raw

from dataplane.reference.mss import clamp
from dataplane.reference.packets import Packet, read


def packet(built: IP | IPv6) -> Packet:
    found = read(built.version, bytes(built))
    assert isinstance(found, Packet)
    return found


HEADER = IP(src="10.0.0.1", dst="10.0.0.2", proto=6)


def syn(options: bytes, flags: str) -> bytes:
    """A packet with TCP options as bytes, padded to whole words."""
    padded = options + bytes(-len(options) % 4)
    tcp = bytes(TCP(sport=1, dport=2, flags=flags, dataofs=5 + len(padded) // 4, chksum=0))[:20] + padded + b"data"
    return bytes(HEADER / Raw(tcp[:16] + in4_chksum(6, HEADER, tcp).to_bytes(2) + tcp[18:]))


def lowered(options: str, flags: str = "S") -> str:
    before = syn(bytes.fromhex(options), flags)
    found = read(4, before)
    assert isinstance(found, Packet)
    after = clamp(found, 8500).raw
    assert in4_chksum(6, HEADER, after[20:]) == 0  # the checksum is right
    assert (after[:36], after[38:40], after[-4:]) == (before[:36], before[38:40], b"data")
    return after[40 : 40 + len(options) // 2].hex()


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ("02042301", "0204210c"),  # 8961 -> 8460
        ("0204210d", "0204210c"),
        ("0204210c", "0204210c"),
        ("020405b4", "020405b4"),
        ("01020423010101", "010204210c0101"),  # at an odd offset
        ("0402080a000000010000000002042301", "0402080a00000001000000000204210c"),
        ("0002042301", "0002042301"),  # behind the end of the list
        ("0300", "0300"),  # a length that cannot be
        ("0301020423010000", "0301020423010000"),
        ("030a02042301", "030a02042301"),  # beyond the header
        ("02032301", "02032301"),
        ("02062301000002042301", "0206230100000204210c"),  # not an MSS: it is too long
        ("0204230102042302", "0204210c0204210c"),
    ],
)
def test_options(options: str, expected: str) -> None:
    assert lowered(options) == expected


@pytest.mark.parametrize(("flags", "changes"), [("S", True), ("SA", True), ("A", False), ("R", False), ("FPA", False)])
def test_flags(flags: str, changes: bool) -> None:
    assert (lowered("02042301", flags) == "0204210c") is changes


def test_ipv6_behind_an_extension_header() -> None:
    tcp = TCP(sport=1, dport=2, flags="S", options=[("MSS", 9000)])
    before = IPv6(src="2001:db8::1", dst="2001:db8::2") / IPv6ExtHdrDestOpt() / tcp
    expected = IPv6(src="2001:db8::1", dst="2001:db8::2") / IPv6ExtHdrDestOpt() / tcp.copy()
    expected[TCP].options = [("MSS", 8440)]
    assert clamp(packet(before), 8500).raw == bytes(expected)


def test_wrong_checksum_stays_wrong() -> None:
    tcp = TCP(sport=1, dport=2, flags="S", options=[("MSS", 9000)])
    right = clamp(packet(IP(src="10.0.0.1", dst="10.0.0.2") / tcp), 8500).raw
    whole = bytearray(bytes(IP(src="10.0.0.1", dst="10.0.0.2") / tcp))
    whole[36:38] = ((int.from_bytes(whole[36:38]) + 1) % 0xFFFF).to_bytes(2)
    wrong = clamp(packet(IP(bytes(whole))), 8500).raw
    assert int.from_bytes(wrong[36:38]) == (int.from_bytes(right[36:38]) + 1) % 0xFFFF
    assert (wrong[:36], wrong[38:]) == (right[:36], right[38:])


def test_first_fragment_is_clamped_too() -> None:
    whole = IP(src="10.0.0.1", dst="10.0.0.2", flags="MF") / TCP(flags="S", options=[("MSS", 9000)]) / Raw(bytes(8))
    assert b"\x02\x04\x21\x0c" in clamp(packet(whole), 8500).raw
