"""The model's values as a lab file spells them: the way back, for defaults and examples in documents."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from enum import Enum
from typing import Any


def as_written(value: Any) -> Any:
    """Return a value of the model as plain text, numbers, lists and keys, as one would write it.

    Fields of a construct that have their default are left out. Types with a spelling of their own (those with a
    ``parse``) are spelled by ``str``.
    """
    if value is None or (isinstance(value, (bool, int, float, str)) and not isinstance(value, Enum)):
        return value
    if isinstance(value, Enum):
        return value.value
    if isinstance(value, Mapping):
        return {str(key): as_written(item) for key, item in value.items()}
    if isinstance(value, (tuple, list)):
        return [as_written(item) for item in value]
    if dataclasses.is_dataclass(value) and not hasattr(value, "parse"):
        return {
            field.name: as_written(getattr(value, field.name))
            for field in dataclasses.fields(value)
            if field.init and getattr(value, field.name) != _default(field)
        }
    return str(value)


def _default(field: dataclasses.Field[Any]) -> Any:
    if field.default_factory is not dataclasses.MISSING:
        return field.default_factory()
    return field.default
