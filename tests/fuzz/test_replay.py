"""Inputs that fuzzing kept do what they should: those that together go every known way, and all that ever did not."""

from __future__ import annotations

import random

import pytest

from tests.fuzz import frames, playing
from tests.fuzz.kept import found, seeds
from tests.fuzz.targets import TARGETS

BLOCKS = 4
"""Parts of the seeds of one target, so that several processes share them."""
DRAWN = 5


@pytest.mark.parametrize("block", range(BLOCKS))
@pytest.mark.parametrize("name", TARGETS)
def test_seeds(name: str, block: int) -> None:
    for number, octets in enumerate(seeds(name)):
        if number % BLOCKS == block:
            TARGETS[name].run(octets)


@pytest.mark.parametrize("name", TARGETS)
def test_found(name: str) -> None:
    for octets in found(name):
        TARGETS[name].run(octets)


@pytest.mark.parametrize("name", TARGETS)
def test_any_octets(name: str) -> None:
    """Inputs are total: whatever octets there are, they mean something."""
    octets = random.Random(name)
    for size in (0, 1, 2, *(octets.randint(3, TARGETS[name].longest) for _ in range(DRAWN))):
        TARGETS[name].run(octets.randbytes(size))


def test_a_wrong_packet_would_be_noticed() -> None:
    """The oracle itself: what left with a wrong length or checksum does not pass."""
    right = bytes(12) + b"\x08\x00" + frames.headed4(bytes([10, 0, 0, 1]), bytes([10, 0, 0, 2]), 17, bytes(8))
    playing.check(right, bytes(12))
    for wrong in (right + b"\0", right[:-1], right[:24] + b"\xff\xff" + right[26:]):
        with pytest.raises(AssertionError):
            playing.check(wrong, bytes(12))
