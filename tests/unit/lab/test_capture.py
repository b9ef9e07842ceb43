from __future__ import annotations

import io
import os
import struct
import time
from collections.abc import Iterator
from itertools import count

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from lab import pcapng
from lab.capture import Capture
from lab.packet_ring import Frame, PacketRing, complete_checksum


def slow_sum(data: bytes) -> int:
    """RFC 1071, word by word."""
    total = 0
    for (word,) in struct.iter_unpack("!H", data + bytes(len(data) % 2)):
        total += word
        total = (total & 0xFFFF) + (total >> 16)
    return total


@given(st.binary(min_size=20, max_size=200), st.integers(0, 10), st.integers(0, 8))
@example(bytes(40), 0, 0)
@example(b"\xff" * 41, 3, 6)
@example(b"\xff\xff" + bytes(18), 0, 4)
def test_a_completed_checksum_sums_up_to_all_ones(frame: bytes, start: int, offset: int) -> None:
    done = complete_checksum(frame, start, offset)
    field = start + offset
    assert len(done) == len(frame)
    assert done[:field] + done[field + 2 :] == frame[:field] + frame[field + 2 :]
    # The field held a partial sum; with it replaced by the checksum, the rest plus that sum must give all ones.
    rest = slow_sum(frame[start:])
    checksum = int.from_bytes(done[field : field + 2], "big")
    assert (rest + checksum) % 0xFFFF == 0
    assert checksum != 0


@pytest.mark.parametrize("length", [0, 5, 6, 7])
def test_a_checksum_field_past_the_end_leaves_the_frame_alone(length: int) -> None:
    frame = bytes(range(10)) + bytes(length)
    assert complete_checksum(frame, 10, 6)[: 10 + min(length, 6)] == frame[: 10 + min(length, 6)]
    if length < 8:
        assert complete_checksum(frame, 10, 6) == frame


def test_a_checksum_as_scapy_computes_it() -> None:
    from scapy.layers.inet import IP, TCP
    from scapy.layers.l2 import Ether

    whole = Ether() / IP(src="10.0.1.10", dst="10.0.2.10") / TCP(sport=1, dport=80, flags="S") / b"odd"
    right = bytes(whole)
    pseudo = struct.pack("!4s4sBBH", right[26:30], right[30:34], 0, 6, len(right) - 34)
    partial = right[:50] + slow_sum(pseudo).to_bytes(2, "big") + right[52:]
    assert complete_checksum(partial, 34, 16) == right


def test_a_file_that_scapy_reads_back() -> None:
    from scapy.utils import RawPcapNgReader

    frames = [bytes(range(60)), bytes(61), b"\xff" * 9015]
    file = pcapng.section("vpclab") + pcapng.interface("eth0", "web eth0", capture_length=0)
    for number, frame in enumerate(frames):
        file += pcapng.packet(
            frame, time_ns=1_700_000_000_123_456_789 + number, length=len(frame) + number, direction=pcapng.INBOUND
        )
    file += pcapng.statistics(start_ns=1, end_ns=2, received=3, dropped=0)
    read = list(RawPcapNgReader(io.BytesIO(file)))
    assert [frame for frame, _ in read] == frames
    assert [meta.wirelen for _, meta in read] == [60, 62, 9017]
    assert {meta.tsresol for _, meta in read} == {1_000_000_000}
    times = [(meta.tshigh << 32) + meta.tslow for _, meta in read]
    assert times == [1_700_000_000_123_456_789 + number for number in range(3)]
    assert {meta.ifname for _, meta in read} == {b"eth0"}


def test_blocks_are_whole_words_and_say_their_length_twice() -> None:
    for block in (
        pcapng.section("abc"),
        pcapng.interface("eth0", "d", capture_length=0),
        pcapng.packet(b"12345", time_ns=0, length=5, direction=pcapng.OUTBOUND),
        pcapng.statistics(start_ns=0, end_ns=0, received=0, dropped=0),
    ):
        assert len(block) % 4 == 0
        assert struct.unpack("=I", block[4:8]) == struct.unpack("=I", block[-4:]) == (len(block),)


class LateRing:
    """Hands over its only frame at the last moment: when it was asked for frames before."""

    def __init__(self) -> None:
        self._never, self._other = os.pipe()
        self._asked = 0

    def fileno(self) -> int:
        return self._never

    def frames(self) -> Iterator[Frame]:
        self._asked += 1
        if self._asked == 1:
            yield Frame(b"late", 1, 4, False)

    def statistics(self) -> tuple[int, int]:
        return 1, 0

    def close(self) -> None:
        os.close(self._never)
        os.close(self._other)


def test_a_capture_that_got_no_processor_still_has_what_came(monkeypatch: pytest.MonkeyPatch) -> None:
    """The time that the kernel needs for its last block is over before we look at it once."""
    seconds = count()
    monkeypatch.setattr(time, "monotonic", lambda: float(next(seconds)))
    ring: PacketRing = LateRing()  # type: ignore[assignment]
    with Capture([ring], b"head", lambda _, frame: frame.data) as running:
        running.stop()
        stream = io.BytesIO()
        assert running.run(stream) == 1
    assert stream.getvalue().startswith(b"headlate")
