"""Checks of a lab file, decided by the oracle, as tests write them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from dataplane.analysis.judge import Result, judge
from dataplane.analysis.oracle import Oracle
from dataplane.load import load_topology
from dataplane.topology import Topology

EXAMPLES = Path(__file__).parents[3] / "examples"
BROKEN = EXAMPLES / "broken"
"""Labs whose checks do not hold, for people to learn from; those in its subfolder `fixed` do."""
SOUND = sorted(path for path in EXAMPLES.rglob("*.yaml") if path.parent != BROKEN)


def example(name: str, *checks: str) -> Topology:
    """An example with these checks in place of its own, each as one line of YAML."""
    text = (EXAMPLES / f"{name}.yaml").read_text().partition("\nchecks:")[0]
    return load_topology(f"{text}\nchecks:\n" + "".join(f"  - {{{each}}}\n" for each in checks), file_name=name)


def decided(topology: Topology) -> list[Result]:
    oracle = Oracle(topology)
    return [judge(n, oracle.follow(each.resolve(topology))) for n, each in enumerate(topology.lab.checks, start=1)]


def the_result(name: str, check: str) -> Result:
    [result] = decided(example(name, check))
    return result


def names(result: Result) -> dict[str, Any]:
    """What decided a check that was blocked."""
    leg = result.blocked_by
    assert leg is not None, result.why
    return {"object": str(leg.object), "rule": leg.rule and leg.rule.path, "reason": leg.reason.name}
