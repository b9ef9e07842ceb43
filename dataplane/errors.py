"""What can go wrong outside of packets: wrong files, exceeded limits, an operating system that refuses.

A packet never raises; these are for people. Every message says what, where, and what to do instead.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Problem:
    """One thing wrong with a lab file."""

    path: str
    """Dotted path in the lab file, e.g. ``vpcs.shop.subnets.public.cidr``."""
    message: str
    code: str = ""
    """The AWS error code for it, where AWS has one, e.g. ``InvalidSubnet.Conflict``."""
    hint: str = ""
    """What would be right."""
    file: str = ""
    line: int = 0
    """1 and up; 0: not known."""
    column: int = 0

    def __str__(self) -> str:
        where = ""
        if self.file:
            where = f"{self.file}:{self.line}:{self.column}: " if self.line else f"{self.file}: "
        what = f"{self.path}: {self.message}" if self.path else self.message
        code = f" [{self.code}]" if self.code else ""
        hint = f"; {self.hint}" if self.hint else ""
        return f"{where}{what}{code}{hint}"


class VpclabError(Exception):
    """Base of all errors meant for a user. `exit_code` is what the command ends with."""

    exit_code = 3


EVERYTHING_ELSE = "everything else"
"""Stands for paths where no part of a file could be judged."""
_NAMED = 6
"""Of what was not judged, so many are told by name."""


class ConfigurationError(VpclabError):
    """A lab file is wrong; `problems` holds what is wrong with it, in the order of the file.

    `unjudged` are the dotted paths of the parts that no more can be said of before these are mended: an instance
    cannot be compared with a VPC that could not be read.
    """

    exit_code = 2

    def __init__(self, problems: Iterable[Problem], *, unjudged: Iterable[str] = ()) -> None:
        self.problems = tuple(sorted(problems, key=lambda p: (p.file, p.line, p.column)))
        self.unjudged = tuple(unjudged)
        super().__init__("\n".join([*map(str, self.problems), *filter(None, [self.outlook])]))

    @property
    def outlook(self) -> str:
        """The sentence that says what was not judged yet; empty when everything was."""
        shown = list(self.unjudged[:_NAMED])
        if len(self.unjudged) > _NAMED:
            shown = [*shown[:-1], f"{len(self.unjudged) - _NAMED + 1} more"]
        if not shown:
            return ""
        verb = "is" if len(shown) == 1 and shown[0] not in ("captures", "checks") else "are"
        listed = ", ".join(shown[:-1]) + " and " + shown[-1] if len(shown) > 1 else shown[0]
        return f"{listed} {verb} judged once this is mended"


class LimitError(VpclabError):
    """A limit of ours is reached; the message says which, how much there is and how much there may be."""


class LabError(VpclabError):
    """The operating system refused something; the message says what to do about it."""
