"""Nodes -> values of the model's types, collecting every problem on the way.

One function per shape. Each returns the value, or `FAILED` after it has noted why; a list or mapping with a failed
part fails as a whole, after all its other parts were read too.
"""

from __future__ import annotations

import json
import re
import shlex
from functools import lru_cache
from types import MappingProxyType
from typing import Any, Final, NamedTuple, assert_never

from dataplane.errors import Problem
from dataplane.load.addresses import address, in_words, network
from dataplane.load.nearest import nearest
from dataplane.load.nodes import Entry, Mapping, Node, Scalar, Sequence, described, place, shortened
from dataplane.load.scalars import Plain, Refused, expected, scalar, value_of
from dataplane.load.shapes import (
    ADDRESSES,
    Construct,
    Either,
    Field,
    FieldsByName,
    Items,
    Numbers,
    Optional,
    Parsed,
    Shape,
    Single,
    Table,
    spelling,
)
from dataplane.load.written import as_written
from dataplane.model._not_here import not_here

OTHER_WORDS = {"destination": "source", "source": "destination", "from_port": "ports", "to_port": "ports"}
"""What a key is called in other places, or on AWS, that is like no key it could be taken for."""


@lru_cache(maxsize=1 << 16, typed=True)
def parsed(kind: Any, value: Plain) -> Any:
    """What `kind` reads from a value: one object for equal ones, by which a lab read again is soon compared."""
    return kind.parse(value)


@lru_cache(maxsize=1 << 16)
def _first(value: Any) -> Any:
    return value


def same(value: Any) -> Any:
    """The first that was read of equal values of one type: a rule or a route that is read again is that very object."""
    try:
        return _first(value)
    except TypeError:  # holds something that has no hash
        return value


class _Failed:
    def __repr__(self) -> str:
        return "FAILED"


FAILED: Final = _Failed()
"""Stands for a value that could not be read; the problems say why."""


class Place(NamedTuple):
    """A node, and how a person finds it."""

    node: Node
    path: str
    key: Scalar | None = None
    example: Any = None
    """A value that the field takes."""
    siblings: FieldsByName = MappingProxyType({})
    """The fields of the construct that this is one of."""


class Reader:
    """Reads one file; `problems` is everything found wrong so far."""

    def __init__(self, file_name: str) -> None:
        self.file_name = file_name
        self.problems: list[Problem] = []

    def read(self, shape: Shape, at: Place) -> Any:
        """Return the value at this place, or FAILED."""
        node = at.node
        if isinstance(node, Scalar) and node.absent:
            return self._fail(at, "nothing follows", _instead_of_nothing(shape))
        match shape:
            case Optional():
                return None if _is_null(node) else self.read(shape.inner, at)
            case Construct():
                return self._construct(shape, at)
            case Table():
                return self._table(shape, at)
            case Items():
                return self._items(shape, at)
            case Either():
                return self._either(shape, at)
            case Parsed():
                return self._parsed(shape, at)
            case Single() | Numbers():
                return self._scalar(shape, at)
            case _:
                assert_never(shape)

    # -- one function per shape

    def _scalar(self, shape: Single | Numbers, at: Place) -> Any:
        if not isinstance(at.node, Scalar):
            return self._not_one(shape, at)
        try:
            if isinstance(shape, Single):
                return scalar(at.node, shape.type)
            value = value_of(at.node)
            example = at.example if isinstance(at.example, str) else ""
            if shape.families[0] in ADDRESSES:
                return address(at.node, value, shape.families, example)
            return network(at.node, value, shape.families, example)
        except Refused as refused:
            hint = _other_family(shape, at) or refused.hint or _among(shape)
            return self._fail(at, refused.message, hint, refused.code)

    def _not_one(self, shape: Shape, at: Place) -> Any:
        """Note that there is a list, or keys, where one value is wanted."""
        in_a_list = isinstance(at.node, Sequence) and re.search(r"\[\d+\]\.[^.\[]+$", at.path)
        hint = "write one entry of the list for each" if in_a_list else ""
        return self._fail(at, f"{_written(at.node)} where {wanted_in_words(shape)} is wanted", hint)

    def _parsed(self, shape: Parsed, at: Place) -> Any:
        if not isinstance(at.node, Scalar) or _is_null(at.node):
            return self._not_one(shape, at)
        try:
            return parsed(shape.type, value_of(at.node))
        except Refused as refused:
            return self._fail(at, refused.message, refused.hint or _among(shape))
        except ValueError as error:
            return self._fail(at, *_message_and_hint(error))

    def _items(self, shape: Items, at: Place) -> Any:
        if not isinstance(at.node, Sequence):
            return self._fail(at, f"{_written(at.node)} where a list is wanted", _as_list(shape, at.node))
        example = at.example[0] if isinstance(at.example, list) and at.example else None
        items = [
            self.read(shape.item, Place(item, f"{at.path}[{i}]", example=example))
            for i, item in enumerate(at.node.items)
        ]
        if any(item is FAILED for item in items):
            return FAILED
        return tuple(map(same, items)) if isinstance(shape.item, Construct) else tuple(items)

    def _table(self, shape: Table, at: Place) -> Any:
        if not isinstance(at.node, Mapping):
            hint = "write NAME: VALUE"
            if _is_null(at.node):
                hint = "write {} for none, or leave the key out"
            elif isinstance(at.example, dict) and at.example:
                hint = "write, for example, " + ", ".join(f"{key}: {value}" for key, value in at.example.items())
            return self._fail(at, f"{_written(at.node)} where {_named_things(shape)} are wanted", hint)
        values = {}
        failed = False
        for entry in at.node.entries.values():
            key = self._key(shape, at, entry)
            value = self.read(shape.value, _below(at, entry))
            failed = failed or key is FAILED or value is FAILED
            if not failed:
                values[key] = value
        return FAILED if failed else values

    def _key(self, shape: Table, at: Place, entry: Entry) -> Any:
        key = entry.key
        here = Place(key, _below(at, entry).path)
        if shape.named:
            if Table.NAME.fullmatch(key.text):
                return key.text
            return self._fail(here, f"{described(key)} is no name", _name_instead(key.text))
        if shape.key == Single(str):
            if key.text and "\0" not in key.text and "=" not in key.text:
                return key.text
            return self._fail(here, f"{described(key)} is no key", "keys are not empty and hold no '='")
        return self.read(shape.key, here)

    def _either(self, shape: Either, at: Place) -> Any:
        """Take the members that fit the kind of value, then the first of them that reads it without a problem."""
        fitting = [member for member in shape.members if _fits(member, at.node)]
        if not fitting:
            wanted = " or ".join(wanted_in_words(member) for member in shape.members)
            return self._fail(at, f"{_written(at.node)} where {wanted} is wanted", "")
        if isinstance(at.node, Mapping):
            keys = set(at.node.entries)
            own = [sorted(keys & set(member.fields)) for member in fitting if isinstance(member, Construct)]
            if len(own) > 1 and all(own) and not set.intersection(*map(set, own)):
                both = " and ".join(each for names in own for each in names)
                return self._fail(at, f"{both} are written, and they are alternatives", "keep one of them")
            fitting.sort(key=lambda m: -len(keys & set(m.fields)) if isinstance(m, Construct) else 0)
        first_problems: list[Problem] | None = None
        for member in fitting:
            trial = Reader(self.file_name)
            value = trial.read(member, at)
            if value is not FAILED:
                return value
            first_problems = trial.problems if first_problems is None else first_problems
        self.problems += first_problems or []
        return FAILED

    def _construct(self, shape: Construct, at: Place) -> Any:
        if not isinstance(at.node, Mapping):
            hint = f"write its keys: {', '.join(shape.fields) or 'none'}"
            if isinstance(at.node, Sequence) and at.path:
                hint = "there is one at most: write its keys without '- '"
            return self._fail(at, f"{_written(at.node)} where keys and values are wanted", hint)
        fields = shape.fields
        values: dict[str, Any] = {}
        meant: set[str | None] = set()
        failed = False
        for name, entry in at.node.entries.items():
            field = fields.get(name)
            if field is None:
                meant.add(self._unknown(entry, at, fields))
                failed = True
                continue
            below = _below(at, entry)._replace(example=as_written(field.example), siblings=fields)
            values[name] = self.read(field.shape, below)
            failed = failed or values[name] is FAILED
        for field in fields.values():
            if field.required and field.name not in values:
                failed = True
                if field.name not in meant:  # else the misspelled key was reported already
                    self._missing(field, at)
        if failed:
            return FAILED
        try:
            return shape.type(**values)
        except ValueError as error:
            return self._fail(at, *_message_and_hint(error))

    # -- problems

    def _unknown(self, entry: Entry, at: Place, fields: FieldsByName) -> str | None:
        """Note an unknown key; return the key that was probably meant."""
        name = entry.key.text
        unused = [field for field in fields if field not in getattr(at.node, "entries", {})]
        other_word = OTHER_WORDS.get(name, "")
        meant = other_word if other_word in fields else nearest(name, unused) or nearest(name, fields)
        absent = not_here(name)
        hint = f"did you mean {meant}?" if meant else f"known keys: {', '.join(fields) or 'none'}"
        if absent:
            meant, hint = None, absent
        elif meant == other_word == "ports":
            hint = "write both in one: ports: 1024-65535"
        head, colon, _ = name.partition(":")
        if colon and head in fields:
            meant, hint = head, f"write a blank after the colon: {head}: ..."
        self._fail(Place(entry.key, _below(at, entry).path), f"{described(entry.key)} is no key here", hint)
        return meant

    def _missing(self, field: Field, at: Place) -> None:
        example = field.example if isinstance(field.example, (str, int)) else ""
        hint = f"write, for example, {field.name}: {example}" if example != "" else f"write {field.name}: ..."
        path = f"{at.path}.{field.name}" if at.path else field.name
        self._fail(at._replace(path=path), "the key is missing", hint)

    def _fail(self, at: Place, message: str, hint: str, code: str = "") -> Any:
        line, column = place(at.node, at.key)
        problem = Problem(
            path=at.path, message=message, code=code, hint=hint, file=self.file_name, line=line, column=column
        )
        self.problems.append(problem)
        return FAILED


def _written(node: Node) -> str:
    verb = "are" if isinstance(node, Mapping) and node.entries else "is"
    return f"{described(node)} {verb} written"


def _as_list(shape: Items, node: Scalar | Mapping) -> str:
    """How to write as a list what is none."""
    if _is_null(node):
        return "write [] for an empty list, or leave the key out"
    if isinstance(node, Mapping):
        return "begin each with '- '"
    if node.text.lower() in ("none", "no", "nothing"):
        return "write [] for an empty list"
    if isinstance(shape.item, (Construct, Table)):
        return f"begin each with '- ': {wanted_in_words(shape.item)}"
    try:
        words = shlex.split(node.text)
    except ValueError:  # quotes that are not closed
        words = node.text.split()
    if all(word.endswith(",") for word in words[:-1]):  # else they are of the words: cut -d, -f1
        words = [word.removesuffix(",") for word in words]
    listed = ", ".join(map(_as_item, words))
    return f"write [{listed}]" if len(listed) <= 200 else "write [FIRST, SECOND, ...]"


def _as_item(word: str) -> str:
    """A piece of text as an item between brackets: in quotes where it would be something else without."""
    is_plain = re.fullmatch(r"-{0,2}[A-Za-z0-9_./+=]([A-Za-z0-9_./+:=@%-]*[A-Za-z0-9_./+=@%-])?", word)
    try:
        is_text = isinstance(value_of(Scalar(word, True, 0, 0)), str)
    except Refused:
        is_text = False
    return shortened(word) if is_plain and is_text else shortened(json.dumps(word, ensure_ascii=False))


def _other_family(shape: Single | Numbers, at: Place) -> str:
    """The key that an address or a block of the other family goes under, if that is what is wrong."""
    assert isinstance(at.node, Scalar)
    if isinstance(shape, Single) or len(shape.families) > 1:
        return ""
    for name, field in at.siblings.items():
        if at.key is None or at.key.text.startswith("elastic") or not name.startswith("ipv6"):
            continue
        found = field.shape.inner if isinstance(field.shape, Optional) else field.shape
        found = found.item if isinstance(found, Items) else found
        if isinstance(found, Numbers) and shape.families[0] not in found.families and _reads(found, at.node.text):
            return f"write it under {name}"
    return ""


def _reads(shape: Numbers, text: str) -> bool:
    for family in shape.families:
        try:
            family(text)
        except ValueError:
            continue
        return (family in ADDRESSES) == ("/" not in text)
    return False


def _among(shape: Shape) -> str:
    """What is wanted, as a hint, where there is none better."""
    return f"write {wanted_in_words(shape)}"


def _message_and_hint(error: ValueError) -> tuple[str, str]:
    """Take apart what ``parse`` says: ``what is wrong; what would be right``."""
    message, _, hint = str(error).partition("; ")
    return shortened(message, limit=200), shortened(hint, limit=200)


def _below(at: Place, entry: Entry) -> Place:
    name = shortened(entry.key.text)
    return Place(entry.value, f"{at.path}.{name}" if at.path else name, entry.key)


def _is_null(node: Node) -> bool:
    return isinstance(node, Scalar) and node.plain and node.text in ("null", "Null", "NULL", "~")


def _fits(shape: Shape, node: Node) -> bool:
    if isinstance(node, Scalar):
        return isinstance(shape, (Single, Numbers, Parsed))
    if isinstance(node, Sequence):
        return isinstance(shape, Items)
    return isinstance(shape, (Table, Construct))


def wanted_in_words(shape: Shape) -> str:
    """Say what a shape wants."""
    match shape:
        case Single():
            return expected(shape.type)
        case Numbers():
            return in_words(shape.families)
        case Items():
            return "a list"
        case Optional():
            return wanted_in_words(shape.inner)
        case Parsed():
            return spelling(shape.type).replace("``", "")
        case Construct():
            return f"keys ({', '.join(shape.fields)})"
        case _:
            return "keys and values"


def _named_things(shape: Table) -> str:
    return "names, each with keys of its own," if isinstance(shape.value, Construct) else "keys"


def _instead_of_nothing(shape: Shape) -> str:
    """An empty value reads as null, which is rarely what the writer of ``internet_gateway:`` meant."""
    match shape:
        case Optional():
            return f"{_instead_of_nothing(shape.inner)}, or null"
        case Construct():
            required = [field.name for field in shape.fields.values() if field.required]
            return f"write its keys below, at least {', '.join(required)}" if required else "write {} for the defaults"
        case Table():
            return "write {} for none"
        case Items():
            return "write [] for none"
        case _:
            return f"write {wanted_in_words(shape)}"


def _name_instead(text: str) -> str:
    rule = "names are a-z, 0-9 and '-', begin with a letter or digit, and have at most 63 characters"
    better = "".join(c if c.isascii() and c.isalnum() else "-" for c in text.lower()).strip("-")[:63]
    return f"{rule}: write {better}" if better and Table.NAME.fullmatch(better) else rule
