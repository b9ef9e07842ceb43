"""Where in a lab file each construct of the model is written, and an example of it, for the reference page."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, NamedTuple

from dataplane.load.shapes import Construct, Either, Field, Items, Optional, Shape, Table
from dataplane.load.written import as_written

NAME = "NAME"
"""Stands in paths for a name the user chooses."""


class Step(NamedTuple):
    """One key on the way to a construct."""

    key: str
    kind: str
    """``key``, ``table`` (a chosen name comes next) or ``list``."""


@dataclass(slots=True)
class Spot:
    """A construct, and every place it is written in."""

    shape: Construct
    places: list[tuple[Step, ...]]


def outline(root: Construct) -> list[Spot]:
    """Return every construct of the file, in the order a reader meets them."""
    found: dict[type, Spot] = {}

    def walk(shape: Construct, place: tuple[Step, ...]) -> None:
        found.setdefault(shape.type, Spot(shape, [])).places.append(place)
        for field in shape.fields.values():
            for inner, kind in constructs_in(field.shape):
                walk(inner, (*place, Step(field.name, kind)))

    walk(root, ())
    return list(found.values())


def constructs_in(shape: Shape, kind: str = "key") -> Iterator[tuple[Construct, str]]:
    """Yield the constructs that a value may hold, and how they are reached."""
    match shape:
        case Construct():
            yield shape, kind
        case Optional():
            yield from constructs_in(shape.inner, kind)
        case Items():
            yield from constructs_in(shape.item, "list")
        case Table():
            yield from constructs_in(shape.value, "table")
        case Either():
            for member in shape.members:
                yield from constructs_in(member, kind)


def path_of(place: tuple[Step, ...]) -> str:
    """Return a place as people write paths: ``vpcs.NAME.route_tables.NAME.routes[]``."""
    endings = {"key": "", "table": f".{NAME}", "list": "[]"}
    return ".".join(step.key + endings[step.kind] for step in place)


def example_of(shape: Construct) -> dict[str, Any]:
    """Return an example of a construct from the examples of its fields, as one would write it."""
    found: dict[str, Any] = {}
    for field in shape.fields.values():
        if field.example is not None:
            found[field.name] = as_written(field.example)
        elif isinstance(field.shape, Items) and isinstance(field.shape.item, Construct):
            found[field.name] = [example_of(field.shape.item)]
        elif field.required and isinstance(field.shape, Construct):
            found[field.name] = example_of(field.shape)
    return found


def example_name(root: Construct, key: str) -> str:
    """Return a name for an entry of a table such as ``route_tables``, as examples of the model refer to it."""
    wanted = {key, key.removesuffix("s")}
    for spot in outline(root):
        for field in spot.shape.fields.values():
            name = _name_in(field) if field.name in wanted else None
            if name is not None:
                return name
    return "my-" + key.removesuffix("s").replace("_", "-")


def _name_in(field: Field) -> str | None:
    example = as_written(field.example)
    if isinstance(example, list) and example:
        example = example[0]
    return example if isinstance(example, str) and Table.NAME.fullmatch(example) else None


def example_in_place(root: Construct, place: tuple[Step, ...], value: Any) -> Any:
    """Return the example wrapped in the keys that lead to it."""
    for step in reversed(place):
        if step.kind == "list":
            value = [value]
        elif step.kind == "table":
            value = {example_name(root, step.key): value}
        value = {step.key: value}
    return value
