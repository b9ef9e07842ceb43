"""What an example did, as data: enough to play it again without Hypothesis, when strategies have long changed."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any
from unittest.mock import patch

from dataplane.load import load_topology
from dataplane.reference.nat_ports import MOST_PER_DESTINATION
from dataplane.topology import Topology
from tests.property.lab_loading import topology_of

Script = list[list[Any]]
"""Steps: ``["connections", MOST]`` (of a NAT gateway to one destination), ``["lab", LAB]``, ``["advance",
MILLISECONDS]``, ``["send", PORT NAME, [FRAMES AS HEX], KEEP, TRACED]``."""

LAST: Script = []
"""Of the example that began last; the last one that Hypothesis runs is the smallest that fails."""


def begin(lab: dict[str, Any] | str, *, connections: int = MOST_PER_DESTINATION) -> None:
    """Another example begins, with a lab (a plain structure, or the text of a lab file)."""
    LAST[:] = [["connections", connections], ["lab", lab]]


def sent(port: str, frames: Sequence[bytes], keep: int, traced: bool) -> None:
    """Frames are about to be sent."""
    LAST.append(["send", port, [frame.hex() for frame in frames], keep, traced])


def advanced(wait_ms: int) -> None:
    """Time is about to pass."""
    LAST.append(["advance", wait_ms])


def changed(lab: dict[str, Any]) -> None:
    """The lab has become another."""
    LAST.append(["lab", lab])


def replay(script: Script) -> None:
    """Play an example again.

    Raises:
        AssertionError: the engines disagree.
    """
    from tests.property.pairing import Pair  # which writes scripts

    steps = [list(step) for step in script]
    [[_, connections], [_, lab], *steps] = steps
    with (
        patch("dataplane.model.nat_gateway.NAT_FLOWS_PER_DESTINATION", connections),
        patch("dataplane.reference.nat.MOST_PER_DESTINATION", connections),
    ):
        pair = Pair(_topology(lab))
        for kind, *words in steps:
            if kind == "lab":
                pair.apply(_topology(words[0]))
            elif kind == "advance":
                pair.advance(words[0])
            else:
                port, frames, keep, traced = words
                pair.send(pair.reference.port(port), [bytes.fromhex(each) for each in frames], keep=keep, traced=traced)


def _topology(lab: dict[str, Any] | str) -> Topology:
    return load_topology(lab, file_name="lab.yaml") if isinstance(lab, str) else topology_of(lab)
