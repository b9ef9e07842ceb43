"""Verbs about a lab as a whole: up, down, apply, validate, status, report, gc, version."""

from __future__ import annotations

import shutil
import sys
import time
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from dataplane.errors import ConfigurationError, LabError
from lab.gc import NotRemovedError, Removed
from vpclab.cli.output import console, duration, format_option, memory, show, show_json
from vpclab.cli.selection import Selection, lab_option
from vpclab.lab import Lab
from vpclab.version import installed_version

if TYPE_CHECKING:
    from dataplane.load import Marks
    from dataplane.topology import Topology

_file_argument = click.argument("file", type=click.Path(exists=True, dir_okay=False, path_type=Path))


@click.command()
@click.argument("file", type=click.Path(exists=True, dir_okay=False, path_type=Path), required=False)
@click.option("--name", metavar="NAME", help="Name of the lab; the file's own name when not given.")
@click.option("--resume", is_flag=True, help="Instead of FILE: bring back a lab whose daemon was killed.")
@click.pass_obj
def up(selection: Selection, file: Path | None, name: str | None, resume: bool) -> None:
    """Start the lab described in FILE; it runs until `vpclab down`.

    With --resume, take over the instances of a lab whose daemon was killed. They run on for ten minutes, without a
    network. The lab is what was applied last, and its programs are the same processes. TCP connections go on, through
    security groups and NAT gateways too; of those that cannot, `vpclab status` tells.
    """
    if name not in (None, selection.name):
        selection.refuse_beside(name, "--name")
    name = name or selection.name
    if resume == (file is not None):
        raise click.UsageError("Say either FILE or --resume: a lab comes back as it was, `vpclab apply` changes it.")
    lab = Lab.interrupted(name) if file is None else Lab.load(file, name=name or "", unique=False)
    began = time.monotonic()
    problem = lab.resume() if resume else lab.up(detached=True)
    took_s = time.monotonic() - began
    found = lab.status()
    again = " again" if resume else ""
    click.echo(f"lab {lab.name} is up{again}: {len(found['nodes'])} nodes in {took_s:.2f} s, daemon {found['pid']}")
    for warning in found["warnings"]:
        click.echo(f"vpclab: {warning}", err=True)
    if problem:
        click.echo(f"vpclab: the lab is up, but {problem}", err=True)
        sys.exit(1)


@click.command()
@click.argument("name", required=False)
@lab_option
@click.pass_obj
def down(selection: Selection, name: str | None) -> None:
    """Stop a lab and remove everything it made; wait until it is gone."""
    if name not in (None, selection.name):
        selection.refuse_beside(name, "NAME")
    name = name or selection.name
    if name is None or name in Lab.running():
        lab = Lab.attach(name)
        lab.down()
        click.echo(f"lab {lab.name} is down")
        return
    removed = Lab.collect_garbage(name)
    if not removed:
        raise LabError(f"lab {name!r} is not running, and nothing of it is left")
    for line in map(_removal, removed):
        click.echo(f"{line} (its daemon was dead)")


@click.command()
@_file_argument
@click.option("--dry-run", is_flag=True, help="Show what would change, and change nothing.")
@format_option
@lab_option
@click.pass_obj
def apply(selection: Selection, file: Path, dry_run: bool, output: str) -> None:
    """Change the running lab to what FILE says; flows that touch no changed object survive."""
    actions = selection.lab().apply(file, dry_run=dry_run)
    if output == "json":
        show_json({"applied": not dry_run and bool(actions), "actions": actions})
        return
    signs = {"add": "+", "remove": "-", "change": "~"}
    for action in actions:
        click.echo(f"  {signs[action['action']]} {action['kind']} {action['path']}{_detail(action)}")
    if not actions:
        click.echo("nothing to change")
    elif dry_run:
        click.echo(f"{len(actions)} changes; nothing was done (--dry-run)")
    else:
        click.echo(f"{len(actions)} changes applied")


def _detail(action: dict[str, Any]) -> str:
    return f": {action['detail']}" if action["detail"] else ""


@click.command()
@_file_argument
@format_option
def validate(file: Path, output: str) -> None:
    """Check FILE: every problem with its line, what is wrong and what would be right. Starts nothing.

    Where a slip keeps other parts from being judged, the last line says which. Filters of captures are compiled where
    libpcap is installed.
    """
    from dataplane.load import load  # late, as in vpclab.lab

    try:
        loaded = load(file)
        topology = loaded.topology()
        _check_filters(topology, loaded.marks)
    except ConfigurationError as error:
        if output != "json":
            raise
        problems = [asdict(problem) for problem in error.problems]
        show_json({"file": str(file), "ok": False, "problems": problems, "unjudged": list(error.unjudged)})
        sys.exit(error.exit_code)
    counts = {
        "vpcs": len(topology.lab.vpcs),
        "subnets": len(topology.subnets),
        "instances": len(topology.lab.instances),
        "internet_hosts": len(topology.hosts),
        "interfaces": len(topology.interfaces),
        "public_addresses": len(topology.public_addresses),
    }
    if output == "json":
        show_json({"file": str(file), "ok": True, **counts})
        return
    things = ", ".join(f"{count} {what.replace('_', ' ')}" for what, count in counts.items())
    click.echo(f"{file}: ok: {things}")


def _check_filters(topology: Topology, marks: Marks) -> None:
    if not any(capture.filter for capture in topology.lab.captures.values()):
        return
    from lab.capture import check_filters

    try:
        problems = list(check_filters(topology))
    except LabError as error:
        click.echo(f"vpclab: filters of captures were not looked at: {error}", err=True)
        return
    if problems:
        raise ConfigurationError(map(marks.located, problems))


@click.command()
@click.option("--limits", is_flag=True, help="Show what packets can fill instead, and how much memory that takes.")
@format_option
@lab_option
@click.pass_obj
def status(selection: Selection, limits: bool, output: str) -> None:
    """Nodes, their addresses, programs and packet counts."""
    if output == "table" and selection.name is None and not Lab.running() and not Lab.waiting():
        click.echo("no lab is running")
        return
    if limits:
        _show_limits(selection.lab().limits(), output)
        return
    report = selection.lab().status()
    if output == "json":
        show_json(report)
        return
    screen = console()
    screen.print(
        f"lab {report['name']}  up {duration(report['uptime_s'])}  daemon {report['pid']}  "
        f"clock offset {report['clock_offset_s']:g} s  {report['file']}"
    )
    for warning in report["warnings"]:
        screen.print(f"note: {warning}")
    rows = []
    for node in report["nodes"]:
        programs = [f"{program['name']} {program['state']}" for program in node["programs"]]
        for index, interface in enumerate(node["interfaces"]):
            first = index == 0
            rows.append(
                {
                    "node": node["name"] if first else "",
                    "where": interface["subnet"] or "internet",
                    "device": interface["device"],
                    "addresses": interface["addresses"],
                    "public": interface["public_addresses"],
                    "sent": interface["counters"]["sent_packets"],
                    "received": interface["counters"]["received_packets"],
                    "dropped": interface["counters"]["dropped_packets"],
                    "programs": [*([node["attach"]] if node["attach"] else []), *programs] if first else [],
                }
            )
    headings = ("node", "where", "device", "addresses", "public", "sent", "received", "dropped", "programs")
    show(rows, {heading: heading for heading in headings}, output)
    for node in report["nodes"]:
        for program in node["programs"]:
            if program["message"]:
                screen.print(
                    f"{node['name']}: {program['name']} {program['state']}: {program['message']}; {program['log']}"
                )


def _show_limits(found: dict[str, Any], output: str) -> None:
    if output == "json":
        show_json(found)
        return
    rows = [{**row, "bytes": memory(row["bytes"]) if row["bytes"] else None} for row in found["limits"]]
    columns = {"what": "what", "now": "now", "at most": "most", "memory": "bytes", "when that is full": "full"}
    show(rows, columns, output)
    console().print(
        f"with the captures that run, packets can make the lab take {memory(found['bytes'])} at most, "
        "on top of what it took before the first; "
        f"it takes {memory(found['resident_bytes'])} now"
    )


@click.command()
@lab_option
@format_option
@click.pass_obj
def report(selection: Selection, output: str) -> None:
    """Who reaches whom, by which path, and what decided where not: found out with real packets.

    Exit 1 when the traffic and the trace disagree about anything.
    """
    from lab.report import examine
    from lab.report_text import next_steps, render_report

    lab = selection.lab()
    findings = examine(lab)
    if output == "json":
        show_json(findings.to_json())
    else:
        render_report(findings, console())
        click.echo("\nTry next:")
        command = f"{_command_name()} --lab {lab.name}" if len(Lab.running()) > 1 else _command_name()
        for line in next_steps(findings, command):
            click.echo(f"  {line}")
    if findings.disagreements:
        click.get_current_context().exit(1)


def _command_name() -> str:
    """How the user calls us: as installed, or by the launcher of the tree."""
    return "vpclab" if shutil.which("vpclab") else "./vpclab"


@click.command()
@format_option
def gc(output: str) -> None:
    """Remove everything that killed labs left behind; running labs are not touched."""
    problem: NotRemovedError | None = None
    try:
        removed = Lab.collect_garbage()
    except NotRemovedError as error:
        removed, problem = error.removed, error
    if output == "json":
        show_json([asdict(one) for one in removed])
    else:
        for line in map(_removal, removed):
            click.echo(line)
        if not removed and problem is None:
            click.echo("nothing to remove")
    if problem is not None:
        raise problem


def _removal(removed: Removed) -> str:
    parts = [f"{removed.processes} processes"] if removed.processes else []
    parts += [f"namespaces {', '.join(removed.namespaces)}"] if removed.namespaces else []
    parts += [removed.folder] if removed.folder else []
    return f"removed of lab {removed.lab}: {'; '.join(parts) or 'nothing'}"


@click.command()
@format_option
def labs(output: str) -> None:
    """The labs that run."""
    rows = []
    for name in Lab.running():
        row = dict.fromkeys(("name", "pid", "nodes", "uptime_s", "file")) | {"name": name}
        try:
            found = Lab.attach(name).status()
        except LabError as error:
            if name not in Lab.running():
                continue  # it went down between the two questions
            click.echo(f"vpclab: {error}", err=True)
        else:
            row |= {key: found[key] for key in ("pid", "uptime_s", "file")} | {"nodes": len(found["nodes"])}
        rows.append(row)
    columns = {"name": "name", "daemon": "pid", "nodes": "nodes", "up (s)": "uptime_s", "file": "file"}
    show(rows, columns, output, empty="no lab is running")


@click.command()
@format_option
def version(output: str) -> None:
    """The version of vpclab."""
    if output == "json":
        show_json({"version": installed_version()})
    else:
        click.echo(f"vpclab {installed_version()}")


COMMANDS = (up, down, apply, validate, status, report, gc, labs, version)
