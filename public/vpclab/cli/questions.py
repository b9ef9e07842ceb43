"""Answers to many questions at once, by rules or by packets, for `check --matrix` and `verify`."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dataplane.analysis.judge import judge
from dataplane.analysis.oracle import Oracle
from dataplane.analysis.told import row_of
from dataplane.probe import TRACE_SOURCE_PORT
from vpclab.lab import Lab

if TYPE_CHECKING:
    from dataplane.model.check import Check
    from dataplane.topology import Topology

_AT_ONCE = 1000
"""Checks in one request to a lab."""


def decided(topology: Topology, checks: Sequence[Check], ports: Sequence[int] | None = None) -> list[dict[str, Any]]:
    """Results by the rules alone; `ports` are the source ports of the probes."""
    oracle = Oracle(topology)
    ports = [TRACE_SOURCE_PORT] * len(checks) if ports is None else ports
    courses = [oracle.follow(each.resolve(topology), port) for each, port in zip(checks, ports, strict=True)]
    return [row_of(judge(number, course)) for number, course in enumerate(courses, start=1)]


def proven(file: Path, checks: Sequence[Check]) -> list[dict[str, Any]]:
    """Results by packets, each probe as if it were the first, in a lab that is started for them."""
    rows: list[dict[str, Any]] = []
    with Lab.load(file) as lab:
        for start in range(0, len(checks), _AT_ONCE):
            rows += lab.check(checks[start : start + _AT_ONCE], apart=True)
    return [{**row, "number": number} for number, row in enumerate(rows, start=1)]
