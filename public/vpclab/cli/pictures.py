"""Verbs that show a whole lab at once: graph (a picture of it) and top (what goes through it, as it goes)."""

from __future__ import annotations

import contextlib
import itertools
import json
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click
from rich.console import Group, RenderableType
from rich.live import Live
from rich.markup import escape
from rich.table import Table

from dataplane.errors import LabError
from vpclab.cli import rates
from vpclab.cli.output import console, show_json
from vpclab.cli.selection import Selection, lab_option
from vpclab.lab import Lab

_FORMATS = ("svg", "mermaid", "dot", "json")
_ENDINGS = {".svg": "svg", ".mmd": "mermaid", ".mermaid": "mermaid", ".dot": "dot", ".gv": "dot", ".json": "json"}
_DOT_LIMIT_S = 60
_MEASURED_S = 1.0
_ROWS = 12
"""Interfaces, and flows, that `top` shows: those with the most packets, and the most bits."""
Row = dict[str, Any]


@click.command()
@click.argument("file", required=False, type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.option(
    "--format",
    "output",
    type=click.Choice(_FORMATS),
    help="svg (by graphviz), mermaid, dot or json; by the ending of --output, else mermaid.",
)
@click.option(
    "-o", "--output", "target", metavar="FILE", type=click.Path(path_type=Path), help="Where to; else it is printed."
)
@click.option("--traffic", is_flag=True, help="Mark the rates of nodes, gateways and routes, and where packets die.")
@click.option(
    "--seconds", type=click.FloatRange(0.1, 600), help="With --traffic: how long to measure rates; 1 when not given."
)
@lab_option
@click.pass_obj
def graph(
    selection: Selection,
    file: Path | None,
    output: str | None,
    target: Path | None,
    traffic: bool,
    seconds: float | None,
) -> None:
    """Draw the running lab, or FILE: Regions, VPCs, zones, subnets, what is in them, and where routes lead.

    Mermaid is drawn by GitHub and many wikis; `vpclab graph -o lab.svg` needs graphviz.
    """
    from dataplane.picture import dot, draw, mermaid  # late, as in vpclab.lab

    if traffic and file is not None:
        raise click.UsageError("--traffic is about a running lab: leave FILE out")
    if seconds is not None and not traffic:
        raise click.UsageError("--seconds is how long --traffic measures: write --traffic, too")
    selection.refuse_beside(file, "FILE")
    if file is not None:
        from dataplane.load import load_topology

        picture = draw(load_topology(file), name=file.stem)
    else:
        lab = selection.lab()
        picture = lab.picture()
        if traffic:
            before = lab.traffic(ways=True)
            time.sleep(_MEASURED_S if seconds is None else seconds)
            picture = picture.marked(rates.marks(before, lab.traffic(ways=True)))
    output = output or _ENDINGS.get("" if target is None else target.suffix.lower(), "mermaid")
    if output == "json" and target is None:
        show_json(picture.to_json())
        return
    if output == "svg":
        text = _drawn(dot(picture))
    elif output == "json":
        text = json.dumps(picture.to_json(), indent=2) + "\n"
    else:
        text = mermaid(picture) if output == "mermaid" else dot(picture)
    if target is None:
        click.echo(text, nl=False)
        return
    try:
        target.write_text(text)
    except OSError as error:
        raise LabError(f"{target}: {error.strerror}") from error
    click.echo(f"drew {picture.name} in {target}", err=True)


def _drawn(text: str) -> str:
    """A graph in DOT as SVG, drawn by graphviz."""
    try:
        done = subprocess.run(
            ["dot", "-Tsvg"], input=text, capture_output=True, text=True, timeout=_DOT_LIMIT_S, check=False
        )
    except FileNotFoundError:
        raise LabError(
            "graphviz's dot is not installed; run: sudo apt-get install -y graphviz (or: --format mermaid)"
        ) from None
    except subprocess.TimeoutExpired:
        raise LabError(f"graphviz's dot took longer than {_DOT_LIMIT_S} s; use --format mermaid") from None
    if done.returncode:
        raise LabError(f"graphviz's dot: {done.stderr.strip() or f'exit status {done.returncode}'}")
    return done.stdout


@click.command()
@click.option(
    "--interval",
    default=1.0,
    show_default=True,
    type=click.FloatRange(0.1, 3600),
    metavar="SECONDS",
    help="How often to look.",
)
@click.option("-n", "--count", default=0, type=click.IntRange(0), help="End after so many looks; 0: until Ctrl-C.")
@lab_option
@click.pass_obj
def top(selection: Selection, interval: float, count: int) -> None:
    """What goes through the running lab, again and again: rates, drops by reason, NAT ports, flows.

    On a terminal it is redrawn in place; elsewhere each look is printed below the last.
    """
    lab, screen = selection.lab(), console()
    looks = _looks(lab, interval, count)
    with contextlib.suppress(KeyboardInterrupt):
        if not screen.is_terminal:
            for shown in looks:
                screen.print(shown, "", sep="\n", end="")
                sys.stdout.flush()
            return
        with Live(console=screen, auto_refresh=False, screen=count == 0) as live:
            for shown in looks:
                live.update(shown, refresh=True)


def _looks(lab: Lab, interval: float, number: int) -> Iterator[RenderableType]:
    before = lab.traffic()
    for _ in range(number) if number else itertools.count():
        time.sleep(interval)
        after = lab.traffic()
        yield look(lab.name, before, after)
        before = after


def look(name: str, before: rates.Sample, after: rates.Sample) -> RenderableType:
    """What `top` shows of the time between two samples."""
    interfaces = rates.interface_rates(before, after)
    sent = sum(row["sent_bits_s"] for row in interfaces)
    drops = rates.drop_rates(before, after)
    flows = rates.flow_rates(before, after)
    remembered = ", ".join(f"{number} {kind}" for kind, number in sorted(after["remembered"].items())) or "none"
    head = (
        f"lab {name}: {rates.bits(sent)}, {rates.count(sum(row['sent_packets_s'] for row in interfaces))} packets/s,"
        f" {rates.count(sum(row['dropped_s'] for row in drops))} dropped/s; remembered: {remembered}"
    )
    busy = sorted(interfaces, key=lambda row: (-row["sent_packets_s"] - row["received_packets_s"], row["node"]))
    parts: list[RenderableType] = [escape(head), "", _interfaces(busy[:_ROWS])]
    if drops:
        parts += ["", _table({"dropped because": "reason", "/s": "dropped_s", "in all": "dropped"}, drops[:_ROWS])]
    gateways = rates.gateway_rates(before, after)
    if gateways:
        parts += ["", _gateways(gateways)]
    if flows:
        parts += ["", _flows(flows[:_ROWS])]
    return Group(*parts)


def _interfaces(rows: list[Row]) -> Table:
    shown = [
        {
            "interface": f"{row['node']}/{row['device']}",
            "sent": rates.bits(row["sent_bits_s"]),
            "sent/s": row["sent_packets_s"],
            "received": rates.bits(row["received_bits_s"]),
            "received/s": row["received_packets_s"],
            "dropped/s": row["dropped_s"],
            "of what it sent, dropped because": ", ".join(row["drops"]),
        }
        for row in rows
    ]
    names = ("interface", "sent", "sent/s", "received", "received/s", "dropped/s", "of what it sent, dropped because")
    return _table({name: name for name in names}, shown)


def _gateways(rows: list[Row]) -> Table:
    shown = [
        {
            **row,
            "ports": f"{row['ports']} of {row['ports_limit']}",
            "ports_to": row["ports_to"] or "",
            "out": rates.bits(row["out_bits_s"]),
            "in": rates.bits(row["in_bits_s"]),
        }
        for row in rows
    ]
    columns = {
        "NAT gateway": "gateway",
        "connections": "connections",
        "ports in use": "ports",
        "to": "ports_to",
        "new/s": "attempts_s",
        "out": "out",
        "in": "in",
        "no free port": "no_port",
        "dropped": "dropped",
    }
    return _table(columns, shown)


def _flows(rows: list[Row]) -> Table:
    shown = [{**row, "rate": rates.bits(row["bits_s"])} for row in rows]
    columns = {"flow": "original", "protocol": "protocol", "at": "owner", "rate": "rate", "packets/s": "packets_s"}
    return _table(columns, shown)


def _table(columns: dict[str, str], rows: list[Row]) -> Table:
    """A table of these columns (heading -> key of the row); numbers at the right."""
    table = Table(header_style="bold", pad_edge=False, box=None)
    for heading, key in columns.items():
        is_number = all(isinstance(row[key], (int, float)) for row in rows)
        table.add_column(heading, justify="right" if is_number else "left", overflow="fold")
    for row in rows:
        cells = [row[key] for key in columns.values()]
        table.add_row(*(rates.count(cell) if isinstance(cell, float) else escape(str(cell)) for cell in cells))
    return table


COMMANDS = (graph, top)
