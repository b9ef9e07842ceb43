"""What a leg through a gateway load balancer costs, against the same flow without one: instructions per packet.

An established UDP flow from an internet host to an instance, in memory, on its flow entry (no worker, no system calls):

    plain   internet -> internet gateway -> instance
    in      internet -> internet gateway -> edge table -> endpoint -> 68 bytes of GENEVE in front -> target
    back    target -> 68 bytes off -> endpoint -> route table of its subnet -> instance

Instructions are counted by valgrind (callgrind): each case runs twice with different numbers of packets, and the
difference is divided by the packets between them, so that the interpreter's start counts for nothing. They do not
depend on what else the machine does.

    bench/geneve.py [--sizes 64,1400] [--packets 4000]

Sizes are of the IP packet inside. Exit status 0 when each leg takes at most 1.5 times the instructions of plain at 64
bytes; 1 when not; 3 when valgrind is missing.
"""

from __future__ import annotations

import argparse
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT), str(ROOT / "public")]

from scapy.layers.inet import IP, UDP  # noqa: E402

from bench.measure import NotRun, Options, Row, Sample, Target  # noqa: E402
from dataplane.engine import DataPlane  # noqa: E402
from dataplane.load import load_topology  # noqa: E402

CASES = ("plain", "in", "back")
MOST = 1.5
SMALL = 64
MEASURE = "instructions per packet"
TARGETS = [Target(MEASURE, f"GENEVE, {case}, {SMALL} bytes", "plain", 1 / MOST, 1.0) for case in CASES[1:]]
LAB = """
version: 1
name: geneve
vpcs:
  app:
    cidr: 10.0.0.0/16
    internet_gateway: {{route_table: edge}}
    subnets:
      web: {{cidr: 10.0.1.0/24, availability_zone: a, route_table: web}}
      endpoints: {{cidr: 10.0.2.0/24, availability_zone: a, route_table: out}}
    route_tables:
      main: {{}}
      web: {{routes: [{{destination: 0.0.0.0/0, target: "{target}"}}]}}
      out: {{routes: [{{destination: 0.0.0.0/0, target: internet-gateway}}]}}
      edge: {{routes: [{edge}]}}
    security_groups:
      web: {{description: all, ingress: [{{protocol: udp, ports: 53, source: 0.0.0.0/0}}]}}
    gateway_load_balancer_endpoints:
      inspect: {{service: security/inspection, subnet: endpoints}}
  security:
    cidr: 10.9.0.0/16
    subnets:
      fleet: {{cidr: 10.9.1.0/24, availability_zone: a}}
    security_groups:
      fleet: {{description: fleet, ingress: [{{protocol: udp, ports: 6081, source: 10.9.0.0/16}}]}}
    gateway_load_balancers:
      balancer: {{subnets: [fleet], target_group: fleet}}
    target_groups:
      fleet: {{target_type: instance, targets: [firewall]}}
    endpoint_services:
      inspection: {{gateway_load_balancer: balancer, acceptance_required: false}}
instances:
  web: {{vpc: app, subnet: web, private_ip: 10.0.1.10, elastic_ip: 203.0.113.20, security_groups: [web]}}
  firewall: {{vpc: security, subnet: fleet, security_groups: [fleet]}}
internet:
  hosts:
    visitor: {{address: 198.51.100.10}}
"""
INSPECTED = {
    "target": "vpc-endpoint:inspect",
    "edge": '{destination: 10.0.1.0/24, target: "vpc-endpoint:inspect"}',
}
PLAIN = {"target": "internet-gateway", "edge": ""}


def prepare(case: str, size: int) -> tuple[DataPlane, bytes, int]:
    """A data plane with the flow settled, and the frame and port to repeat."""
    plane = DataPlane(load_topology(LAB.format(**(PLAIN if case == "plain" else INSPECTED)), file_name="bench"))
    frame, port = _sent(plane, size)
    for _ in range(3):  # opens the flow, then remembers it
        (outcome,), (emission,) = plane.process([frame], [port], 1000)
        assert outcome.reason == 0, outcome
        if case == "back":
            outer = emission.frame
            back = outer[6:12] + outer[:6] + outer[12:26] + outer[30:34] + outer[26:30] + outer[34:]
            (outcome,), (arrived,) = plane.process([back], [emission.port], 1000)
            assert len(arrived.frame) == len(frame), outcome
    return (plane, back, emission.port) if case == "back" else (plane, frame, port)


def _sent(plane: DataPlane, size: int) -> tuple[bytes, int]:
    port = plane.port("visitor/eth0")
    interface = plane.interface(port)
    packet = IP(src="198.51.100.10", dst="203.0.113.20") / UDP(sport=40000, dport=53) / bytes(size - 28)
    return interface.router_mac + interface.mac + b"\x08\x00" + bytes(packet), port


def run(case: str, size: int, packets: int) -> None:
    """Process the flow's packet so many times; every one must go on."""
    plane, frame, port = prepare(case, size)
    before = plane.engine.statistics()["flow_hits"]
    received, emitted = plane.engine.replay([frame], [port], 1000, packets)
    assert received == emitted == packets, (received, emitted)
    assert plane.engine.statistics()["flow_hits"] - before == packets


def counted(case: str, size: int, packets: int) -> int:
    """Instructions of a whole process that runs a case."""
    command = ["valgrind", "--tool=callgrind", "--callgrind-out-file=/dev/null", sys.executable, "-P", __file__]
    command += ["--run", case, "--sizes", str(size), "--packets", str(packets)]
    done = subprocess.run(
        command, capture_output=True, text=True, check=False, env={**os.environ, "PYTHONHASHSEED": "0"}
    )
    found = re.search(r"Collected : (\d+)", done.stderr)
    if done.returncode or found is None:
        raise SystemExit(f"{' '.join(command)}\n{done.stdout}{done.stderr[-2000:]}")
    return int(found[1])


def per_packet(case: str, size: int, packets: int) -> float:
    """Instructions of one packet: what more of them take, without what the interpreter takes to start."""
    few, many = (counted(case, size, n) for n in (packets // 4, packets))
    return (many - few) / (packets - packets // 4)


def rows(options: Options) -> Iterator[Row]:
    """The small size, for bench/run.py."""
    missing = None if shutil.which("valgrind") else NotRun("valgrind")
    spent = {case: Sample([0.0 if missing else per_packet(case, SMALL, 2000)]) for case in CASES}
    for case in CASES[1:]:
        peers = {"plain": missing or spent["plain"]}
        yield Row("flow", MEASURE, f"GENEVE, {case}, {SMALL} bytes", "", spent[case], peers, against="plain")


def main() -> int:
    """Measure, print, judge."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sizes", default=f"{SMALL},1400")
    parser.add_argument("--packets", type=int, default=4000)
    parser.add_argument("--run", choices=CASES, help=argparse.SUPPRESS)
    options = parser.parse_args()
    sizes = [int(size) for size in options.sizes.split(",")]
    if options.run:
        run(options.run, sizes[0], options.packets)
        return 0
    if shutil.which("valgrind") is None:
        print("not run: apt install valgrind")
        return 3
    worst = 0.0
    print("bytes  leg    instructions per packet  against plain")
    for size in sizes:
        spent = {}
        for case in CASES:
            spent[case] = per_packet(case, size, options.packets)
            ratio = spent[case] / spent["plain"]
            worst = max(worst, ratio) if size == SMALL else worst
            print(f"{size:5}  {case:5}  {spent[case]:23.0f}  {ratio:13.2f}", flush=True)
    if SMALL in sizes:
        print(f"at {SMALL} bytes at most {MOST}: {'holds' if worst <= MOST else 'does not hold'} ({worst:.2f})")
    return 0 if worst <= MOST else 1


if __name__ == "__main__":
    sys.exit(main())
