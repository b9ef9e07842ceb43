"""Verbs that act inside a node: exec, shell, ping, restart."""

from __future__ import annotations

import os
import sys
import time

import click

from dataplane.trace import LARGEST_TRACED, TOLD, Walk
from dataplane.trace_text import render_verdict
from dataplane.verdict import Reason
from vpclab.cli.output import format_option, show_json
from vpclab.cli.screen import print_trace
from vpclab.cli.selection import Selection, lab_option

# Words after NODE belong to the command that runs there, options included.
_VERBATIM = {"ignore_unknown_options": True, "allow_interspersed_args": False}
_SMALL = 56
"""Bytes of payload that fit everywhere: ping's own."""
_EXIT_NOT_FOUND, _EXIT_NOT_EXECUTABLE = 127, 126


@click.command("exec", context_settings=_VERBATIM)
@lab_option
@click.argument("node")
@click.argument("command", nargs=-1, required=True, type=click.UNPROCESSED)
@click.pass_obj
def exec_(selection: Selection, node: str, command: tuple[str, ...]) -> None:
    """Run a command inside NODE; terminal, pipes and exit status are the command's own.

    \b
    vpclab exec app -- curl -s http://web/
    """
    if command[:1] == ("--",):
        command = command[1:]
    if not command:
        raise click.UsageError("which command? vpclab exec NODE -- COMMAND ARGUMENT...")
    _run_there(selection, node, list(command))


@click.command()
@lab_option
@click.argument("node")
@click.pass_obj
def shell(selection: Selection, node: str) -> None:
    """Open a shell inside NODE."""
    _run_there(selection, node, [os.environ.get("SHELL") or "/bin/sh"])


def _run_there(selection: Selection, name: str, command: list[str]) -> None:
    """Run the command inside the node in place of this process, as far as anybody outside can tell."""
    node = selection.lab()[name]
    sys.stdout.flush()
    sys.stderr.flush()
    try:
        sys.exit(node.run_here(command))
    except FileNotFoundError:
        click.echo(f"vpclab: no such command: {command[0]}", err=True)
        sys.exit(_EXIT_NOT_FOUND)
    except PermissionError:
        click.echo(f"vpclab: not executable: {command[0]}", err=True)
        sys.exit(_EXIT_NOT_EXECUTABLE)


@click.command()
@lab_option
@click.argument("source")
@click.argument("destination")
@click.option("-c", "--count", default=3, show_default=True, type=click.IntRange(1, 1000), help="Echo requests.")
@click.option("-s", "--size", default=56, show_default=True, type=click.IntRange(0, 65507), help="Bytes of payload.")
@click.option(
    "-W",
    "--wait",
    default=1.0,
    show_default=True,
    type=click.FloatRange(0.1, 60),
    help="Seconds to wait for an answer.",
)
@click.option("--df", is_flag=True, help="Forbid fragments (ping -M do).")
@format_option
@click.pass_obj
def ping(
    selection: Selection, source: str, destination: str, count: int, size: int, wait: float, df: bool, output: str
) -> None:
    """Ping DESTINATION from SOURCE with the node's own ping, then draw the path and say what decided.

    What is traced is the first echo request, with its size, in one piece; a small one, where the kernel sends it in
    fragments. Exit 1 when no answer came.
    """
    lab = selection.lab()
    answered = lab[source].ping(destination, count=count, size_bytes=size, timeout_s=wait, dont_fragment=df)
    trace = lab.trace(source, destination, protocol="icmp", size_bytes=min(size, LARGEST_TRACED))
    too_large = trace.deciding_walk
    which = "it" if too_large is trace.forward else "the answer"
    is_in_pieces = not df and _is_sent_in_pieces(too_large, is_answered=bool(answered.received))
    if is_in_pieces:
        trace = lab.trace(source, destination, protocol="icmp", size_bytes=_SMALL)
    if output == "json":
        show_json({"ping": answered.to_json(), "trace": trace.to_json()})
    else:
        click.echo(answered.output.rstrip())
        click.echo()
        if is_in_pieces:
            click.echo(f"In one piece {which} is {render_verdict(too_large)}.")
            click.echo("Its sender's kernel sends fragments then, which are not traced. The way of a small packet:")
        print_trace(trace)
        if answered.received and not trace.reachable and trace.is_certain:
            click.echo("BUG: the ping was answered, the trace says it cannot be; please report it", err=True)
        elif not answered.received and trace.reachable:
            where = ", ".join(["`vpclab status`", *trace.assumed])
            click.echo(f"The path is open, yet no answer came: look at {where} and at the node itself.")
    if not answered.received:
        if output == "table":
            click.echo(f"{source} does not reach {destination}: {render_verdict(trace.deciding_walk)}", err=True)
        sys.exit(1)


def _is_sent_in_pieces(walk: Walk, *, is_answered: bool) -> bool:
    """Whether a kernel sends fragments of what died on this way.

    It cuts what its own interface does not carry, and what it has been told is too large. Where nobody tells it (an
    endpoint), it goes on sending in one piece, unless it knows from before: then an answer comes.
    """
    if walk.reason is not Reason.MTU_EXCEEDED:
        return False
    is_told = any(step.note == TOLD for hop in walk.hops for step in hop.steps)
    return is_answered or is_told or walk.object == walk.hops[0].object


@click.command()
@lab_option
@click.argument("node", metavar="NODE[/PROGRAM]")
@click.pass_obj
def restart(selection: Selection, node: str) -> None:
    """End the programs of NODE, or one of them, and start them again; wait until they are ready."""
    name, _, program = node.partition("/")
    began = time.monotonic()
    for each in selection.lab()[name].restart(program or None):
        click.echo(f"{name}/{each['name']} {each['state']}, pid {each['pid'] or '-'}")
    click.echo(f"in {time.monotonic() - began:.2f} s")


COMMANDS = (exec_, shell, ping, restart)
