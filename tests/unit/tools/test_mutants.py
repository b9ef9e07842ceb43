"""Faults can be put into the tree as it is, and those that are drawn stay the same."""

from __future__ import annotations

from pathlib import Path

import pytest

from tools.mutants.drawn import drawn
from tools.mutants.faults import Fault, NoSuchLineError, chosen, deciding


def tree(folder: Path, text: str) -> Path:
    (folder / "fastpath").mkdir()
    (folder / "fastpath" / "small.pyx").write_text(text)
    return folder


def test_the_line_of_every_chosen_fault_is_there_and_becomes_another() -> None:
    faults = chosen()
    assert len({fault.key for fault in faults}) == len(faults) >= 40
    assert all(fault.line != fault.becomes and fault.file in set(deciding()) for fault in faults)


def test_a_fault_changes_one_line_and_keeps_its_indentation(tmp_path: Path) -> None:
    root = tree(tmp_path, "if a:\n    b = 1\nelse:\n    b = 1\n")
    Fault(file="fastpath/small.pyx", line="b = 1", becomes="b = 2", means="", nth=2).put_into(root)
    assert (root / "fastpath" / "small.pyx").read_text() == "if a:\n    b = 1\nelse:\n    b = 2\n"


def test_a_line_that_is_gone_is_told(tmp_path: Path) -> None:
    fault = Fault(file="fastpath/small.pyx", line="b = 1", becomes="b = 2", means="", nth=2)
    with pytest.raises(NoSuchLineError, match=r"has 1 times the line: b = 1"):
        fault.put_into(tree(tmp_path, "b = 1\n"))


def changes(folder: Path, text: str) -> set[str]:
    return {fault.becomes for fault in drawn(1, 1000, tree(folder, text))}


@pytest.mark.parametrize(
    "line",
    [
        "from fastpath.wire cimport load16",
        "cdef uint32_t i, j",
        "cdef bint is_row(const flow *f, uint32_t row = 1) noexcept nogil:",
        '"""Words with a + and a 1."""',
        "uint64_t word[3]",
        "x = <const uint8_t *>&y",
    ],
)
def test_what_decides_nothing_is_left_alone(tmp_path: Path, line: str) -> None:
    assert changes(tmp_path, f"{line}\n") == set()


@pytest.mark.parametrize(
    ("line", "possible"),
    [
        ("x = a < b", {"x = a <= b", "x = a >= b"}),
        ("x = not a", {"x = a"}),
        ("x = a is not b", {"x = a is b"}),
        ("x = f(a, b)", {"x = f(b, a)"}),
        ("cdef uint32_t x = 0xFF", {"cdef uint32_t x = 0x100", "cdef uint32_t x = 0xfe"}),
        ("x = a or <int>b", {"x = a and <int>b"}),
    ],
)
def test_one_token_is_another(tmp_path: Path, line: str, possible: set[str]) -> None:
    found = changes(tmp_path, f"{line}\n")
    assert len(found) == 1  # at most one fault of each line is drawn
    assert found <= possible


def test_drawn_faults_stay_when_other_lines_come(tmp_path: Path) -> None:
    text = "".join(f"x{i} = a{i} + {i}\n" for i in range(40))
    before = {fault.key for fault in drawn(1, 1000, tree(tmp_path, text))}
    (tmp_path / "fastpath" / "small.pyx").write_text(f"# new\ny = 3\n{text}")
    assert before < {fault.key for fault in drawn(1, 1000, tmp_path)}
