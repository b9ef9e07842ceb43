"""What the command prints: tables for people, JSON for programs, errors in one line."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, TypeVar

import click

from dataplane.errors import ConfigurationError, VpclabError

if TYPE_CHECKING:
    from rich.console import Console

# Width when the output is not a terminal: nothing is folded, so that `grep` finds whole rows.
_PIPE_WIDTH = 1000

Row = Mapping[str, Any]
Function = TypeVar("Function", bound=Callable[..., Any])


def console() -> Console:
    """Standard output; colours only on a terminal."""
    from rich.console import Console  # late: many verbs print no table

    terminal = sys.stdout.isatty()
    return Console(highlight=False, soft_wrap=False, width=None if terminal else _PIPE_WIDTH)


def format_option(function: Function) -> Function:
    """The option ``--format table|json`` of every verb that prints a table."""
    return click.option(
        "--format",
        "output",
        type=click.Choice(["table", "json"]),
        default="table",
        show_default=True,
        help="table for people, json for programs.",
    )(function)


def show(rows: Sequence[Row], columns: Mapping[str, str], output: str, *, title: str = "", empty: str = "none") -> None:
    """Print rows as a table with these columns (heading -> key of the row), or as JSON with all keys.

    `empty` is printed instead of a table without rows.
    """
    if output == "json":
        show_json(list(rows))
        return
    from rich.markup import escape
    from rich.table import Table

    screen = console()
    if not rows:
        screen.print(f"{title}: {empty}" if title else empty)
        return
    table = Table(title=title or None, title_justify="left", header_style="bold", pad_edge=False, box=None)
    for heading in columns:
        table.add_column(heading, overflow="fold")
    for row in rows:
        table.add_row(*(escape(cell(row.get(key))) for key in columns.values()))
    screen.print(table)


def show_json(value: Any) -> None:
    """Print a value as JSON, one document."""
    click.echo(json.dumps(value, indent=2))


def cell(value: Any) -> str:
    """How a value looks in a table."""
    if value is None:
        return "-"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, (list, tuple)):
        return ", ".join(cell(item) for item in value) or "-"
    return str(value)


def duration(seconds: float) -> str:
    """A length of time as people say it: ``4.2s``, ``3m05s``, ``2h10m``, ``5d00h``."""
    if seconds < 60:
        return f"{seconds:.0f}s" if seconds >= 10 else f"{seconds:.1f}s"
    whole = int(seconds)
    if whole < 3600:
        return f"{whole // 60}m{whole % 60:02}s"
    if whole < 86400:
        return f"{whole // 3600}h{whole % 3600 // 60:02}m"
    return f"{whole // 86400}d{whole % 86400 // 3600:02}h"


def memory(count: int) -> str:
    """An amount of memory, rounded up: ``11 MiB``."""
    return f"{-(-count >> 20)} MiB"


def printable(text: str) -> str:
    """Text of a file that anybody may have written: a terminal is not to obey it."""
    return "".join(each if each.isprintable() else each.encode("unicode_escape").decode() for each in text)


def complain(error: VpclabError) -> None:
    """Print an error to standard error, one line per problem."""
    if isinstance(error, ConfigurationError):
        for problem in error.problems:
            _complain(str(problem))
        count = len(error.problems)
        if count > 1:
            click.echo(f"vpclab: {count} problems", err=True)
        if error.outlook:
            _complain(f"vpclab: {error.outlook}")
        return
    _complain(f"vpclab: {error}")


def _complain(words: str) -> None:
    click.echo("\n".join(map(printable, words.split("\n"))), err=True)


def clock_text(time_ns: int) -> str:
    """Time of day, here, with nanoseconds."""
    seconds, nanoseconds = divmod(time_ns, 10**9)
    return f"{time.strftime('%H:%M:%S', time.localtime(seconds))}.{nanoseconds:09}"
