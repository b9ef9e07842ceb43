"""The known word that somebody probably meant."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable


def nearest(word: str, known: Iterable[str]) -> str | None:
    """Return the known word most like this one, or None when none is much like it.

    Spellings of one name in other cases (``CidrBlock``, ``cidr-block``) count as alike.
    """
    by_form = {_form(candidate): candidate for candidate in known}
    form = _form(word[:100])
    if form in by_form:
        return by_form[form]
    found = difflib.get_close_matches(form, by_form, n=1, cutoff=0.6)
    return by_form[found[0]] if found else None


def did_you_mean(word: str, known: Iterable[str]) -> str:
    """Return the hint ``did you mean ...?``, or an empty one."""
    found = nearest(word, known)
    return f"did you mean {found}?" if found is not None else ""


def _form(word: str) -> str:
    snake = re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", word)
    return re.sub(r"[-\s]+", "_", snake).lower()
