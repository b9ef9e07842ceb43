"""Long lists of rules: classes find the very rule that looking at each one finds."""

from __future__ import annotations

import random
from dataclasses import replace
from ipaddress import ip_network
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st
from scapy.layers.inet import IP, TCP, UDP
from scapy.layers.inet6 import IPv6

from dataplane.compile import compile_program
from dataplane.program import Direction, Drop, Filter, GroupSession, Prefix, Rule, Side
from dataplane.verdict import Reason
from fastpath.classifier import Classifier
from fastpath.rule_list import RuleList
from fastpath.tracer import Overlay
from tests.property.edges import BLOCKS, around
from tests.property.test_memo import TYPES
from tests.property.test_tables_matching import Facts, packet_of
from tests.unit.fastpath.two_hosts import TwoHosts

NEVER = 10**6


def some_prefix(draw: random.Random) -> Prefix:
    kind, base, bits = draw.choice(BLOCKS)
    length = bits - draw.choice([0, 0, 1, 2, 4, 8, 16, bits])
    address = base + draw.randrange(60) * draw.choice([1, 256])
    return kind((address >> (bits - length) << (bits - length), length))


def some_rules(draw: random.Random, count: int) -> tuple[list[Rule], dict[str, list[Prefix]]]:
    sets = {f"set{n}": [some_prefix(draw) for _ in range(draw.randrange(12))] for n in range(4)}
    rules = []
    for number in range(1000, 1000 + count):
        protocol = draw.choice([-1, 1, 6, 6, 17, 17, 47, 58])
        kind = draw.randrange(8)
        rules.append(
            Rule(
                rule=number,
                allow=draw.random() < 0.5,
                protocol=protocol,
                ports=(80 + draw.randrange(8), 84 + draw.randrange(20)) if draw.randrange(5) else None,
                icmp=(draw.choice([-1, 0, 8, 128]), draw.choice([-1, 0, 1])) if protocol in (1, 58) else None,
                prefix=some_prefix(draw) if kind > 2 else None,
                table=f"set{draw.randrange(4)}" if kind in (1, 2) else "",
                group=draw.randrange(1, 6) if kind == 0 else 0,
            )
        )
    return rules, sets


def some_facts(draw: random.Random, rules: list[Rule], sets: dict[str, list[Prefix]]) -> Facts:
    rule = draw.choice(rules)
    blocks = [rule.prefix] if rule.prefix is not None else sets.get(rule.table, [])
    remote = draw.choice(around([*blocks, ip_network("10.9.9.9/32")]))
    icmp = 1 if remote.version == 4 else 58
    protocol = rule.protocol if rule.protocol in (6, 17, icmp, 47) else draw.choice([6, 17, icmp, 47])
    first, last = rule.ports or (80, 80)
    port = draw.choice([first - 1, first, last, last + 1])
    kind = draw.choice([0, 8, 13] if icmp == 1 else [128, 129, 135])
    return Facts(remote.version, protocol, port, (kind, draw.choice([0, 0, 1, 2])), remote)


def prepared(
    rules: list[Rule], sets: dict[str, list[Prefix]], side: Side, groups: tuple[int, ...], *, as_filter: bool
) -> TwoHosts:
    lab = TwoHosts()
    program = lab.program
    program.sets |= sets
    program.interfaces["a"] = replace(program.interfaces["a"], groups=groups)
    egress = side is Side.DESTINATION
    program.filters["a/rules-out" if egress else "a/rules-in"] = [replace(rule, allow=True) for rule in rules]
    program.filters["drawn"] = rules
    direction = Direction.EGRESS if egress else Direction.INGRESS
    program.nodes["a/source"] = (
        Filter(object=1, table="drawn", remote=side, reason=Reason.ACL_EGRESS, next="past")
        if as_filter
        else GroupSession(object=1, policy="a", direction=direction, next="past")
    )
    program.nodes["past"] = Drop(object=2, reason=Reason.BLACKHOLE)
    return lab


def answers(lab: TwoHosts, classify_from: int, packets: list[bytes]) -> list[list[Any]]:
    snapshot = compile_program(lab.program, generation=lab.engine.generation + 1, classify_from=classify_from)
    lab.engine.swap(snapshot)
    told = []
    for packet in packets:
        trace = lab.engine.trace(lab.a.ether() + TYPES[packet[0] >> 4] + packet, lab.a.port, Overlay(), 1)
        told.append([trace["reason"], *((hop["op"], hop["detail"], hop["rule"]) for hop in trace["hops"])])
    return told


@settings(max_examples=30)
@given(
    seed=st.integers(0, 2**32),
    count=st.sampled_from([1, 15, 17, 63, 64, 65, 130, 300]),
    side=st.sampled_from(Side),
    groups=st.sampled_from([(), (1,), (2, 4)]),
    as_filter=st.booleans(),
)
def test_classes_find_the_rule_that_a_look_at_each_finds(
    seed: int,
    count: int,
    side: Side,
    groups: tuple[int, ...],
    as_filter: bool,
) -> None:
    draw = random.Random(seed)
    rules, sets = some_rules(draw, count)
    lab = prepared(rules, sets, side, groups, as_filter=as_filter)
    packets = [packet_of(some_facts(draw, rules, sets), side) for _ in range(40)]
    assert answers(lab, 1, packets) == answers(lab, NEVER, packets)


def test_the_rules_found_are_not_always_the_same() -> None:
    """The comparison above is about something: rules early and late, of groups and of sets, and none."""
    draw = random.Random(1)
    rules, sets = some_rules(draw, 130)
    rules = [rule for rule in rules if rule.prefix is None or rule.prefix.prefixlen > 8]
    lab = prepared(rules, sets, Side.SOURCE, (2, 4), as_filter=True)
    packets = [packet_of(some_facts(draw, rules, sets), Side.SOURCE) for _ in range(300)]
    found = {hop[2] for told in answers(lab, 1, packets) for hop in told[1:] if hop[0] == "filter"}
    by_number = {rule.rule: rule for rule in rules}
    assert 0 in found
    assert len(found) > 12
    assert {bool(by_number[n].group) for n in found if n} == {False, True}
    assert {bool(by_number[n].table) for n in found if n} == {False, True}


def rule_row(n: int, first: int, last: int, *, table: int = 0) -> tuple[int, ...]:
    return (n, 6, 1, 0 if table else 4, 80, 80 + n % 50, -1, -1, 0, 0, table, 0, first, last)


def classes_of(rows: list[tuple[int, ...]], tables: list[tuple[list[int], ...]]) -> Classifier:
    classes = RuleList(rows, tables, classify_from=1).classes
    assert classes is not None
    return classes


def test_a_prefix_list_of_any_length_costs_a_bit() -> None:
    starts = [n << 12 for n in range(0, 20000, 2)]
    table: tuple[list[int], ...] = (
        [x for start in starts for x in (start, start + 4096 // 2)],
        [1, 0] * len(starts),
        [],
        [],
    )
    by_list = classes_of([rule_row(1, 0, 0, table=1)] * 100, [table])
    # One class for all of them, so what it weighs is the table: a key and a value for each end of a prefix.
    assert by_list.bytes < 9 * 2 * len(starts) + 2000
    vectors = by_list.bytes - classes_of([rule_row(1, 0, 0, table=1)], [table]).bytes
    assert vectors < 2000


@settings(max_examples=60)
@given(
    seed=st.integers(0, 2**32),
    count=st.sampled_from([1, 12, 90]),
    kind=st.sampled_from([(4, 17), (6, 17)]),
)
def test_ports_open_to_everybody_are_those_that_a_look_at_each_rule_finds(
    seed: int, count: int, kind: tuple[int, int]
) -> None:
    """An answer from such a port is not tracked: the rules of the other direction decide it."""
    draw = random.Random(seed)
    family, protocol = kind
    rules = [rule_about_ports(draw, number) for number in range(1000, 1000 + count)]
    lab = TwoHosts(ingress=tuple(rules))
    edges = sorted({p + d for rule in rules for p in rule.ports or (0, 65535) for d in (-1, 0, 1)} & set(range(65536)))
    packets = [answer_of(family, protocol, draw.choice(edges)) for _ in range(60)]
    assert details(lab, 1, packets) == details(lab, NEVER, packets)


def test_some_ports_are_open_to_everybody_and_some_are_not() -> None:
    draw = random.Random(3)
    lab = TwoHosts(ingress=tuple(rule_about_ports(draw, number) for number in range(1000, 1040)))
    packets = [answer_of(4, 17, port) for port in range(80, 300)]
    assert len(set(details(lab, 1, packets))) == 2


def rule_about_ports(draw: random.Random, number: int) -> Rule:
    prefix = draw.choice(["0.0.0.0/0", "::/0", "0.0.0.0/0", "::/0", "10.0.0.0/8", "0.0.0.0/1"])
    first = 80 + draw.randrange(200)
    ports = draw.choice([(first, first), (first, first + draw.randrange(9)), (0, 3), (65530, 65535)])
    return Rule(rule=number, protocol=draw.choice([6, 6, 17, 17, 1]), ports=ports, prefix=ip_network(prefix))


def answer_of(family: int, protocol: int, port: int) -> bytes:
    there = IP(src="10.0.1.10", dst="10.0.2.10") if family == 4 else IPv6(src="2001:db8:1::10", dst="2001:db8:2::10")
    return bytes(there / (TCP(sport=port, dport=9, flags="SA") if protocol == 6 else UDP(sport=port, dport=9)))


def details(lab: TwoHosts, classify_from: int, packets: list[bytes]) -> list[str]:
    """What the sender's own group policy makes of each: tracked or not."""
    told = answers(lab, classify_from, packets)
    return [next(hop[1] for hop in hops[1:] if hop[0] == "group-session") for hops in told]
