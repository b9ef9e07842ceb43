"""What YAML's scanner and parser complain about, in words that say what to write instead."""

from __future__ import annotations

import re

from ruamel.yaml import YAML
from ruamel.yaml.error import MarkedYAMLError, StreamMark
from ruamel.yaml.reader import ReaderError

from dataplane.errors import Problem

HINTS = (
    ("'\\t'", "this reader takes no tabs outside of brackets and quotes: use blanks"),
    ("cannot start any token", "put text that begins with this character in quotes"),
    ("mapping values are not allowed", "check the indentation, and put text that holds ': ' in quotes"),
    ("expected the node content, but found ':'", 'put text that begins with a colon in quotes: "::/0"'),
    ("expected <block end>", "give this line the indentation of the lines it belongs to"),
    ("could not find expected ':'", "write KEY: VALUE, with a blank after the colon"),
    ("expected ',' or ']'", "close the list with ], or put a comma before this"),
    ("expected ',' or '}'", "close the keys with }, or put a comma before this"),
    ("unexpected end of stream", "close the quotes"),
    ("special characters", "remove the character, or write it as an escape in double quotes"),
)
"""Part of ruamel.yaml's message -> what to do."""

SLIPS = (
    (
        re.compile(r"(?:[ \u00a0]*|.*[-:,{\[] *)(\u00a0)"),
        " ",
        "there is a no-break space (U+00A0) here",
        "write a blank instead",
    ),
    (re.compile(r" *([\u2013\u2014])"), "- ", "this is a dash of text, and no hyphen", "write - and a blank"),
    (re.compile(r" *[\w-]+(:)[^\s/]"), ": ", "no blank follows the colon", "write a blank after the colon"),
    (re.compile(r" *(-)[^\s-]"), "- ", "no blank follows the hyphen", "write a blank after the hyphen"),
)
"""What people write, and do not see, where YAML then goes on and finds a fault further below; and what was meant."""
FOUND_LATE = ("mapping values are not allowed", "expected <block end>", "could not find expected ':'")
"""Part of the messages that it ends in."""
_LOOKED_AT = 500
"""Characters of a line."""


def syntax_problem(error: Exception, text: str, file_name: str, reached: StreamMark | None) -> Problem:
    """Return the problem for what the YAML parser raised on `text`; `reached` is how far it had come."""
    line, column = (reached.line + 1, reached.column + 1) if reached is not None else (1, 1)
    if isinstance(error, MarkedYAMLError):
        message = str(error.problem or error.context or "not YAML")
        mark = error.problem_mark or error.context_mark
        if mark is not None:
            line, column = mark.line + 1, mark.column + 1
        if error.context and error.context_mark is not None:
            start = error.context_mark
            message += f", {error.context} that begins at line {start.line + 1}, column {start.column + 1}"
    elif isinstance(error, ReaderError):
        line, column = line_and_column(text, error.position)
        message = f"special characters are not allowed (U+{ord(text[error.position]):04X})"
    else:
        message = f"after this place the text is not YAML: {str(error) or type(error).__name__}"
    if isinstance(error, MarkedYAMLError) and any(part in message for part in FOUND_LATE):
        slip = _slip(text, line, _from_end(error, text))
        if slip is not None:
            message, hint, line, column = slip
            return Problem(path="", message=message, hint=hint, file=file_name, line=line, column=column)
    hint = next((hint for part, hint in HINTS if part in message), "")
    return Problem(path="", message=message, hint=hint, file=file_name, line=line, column=column)


def _slip(text: str, line: int, from_end: int) -> tuple[str, str, int, int] | None:
    """Return message, hint and place of a slip in a line, or in the last before it that holds anything.

    It is one if YAML fails elsewhere, or nowhere, without it: a program in a block of text may be written like this.
    """
    lines = text.split("\n")
    above = next((number for number in range(line - 1, 0, -1) if lines[number - 1].strip()), line)
    for number in (above, line):
        for pattern, meant, message, hint in SLIPS:
            found = pattern.match(lines[number - 1][:_LOOKED_AT])
            if found is None:
                continue
            start = sum(len(each) + 1 for each in lines[: number - 1]) + found.start(1)
            if _is_mended(text[:start] + meant + text[start + 1 :], from_end):
                return message, hint, number, found.start(1) + 1
    return None


def _is_mended(text: str, from_end: int) -> bool:
    """Whether YAML does not fail where it did, told from the end: what is before that place has another length."""
    try:
        for event in YAML(typ="safe", pure=True).parse(text):
            if len(text) - event.start_mark.index < from_end:
                return True
    except MarkedYAMLError as error:
        return _from_end(error, text) != from_end
    except Exception:  # what the scanner lets out, see `dataplane.load.compose`
        return False
    return True


def _from_end(error: MarkedYAMLError, text: str) -> int:
    mark = error.problem_mark or error.context_mark
    return len(text) - mark.index if mark is not None else 0


def line_and_column(text: str, position: int) -> tuple[int, int]:
    """Return line and column, both from 1, of a character of the text."""
    return text.count("\n", 0, position) + 1, position - text.rfind("\n", 0, position)
