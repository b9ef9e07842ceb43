"""The quickstart lab, from its file and from Python, is one lab, and lowers to a sound program."""

from __future__ import annotations

from pathlib import Path

from dataplane.compile import compile_program
from dataplane.load import load
from dataplane.names import Names
from dataplane.topology import build
from tests.unit.model.program_check import lowered
from tests.unit.model.quickstart_lab import QUICKSTART

FILE = Path(__file__).parents[3] / "examples" / "quickstart.yaml"


def test_file_and_python_declare_the_same_lab() -> None:
    assert load(FILE).lab_file == QUICKSTART


def test_it_lowers_to_a_sound_program() -> None:
    program = lowered(build(QUICKSTART))
    assert len(program.contexts) == 5
    assert len(program.interfaces) == 6  # the NAT gateway's has no port


def test_the_program_compiles() -> None:
    compile_program(lowered(build(QUICKSTART)), generation=1)


def test_names_are_kept_when_it_is_lowered_again() -> None:
    names = Names()
    first = build(QUICKSTART).lower(names)
    count = len(names)
    second = build(QUICKSTART).lower(names)
    assert len(names) == count
    assert first.nodes == second.nodes
    assert first.contexts == second.contexts
