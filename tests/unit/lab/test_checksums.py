from __future__ import annotations

import struct

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from lab.checksums import complete_checksum


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
