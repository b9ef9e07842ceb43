"""Rules beside rte_acl: the first that matches, of those that a network ACL or a security group can say."""

from __future__ import annotations

import struct
from array import array
from collections.abc import Iterator
from itertools import cycle

from bench.compared import agree, per_item, room, seconds
from bench.measure import NotRun, Options, Row, Sample, Target, alternate
from bench.native import build, dpdk
from bench.native.dpdk import address
from bench.tables import traces
from bench.tables.ours import rule_rows, snapshot
from dataplane.engine import DataPlane
from dataplane.load import load_topology

AREA = "tables"
ACL, ACL_BUILD = "rte_acl AVX-512", "rte_acl build"
LISTS = "100 rules, 10000 entries in prefix lists"
ONE = "ours, one packet at a time, as a walk does"
CHANGE = "one rule in 1000 changed"
CASES = ((100, 1, "100 rules"), (1000, 1, "1000 rules"), (10_000, 1, "10000 rules"), (100, 100, LISTS))
TARGETS = [
    Target("classify", "100 rules", ACL, 1.0, 1.5),
    Target("classify", "1000 rules", ACL, 1.0, 1.5),
    Target("classify", LISTS, ACL, 1.5, 3),
    Target("recompile", CHANGE, ACL_BUILD, 10, 50),
]
GROWTH = (10, 30, 100, 300, 1000, 3000, 10_000)


def rows(options: Options, missing: NotRun | None) -> Iterator[Row]:
    """All that is measured of rules."""
    for count, prefixes, case in CASES:
        yield from _case(options, missing, count, prefixes, case)
    for count in GROWTH[: -2 if options.quick else None]:
        yield from _case(options, missing, count, 1, f"{count} rules", growth=True)
    yield recompiled(options, missing)


def _acl(lines: list[traces.RuleLine]) -> dpdk.Acl:
    rows = b"".join(
        struct.pack("=i5I", line.protocol, prefix, length, line.port_first, line.port_last, number)
        for number, line in enumerate(lines, 1)
        for prefix, length in line.prefixes
    )
    return dpdk.Acl(address(packed := array("I", rows)), len(packed) // 6)


def _case(
    options: Options, missing: NotRun | None, count: int, prefixes: int, case: str, *, growth: bool = False
) -> Iterator[Row]:
    lines = traces.rule_lines(options.seed, count, prefixes)
    packets = traces.rule_packets(lines, 1 << (16 if options.quick else 18), options.seed)
    made = []
    builds = {"ours": seconds(lambda: made.append(snapshot(**rule_rows(lines))))}
    (ours,) = made
    own_keys = array("I", [field for packet in packets for field in packet])
    own_answers, one_answers, answers = room(len(packets)), room(len(packets)), room(len(packets))
    at, kernels = (own_keys.buffer_info()[0], len(packets)), build.kernels()
    kernels.classify(ours, 0, *at, own_answers.buffer_info()[0])
    kernels.classify_one(ours, 0, *at, one_answers.buffer_info()[0])
    agree(f"{case}: one at a time", own_answers, one_answers)
    contenders = {
        "ours": per_item(lambda: kernels.classify(ours, 0, *at), len(packets)),
        ONE: per_item(lambda: kernels.classify_one(ours, 0, *at), len(packets)),
    }
    acls: list[dpdk.Acl] = []
    if missing is None:
        builds[ACL] = seconds(lambda: acls.append(_acl(lines)))
        keys = array("B", b"".join(struct.pack(">B3xIHH", p, a, 0, port) for p, a, port in packets))
        acls[0].run(keys, len(packets), answers)
        agree(f"{case}: {ACL}", own_answers, answers)
        contenders[ACL] = per_item(lambda: acls[0].run(keys, len(packets)), len(packets))
    label = "growth: " if growth else ""
    note = ""
    if acls and not acls[0].is_vector:
        note = f"{ACL}: this machine has no AVX-512, its best other classifier"
    measured = alternate(options.rounds, contenders)
    peer = measured[ACL] if missing is None else missing
    yield Row(AREA, f"{label}classify", case, "ns", measured["ours"], {ACL: peer}, against=ACL, note=note)
    if not growth:
        one = measured[ONE]
        yield Row(AREA, "classify, a packet at a time", case, "ns", one, {ACL: peer}, against=ACL, note=note)
    entries = count * prefixes
    peer = Sample([acls[0].bytes / entries]) if missing is None else missing
    yield Row(AREA, f"{label}bytes per rule entry", case, "B", Sample([ours.bytes / entries]), {ACL: peer}, against=ACL)
    if not growth:
        peer = Sample([builds[ACL]]) if missing is None else missing
        yield Row(AREA, "build", case, "s", Sample([builds["ours"]]), {ACL: peer}, against=ACL)
    for acl in acls:
        acl.free()


_LAB = """
version: 1
name: rules
quotas: {{rules_per_security_group: 1000, security_groups_per_interface: 1}}
vpcs:
  shop:
    cidr: 10.0.0.0/16
    subnets:
      web: {{cidr: 10.0.1.0/24, availability_zone: a}}
    security_groups:
      web:
        description: rules
        ingress:
{rules}
instances:
  web: {{vpc: shop, subnet: web, security_groups: [web]}}
"""


def _lab(lines: list[traces.RuleLine]) -> str:
    written = set()
    for line in lines:
        ((prefix, length),) = line.prefixes
        dotted = ".".join(map(str, prefix.to_bytes(4)))
        name = {6: "tcp", 17: "udp", -1: "all"}[line.protocol]
        ports = "" if line.protocol == -1 else f", ports: {line.port_first}-{line.port_last}"
        written.add(f"          - {{protocol: {name}{ports}, source: {dotted}/{length}}}")
    return _LAB.format(rules="\n".join(sorted(written)))


def recompiled(options: Options, missing: NotRun | None) -> Row:
    """A lab changes over to one that differs in a rule, from its topology to the swap; rte_acl is built anew."""
    lines = traces.rule_lines(options.seed, 1000)
    changed = [*traces.rule_lines(options.seed + 1, 1), *lines[1:]]
    topologies = cycle([load_topology(_lab(each), file_name="bench") for each in (lines, changed)])
    plane = DataPlane(next(topologies))
    contenders = {"ours": lambda: seconds(lambda: plane.apply(next(topologies)))}
    if missing is None:
        contenders[ACL_BUILD] = lambda: seconds(lambda: _acl(lines).free())
    measured = alternate(max(options.rounds, 5), contenders)
    peer = measured[ACL_BUILD] if missing is None else missing
    return Row(AREA, "recompile", CHANGE, "s", measured["ours"], {ACL_BUILD: peer}, against=ACL_BUILD)
