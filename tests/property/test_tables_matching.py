"""Tables that match addresses and packets, each against an obvious twin: routes, address sets, ordered filters."""

from __future__ import annotations

import sys
from collections import Counter
from dataclasses import dataclass, replace
from ipaddress import ip_network
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st
from scapy.layers.inet import ICMP, IP, TCP, UDP
from scapy.layers.inet6 import ICMPv6EchoRequest, IPv6

from dataplane import program as p
from dataplane.compile import compile_program, intervals
from dataplane.program import Address, Direction, Drop, Filter, GroupSession, Guard, Prefix, Route, Rule, Side
from dataplane.verdict import Reason, Verdict
from fastpath.classifier import LONG_LIST
from fastpath.lpm import LEVELS, Lpm
from fastpath.tracer import Overlay
from tests.property.edges import around, beside, prefixes
from tests.property.test_memo import TYPES
from tests.unit.fastpath.two_hosts import TwoHosts

HOST = {4: "10.0.1.10", 6: "2001:db8:1::10"}
blocks = st.lists(prefixes(), max_size=16)


def recompiled(lab: TwoHosts, *, classify_from: int = LONG_LIST) -> TwoHosts:
    """The hosts with what a test has changed in their program."""
    generation = lab.engine.generation + 1
    lab.engine.swap(compile_program(lab.program, generation=generation, classify_from=classify_from))
    return lab


def udp(source: str | Address, destination: str | Address, *, port: int = 9) -> bytes:
    layer = IPv6 if ":" in str(destination) else IP
    return bytes(layer(src=str(source), dst=str(destination)) / UDP(sport=1, dport=port))


def outcome_of(lab: TwoHosts, packet: bytes) -> tuple[int, int, int, int]:
    [outcome], _ = lab.engine.process([lab.a.ether() + TYPES[packet[0] >> 4] + packet], [lab.a.port], 1)
    return outcome


# -- routes: longest prefix match


def longest(table: list[Prefix], address: Address) -> Prefix | None:
    """The twin: look at every prefix, keep the longest that holds the address."""
    holding = [prefix for prefix in table if prefix.version == address.version and address in prefix]
    return max(holding, key=lambda prefix: prefix.prefixlen, default=None)


@given(table=blocks.map(lambda found: list(dict.fromkeys(found))), memo=st.booleans())
def test_a_packet_takes_the_longest_route_that_holds_its_destination(table: list[Prefix], memo: bool) -> None:
    lab = TwoHosts(memo=memo)
    program = lab.program
    rules = {prefix: program.names.intern("route", str(prefix)) for prefix in table}
    routes = []
    for n, prefix in enumerate(table):
        # Every other route leads to host b, past its destination check; a packet that was let in is remembered.
        program.nodes[f"end{n}"] = Drop(object=rules[prefix], reason=Reason.BLACKHOLE)
        program.nodes[f"on{n}"] = replace(program.nodes["b/emit"], object=rules[prefix])
        routes.append(Route(prefix=prefix, node=f"on{n}" if n % 2 else f"end{n}", rule=rules[prefix]))
    program.fibs["hosts"] = routes
    recompiled(lab)
    for address in around([*table, ip_network("172.16.0.0/32"), ip_network("2001:db8:aa::/128")]):
        chosen = longest(table, address)
        for _ in range(3):  # walked, then remembered
            verdict, reason, object_, rule = outcome_of(lab, udp(HOST[address.version], address))
            if chosen is None:
                assert (verdict, reason, rule) == (Verdict.DROP, Reason.NO_ROUTE, 0), address
            elif table.index(chosen) % 2:
                assert (verdict, reason, object_) == (Verdict.FORWARD, 0, rules[chosen]), address
            else:
                assert (verdict, reason, object_, rule) == (2, Reason.BLACKHOLE, rules[chosen], rules[chosen]), address


@given(table=blocks.map(lambda found: list(dict.fromkeys(found))), form=st.sampled_from(["tree", "trie"]))
def test_every_form_of_a_table_finds_the_longest_prefix_on_every_cpu(table: list[Prefix], form: str) -> None:
    found = Lpm(intervals((prefix, n) for n, prefix in enumerate(table, 1)), form=form)
    for version in (4, 6):
        addresses = [a for a in around([*table, ip_network("10.0.0.0/32")]) if a.version == version]
        packed = b"".join(a.packed if version == 6 else int(a).to_bytes(4, sys.byteorder) for a in addresses)
        chosen = [longest(table, address) for address in addresses]
        wanted = [0 if prefix is None else 1 + table.index(prefix) for prefix in chosen]
        for level in LEVELS:
            assert list(found.find_many(version, packed, level=level)) == wanted, (level, addresses)
        assert [found.find(version, int(address)) for address in addresses] == wanted


# -- address sets


def holds(table: list[Prefix], address: Address) -> bool:
    return any(prefix.version == address.version and address in prefix for prefix in table)


@given(table=blocks, side=st.sampled_from(Side), negate=st.booleans(), family=st.sampled_from([0, 4, 6]))
def test_an_address_is_in_a_set_when_one_of_its_prefixes_holds_it(
    table: list[Prefix], side: Side, negate: bool, family: int
) -> None:
    lab = TwoHosts()
    program = lab.program
    program.sets["drawn"] = table  # a prefix may be listed twice, and lie inside another
    program.nodes["a/source"] = Guard(
        object=1,
        test=p.Test.SOURCE_IN if side is Side.SOURCE else p.Test.DESTINATION_IN,
        table="drawn",
        negate=negate,
        family=family,
        reason=Reason.SOURCE_CHECK,
        next="inside",
    )
    program.nodes["inside"] = Drop(object=2, reason=Reason.BLACKHOLE)
    recompiled(lab)
    for address in around([*table, ip_network("172.16.0.0/32"), ip_network("2001:db8:aa::/128")]):
        here = HOST[address.version]
        packet = udp(address, here.replace("1.10", "2.10")) if side is Side.SOURCE else udp(here, address)
        passes = (bool(family) and family != address.version) or holds(table, address) != negate
        assert outcome_of(lab, packet)[1] == (Reason.BLACKHOLE if passes else Reason.SOURCE_CHECK), address


# -- ordered filters and unordered ones


@dataclass(frozen=True, slots=True)
class Facts:
    """What a rule may look at."""

    version: int
    protocol: int
    port: int
    icmp: tuple[int, int]
    remote: Address


def matches(rule: Rule, sets: dict[str, list[Prefix]], facts: Facts) -> bool:
    """The twin: what a network ACL rule says, clause by clause."""
    if rule.protocol not in (-1, facts.protocol):
        return False
    if rule.protocol in (6, 17) and rule.ports is not None and not rule.ports[0] <= facts.port <= rule.ports[1]:
        return False
    if rule.protocol in (1, 58) and rule.icmp is not None:
        for wanted, seen in zip(rule.icmp, facts.icmp, strict=True):
            if wanted not in (-1, seen):
                return False
    return holds([rule.prefix] if rule.prefix is not None else sets[rule.table], facts.remote)


@st.composite
def rule_lists(draw: st.DrawFn) -> tuple[list[Rule], dict[str, list[Prefix]]]:
    sets = {"near": draw(st.lists(prefixes(), max_size=3))}
    rules = []
    for number in range(100, 100 + draw(st.integers(0, 8))):
        protocol = draw(st.sampled_from([-1, 1, 6, 6, 17, 17, 47, 58]))
        ends = sorted(draw(st.lists(st.sampled_from([0, 1, 79, 80, 81, 1024, 65535]), min_size=2, max_size=2)))
        wanted = (draw(st.sampled_from([-1, 0, 8, 128])), draw(st.sampled_from([-1, 0, 1])))
        in_set = draw(st.integers(0, 3)) == 0
        whole = ip_network(draw(st.sampled_from(["0.0.0.0/0", "::/0"])))
        rules.append(
            Rule(
                rule=number,
                allow=draw(st.booleans()),
                protocol=protocol,
                ports=(ends[0], ends[1]) if protocol in (6, 17) and draw(st.integers(0, 4)) else None,
                icmp=wanted if protocol in (1, 58) else None,
                prefix=None if in_set else draw(st.one_of(st.just(whole), prefixes())),
                table="near" if in_set else "",
            )
        )
    return rules, sets


@st.composite
def facts_beside(draw: st.DrawFn, rules: list[Rule], sets: dict[str, list[Prefix]]) -> Facts:
    """A packet that one rule is about, or just not."""
    spare = Rule(rule=0, protocol=6, ports=(80, 80), prefix=ip_network("172.16.0.0/31"))
    rule = draw(st.sampled_from(rules or [spare]))
    written = [each.prefix for each in [*rules, spare] if each.prefix is not None] + sets["near"]
    mine = [rule.prefix] if rule.prefix is not None else sets["near"] or written
    remote = draw(st.sampled_from(around(mine if draw(st.integers(0, 3)) else written)))
    icmp = 1 if remote.version == 4 else 58
    others = [6, 17, icmp, 47]
    protocol = rule.protocol if rule.protocol in others and draw(st.integers(0, 3)) else draw(st.sampled_from(others))
    port = draw(st.sampled_from(beside(rule.ports or [80])))
    wanted = max(rule.icmp[0], 0) if rule.icmp else 8
    kind = draw(st.sampled_from(beside([wanted], most=255))), draw(st.sampled_from([0, 0, 1, 2]))
    if kind[0] in ((3, 4, 5, 11, 12) if icmp == 1 else range(128)):
        kind = (8 if icmp == 1 else 128, kind[1])  # an error is matched by what it quotes, elsewhere
    return Facts(remote.version, protocol, port, kind, remote)


def packet_of(facts: Facts, side: Side) -> bytes:
    near = HOST[facts.version].replace("1.10", "2.10") if side is Side.SOURCE else HOST[facts.version]
    ends = {"src": str(facts.remote), "dst": near} if side is Side.SOURCE else {"src": near, "dst": str(facts.remote)}
    ip = (IP if facts.version == 4 else IPv6)(**ends)
    upper: Any
    if facts.protocol in (6, 17):
        upper = (TCP if facts.protocol == 6 else UDP)(sport=7, dport=facts.port)
    elif facts.protocol == 1:
        upper = ICMP(type=facts.icmp[0], code=facts.icmp[1], id=1)
    elif facts.protocol == 58:
        upper = ICMPv6EchoRequest(type=facts.icmp[0], code=facts.icmp[1], id=1)
    else:
        upper = bytes(8)
        if facts.version == 4:
            ip.proto = facts.protocol
        else:
            ip.nh = facts.protocol
    return bytes(ip / upper)


WAYS = st.sampled_from([1, 1000])
"""From how many rules on they are classified: always, never."""


@given(drawn=rule_lists(), side=st.sampled_from(Side), skip=st.integers(0, 4), classify_from=WAYS, data=st.data())
def test_a_filter_does_what_its_first_matching_rule_says(
    drawn: tuple[list[Rule], dict[str, list[Prefix]]],
    side: Side,
    skip: int,
    classify_from: int,
    data: st.DataObject,
) -> None:
    rules, sets = drawn
    lab = TwoHosts()
    program = lab.program
    program.sets |= sets
    program.filters["drawn"] = rules
    own_subnet = program.interfaces["a"].subnet
    program.nodes["a/source"] = Filter(
        object=1,
        table="drawn",
        remote=side,
        skip_subnet={0: own_subnet, 1: own_subnet + 1}.get(skip, 0),
        reason=Reason.ACL_EGRESS,
        next="past",
    )
    program.nodes["past"] = Drop(object=2, reason=Reason.BLACKHOLE)
    recompiled(lab, classify_from=classify_from)
    for _ in range(6):
        facts = data.draw(facts_beside(rules, sets))
        packet = packet_of(facts, side)
        first = next((rule for rule in rules if matches(rule, sets, facts)), None)
        _, reason, _, rule = outcome_of(lab, packet)
        if skip == 0:  # it does not leave the subnet
            assert reason == Reason.BLACKHOLE
            continue
        trace = lab.engine.trace(lab.a.ether() + TYPES[facts.version] + packet, lab.a.port, Overlay(), 1)
        shown = next(hop["rule"] for hop in trace["hops"] if hop["op"] == "filter")
        if first is None:
            assert (reason, rule, shown) == (Reason.ACL_EGRESS, 0, 0), facts
        elif first.allow:
            assert (reason, shown) == (Reason.BLACKHOLE, first.rule), facts
        else:
            assert (reason, rule, shown) == (Reason.ACL_EGRESS, first.rule, first.rule), facts


@given(drawn=rule_lists(), egress=st.booleans(), classify_from=WAYS, data=st.data())
def test_a_group_policy_admits_what_any_of_its_rules_matches(
    drawn: tuple[list[Rule], dict[str, list[Prefix]]], egress: bool, classify_from: int, data: st.DataObject
) -> None:
    rules, sets = [replace(rule, allow=True) for rule in drawn[0]], drawn[1]
    side = Side.DESTINATION if egress else Side.SOURCE
    lab = TwoHosts()
    program = lab.program
    program.sets |= sets
    program.filters["a/rules-out" if egress else "a/rules-in"] = list(rules)
    direction = Direction.EGRESS if egress else Direction.INGRESS
    program.nodes["a/source"] = GroupSession(object=1, policy="a", direction=direction, next="past")
    program.nodes["past"] = Drop(object=2, reason=Reason.BLACKHOLE)
    refused = Reason.GROUP_EGRESS if egress else Reason.GROUP_INGRESS
    for _ in range(6):
        facts = data.draw(facts_beside(rules, sets))
        recompiled(lab, classify_from=classify_from)
        lab.engine.advance(lab.engine.now_ms + 10**9)  # no flow of the packet before is remembered
        frame = lab.a.ether() + TYPES[facts.version] + packet_of(facts, side)
        [(_, reason, _, _)], _ = lab.engine.process([frame], [lab.a.port], lab.engine.now_ms)
        admitted = any(matches(rule, sets, facts) for rule in rules)
        assert reason == (Reason.BLACKHOLE if admitted else refused), facts


def test_the_packets_drawn_reach_the_edges_of_the_rules_drawn() -> None:
    """Most packets are about some rule, and often the first that matches is not the first that is written."""
    seen: Counter[str] = Counter()

    @settings(max_examples=100)  # in quick profiles too: ten of them need not meet each kind
    @given(drawn=rule_lists(), data=st.data())
    def collect(drawn: tuple[list[Rule], dict[str, list[Prefix]]], data: st.DataObject) -> None:
        rules, sets = drawn
        for _ in range(6):
            facts = data.draw(facts_beside(rules, sets))
            found = [n for n, rule in enumerate(rules) if matches(rule, sets, facts)]
            seen["none" if not found else "first" if found[0] == 0 else "later"] += 1
            seen["several"] += len(found) > 1
            seen["port beside"] += any(
                rule.ports and facts.port in (rule.ports[0] - 1, rule.ports[1]) for rule in rules
            )

    collect()
    assert min(seen[kind] for kind in ("none", "first", "later", "several", "port beside")) > 0, seen
