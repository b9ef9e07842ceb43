"""The verdict of a run names what was met too seldom; what is kept meets everything, and each lab what it is for."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Iterable

import pytest

from tests.fuzz import playing
from tests.fuzz.kept import seeds
from tests.fuzz.targets import TARGETS
from tests.fuzz.unmet import LEAST, lacking, wanted
from tests.fuzz.worlds import OWN, stored
from tools.fuzz import judged


def met(name: str, inputs: Iterable[bytes], monkeypatch: pytest.MonkeyPatch) -> Counter[str]:
    """What packets meet in some inputs of a target."""
    monkeypatch.setattr(playing.TALLY, "met", Counter())
    for octets in inputs:
        TARGETS[name].run(octets)
    return playing.TALLY.met


def test_a_run_that_met_everything_passes(capsys: pytest.CaptureFixture[str]) -> None:
    assert judged(dict.fromkeys(wanted(), LEAST)) == 0
    assert f"met {LEAST} times" in capsys.readouterr().out


def test_what_was_met_too_seldom_fails_it_by_name(capsys: pytest.CaptureFixture[str]) -> None:
    found = dict.fromkeys(wanted(), LEAST)
    found["reason LOOP"] = LEAST - 1
    del found["operation decapsulate"]
    assert lacking(found) == {"reason LOOP": LEAST - 1, "operation decapsulate": 0}
    assert judged(found) == 1
    assert "reason LOOP was met 999 times" in capsys.readouterr().out


def test_seeds_meet_every_operation_and_every_reason(monkeypatch: pytest.MonkeyPatch) -> None:
    total: Counter[str] = Counter()
    for name in ("packets", "geneve", "observed", "ports"):
        total += met(name, seeds(name), monkeypatch)
    assert lacking(total, 1) == {}


INPUTS = 200
MET_REASONS = {
    "circles": ("PLAN_LIMIT", "EMISSION_LIMIT", "EGRESS_ONLY_ENDPOINT", "GENEVE_SENDER", "GENEVE_PORTS"),
    "refused": (
        "ACL_EGRESS", "ACL_INGRESS", "EDGE_NO_PUBLIC_ADDRESS", "EDGE_REDIRECTED", "GATEWAY_SPOOFED",
        "ENDPOINT_CONFLICT", "ENDPOINT_FROM_OUTSIDE", "PEER_DESTINATION", "IP_HEADER_LENGTH",
    ),
    "beyond": (
        "PRIVATE_SOURCE", "PUBLIC_DESTINATION_MISSING", "EDGE_TO_EDGE", "NAT_FROM_PEER", "NAT_PORTS_EXHAUSTED",
    ),
}  # fmt: skip
MET = {name: [f"reason {each}" for each in reasons] for name, reasons in MET_REASONS.items()} | {
    "edited": ["flow that outlived a swap", "reason EGRESS_ONLY_ENDPOINT", "reason ENDPOINT_UNAVAILABLE"]
}
"""What packets are to meet in each of these labs, whatever the octets."""


@pytest.mark.parametrize("name", OWN)
def test_a_lab_meets_what_it_is_for(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    octets, number = random.Random(name), len(stored()) - len(OWN) + OWN.index(name)
    inputs = [bytes([number]) + octets.randbytes(octets.randint(300, 1000)) for _ in range(INPUTS)]
    found = met("packets", inputs, monkeypatch)
    assert [what for what in MET[name] if not found[what]] == []
