"""Fragments that wait: for how long, how many, and what they follow."""

from __future__ import annotations

import pytest
from scapy.layers.inet import IP

from dataplane.reference.fragments import MOST_WAITING, Fragments, Waiting
from dataplane.reference.packets import Packet, read


def piece(identification: int, offset: int) -> Packet:
    found = read(4, bytes(IP(src="10.0.0.1", dst="10.0.0.2", proto=17, id=identification, frag=offset) / bytes(8)))
    assert isinstance(found, Packet)
    return found


def wait(fragments: Fragments, identification: int, offset: int = 1, now: int = 0, port: int = 1) -> bool:
    """Whether a piece may wait."""
    packet = piece(identification, offset)
    datagram = fragments.datagram(port, packet, now)
    if datagram is None:
        return False
    datagram.waiting.append(Waiting(packet, b""))
    return True


@pytest.mark.parametrize("pieces", [1, 4])
def test_so_many_pieces_of_an_interface_wait_whatever_they_are_of(pieces: int) -> None:
    fragments = Fragments(30_000)
    found = [wait(fragments, number // pieces, 1 + number % pieces) for number in range(MOST_WAITING + 2)]
    assert found == [True] * MOST_WAITING + [False] * 2
    assert wait(fragments, 0, port=2)
    assert wait(fragments, 1_000, now=30_000)


def test_piece_of_a_datagram_whose_first_is_known_need_not_wait() -> None:
    fragments = Fragments(30_000)
    known = fragments.datagram(1, piece(7, 1), 0)
    assert known is not None
    known.first = piece(7, 1)
    for number in range(MOST_WAITING):
        assert wait(fragments, 100 + number)
    assert fragments.datagram(1, piece(7, 2), 29_999) is known
    assert fragments.datagram(1, piece(7, 2), 30_000) is not known


def test_what_waited_for_too_long_dies_at_its_port() -> None:
    fragments = Fragments(30_000)
    assert all(wait(fragments, number, port=port) for number, port in ((1, 1), (2, 1), (1, 2)))
    assert fragments.expire(29_999) == []
    assert sorted(fragments.expire(30_000)) == [1, 1, 2]
    assert fragments.waiting() == 0
