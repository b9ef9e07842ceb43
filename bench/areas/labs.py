"""Labs of N instances against Mininet with as many hosts: start, stop, memory. Wants root, as Mininet does.

Ours starts as users start it: `Lab.up` returns when a daemon, an interpreter of its own, has read, checked and compiled
the lab file, and each instance has network, mount and UTS namespaces, a TAP device with an IPv4 and an IPv6 address and
default routes, sysctls, names of all in /etc/hosts, a name under /run/netns, and the worker forwards. "start, inside"
is the same without the daemon's own start. Stop is `Lab.down`: everything is gone when it returns.

Mininet's: ``Mininet(topo=None, build=False, controller=None)``, ``addHost`` N times, ``build``, ``start``: hosts
without links, that is a namespace with a shell and nothing else. Stop is ``stop``. Imports are left out: there is no
daemon to do them again. It changes sysctls of the machine as it starts; they are put back.

Memory is the proportional share (PSS) of all processes that came with the lab, and what the kernel's slabs, stacks,
page tables and per-CPU areas have grown by, the machine over: something else that runs meanwhile spoils it.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path

from bench.measure import NotRun, Options, Row, Sample, Target, alternate
from lab.running import RunningLab
from lab.state import LabState
from vpclab import Lab

SIZES = (10, 100, 300, 1000)
QUICK_SIZES = (10, 100)
PEER = "Mininet"
TARGETS = [Target("start", "100 instances", PEER, 2, 5)]
_SYSTEM_PYTHON = "/usr/bin/python3"  # Debian's mininet package is for this one
_NOTE = "Mininet's hosts have no links, no devices and no addresses"
_MEASURES = {"start": "s", "start, inside": "s", "stop": "s", "memory": "MB", "memory of the processes": "MB"}
_MININET = """
import json, sys, time
from mininet.log import setLogLevel
from mininet.net import Mininet
setLogLevel("error")
began = time.perf_counter()
net = Mininet(topo=None, build=False, controller=None)
for number in range(int(sys.argv[1])):
    net.addHost(f"h{number}")
net.build()
net.start()
print(time.perf_counter() - began, flush=True)
sys.stdin.readline()
began = time.perf_counter()
net.stop()
print(time.perf_counter() - began, flush=True)
"""
_CHANGED_BY_MININET = (
    "fs/file-max",
    "kernel/pty/max",
    "net/core/netdev_max_backlog",
    "net/core/rmem_max",
    "net/core/wmem_max",
    "net/ipv4/neigh/default/gc_thresh1",
    "net/ipv4/neigh/default/gc_thresh2",
    "net/ipv4/neigh/default/gc_thresh3",
    "net/ipv4/route/max_size",
    "net/ipv4/tcp_rmem",
    "net/ipv4/tcp_wmem",
)


def rows(options: Options) -> Iterator[Row]:
    """All measures at each size."""
    if os.geteuid() != 0:
        print("labs: Mininet wants root; run: sudo make bench", file=sys.stderr)
        raise SystemExit(3)
    is_here = not subprocess.run(
        [_SYSTEM_PYTHON, "-c", "import mininet.net"], capture_output=True, check=False
    ).returncode
    for count in QUICK_SIZES if options.quick else SIZES:
        yield from _rows(count, 1 if options.quick else options.rounds, is_here)


def _rows(count: int, rounds: int, has_mininet: bool) -> Iterator[Row]:
    found: dict[str, dict[str, list[float]]] = {"ours": {}, PEER: {}}
    contenders: dict[str, Callable[[int], dict[str, float]]] = {"ours": ours}
    if has_mininet:
        contenders[PEER] = mininet

    def run(name: str) -> float:
        settle()
        for what, value in contenders[name](count).items():
            found[name].setdefault(what, []).append(value)
        return 0

    alternate(rounds, {name: partial(run, name) for name in contenders})
    for measure, unit in _MEASURES.items():
        theirs = found[PEER].get("start" if measure == "start, inside" else measure)
        yield Row(
            area="labs",
            measure=measure,
            case=f"{count} instances",
            unit=unit,
            ours=Sample(found["ours"][measure]),
            peers={PEER: NotRun("mininet") if theirs is None else Sample(theirs)},
            against=PEER,
            note=_NOTE,
        )


def ours(count: int) -> dict[str, float]:
    """One lab, started and stopped."""
    text = lab_file(count)
    with tempfile.TemporaryDirectory() as folder, state_home(folder):
        path = Path(folder, "bench.yaml")
        path.write_text(text)
        lab = Lab.load(path)
        before, began = _kernel_bytes(), time.perf_counter()
        lab.up()
        found = {"start": time.perf_counter() - began}
        try:
            found |= _memory(_daemon_of(lab), _kernel_bytes() - before)
        finally:
            began = time.perf_counter()
            lab.down()
            found["stop"] = time.perf_counter() - began
        settle()
        return {**found, "start, inside": _inside(text, count)}


def _daemon_of(lab: Lab) -> int:
    daemon = LabState(lab.name).read_daemon()
    assert daemon is not None
    return int(daemon["pid"])


def _inside(text: str, count: int) -> float:
    """Seconds from a lab file to `count` instances that can send, in a process that runs already."""
    state = LabState("bench")
    state.acquire()
    try:
        began = time.perf_counter()
        with RunningLab(state, text, "bench.yaml") as running:
            took = time.perf_counter() - began
            assert len(running.runtime.status()) == count
        state.remove()
    finally:
        state.release()
    return took


def mininet(count: int) -> dict[str, float]:
    """The same of Mininet."""
    before = _kernel_bytes()
    with (
        kept_sysctls(),
        subprocess.Popen(
            [_SYSTEM_PYTHON, "-c", _MININET, str(count)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        ) as child,
    ):
        assert child.stdin is not None
        assert child.stdout is not None
        found = {"start": float(child.stdout.readline())}
        found |= _memory(child.pid, _kernel_bytes() - before)
        child.stdin.write("\n")
        child.stdin.flush()
        found["stop"] = float(child.stdout.readline())
    return found


def lab_file(count: int) -> str:
    """One VPC, one dual-stack subnet, `count` instances."""
    subnet = (
        "{cidr: 10.0.0.0/20, ipv6_cidr: 2001:db8:0:1::/64, availability_zone: a, assign_ipv6_address_on_creation: true}"
    )
    head = f"""
version: 1
name: bench
vpcs:
  shop:
    cidr: 10.0.0.0/16
    ipv6_cidrs: [2001:db8::/56]
    subnets:
      many: {subnet}
instances:
"""
    return head.lstrip() + "".join(f"  i{number}: {{vpc: shop, subnet: many}}\n" for number in range(count))


# -- memory ---------------------------------------------------------------------------------------------------------


def _memory(root: int, kernel: int) -> dict[str, float]:
    processes = sum(_pss_bytes(pid) for pid in _family(root))
    return {"memory": (processes + kernel) / 1e6, "memory of the processes": processes / 1e6}


def _family(root: int) -> list[int]:
    """A process and its descendants."""
    found = [root]
    for pid in found:
        for task in Path(f"/proc/{pid}/task").glob("*/children"):
            found += [int(child) for child in task.read_text().split()]
    return found


def _pss_bytes(pid: int) -> int:
    for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
        if line.startswith("Pss:"):
            return int(line.split()[1]) * 1024
    return 0


def _kernel_bytes() -> int:
    kinds = ("Slab:", "KernelStack:", "PageTables:", "Percpu:")
    lines = (line.split() for line in Path("/proc/meminfo").read_text().splitlines())
    return sum(int(words[1]) * 1024 for words in lines if words[0] in kinds)


# -- the machine ----------------------------------------------------------------------------------------------------


def settle() -> None:
    """Wait until the kernel has taken the last round's namespaces away: that is no part of the next one."""
    end = time.monotonic() + 30
    before = -1
    while (now := _network_namespaces()) != before and time.monotonic() < end:
        before = now
        time.sleep(0.5)


def _network_namespaces() -> int:
    for line in Path("/proc/slabinfo").read_text().splitlines():
        if line.startswith("net_namespace "):
            return int(line.split()[1])
    return 0


@contextmanager
def state_home(folder: str) -> Iterator[None]:
    """Labs started inside the block keep their state in a folder."""
    before = os.environ.get("XDG_STATE_HOME")
    os.environ["XDG_STATE_HOME"] = folder
    try:
        yield
    finally:
        del os.environ["XDG_STATE_HOME"]
        if before is not None:
            os.environ["XDG_STATE_HOME"] = before


@contextmanager
def kept_sysctls() -> Iterator[None]:
    """What Mininet changes of the machine is put back after the block."""
    paths = [path for name in _CHANGED_BY_MININET if (path := Path("/proc/sys", name)).exists()]
    before = {path: path.read_text() for path in paths}
    try:
        yield
    finally:
        for path, text in before.items():
            if path.read_text() != text:
                path.write_text(text)
