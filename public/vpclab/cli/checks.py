"""Verbs that prove claims: check, verify."""

from __future__ import annotations

import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
from rich.markup import escape
from rich.table import Table

from dataplane.errors import ConfigurationError, LabError, Problem
from vpclab.cli.output import console, format_option, show, show_json
from vpclab.cli.selection import Selection, lab_option
from vpclab.lab import Lab

if TYPE_CHECKING:
    from dataplane.analysis.told import Row

_HOW = {"static": "by its rules alone, without packets", "packets": "with real packets"}


_file_argument = click.argument("file", type=click.Path(exists=True, dir_okay=False, path_type=Path))


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
@click.option("--matrix", is_flag=True, help="Instead of checks: who reaches whom, by which protocols and ports.")
@click.option("--junit", metavar="FILE", type=click.Path(path_type=Path), help="Also write JUnit XML to FILE.")
@lab_option
@click.pass_obj
def check(selection: Selection, file: Path | None, static: bool, output: str, matrix: bool, junit: Path | None) -> None:
    """Prove the `checks:` of FILE: who can reach whom, and who cannot, because of which rule.

    A lab of FILE is started for it, with real packets of real kernels, and is gone afterwards. Without FILE, the
    running lab proves its own.

    Exit 0 when all hold, 1 when some do not, 2 when FILE is wrong or has no checks, 3 when the lab is in trouble.
    """
    from dataplane.analysis.told import as_junit, document  # late, as in vpclab.lab

    selection.refuse_beside(file, "FILE")
    if matrix:
        if file is None or output == "junit" or junit is not None:
            raise click.UsageError("--matrix is about a FILE, and is a table or json")
        _print_matrix(file, static=static, output=output)
        return
    began = time.monotonic()
    how = "static" if static else "packets"
    if file is not None:
        name, where = file.stem, str(file)
        rows = _decided(file) if static else _proven(file)
    elif static:
        raise click.UsageError("--static is about a FILE; a running lab proves its checks with packets")
    else:
        lab = selection.lab()
        name, where, rows = lab.name, lab.status()["file"], lab.check()
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
        try:
            junit.write_text(as_junit(rows, name=name, file=where, seconds=took_s), encoding="utf-8")
        except OSError as error:
            raise LabError(f"{junit} cannot be written: {error.strerror}") from None
    sys.exit(0 if all(row["holds"] for row in rows) else 1)


def _no_checks(file: str) -> Problem:
    return Problem(
        "checks", "there are no checks", hint="write some, for example - {can: app -> web, port: 80}", file=file
    )


def _proven(file: Path) -> list[dict[str, Any]]:
    with Lab.load(file) as lab:
        return lab.check(apart=True)  # its clock is nobody else's


def _decided(file: Path) -> list[dict[str, Any]]:
    from dataplane.load import load_topology
    from vpclab.cli.questions import decided

    topology = load_topology(file)
    return decided(topology, topology.lab.checks)


def _print_matrix(file: Path, *, static: bool, output: str) -> None:
    from dataplane.analysis.classes import questions
    from dataplane.analysis.matrix import derive, in_words
    from dataplane.load import load_topology
    from vpclab.cli.questions import decided, proven

    topology = load_topology(file)
    asked = list(questions(topology, every_sample=False))
    checks = [each.check for each in asked]
    lines = derive(topology, asked, decided(topology, checks) if static else proven(file, checks))
    if output == "json":
        show_json({"version": 1, "file": str(file), "decided_by": "static" if static else "packets", "matrix": lines})
        return
    rows = [
        {
            "from": line["from"],
            "to": f"{line['to']} {line['address']}",
            "reaches": in_words(line["reaches"]),
            "undecided": in_words(line["undecided"]),
            "stopped": next(iter(line["stopped"]), "-"),
        }
        for line in lines
    ]
    columns = {"from": "from", "to": "to", "reaches by": "reaches", "nobody can tell": "undecided"}
    if all(row["undecided"] == "-" for row in rows):
        del columns["nobody can tell"]
    show(rows, {**columns, "what stops most of the rest": "stopped"}, output)


@click.command()
@_file_argument
@format_option
def verify(file: Path, output: str) -> None:
    """Compare rules and packets: for all that FILE tells apart, a packet must do what the reference engine says.

    Every pair of nodes, every address, protocol and port that rules, routes or groups treat differently is asked once,
    in a lab of its own. A disagreement is a bug of vpclab. Exit 1 when there is one. What is behind a TAP device sends
    by itself, so packets from there are left out.
    """
    from dataplane.analysis.classes import can_be_asked, questions
    from dataplane.analysis.verifying import difference, is_left_to_programs
    from dataplane.load import load_topology
    from vpclab.cli.questions import decided, proven

    topology = load_topology(file)
    asked = [(each.check, each.check.resolve(topology)) for each in questions(topology, every_sample=True)]
    checks = [check for check, resolved in asked if can_be_asked(topology, resolved.sender.node)]
    left_out = len(asked) - len(checks)
    seen = proven(file, checks)
    expected = decided(topology, checks, [row["source_port"] for row in seen])
    bugs = [
        {"check": told["check"], "difference": found, "expected": told, "seen": row}
        for told, row in zip(expected, seen, strict=True)
        if (found := difference(topology, told, row))
    ]
    left = sum(is_left_to_programs(row) for row in seen)
    if output == "json":
        show_json(
            {
                "version": 1,
                "file": str(file),
                "asked": len(checks),
                "left_out": left_out,
                "left_to_programs": left,
                "disagreements": bugs,
            }
        )
    else:
        _print_bugs(file, bugs)
        agreed = len(checks) - len(bugs) - left
        wrong = f"{len(bugs)} did not, " if bugs else ""
        click.echo(
            f"{file}: {len(checks)} packets, {agreed} did what the rules say, {wrong}{left} were left to programs"
            + (f"; {left_out} were left out: what is behind a TAP device sends by itself" if left_out else "")
        )
    sys.exit(1 if bugs else 0)


def _print_bugs(file: Path, bugs: Sequence[Row]) -> None:
    from dataplane.analysis.told import story

    for bug in bugs:
        row = bug["seen"]
        port = f", port: {row['port']}" if row["port"] else ""
        claim = f"{{can: {row['from']} -> {row['to']}, protocol: {row['protocol']}{port}}}"
        click.echo(f"BUG {bug['check']}: {bug['difference']}; please report it, with {file} and:")
        click.echo(f"checks: [{claim}]   # vpclab check FILE, and again with --static")
        for who, told in (("the packets", row), ("the oracle", bug["expected"])):
            click.echo(f"  {who}:")
            for line in story(told):
                click.echo(f"    {line}")


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


COMMANDS = (check, verify)
