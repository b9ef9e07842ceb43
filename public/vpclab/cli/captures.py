"""Verbs about packets as they are: capture (at points of the lab), replay (what was captured)."""

from __future__ import annotations

import sys
from pathlib import Path

import click

from dataplane.errors import LabError
from lab import pcapng
from lab.capture_stream import CaptureStream
from vpclab.cli.output import clock_text, printable
from vpclab.cli.selection import Selection, lab_option

_SHOWN = 20
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
        elif target == "-":
            if sys.stdout.isatty():
                raise click.UsageError("standard output is a terminal: use -w FILE, or pipe it: | wireshark -k -i -")
            running.run(sys.stdout.buffer, count=count, seconds=seconds)
        else:
            _to_file(running, target, count, seconds)
        if running.lost:
            click.echo(f"{running.lost} packets were not recorded: what reads the capture did not keep up", err=True)


def _to_file(running: CaptureStream, target: str, count: int, seconds: float) -> None:
    try:
        with Path(target).open("wb") as stream:
            click.echo(f"capturing {', '.join(running.sides)} to {target}; Ctrl-C stops", err=True)
            packets = running.run(stream, count=count, seconds=seconds)
    except OSError as error:
        raise LabError(f"{target}: {error.strerror}") from error
    click.echo(f"{packets} packets in {target}", err=True)


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
    is_frame = packet.interface.link_type == pcapng.ETHERNET
    line = _line(packet.interface.name, packet.outgoing, packet.data, packet.comment, is_frame=is_frame)
    return f"{clock_text(packet.time_ns)} {line}"


def _line(side: str, outgoing: bool, data: bytes, fate: str, *, is_frame: bool) -> str:
    from dataplane.story import packet_of  # late, as in vpclab.lab

    if not is_frame:
        data = bytes(12) + (b"\x86\xdd" if data[:1] and data[0] >> 4 == 6 else b"\x08\x00") + data
    packet = packet_of(data)
    way = "from" if outgoing else "to"
    kind = "arp" if data[12:14] == b"\x08\x06" else "frame"
    what = packet.describe() if packet.protocol else f"{kind} {packet}"
    return f"{way} {printable(side)} {what} {packet.length_bytes} bytes: {printable(fate)}"


def _is_frame(side: str) -> bool:
    """Interfaces, and what is around the packets of a load balancer, have Ethernet headers."""
    return (":" not in side and "/" in side) or side.endswith("/outer")


@click.command()
@click.argument("capture", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.option(
    "--on",
    "lab_file",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    metavar="FILE",
    help="Lab file whose network it goes through; that of the running lab when not given.",
)
@click.option(
    "-w", "--write", "target", metavar="FILE", type=click.Path(path_type=Path), help="What was seen, as pcapng."
)
@lab_option
@click.pass_obj
def replay(selection: Selection, capture: Path, lab_file: Path | None, target: Path | None) -> None:
    """Send what instances sent in CAPTURE through a network again, and compare what is seen.

    No lab is needed, and none is touched: the packets go, at the times they were recorded at, through a data plane made
    of the lab file. Exit 1 when other packets are seen than are in CAPTURE, or something else becomes of them: so one
    lab file is compared with another, packet by packet.

    \b
    vpclab replay way.pcapng --on changed.yaml
    """
    from dataplane.load import load_topology  # late, as in vpclab.lab
    from lab.replay import replay as play

    selection.refuse_beside(lab_file, "--on")
    found = play(capture.read_bytes(), load_topology(lab_file or Path(selection.lab().status()["file"])))
    if target is not None:
        try:
            target.write_bytes(found.file)
        except OSError as error:
            raise LabError(f"{target}: {error.strerror}") from error
    for sign, packets in (("-", found.missing), ("+", found.new)):
        for seen in packets[:_SHOWN]:
            click.echo(f"{sign} {_line(*seen, is_frame=_is_frame(seen.side))}")
        if len(packets) > _SHOWN:
            click.echo(f"{sign} and {len(packets) - _SHOWN} more")
    click.echo(
        f"{found.sent} packets sent; of those seen, {found.equal} are equal, "
        f"{len(found.missing)} missing, {len(found.new)} new"
    )
    sys.exit(0 if found.is_equal else 1)


COMMANDS = (capture, replay)
