"""Verbs that prove claims: check."""

from __future__ import annotations

import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
from rich.markup import escape
from rich.table import Table

from dataplane.errors import ConfigurationError, Problem
from vpclab.cli.output import console, show_json
from vpclab.cli.selection import Selection, lab_option
from vpclab.lab import Lab

if TYPE_CHECKING:
    from dataplane.analysis.told import Row

_HOW = {"static": "by its rules alone, without packets", "packets": "with real packets"}


@click.command()
@click.argument("file", required=False, type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.option("--static", is_flag=True, help="Decide by the rules of FILE alone: no lab, no root, no packets.")
@click.option(
    "--format",
    "output",
    type=click.Choice(["table", "json", "junit"]),
    default="table",
    show_default=True,
    help="table for people, json for programs, junit (XML) for CI systems.",
)
@click.option("--junit", metavar="FILE", type=click.Path(path_type=Path), help="Also write JUnit XML to FILE.")
@lab_option
@click.pass_obj
def check(selection: Selection, file: Path | None, static: bool, output: str, junit: Path | None) -> None:
    """Prove the `checks:` of FILE: who can reach whom, and who cannot, because of which rule.

    A lab of FILE is started for it, with real packets of real kernels, and is gone afterwards. Without FILE, the
    running lab proves its own.

    Exit 0 when all hold, 1 when some do not, 2 when FILE is wrong or has no checks, 3 when the lab is in trouble.
    """
    from dataplane.analysis.told import as_junit, document  # late, as in vpclab.lab

    began = time.monotonic()
    how = "static" if static else "packets"
    if file is not None:
        name, where = file.stem, str(file)
        rows = _decided(file) if static else _proven(file)
    elif static:
        raise click.UsageError("--static is about a FILE; a running lab proves its checks with packets")
    else:
        lab = selection.lab()
        answer = lab._prove(None, 3.0)
        name, where, rows = lab.name, answer["file"], answer["checks"]
    if not rows:
        raise ConfigurationError([_no_checks(where)])
    took_s = time.monotonic() - began
    if output == "json":
        show_json(document(rows, file=where, how=how))
    elif output == "junit":
        click.echo(as_junit(rows, name=name, file=where, seconds=took_s), nl=False)
    else:
        print_results(rows, how=_HOW[how])
    if junit is not None:
        junit.write_text(as_junit(rows, name=name, file=where, seconds=took_s))
    sys.exit(0 if all(row["holds"] for row in rows) else 1)


def _no_checks(file: str) -> Problem:
    return Problem(
        "checks", "there are no checks", hint="write some, for example - {can: app -> web, port: 80}", file=file
    )


def _proven(file: Path) -> list[dict[str, Any]]:
    with Lab.load(file) as lab:
        return lab.check()


def _decided(file: Path) -> list[dict[str, Any]]:
    from dataplane.analysis.judge import judge
    from dataplane.analysis.oracle import Oracle
    from dataplane.analysis.told import row_of
    from dataplane.load import load_topology

    topology = load_topology(file)
    oracle = Oracle(topology)
    courses = [oracle.follow(each.resolve(topology)) for each in topology.lab.checks]
    return [row_of(judge(number, course)) for number, course in enumerate(courses, start=1)]


def print_results(rows: Sequence[Row], *, how: str) -> None:
    """Print a line for each check, and the way of the packet of each that does not hold."""
    from dataplane.analysis.told import story

    screen = console()
    table = Table(header_style="bold", pad_edge=False, box=None)
    for heading in ("", "holds", "check", "what decided"):
        table.add_column(heading, overflow="fold")
    for row in rows:
        verdict = "[green]yes[/]" if row["holds"] else "[bold red]NO[/]"
        table.add_row(str(row["number"]), verdict, escape(row["check"]), escape(row["why"]))
    screen.print(table)
    for row in rows:
        if not row["holds"]:
            because = f", because {row['because']}" if row["because"] else ""
            claim = escape(f"{row['check']}{because}")
            screen.print(f"\n[bold red]{row['number']}. does not hold:[/] {claim}", soft_wrap=True)
            for line in story(row):
                screen.print(line, markup=False, soft_wrap=True)
    holding = sum(row["holds"] for row in rows)
    screen.print(f"\n{holding} of {len(rows)} checks hold, decided {how}", markup=False)


COMMANDS = (check,)
