"""Who reaches whom, spread over everybody that a question stands for."""

from __future__ import annotations

from typing import Any

import pytest

from dataplane.analysis.classes import questions
from dataplane.analysis.judge import judge
from dataplane.analysis.matrix import derive, in_words
from dataplane.analysis.oracle import Oracle
from dataplane.analysis.told import row_of
from dataplane.load import load_topology
from tests.unit.analysis.claims import EXAMPLES


def matrix(name: str, **changed: Any) -> dict[tuple[str, str], dict[str, Any]]:
    topology = load_topology(EXAMPLES / f"{name}.yaml")
    oracle, asked = Oracle(topology), list(questions(topology, every_sample=False))
    rows = [{**row_of(judge(1, oracle.follow(each.check.resolve(topology)))), **changed} for each in asked]
    return {(line["from"], line["address"]): line for line in derive(topology, asked, rows)}


def test_the_quickstart_lab() -> None:
    found = matrix("quickstart")
    assert {pair: in_words(line["reaches"]) for pair, line in found.items() if pair[0] in ("app/eth0", "db/eth0")} == {
        ("app/eth0", "10.0.1.10"): "tcp 80; icmp",
        ("app/eth0", "203.0.113.20"): "tcp 80",
        ("app/eth0", "10.1.1.10"): "tcp 5432; icmp",
        ("app/eth0", "198.51.100.10"): "tcp 1-21, 23-24, 26-65535; udp all; icmp",
        ("app/eth0", "198.51.100.77"): "tcp 1-21, 23-24, 26-65535; udp all; icmp",
        ("db/eth0", "10.0.1.10"): "tcp 80; icmp",
        ("db/eth0", "203.0.113.20"): "-",
        ("db/eth0", "10.0.2.10"): "-",
        ("db/eth0", "198.51.100.10"): "-",
        ("db/eth0", "198.51.100.77"): "-",
    }
    stopped = found["db/eth0", "198.51.100.77"]["stopped"]
    assert stopped == [
        "DROPPED by route-table store/main: the route table has no route to the destination [NO_ROUTE_TO_DESTINATION]"
    ]


def test_lines_are_in_the_order_of_the_file_and_what_stops_most_is_told_first() -> None:
    found = matrix("quickstart")
    nodes = [f"{name}/eth0" for name in ("web", "app", "db", "example", "visitor")]
    pairs = list(dict.fromkeys((line["from"], line["to"]) for line in found.values()))
    assert pairs == [(one, other) for one in nodes for other in nodes if one != other]
    stopped = found["visitor/eth0", "203.0.113.20"]["stopped"]
    assert [each.partition(":")[0] for each in stopped] == [
        "DROPPED by interface web/eth0 (security group shop/web)",  # five kinds of traffic
        "DROPPED by network-acl shop/edge (rule *, as no other matches)",  # four, that with the lowest ports among them
        "DROPPED by network-acl shop/edge",  # ssh
    ]


def test_everybody_has_a_line_for_everybody_else() -> None:
    found = matrix("inspection-east-west")
    assert {pair for pair in found if pair[0] == "neighbour/eth0"} == {
        ("neighbour/eth0", "10.80.1.10"),
        ("neighbour/eth0", "10.80.2.10"),
    }
    assert in_words(found["neighbour/eth0", "10.80.2.10"]["reaches"]) == "tcp all; udp all; icmp; protocol 50"


TWO_ARMS = """
version: 1
vpcs:
  v:
    cidr: 10.0.0.0/16
    subnets: {one: {cidr: 10.0.1.0/24}, two: {cidr: 10.0.2.0/24}}
    network_interfaces:
      of-p: {subnet: two, private_ips: [10.0.2.10], attachment: {instance: p, device_index: 1}}
      of-q: {subnet: two, private_ips: [10.0.2.11], attachment: {instance: q, device_index: 1}}
instances:
  p: {vpc: v, subnet: one, private_ip: 10.0.1.10}
  q: {vpc: v, subnet: one, private_ip: 10.0.1.11}
"""


def test_nobody_has_a_line_for_another_interface_of_its_own() -> None:
    """Two are of one kind with either arm; what goes from one arm to the other never leaves its kernel."""
    topology = load_topology(TWO_ARMS, file_name="lab.yaml")
    oracle, asked = Oracle(topology), list(questions(topology, every_sample=False))
    rows = [row_of(judge(1, oracle.follow(each.check.resolve(topology)))) for each in asked]
    found = {(line["from"][0], line["to"][0]) for line in derive(topology, asked, rows)}
    assert found == {("p", "q"), ("q", "p")}


def test_what_nobody_could_tell_is_neither() -> None:
    for line in matrix("quickstart", found="lost").values():
        assert (line["reaches"], line["stopped"]) == ([], [])
        assert line["undecided"]


@pytest.mark.parametrize(
    ("kinds", "words"),
    [
        ([], "-"),
        ([{"protocol": 6, "ports": [[1, 65535]]}, {"protocol": 58, "ports": []}], "tcp all; icmpv6"),
        (
            [{"protocol": 17, "ports": [[53, 53], [60, 69]]}, {"protocol": 50, "ports": []}],
            "udp 53, 60-69; protocol 50",
        ),
    ],
)
def test_kinds_in_words(kinds: list[dict[str, Any]], words: str) -> None:
    assert in_words(kinds) == words
