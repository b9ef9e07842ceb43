"""What a spawner does for the daemon that takes its lab over: one node's trouble is not the others'."""

from __future__ import annotations

import errno
import os
from types import SimpleNamespace
from typing import Any

import pytest

from dataplane.errors import LabError
from lab import succession
from lab.connections import Sockets
from lab.succession import open_again, read_all_sockets

NODES: dict[str, Any] = {
    name: SimpleNamespace(plan=SimpleNamespace(name=name), ports={"eth0": port}) for name, port in (("a", 1), ("b", 2))
}
SITE: Any = None


def refusal(number: int) -> OSError:
    return OSError(number, os.strerror(number))


def refuse(patch: pytest.MonkeyPatch, **refused: OSError) -> None:
    """Let the devices of these nodes be refused."""

    def reopens(_: object, node: Any, taps: dict[int, int]) -> dict[str, OSError]:
        for port in node.ports.values():
            if node.plan.name not in refused and port not in taps:
                taps[port] = os.open("/dev/null", os.O_RDONLY)
        return {"eth0": refused[node.plan.name]} if node.plan.name in refused else {}

    patch.setattr(succession, "reopen", reopens)


@pytest.mark.parametrize(
    ("number", "why"),
    [
        (errno.EBUSY, "a program in it holds its other end"),
        (errno.ENODEV, "it has been deleted or replaced"),
        (errno.EINVAL, "it has been deleted or replaced"),
        (errno.EIO, "Input/output error"),
    ],
)
def test_a_node_whose_devices_are_refused_is_lost_alone(monkeypatch: pytest.MonkeyPatch, number: int, why: str) -> None:
    monkeypatch.setattr(succession, "_BUSY_S", 0.01)
    refuse(monkeypatch, a=refusal(number))
    taps, lost = open_again(SITE, NODES.values())
    assert list(taps) == [2]
    assert lost == {1: f"eth0 of a has no network any more: {why}"}
    os.close(taps[2])


def test_one_that_is_busy_is_waited_for_although_another_fails(monkeypatch: pytest.MonkeyPatch) -> None:
    looks = []

    def reopens(_: object, node: Any, taps: dict[int, int]) -> dict[str, OSError]:
        if node.plan.name == "b":
            return {"eth0": refusal(errno.EIO)}
        looks.append(node)
        if len(looks) < 3:
            return {"eth0": refusal(errno.EBUSY)}
        taps[1] = 99
        return {}

    monkeypatch.setattr(succession, "reopen", reopens)
    taps, lost = open_again(SITE, NODES.values())
    assert (taps, list(lost)) == ({1: 99}, [2])


def test_when_no_device_can_be_opened_nothing_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    """For want of descriptors, say: it can be tried again."""
    refuse(monkeypatch, a=refusal(errno.EMFILE), b=refusal(errno.EMFILE))
    with pytest.raises(LabError, match="no device of the lab can be opened again: Too many open files"):
        open_again(SITE, NODES.values())


def test_a_lab_whose_devices_have_all_been_deleted_is_none_the_less(monkeypatch: pytest.MonkeyPatch) -> None:
    refuse(monkeypatch, a=refusal(errno.ENODEV), b=refusal(errno.ENODEV))
    assert list(open_again(SITE, NODES.values())[1]) == [1, 2]


def test_what_was_opened_is_closed_when_something_is_wrong_with_us(monkeypatch: pytest.MonkeyPatch) -> None:
    opened: list[int] = []

    def reopens(_: object, node: Any, taps: dict[int, int]) -> dict[str, OSError]:
        if opened:
            raise ZeroDivisionError
        taps[1] = os.open("/dev/null", os.O_RDONLY)
        opened.append(taps[1])
        return {}

    monkeypatch.setattr(succession, "reopen", reopens)
    with pytest.raises(ZeroDivisionError):
        open_again(SITE, NODES.values())
    with pytest.raises(OSError, match="Bad file descriptor"):
        os.fstat(opened[0])


@pytest.mark.parametrize("trouble", [refusal(errno.ENOMEM), ValueError("no number")])
def test_a_node_whose_sockets_cannot_be_read_is_named_alone(
    monkeypatch: pytest.MonkeyPatch, trouble: Exception
) -> None:
    def reads(_: object, node: Any) -> list[str]:
        if node.plan.name == "a":
            raise trouble
        return []

    monkeypatch.setattr(succession, "tcp_tables", reads)
    found, unread = read_all_sockets(SITE, NODES)
    assert found == {"b": Sockets({}, frozenset())}
    [why] = unread.values()
    assert ("Cannot allocate memory" if isinstance(trouble, OSError) else "no number") in why
