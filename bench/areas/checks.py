"""Ten checks in a lab of 20 instances against Mininet with 20 hosts and `pingall`. Wants root, as Mininet does.

Ours: a lab file is read, the lab started, and its ten checks proven by packets, six that get through and four that the
network drops; the time ends with the last result. "As a command" is ``vpclab check FILE`` from the shell, with
interpreter and imports, until nothing of the lab is left.

Mininet's: 20 hosts with a link each to one Linux bridge (`SingleSwitchTopo`, `LinuxBridge`: its fastest switch, without
a controller), started, then ``pingAll``: 380 pings, one after another. "As a command" is the interpreter that does it,
imports and ``stop`` included. It changes sysctls of the machine as it starts; they are put back.

Neither does what the other does: Mininet has no rules that could be checked, ours pings nobody 380 times. What is
compared is how long one waits for a yes or no about 20 machines.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

from bench.areas.labs import kept_sysctls, settle, state_home
from bench.measure import ROOT, NotRun, Options, Row, Sample, Target, alternate
from vpclab import Lab

COUNT = 20
PEER = "Mininet"
CASE = f"{COUNT} instances, 10 checks"
TARGETS = [Target("start and checks", CASE, PEER, 1, 2), Target("as a command", CASE, PEER, None, 1)]
_SYSTEM_PYTHON = "/usr/bin/python3"  # Debian's mininet package is for this one
_MEASURES = ("start and checks", "as a command")
_MININET = """
import json, sys, time
from mininet.log import setLogLevel
from mininet.net import Mininet
from mininet.nodelib import LinuxBridge
from mininet.topo import SingleSwitchTopo
setLogLevel("error")
began = time.perf_counter()
net = Mininet(topo=SingleSwitchTopo(int(sys.argv[1])), switch=LinuxBridge, controller=None)
net.start()
lost = net.pingAll()
took = time.perf_counter() - began
net.stop()
print(json.dumps([took, lost]))
"""


def rows(options: Options) -> Iterator[Row]:
    """Both measures."""
    if os.geteuid() != 0:
        print("checks: Mininet wants root; run: sudo make bench", file=sys.stderr)
        raise SystemExit(3)
    found: dict[str, dict[str, list[float]]] = {"ours": {}, PEER: {}}
    contenders: dict[str, Callable[[], dict[str, float]]] = {"ours": ours}
    missing = _missing()
    if not missing:
        contenders[PEER] = mininet

    def run(name: str) -> float:
        settle()
        for what, value in contenders[name]().items():
            found[name].setdefault(what, []).append(value)
        return 0

    alternate(1 if options.quick else options.rounds, {name: partial(run, name) for name in contenders})
    for measure in _MEASURES:
        yield Row(
            area="checks",
            measure=measure,
            case=CASE,
            unit="s",
            ours=Sample(found["ours"][measure]),
            peers={PEER: NotRun(missing) if missing else Sample(found[PEER][measure])},
            against=PEER,
            note=f"Mininet: start and pingall of {COUNT} hosts",
        )


def _missing() -> str:
    """The Debian packages that Mininet lacks here."""
    has_mininet = not subprocess.run(
        [_SYSTEM_PYTHON, "-c", "import mininet.net"], capture_output=True, check=False
    ).returncode
    needs = {"mininet": has_mininet, "bridge-utils": shutil.which("brctl") is not None}
    return " ".join(package for package, there in needs.items() if not there)


def ours() -> dict[str, float]:
    """Both of ours; every check must hold."""
    with tempfile.TemporaryDirectory() as folder, state_home(folder):
        path = Path(folder, "bench.yaml")
        path.write_text(lab_file(COUNT))
        began = time.perf_counter()
        lab = Lab.load(path)
        lab.up()
        try:
            results = lab.check()
            found = {"start and checks": time.perf_counter() - began}
        finally:
            lab.down()
        assert [row["holds"] for row in results] == [True] * 10, [row["why"] for row in results]
        settle()
        began = time.perf_counter()
        environment = {**os.environ, "PYTHONPATH": f"{ROOT}:{ROOT / 'public'}"}
        line = [sys.executable, "-P", "-m", "vpclab", "check", str(path)]
        subprocess.run(line, env=environment, stdout=subprocess.DEVNULL, check=True)
        return {**found, "as a command": time.perf_counter() - began}


def mininet() -> dict[str, float]:
    """The same of Mininet; no ping may be lost."""
    with kept_sysctls():
        began = time.perf_counter()
        line = [_SYSTEM_PYTHON, "-c", _MININET, str(COUNT)]
        done = subprocess.run(line, stdout=subprocess.PIPE, text=True, check=True)
        whole = time.perf_counter() - began
    # what Mininet prints of its own comes before
    took, lost = json.loads(done.stdout.splitlines()[-1])
    assert lost == 0, f"{lost} % of the pings were lost"
    return {"start and checks": took, "as a command": whole}


def lab_file(count: int) -> str:
    """Two tiers, `count` instances in all, an internet host, and ten claims about them."""
    head = """\
version: 1
name: bench
vpcs:
  shop:
    cidr: 10.0.0.0/16
    internet_gateway: {}
    subnets:
      front: {cidr: 10.0.1.0/24, route_table: front}
      back: {cidr: 10.0.2.0/24, network_acl: back}
    route_tables:
      front: {routes: [{destination: 0.0.0.0/0, target: internet-gateway}]}
    network_acls:
      back:
        ingress: [{rule: 100, protocol: tcp, ports: 5432, cidr: 10.0.1.0/24, action: allow}]
        egress: [{rule: 100, protocol: tcp, ports: 1024-65535, cidr: 10.0.1.0/24, action: allow}]
    security_groups:
      front: {ingress: [{protocol: tcp, ports: 80, source: 0.0.0.0/0}, {protocol: icmp, source: self}]}
      back: {ingress: [{protocol: tcp, ports: 5432, source: "group:front"}]}
instances:
  i0: {vpc: shop, subnet: front, elastic_ip: 203.0.113.20, security_groups: [front]}
"""
    tail = """\
internet: {hosts: {visitor: {address: 198.51.100.77}}}
checks:
  - {can: visitor -> i0, port: 80, via: "internet-gateway:shop"}
  - {can: i0 -> visitor, port: 443, source_seen: 203.0.113.20}
  - {can: i0 -> i2, port: 80}
  - {can: i2 -> i4, protocol: icmp}
  - {can: i0 -> i1, port: 5432}
  - {can: i2 -> i3, port: 5432}
  - {cannot: visitor -> i0, port: 22}
  - {cannot: i0 -> i1, port: 22}
  - {cannot: i1 -> 198.51.100.77, port: 80}
  - {cannot: i1 -> i3, protocol: icmp}
"""
    tiers = ("front", "back")
    middle = [
        f"  i{number}: {{vpc: shop, subnet: {tiers[number % 2]}, security_groups: [{tiers[number % 2]}]}}\n"
        for number in range(1, count)
    ]
    return head + "".join(middle) + tail
