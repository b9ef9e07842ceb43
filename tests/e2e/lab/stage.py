"""What the tests of the lab runtime share: plans made by hand, waiting with a deadline, running and reading."""

from __future__ import annotations

import contextlib
import json
import os
import select
import shutil
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from ipaddress import IPv4Address, IPv6Address, ip_address
from pathlib import Path
from typing import Any

import pytest

from lab import netns_names, processes
from lab.marker import read_markers
from lab.node_plan import InterfacePlan, NodePlan, ProgramPlan
from lab.runtime import Runtime

VNET_HEADER_BYTES = 12
DEADLINE_S = 20.0
"""For what must come; a busy machine takes its time."""
HOLD = """
import fcntl, os, struct, sys
tap = os.open("/dev/net/tun", os.O_RDWR)
fcntl.ioctl(tap, 0x400454CA, struct.pack("16sH22x", sys.argv[1].encode(), 0x0002 | 0x1000 | 0x4000))
print("held", flush=True)
sys.stdin.read()
"""
"""Root in a node takes the other end of a TAP device, which nobody holds just then, until it hears no more."""
KNOCK = """
import os, socket, sys
os.chdir(sys.argv[1])
with socket.socket(socket.AF_UNIX) as line:
    line.connect("nodes.sock")
    while said := line.recv(65536):
        print(said)
"""
"""Somebody stands before the door of a lab that waits for another daemon, and prints what is said to him."""


def interface(
    *addresses: str,
    port: int = 1,
    device: str = "eth0",
    gateway4: str | None = "10.0.1.1",
    gateway6: str | None = "fe80::1",
    mtu: int = 9001,
) -> InterfacePlan:
    """An interface with these addresses (``10.0.1.10/24``), and a MAC made of its port."""
    parsed = tuple((ip_address(text.partition("/")[0]), int(text.partition("/")[2])) for text in addresses)
    return InterfacePlan(
        port=port,
        device=device,
        mac=b"\x02\0\0\0" + port.to_bytes(2, "big"),
        addresses=parsed,
        gateway4=IPv4Address(gateway4) if gateway4 else None,
        gateway6=IPv6Address(gateway6) if gateway6 else None,
        mtu=mtu,
    )


def plan(
    name: str = "web",
    *interfaces: InterfacePlan,
    programs: Sequence[ProgramPlan] = (),
    hosts: Mapping[str, tuple[str, ...]] | None = None,
    environment: Mapping[str, str] | None = None,
) -> NodePlan:
    """A node; without interfaces it has one with 10.0.1.10/24."""
    named = {host: tuple(map(ip_address, addresses)) for host, addresses in (hosts or {}).items()}
    return NodePlan(
        name=name,
        interfaces=interfaces or (interface("10.0.1.10/24"),),
        hosts=named,
        programs=tuple(programs),
        environment=environment or {},
    )


def output(runtime: Runtime, node: str, *command: str, **options: Any) -> str:
    """What a command prints inside a node; it must succeed."""
    with runtime.popen(node, command, stdout=subprocess.PIPE, text=True, **options) as child:
        text, _ = child.communicate(timeout=DEADLINE_S)
    assert child.returncode == 0, (command, text)
    return str(text)


def ip_json(runtime: Runtime, node: str, *arguments: str) -> list[dict[str, Any]]:
    """``ip -j`` inside a node."""
    return list(json.loads(output(runtime, node, "ip", "-j", *arguments) or "[]"))


def eventually(fact: Callable[[], Any], what: str, *, deadline_s: float = DEADLINE_S) -> Any:
    """Wait until `fact()` is true; returns what it returned."""
    end = time.monotonic() + deadline_s
    pause_s = 0.001
    while not (found := fact()):
        assert time.monotonic() < end, f"not within {deadline_s:g} s: {what}"
        time.sleep(pause_s)
        pause_s = min(pause_s * 2, 0.05)
    return found


def is_done_within(seconds: float, action: Callable[[], object], *, patience_s: float = 60.0) -> bool:
    """Whether something can be done so fast: a machine that is busy with others may need many tries."""
    end = time.monotonic() + patience_s
    while (began := time.monotonic()) < end:
        action()
        if time.monotonic() - began < seconds:
            return True
    return False


def best_of(measure: Callable[[], float], enough: float, *, tries: int = 5) -> float:
    """The largest of some measurements, the last of them the first that is enough: others use this machine too."""
    best = measure()
    for _ in range(tries - 1):
        if best > enough:
            break
        best = max(best, measure())
    return best


def rates(report: Mapping[str, Any]) -> list[float]:
    """Bits per second of each interval in iperf3's JSON, without the last crumb that its end may leave."""
    intervals = [each["sum"] for each in report["intervals"]]
    whole = max(each["seconds"] for each in intervals) / 2
    return [float(each["bits_per_second"]) for each in intervals if each["seconds"] > whole]


def next_frame(tap: int, *, deadline_s: float = DEADLINE_S) -> bytes:
    """The next frame that a node sends, with its virtio header; fails when none comes."""
    assert select.select([tap], [], [], deadline_s)[0], "the node sent nothing"
    return os.read(tap, 1 << 17)


def commands(lab_id: str) -> list[str]:
    """Command lines of all processes that carry a lab's id (other runs of the same tests have other ids)."""
    found = []
    for process in processes.all_processes():
        if processes.lab_of(process.pid) == lab_id:
            with contextlib.suppress(OSError):
                words = Path(f"/proc/{process.pid}/cmdline").read_bytes().rstrip(b"\0").split(b"\0")
                found.append(b" ".join(words).decode())
    return found


def child_of(pid: int) -> int:
    """The one child of a process; 0 when there is none."""
    return int(Path(f"/proc/{pid}/task/{pid}/children").read_text() or 0)


def names_of(lab_id: str) -> list[str]:
    """Names under /run/netns of namespaces that carry a lab's id."""
    markers = read_markers({name: [str(netns_names.FOLDER / name)] for name in netns_names.names()})
    return sorted(name for name, marker in markers.items() if marker.lab_id == lab_id)


def need(program: str) -> str:
    """Path of a program; skips the test when this machine lacks it."""
    found = shutil.which(program, path=f"{os.environ.get('PATH', os.defpath)}:/usr/sbin:/sbin")
    if found is None:
        pytest.skip(f"{program} is not installed")
    return found
