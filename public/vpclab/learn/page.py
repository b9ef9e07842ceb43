"""The page of lessons, from the lessons and what the rules of their files decide.

``python -m vpclab.learn.page --write`` writes ``docs/learn.md`` of a source tree anew; ``--check`` fails when it is not
what would be written now.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import textwrap
from collections.abc import Iterator
from pathlib import Path

from dataplane.analysis.told import story
from vpclab.learn.lesson import Lesson
from vpclab.learn.lessons import LESSONS
from vpclab.learn.verify import decide

PAGE = Path(__file__).resolve().parents[3] / "docs" / "learn.md"
_WIDTH = 120
_INTRODUCTION = """\
# Ten broken labs

<!-- Generated from the lessons by `python -m vpclab.learn.page --write`; edits are overwritten. -->

Ten networks that do not work, each for a reason that costs people evenings on AWS. Start one, see it fail, find out
why, put it right, and have that proven:

```console
$ vpclab learn list                       # the lessons, and how far you are
$ vpclab learn start missing-route        # copies the broken lab file to where you are, and starts the lab
$ vpclab check                            # which claims do not hold, and where their packets die
$ vpclab learn hint missing-route         # one hint; again: the next; the last one is the answer
$ vpclab apply missing-route.yaml         # after you have changed it
$ vpclab learn verify missing-route       # exit status 0: solved
$ vpclab down missing-route
```

`verify` starts a lab of your file and proves the lesson's checks in it with real packets; `checks:` that you have
changed do not count. `verify --static`, like [`vpclab check FILE --static`](checks.md), decides by the rules alone,
without a lab: that is the way where you may not make namespaces. Only the last lesson cannot be verified like that. The
rules say that a packet is too large, and that ICMP does not come in; but that transfers hang because of it, and no
longer do, only two kernels can show.

The files are in [`examples/broken`](../examples/broken), those put right in
[`examples/broken/fixed`](../examples/broken/fixed).
"""


def page() -> str:
    """The whole page, as Markdown."""
    sections = ["\n".join(_section(number, lesson)) for number, lesson in enumerate(LESSONS, start=1)]
    return "\n".join([_INTRODUCTION, *sections])


def _section(number: int, lesson: Lesson) -> Iterator[str]:
    yield f"## {number}. {lesson.title.removesuffix('.')}\n"
    yield _wrapped(f"[`{lesson.name}.yaml`](../examples/broken/{lesson.name}.yaml): {lesson.symptom}") + "\n"
    yield from _fenced("text", lesson.picture)
    yield from _fenced(
        "console", "\n".join(f"$ {each}" for each in (f"vpclab learn start {lesson.name}", *lesson.see_it))
    )
    yield from _folded("Hints", "\n".join(_ladder(lesson)))
    yield from _folded("What `vpclab check` says", "\n".join(_fenced("text", failing(lesson))).rstrip())
    yield from _folded("The answer", "\n".join([*_fenced("diff", lesson.diff), _wrapped(lesson.why)]))


def _ladder(lesson: Lesson) -> Iterator[str]:
    for rung, hint in enumerate(lesson.hints, start=1):
        yield _wrapped(f"{rung}. {hint}", indent="   ")


def failing(lesson: Lesson) -> str:
    """The first check of the broken lab that does not hold, with the way of its packet: what names the cause."""
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder, f"{lesson.name}.yaml")
        file.write_text(lesson.broken, encoding="utf-8")
        row = next(each for each in decide(lesson, file).rows if not each["holds"])
    return "\n".join([f"{row['number']}. does not hold: {row['check']}", *story(row)])


def _wrapped(text: str, indent: str = "") -> str:
    return textwrap.fill(text, _WIDTH, subsequent_indent=indent, break_on_hyphens=False, break_long_words=False)


def _fenced(language: str, text: str) -> Iterator[str]:
    yield f"```{language}\n{text}\n```\n"


def _folded(summary: str, text: str) -> Iterator[str]:
    words = summary.split("`")
    title = "".join(f"<code>{each}</code>" if index % 2 else each for index, each in enumerate(words))
    yield f"<details><summary>{title}</summary>\n\n{text}\n\n</details>\n"


def main(arguments: list[str] | None = None) -> int:
    """Run the command; return its exit status."""
    parser = argparse.ArgumentParser(prog="python -m vpclab.learn.page", description="docs/learn.md")
    what = parser.add_mutually_exclusive_group(required=True)
    what.add_argument("--write", action="store_true", help="write the page")
    what.add_argument("--check", action="store_true", help="fail when it is stale")
    parser.add_argument(
        "--page", type=Path, default=PAGE, help="where it is (default: docs/learn.md of this source tree)"
    )
    chosen = parser.parse_args(arguments)
    path: Path = chosen.page
    if not path.parent.is_dir():
        sys.stderr.write(f"{path.parent} is no folder: run this in a source tree, or give --page FILE\n")
        return 2
    text = page()
    if path.exists() and path.read_text(encoding="utf-8") == text:
        return 0
    if chosen.check:
        sys.stderr.write(f"{path} is stale: run python -m vpclab.learn.page --write\n")
        return 1
    path.write_text(text, encoding="utf-8")
    sys.stdout.write(f"wrote {path}\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
