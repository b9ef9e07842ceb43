"""The report of who reaches whom, on paper: one row per sender and address, and what to try next."""

from __future__ import annotations

from collections.abc import Iterator

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from dataplane.trace_text import path_text, why_text
from lab.report import QUIET_PORT, SILENCE, Finding, Findings, Probe


def render_report(findings: Findings, screen: Console) -> None:
    """Print the report as a table, one row per sender and address, and what to try next."""
    table = Table(
        title=f"lab {findings.lab}: who reaches whom, by real packets (SYN: built with scapy; -: no answer)",
        title_justify="left",
        header_style="bold",
        pad_edge=False,
        box=None,
    )
    for heading in ("from", "to", "ping", "tcp", f"SYN {QUIET_PORT}"):
        table.add_column(heading, no_wrap=heading == "from")
    table.add_column("by which path, or what decided", ratio=1, overflow="fold")
    last = ""
    for row in findings.rows:
        cells = [_kind_cell(row, kind) for kind in ("ping", "tcp", "syn")]
        source = row.source if row.source != last else ""
        last = row.source
        table.add_row(source, f"{row.destination} {row.address}", *cells, "\n".join(_story(row)), end_section=True)
    screen.print(table)
    probes = sum(len(row.probes) for row in findings.rows)
    agreeing = probes - len(findings.disagreements)
    screen.print(f"{agreeing} of {probes} probes did what the trace of live state says", markup=False)
    if findings.left_out:
        screen.print(f"{findings.left_out} more nodes were not examined: a lab of this size would take too long")
    for row, probe in findings.disagreements:
        says = "it is reachable" if probe.trace.reachable else why_text(probe.trace)
        screen.print(
            f"[bold red]BUG[/] {row.source} -> {row.address} {_probe_name(probe)}: "
            f"the traffic says {escape(probe.outcome)}, the trace says {escape(says)}"
        )


def _kind_cell(row: Finding, kind: str) -> str:
    words = []
    for probe in row.probes:
        if probe.kind == kind:
            colour = "green" if probe.answered else "red"
            port = f"{probe.port} " if kind == "tcp" else ""
            shown = "-" if probe.outcome == SILENCE else probe.outcome
            words.append(f"{port}[{colour}]{escape(shown)}[/]")
    return "\n".join(words)


def _story(row: Finding) -> Iterator[str]:
    """The path, if anything got through, and each different reason why something did not."""
    open_ = [probe for probe in row.probes if probe.trace.reachable]
    if open_:
        yield escape(path_text(open_[0].trace))
    reasons: dict[str, list[str]] = {}
    for probe in row.probes:
        if not probe.trace.reachable:
            reasons.setdefault(why_text(probe.trace), []).append(_probe_name(probe))
    for reason, names in reasons.items():
        which = f"{', '.join(names)}: " if open_ or len(reasons) > 1 else ""
        yield f"[dim]{which}[/]{escape(reason)}"


def _probe_name(probe: Probe) -> str:
    return probe.kind if probe.port is None else f"{probe.kind} {probe.port}"


def next_steps(findings: Findings, command: str) -> Iterator[str]:
    """Commands worth trying on this lab, made of its own nodes, each with what it shows."""
    probes = [(row, probe) for row in findings.rows for probe in row.probes]
    web = next((row for row, probe in probes if probe.outcome == "open" and probe.port == 80), None)
    pinged = next((row for row, probe in probes if probe.kind == "ping" and probe.answered), None)
    shut = next((row for row in findings.rows if not any(probe.answered for probe in row.probes)), None)
    if web is not None:
        yield f"{command} exec {web.source} -- curl -s http://{url_host(web.address)}/"
    if pinged is not None:
        yield f"{command} ping {pinged.source} {pinged.destination}"
    if shut is not None:
        yield f"{command} trace {shut.source} {shut.destination} --proto tcp --port 80"
    if web is not None:
        yield f"{command} capture {web.source} -w - | wireshark -k -i -"
    yield f"{command} apply FILE   (after a change of the lab file; --dry-run shows it first)"
    yield f"{command} down {findings.lab}"


def url_host(address: str) -> str:
    """An address as a URL has it (RFC 3986, 3.2.2)."""
    return f"[{address}]" if ":" in address else address
