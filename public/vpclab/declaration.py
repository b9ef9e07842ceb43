"""Labs declared in code, as the text of a lab file: the daemon reads nothing else."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import MISSING, Field, fields, is_dataclass
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network
from pathlib import PurePath
from typing import Any


def declaration_text(declaration: object) -> str:
    """A lab file's text (JSON is YAML) of what was declared: dicts and lists, or objects of `dataplane.model`.

    Raises:
        TypeError: a value that no lab file could hold.
    """
    return json.dumps(declaration, indent=2, default=_plain)


def _plain(value: object) -> Any:
    """The plain form of a model object, an address or a network."""
    if is_dataclass(value) and not isinstance(value, type):
        if hasattr(value, "parse"):
            return str(value)
        shown = {field.name: (getattr(value, field.name), _default(field)) for field in fields(value)}
        # What equals the default is left out: null and [] are not the same everywhere.
        return {name: _keyed(item) for name, (item, default) in shown.items() if item != default}
    if isinstance(value, (IPv4Address, IPv6Address, IPv4Network, IPv6Network, PurePath)):
        return str(value)
    raise TypeError(f"a lab file cannot hold {value!r}")


def _default(field: Field[Any]) -> object:
    return field.default if field.default_factory is MISSING else field.default_factory()


def _keyed(value: Any) -> Any:
    """JSON has text as keys only."""
    return {str(key): item for key, item in value.items()} if isinstance(value, Mapping) else value
