"""The page of constructs: what each is, what of it is enforced, and where it differs from AWS.

All of it is the docstring of the construct's module: what comes before the first colon is its name, paragraphs of
addresses alone are its AWS pages, what is indented is its packet walk, the list under "Deviations from AWS:" says where
it differs, and the rest is what it does.
"""

from __future__ import annotations

import importlib
import inspect
import pkgutil
import re
import textwrap
from collections.abc import Iterator
from dataclasses import dataclass
from types import ModuleType

from dataplane import model
from dataplane.load.outline import Spot, outline, path_of
from dataplane.load.reference_page import title
from dataplane.load.shapes import Construct

INTRODUCTION = """\
# Constructs

<!-- Generated from the model by `python -m dataplane.schema --write`; edits are overwritten. -->

What vpclab knows of AWS, one section per construct: what it is, how a packet crosses it, what is enforced, and where
it differs from AWS. A construct is one file in `dataplane/model`; this page is what these files say of themselves. A
key of the lab file that nothing acts on does not exist: it is an error.
"""

DEVIATIONS = "Deviations from AWS:\n"
_URL = re.compile(r"https?://\S+[^\s.,)]")


@dataclass(frozen=True, slots=True)
class Described:
    """A construct in its own words, as Markdown."""

    file: str
    name: str
    what: str
    places: tuple[str, ...]
    """Paths in the lab file; empty for the file itself."""
    keys: tuple[str, ...]
    """Headings of the reference page that list its keys."""
    pages: tuple[str, ...]
    walk: str
    enforced: tuple[str, ...]
    """Paragraphs."""
    deviations: tuple[str, ...]


def constructs_page(root: Construct) -> str:
    """Return the whole page, as Markdown."""
    found = sorted(constructs(root), key=lambda each: not each.pages)
    parts = [INTRODUCTION, _contents(found)]
    for each in found:
        parts += _section(each)
    return "\n".join(part.rstrip() + "\n" for part in parts)


def constructs(root: Construct) -> Iterator[Described]:
    """Yield every construct of the model, in the order in which a lab file mentions them."""
    spots = outline(root)
    order = [spot.shape.type.__module__.rpartition(".")[2] for spot in spots]
    files = [each.name for each in pkgutil.iter_modules(model.__path__) if not each.name.startswith("_")]
    for file in sorted(files, key=lambda name: order.index(name) if name in order else len(order)):
        yield describe(importlib.import_module(f"{model.__name__}.{file}"), spots)


def describe(module: ModuleType, spots: list[Spot]) -> Described:
    """Return what the docstring of a module says, taken apart."""
    text = inspect.cleandoc(module.__doc__ or "").replace("``", "`")
    before, _, after = text.partition(DEVIATIONS)
    head, *paragraphs = before.strip().split("\n\n")
    name, _, what = _without_pages(head).partition(": ")
    walk = [each for each in paragraphs if each.startswith("    ")]
    rest = [_without_pages(each) for each in paragraphs if not each.startswith("    ")]
    own = [spot for spot in spots if spot.shape.type.__module__ == module.__name__]
    return Described(
        file=module.__name__.rpartition(".")[2],
        name=name,
        what=what[:1].upper() + what[1:],
        places=tuple(dict.fromkeys(_places(module.__name__.rpartition(".")[2], own, spots))),
        keys=tuple(title(spot.shape.type) for spot in own),
        pages=tuple(dict.fromkeys(_URL.findall(before))),
        walk="\n".join(textwrap.dedent(each).replace("**", "") for each in walk),
        enforced=tuple(each for each in rest if each),
        deviations=tuple(_bullets(after)),
    )


def _without_pages(paragraph: str) -> str:
    """A paragraph without the addresses at its end, which are listed; one inside a sentence becomes a link."""
    lines = paragraph.splitlines()
    while lines and _URL.fullmatch(lines[-1].strip()):
        lines.pop()
    text = re.sub(r":$", ".", "\n".join(lines))
    return _URL.sub(lambda found: f"<{found[0]}>", text)


def _bullets(text: str) -> Iterator[str]:
    for item in re.split(r"(?m)^- ", text.strip()):
        if item.strip():
            yield " ".join(item.split())


def _places(file: str, own: list[Spot], spots: list[Spot]) -> Iterator[str]:
    """Where it is written: as a construct, else as keys that are called like it."""
    for spot in own:
        yield from (path_of(place) for place in spot.places if place)
        if () in spot.places:
            return  # the file as a whole: what is written in it are the other constructs
    if not own:
        for spot in spots:
            for field in spot.shape.fields.values():
                if field.name in (file, f"secondary_{file}s", f"{file}s"):
                    yield ".".join([*filter(None, [path_of(spot.places[0])]), field.name])


def _contents(found: list[Described]) -> str:
    lines = ["| construct | in the lab file | AWS page | deviations |", "|---|---|---|---|"]
    for each in found:
        place = f"`{each.places[0]}`" if each.places else "the file"
        page = f"[{_last(each.pages[0])}]({each.pages[0]})" if each.pages else "none: ours"
        anchor = re.sub(r"[^\w -]", "", each.name.lower()).replace(" ", "-")
        lines.append(f"| [{each.name}](#{anchor}) | {place} | {page} | {len(each.deviations)} |")
    return "\n".join(lines)


def _last(page: str) -> str:
    return page.rpartition("/")[2].removesuffix(".html")


def _section(each: Described) -> Iterator[str]:
    yield f"## {each.name}"
    yield each.what
    places = ", ".join(f"`{place}`" for place in each.places) or "the file as a whole"
    links = ", ".join(f"[{key}](lab-file.md#{key.lower().replace(' ', '-')})" for key in each.keys)
    yield f"In the lab file: {places}" + (f" (keys: {links})." if links else ".")
    if each.pages:
        yield "AWS pages:\n\n" + "\n".join(f"- <{page}>" for page in each.pages)
    if each.walk:
        yield f"Packet walk:\n\n```text\n{each.walk}\n```"
    if each.enforced:
        yield "What is enforced:"
        yield from each.enforced
    if each.deviations:
        yield "Deviations from AWS:\n\n" + "\n".join(f"- {deviation}" for deviation in each.deviations)
