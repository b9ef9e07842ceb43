"""Tables, from octets: routes in every form of table, lists of rules looked through and classified, and their changes.

What a table finds is what a scan over all it was made of finds, on every instruction set there is; and a list that was
changed is as one that was made anew.
"""

from __future__ import annotations

from array import array
from collections.abc import Sequence
from dataclasses import replace
from ipaddress import IPv4Network, IPv6Network, ip_address, ip_network

from dataplane.compile import Compiler, intervals
from dataplane.compile.compiler import Packed
from dataplane.program import Direction, Drop, Filter, GroupSession, Node, Prefix, Program, Rule, Side
from dataplane.verdict import Reason
from fastpath.classifier import service
from fastpath.lpm import FORMS, LEVELS, Lpm
from fastpath.snapshot import Snapshot
from fastpath.tracer import Overlay
from tests.fuzz import frames
from tests.fuzz.octets import Octets
from tests.fuzz.playing import TALLY
from tests.property.test_tables_matching import Facts, matches
from tests.unit.fastpath.test_intervals import scan, snapshot_of
from tests.unit.fastpath.test_lpm import check, columns, edges
from tests.unit.fastpath.two_hosts import TwoHosts

SMALL = tuple(form for form in FORMS if form != "direct")
"""`direct` takes 32 MB and more a table."""
ASKED = 24
LENGTHS4 = (32, 32, 31, 30, 24, 25, 23, 16, 17, 8, 1, 0)
LENGTHS6 = (128, 128, 127, 64, 65, 63, 56, 48, 100, 1, 0)
BASES4 = (10 << 24, 10 << 24, (10 << 24) + (1 << 16), 0, (1 << 32) - 256)
BASES6 = (0x20010DB8 << 96, 0x20010DB8 << 96, (0x20010DB8 << 96) + (1 << 64), 0, (1 << 128) - 256)
PROTOCOLS = (6, 17, 6, 17, -1, 1, 58, 47)
PORTS = (0, 79, 80, 81, 443, 1024, 65535)
NEVER = 1 << 20
"""More rules than there are: none is classified."""


def prefix(octets: Octets) -> Prefix:
    """One of few distinct ones, so that they nest, touch and coincide."""
    how = octets.one()
    kind: type[IPv4Network] | type[IPv6Network]
    kind, bits, lengths, bases = (
        (IPv6Network, 128, LENGTHS6, BASES6) if how & 1 else (IPv4Network, 32, LENGTHS4, BASES4)
    )
    length = octets.among(lengths)
    address = octets.among(bases) + (octets.one() << (how >> 4))
    return kind((address % (1 << bits) >> (bits - length) << (bits - length), length))


def routes(octets: Octets) -> None:
    """Prefixes, some of them many in a row, in every form."""
    found: dict[Prefix, int] = {}
    for _ in range(octets.one() % 16):
        first = prefix(octets)
        value, row = octets.one() | (octets.one() << 12 if octets.rarely(4) else 0), octets.one()
        count = 1 << row % 11 if row >= 0xC0 else 1
        step = (1 << (first.max_prefixlen - first.prefixlen)) * (1 + row % 3)
        last = 1 << first.max_prefixlen
        for n in range(count):
            address = int(first.network_address) + n * step
            if address < last:
                found[type(first)((address, first.prefixlen))] = value + n
    entries = list(found.items())
    asked = {family: numbers[:: 1 + len(numbers) // ASKED] for family, numbers in edges(entries).items()}
    wanted = {
        4: [scan(entries, IPv4Network(number).network_address) for number in asked[4]],
        6: [scan(entries, IPv6Network(number).network_address) for number in asked[6]],
    }
    rows = intervals(entries)
    for table in (Lpm(rows, form=octets.among(SMALL)), Lpm(rows), snapshot_of(entries)):
        for family, numbers in asked.items():
            check(table, family, numbers, wanted[family])
    for family, numbers in asked.items():
        check(Lpm.of_prefixes(*columns(entries, family)), family, numbers, wanted[family])


def rule(octets: Octets, number: int) -> Rule:
    """A rule, often of one port or prefix that others have, too."""
    protocol, how = octets.among(PROTOCOLS), octets.one()
    ends = sorted((octets.among(PORTS), octets.among(PORTS)))
    in_set = how & 7 == 1
    return Rule(
        rule=number,
        allow=bool(how & 8),
        protocol=protocol,
        ports=(ends[0], ends[1]) if protocol in (6, 17) and how & 16 else None,
        icmp=(octets.among((-1, 0, 8, 128)), octets.among((-1, 0, 1))) if protocol in (1, 58) else None,
        prefix=None if in_set else prefix(octets) if how & 32 else ip_network(octets.among(("0.0.0.0/0", "::/0"))),
        table=octets.among(("near", "far")) if in_set else "",
    )


def facts(octets: Octets, rules: Sequence[Rule], sets: dict[str, list[Prefix]]) -> Facts:
    """A packet that some rule is about, or just not."""
    about = octets.among(rules)
    among = [about.prefix] if about.prefix is not None else sets[about.table]
    near = octets.among(among) if among else ip_network("10.0.0.0/32")
    address = (int(octets.among((near[0], near[-1]))) + octets.one() % 3 - 1) % (1 << near.max_prefixlen)
    remote = ip_address(address) if near.version == 4 else type(near[0])(address)
    icmp = 1 if remote.version == 4 else 58
    protocol = about.protocol if about.protocol in (6, 17, icmp, 47) else octets.among((6, 17, icmp, 47))
    port = octets.among((*(about.ports or (80, 80)), *PORTS)) + octets.one() % 3 - 1
    kind = octets.among((8, 0, 13)) if icmp == 1 else octets.among((128, 129))
    return Facts(remote.version, protocol, port % 65536, (kind, octets.one() % 2), remote)


def packet_of(told: Facts, lab: TwoHosts) -> bytes:
    """A packet to host a from the remote."""
    four = told.version == 4
    source, to = told.remote.packed, ip_address(lab.a.address if four else lab.a.address6).packed
    if told.protocol in (6, 17):
        size = 20 if told.protocol == 6 else 8
        body = (7).to_bytes(2) + told.port.to_bytes(2) + (size.to_bytes(2) if size == 8 else bytes(2)) + bytes(6)
        body = body[:8] if size == 8 else body + b"\x50\x02" + bytes(6)
        body = frames.summed(source, to, told.protocol, body, 16 if size == 20 else 6)
    else:
        body = bytes(told.icmp) + bytes(6) if told.protocol in (1, 58) else bytes(8)
        if told.protocol == 58:
            body = frames.summed(source, to, 58, body, 2)
        elif told.protocol == 1:
            body = body[:2] + (frames.total(body) ^ 0xFFFF).to_bytes(2) + body[4:]
    if four:
        return frames.IPV4 + frames.headed4(source, to, told.protocol, body)
    return frames.IPV6 + frames.headed6(source, to, told.protocol, body)


def changed(lab: TwoHosts, rules: list[Rule], sets: dict[str, list[Prefix]], *, as_filter: bool) -> Program:
    """The hosts' program with these rules in front of all that host a sends: everything else is what it was."""
    nodes: dict[str, Node] = {
        "a/out": Filter(object=1, table="drawn", remote=Side.SOURCE, reason=Reason.ACL_INGRESS, next="past")
        if as_filter
        else GroupSession(object=1, policy="a", direction=Direction.INGRESS, next="past"),
        "past": Drop(object=2, reason=Reason.BLACKHOLE),
    }
    admitting = [replace(each, allow=True) for each in rules]
    return replace(
        lab.program,
        sets=lab.program.sets | sets,
        filters=lab.program.filters | {"drawn": list(rules), "a/rules-in": admitting},
        nodes=lab.program.nodes | nodes,
    )


def lists(octets: Octets) -> None:
    """A list of rules that is changed some times, as a filter and as a group's policy."""
    sets = {name: [prefix(octets) for _ in range(octets.one() % 6)] for name in ("near", "far")}
    rules = [rule(octets, 1000 + n) for n in range(1 + octets.one() % 80)]
    lab, as_filter = TwoHosts(), bool(octets.one() & 1)
    compilers = [Compiler(classify_from=each) for each in (1, NEVER, 8)]
    packed: list[Packed | None] = [None] * len(compilers)
    for generation in range(2, 2 + 1 + octets.one() % 3):
        program = changed(lab, rules, sets, as_filter=as_filter)
        asked = [facts(octets, rules, sets) for _ in range(ASKED)]
        first = [next((each.rule for each in rules if matches(each, sets, told)), 0) for told in asked]
        for n, compiler in enumerate(compilers):
            packed[n] = made = compiler.compile(program, generation=generation, before=packed[n])
            check_many(made.snapshot, list(program.filters).index("drawn"), asked, first)
            if n == octets.one() % len(compilers) or made is packed[-1]:
                lab.engine.swap(compiler.compile(program, generation=lab.engine.generation + 1).snapshot)
                check_each(lab, asked, [by_number(rules, number) for number in first], as_filter=as_filter)
        at = octets.one() % len(rules)
        rules[at] = rule(octets, rules[at].rule)


def by_number(rules: Sequence[Rule], number: int) -> Rule | None:
    """The rule of this number; None for 0."""
    return next((each for each in rules if each.rule == number), None)


def check_many(snapshot: Snapshot, index: int, asked: Sequence[Facts], first: Sequence[int]) -> None:
    """Many packets of IPv4 at once."""
    four = [n for n, told in enumerate(asked) if told.version == 4]
    remotes = array("I", [int(asked[n].remote) for n in four])
    services = array("I")
    for n in four:
        kind, code = asked[n].icmp
        services.append(service(asked[n].protocol, port=asked[n].port, icmp_type=kind, icmp_code=code))
    for level in ("", *LEVELS):
        found = list(snapshot.first_rules(index, remotes, services, level=level))
        assert found == [first[n] for n in four], level


def check_each(lab: TwoHosts, asked: Sequence[Facts], first: Sequence[Rule | None], *, as_filter: bool) -> None:
    """One by one, on their way."""
    refused = Reason.ACL_INGRESS if as_filter else Reason.GROUP_INGRESS
    for told, by in zip(asked, first, strict=True):
        story = lab.engine.trace(lab.a.router_mac + lab.a.mac + packet_of(told, lab), lab.a.port, Overlay(), 1)
        passes = by is not None and (by.allow or not as_filter)
        if story["reason"] not in EARLIER:
            assert story["reason"] == (Reason.BLACKHOLE if passes else refused), (told, story)
        TALLY.met["packet filtered"] += story["reason"] not in EARLIER


EARLIER = (Reason.SOURCE_MARTIAN, Reason.DESTINATION_MARTIAN, Reason.LAND, Reason.ND_MALFORMED)
"""What packets die of before they come to any rule."""


def play(data: bytes) -> None:
    """Make tables and look things up. Raises AssertionError when something else is found than a scan finds."""
    octets = Octets(data)
    (lists if octets.one() & 1 else routes)(octets)
