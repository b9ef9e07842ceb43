"""Starting programs inside nodes, from the single-threaded spawner."""

from __future__ import annotations

import contextlib
import os
import resource
import signal
import traceback
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import NoReturn

from lab import identity
from lab.node import Node, Site, has_listener
from lab.node_plan import ProgramPlan
from lab.state import open_end

_NOT_STARTED = 127


@dataclass(slots=True, kw_only=True)
class NodeLauncher:
    """A `lab.programs.Launcher` for real nodes."""

    site: Site
    nodes: Mapping[str, Node]
    environment: Mapping[str, str]
    """What programs get besides their node's and their own variables."""
    folder: str
    """Where programs start that do not say where."""
    descriptor_limit: int
    """Soft limit of open files for programs; the spawner's own is higher."""

    def launch(self, node: str, plan: ProgramPlan) -> int:
        """Start the program in a session of its own, with its log as standard output and error; its pid."""
        log = self.nodes[node].logs(self.site) / f"{plan.name}.log"
        log.parent.mkdir(parents=True, exist_ok=True)
        return self._start(node, plan, plan.command, log)

    def launch_check(self, node: str, plan: ProgramPlan) -> int:
        """Start `plan.ready_command`, its output thrown away; its pid."""
        return self._start(node, plan, plan.ready_command or (), None)

    def is_listening(self, node: str, port: int) -> bool:
        """Whether something in the node listens on this TCP port."""
        return has_listener(self.site, self.nodes[node], port)

    def signal(self, pid: int, number: int) -> None:
        """Send a signal to the process group that this process leads; nothing happens when it is gone."""
        # Our own child, which nobody but we can reap: the number cannot be another's by now.
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(pid, number)

    def _start(self, name: str, plan: ProgramPlan, command: tuple[str, ...], log: Path | None) -> int:
        place = self.nodes[name]
        environment = {**self.environment, **node_environment(self.site.lab_id, place), **plan.environment}

        def become() -> None:
            place.namespaces.join()
            os.setsid()
            os.chdir(plan.working_directory or self.folder)
            nothing = os.open(os.devnull, os.O_RDWR)
            os.dup2(nothing, 0)
            os.dup2(nothing if log is None else open_end(log, 0o644), 1)
            os.dup2(1, 2)
            hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
            resource.setrlimit(resource.RLIMIT_NOFILE, (self.descriptor_limit, hard))
            try:
                os.execvpe(command[0], command, environment)
            except OSError as error:  # it names the last folder of PATH that was tried
                raise OSError(error.errno, error.strerror, command[0]) from error

        return start_child(become)


def node_environment(lab_id: str, place: Node) -> dict[str, str]:
    """The variables that everything started in a node gets."""
    return {**place.plan.environment, **identity.variables(lab_id, place.plan.name)}


def start_child(become: Callable[[], None]) -> int:
    """Fork; the child calls `become`, which must end in exec. Returns its pid once that has happened.

    Raises the OSError that kept `become` from it.
    """
    reader, writer = os.pipe2(os.O_CLOEXEC)
    pid = os.fork()
    if pid == 0:
        _run_child(become, writer)
    os.close(writer)
    with os.fdopen(reader, "rb") as pipe:
        failure = pipe.read()  # ends at exec, which closes the writer
    if not failure:
        return pid
    os.waitpid(pid, 0)
    number, _, name = failure.decode(errors="replace").partition(" ")
    raise OSError(int(number), os.strerror(int(number)), name or None)


def _run_child(become: Callable[[], None], writer: int) -> NoReturn:
    try:
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGCHLD, signal.SIGPIPE, signal.SIGXFSZ):
            signal.signal(number, signal.SIG_DFL)
        signal.set_wakeup_fd(-1)
        become()
    except OSError as error:
        os.write(writer, f"{error.errno or 5} {error.filename or ''}".encode())
    except BaseException:
        traceback.print_exc()
        os.write(writer, b"5 ")
    finally:
        os._exit(_NOT_STARTED)
