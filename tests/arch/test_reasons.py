"""The drop-reason list exists twice, for Python and for compiled code; here it is proven to be one."""

from __future__ import annotations

import re
from enum import IntEnum

import pytest

from dataplane.program import Direction, GateMode, Side, TtlAction, Via
from dataplane.program import Test as GuardTest
from dataplane.verdict import REASON_TEXT, Cause, Reason, Verdict
from tests.arch.tree import ROOT


def compiled(prefix: str) -> dict[str, int]:
    text = (ROOT / "fastpath" / "reason.pxd").read_text()
    return {name: int(number) for name, number in re.findall(rf"^\s+{prefix}_(\w+)\s*=\s*(\d+)", text, re.MULTILINE)}


@pytest.mark.parametrize(("prefix", "enum"), [("VERDICT", Verdict), ("CAUSE", Cause), ("REASON", Reason)])
def test_compiled_numbers_equal_the_python_ones(prefix: str, enum: type[IntEnum]) -> None:
    assert compiled(prefix) == {member.name: member.value for member in enum}


def compiled_enum(prefix: str) -> dict[str, int]:
    text = (ROOT / "fastpath" / "snapshot.pxd").read_text()
    return {name: int(number) for name, number in re.findall(rf"^\s+{prefix}_(\w+) = (\d+)", text, re.MULTILINE)}


@pytest.mark.parametrize(
    ("prefix", "enum"),
    [
        ("VIA", Via),
        ("TEST", GuardTest),
        ("SIDE", Side),
        ("DIRECTION", Direction),
        ("TTL", TtlAction),
        ("GATE", GateMode),
    ],
)
def test_compiled_words_of_the_program_mean_the_same(prefix: str, enum: type[IntEnum]) -> None:
    found = compiled_enum(prefix)
    assert found
    assert found.items() <= {member.name: member.value for member in enum}.items()


def test_every_reason_has_a_text_and_its_own_number() -> None:
    assert set(REASON_TEXT) == set(Reason)
    assert len(Reason.__members__) == len({reason.value for reason in Reason})


def test_every_reason_is_used_by_the_code_that_drops() -> None:
    """A reason nobody gives is a promise nobody keeps."""
    compiled_text = "".join(path.read_text() for path in (ROOT / "fastpath").glob("*.pyx"))
    compiled_text += "".join(p.read_text() for p in (ROOT / "fastpath").glob("*.pxd") if p.name != "reason.pxd")
    python_text = "".join(path.read_text() for path in (ROOT / "dataplane").rglob("*.py") if path.name != "verdict.py")
    unused = [
        reason.name
        for reason in Reason
        if reason is not Reason.NONE
        and not re.search(rf"\bREASON_{reason.name}\b", compiled_text)
        and not re.search(rf"\bReason\.{reason.name}\b", python_text)
    ]
    assert unused == []
