"""Which lines of `fastpath` fuzzing goes through, and why not the others: `make fuzz-coverage`.

    python -P -m tools.covered [--list]

Builds the compiled modules with counters (gcov) into `build/cover` and plays all inputs that fuzzing kept. Counts of C
are brought back to .pyx and .pxd by the comments that Cython leaves in front of each statement: a line is covered when
any C that was made of it has run. `tests/fuzz/uncovered.txt` says why each other line is not; its format stands there.
Exit status 1: a line is neither covered nor explained, or is explained and covered. `--list` writes those that lack an
explanation in the format of that file.
"""

from __future__ import annotations

import argparse
import json
import re
import subprocess
import sys
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import NamedTuple

from tools.sanitized import COVERED, ROOT, MissingError, Run

SOURCES = ROOT / "fastpath"
EXPLAINED = ROOT / "tests" / "fuzz" / "uncovered.txt"
_MARK = re.compile(r'\s*/\* "(?:fastpath/)([\w.]+)":(\d+)$')
"""What Cython writes in front of the C of a line: where the line stands, and what it says."""
_FUNCTION = re.compile(r"(\s*)(?:cdef|cpdef|def)\s(?:[^#=]*?[\s*])?(\w+)\s*\(.*")
_CHANCE = "by chance "
Lines = dict[str, Counter[int]]
"""How often each line of each file ran."""


class Entry(NamedTuple):
    """Lines that are explained: of this text in this function; "" for any."""

    file: str
    function: str = ""
    text: str = ""
    is_chance: bool = False
    """They may be covered, or not."""

    def __str__(self) -> str:
        chance = _CHANCE if self.is_chance else ""
        return (
            f"{chance}{self.file}"
            + (f" {self.function}" if self.function else "")
            + (f": {self.text}" if self.text else "")
        )

    def explains(self, file: str, function: str, text: str) -> bool:
        """Whether this line is one of them."""
        return self.file == file and self.function in ("", function) and self.text in ("", text)


def explanations(text: str) -> list[Entry]:
    """The entries of the file of explanations.

    Raises:
        ValueError: a line of it cannot be read, or has nothing in front of it that explains it.
    """
    found: list[Entry] = []
    is_explained = False
    for number, line in enumerate(text.splitlines(), start=1):
        if not line.startswith("    "):
            is_explained = bool(line.strip()) and not line.startswith("#")
            continue
        place, _, said = line.strip().partition(": ")
        chance, place = place.startswith(_CHANCE), place.removeprefix(_CHANCE)
        if not is_explained or len(words := place.split()) not in (1, 2) or not (SOURCES / words[0]).exists():
            raise ValueError(f"{EXPLAINED.name}, line {number}: not FILE [FUNCTION[: TEXT]] below a reason")
        found.append(Entry(words[0], words[1] if len(words) == 2 else "", said, chance))
    return found


@cache
def source(file: str) -> tuple[tuple[str, str], ...]:
    """Of each line of a file: the function it stands in ("" for none), and what it says."""
    found: list[tuple[str, str]] = []
    function, depth, is_open = "", 0, False
    for line in (SOURCES / file).read_text().splitlines():
        said = line.strip()
        depth_here = len(line) - len(line.lstrip())
        if match := _FUNCTION.match(line):
            function, depth, is_open = match[2], depth_here, not line.rstrip().endswith((":", "nogil", "*"))
        elif said and not said.startswith("#") and depth_here <= depth and not is_open:
            function = ""
        is_open = is_open and not said.endswith(":")
        found.append((function, said))
    return tuple(found)


def places(c: str) -> list[tuple[str, int] | None]:
    """Of each line of generated C: the line it was made of."""
    found: list[tuple[str, int] | None] = []
    here: tuple[str, int] | None = None
    for line in c.splitlines():
        if mark := _MARK.match(line):
            here = (mark[1], int(mark[2]))
        elif line == "}":  # what follows is Cython's own, until the next one
            here = None
        found.append(here)
    return found


def counted(folder: Path, counts: Path) -> Lines:
    """Lines of the sources and how often each ran, from the counters of all modules."""
    ran: Lines = defaultdict(Counter)
    told = subprocess.run(
        ["gcov", "--json-format", "--stdout", *map(str, sorted(counts.rglob("*.gcda")))],
        cwd=ROOT, check=True, capture_output=True,
    ).stdout  # fmt: skip
    for report in told.splitlines():
        for file in json.loads(report)["files"]:
            path = Path(file["file"])
            if path.suffix != ".c" or path.parent.name != "fastpath":
                continue
            of = places((ROOT / path).read_text())
            for row in file["lines"]:
                place = of[row["line_number"] - 1]
                if place is not None:
                    ran[place[0]][place[1]] = max(ran[place[0]][place[1]], row["count"])
    return ran


@dataclass(slots=True)
class Judged:
    """What coverage comes to."""

    lines: int = 0
    covered: int = 0
    unexplained: list[Entry] = field(default_factory=list)
    stale: list[tuple[Entry, str]] = field(default_factory=list)
    """Entries that explain what needs no explanation, and what that is."""
    by_file: dict[str, tuple[int, int]] = field(default_factory=dict)
    """Covered lines and lines."""


def judge(ran: Mapping[str, Counter[int]], entries: Sequence[Entry]) -> Judged:
    """Hold what ran against what is explained."""
    found = Judged()
    explaining: set[Entry] = set()
    for file in sorted(ran):
        covered = 0
        for number, count in sorted(ran[file].items()):
            function, text = source(file)[number - 1]
            about = [entry for entry in entries if entry.explains(file, function, text)]
            if count:
                covered += 1
                # the same words may stand elsewhere in the function, and what is outside of functions always runs
                wrong = [each for each in about if not each.is_chance and not each.text and function]
                found.stale += [(each, f"line {number} ran") for each in wrong]
            elif about:
                explaining.update(about)
            else:
                found.unexplained.append(Entry(file, function, text))
        found.by_file[file] = (covered, len(ran[file]))
        found.covered, found.lines = found.covered + covered, found.lines + len(ran[file])
    found.stale += [(entry, "all of it ran") for entry in entries if entry not in explaining and not entry.is_chance]
    return found


def measured() -> Lines:
    """Build, play, count."""
    run = Run(COVERED)
    run.build()
    for old in run.folder.rglob("*.gcda"):
        old.unlink()
    if status := run.run(["-m", "tests.fuzz.kept"]):
        raise RuntimeError(f"playing what was kept failed (exit {status}): see {run.reports / 'stderr'}")
    return counted(run.folder, run.folder / "temp")


def told(found: Judged) -> Iterator[str]:
    """What is printed."""
    for file, (covered, lines) in found.by_file.items():
        yield f"{100 * covered / lines:>6.1f} % {covered:>6} of {lines:<6} {file}"
    yield f"{100 * found.covered / found.lines:>6.1f} % {found.covered:>6} of {found.lines:<6} lines of fastpath"
    for entry in found.unexplained:
        yield f"== neither covered nor explained: {entry}"
    for entry, why in found.stale:
        yield f"== explained, but {why}: {entry}"


def main(arguments: Sequence[str]) -> int:
    """Measure and judge."""
    parser = argparse.ArgumentParser(
        prog="make fuzz-coverage", description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--list", action="store_true", help="lines that lack an explanation, as they would stand there")
    options = parser.parse_args(arguments)
    try:
        ran = measured()
    except MissingError as error:
        print(f"vpclab: {error}", file=sys.stderr)
        return 3
    found = judge(ran, explanations(EXPLAINED.read_text()))
    if options.list:
        for entry in dict.fromkeys(found.unexplained):
            print(f"    {entry}")
    else:
        print("\n".join(told(found)))
    return 1 if found.unexplained or found.stale else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
