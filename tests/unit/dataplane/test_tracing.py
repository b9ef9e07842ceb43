"""Traces of live state say what groups will remember."""

from __future__ import annotations

from pathlib import Path

import pytest

from dataplane.engine import DataPlane
from dataplane.load import load_topology

EXAMPLES = Path(__file__).parents[3] / "examples"


@pytest.mark.parametrize(
    ("example", "source", "destination", "note"),
    [
        (
            "ipv6-egress",
            "worker",
            "2001:db8:ffff::10",
            "tracked, as it goes by egress-only-internet-gateway lab",
        ),
        ("ipv6-egress", "worker", "64:ff9b::198.51.100.20", "tracked, as it goes by nat-gateway lab/nat"),
        ("inspection", "fw", "198.51.100.77", "not tracked"),
    ],
)
def test_open_rules_do_not_track_except_by_some_gateways(
    example: str, source: str, destination: str, note: str
) -> None:
    """Security group connection tracking, "Automatically tracked connections"."""
    plane = DataPlane(load_topology(EXAMPLES / f"{example}.yaml"))
    trace = plane.trace(source, destination, protocol="tcp", port=80)
    [found] = [s for s in trace.forward.hops[0].steps if s.rule is not None and s.rule.kind == "security-group-rule"]
    assert found.note == note
