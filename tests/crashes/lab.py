"""The lab that is played with, what `apply` makes of it, and what must hold whenever nothing is under way."""

from __future__ import annotations

import sys
from pathlib import Path

from tests.crashes.machine import changed, ordinary
from vpclab import Lab

HERE = Path(__file__).parent
BEFORE, AFTER = HERE / "before.yaml", HERE / "after.yaml"
LAB = "crash"
COMMAND = (sys.executable, "-P", "-m", "vpclab")


class Failed(Exception):
    """Something that was promised does not hold."""


def command_line(*words: str) -> list[str]:
    """Of the command, run as an ordinary user if such a one started us."""
    return [*ordinary(), *COMMAND, *words]


def check_ping(after: str) -> None:
    """Raises Failed: no ping crosses the lab."""
    if not Lab(LAB, "", "")["app"].ping("visitor", timeout_s=5.0):
        raise Failed(f"no ping crosses the lab after {after}")


def check_machine(before: frozenset[str], folder: Path, after: str) -> None:
    """Raises Failed: the machine is not what it was, and does not become so."""
    if lines := changed(before, folder):
        raise Failed(f"after {after} the machine is not what it was:\n  " + "\n  ".join(lines))
