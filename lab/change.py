"""What differs between two lab files, as plain actions on the things the user named.

Works on any dataclasses: a dict holds named things (``vpcs``, ``subnets``, ``instances``), so a key that comes
or goes is an addition or a removal; everything else that differs is a change of the nearest named thing above.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, fields, is_dataclass
from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    from dataplane.model.lab_file import LabFile


@dataclass(frozen=True, slots=True, kw_only=True)
class Change:
    """One action of a plan."""

    action: Literal["add", "remove", "change"]
    kind: str
    """AWS word for the thing, e.g. ``route-table``."""
    path: str
    """Where it stands in the lab file, e.g. ``vpcs.shop.route_tables.public``."""
    detail: str = ""
    """What about it changes, e.g. ``routes: + 10.9.0.0/16 blackhole``."""


def changes(old: object, new: object) -> list[Change]:
    """Everything that turns `old` into `new` (two dataclasses of one type), in the order of the file."""
    return list(_of_thing(old, new, "", _kind(new)))


def made_at_last(lab_file: LabFile, missing: Collection[str]) -> Iterator[Change]:
    """What a lab file adds where these nodes of it were not there, because they could not be made."""
    places: list[tuple[str, Mapping[str, object]]] = [
        ("instances", lab_file.instances),
        ("internet.hosts", lab_file.internet.hosts),
        ("aws_services", lab_file.aws_services),
    ]
    for place, things in places:
        for name, thing in things.items():
            if name in missing:
                yield Change(
                    action="add", kind=_kind(thing), path=f"{place}.{name}", detail="it could not be made before"
                )


def _of_thing(old: object, new: object, path: str, kind: str) -> Iterator[Change]:
    """Changes of one named thing and of everything named inside it."""
    details: list[str] = []
    inner = list(_of_value(old, new, path, "", details))
    if details:
        yield Change(action="change", kind=kind, path=path, detail="; ".join(details))
    yield from inner


def _of_value(old: Any, new: Any, path: str, label: str, details: list[str]) -> Iterator[Change]:
    """Changes of named things below; what differs of the thing itself goes to `details` under `label`."""
    if is_dataclass(new) and type(old) is type(new):
        for field in fields(new):
            inner = f"{path}.{field.name}" if path else field.name
            below = f"{label}.{field.name}" if label else field.name
            yield from _of_value(getattr(old, field.name), getattr(new, field.name), inner, below, details)
    elif _names_things(old, new):
        for key in [*old, *(key for key in new if key not in old)]:
            where = f"{path}.{key}"
            if key not in new:
                yield Change(action="remove", kind=_kind(old[key]), path=where)
            elif key not in old:
                yield Change(action="add", kind=_kind(new[key]), path=where)
            else:
                yield from _of_thing(old[key], new[key], where, _kind(new[key]))
        # Addresses that the file leaves open are given in its order, so order is content.
        kept = [key for key in old if key in new]
        if kept != [key for key in new if key in old]:
            details.append(f"{label}: other order")
    elif old == new:
        return
    elif isinstance(old, tuple) and isinstance(new, tuple):
        gone = [f"- {_text(item)}" for item in old if item not in new]
        come = [f"+ {_text(item)}" for item in new if item not in old]
        details.append(f"{label}: {', '.join([*gone, *come]) or 'other order'}")
    else:
        details.append(f"{label}: {_text(old)} -> {_text(new)}")


def _names_things(old: object, new: object) -> bool:
    """True for two dicts of dataclasses."""
    if not isinstance(old, Mapping) or not isinstance(new, Mapping):
        return False
    return all(is_dataclass(value) for value in (*old.values(), *new.values()))


def _kind(thing: object) -> str:
    """``RouteTable`` -> ``route-table``."""
    return re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "-", type(thing).__name__).lower()


def _text(value: object) -> str:
    if value is None:
        return "none"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, (tuple, list)):
        return f"[{', '.join(_text(item) for item in value)}]"
    if isinstance(value, Mapping):
        return f"{{{', '.join(f'{key}: {_text(item)}' for key, item in value.items())}}}"
    if is_dataclass(value) and not isinstance(value, type) and type(value).__str__ is object.__str__:
        shown = [(field.name, getattr(value, field.name)) for field in fields(value)]
        return " ".join(f"{name} {_text(item)}" for name, item in shown if item not in (None, (), ""))
    return str(value)
