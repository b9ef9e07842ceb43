"""A picture as text: Mermaid, which GitHub and many wikis draw, and DOT, which graphviz does."""

from __future__ import annotations

import re
from collections.abc import Iterator

from dataplane.picture.places import CONTAINERS, Link, Picture, Place

_SHAPES = {
    "internet": '(("{}"))',
    "internet-host": '("{}")',
    "aws-service": '("{}")',
    "routes": '[/"{}"/]',
    "peering": '{{{{"{}"}}}}',
    "internet-gateway": '(["{}"])',
    "egress-only-internet-gateway": '(["{}"])',
    "nat-gateway": '(["{}"])',
    "gateway-endpoint": '(["{}"])',
    "vpc-endpoint": '(["{}"])',
    "gateway-load-balancer": '[["{}"]]',
}
"""Mermaid's; the others are boxes."""
_DOT_SHAPES = {
    "internet": "ellipse",
    "routes": "note",
    "peering": "hexagon",
    "instance": "box",
    "network-interface": "box",
    "internet-host": "box",
    "aws-service": "box",
    "blackhole": "plain",
}
_DOT_FRAMES = {"region": "dashed", "vpc": "bold", "availability-zone": "dotted", "subnet": "solid"}
_INDENT = "  "


def mermaid(picture: Picture) -> str:
    """The picture as a Mermaid flowchart, with a line break at its end."""
    names = _names(picture)
    lines = ["flowchart LR"]

    def tell(inside: str, depth: int) -> None:
        for place in _children(picture, inside):
            text = "<br/>".join(_mermaid_text(line) for line in _said(picture, place))
            if place.kind in CONTAINERS:
                lines.append(f'{_INDENT * depth}subgraph {names[place.key]}["{text}"]')
                tell(place.key, depth + 1)
                lines.append(f"{_INDENT * depth}end")
            else:
                lines.append(_INDENT * depth + names[place.key] + _SHAPES.get(place.kind, '["{}"]').format(text))

    tell("", 1)
    for link in picture.links:
        if {link.source, link.target} <= names.keys():
            lines.append(f"{_INDENT}{names[link.source]} {_arrow(link, _marks(picture, link))} {names[link.target]}")
    alarmed = [names[key] for key, mark in picture.marks.items() if mark.alarm and key in names]
    if alarmed:
        lines += [f"{_INDENT}classDef alarm stroke:#c00,stroke-width:3px", f"{_INDENT}class {','.join(alarmed)} alarm"]
    return "\n".join(lines) + "\n"


def dot(picture: Picture) -> str:
    """The picture as a graph for graphviz's ``dot``, with a line break at its end."""
    names = _names(picture)
    lines = [
        f"digraph {_quoted(picture.name)} {{",
        f"{_INDENT}rankdir=LR; compound=true; fontname=Helvetica; nodesep=0.3;",
        f"{_INDENT}node [fontname=Helvetica, fontsize=11, shape=box, style=rounded, margin=0.12];",
        f"{_INDENT}edge [fontname=Helvetica, fontsize=10];",
    ]

    def tell(inside: str, depth: int) -> None:
        for place in _children(picture, inside):
            said = _said(picture, place)
            colour = ", color=red, penwidth=2" if place.key in picture.marks and picture.marks[place.key].alarm else ""
            if place.kind in CONTAINERS:
                style = _DOT_FRAMES[place.kind]
                lines.append(f"{_INDENT * depth}subgraph cluster_{names[place.key]} {{")
                lines.append(f"{_INDENT * (depth + 1)}label={_quoted(*said)}; labeljust=l; style={style};")
                if not _children(picture, place.key):
                    # graphviz leaves out a cluster with nothing in it
                    lines.append(f'{_INDENT * (depth + 1)}{names[place.key]} [style=invis, label=""];')
                tell(place.key, depth + 1)
                lines.append(f"{_INDENT * depth}}}")
            else:
                shape = _DOT_SHAPES.get(place.kind, "box")
                style = ", style=solid" if shape == "box" and place.kind in _DOT_SHAPES else ""
                lines.append(
                    f"{_INDENT * depth}{names[place.key]} [label={_quoted(*said)}, shape={shape}{style}{colour}];"
                )

    tell("", 1)
    for link in picture.links:
        if {link.source, link.target} <= names.keys():
            said = [*([link.label] if link.label else []), *_marks(picture, link)]
            marks = [f"label={_quoted(*said)}"] if said else []
            marks += [] if link.directed else ["dir=none"]
            marks += [] if link.active else ["style=dashed", "color=red"]
            shown = f" [{', '.join(marks)}]" if marks else ""
            lines.append(f"{_INDENT}{names[link.source]} -> {names[link.target]}{shown};")
    return "\n".join([*lines, "}"]) + "\n"


def _children(picture: Picture, key: str) -> list[Place]:
    return [place for place in picture.places if place.inside == key]


def _marks(picture: Picture, marked: Place | Link) -> tuple[str, ...]:
    return picture.marks[marked.key].lines if marked.key in picture.marks else ()


def _said(picture: Picture, place: Place) -> Iterator[str]:
    """The lines of a place; a container says everything in one."""
    marks = _marks(picture, place)
    if place.kind in CONTAINERS:
        yield " ".join([place.title, *place.lines[:1]])
        yield from (*place.lines[1:], *marks)
    else:
        yield from (place.title, *place.lines, *marks)


def _names(picture: Picture) -> dict[str, str]:
    """An identifier for each key, in letters, digits and underscores."""
    names: dict[str, str] = {}
    taken: set[str] = set()
    for place in picture.places:
        name = base = re.sub(r"[^A-Za-z0-9]+", "_", place.key)
        number = 1
        while name in taken:
            number += 1
            name = f"{base}_{number}"
        taken.add(name)
        names[place.key] = name
    return names


def _arrow(link: Link, marks: tuple[str, ...]) -> str:
    line = ("-->" if link.directed else "---") if link.active else ("-.->" if link.directed else "-.-")
    label = link.label if link.active or not link.label else f"{link.label} (blackhole)"
    text = "<br/>".join(_mermaid_text(each) for each in (label, *marks) if each)
    return f'{line}|"{text}"|' if text else line


def _mermaid_text(text: str) -> str:
    """Text inside of quotes: Mermaid writes characters of its own as entities with a ``#``."""
    return text.replace("#", "#35;").replace('"', "#quot;").replace("<", "#lt;").replace(">", "#gt;")


def _quoted(*lines: str) -> str:
    """Lines as a string of DOT, each ending at the left."""
    escaped = [line.replace("\\", "\\\\").replace('"', '\\"') for line in lines]
    return '"' + "\\n".join(escaped) + '"'
