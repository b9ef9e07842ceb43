"""What one piece of text means, by the core schema of YAML 1.2, and strictly by the type that is wanted.

Nothing is guessed: ``yes`` is text and no boolean, ``80`` is a number and no text, ``010`` is refused because
some YAML reads eight and some ten, and every refusal says what to write instead. The schema is section 10.3.2 of
https://yaml.org/spec/1.2.2/; msgspec decides whether a value fits a type.
"""

from __future__ import annotations

import re
from enum import Enum
from typing import Any, Literal, TypeAlias, get_args, get_origin

import msgspec

from dataplane.load.nearest import did_you_mean
from dataplane.load.nodes import Scalar, described, shortened

Plain: TypeAlias = bool | int | float | str | None
"""What one piece of text can stand for."""

NULL = re.compile(r"null|Null|NULL|~|")
TRUE = re.compile(r"true|True|TRUE")
FALSE = re.compile(r"false|False|FALSE")
INTEGER = re.compile(r"[-+]?[0-9]+|0o[0-7]+|0x[0-9a-fA-F]+")
FLOAT = re.compile(r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?|[-+]?\.(inf|Inf|INF)|\.(nan|NaN|NAN)")
YES, NO = {"yes", "y", "on"}, {"no", "n", "off"}
"""Booleans of YAML 1.1, text in YAML 1.2."""


class Refused(Exception):
    """The text does not fit the type that is wanted here."""

    def __init__(self, message: str, hint: str = "", code: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint
        self.code = code


def value_of(node: Scalar) -> Plain:
    """Return what the text stands for by itself. Quoted text is always text.

    Raises:
        Refused: a number so long, or written so, that programs disagree about it.
    """
    text = node.text
    if not node.plain:
        return text
    if NULL.fullmatch(text):
        return None
    if TRUE.fullmatch(text) or FALSE.fullmatch(text):
        return text.lower() == "true"
    if INTEGER.fullmatch(text):
        if len(text) > 20:
            raise Refused(f"the number {shortened(text)} is too long")
        digits = text.lstrip("+-")
        if len(digits) > 1 and digits[0] == "0" and digits.isdigit():
            raise Refused(f"{text} begins with a zero", f"write {int(text)}")
        return int(text, 0)
    if FLOAT.fullmatch(text):
        return float(text.lower().replace(".inf", "inf").replace(".nan", "nan"))
    return text


def scalar(node: Scalar, wanted: Any) -> Any:
    """Return the value as the wanted type: bool, int, str, a Literal or an Enum.

    Raises:
        Refused: it does not fit.
    """
    try:
        value = value_of(node)
    except Refused as refused:
        if wanted is str:
            refused.hint = f'text goes in quotes: "{shortened(node.text)}"'
        raise
    try:
        return msgspec.convert(value, wanted, strict=True)
    except msgspec.ValidationError:
        raise _misfit(node, value, wanted) from None


def _misfit(node: Scalar, value: Plain, wanted: Any) -> Refused:
    """Say why the value does not fit, and what would."""
    if value is None:
        return Refused("there is no value", f"write {expected(wanted)}, or leave the key out")
    if wanted is str:
        return Refused(f"{described(node)} is {_kind(value)}, and text is wanted", f'write "{shortened(node.text)}"')
    if get_origin(wanted) is Literal:
        choices = [str(choice) for choice in get_args(wanted)]
        if node.text in choices and not node.plain:
            return Refused(f"{described(node)} is text, because of the quotes", f"write {node.text}")
    elif isinstance(wanted, type) and issubclass(wanted, Enum):
        choices = [str(member.value) for member in wanted]
    else:
        choices = []
    if len(choices) == 1:
        return Refused(f"{described(node)} is not {choices[0]}", f"write {choices[0]}")
    if choices:
        return Refused(f"{described(node)} is none of {_listed(choices)}", did_you_mean(node.text, choices))
    if isinstance(value, str) and not node.plain:
        bare = value_of(Scalar(node.text, True, 0, 0)) if len(node.text) < 20 else None
        if type(bare) is wanted:
            return Refused(f"{described(node)} is text, because of the quotes", f"write {shortened(node.text)}")
    if wanted is bool and isinstance(value, str) and value.lower() in YES | NO:
        word = "true" if value.lower() in YES else "false"
        return Refused(f"{described(node)} is text, and true or false is wanted", f"write {word}")
    if wanted is int and isinstance(value, float) and value.is_integer():
        return Refused(f"{described(node)} is no whole number", f"write {int(value)}")
    if wanted is int and isinstance(value, str) and re.fullmatch(r"[-+]?\d+(_\d+)+", value):
        return Refused(f"{described(node)} is text", f"write {value.replace('_', '')}")
    return Refused(f"{described(node)} is {_kind(value)}, and {expected(wanted)} is wanted", "")


def expected(wanted: Any) -> str:
    """Say what a type wants, in words."""
    words = {bool: "true or false", int: "a whole number", str: "text"}
    return words.get(wanted, "a value")


def _kind(value: Plain) -> str:
    if isinstance(value, bool):
        return "a boolean"
    return {int: "a number", float: "a number with a fraction"}.get(type(value), "text")


def _listed(choices: list[str]) -> str:
    return choices[0] if len(choices) == 1 else ", ".join(choices[:-1]) + " and " + choices[-1]
