"""When packets and the oracle disagree, and when a program has decided."""

from __future__ import annotations

from typing import Any

import pytest

from dataplane.analysis.told import row_of
from dataplane.analysis.verifying import difference, is_left_to_programs
from dataplane.load import load_topology
from tests.unit.analysis.claims import EXAMPLES, example, the_result

LAB = example("quickstart", "can: app -> example, port: 80")
ANSWERED = row_of(the_result("quickstart", "can: app -> example, port: 80"))
BLOCKED = row_of(the_result("quickstart", "cannot: visitor -> web, port: 22"))
THERE = ANSWERED["legs"][:1]


def test_the_same_is_no_difference() -> None:
    assert difference(LAB, ANSWERED, ANSWERED) == ""
    assert difference(LAB, BLOCKED, BLOCKED) == ""
    assert not is_left_to_programs(ANSWERED)


@pytest.mark.parametrize(
    ("expected", "seen"),
    [
        (ANSWERED, BLOCKED),
        (BLOCKED, ANSWERED),
        (ANSWERED, {**ANSWERED, "source_seen": "10.0.2.10"}),
        (ANSWERED, {**ANSWERED, "passed": ["internet-gateway:shop"]}),
        (BLOCKED, {**BLOCKED, "dropped": {**BLOCKED["dropped"], "rule": None}}),
        (BLOCKED, {**BLOCKED, "dropped": {**BLOCKED["dropped"], "answer": True}}),
        (ANSWERED, {**ANSWERED, "found": "unsent", "legs": []}),
        # it arrived where it should not have
        (BLOCKED, {**ANSWERED, "found": "arrived", "legs": THERE}),
    ],
)
def test_what_differs_is_told(expected: dict[str, Any], seen: dict[str, Any]) -> None:
    found = difference(LAB, expected, seen)
    assert "the oracle says" in found
    assert "the packets" in found


@pytest.mark.parametrize(
    "changed",
    [
        {"answer": True},
        {"sender": {"kind": "interface", "path": "web/eth0"}},
        {"receiver": {"kind": "interface", "path": "visitor/eth0"}},
        {"receiver": None},
    ],
)
def test_where_a_packet_has_come_must_be_on_its_way(changed: dict[str, Any]) -> None:
    """Whose frame it is, from whom and to whom, although nobody went on with it."""
    for found in ("arrived", "lost"):
        seen = {**ANSWERED, "found": found, "why": "it got lost", "legs": [{**THERE[0], **changed}]}
        assert difference(LAB, ANSWERED, seen) == (
            "the oracle says answered, seen as 203.0.113.10; the packets say it got lost"
        )
        assert is_left_to_programs(seen)


def test_what_was_passed_and_seen_is_told_of_both() -> None:
    seen = {**ANSWERED, "source_seen": "10.0.2.10"}
    assert difference(LAB, ANSWERED, seen) == "source seen: the oracle says 203.0.113.10, the packets 10.0.2.10"


def test_a_program_that_does_not_answer_decides_by_itself() -> None:
    seen = {**ANSWERED, "found": "arrived", "legs": THERE}
    assert difference(LAB, ANSWERED, seen) == ""
    assert is_left_to_programs(seen)


def test_a_kernel_that_finds_no_neighbour_sends_nothing_to_drop() -> None:
    missing = row_of(the_result("quickstart", "cannot: app -> 10.0.2.99, port: 80"))
    for reason in ("ARP_UNANSWERED", "ND_UNANSWERED"):
        asked = {**missing, "dropped": {**missing["dropped"], "object": None, "reason": reason}}
        assert difference(LAB, missing, asked) == ""
        assert difference(LAB, BLOCKED, asked)


def test_which_address_of_a_nat_gateway_with_several_is_open() -> None:
    one, two = (row_of(the_result("quickstart", "can: app -> example, port: 80")) for _ in range(2))
    two["source_seen"] = "203.0.113.11"
    text = (EXAMPLES / "quickstart.yaml").read_text()
    more = "elastic_ip: 203.0.113.10, secondary_private_ips: [10.0.1.9], secondary_elastic_ips: [203.0.113.11]}"
    assert difference(LAB, one, two)
    assert difference(load_topology(text.replace("elastic_ip: 203.0.113.10}", more), file_name="lab"), one, two) == ""


def test_which_target_of_several_is_open() -> None:
    lab = example("inspection-edge", "can: customer -> web, port: 80")
    expected = row_of(the_result("inspection-edge", "can: customer -> web, port: 80"))
    other = {**expected, "passed": [each.replace("fw-1", "fw-2") for each in expected["passed"]]}
    assert other != expected
    assert difference(lab, expected, other) == ""
    first = dict(expected["legs"][0])
    swallowed = {
        **expected,
        "found": "lost",
        "legs": [{**first, "receiver": {"kind": "interface", "path": "fw-2/eth0"}}],
    }
    assert difference(lab, expected, swallowed) == ""
    back = next(leg for leg in expected["legs"] if leg["sender"]["path"] == "fw-1/eth0")
    other = {**back, "sender": {"kind": "interface", "path": "fw-2/eth0"}}
    assert difference(lab, expected, {**swallowed, "legs": [other]}) == ""
    assert difference(lab, expected, {**swallowed, "legs": [{**other, "steps": []}]}), "out of no tunnel"
    elsewhere = {**swallowed, "legs": [{**swallowed["legs"][0], "steps": []}]}
    assert difference(lab, expected, elsewhere)
