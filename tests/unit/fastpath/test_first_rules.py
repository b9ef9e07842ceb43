"""The first rule of many packets at once, for each instruction set, against the walk's way through each rule."""

from __future__ import annotations

import random
from array import array
from dataclasses import replace
from ipaddress import ip_network

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dataplane.compile import compile_program
from dataplane.program import Prefix, Program, Rule
from fastpath.classifier import service
from fastpath.lpm import LEVELS
from fastpath.snapshot import Snapshot
from tests.unit.fastpath.test_classifier import NEVER, some_facts, some_rules
from tests.unit.fastpath.two_hosts import TwoHosts

COUNTS = [1, 7, 8, 63, 64, 65, 128, 129, 190, 256, 257, 300, 512, 513, 700, 770, 1024, 1025, 1030, 1100]
"""Around the ends of words, and of what kernels take in one step: 1, 2, 4, 8, 12 and 16 words."""


def snapshots(rules: list[Rule], sets: dict[str, list[Prefix]]) -> tuple[Snapshot, Snapshot, int]:
    """A list looked up by classes, and looked through; its index."""
    program: Program = TwoHosts().program
    program.sets |= sets
    program.filters["drawn"] = rules
    index = list(program.filters).index("drawn")
    return compile_program(program, generation=1), compile_program(program, generation=1, classify_from=NEVER), index


def packets(
    draw: random.Random, rules: list[Rule], sets: dict[str, list[Prefix]], count: int
) -> tuple[array[int], array[int]]:
    remotes, services = array("I"), array("I")
    while len(remotes) < count:
        facts = some_facts(draw, rules, sets)
        if facts.remote.version == 4:
            remotes.append(int(facts.remote))
            port = facts.port % 65536
            services.append(service(facts.protocol, port=port, icmp_type=facts.icmp[0], icmp_code=facts.icmp[1]))
    return remotes, services


def obvious(rule: Rule, sets: dict[str, list[Prefix]], remote: int, key: int) -> bool:
    """The twin: every clause of a rule, one by one."""
    protocol, low = key >> 16, key & 0xFFFF
    if rule.protocol not in (-1, protocol):
        return False
    if rule.protocol in (6, 17) and rule.ports is not None and not rule.ports[0] <= low <= rule.ports[1]:
        return False
    if rule.protocol in (1, 58) and rule.icmp is not None:
        kind, code = rule.icmp
        if kind not in (-1, low >> 8) or code not in (-1, low & 255):
            return False
    blocks = [rule.prefix] if rule.prefix is not None else sets.get(rule.table, [])
    return any(b.version == 4 and int(b.network_address) <= remote <= int(b.broadcast_address) for b in blocks)


@settings(max_examples=40)
@given(
    seed=st.integers(0, 2**32), count=st.sampled_from(COUNTS), batch=st.sampled_from([1, 15, 16, 17, 63, 64, 65, 130])
)
def test_the_first_rule_is_the_one_that_a_look_at_each_finds(seed: int, count: int, batch: int) -> None:
    draw = random.Random(seed)
    rules, sets = some_rules(draw, count)
    if draw.random() < 0.5:  # few that match early, so that late ones are found
        rules = [
            replace(r, prefix=ip_network("192.0.2.1/32")) if r.prefix and r.prefix.prefixlen < 9 else r for r in rules
        ]
    by_classes, looked_through, index = snapshots(rules, sets)
    remotes, services = packets(draw, rules, sets, batch)
    wanted = [
        next((rule.rule for rule in rules if obvious(rule, sets, remote, key)), 0)
        for remote, key in zip(remotes, services, strict=True)
    ]
    for level in ("", *LEVELS):
        assert list(by_classes.first_rules(index, remotes, services, level=level)) == wanted, level
    assert list(looked_through.first_rules(index, remotes, services)) == wanted


@pytest.mark.parametrize("count", COUNTS)
def test_rules_of_every_word_are_found(count: int) -> None:
    """Late ones too: every address has a rule of its own, some after rules for all senders of a group."""
    draw = random.Random(count)
    rules: list[Rule] = []
    own: list[tuple[int, int, int]] = []
    while len(rules) < count:
        n = len(rules)
        if draw.randrange(2):
            rules.append(Rule(rule=1 + n, protocol=6, ports=(0, 65535), group=1))
        else:
            host = ip_network(f"10.{n >> 8}.{n & 255}.0/24")
            rules.append(Rule(rule=1 + n, protocol=6, ports=(n, n), prefix=host))
            own.append((1 + n, int(host.network_address) + 7, service(6, port=n)))
    by_classes, _, index = snapshots(rules, {})
    numbers, remotes, services = array("I", []), array("I", []), array("I", [])
    for each in own:
        for column, value in zip((numbers, remotes, services), each, strict=True):
            column.append(value)
    shifted = array("I", [*services[1:], service(6, port=count)][: len(own)])
    for level in LEVELS:
        assert by_classes.first_rules(index, remotes, services, level=level) == numbers
        assert not any(by_classes.first_rules(index, remotes, shifted, level=level))


def test_what_is_no_pair_of_buffers_is_refused() -> None:
    by_classes, _, index = snapshots(*some_rules(random.Random(1), 20))
    with pytest.raises(ValueError, match="as many services as addresses"):
        by_classes.first_rules(index, array("I", [1]), array("I", [1, 2]))
    with pytest.raises(IndexError):
        by_classes.first_rules(99, array("I", [1]), array("I", [1]))
    assert list(by_classes.first_rules(index, array("I"), array("I"))) == []
