"""What a run of fuzzing has to meet: every operation and every drop reason, often; and what it cannot, with why."""

from __future__ import annotations

from collections.abc import Mapping

from dataplane.verdict import Reason
from fastpath.shown import HOP_OPS
from tests.property.exercised import UNREACHED

LEAST = 1_000
"""How often each is to be met in one run."""
UNMET: dict[str, str] = {
    **{f"reason {reason.name}": why for reason, (why, _) in UNREACHED.items()},
    "reason NAT_PORTS_EXHAUSTED": "an address has 55,000 ports to a destination, an engine here 1,024 sessions at most",
}
"""What no input meets, because the fuzzed labs and engines cannot have it: as for drawn packets, and more."""
del UNMET[f"reason {Reason.PORT_QUEUE_FULL.name}"]  # there are ports here


def wanted() -> list[str]:
    """What has to be met, as it is called in a tally."""
    names = [f"operation {op}" for op in HOP_OPS] + [f"reason {each.name}" for each in Reason if each]
    return [name for name in names if name not in UNMET]


def lacking(met: Mapping[str, int]) -> dict[str, int]:
    """What was met too seldom, and how often it was."""
    return {name: met.get(name, 0) for name in wanted() if met.get(name, 0) < LEAST}


def met_after_all(met: Mapping[str, int]) -> list[str]:
    """What was said to be impossible."""
    return [name for name in UNMET if met.get(name, 0)]
