"""Captures through the control socket, without a lab: how they end, and what is said when they end too early."""

from __future__ import annotations

import fcntl
import resource
import socket
from collections.abc import Iterator

import pytest

from lab.verbs import _has_ended

BEYOND_SELECT = 1100
"""A descriptor that select(2) has no bit for: it ends at FD_SETSIZE, 1024."""


@pytest.fixture
def many_descriptors() -> Iterator[None]:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, BEYOND_SELECT + 100), hard))
    yield
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


@pytest.mark.usefixtures("many_descriptors")
def test_the_end_is_seen_with_more_descriptors_than_select_takes() -> None:
    ours, theirs = socket.socketpair()
    with theirs, ours, socket.socket(fileno=fcntl.fcntl(ours, fcntl.F_DUPFD, BEYOND_SELECT)) as client:
        assert client.fileno() >= BEYOND_SELECT
        assert not _has_ended(client, 0.001)
        theirs.shutdown(socket.SHUT_WR)
        assert _has_ended(client, 10)
