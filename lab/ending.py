"""Ending all that runs in a lab, whatever it has become, when its nodes are taken down."""

from __future__ import annotations

import contextlib
import os
import signal
import time
from collections.abc import Set

from lab import processes

_REAPING_LIMIT_S = 0.5
"""How long to wait for others to reap what has ended."""


def end_all_below(init: int) -> None:
    """Kill everything in the PID namespace whose process 1 this is, a child of ours."""
    with contextlib.suppress(ProcessLookupError):
        os.kill(init, signal.SIGKILL)
    # It ends when all others in its PID namespace have, and been reaped. Programs are ours to reap; what a killed
    # `vpclab exec` left is up to the process 1 outside, and that of some containers never does. Then process 1 of the
    # lab waits for ever, but all are dead.
    waits_since = None
    with contextlib.suppress(ChildProcessError):
        while (pid := os.waitpid(-1, os.WNOHANG)[0]) != init:
            if pid == 0:
                if waits_since is None and not may_live(init):
                    waits_since = time.monotonic()
                if waits_since is not None and time.monotonic() - waits_since > _REAPING_LIMIT_S:
                    break
                time.sleep(0.001)


def may_live(pid: int) -> bool:
    """Whether a process lives, as far as can be told."""
    try:
        return processes.find(pid) is not None
    except OSError:
        return True  # there are no descriptors to look with just now


def end_all_in(networks: Set[tuple[int, int]]) -> None:
    """Kill what is in these network namespaces: what programs left behind, what users started."""

    def inside() -> list[processes.Process]:
        return [p for p in processes.all_processes() if processes.namespace(p.pid, "net") in networks]

    processes.kill_all(inside)
