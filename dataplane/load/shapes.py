"""The types of the model's fields, taken apart once: what reading, the JSON Schema and the reference page share.

The model is plain dataclasses with plain hints; this is the list of hints that mean something in a lab file:

=====================================  ====================================================================
hint                                   in a lab file
=====================================  ====================================================================
``bool int str``, ``Literal``, Enum    one scalar, strictly of that type
``IPv4Address`` ... ``IPv6Network``    text; a union of them takes either family
``X | None``                           X or ``null``
``tuple[X, ...]``                      a list
``dict[str, X]``, X a dataclass        named things; the names follow `Table.NAME`
``dict[str, X]``, other X              free keys, as in environments
a dataclass                            a mapping of its fields; unknown keys are errors
a class with ``parse(value)``          whatever that classmethod takes; its ValueError is the message
a union of the above                   the first that fits the kind of value written
=====================================  ====================================================================
"""

from __future__ import annotations

import dataclasses
import functools
import inspect
import re
import types
import typing
from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network
from typing import Any, ClassVar, Literal, TypeAlias


@dataclass(frozen=True, slots=True)
class Single:
    """One scalar: bool, int, str, a Literal or an Enum."""

    type: Any


@dataclass(frozen=True, slots=True)
class Numbers:
    """An IP address or network of one of some families."""

    families: tuple[type, ...]


@dataclass(frozen=True, slots=True)
class Parsed:
    """A type that reads its own spelling through ``parse``."""

    type: type


@dataclass(frozen=True, slots=True)
class Optional:
    """What is inside, or null."""

    inner: Shape


@dataclass(frozen=True, slots=True)
class Items:
    """A list."""

    item: Shape


@dataclass(frozen=True, slots=True)
class Table:
    """Keys chosen by the user, each with a value of one type."""

    key: Shape
    value: Shape
    named: bool
    """The keys are names of things, so that paths, host names and messages can hold them."""

    NAME: ClassVar[re.Pattern[str]] = re.compile(r"[a-z0-9][a-z0-9-]{0,62}")


@dataclass(frozen=True, slots=True)
class Construct:
    """A dataclass of the model."""

    type: type

    @property
    def fields(self) -> FieldsByName:
        """The keys it takes, in the order of the model."""
        return _fields(self.type)


@dataclass(frozen=True, slots=True)
class Either:
    """Several shapes told apart by the kind of value that is written."""

    members: tuple[Shape, ...]


Shape: TypeAlias = Single | Numbers | Parsed | Optional | Items | Table | Construct | Either


@dataclass(frozen=True, slots=True)
class Field:
    """One key of a construct."""

    name: str
    shape: Shape
    required: bool
    default: Any
    """What it is when left out; None when it is required."""
    doc: str
    example: Any


FieldsByName: TypeAlias = Mapping[str, Field]

ADDRESSES: tuple[type, ...] = (IPv4Address, IPv6Address)
NETWORKS: tuple[type, ...] = (IPv4Network, IPv6Network)


def shape_of(hint: Any) -> Shape:
    """Return the shape of a type hint.

    Raises:
        TypeError: a hint that lab files have no notation for.
    """
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if origin in (typing.Union, types.UnionType):
        return _union(arguments)
    if origin is tuple and len(arguments) == 2 and arguments[1] is Ellipsis:
        return Items(shape_of(arguments[0]))
    if origin is dict:
        key, value = shape_of(arguments[0]), shape_of(arguments[1])
        return Table(key, value, named=key == Single(str) and isinstance(value, Construct))
    if hint in ADDRESSES + NETWORKS:
        return Numbers((hint,))
    if hint in (bool, int, str) or origin is Literal:
        return Single(hint)
    if isinstance(hint, type):
        if callable(getattr(hint, "parse", None)):
            return Parsed(hint)
        if issubclass(hint, Enum):
            return Single(hint)
        if dataclasses.is_dataclass(hint):
            return Construct(hint)
    raise TypeError(f"lab files have no notation for {hint!r}")


def _union(arguments: tuple[Any, ...]) -> Shape:
    shapes = [shape_of(argument) for argument in arguments if argument is not type(None)]
    families: tuple[type, ...] = ()
    members: list[Shape] = []
    for shape in shapes:
        if isinstance(shape, Numbers):
            families += shape.families
        else:
            members.append(shape)
    if families:
        if set(families) & set(ADDRESSES) and set(families) & set(NETWORKS):
            raise TypeError(f"an address and a network cannot be told apart: {arguments}")
        members.insert(0, Numbers(families))
    shape = members[0] if len(members) == 1 else Either(tuple(members))
    return Optional(shape) if type(None) in arguments else shape


@functools.cache
def _fields(construct: type) -> FieldsByName:
    hints = typing.get_type_hints(construct)
    found = {}
    for each in dataclasses.fields(construct):
        if not each.init:
            continue
        required = each.default is dataclasses.MISSING and each.default_factory is dataclasses.MISSING
        if required:
            default = None
        elif each.default_factory is not dataclasses.MISSING:
            default = each.default_factory()
        else:
            default = each.default
        doc, example = str(each.metadata.get("doc", "")), each.metadata.get("example")
        found[each.name] = Field(each.name, shape_of(hints[each.name]), required, default, doc, example)
    return types.MappingProxyType(found)


def summary(documented: type) -> str:
    """Return the first paragraph of a docstring as one line; dataclasses that have none get an empty one."""
    doc = inspect.cleandoc(documented.__doc__ or "")
    if dataclasses.is_dataclass(documented) and doc.startswith(f"{documented.__name__}("):
        return ""  # written by dataclass itself
    return " ".join(doc.partition("\n\n")[0].split())


def spelling(parsed: type) -> str:
    """Return what a type with ``parse`` takes, in words: its docstring up to a colon, as part of a sentence."""
    words = summary(parsed).partition(": ")[0].rstrip(".")
    return words[:1].lower() + words[1:] or "text"
