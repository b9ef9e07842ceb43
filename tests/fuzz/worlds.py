"""The labs that fuzzed packets meet: each one a lab and what it becomes, so that tables can be swapped meanwhile.

Most were drawn once (`python -m tests.fuzz.draw_worlds`) and are kept as text, so that an input found today means
the same packets tomorrow, whatever Hypothesis draws by then. Behind them come some for what those meet seldom, or never
(`labs/*.yaml`). New ones are to be the last: their numbers stand in inputs that are kept.
"""

from __future__ import annotations

import gzip
import json
from dataclasses import dataclass
from functools import cache
from ipaddress import ip_address
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML

from dataplane.compile import Compiler
from dataplane.names import Names
from dataplane.program import Guard, Program
from dataplane.topology import Topology
from dataplane.topology.lowering import lower
from dataplane.verdict import Reason
from fastpath.snapshot import Snapshot
from tests.fuzz.rewired import ANYBODY, rewired
from tests.property.quick_load import topology_of

FILE = Path(__file__).parent / "worlds.json.gz"
LABS = Path(__file__).parent / "labs"
OWN = ("circles", "refused", "beyond", "edited")
"""Labs for what drawn ones meet seldom."""
ROUNDS = {"edited": 7}
"""How often one becomes what it becomes, if more than once: more swaps than the fast engine remembers."""
BEYOND = "beyond"
"""The one whose program is another than it is lowered to."""
UNLOGGED = 4
"""One VPC in so many has no flow log at a time."""
EVERYBODY = ("0.0.0.0", "255.255.255.255", "224.0.0.1", "127.0.0.1", "169.254.169.253", "198.51.100.250", "10.9.9.9")
EVERYBODY6 = ("::", "::1", "ff02::1", "fe80::1", "fd00:ec2::253", "2001:db8:ffff::1")


@dataclass(frozen=True, slots=True)
class End:
    """Who can send: the number of its context, its MAC and its router's, its addresses."""

    port: int
    mac: bytes
    router: bytes
    own4: tuple[bytes, ...]
    own6: tuple[bytes, ...]


@dataclass(frozen=True, slots=True, eq=False)
class World:
    """What packets are made for, and the tables they meet, in the order in which they are swapped in."""

    snapshots: tuple[Snapshot, ...]
    topologies: tuple[Topology, ...]
    programs: tuple[Program, ...]
    names: Names
    ends: tuple[End, ...]
    addresses4: tuple[bytes, ...]
    addresses6: tuple[bytes, ...]
    macs: tuple[bytes, ...]
    services: tuple[bytes, ...]
    """IPv4 addresses of AWS services."""
    spoofers: tuple[End, ...]
    """Who may send from any address, in one of the labs."""


def compiled(stages: list[dict[str, Any]]) -> World:
    """A world of these labs."""
    names, compiler = Names(), Compiler()
    lowered = packed = None
    snapshots, topologies, programs, ends = [], [], [], {}
    four = {ip_address(each).packed for each in EVERYBODY}
    six = {ip_address(each).packed for each in EVERYBODY6}
    macs: set[bytes] = set()
    services: set[bytes] = set()
    spoofers: set[int] = set()
    for generation, lab in enumerate([*stages, stages[0]], start=1):
        topology = topology_of(lab)
        lowered = lower(topology, names, lowered)
        program = rewired(lowered.program) if lab["name"] == BEYOND else lowered.program
        packed = compiler.compile(program, generation=generation, before=packed)
        snapshots.append(packed.snapshot)
        topologies.append(topology)
        programs.append(program)
        services.update(
            each.address4.packed
            for label, each in program.interfaces.items()
            if label.startswith("aws-service:") and each.address4 is not None
        )
        checked = {
            node.object
            for node in program.nodes.values()
            if isinstance(node, Guard)
            and node.reason is Reason.SOURCE_CHECK
            and ANYBODY not in program.sets[node.table]
        }
        spoofers.update(context.number for context in program.contexts if context.number not in checked)
        for context in program.contexts:
            interface = program.interfaces[context.interface]
            own = [
                prefix.network_address
                for prefix, mac in program.neighbours[context.neighbours]
                if mac == interface.mac and prefix.prefixlen == prefix.max_prefixlen
            ]
            ends[context.number] = End(
                context.number, interface.mac, interface.router_mac,
                tuple(a.packed for a in own if a.version == 4), tuple(a.packed for a in own if a.version == 6),
            )  # fmt: skip
        for rows in program.neighbours.values():
            for prefix, mac in rows:
                if mac is not None:
                    macs.add(mac)
                if prefix.prefixlen == prefix.max_prefixlen:
                    (four if prefix.version == 4 else six).add(prefix.network_address.packed)
        for routes in program.fibs.values():
            for route in routes:
                if route.prefix.prefixlen == route.prefix.max_prefixlen:
                    (four if route.prefix.version == 4 else six).add(route.prefix.network_address.packed)
        for rewrite in program.maps.values():
            for pair in rewrite:
                four.update((pair.inside.packed, pair.outside.packed))
        for policy in program.nat_policies.values():
            four.update(address.packed for address in policy.addresses)
            if policy.prefix6 is not None:  # IPv4 behind NAT64 (RFC 6052)
                six.update(policy.prefix6.network_address.packed[:12] + each for each in four)
    return World(
        snapshots=tuple(snapshots), topologies=tuple(topologies), programs=tuple(programs), names=names,
        ends=tuple(ends[number] for number in sorted(ends)), macs=tuple(sorted(macs)),
        addresses4=tuple(sorted(four)), addresses6=tuple(sorted(six)), services=tuple(sorted(services)),
        spoofers=tuple(ends[number] for number in sorted(spoofers)),
    )  # fmt: skip


@cache
def stored() -> list[list[dict[str, Any]]]:
    """The labs of all worlds."""
    worlds: list[list[dict[str, Any]]] = json.loads(gzip.decompress(FILE.read_bytes()))
    return worlds + [own(name) * ROUNDS.get(name, 1) for name in OWN]


def own(name: str) -> list[dict[str, Any]]:
    """A lab that is kept as a lab file, and what it becomes: further documents say what is another then (RFC 7396)."""
    first, *changes = YAML(typ="safe").load_all(LABS / f"{name}.yaml")
    return [first, *(merged(first, each) for each in changes)]


def merged(lab: dict[str, Any], change: dict[str, Any]) -> dict[str, Any]:
    """A lab with a change: mappings are merged, and anything else takes the place of what was there."""
    return lab | {
        key: merged(lab[key], value) if isinstance(value, dict) and isinstance(lab.get(key), dict) else value
        for key, value in change.items()
    }


def world(number: int) -> World:
    """World `number`, modulo how many there are; `OWN` come twice as often as others."""
    return _world(_turn(number), False)


def logged_world(number: int) -> World:
    """The same with flow logs: of all that is in a VPC but in one of its stages, so that they come and go."""
    return _world(_turn(number), True)


def _turn(number: int) -> int:
    count = len(stored())
    turn = number % (count + len(OWN))
    return turn if turn < count else turn - len(OWN)


@cache
def _world(number: int, logged: bool) -> World:
    stages = stored()[number]
    return compiled([with_flow_logs(lab, stage) for stage, lab in enumerate(stages)] if logged else stages)


def with_flow_logs(lab: dict[str, Any], stage: int) -> dict[str, Any]:
    """A lab with a flow log on each of its VPCs but those whose turn it is to have none."""
    vpcs = {
        name: vpc if (number + stage) % UNLOGGED == UNLOGGED - 1 else {**vpc, "flow_logs": {"all": {}}}
        for number, (name, vpc) in enumerate(sorted(lab["vpcs"].items()))
    }
    return {**lab, "vpcs": vpcs}
