"""How a trace looks on a terminal."""

from __future__ import annotations

import re

from dataplane.trace import Trace
from dataplane.trace_text import render
from vpclab.cli.output import console

_WIDTH = 100
_DEAD = re.compile(r"^ => (DROPPED|HELD|GOT AS FAR).*")
_ALIVE = re.compile(r"^ => (DELIVERED|ANSWERED).*")


def print_trace(trace: Trace, *, everything: bool = False) -> None:
    """Draw both directions; the verdict in colour where there are colours."""
    from rich.text import Text  # late, as in vpclab.cli.output

    screen = console()
    width = min(screen.width, _WIDTH) if screen.is_terminal else _WIDTH
    for line in render(trace, width=width, everything=everything).splitlines():
        text = Text(line)
        if _DEAD.match(line):
            text.stylize("bold red")
        elif _ALIVE.match(line):
            text.stylize("bold green")
        screen.print(text, soft_wrap=True)
