"""Files that other programs read, and that are read back."""

from __future__ import annotations

import io
import struct
import subprocess
from pathlib import Path

import pytest
from scapy.layers.inet import IP, TCP
from scapy.layers.l2 import Ether
from scapy.utils import RawPcapNgReader

from lab import pcapng
from tests.e2e.lab.stage import need

FRAME = bytes(Ether(src="02:00:00:00:00:01", dst="02:00:00:00:00:02") / IP(src="10.0.1.10", dst="10.0.2.10") / TCP())
TIME_NS = 1_700_000_000_123_456_789


ONE_INTERFACE = pcapng.section("x") + pcapng.interface("eth0", "", capture_length=0)


def two_interfaces() -> bytes:
    file = pcapng.section("vpclab") + pcapng.interface("web/eth0", "interface web/eth0", capture_length=0)
    file += pcapng.interface("nat:shop/nat/inside", "a gateway", capture_length=0, link_type=pcapng.RAW_IP)
    for number, (data, comment) in enumerate(
        ((FRAME, ""), (FRAME[14:], "DROP GROUP_INGRESS; ünd"), (b"\x45" * 33, "x"))
    ):
        file += pcapng.packet(
            data,
            time_ns=TIME_NS + number,
            length=len(data) + number,
            direction=pcapng.OUTBOUND if number else pcapng.INBOUND,
            interface=min(number, 1),
            comment=comment,
        )
    for number in range(2):
        file += pcapng.statistics(start_ns=1, end_ns=TIME_NS, received=3, dropped=7 - number, interface=number)
    return file


def test_a_file_that_scapy_reads_back() -> None:
    read = list(RawPcapNgReader(io.BytesIO(two_interfaces())))
    assert [data for data, _ in read] == [FRAME, FRAME[14:], b"\x45" * 33]
    assert [meta.wirelen for _, meta in read] == [len(FRAME), len(FRAME) - 13, 35]
    assert {meta.tsresol for _, meta in read} == {1_000_000_000}
    assert [(meta.tshigh << 32) + meta.tslow for _, meta in read] == [TIME_NS, TIME_NS + 1, TIME_NS + 2]
    assert [meta.ifname for _, meta in read] == [b"web/eth0", b"nat:shop/nat/inside", b"nat:shop/nat/inside"]
    assert [meta.linktype for _, meta in read] == [1, 101, 101]


def test_a_file_that_we_read_back() -> None:
    reader = pcapng.Reader()
    first, second, third = reader.packets(two_interfaces())
    assert [each.name for each in reader.interfaces] == ["web/eth0", "nat:shop/nat/inside"]
    assert first == (("web/eth0", 1), TIME_NS, FRAME, False, "")
    assert second == (("nat:shop/nat/inside", 101), TIME_NS + 1, FRAME[14:], True, "DROP GROUP_INGRESS; ünd")
    assert third.data == b"\x45" * 33
    lost = [
        pcapng.dropped_of(block) for kind, block in pcapng.whole_blocks(two_interfaces()) if kind == pcapng.STATISTICS
    ]
    assert lost == [7, 6]


def options(block: bytes, at: int) -> dict[int, bytes]:
    """Options of a block from `at` on: code, length, value padded to whole words; code 0 ends them."""
    found = {}
    while (head := struct.unpack_from("=HH", block, at))[0]:
        code, size = head
        found[code] = block[at + 4 : at + 4 + size]
        at += 4 + size + -size % 4
    return found


def test_options_have_the_codes_of_the_draft() -> None:
    """draft-ietf-opsawg-pcapng, sections 4.1, 4.2 and 4.6."""
    start_ns, end_ns = TIME_NS, TIME_NS + (5 << 32)
    section, interface, statistics = (
        pcapng.section("vpclab 1"),
        pcapng.interface("web/eth0", "interface web/eth0", capture_length=96),
        pcapng.statistics(start_ns=start_ns, end_ns=end_ns, received=9, dropped=2),
    )
    assert struct.unpack_from("=IHHq", section, 8) == (0x1A2B3C4D, 1, 0, -1)  # byte order, version 1.0, any length
    assert options(section, 24) == {4: b"vpclab 1"}  # shb_userappl
    assert struct.unpack_from("=HHI", interface, 8) == (1, 0, 96)  # link type, reserved, SnapLen
    assert options(interface, 16) == {2: b"web/eth0", 3: b"interface web/eth0", 9: b"\x09"}
    assert options(statistics, 20) == {
        2: struct.pack("=II", start_ns >> 32, start_ns & 0xFFFFFFFF),  # isb_starttime
        3: struct.pack("=II", end_ns >> 32, end_ns & 0xFFFFFFFF),  # isb_endtime
        4: struct.pack("=Q", 9),  # isb_ifrecv
        7: struct.pack("=Q", 2),  # isb_osdrop
    }


def test_a_file_is_read_in_pieces() -> None:
    whole = two_interfaces()
    for cut in range(len(whole)):
        rest = whole[:cut]
        blocks = list(pcapng.whole_blocks(rest))
        assert b"".join(block for _, block in blocks) == rest[: sum(len(block) for _, block in blocks)]
        assert len(rest) - sum(len(block) for _, block in blocks) < max(len(b) for _, b in pcapng.whole_blocks(whole))


def test_a_reader_takes_block_after_block() -> None:
    whole, reader = two_interfaces(), pcapng.Reader()
    found = [packet for _, block in pcapng.whole_blocks(whole) for packet in reader.packets(block)]
    assert found == list(pcapng.Reader().packets(whole))
    assert len(found) == 3


def test_a_block_may_have_nothing_in_it() -> None:
    """draft-ietf-opsawg-pcapng, section 3.1: a block has 12 bytes at least."""
    empty = struct.pack("=III", 0x0BAD, 12, 12)
    assert list(pcapng.whole_blocks(empty)) == [(0x0BAD, empty)]
    assert list(pcapng.whole_blocks(empty[:-1])) == []


@pytest.mark.parametrize(
    ("octets", "words"),
    [
        (b"", "no pcapng file"),
        (b"\xd4\xc3\xb2\xa1" + bytes(40), "no pcapng file"),
        (struct.pack("=IIIHHqI", 0x0A0D0D0A, 28, 0x4D3C2B1A, 1, 0, -1, 28), "byte order"),
        (pcapng.section("x") + struct.pack("=II", 6, 6) + bytes(8), "block of 6 bytes"),
        (pcapng.section("x") + struct.pack("=II", 6, 14) + bytes(8), "block of 14 bytes"),
        (pcapng.section("x") + struct.pack("=IIIIIIII", 6, 32, 0, 0, 0, 0, 0, 32), "no interface"),
        (ONE_INTERFACE + struct.pack("=IIIIIIII", 6, 32, 1, 0, 0, 0, 0, 32), "no interface"),
        (ONE_INTERFACE + struct.pack("=IIIIIII", 6, 28, 0, 0, 0, 0, 28), "too short"),
        (ONE_INTERFACE + struct.pack("=IIIIIII4sI", 6, 36, 0, 0, 0, 5, 5, b"1234", 36), "longer than its block"),
        (pcapng.section("x") + struct.pack("=IIHHIHHBxxxI", 1, 28, 1, 0, 0, 9, 1, 6, 28), "nanoseconds"),
        (pcapng.section("x") + struct.pack("=IIHHII", 1, 20, 1, 0, 0, 20), "nanoseconds"),  # nothing said: microseconds
    ],
)
def test_what_is_no_capture_of_ours_is_refused(octets: bytes, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        list(pcapng.Reader().packets(octets))


@pytest.mark.parametrize("comment", ["", "why"])
def test_directions_are_the_two_lowest_bits_of_the_flags(comment: str) -> None:
    """draft-ietf-opsawg-pcapng, section 4.3: 1 is inbound, 2 outbound; the bits above say how it was received."""
    for way, bits in ((pcapng.INBOUND, 1), (pcapng.OUTBOUND, 2)):
        block = pcapng.packet(b"12345", time_ns=TIME_NS, length=5, direction=way, comment=comment)
        assert struct.unpack_from("=I", options(block, 36)[2]) == (bits,)
        [read] = pcapng.Reader().packets(ONE_INTERFACE + block)
        assert (read.outgoing, read.comment, read.data) == (bits == 2, comment, b"12345")
    flags = struct.pack("=HHI", 2, 4, pcapng.OUTBOUND)
    unicast = block.replace(flags, struct.pack("=HHI", 2, 4, pcapng.OUTBOUND | 1 << 2))
    assert unicast != block
    assert [each.outgoing for each in pcapng.Reader().packets(ONE_INTERFACE + unicast)] == [True]


def test_blocks_are_whole_words_and_say_their_length_twice() -> None:
    for block in (
        pcapng.section("abc"),
        pcapng.interface("eth0", "d", capture_length=0),
        pcapng.packet(b"12345", time_ns=0, length=5, direction=pcapng.OUTBOUND),
        pcapng.packet(b"12345", time_ns=0, length=5, direction=pcapng.OUTBOUND, comment="abcde"),
        pcapng.statistics(start_ns=0, end_ns=0, received=0, dropped=0),
    ):
        assert len(block) % 4 == 0
        assert struct.unpack("=I", block[4:8]) == struct.unpack("=I", block[-4:]) == (len(block),)


def test_wireshark_reads_it(tmp_path: Path) -> None:
    file = tmp_path / "file.pcapng"
    file.write_bytes(two_interfaces())
    fields = ("frame.interface_name", "frame.time_epoch", "frame.comment", "ip.dst", "frame.p2p_dir")
    command = [
        need("tshark"),
        "-r",
        str(file),
        "-n",
        "-T",
        "fields",
        *(word for name in fields for word in ("-e", name)),
    ]
    rows = subprocess.run(command, capture_output=True, text=True, check=True).stdout.splitlines()
    assert rows[0].split("\t")[:4] == ["web/eth0", "1700000000.123456789", "", "10.0.2.10"]
    assert rows[1].split("\t")[:4] == [
        "nat:shop/nat/inside",
        "1700000000.123456790",
        "DROP GROUP_INGRESS; ünd",
        "10.0.2.10",
    ]
