"""How long a lab of N instances takes to start, against Mininet's N bare hosts, in one run.

Ours: from the text of a lab file to a worker that forwards: loaded, checked and compiled; for each instance network,
mount and UTS namespaces, a TAP device with an IPv4 and an IPv6 address and default routes, sysctls, names of all in
/etc/hosts, a name under /run/netns. The process that makes them is started within the time measured.
Mininet's: ``Mininet(topo=None, build=False, controller=None)``, ``addHost`` N times, ``build``, ``start``: hosts
without links, that is a namespace with a shell and nothing else. Imports are left out on both sides.

Both alternate; medians are compared. Run as root:

    bench/lab_start.py [--rounds 5] [--nodes 100] [--more 300]

Exit status 0 when ours is not slower at --nodes and its time per node at --more is at most 1.3 times that at --nodes;
1 when not; 3 when it could not be measured.
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from lab.running import RunningLab
from lab.state import LabState

MOST_PER_NODE = 1.3
_SYSTEM_PYTHON = "/usr/bin/python3"  # Debian's mininet package is for this one
_MININET = """
import sys, time
from mininet.log import setLogLevel
from mininet.net import Mininet
setLogLevel("error")
began = time.perf_counter()
net = Mininet(topo=None, build=False, controller=None)
for number in range(int(sys.argv[1])):
    net.addHost(f"h{number}")
net.build()
net.start()
print(time.perf_counter() - began)
net.stop()
"""


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


def measure_ours(count: int) -> float:
    """Seconds from a lab file to `count` instances that can send."""
    text = lab_file(count)
    with tempfile.TemporaryDirectory() as folder:
        os.environ["XDG_STATE_HOME"] = folder
        state = LabState("bench")
        state.acquire()
        began = time.perf_counter()
        with RunningLab(state, text, "bench.yaml") as lab:
            took = time.perf_counter() - began
            assert len(lab.runtime.status()) == count
        state.remove()
        state.release()
    return took


def measure_mininet(count: int) -> float:
    """Seconds Mininet says it took."""
    done = subprocess.run(
        [_SYSTEM_PYTHON, "-c", _MININET, str(count)], stdout=subprocess.PIPE, text=True, check=True, timeout=600
    )
    return float(done.stdout)


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


def main() -> int:
    parser = argparse.ArgumentParser(description="Start of a lab against Mininet")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--nodes", type=int, default=100)
    parser.add_argument("--more", type=int, default=300)
    options = parser.parse_args()
    if os.geteuid() != 0:
        print("not run: Mininet needs root; run: sudo bench/lab_start.py", file=sys.stderr)
        return 3
    if subprocess.run([_SYSTEM_PYTHON, "-c", "import mininet.net"], capture_output=True, check=False).returncode:
        print("not run: apt install mininet", file=sys.stderr)
        return 3
    times: dict[str, list[float]] = {"ours": [], "mininet": [], "more": []}
    for number in range(options.rounds):
        for kind in ("ours", "mininet", "more") if number % 2 == 0 else ("more", "mininet", "ours"):
            settle()
            if kind == "mininet":
                times[kind].append(measure_mininet(options.nodes))
            else:
                times[kind].append(measure_ours(options.nodes if kind == "ours" else options.more))
    ours, mininet, more = (statistics.median(times[kind]) for kind in ("ours", "mininet", "more"))
    growth = (more / options.more) / (ours / options.nodes)
    print(f"{options.rounds} rounds, alternating; median (least to most)")
    for kind, title in (("ours", options.nodes), ("more", options.more)):
        print(f"  vpclab,  {title:4} nodes: {_spread(times[kind])}")
    print(f"  mininet, {options.nodes:4} hosts: {_spread(times['mininet'])}")
    print(f"vpclab takes {ours / mininet:.3f} of Mininet's time for {options.nodes} (wanted: at most 1)")
    print(f"per node it takes {growth:.2f} times as long at {options.more} (wanted: at most {MOST_PER_NODE})")
    return 0 if ours <= mininet and growth <= MOST_PER_NODE else 1


def _spread(times: list[float]) -> str:
    return f"{statistics.median(times):.3f} s ({min(times):.3f} to {max(times):.3f})"


if __name__ == "__main__":
    sys.exit(main())
