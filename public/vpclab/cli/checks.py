"""Verbs that prove claims: check."""

from __future__ import annotations

import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click
from rich.markup import escape
from rich.table import Table

from dataplane.errors import ConfigurationError, Problem
from vpclab.cli.output import console, show_json

if TYPE_CHECKING:
    from dataplane.analysis.judge import Result
    from dataplane.topology import Topology

_file_argument = click.argument("file", type=click.Path(exists=True, dir_okay=False, path_type=Path))


@click.command()
@_file_argument
@click.option("--static", is_flag=True, help="Decide by the rules alone: no lab, no root, no packets.")
@click.option(
    "--format",
    "output",
    type=click.Choice(["table", "json", "junit"]),
    default="table",
    show_default=True,
    help="table for people, json for programs, junit (XML) for CI systems.",
)
@click.option("--junit", metavar="FILE", type=click.Path(path_type=Path), help="Also write JUnit XML to FILE.")
def check(file: Path, static: bool, output: str, junit: Path | None) -> None:
    """Prove the `checks:` of FILE: who can reach whom, and who cannot, because of which rule.

    Exit 0 when all hold, 1 when some do not, 2 when FILE is wrong or has no checks, 3 when the lab is in trouble.
    """
    from dataplane.analysis.told import as_json, as_junit  # late, as in vpclab.lab

    if not static:
        raise click.UsageError("say --static: checks with real packets are not there yet")
    began = time.monotonic()
    topology = _checked_topology(file)
    results = _decided(topology)
    name = topology.lab.name or file.stem
    took_s = time.monotonic() - began
    if output == "json":
        show_json(as_json(results, file=str(file), how="static"))
    elif output == "junit":
        click.echo(as_junit(results, name=name, file=str(file), seconds=took_s), nl=False)
    else:
        print_results(results, how="by its rules alone, without packets")
    if junit is not None:
        junit.write_text(as_junit(results, name=name, file=str(file), seconds=took_s))
    sys.exit(0 if all(each.holds for each in results) else 1)


def _checked_topology(file: Path) -> Topology:
    from dataplane.load import load_topology

    topology = load_topology(file)
    if not topology.lab.checks:
        problem = Problem("checks", "there are no checks", "", "write some, for example - {can: app -> web, port: 80}")
        raise ConfigurationError([Problem(problem.path, problem.message, hint=problem.hint, file=str(file))])
    return topology


def _decided(topology: Topology) -> list[Result]:
    from dataplane.analysis.judge import judge
    from dataplane.analysis.oracle import Oracle

    oracle = Oracle(topology)
    return [
        judge(number, oracle.follow(each.resolve(topology))) for number, each in enumerate(topology.lab.checks, start=1)
    ]


def print_results(results: Sequence[Result], *, how: str) -> None:
    """Print a line for each check, and the way of the packet of each that does not hold."""
    from dataplane.analysis.told import story

    screen = console()
    table = Table(header_style="bold", pad_edge=False, box=None)
    for heading in ("", "holds", "check", "what decided"):
        table.add_column(heading, overflow="fold")
    for each in results:
        verdict = "[green]yes[/]" if each.holds else "[bold red]NO[/]"
        table.add_row(str(each.number), verdict, escape(str(each.check)), escape(each.why))
    screen.print(table)
    for each in results:
        if not each.holds:
            because = f", because {each.check.because}" if each.check.because else ""
            screen.print(
                f"\n[bold red]{each.number}. does not hold:[/] {escape(str(each.check) + because)}", soft_wrap=True
            )
            for line in story(each):
                screen.print(line, markup=False, soft_wrap=True)
    holding = sum(each.holds for each in results)
    screen.print(f"\n{holding} of {len(results)} checks hold, decided {how}", markup=False)


COMMANDS = (check,)
