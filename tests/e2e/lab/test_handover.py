"""Nodes that outlive who made them, and are taken over by the next."""

from __future__ import annotations

import contextlib
import os
import resource
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import IO

import pytest

from dataplane.errors import LabError
from lab import gc
from lab.node_plan import NodePlan, ProgramPlan
from lab.runtime import Runtime
from lab.state import DOOR, JOURNAL, RUNTIME, LabState
from tests.e2e.lab.stage import (
    DEADLINE_S,
    HOLD,
    KNOCK,
    commands,
    eventually,
    interface,
    ip_json,
    names_of,
    next_frame,
    output,
    plan,
)

pytestmark = pytest.mark.e2e

PORTS = {"gone": 1, "other": 2, "held": 3, "whole": 4}


def nodes(**hosts: tuple[str, ...]) -> list[NodePlan]:
    """Nodes with two interfaces."""
    return [
        plan(
            name,
            interface(f"10.0.1.{10 + port}/24", port=port),
            interface(f"10.0.2.{10 + port}/24", port=10 + port, device="eth1", gateway4="10.0.2.1"),
            hosts=hosts,
        )
        for name, port in PORTS.items()
    ]


@contextlib.contextmanager
def hold(runtime: Runtime, device: str) -> Iterator[IO[bytes]]:
    """A program in `held` has the other end of a device of it, until what this returns is closed."""
    line = ["python3", "-c", HOLD, device]
    with runtime.popen("held", line, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as holder:
        assert holder.stdin is not None
        assert holder.stdout is not None
        assert holder.stdout.readline() == b"held\n"
        yield holder.stdin  # closed at the end, whatever happens


def taps_of(pid: int) -> int:
    """How many TAP devices a process holds the other end of."""
    count = 0
    for each in Path(f"/proc/{pid}/fd").iterdir():
        with contextlib.suppress(FileNotFoundError):  # closed meanwhile
            count += str(each.readlink()) == "/dev/net/tun"
    return count


@pytest.fixture
def abandoned(state: LabState) -> Iterator[Runtime]:
    """Nodes that wait for another daemon; this one can still look into them."""
    runtime = Runtime(state)
    runtime.add_nodes(nodes())
    runtime.linger()
    runtime.let_go()
    yield runtime
    gc.clean(state)
    forget(runtime)


@pytest.fixture
def namesake(abandoned: Runtime, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[LabState, Runtime]]:
    """Another lab of that name, in another state folder, that waits as well."""
    with monkeypatch.context() as elsewhere:
        elsewhere.setenv("XDG_STATE_HOME", str(tmp_path / "elsewhere"))
        state = LabState("stage")
    state.acquire()
    runtime = Runtime(state)
    runtime.add_nodes(nodes())
    runtime.linger()
    runtime.let_go()
    yield state, runtime
    gc.clean(state)
    forget(runtime)
    state.remove()
    state.release()


def forget(runtime: Runtime) -> None:
    """What the end of a process would do."""
    runtime._keeper.wait(DEADLINE_S)


def test_nodes_are_taken_over_again_and_again(abandoned: Runtime, state: LabState) -> None:
    for _ in range(3):
        with Runtime(state, resume=True) as runtime:
            assert (runtime.lab_id, runtime.rootless) == (abandoned.lab_id, abandoned.rootless)
            adopted = runtime.adopt(nodes())
            taps = adopted.taps
            assert (sorted(taps), adopted.lost) == ([1, 2, 3, 4, 11, 12, 13, 14], [])
            with runtime.popen("whole", ["ping", "-c", "1", "-W", "5", "10.0.1.1"], stdout=subprocess.DEVNULL) as ping:
                assert b"\x08\x06" in next_frame(taps[PORTS["whole"]]), "it asks for its router"
                ping.kill()
            runtime.let_go()


def test_a_device_that_root_inside_took_away_is_lost_alone(abandoned: Runtime, state: LabState) -> None:
    output(abandoned, "gone", "ip", "link", "del", "eth0")
    output(abandoned, "other", "ip", "link", "del", "eth0")
    output(abandoned, "other", "ip", "tuntap", "add", "eth0", "mode", "tap")
    with hold(abandoned, "eth0"), Runtime(state, resume=True) as runtime:
        adopted = runtime.adopt(nodes())
        assert adopted.lost == [
            "eth0 of gone has no network any more: it has been deleted or replaced",
            "eth0 of other has no network any more: it has been deleted or replaced",
            "eth0 of held has no network any more: a program in it holds its other end",
        ]
        assert sorted(adopted.taps) == [4, 11, 12, 13, 14]
        assert [link["ifname"] for link in ip_json(runtime, "gone", "link")] == ["lo", "eth1"], "none was made"
        for changed in nodes(db=("10.9.9.9",)):
            attached = runtime.update_node(changed).attached
            assert list(attached) == ([] if changed.name == "whole" else [PORTS[changed.name]])
        assert len(runtime.taps()) == 8


def test_a_device_whose_other_end_is_let_go_of_late_is_waited_for(abandoned: Runtime, state: LabState) -> None:
    """As by a daemon that was killed, whose lock the kernel has given up already."""
    for _ in range(5):  # on a machine that is busy with others it may be let go of too late
        with hold(abandoned, "eth1") as held, Runtime(state, resume=True) as runtime, ThreadPoolExecutor() as pool:
            spawner = runtime._keeper.process.pid
            adopting = pool.submit(runtime.adopt, nodes())
            while taps_of(spawner) < 7 and not adopting.done():  # all others: it has found this one busy
                time.sleep(0.001)
            held.close()
            adopted = adopting.result()
            runtime.let_go()
        if not adopted.lost:
            break
    assert (len(adopted.taps), adopted.lost) == (8, [])


def test_a_node_whose_daemon_went_in_the_middle_of_an_update_has_the_programs_of_its_plan(state: LabState) -> None:
    idle = ProgramPlan(name="idle", command=("sleep", "1000"))
    eth0, eth1 = interface("10.0.1.11/24"), interface("10.0.2.11/24", port=2, device="eth1", gateway4="10.0.2.1")
    runtime = Runtime(state)
    runtime.add_nodes([plan("web", eth0)])
    runtime.linger()
    runtime._keeper.channel.send(("update", plan("web", eth0, eth1, programs=[idle])))
    runtime.let_go()
    with Runtime(state, resume=True) as after:
        after.adopt([plan("web", eth0, eth1, programs=[idle])])
        assert [each.name for each in after.status()["web"].programs] == ["idle"]
    forget(runtime)


def test_a_node_whose_update_failed_half_way_is_what_its_plan_says_again(state: LabState) -> None:
    """The daemon had not gone back when it went, or could not: the file that is written down is the old one."""
    idle = ProgramPlan(name="idle", command=("sleep", "1000"))
    eth0, eth1 = interface("10.0.1.11/24"), interface("10.0.2.11/24", port=2, device="eth1", gateway4="10.0.2.1")
    old = plan("web", eth0, eth1, programs=[idle], hosts={"db": ("10.9.9.9",)})
    runtime = Runtime(state)
    runtime.add_nodes([old])
    runtime.start_programs()
    runtime.wait_ready()
    pid = runtime.status()["web"].programs[0].pid
    runtime.linger()
    with pytest.raises(LabError, match="node web cannot be set up"):
        runtime.update_node(plan("web", eth0, replace(eth1, port=3, mtu=70_000), programs=[idle]))
    runtime.let_go()
    for _ in range(2):  # the second time there is nothing to put right
        with Runtime(state, resume=True) as after:
            adopted = after.adopt([old])
            assert (sorted(adopted.taps), adopted.lost) == ([1, 2], [])
            assert [link["ifname"] for link in ip_json(after, "web", "link")] == ["lo", "eth0", "eth1"]
            assert "10.9.9.9" in output(after, "web", "cat", "/etc/hosts")
            assert after.status()["web"].programs[0].pid == pid
            after.let_go()
    gc.clean(state)
    forget(runtime)


def test_a_device_that_a_node_gets_again_is_not_lost(abandoned: Runtime, state: LabState) -> None:
    """Nor is one that is not to be there any more."""
    for name in ("gone", "other", "held"):
        output(abandoned, name, "ip", "link", "del", "eth0")
    _, other, _, whole = nodes()
    with Runtime(state, resume=True) as runtime:
        adopted = runtime.adopt([*nodes(db=("10.9.9.9",))[:1], replace(other, interfaces=other.interfaces[1:]), whole])
        assert (sorted(adopted.taps), adopted.lost) == ([1, 4, 11, 12, 14], [])


def test_a_node_that_cannot_be_what_it_should_be_costs_no_other(abandoned: Runtime, state: LabState) -> None:
    """One that a program in it does not let have a device back, and one that the kernel refuses."""
    *others, held, whole = nodes(db=("10.9.9.9",))
    wider = replace(held, interfaces=(*held.interfaces, interface("10.0.3.13/24", port=23, device="eth2")))
    refused = plan("refused", interface("10.0.1.30/24", port=30, mtu=70_000))
    with Runtime(state, resume=True) as runtime:
        with hold(runtime, "eth2"):
            adopted = runtime.adopt([*others, wider, whole, refused])
            assert sorted(adopted.taps) == [1, 2, 3, 4, 11, 12, 13, 14]
            assert adopted.missing == {"refused"}
            for told, name in zip(adopted.lost, ("held", "refused"), strict=True):
                assert f"node {name} cannot be set up: " in told
            assert "10.9.9.9" in output(runtime, "whole", "cat", "/etc/hosts")
        runtime.let_go()
    with Runtime(state, resume=True) as runtime:  # what was in the way is not there any more
        adopted = runtime.adopt([*others, wider, whole])
        assert (sorted(adopted.taps), adopted.lost) == ([1, 2, 3, 4, 11, 12, 13, 14, 23], [])


def test_nodes_whose_sockets_cannot_be_read_are_taken_over_all_the_same(abandoned: Runtime, state: LabState) -> None:
    """Who has no descriptor left to read them with says so, instead of that there are none."""
    with Runtime(state, resume=True) as runtime:
        spawner = runtime._keeper.process.pid
        before = resource.prlimit(spawner, resource.RLIMIT_NOFILE)
        resource.prlimit(spawner, resource.RLIMIT_NOFILE, (3, before[1]))
        found, unread = runtime.sockets()
        resource.prlimit(spawner, resource.RLIMIT_NOFILE, before)
        assert (len(found), sorted(unread)) == (0, sorted(PORTS))
        assert all("Too many open files" in why for why in unread.values())
        assert runtime.adopt(nodes()).lost == []
        found, unread = runtime.sockets()
        assert (sorted(found), unread) == (sorted(PORTS), {})


def test_of_labs_of_one_name_each_is_taken_over_and_removed_by_itself(
    abandoned: Runtime, state: LabState, namesake: tuple[LabState, Runtime]
) -> None:
    other, theirs = namesake
    for folder, waiting in ((state, abandoned), (other, theirs), (state, abandoned)):
        with Runtime(folder, resume=True) as runtime:
            assert runtime.lab_id == waiting.lab_id
            runtime.let_go()
    gc.clean(other)
    eventually(lambda: not commands(theirs.lab_id) and not names_of(theirs.lab_id), "it is gone")
    with Runtime(state, resume=True) as runtime:
        assert sorted(runtime.adopt(nodes()).taps) == [1, 2, 3, 4, 11, 12, 13, 14]
        runtime.let_go()


def test_a_folder_that_leads_to_a_lab_of_its_name_elsewhere_is_not_believed(
    abandoned: Runtime, state: LabState, namesake: tuple[LabState, Runtime]
) -> None:
    """As a copy of that lab's folder does, or one that programs in instances have written to."""
    other, theirs = namesake
    for name in (RUNTIME, DOOR):
        (other.path / name).unlink()
        (other.path / name).symlink_to(state.path / name)
    with pytest.raises(LabError, match="leads to another lab"):
        Runtime(other, resume=True)
    gc.clean(other)
    eventually(lambda: not commands(theirs.lab_id) and not names_of(theirs.lab_id), "its own is gone")
    with Runtime(state, resume=True) as runtime:
        assert sorted(runtime.adopt(nodes()).taps) == [1, 2, 3, 4, 11, 12, 13, 14]
        runtime.let_go()


def test_nobody_comes_in_from_a_pid_namespace_below(abandoned: Runtime, state: LabState) -> None:
    """As programs of another lab are, in a network namespace of the user's."""
    there = ["unshare", *(["--map-root-user"] if os.geteuid() else []), "--pid", "--fork"]
    line = [*there, sys.executable, "-I", "-c", KNOCK, str(state.path)]

    def told() -> bytes:
        return subprocess.run(line, capture_output=True, timeout=DEADLINE_S, check=False).stdout

    said = eventually(told, "the spawner has noticed, and answers")
    assert b"in the PID namespace that it was started in only" in said
    assert b"10.0.1" not in said
    with Runtime(state, resume=True) as runtime:
        assert runtime.lab_id == abandoned.lab_id


def test_nodes_do_not_wait_from_the_moment_on_that_one_is_to_be_attached(runtime: Runtime, state: LabState) -> None:
    """A device in a namespace of the user's must go with the daemon, also when that ends before it has been made."""
    runtime.add_nodes(nodes())
    assert runtime.linger()
    assert (state.path / DOOR).exists()
    elsewhere = replace(plan("elsewhere", interface("10.0.1.9/24", port=9)), attach="netns:/nowhere")
    with pytest.raises(LabError, match="there is no network namespace /nowhere"):
        runtime.add_nodes([elsewhere])
    assert not (state.path / DOOR).exists()
    assert runtime.linger(), "it was not made"
    assert (state.path / DOOR).exists()


def test_nodes_that_nobody_takes_over_end_after_their_time(state: LabState) -> None:
    wait_s = 1.0
    idle = ProgramPlan(name="idle", command=("sleep", "1000"))
    runtime = Runtime(state, linger_s=wait_s)
    runtime.add_nodes([plan("web", programs=[idle])])
    runtime.start_programs()
    runtime.wait_ready()
    runtime.linger()
    began = time.monotonic()
    runtime.let_go()
    eventually(lambda: not commands(runtime.lab_id), "all of it has ended")
    assert time.monotonic() - began > wait_s
    assert not (state.path / DOOR).exists()
    forget(runtime)
    with pytest.raises(LabError, match="nothing of lab stage runs any more"):
        Runtime(state, resume=True)
    gc.clean(state)
    assert not names_of(runtime.lab_id), "a name is a file, which outlives who is named"


def test_what_was_being_written_when_a_process_was_killed_is_cleared_by_the_next(
    abandoned: Runtime, state: LabState
) -> None:
    """Whether that takes the nodes over or starts anew; but not what the spawner is just making."""
    spawner = abandoned._keeper.process.pid
    killed = [state.path / f".{name}.{spawner + 1}" for name in (JOURNAL, DOOR)]
    under_way = state.path / f".{RUNTIME}.{spawner}"
    for draft in (*killed, under_way):
        draft.touch()
    with Runtime(state, resume=True) as runtime:
        assert [draft.exists() for draft in (*killed, under_way)] == [False, False, True]
        runtime.let_go()
    with Runtime(state):
        assert not under_way.exists()


@pytest.mark.parametrize(
    "record", [None, {"lab_id": "another-0123456789abcdef"}, {"boot": "another"}, {"pid": 1}], ids=str
)
def test_what_waits_is_ended_by_who_starts_anew_whatever_the_record_says(
    abandoned: Runtime, state: LabState, record: dict[str, object] | None
) -> None:
    """Programs in instances may remove it. Two labs in one folder would take each other's files."""
    recorded = state.read(RUNTIME)
    (state.path / RUNTIME).unlink() if record is None else state.write(RUNTIME, {**recorded, **record})
    with Runtime(state) as runtime:
        assert not commands(abandoned.lab_id)
        assert not names_of(abandoned.lab_id)
        runtime.add_nodes(nodes())


def test_what_waited_leaves_nothing(abandoned: Runtime, state: LabState) -> None:
    lab_id = abandoned.lab_id
    assert commands(lab_id)
    gc.clean(state)
    eventually(lambda: not commands(lab_id) and not names_of(lab_id), "nothing is left")
    with pytest.raises(LabError, match="nothing of lab stage runs any more"):
        Runtime(state, resume=True)
