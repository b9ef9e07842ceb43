"""Whether packets did what the oracle says they must: the same end, by the same rule, by the same way."""

from __future__ import annotations

from typing import Any

from dataplane.analysis.course import Found
from dataplane.analysis.told import Row
from dataplane.topology import Topology
from dataplane.trace import Action
from dataplane.verdict import Reason

_NEIGHBOURS = (Reason.ARP_UNANSWERED.name, Reason.ND_UNANSWERED.name)


def difference(topology: Topology, expected: Row, seen: Row) -> str:
    """Return what the oracle and the packets do not agree on, or an empty text.

    A program decides whether it answers, and an instance on the way whether it sends on; up to there both must agree.
    """
    if seen["found"] in (Found.ARRIVED, Found.LOST):
        last = seen["legs"][-1]
        same = any(_where(leg) == _where(last) for leg in expected["legs"])
        return "" if same else _both(expected, seen)
    if expected["found"] != seen["found"]:
        return _both(expected, seen)
    if seen["found"] == Found.BLOCKED:
        return "" if _decider(expected) == _decider(seen) else _both(expected, seen)
    for key in ("passed", "source_seen"):
        here, there = _open_left_out(topology, key, expected), _open_left_out(topology, key, seen)
        if here != there:
            return f"{key.replace('_', ' ')}: the oracle says {here}, the packets {there}"
    return ""


def is_left_to_programs(seen: Row) -> bool:
    """Whether a program, not the network, decided what became of a packet."""
    return seen["found"] in (Found.ARRIVED, Found.LOST)


def _both(expected: Row, seen: Row) -> str:
    return f"the oracle says {expected['why']}; the packets say {seen['why']}"


def _where(leg: Row) -> tuple[Any, ...]:
    """Whose frame it is, from whom, to whom; which target of several is open."""
    tunnels = [step["action"] for step in leg["steps"] if step["action"] in (Action.ENCAPSULATE, Action.DECAPSULATE)]
    sender = leg["sender"]["path"] if tunnels[:1] != [Action.DECAPSULATE] else "a target"
    receiver = leg["receiver"] and leg["receiver"]["path"]
    return leg["answer"], sender, receiver if tunnels[-1:] != [Action.ENCAPSULATE] else "a target"


def _decider(row: Row) -> dict[str, Any]:
    found = dict(row["dropped"])
    if found["reason"] in (*_NEIGHBOURS, Reason.DESTINATION_UNKNOWN.name):
        # A kernel that gets no answer to its question for a neighbour sends nothing that could be dropped.
        return {"reason": Reason.DESTINATION_UNKNOWN.name}
    return found


def _open_left_out(topology: Topology, key: str, row: Row) -> Any:
    """Without what AWS leaves open: which target of several, which address of a NAT gateway that has several."""
    if key == "passed":
        return [each for each in row["passed"] if not each.startswith("instance:")]
    for each in row["passed"]:
        kind, _, path = each.partition(":")
        if kind == "nat-gateway":
            vpc, _, name = path.partition("/")
            if len(topology.nat_interface(vpc, name).addresses4) > 1:
                return "one of several"
    return row["source_seen"]
