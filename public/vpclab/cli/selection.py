"""Which lab a verb is about."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

import click

from vpclab.lab import Lab

Function = TypeVar("Function", bound=Callable[..., Any])


class Selection:
    """The lab named with ``--lab`` before or after the verb, else the only one that runs."""

    def __init__(self, name: str | None) -> None:
        self.name = name

    def lab(self) -> Lab:
        """The running lab.

        Raises:
            LabError: no lab runs, the named one does not, or there are several and none was named.
        """
        return Lab.attach(self.name)

    def refuse_beside(self, given: object, what: str) -> None:
        """Refuse ``--lab`` beside an argument that stands in for a running lab: it would be ignored.

        Raises:
            UsageError: both are given.
        """
        if given is not None and self.name is not None:
            raise click.UsageError(f"--lab {self.name} is about a running lab: leave it out, or {what}")


def lab_option(function: Function) -> Function:
    """The option ``--lab NAME`` after a verb; it wins over the one before the verb."""

    def choose(context: click.Context, parameter: click.Parameter, value: str | None) -> None:
        if value is not None:
            context.obj = Selection(value)

    return click.option(
        "--lab", metavar="NAME", expose_value=False, callback=choose, help="Which lab, when several run."
    )(function)
