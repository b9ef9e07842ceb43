"""What a leg through a gateway load balancer costs, against the same flow without one: instructions per packet.

An established UDP flow from an internet host to an instance, in memory, on its flow entry (no worker, no system calls):

    plain   internet -> internet gateway -> instance
    in      internet -> internet gateway -> edge table -> endpoint -> 68 bytes of GENEVE in front -> target
    back    target -> 68 bytes off -> endpoint -> route table of its subnet -> instance

Instructions are counted by valgrind (callgrind, see packets/counted.py) and do not depend on what else the machine
does.

    bench/geneve.py [--sizes 64,1400] [--packets 1000]

Sizes are of the IP packet inside. Exit status 0 when each leg takes at most 1.5 times the instructions of plain at 64
bytes; 1 when not; 3 when valgrind is missing.
"""

from __future__ import annotations

import argparse
import sys
from array import array
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT), str(ROOT / "public")]

from scapy.layers.inet import IP, UDP  # noqa: E402

from bench.measure import Limit, NotRun, Options, Row, Sample, Target  # noqa: E402
from bench.packets import counted  # noqa: E402
from dataplane.engine import DataPlane  # noqa: E402
from dataplane.load import load_topology  # noqa: E402

CASES = ("plain", "in", "back")
MOST = 1.5
PACKETS = 1000
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


def prepare(case: str, size: int, packets: int) -> counted.Case:
    """What opens the flow, and its packet, so often."""
    plane = DataPlane(load_topology(LAB.format(**(PLAIN if case == "plain" else INSPECTED)), file_name="bench"))
    frame, port = _sent(plane, size)
    opening = [(frame, port)]
    if case == "back":
        (outcome,), (emission,) = plane.process([frame], [port], 1000)
        assert outcome.reason == 0, outcome
        outer = emission.frame
        opening.append(
            (outer[6:12] + outer[:6] + outer[12:26] + outer[30:34] + outer[26:30] + outer[34:], emission.port)
        )
        (outcome,), (arrived,) = plane.process([opening[1][0]], [emission.port], 1000)
        assert len(arrived.frame) == len(frame), outcome
    frame, port = opening[-1]
    frames, ports = array("B", frame * packets), array("I", [port]) * packets
    rows = counted.topology_rows(plane.topology)
    return counted.Case(f"{case}, {size}", rows, frames, len(frame), ports, opening=tuple(opening * 3))


def _sent(plane: DataPlane, size: int) -> tuple[bytes, int]:
    port = plane.port("visitor/eth0")
    interface = plane.interface(port)
    packet = IP(src="198.51.100.10", dst="203.0.113.20") / UDP(sport=40000, dport=53) / bytes(size - 28)
    return interface.router_mac + interface.mac + b"\x08\x00" + bytes(packet), port


def counts(sizes: list[int], packets: int) -> dict[tuple[str, int], float] | None:
    """Instructions per packet by case and size; None: there is no valgrind."""
    found = counted.count([prepare(case, size, packets) for size in sizes for case in CASES])
    return None if found is None else {(case, size): found[f"{case}, {size}"] for size in sizes for case in CASES}


def rows(options: Options) -> Iterator[Row]:
    """The small size, for bench/run.py."""
    found = counts([SMALL], PACKETS)
    for case in CASES[1:]:
        ours = Limit("not counted") if found is None else Sample([found[case, SMALL]])
        peer = NotRun("valgrind") if found is None else Sample([found["plain", SMALL]])
        yield Row("flow", MEASURE, f"GENEVE, {case}, {SMALL} bytes", "", ours, {"plain": peer}, against="plain")


def main() -> int:
    """Measure, print, judge."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sizes", default=f"{SMALL},1400")
    parser.add_argument("--packets", type=int, default=PACKETS)
    options = parser.parse_args()
    sizes = [int(size) for size in options.sizes.split(",")]
    found = counts(sizes, options.packets)
    if found is None:
        print(f"not run: {counted.INSTALL}")
        return 3
    worst = 0.0
    print("bytes  leg    instructions per packet  against plain")
    for (case, size), spent in found.items():
        ratio = spent / found["plain", size]
        worst = max(worst, ratio) if size == SMALL else worst
        print(f"{size:5}  {case:5}  {spent:23.0f}  {ratio:13.2f}")
    if SMALL in sizes:
        print(f"at {SMALL} bytes at most {MOST}: {'holds' if worst <= MOST else 'does not hold'} ({worst:.2f})")
    return 0 if worst <= MOST else 1


if __name__ == "__main__":
    sys.exit(main())
