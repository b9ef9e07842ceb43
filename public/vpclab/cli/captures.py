"""Verbs about packets as they are: capture (at points of the lab), replay (what was captured)."""

from __future__ import annotations

import sys
import time
from pathlib import Path

import click

from dataplane.errors import LabError
from lab import pcapng
from lab.capture_stream import CaptureStream
from vpclab.cli.selection import Selection, lab_option

_WORDS = {"ignore_unknown_options": False, "allow_interspersed_args": True}


@click.command(context_settings=_WORDS)
@lab_option
@click.argument("words", metavar="POINT... [FILTER]", nargs=-1, required=True)
@click.option(
    "-w",
    "--write",
    "target",
    metavar="FILE",
    help="pcapng file, or - for standard output: vpclab capture web -w - | wireshark -k -i -",
)
@click.option("-c", "--count", default=0, type=click.IntRange(0), metavar="N", help="Stop after N packets.")
@click.option("--seconds", default=0.0, type=click.FloatRange(0), metavar="S", help="Stop after S seconds.")
@click.pass_obj
def capture(selection: Selection, words: tuple[str, ...], target: str | None, count: int, seconds: float) -> None:
    """Record packets at points of the lab until Ctrl-C; without -w they are printed, a line each.

    \b
    web, web/eth1            an interface of a node
    nat:VPC/NAME             a NAT gateway, /inside and /outside
    igw:VPC, eigw:VPC        gateways to the internet, /inside and /outside
    peering:NAME             a VPC peering
    gwlb:VPC/NAME            a load balancer: /outer (GENEVE) and /inner
    internet                 the internet between them

    FILTER is in the syntax of tcpdump, and begins with the first word that is no point. Each packet has a comment: what
    became of it, and which rule decided. Dropped packets are recorded too, where they last were.

    \b
    vpclab capture web nat:nat igw:shop tcp port 443 -w way.pcapng
    """
    with selection.lab().open_capture(*words, split=True) as running:
        if target is None:
            running.run(_Printed(), count=count, seconds=seconds)  # type: ignore[arg-type]
            _tell_lost(running)
        elif target == "-":
            if sys.stdout.isatty():
                raise click.UsageError("standard output is a terminal: use -w FILE, or pipe it: | wireshark -k -i -")
            running.run(sys.stdout.buffer, count=count, seconds=seconds)
            _tell_lost(running)
        else:
            _to_file(running, target, count, seconds)


def _to_file(running: CaptureStream, target: str, count: int, seconds: float) -> None:
    try:
        with Path(target).open("wb") as stream:
            click.echo(f"capturing {', '.join(running.sides)} to {target}; Ctrl-C stops", err=True)
            packets = running.run(stream, count=count, seconds=seconds)
    except OSError as error:
        raise LabError(f"{target}: {error.strerror}") from error
    click.echo(f"{packets} packets in {target}", err=True)
    _tell_lost(running)


def _tell_lost(running: CaptureStream) -> None:
    if running.lost:
        click.echo(f"{running.lost} packets were not recorded: what reads the capture did not keep up", err=True)


class _Printed:
    """Takes a pcapng file, and prints a line for each packet."""

    def __init__(self) -> None:
        self._reader = pcapng.Reader()

    def write(self, blocks: bytes) -> None:
        lines = [line_of(packet) for packet in self._reader.packets(blocks)]
        if lines:
            click.echo("\n".join(lines))

    def flush(self) -> None:
        sys.stdout.flush()


def line_of(packet: pcapng.Captured) -> str:
    """Time of day, point, direction, headers, comment."""
    from dataplane.story import packet_of  # late, as in vpclab.lab

    seconds, nanoseconds = divmod(packet.time_ns, 10**9)
    clock = time.strftime("%H:%M:%S", time.localtime(seconds))
    data = packet.data
    if packet.interface.link_type == pcapng.RAW_IP:
        data = bytes(12) + (b"\x86\xdd" if data[:1] and data[0] >> 4 == 6 else b"\x08\x00") + data
    seen = packet_of(data)
    way = "from" if packet.outgoing else "to"
    kind = "arp" if data[12:14] == b"\x08\x06" else "frame"
    what = seen.describe() if seen.protocol else f"{kind} {seen}"
    return f"{clock}.{nanoseconds:09} {way} {packet.interface.name} {what} {seen.length_bytes} bytes: {packet.comment}"


COMMANDS = (capture,)
