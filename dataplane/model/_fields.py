"""What every construct is made of: described fields and problems with a place."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Iterator
from dataclasses import replace

from dataplane.errors import Problem


def doc(text: str, example: object = None) -> dict[str, object]:
    """Metadata of a dataclass field: its line in the reference of the lab file, and a value to show there."""
    return {"doc": text} if example is None else {"doc": text, "example": example}


def within(path: str, problems: Iterable[Problem]) -> Iterator[Problem]:
    """Put `path` in front of the path of each problem, so that a construct need not know where it stands."""
    for problem in problems:
        tail = problem.path
        dot = "." if tail and not tail.startswith("[") else ""
        yield replace(problem, path=f"{path}{dot}{tail}")


def did_you_mean(name: str, known: Iterable[str], nothing: str = "there is none") -> str:
    """Hint with the known name most like `name`, or with what there is."""
    known = list(known)
    if not known:
        return nothing
    nearest = difflib.get_close_matches(name, known, n=1)
    if nearest:
        return f"did you mean {nearest[0]}?"
    shown = ", ".join(known[:5]) + (", ..." if len(known) > 5 else "")
    return f"there is {shown}"


def unknown(path: str, what: str, name: str, known: Iterable[str], code: str = "") -> Problem:
    """Return the problem of a name that nothing has."""
    return Problem(path, f"no {what} is called {name}", code, did_you_mean(name, known, f"there is no {what}"))
