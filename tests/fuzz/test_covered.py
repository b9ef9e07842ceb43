"""What coverage is judged by: lines brought back from generated C, and what explains those that did not run."""

from __future__ import annotations

from collections import Counter

import pytest

from tools.covered import EXPLAINED, Entry, explanations, judge, places, source

GENERATED = """static int before(void);
  /* "fastpath/walk.pyx":7
 * cdef int f() noexcept nogil:
 *     return 1             # <<<<<<<<<<<<<<
 */
  __pyx_r = 1;
  goto __pyx_L0;
  /* "fastpath/lpm.pxd":12
 *     pass
 */
  __pyx_v_n = 2;
}
static void of_cythons_own(void) {
  /* "(tree fragment)":1
 */
"""
FILE = "fragment.pyx"
"""Any of the sources."""


def line_of(text: str) -> int:
    return [said for _, said in source(FILE)].index(text) + 1


def test_generated_lines_are_of_the_line_that_stands_in_front_of_them() -> None:
    walk, lpm = ("walk.pyx", 7), ("lpm.pxd", 12)
    assert places(GENERATED) == [None, *[walk] * 6, *[lpm] * 4, *[None] * 4]


def test_lines_know_their_functions() -> None:
    functions = {function for function, _ in source(FILE)}
    assert {"", "fragments_open", "fragments_close", "datagram_find"} <= functions
    assert ("fragments_open", "fragments_close(t)") in source(FILE)


def test_an_entry_stands_below_a_reason() -> None:
    text = f"# a comment\n\nWhy,\nin two lines.\n    {FILE}\n    {FILE} datagram_find\n"
    text += f"    by chance {FILE} datagram_find: x = 1: 2\n"
    assert explanations(text) == [
        Entry(FILE), Entry(FILE, "datagram_find"), Entry(FILE, "datagram_find", "x = 1: 2", True)
    ]  # fmt: skip
    assert [str(each) for each in explanations(text)] == [line.strip() for line in text.splitlines()[4:]]
    for wrong in (
        f"    {FILE}\n",
        f"Why.\n\n    {FILE}\n",
        "Why.\n    nowhere.pyx f: x\n",
        f"Why.\n    {FILE} a b: x\n",
    ):
        with pytest.raises(ValueError, match="below a reason"):
            explanations(wrong)


def test_what_did_not_run_wants_an_entry_and_what_ran_wants_none() -> None:
    function, text = next((f, said) for f, said in source(FILE) if f == "datagram_find" and said.startswith("return"))
    number = line_of(text)
    ran = {FILE: Counter({number: 0})}
    assert judge(ran, []).unexplained == [Entry(FILE, function, text)]
    for entry in (Entry(FILE), Entry(FILE, function), Entry(FILE, function, text)):
        found = judge(ran, [entry])
        assert (found.unexplained, found.stale, found.covered, found.lines) == ([], [], 0, 1)
    ran = {FILE: Counter({number: 3})}
    for entry in (Entry(FILE), Entry(FILE, function), Entry(FILE, function, text)):
        assert judge(ran, [entry]).stale
        assert not judge(ran, [entry._replace(is_chance=True)]).stale


def test_the_explanations_can_be_read() -> None:
    entries = explanations(EXPLAINED.read_text())
    assert len(entries) == len(set(entries))
    for entry in entries:  # they are of lines that there are
        assert any(entry.explains(entry.file, *line) for line in source(entry.file)), entry
