"""docs/mutants.md, written from the results."""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Iterable
from typing import Any

from tools.mutants import results
from tools.mutants.faults import ROOT, chosen_rows, states_of

PAGE = ROOT / "docs" / "mutants.md"
HEAD = """# Mutants

Written by `make mutants` from `tools/mutants/results.json`; [hardening.md](hardening.md#make-mutants) tells how.
A fault is one changed line. The test that is named was the first to fail; tests are asked until one fails, so others
would have noticed too. *Survived*: no test fails; the reason says why nothing is wrong then. Of a chosen fault that is
not in the table nothing is known yet. `make docs-check` says whether the code that was judged is the present one.
"""
WORDS = {"killed": "", "crashed": "crashed in ", "hung": "hung in "}


def text() -> str:
    """The page."""
    rows, why = list(results.load().values()), results.reasons()
    parts = [HEAD]
    for origin, title, means in (
        ("chosen", "Chosen faults", "what it means"),
        ("drawn", "Faults drawn by chance", "what was done"),
    ):
        mine = [row for row in rows if row["origin"] == origin and row["verdict"] != "unbuildable"]
        parts.append(f"\n## {title}\n\n{_counted(mine, rows, origin)}\n")
        parts.append(f"\n| where | line | becomes | {means} | noticed by |\n|---|---|---|---|---|\n")
        parts += [_row(row, why) for row in mine]
    return "".join(parts)


def main(*, write: bool) -> int:
    """Write the page, or say whether it is what would be written.

    The page says which state of the code was judged, and not whether it is the present one: a page does not go stale
    because the code moves on. That is told here.
    """
    wanted = text()
    if write:
        PAGE.write_text(wanted)
        return 0
    if PAGE.exists() and PAGE.read_text() == wanted:
        rows = results.load().values()
        now = states_of(row["file"] for row in rows)
        if old := sum(row["tree"] != now[row["file"]] for row in rows):
            print(f"docs/mutants.md: {old} faults were judged on an earlier state of the code")
        return 0
    print("docs/mutants.md is not what its results say: run: make mutants ARGS=--write", file=sys.stderr)
    return 1


def _counted(mine: list[dict[str, Any]], rows: Iterable[dict[str, Any]], origin: str) -> str:
    counts = Counter(row["verdict"] for row in mine)
    there_are = f" of {len(chosen_rows())}" if origin == "chosen" else ""
    said = [
        f"{len(mine)}{there_are} judged",
        *(f"{counts[each]} {each}" for each in (*results.NOTICED, "survived") if counts[each]),
    ]
    if unbuilt := sum(row["origin"] == origin and row["verdict"] == "unbuildable" for row in rows):
        said.append(f"{unbuilt} more did not build")
    trees = sorted({row["tree"] for row in mine})
    states = ", ".join(f"`{tree}`" for tree in trees)
    on = f" The code that was judged was in the state {states}; it may have changed since." if trees else ""
    return ", ".join(said) + "." + on


def _row(row: dict[str, Any], why: dict[str, str]) -> str:
    if row["verdict"] == "survived":
        noticed = f"survived: {why.get(row['key'], 'no reason is known')}"
    else:
        noticed = f"{WORDS[row['verdict']]}{_code(_short(row['test'])) if row['test'] else row['how']}"
    means = row["means"].replace("|", "\\|")
    cells = (f"{row['file']}:{row['number']}", _code(row["line"]), _code(row["becomes"]), means, noticed)
    return f"| {' | '.join(cells)} |\n"


def _short(test: str) -> str:
    return test.removeprefix("tests/")


def _code(code: str) -> str:
    """Code in a cell of a table, cut where it is long."""
    shown = code if len(code) <= 100 else f"{code[:97]}..."
    return "`" + shown.replace("|", "\\|").replace("`", "'") + "`"
