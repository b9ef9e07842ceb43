"""Program: runs in an instance or on an internet host as long as the lab does. Ours; AWS has none.

A program is started when its node is up, in the node's network namespace. It counts as *ready* once its check
holds; `vpclab up` waits for that. What it writes goes to a log file of its own.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Literal

from dataplane.errors import Problem
from dataplane.model._fields import doc, within


@dataclass(frozen=True, slots=True, kw_only=True)
class ReadyTcp:
    """Ready once something in the node listens on a TCP port."""

    tcp: int = field(metadata=doc("TCP port that something in the node must listen on", 80))


@dataclass(frozen=True, slots=True, kw_only=True)
class ReadyCommand:
    """Ready once a command, run in the node, exits with 0."""

    command: tuple[str, ...] = field(
        metadata=doc("command and arguments that must exit with 0", ["test", "-S", "db.sock"])
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class ProgramSpec:
    """One program."""

    command: tuple[str, ...] = field(
        metadata=doc("program and arguments; no shell is involved", ["python3", "-m", "http.server", "80"])
    )
    ready: ReadyTcp | ReadyCommand | None = field(
        default=None, metadata=doc("what must hold before the program counts as ready; null: nothing")
    )
    restart: Literal["never", "on-failure", "always"] = field(
        default="never", metadata=doc("whether to start it again when it ends", "always")
    )
    environment: dict[str, str] = field(
        default_factory=dict, metadata=doc("environment variables, beside those of its node", {"LANG": "C.UTF-8"})
    )
    working_directory: str | None = field(
        default=None, metadata=doc("absolute path to start it in; null: where the lab was started", "/srv/web")
    )

    def check(self) -> Iterator[Problem]:
        """Yield what could not be started."""
        yield from within("environment", check_environment(self.environment))
        if not self.command or not self.command[0]:
            yield Problem("command", "there is no program to run", "", "write [PROGRAM, ARGUMENT, ...]")
        if any("\0" in word for word in self.command):
            yield Problem("command", "a program's arguments cannot hold a NUL character")
        if isinstance(self.ready, ReadyTcp) and not 1 <= self.ready.tcp <= 65535:
            yield Problem("ready.tcp", f"{self.ready.tcp} is no TCP port", "", "write 1 to 65535")
        if isinstance(self.ready, ReadyCommand) and not self.ready.command:
            yield Problem("ready.command", "there is no command to run", "", "write [PROGRAM, ARGUMENT, ...]")
        if self.working_directory is not None and not self.working_directory.startswith("/"):
            yield Problem(
                "working_directory",
                f"{self.working_directory} is not absolute",
                "",
                "begin it with /: what it is relative to would depend on who starts the lab",
            )


def check_environment(environment: dict[str, str]) -> Iterator[Problem]:
    """Yield variables that no process can have."""
    for name, value in environment.items():
        if not name or "=" in name or "\0" in name + value:
            yield Problem(name, "names are not empty and hold no '=', and neither name nor value holds a NUL character")
