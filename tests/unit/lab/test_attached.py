"""What is said of network namespaces that cannot be entered."""

from __future__ import annotations

import errno
import os
from pathlib import Path
from unittest.mock import Mock

import pytest

from dataplane.errors import LabError
from lab.attached import network_of
from lab.node import Node, reopen
from lab.node_plan import NodePlan


def plan(attach: str) -> NodePlan:
    return NodePlan(name="guest", interfaces=(), attach=attach)


def failure(code: int, what: str) -> OSError:
    return OSError(code, os.strerror(code), what)


def test_most_nodes_are_attached_to_nothing() -> None:
    with network_of(plan(""), 7) as network:
        assert network is None


def test_a_tap_device_is_where_the_lab_was_started() -> None:
    with network_of(plan("tap:t"), 7) as network:
        assert network == 7
    with pytest.raises(LabError, match="attach: tap:t needs root"), network_of(plan("tap:t"), None):
        pass


@pytest.mark.parametrize(
    ("code", "words"),
    [
        (errno.EPERM, "another user's; run vpclab as root"),
        (errno.EACCES, "another user's; run vpclab as root"),
        (errno.EINVAL, "no network namespace"),
    ],
)
def test_why_it_cannot_be_entered(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, code: int, words: str) -> None:
    file = tmp_path / "file"
    file.touch()
    with pytest.raises(LabError, match=words), network_of(plan(f"netns:{file}"), None):
        raise failure(code, "setns")

    def refuse(*_: object) -> int:
        raise failure(code, str(file))

    monkeypatch.setattr(os, "open", refuse)
    with pytest.raises(LabError, match=words), network_of(plan(f"netns:{file}"), None):
        pass


def test_other_failures_are_their_own(tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.touch()
    with pytest.raises(OSError, match="/sys"), network_of(plan(f"netns:{file}"), None):
        raise failure(errno.EBUSY, "/sys")
    with pytest.raises(LabError, match="there is no network namespace"), network_of(plan(f"netns:{file}x"), None):
        pass


def test_the_devices_of_an_attached_node_are_not_opened_again() -> None:
    """They went with who had made them; what has their names now is the user's."""
    node = Node(plan=plan("netns:/x"), namespaces=Mock(), indexes={"eth0": 2}, ports={"eth0": 1})
    with pytest.raises(LabError, match="guest is attached"):
        reopen(Mock(), node, {})
