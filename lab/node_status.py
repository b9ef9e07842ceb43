"""What a `lab.runtime.Runtime` tells of nodes and their programs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from lab.programs import State


@dataclass(frozen=True, slots=True, kw_only=True)
class ProgramStatus:
    """A program of a node as it is now."""

    name: str
    state: State
    """waiting: not yet started. starting: runs, not yet ready. running: runs, and was ready. restarting: died, waits
    for its next start. exited: ended with status 0 and is not restarted. failed: could not be started, died and is
    not restarted, or was not ready in time. stopped: ended by us."""
    pid: int | None
    """Process id as the host sees it, while it runs."""
    exit_status: int | None
    """Of the last run: 0..255, or minus the signal number; None when it never ended."""
    restarts: int
    message: str
    """Why, in one line, for the states restarting and failed; else empty."""
    log: str
    """Absolute path of the file with its standard output and error."""


@dataclass(frozen=True, slots=True, kw_only=True)
class NodeStatus:
    """A node as it is now."""

    name: str
    netns: str | None
    """Name under /run/netns; None where namespaces cannot be named (not root)."""
    programs: tuple[ProgramStatus, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Adopted:
    """What has become of nodes that were taken over (`lab.runtime.Runtime.adopt`)."""

    taps: Mapping[int, int]
    """Port -> TAP descriptor: attach them to the worker."""
    lost: Sequence[str]
    """What is lost, each in a line."""
    missing: frozenset[str]
    """Nodes that should be there and are not."""


@dataclass(frozen=True, slots=True, kw_only=True)
class NodeChange:
    """What `update_node` did to the ports of a node."""

    attached: Mapping[int, int]
    """New ports -> TAP descriptors: attach them to the worker."""
    detached: tuple[int, ...]
    """Ports that are gone: their descriptors are closed, so the worker must have let go of them *before*."""
