"""One piece of text by itself: YAML 1.2, strictly."""

from __future__ import annotations

from enum import Enum
from typing import Any, Literal

import pytest

from dataplane.load.nodes import Scalar
from dataplane.load.scalars import Refused, scalar, value_of


class Color(Enum):
    RED = "red"
    DARK_BLUE = "dark-blue"


def plain(text: str) -> Scalar:
    return Scalar(text, True, 1, 1)


def quoted(text: str) -> Scalar:
    return Scalar(text, False, 1, 1)


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("", None),
        ("~", None),
        ("null", None),
        ("true", True),
        ("FALSE", False),
        ("80", 80),
        ("-1", -1),
        ("0", 0),
        ("0x1f", 31),
        ("0o17", 15),
        ("1.5", 1.5),
        ("1e3", 1000.0),
        ("-.inf", float("-inf")),
        # every spelling of section 10.3.2
        ("Null", None),
        ("NULL", None),
        ("True", True),
        ("TRUE", True),
        ("false", False),
        ("False", False),
        ("+12", 12),
        ("0x3A", 58),
        (".5", 0.5),
        ("-1.", -1.0),
        ("12E+3", 12000.0),
        ("1e-2", 0.01),
        (".inf", float("inf")),
        ("+.Inf", float("inf")),
        (".INF", float("inf")),
        # what other YAML reads otherwise
        ("yes", "yes"),
        ("on", "on"),
        ("NO", "NO"),
        ("22:22", "22:22"),
        ("1_000", "1_000"),
        ("2026-01-01", "2026-01-01"),
        ("10.0.0.1", "10.0.0.1"),
        ("0b11", "0b11"),
        ("nUll", "nUll"),
        ("tRUE", "tRUE"),
    ],
)
def test_plain_text_means_what_yaml_1_2_says(text: str, value: object) -> None:
    found = value_of(plain(text))
    assert found == value
    assert type(found) is type(value)


@pytest.mark.parametrize("text", [".nan", ".NaN", ".NAN"])
def test_what_is_no_number_is_one_that_is_not_even_itself(text: str) -> None:
    found = value_of(plain(text))
    assert isinstance(found, float)
    assert found != found


@pytest.mark.parametrize("text", ["80", "true", "null", "", "1e3", "010"])
def test_quoted_text_is_text(text: str) -> None:
    assert value_of(quoted(text)) == text


@pytest.mark.parametrize("text", ["010", "-007", "00"])
def test_a_leading_zero_is_refused_because_readers_differ(text: str) -> None:
    with pytest.raises(Refused, match="begins with a zero"):
        value_of(plain(text))


def test_an_endless_number_is_refused() -> None:
    with pytest.raises(Refused, match="too long"):
        value_of(plain("9" * 10_000))
    with pytest.raises(Refused, match="too long"):
        value_of(plain("1" * 21))
    assert value_of(plain("1" * 20)) == int("1" * 20)


@pytest.mark.parametrize(
    ("node", "wanted", "value"),
    [
        (plain("80"), int, 80),
        (plain("true"), bool, True),
        (plain("web"), str, "web"),
        (quoted("80"), str, "80"),
        (quoted(""), str, ""),
        (plain("red"), Color, Color.RED),
        (plain("tcp"), Literal["tcp", "udp"], "tcp"),
        (plain("6"), Literal["tcp", 6], 6),
    ],
)
def test_a_value_of_the_wanted_type(node: Scalar, wanted: Any, value: object) -> None:
    found = scalar(node, wanted)
    assert found == value
    assert type(found) is type(value)


@pytest.mark.parametrize(
    ("node", "wanted", "message", "hint"),
    [
        (plain("1.0"), int, "1.0 is no whole number", "write 1"),
        (plain("1.5"), int, "a number with a fraction", ""),
        (plain("true"), int, "true is a boolean", ""),
        (plain("1_000"), int, "1_000 is text", "write 1000"),
        (quoted("80"), int, "because of the quotes", "write 80"),
        (quoted("true"), bool, "because of the quotes", "write true"),
        (plain("yes"), bool, "yes is text", "write true"),
        (plain("Off"), bool, "Off is text", "write false"),
        (plain("y"), bool, "y is text", "write true"),
        (plain("ON"), bool, "ON is text", "write true"),
        (plain("no"), bool, "no is text", "write false"),
        (plain("N"), bool, "N is text", "write false"),
        (plain("-2_000_000"), int, "-2_000_000 is text", "write -2000000"),
        (plain("1"), bool, "1 is a number", ""),
        (plain("80"), str, "80 is a number, and text is wanted", 'write "80"'),
        (plain("true"), str, "true is a boolean", 'write "true"'),
        (plain("1e3"), str, "1e3 is a number", 'write "1e3"'),
        (plain("~"), str, "there is no value", "leave the key out"),
        (plain("bleu"), Color, "bleu is none of red and dark-blue", ""),
        (plain("darkblue"), Color, "none of", "did you mean dark-blue?"),
        (plain("DARK_BLUE"), Color, "none of", "did you mean dark-blue?"),
        (plain("tpc"), Literal["tcp", "udp"], "tpc is none of tcp and udp", "did you mean tcp?"),
        (quoted("6"), Literal["tcp", 6], "is text, because of the quotes", "write 6"),
        (plain("\x1b[31m" + "x" * 100), bool, "\\x1b[31mxxx", ""),
    ],
)
def test_a_misfit_says_what_to_write(node: Scalar, wanted: Any, message: str, hint: str) -> None:
    with pytest.raises(Refused) as caught:
        scalar(node, wanted)
    assert message in caught.value.message
    assert hint in caught.value.hint
    assert len(caught.value.message) < 200
