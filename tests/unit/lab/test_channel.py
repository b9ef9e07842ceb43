from __future__ import annotations

import os
import socket
import threading
from collections.abc import Iterator

import pytest

from lab.channel import DESCRIPTOR_LIMIT, Channel, ChannelClosed


@pytest.fixture
def ends() -> Iterator[tuple[Channel, Channel]]:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        yield Channel(ours), Channel(theirs)


def test_values_and_descriptors_arrive(ends: tuple[Channel, Channel]) -> None:
    ours, theirs = ends
    reader, writer = os.pipe()
    ours.send(("more", [1, 2]), [writer])
    os.close(writer)
    value, descriptors = theirs.receive()
    assert value == ("more", [1, 2])
    assert not os.get_inheritable(descriptors[0])
    os.write(descriptors[0], b"x")
    assert os.read(reader, 1) == b"x"
    for descriptor in (reader, *descriptors):
        os.close(descriptor)


def test_messages_keep_apart_whatever_their_size(ends: tuple[Channel, Channel]) -> None:
    ours, theirs = ends
    values = [b"", b"x" * 3_000_000, b"y" * 7, list(range(100_000))]
    many = [os.open(os.devnull, os.O_RDONLY) for _ in range(DESCRIPTOR_LIMIT)]

    def send() -> None:
        for value in values:
            ours.send(value, many)

    thread = threading.Thread(target=send)
    thread.start()
    for value in values:
        received, descriptors = theirs.receive()
        assert received == value
        assert len(descriptors) == DESCRIPTOR_LIMIT
        for descriptor in descriptors:
            os.close(descriptor)
    thread.join()
    for descriptor in many:
        os.close(descriptor)


def test_a_mapping_that_values_share_is_sent_once(ends: tuple[Channel, Channel]) -> None:
    ours, theirs = ends
    shared = {"web": "10.0.0.1"}
    ours.send([shared, shared])
    (first, second), _ = theirs.receive()
    assert first is second


def test_both_sides_notice_that_the_other_is_gone(ends: tuple[Channel, Channel]) -> None:
    ours, theirs = ends
    theirs.close()
    with pytest.raises(ChannelClosed):
        ours.send(1)
    with pytest.raises(ChannelClosed):
        ours.receive()


def test_half_a_message_is_no_message() -> None:
    ours, theirs = socket.socketpair()
    with ours:
        ours.send(b"\x10\0\0\0\0abc")
    channel = Channel(theirs)
    with pytest.raises(ChannelClosed):
        channel.receive()
    channel.close()
