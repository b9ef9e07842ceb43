"""The nodes of one lab and the programs in them, with process 1 above those: what a spawner keeps (`lab.spawner`).

It knows nothing of who asks for what, nor of what becomes of descriptors that it hands out.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from dataplane.errors import LabError
from lab import netns_names, processes
from lab.ending import end_all_below, end_all_in, may_live
from lab.launcher import NodeLauncher
from lab.node import Node, Site, create, destroy, shut, update
from lab.node_plan import NodePlan, check_names
from lab.programs import Program, Supervisor, describe
from lab.scarcity import said
from lab.state import NAMES, open_end

_RESTART_GRACE_S = 0.5
"""How long a program may take to end before it is killed, when it is to be started again."""
_GRACE_S = 1.0
"""The same, when it is to end for good."""
_INIT_ENDED = "process 1 of the lab has ended, and everything in the lab with it"


class Nodes:
    """Those there are, by name, and their programs. One thread."""

    def __init__(
        self,
        site: Site,
        init: int,
        *,
        folder: Path,
        named: bool,
        environment: Mapping[str, str],
        start_folder: str,
        descriptor_limit: int,
    ) -> None:
        """None yet.

        Args:
            site: what they share.
            init: process 1 of their PID namespace, a child of ours.
            folder: the lab's state folder.
            named: whether they get names under /run/netns.
            environment: what programs get besides their own variables and their node's.
            start_folder: where programs start that do not say where.
            descriptor_limit: soft limit of open files for programs.
        """
        self._site, self._init = site, init
        self._folder, self._named = folder, named
        self.by_name: dict[str, Node] = {}
        self._supervisor = Supervisor(
            NodeLauncher(
                site=site,
                nodes=self.by_name,
                environment=environment,
                folder=start_folder,
                descriptor_limit=descriptor_limit,
            )
        )

    # -- nodes ---------------------------------------------------------------------------------------------

    def add(self, plans: list[NodePlan], hand_out: Callable[[dict[int, int]], None]) -> None:
        """Make nodes: all, or none and LabError is raised.

        `hand_out` is given their TAP descriptors by port, which it closes; what it raises undoes everything.
        """
        taps: dict[int, int] = {}
        made: list[str] = []
        try:
            for plan in plans:
                check_names(plan)
                if plan.name in self.by_name:
                    raise LabError(f"node {plan.name} exists already")
                self.by_name[plan.name], new = create(self._site, plan)
                made.append(plan.name)
                taps |= new
            for name in made if self._named else ():
                node = self.by_name[name]
                if node.plan.hidden or node.plan.attach:
                    continue
                node.netns = netns_names.claim(name, self._site.lab, node.namespaces.network, self._announce)
            hand_out(taps)
        except BaseException as error:
            close_taps(taps)
            for name in made:
                self._forget(name)
            if isinstance(error, OSError):
                raise LabError(f"nodes cannot be made: {said(error)}") from error
            raise
        for plan in plans:
            self._supervisor.add(plan.name, plan.programs, str(self.by_name[plan.name].logs(self._site)))

    def remove(self, names: list[str]) -> None:
        """End programs and nodes."""
        programs = [program for name in names for program in self._supervisor.of_node(name)]
        self._end(programs, grace_s=_GRACE_S)
        self._supervisor.drop(programs)
        self._kill_inside(names)
        for name in names:
            logs = self.by_name[name].logs(self._site)
            shut(self._site, self.by_name[name])
            self._forget(name)
            shutil.rmtree(logs, ignore_errors=True)

    def update(self, plan: NodePlan) -> dict[int, int]:
        """Change a node in place; new port -> TAP descriptor, now the caller's."""
        check_names(plan)
        node = self.by_name[plan.name]
        taps = update(self._site, node, plan)
        try:
            self._change_programs(node, plan)
        except BaseException:
            close_taps(taps)
            raise
        return taps

    def entry(self, name: str) -> dict[str, Any]:
        """How to enter a node."""
        node = self.by_name[name]
        return {
            "mnt": node.namespaces.mount,
            "net": node.namespaces.network,
            "uts": node.namespaces.uts,
            "netns": node.netns,
            "environment": dict(node.plan.environment),
        }

    def unfinished(self) -> frozenset[str]:
        """Those that are not what their plan says: an update failed half-way, and nobody has put that right."""
        return frozenset(name for name, node in self.by_name.items() if not self._is_whole(node))

    def has_attached(self) -> bool:
        """Whether one is a device of the user's."""
        return any(node.plan.attach for node in self.by_name.values())

    def leave_attached(self) -> None:
        """Take what is ours from namespaces that are not; those of the lab go with us, their names by `lab.gc`."""
        for node in self.by_name.values():
            if node.plan.attach:
                destroy(self._site, node)

    def close(self, grace_s: float) -> None:
        """End everything."""
        self._end(self._supervisor.programs, grace_s=grace_s)
        self.end_processes()
        self._kill_inside(list(self.by_name))  # what `ip netns exec` started is in no PID namespace of ours
        for name in list(self.by_name):
            self._forget(name)

    # -- programs ------------------------------------------------------------------------------------------

    def start(self) -> None:
        """Start every program that was never started."""
        self._supervisor.start(time.monotonic())

    def restart(self, node: str, name: str | None) -> None:
        """End the programs of a node (or one) and start them again."""
        programs = [program for program in self._supervisor.of_node(node) if name in (None, program.plan.name)]
        self._end(programs, grace_s=_RESTART_GRACE_S)
        self._supervisor.restart(programs, time.monotonic())

    def status(self) -> dict[str, tuple[str | None, list[dict[str, Any]]]]:
        """Per node: its name under /run/netns, and its programs."""
        programs: dict[str, list[dict[str, Any]]] = {name: [] for name in self.by_name}
        for program in self._supervisor.programs:
            programs[program.node].append(program.facts())
        return {name: (node.netns, programs[name]) for name, node in self.by_name.items()}

    def unready(self) -> list[tuple[str, dict[str, Any], bool]]:
        """Programs that were not ready yet: (title, facts, whether waiting on is pointless)."""
        found = self._supervisor.unready(time.monotonic())
        return [(program.title, program.facts(), pointless) for program, pointless in found]

    def due_in(self) -> float | None:
        """After how many seconds `work` has something to do, if nothing happens."""
        return self._supervisor.due_in(time.monotonic())

    def work(self) -> None:
        """Look after the programs."""
        self._supervisor.work(time.monotonic())

    def reap(self) -> None:
        """Take note of processes that have ended. Raises SystemExit when process 1 is among them."""
        while True:
            try:
                pid, status = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                return
            if pid == 0:
                return
            if pid == self._init:
                self._init = 0
                raise SystemExit(_INIT_ENDED)
            code = os.waitstatus_to_exitcode(status)
            program = self._supervisor.ended(pid, code, time.monotonic())
            if program is not None and not program.stopping:
                log(f"program {program.title}: {program.message or describe(code)}")

    def check_init(self) -> None:
        """Raise SystemExit when process 1 has ended: nothing can be started any more (ENOMEM)."""
        if self._init and not may_live(self._init):
            raise SystemExit(_INIT_ENDED)

    def end_processes(self) -> None:
        """Kill everything in the lab's PID namespace."""
        if self._init:
            end_all_below(self._init)
            self._init = 0

    # -- parts ---------------------------------------------------------------------------------------------

    def _is_whole(self, node: Node) -> bool:
        programs = [program.plan for program in self._supervisor.of_node(node.plan.name)]
        same = len(programs) == len(node.plan.programs) and all(each in programs for each in node.plan.programs)
        return node.is_whole and same

    def _change_programs(self, node: Node, plan: NodePlan) -> None:
        wanted = {program.name: program for program in plan.programs}
        gone = [p for p in self._supervisor.of_node(plan.name) if wanted.get(p.plan.name) != p.plan]
        self._end(gone, grace_s=_GRACE_S)
        self._supervisor.drop(gone)
        known = {program.plan.name for program in self._supervisor.of_node(plan.name)}
        new = [program for program in plan.programs if program.name not in known]
        self._supervisor.add(plan.name, new, str(node.logs(self._site)))

    def _announce(self, name: str) -> None:
        path = self._folder / NAMES
        try:
            with open(open_end(path), "a") as file:
                file.write(f"{name}\n")
        except OSError as error:
            raise OSError(error.errno, error.strerror, str(path)) from error

    def _forget(self, name: str) -> None:
        node = self.by_name.pop(name)
        if node.netns is not None:
            netns_names.release(node.netns)
        destroy(self._site, node)

    def _end(self, programs: list[Program], *, grace_s: float) -> None:
        """End these programs: SIGTERM, some time, SIGKILL. Returns when they have ended."""
        deadline = time.monotonic() + grace_s
        running = self._supervisor.stop(programs, signal.SIGTERM)
        killed = False
        while running:
            self.reap()
            running = [program for program in running if program.pid is not None or program.check_pid is not None]
            if running and not killed and time.monotonic() > deadline:
                self._supervisor.stop(running, signal.SIGKILL)
                killed = True
            elif running:
                time.sleep(0.002)

    def _kill_inside(self, names: list[str]) -> None:
        """Kill whatever else runs in these nodes: what programs left behind, what users started.

        Not in network namespaces that are not ours.
        """
        ours = [self.by_name[name] for name in names if not self.by_name[name].plan.attach]
        end_all_in({processes.descriptor_identity(node.namespaces.network) for node in ours})


def close_taps(taps: dict[int, int]) -> None:
    """Close these descriptors, and forget them."""
    while taps:
        os.close(taps.popitem()[1])


def log(message: str) -> None:
    """Write a line to the lab's log. That is a file: a full disk must not end the lab."""
    with contextlib.suppress(OSError):
        sys.stderr.write(f"{time.strftime('%Y-%m-%d %H:%M:%S')} spawner: {message}\n")
        sys.stderr.flush()
