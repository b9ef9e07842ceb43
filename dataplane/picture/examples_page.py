"""The page of examples: each lab file of ``examples/`` with what its first lines say of it, and its picture."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from dataplane.load import load_topology
from dataplane.picture.drawing import draw
from dataplane.picture.texts import mermaid

_INTRODUCTION = """\
# Examples

<!-- Generated from examples/ by `python -m dataplane.schema --write`; edits are overwritten. -->

The networks in [examples/](../examples), as `vpclab graph FILE --format mermaid` draws them: Region, VPC, Availability
Zone and subnet inside of each other; an arrow is a route, with its destination. What is to be tried with each is in the
first lines of its file.
"""


def examples_page(folder: Path) -> str:
    """Return the whole page, as Markdown, of the lab files in a folder."""
    return "\n".join([_INTRODUCTION, *_sections(folder)])


def _sections(folder: Path) -> Iterator[str]:
    for file in sorted(folder.glob("*.yaml")):
        picture = mermaid(draw(load_topology(file), name=file.stem))
        link = f"[{file.name}](../{folder.name}/{file.name})"
        yield f"## {file.stem}\n\n{first_paragraph(file.read_text())}\n\n{link}\n\n```mermaid\n{picture}```\n"


def first_paragraph(text: str) -> str:
    """What the comment at the beginning of a lab file says first."""
    lines = []
    for line in text.splitlines():
        if not line.startswith("# ") or line[2:3] == " ":
            break
        lines.append(line[2:])
    return "\n".join(lines)
