"""Verbs that look at live state without changing it (trace, routes, nat, flows, flow-logs, targets), and the clock."""

from __future__ import annotations

import json
import re
import sys
import time

import click
from click.core import ParameterSource

from dataplane.errors import VpclabError
from dataplane.trace import LARGEST_TRACED
from lab.capture_stream import interrupt_ends
from vpclab.cli.output import clock_text, duration, format_option, show, show_json
from vpclab.cli.screen import print_trace
from vpclab.cli.selection import Selection, lab_option
from vpclab.lab import Lab

_UNITS_S = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}
_GATEWAYS_SIDE_BY_SIDE = 4
_POLL_S = 0.5
"""Between two looks at what flow logs have written."""


class Duration(click.ParamType[float]):
    """A length of time: ``350s``, ``5m``, ``2h``, ``1d``, ``250ms``; a bare number is seconds."""

    name = "duration"

    def convert(self, value: object, parameter: click.Parameter | None, context: click.Context | None) -> float:
        """Seconds."""
        match = re.fullmatch(r"(\d+(?:\.\d+)?)(ms|s|m|h|d)?", str(value).strip())
        if match is None:
            self.fail(f"{value!r} is not a length of time: write 350s, 5m, 2h, 1d or 250ms", parameter, context)
        return float(match[1]) * _UNITS_S[match[2] or "s"]


@click.command()
@lab_option
@click.argument("words", metavar="SOURCE DESTINATION | --live [FILTER]", nargs=-1)
@click.option("--live", is_flag=True, help="Follow real packets, those that FILTER (tcpdump's syntax) lets through.")
@click.option(
    "-c", "--count", default=0, type=click.IntRange(0), metavar="N", help="With --live: stop after N packets."
)
@click.option(
    "--proto", default="tcp", show_default=True, metavar="tcp|udp|icmp|N", help="Protocol, by name or number."
)
@click.option("--port", type=click.IntRange(0, 65535), help="Destination port of TCP or UDP; 80 when not given.")
@click.option(
    "--src-port",
    type=click.IntRange(0, 65535),
    help="Source port, or identifier of an echo request; 40000 when not given.",
)
@click.option("--size", default=0, show_default=True, type=click.IntRange(0, LARGEST_TRACED), help="Bytes of payload.")
@click.option("--all", "everything", is_flag=True, help="Also show the checks that merely passed.")
@format_option
@click.pass_context
def trace(
    context: click.Context,
    words: tuple[str, ...],
    live: bool,
    count: int,
    proto: str,
    port: int | None,
    src_port: int | None,
    size: int,
    everything: bool,
    output: str,
) -> None:
    """Follow a packet and its answer hop by hop through live state; nothing is sent, nothing changes.

    SOURCE and DESTINATION are nodes or addresses. Exit 1 when it would not arrive or not come back. With --live, real
    packets are followed as they come, until Ctrl-C: vpclab trace --live tcp port 80
    """
    selection: Selection = context.obj
    if live:
        _refuse_given(context, ("proto", "port", "src_port", "size"), "is about one packet: write it into the FILTER")
        _follow(selection.lab(), " ".join(words), count, everything, output)
        return
    if len(words) != 2:
        raise click.UsageError("which way? vpclab trace SOURCE DESTINATION")
    _refuse_given(context, ("count",), "is about real packets: write --live, too")
    _refuse_ports(proto, port, src_port)
    source, destination = words
    found = selection.lab().trace(source, destination, protocol=proto, port=port, source_port=src_port, size_bytes=size)
    if output == "json":
        show_json(found.to_json())
    else:
        print_trace(found, everything=everything)
    sys.exit(0 if found.reachable else 1)


def _refuse_given(context: click.Context, names: tuple[str, ...], why: str) -> None:
    """Refuse options that would be ignored."""
    for option in context.command.params:
        if option.name in names and context.get_parameter_source(option.name) is not ParameterSource.DEFAULT:
            raise click.UsageError(f"{max(option.opts, key=len)} {why}")


def _refuse_ports(proto: str, port: int | None, src_port: int | None) -> None:
    from dataplane.probe import ports_of, protocol_number  # late, as in vpclab.lab

    try:
        ports_of(protocol_number(proto), port, src_port)
    except VpclabError as error:
        raise click.UsageError(str(error)) from None


def _follow(lab: Lab, where: str, count: int, everything: bool, output: str) -> None:
    with lab.follow(where) as followed, interrupt_ends(followed.stop):
        click.echo("following packets; Ctrl-C stops", err=True)
        told = 0
        for number, each in enumerate(followed, 1):
            told += each.lost
            if each.lost:
                click.echo(f"{each.lost} packets were not followed: what reads this did not keep up", err=True)
            if output == "json":
                line = {"time_ns": each.time_ns, "lost": each.lost, "trace": each.trace.to_json()}
                click.echo(json.dumps(line, separators=(",", ":")))
            else:
                click.echo(clock_text(each.time_ns))
                print_trace(each.trace, everything=everything)
                click.echo()
            sys.stdout.flush()
            if number == count:
                return
        if followed.lost > told:
            click.echo(f"{followed.lost - told} packets were not followed: what reads this did not keep up", err=True)


@click.command()
@lab_option
@click.argument("table", required=False, metavar="[VPC/TABLE]")
@format_option
@click.pass_obj
def routes(selection: Selection, table: str | None, output: str) -> None:
    """Effective routes: of all route tables, or of one; who uses them, and where they come from."""
    columns = {
        "table": "table",
        "destination": "destination",
        "target": "target",
        "state": "state",
        "origin": "origin",
        "used by": "used by",
    }
    rows = selection.lab().routes(table)
    if output == "table":
        rows = [{**row, "used by": [*row["subnets"], *filter(None, [row["gateway"]])]} for row in rows]
    show(rows, columns, output)


@click.command()
@lab_option
@format_option
@click.pass_obj
def nat(selection: Selection, output: str) -> None:
    """NAT gateways with their counters and translations, and the 1:1 mappings of internet gateways.

    Counters have CloudWatch's names, and count from when the lab came up.
    """
    lab = selection.lab()
    found = lab.nat()
    if output == "json":
        show_json(found)
        return
    columns = {
        "gateway": "gateway",
        "subnet": "subnet",
        "connectivity": "connectivity",
        "private": "private",
        "public": "public",
    }
    show(found["gateways"], columns, output, title="NAT gateways")
    for start in range(0, len(found["gateways"]), _GATEWAYS_SIDE_BY_SIDE):
        some = {each["gateway"]: each["metrics"] for each in found["gateways"][start : start + _GATEWAYS_SIDE_BY_SIDE]}
        names = dict.fromkeys(name for metrics in some.values() for name in metrics)
        counted = [{"metric": name, **{each: metrics[name] for each, metrics in some.items()}} for name in names]
        show(counted, {"metric": "metric"} | {each: each for each in some}, output)
    columns = {"gateway": "gateway", "private": "private", "public": "public", "of": "of"}
    show(found["mappings"], columns, output, title="one to one")
    columns = {
        "gateway": "gateway",
        "protocol": "protocol",
        "inside": "inside",
        "translated": "translated",
        "outside": "outside",
        "state": "state",
        "idle (s)": "idle_s",
        "expires (s)": "expires_s",
    }
    show(found["translations"], columns, output, title="translations")


@click.command()
@lab_option
@click.option("--limit", default=1000, show_default=True, type=click.IntRange(1), help="Most flows to list.")
@format_option
@click.pass_obj
def flows(selection: Selection, limit: int, output: str) -> None:
    """Tracked flows: both directions, state, age, and the rule that allowed them.

    Those of security groups; those that an egress-only internet gateway or a peering lets answers in for; and those
    that the endpoint of a gateway load balancer sends to a target.
    """
    found = selection.lab().flows(limit=limit)
    columns = {
        "at": "owner",
        "protocol": "protocol",
        "original": "original",
        "answer": "reply",
        "state": "state",
        "age (s)": "age_s",
        "idle (s)": "idle_s",
        "expires (s)": "expires_s",
        "rule": "rule",
        "target": "target",
    }
    if not any(row.get("target") for row in found):
        del columns["target"]
    show(found, columns, output, title="flows")


@click.command("flow-logs")
@lab_option
@click.argument("log", required=False, metavar="[VPC/NAME]")
@click.option("-f", "--follow", is_flag=True, help="Go on, with records as they are written.")
@click.option("--open", "is_open", is_flag=True, help="Records of intervals that are not over yet, as they are now.")
@click.option(
    "--format",
    "output",
    type=click.Choice(["text", "json"]),
    default="text",
    show_default=True,
    help="Lines as in files, or JSON lines.",
)
@click.pass_obj
def flow_logs(selection: Selection, log: str | None, follow: bool, is_open: bool, output: str) -> None:
    """Records of flow logs: of all, or of one; who talked to whom, as AWS would write it down.

    A record is written when its interval of one or ten minutes is over. Files with all of them are in the folder
    that the flow log names, or below flow-logs in the folder of the lab: those go when the lab is taken down.
    """
    if follow and is_open:
        raise click.UsageError("--follow shows what is written, --open what is not: write one of them")
    lab = selection.lab()
    number = 0
    while True:
        for record in lab.flow_logs(after=number, unfinished=is_open):
            number = max(number, int(record.pop("number")))
            if log in (None, record["log"]):
                name = record.pop("log")
                click.echo(json.dumps({"log": name, **record}) if output == "json" else " ".join(record.values()))
        if not follow:
            return
        time.sleep(_POLL_S)


@click.command()
@lab_option
@format_option
@click.pass_obj
def targets(selection: Selection, output: str) -> None:
    """Targets of load balancers: zone, health and why, and what goes through each now.

    Flows, packets and bytes are those of the flows that a target has at the moment.
    """
    columns = {
        "target group": "target_group",
        "target": "target",
        "address": "address",
        "zone": "zone",
        "state": "state",
        "reason": "reason",
        "description": "description",
        "flows": "flows",
        "packets": "packets",
        "bytes": "bytes",
    }
    show(selection.lab().targets(), columns, output, title="targets")


@click.group()
def clock() -> None:
    """The lab's clock: real time plus an offset."""


@clock.command("advance")
@lab_option
@click.argument("time", type=Duration())
@click.pass_obj
def clock_advance(selection: Selection, time: float) -> None:
    """Move the lab's clock forward by TIME (350s, 5m, 2h, 1d): flows age, timeouts fire.

    Only the router's clock moves; kernels and programs inside the nodes keep their own.
    """
    offset_s = selection.lab().clock.advance(time)
    click.echo(f"the clock is {duration(offset_s)} ahead of real time")


@clock.command("show")
@lab_option
@click.pass_obj
def clock_show(selection: Selection) -> None:
    """How far the lab's clock is ahead of real time."""
    click.echo(f"the clock is {duration(selection.lab().clock.offset_s)} ahead of real time")


COMMANDS = (trace, routes, nat, flows, flow_logs, targets, clock)
