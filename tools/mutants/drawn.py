"""Faults drawn by chance: an operator, a constant or the order of two arguments is another one.

A place in the code has a number made of the seed, its file, its line and the token's place there; the lowest numbers
are drawn. So the same seed draws the same faults while their lines stay, whatever else changes.
"""

from __future__ import annotations

import hashlib
import io
import re
import tokenize
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from tokenize import NAME, NUMBER, OP, TokenInfo

from tools.mutants.faults import ROOT, Fault, deciding

OTHER = {
    "<": ("<=", ">="), "<=": ("<", ">"), ">": (">=", "<="), ">=": (">", "<"), "==": ("!=",), "!=": ("==",),
    "+": ("-",), "-": ("+",), "//": ("*",), "<<": (">>",), ">>": ("<<",), "&": ("|",), "|": ("&",), "^": ("|",),
    "+=": ("-=",), "-=": ("+=",), "|=": ("&=",), "&=": ("|=",), "^=": ("|=",),
    "and": ("or",), "or": ("and",), "not": ("",), "True": ("False",), "False": ("True",), "min": ("max",),
    "max": ("min",), "any": ("all",), "all": ("any",), "is": ("is not",),
}  # fmt: skip
BINARY = {"+", "-", "&", "|", "<", ">", "//"}
"""What may be something else without a value before it."""
SKIPPED = re.compile(
    r"@|(from|import|cimport|assert|raise|class|def|async def|global|nonlocal|if TYPE_CHECKING|__all__)\b"
    r"|(cdef |cpdef |ctypedef )[^=]*$|(cdef |cpdef )?(inline )?[\w ]*\bextern\b|note(_\w+)?\(|\w+ = .*\bTypeAlias\b"
    r"|(const )?[\w.]+ [*\w]+(\[\w+\])*(, \w+)*$|yield Problem\(|.*\b(c|m|re)alloc\("
)
"""Statements that decide nothing: declarations, imports, checks of ourselves, words for traces and messages."""
HEADER = re.compile(r"(cdef|cpdef|def)\b[^=]*\(.*:$|(cdef|cpdef) [\w *]+\([^=]*$", re.DOTALL)
WORDS = re.compile(r"\b(doc|Problem|Refused|_fail|_note|note|unknown)\(")
"""Calls whose arguments are text for people."""


def drawn(seed: int, count: int, root: Path = ROOT) -> list[Fault]:
    """The first `count` faults of a seed, at most one for each line."""
    places: dict[tuple[str, str, int], tuple[bytes, Fault]] = {}
    for file in deciding(root):
        if file.endswith(".h"):
            continue
        for fault, column in _faults(file, (root / file).read_text()):
            name = f"{seed}|{file}|{fault.line}|{fault.nth}|{column}|{fault.becomes}"
            rank = hashlib.sha256(name.encode()).digest()
            line = file, fault.line, fault.nth
            if line not in places or rank < places[line][0]:
                places[line] = rank, fault
    return [fault for _, fault in sorted(places.values(), key=lambda each: each[0])[:count]]


def _faults(file: str, text: str) -> Iterator[tuple[Fault, int]]:
    lines = text.splitlines()
    seen: Counter[str] = Counter()
    nth = {}
    for number, line in enumerate(lines, 1):
        seen[line.strip()] += 1
        nth[number] = seen[line.strip()]
    for statement in _statements(text):
        for token, instead in _changes(statement):
            number, column = token.start
            line = lines[number - 1]
            end = token.end[1]
            becomes = f"{line[:column]}{instead}{line[end:].lstrip() if not instead else line[end:]}".strip()
            body = line.strip()
            means = f"`{token.string or body}` is `{instead}`" if instead else f"`{token.string}` is left out"
            fault = Fault(file=file, line=body, becomes=becomes, means=means, nth=nth[number], origin="drawn")
            yield fault, column


def _statements(text: str) -> Iterator[list[TokenInfo]]:
    """The tokens of each statement that decides something."""
    statement: list[TokenInfo] = []
    for token in tokenize.generate_tokens(io.StringIO(text).readline):
        if token.type in (tokenize.COMMENT, tokenize.NL, tokenize.INDENT, tokenize.DEDENT):
            continue
        if token.type != tokenize.NEWLINE:
            statement.append(token)
            continue
        words = " ".join(dict.fromkeys(each.line for each in statement)).split("#")[0].strip()
        if statement and not SKIPPED.match(words) and not HEADER.match(words):
            yield statement
        statement = []


def _changes(statement: list[TokenInfo]) -> Iterator[tuple[TokenInfo, str]]:
    """Tokens and what stands in their place."""
    begin = _value(statement)
    depth, told_from = 0, None
    for i in range(len(statement)):
        token = statement[i]
        before = statement[i - 1] if i else None
        if token.string in "([{" and token.type == OP:
            depth += 1
            if before is not None and token.string == "(" and WORDS.search(f"{before.string}(") and told_from is None:
                told_from = depth
            swapped = _swapped(statement, i)
            if swapped is not None and i > begin and told_from is None:
                yield swapped
        elif token.string in ")]}" and token.type == OP:
            if told_from == depth:
                told_from = None
            depth -= 1
        if i < begin or told_from is not None:
            continue
        if token.type == NUMBER:
            yield from ((token, each) for each in _numbers(token.string))
        elif token.string in OTHER and not _is_else(statement, i):
            for instead in OTHER[token.string]:
                yield _with_neighbour(statement, i, instead)


def _value(statement: list[TokenInfo]) -> int:
    """Where the value of a declaration begins; what is before it are names and types."""
    strings = [token.string for token in statement]
    if strings[0] in ("cdef", "cpdef") or (len(strings) > 2 and strings[1] == ":"):
        return strings.index("=") if "=" in strings else len(strings)
    return 0


def _numbers(text: str) -> tuple[str, ...]:
    try:
        value = int(text, 0)
    except ValueError:
        return ()
    if text.lower().startswith("0x"):
        return (hex(value + 1), hex(value - 1)) if value else ("0x1",)
    return (str(value + 1), str(value - 1)) if value else ("1",)


def _is_else(statement: list[TokenInfo], i: int) -> bool:
    """Whether an operator is part of something else: a sign, an address, a cast, a type."""
    token, before = statement[i], statement[i - 1] if i else None
    if token.string == "is" and i + 1 < len(statement) and statement[i + 1].string == "not":
        return False
    if token.string not in BINARY:
        return False
    valued = before is not None and (before.type in (NAME, NUMBER) or before.string in (")", "]"))
    if not valued or (
        before is not None and before.string in ("return", "and", "or", "not", "if", "else", "in", "while")
    ):
        return True
    after = "".join(each.string for each in statement[i + 1 : i + 4])
    cast = token.string == ">" and any(each.string == "<" for each in statement[max(i - 4, 0) : i])
    return cast or (token.string == "<" and re.match(r"(const)?\w+\**>", after) is not None)


def _with_neighbour(statement: list[TokenInfo], i: int, instead: str) -> tuple[TokenInfo, str]:
    """`is not` and `not in` are two tokens and one operator."""
    token = statement[i]
    after = statement[i + 1] if i + 1 < len(statement) else None
    before = statement[i - 1] if i else None
    if token.string == "is" and after is not None and after.string == "not" and after.start[0] == token.start[0]:
        joined = token._replace(end=after.end, string="is not")
        return joined, "is"
    if token.string == "not" and before is not None and before.string == "is" and before.start[0] == token.start[0]:
        return before._replace(end=token.end, string="is not"), "is"
    return token, instead


def _swapped(statement: list[TokenInfo], i: int) -> tuple[TokenInfo, str] | None:
    """A call with exactly two names has them the other way round."""
    if i == 0 or i + 4 >= len(statement) or statement[i].string != "(" or statement[i - 1].type != NAME:
        return None
    first, comma, second, close = statement[i + 1 : i + 5]
    if (
        first.type == second.type == NAME
        and comma.string == ","
        and close.string == ")"
        and first.string != second.string
    ):
        joined = first._replace(end=second.end, string=f"{first.string}, {second.string}")
        if first.start[0] == second.end[0]:
            return joined, f"{second.string}, {first.string}"
    return None
