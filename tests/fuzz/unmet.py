"""What a run of fuzzing has to meet: every operation and every drop reason, often. Nothing is excepted."""

from __future__ import annotations

from collections.abc import Mapping

from dataplane.verdict import Reason
from fastpath.shown import HOP_OPS

LEAST = 1_000
"""How often each is to be met in one run."""


def wanted() -> list[str]:
    """What has to be met, as it is called in a tally."""
    return [f"operation {op}" for op in HOP_OPS] + [f"reason {each.name}" for each in Reason if each]


def lacking(met: Mapping[str, int], least: int = LEAST) -> dict[str, int]:
    """What was met too seldom, and how often it was."""
    return {name: met.get(name, 0) for name in wanted() if met.get(name, 0) < least}
