from __future__ import annotations

import errno
import os
import subprocess
import sys
from pathlib import Path
from unittest.mock import Mock

import pytest

from lab import identity, processes
from lab.processes import Process


def test_this_process_is_alive() -> None:
    me = processes.this_process()
    assert me.pid == os.getpid()
    assert me.is_alive()
    assert me in list(processes.all_processes())


def test_another_process_with_the_same_number_is_not_the_same() -> None:
    me = processes.this_process()
    earlier = Process(me.pid, me.start - 1)
    assert not earlier.is_alive()
    earlier.kill()  # or this test would not end well


def test_who_is_in_our_pid_namespace() -> None:
    assert processes.is_beside_us(os.getpid())
    with subprocess.Popen(["true"]) as ended:
        pass
    assert not processes.is_beside_us(ended.pid)
    assert not processes.is_beside_us(0), "as the kernel calls those outside"


def test_a_zombie_is_not_alive() -> None:
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as child:
        found = processes.find(child.pid)
        assert found is not None
        found.kill()
        os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOWAIT)
        assert not found.is_alive()
        assert processes.find(child.pid) is None


def test_a_name_with_blanks_and_brackets_does_not_confuse() -> None:
    code = "import ctypes; ctypes.CDLL(None).prctl(15, b'a) S (b'); print(flush=True); input()"
    with subprocess.Popen([sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as child:
        assert child.stdout is not None
        child.stdout.readline()
        assert processes.name_of(child.pid) == "a) S (b"
        start = processes.start_time(child.pid)
        assert start is not None
        assert start >= (processes.start_time(os.getpid()) or 0)
        child.communicate(b"\n")


def test_the_lab_of_a_process_is_in_its_environment() -> None:
    environment = {**os.environ, identity.LAB_VARIABLE: "shop-0123456789abcdef"}
    code = "print(flush=True); input()"  # a process has no environment for a moment while it starts
    with subprocess.Popen(
        [sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=environment
    ) as child:
        assert child.stdout is not None
        child.stdout.readline()
        assert processes.lab_of(child.pid) == "shop-0123456789abcdef"
        child.communicate(b"\n")
    assert processes.lab_of(os.getpid()) is None


def test_namespaces_are_compared_by_identity() -> None:
    with open("/proc/self/ns/net") as file:
        assert processes.descriptor_identity(file.fileno()) == processes.namespace("self", "net")
    assert processes.namespace("self", "mnt") != processes.namespace("self", "net")
    assert processes.namespace(0, "net") is None


def test_marks_are_read_as_they_are_written() -> None:
    lab_id = identity.new_lab_id("my-lab")
    marker = identity.parse_alias(identity.alias_of(lab_id, "web"))
    assert marker == (lab_id, "web")
    assert marker.lab == "my-lab"
    for foreign in ("", "vpclab", "vpclab a", "other a-1 web", "vpclab a-1 web x"):
        assert identity.parse_alias(foreign) is None


def test_a_process_that_nobody_may_look_at_is_none(monkeypatch: pytest.MonkeyPatch) -> None:
    """With ``hidepid=1`` (proc(5)) that is EPERM, and not a reason for `gc` to end."""
    refused = Mock(side_effect=PermissionError(errno.EPERM, "Operation not permitted"))
    monkeypatch.setattr(Path, "read_bytes", refused)
    assert processes.find(1) is None
    assert refused.called


def test_without_descriptors_nobody_can_tell_whether_a_process_is_there(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Path, "read_bytes", Mock(side_effect=OSError(errno.EMFILE, "Too many open files")))
    with pytest.raises(OSError, match="Too many open files"):
        processes.find(1)
