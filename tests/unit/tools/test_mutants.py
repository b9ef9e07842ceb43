"""Faults can be put into the tree as it is, those that are drawn stay the same, and each is judged once."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from tools.mutants.drawn import drawn
from tools.mutants.faults import Fault, NoSuchLineError, chosen, states_of
from tools.mutants.work import Work


def tree(folder: Path, text: str) -> Path:
    (folder / "fastpath").mkdir()
    (folder / "fastpath" / "small.pyx").write_text(text)
    return folder


def test_the_line_of_every_chosen_fault_is_there_and_becomes_another() -> None:
    faults = chosen()
    assert len({fault.key for fault in faults}) == len(faults) >= 40
    assert all(fault.line != fault.becomes for fault in faults)


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


FAULTS = [
    Fault(file="fastpath/small.pyx", line="b = 1", becomes=f"b = {n}", means="", origin="drawn" if n > 3 else "chosen")
    for n in range(2, 8)
]
"""Two chosen ones and four drawn ones."""


def result(verdict: str, tree: str = "now") -> dict[str, Any]:
    return {"key": "", "verdict": verdict, "test": "a test", "tree": tree, "file": FAULTS[0].file}


def work(found: dict[str, dict[str, Any]], *, count: int = 4, limit: int | None = None, only: str = "") -> Work:
    def tell(fault: Fault, row: Mapping[str, Any]) -> None:
        assert found[fault.key] is row

    return Work(
        FAULTS,
        found,
        states={fault.file: "now" for fault in FAULTS},
        why={},
        count=count,
        limit=limit,
        only=only,
        tell=tell,
    )


def test_each_fault_is_judged_once_by_one_of_several() -> None:
    found: dict[str, dict[str, Any]] = {}
    judged: list[list[Fault]] = [[], [], []]

    def judge(fault: Fault, mine: list[Fault]) -> dict[str, Any]:
        mine.append(fault)
        return result("killed")

    of = work(found)
    of.each([lambda fault, mine=mine: judge(fault, mine) for mine in judged])  # type: ignore[misc]
    assert sorted(fault.key for mine in judged for fault in mine) == sorted(fault.key for fault in FAULTS)
    assert set(found) == {fault.key for fault in FAULTS}


def test_so_many_drawn_faults_are_judged_as_are_wanted_and_build() -> None:
    of = work({}, count=2)
    assert [of.take() for _ in range(5)] == [*FAULTS[:4], None]  # it is not known yet whether the third one builds
    of.put(FAULTS[2], result("unbuildable"))
    assert [of.take(), of.take()] == [FAULTS[4], None]
    for fault in (FAULTS[3], FAULTS[4]):
        of.put(fault, result("killed"))
    assert of.take() is None


def test_what_was_judged_on_this_tree_is_not_judged_again() -> None:
    settled, stale, survived = (fault.key for fault in FAULTS[:3])
    of = work({settled: result("killed"), stale: result("killed", "before"), survived: result("survived")}, limit=2)
    assert [of.take(), of.take(), of.take()] == [FAULTS[1], FAULTS[2], None]
    assert (of.before(FAULTS[1]), of.before(FAULTS[5])) == ("a test", "")
    assert of.killers() == [("fastpath/small.pyx", "a test")] * 2


def test_a_fault_elsewhere_is_judged_again_when_its_own_file_has_changed_too(tmp_path: Path) -> None:
    root, aside = tree(tmp_path, "b = 1\n"), tmp_path / "aside.py"
    files = ["fastpath/small.pyx", "aside.py"]
    aside.write_text("c = 1\n")
    before = states_of(files, root)
    aside.write_text("c = 2\n")
    after = states_of(files, root)
    assert (after[files[0]] == before[files[0]], after[files[1]] == before[files[1]]) == (True, False)
    (root / files[0]).write_text("b = 2\n")
    assert not set(states_of(files, root).values()) & set(after.values())


def test_what_is_asked_for_is_judged() -> None:
    assert work({}, only="drawn").take() == FAULTS[2]
    assert work({}, only=FAULTS[5].key).take() == FAULTS[5]


def test_whoever_judges_and_fails_ends_the_run_with_it() -> None:
    def judge(fault: Fault) -> dict[str, Any]:
        raise RuntimeError(fault.key)

    with pytest.raises(RuntimeError, match=FAULTS[0].key):
        work({}).each([judge])
