"""Draws the labs that fuzzed packets meet, and writes them down (`worlds`): `python -P -m tests.fuzz.draw_worlds`.

Inputs that are kept mean other packets in other labs, so this is run again only when there is something new for packets
to meet.
"""

from __future__ import annotations

import copy
import gzip
import json
from typing import Any

from hypothesis import HealthCheck, Phase, given, seed, settings
from hypothesis import strategies as st

from dataplane.errors import ConfigurationError
from tests.fuzz.worlds import FILE
from tests.property.balanced_labs import runtime
from tests.property.fresh import FRESH
from tests.property.lab_changes import changed
from tests.property.nat64_labs import labs as nat64_labs
from tests.property.quick_load import topology_of
from tests.property.wide_labs import wide_labs

WORLDS = 10
STAGES = 3
CHANGES = 5
"""Changes between two stages."""
CANDIDATES = 300


def main() -> None:
    """Draw worlds until there are enough, most of them with load balancers, NAT64 or endpoints of AWS services."""
    found: list[list[dict[str, Any]]] = []

    @seed(7)
    @settings(
        max_examples=CANDIDATES, database=None, deadline=None, phases=(Phase.generate,), backend=FRESH,
        suppress_health_check=[*HealthCheck],
    )  # fmt: skip
    @given(data=st.data())
    def draw(data: st.DataObject) -> None:
        if len(found) == WORLDS:
            return
        lab = data.draw(nat64_labs() if len(found) in (3, 7) else wide_labs())
        wanted = "guard" in lab.get("vpcs", {}) if len(found) % 2 == 0 else True
        if not wanted:
            return
        stages: list[dict[str, Any]] = []
        for _ in range(STAGES):
            if "guard" in lab["vpcs"]:
                lab = {**lab, "runtime": runtime(data.draw, lab)}
            try:
                topology_of(lab)
            except ConfigurationError:
                return
            stages.append(copy.deepcopy(lab))
            lab.pop("runtime", None)
            for _ in range(CHANGES):
                try:
                    _, after = changed(data.draw, lab)
                    topology_of(after)
                except (ConfigurationError, KeyError):
                    continue
                lab = after
        found.append(stages)

    draw()
    FILE.write_bytes(gzip.compress(json.dumps(found, sort_keys=True).encode(), mtime=0))


if __name__ == "__main__":
    main()
