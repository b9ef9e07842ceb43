"""A running lab inside its daemon: the data plane behind a worker, on the ports of a runtime, changed as one.

`RunningLab.apply` is the one place where all three change. Its order makes sure that a step that fails leaves
nothing half-applied: what can fail comes before anything is taken away, and is undone when a later step fails.
"""

from __future__ import annotations

import logging
import os
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path
from types import TracebackType
from typing import Self

from dataplane.engine import DataPlane
from dataplane.errors import LabError, VpclabError
from dataplane.load import load
from dataplane.load.file import LoadedFile
from dataplane.model.check import Check
from dataplane.model.lab_file import LabFile
from dataplane.topology import Topology
from fastpath.worker import Worker
from lab.change import Change, changes, made_at_last
from lab.declared_captures import DeclaredCaptures
from lab.flow_logs import FlowLogs
from lab.journal import Journal
from lab.live_state import LiveState
from lab.node_plan import NodePlan
from lab.planning import plan_checkers, plan_nodes
from lab.runtime import Runtime
from lab.state import LabState
from lab.survival import Survival
from lab.traced import TracedPorts

log = logging.getLogger(__name__)


class RunningLab:
    """One lab, running; a context manager whose end takes everything down.

    Methods may be called from several threads; those that change the lab take turns.
    """

    def __init__(
        self, state: LabState, text: str, file: str, runtime: Runtime | None = None, *, before: Journal | None = None
    ) -> None:
        """Bring the network up; programs are not started yet (`start_programs`).

        Args:
            state: the lab's state folder; the caller holds its lock.
            text: the lab file.
            file: what to call it.
            runtime: one of this state's, which is closed here in any case; without it, a new one.
            before: what the lab was before its daemon was killed; `runtime` has taken its nodes over, and lets go of
                them again when this raises.

        Raises:
            ConfigurationError: the lab file is wrong; nothing is left.
            VpclabError: it cannot be started; nothing is left.
        """
        began = time.monotonic()
        self.name = state.name
        self.file = file
        self.started = time.time()
        self._changing = threading.RLock()
        self._closed = False
        self._start_folder = os.getcwd()
        self._folder = state.path
        self.runtime = Runtime(state) if runtime is None else runtime
        self.survival = Survival(
            state,
            self.runtime,
            text=text,
            file=file,
            describe=self._described,
            changing=self._changing,
            again=before is not None,
        )
        with ExitStack() as undo:
            undo.callback(self.survival.end)
            self._loaded = load(text, file_name=file)
            topology = self._loaded.topology()
            if before is not None:
                topology = topology.with_runtime(before.runtime)  # whom flows may be pinned to, when they are rebuilt
            self.data_plane = DataPlane(topology, names=before.names if before else None)
            self.worker = Worker(self.data_plane.engine)
            if before is not None:
                self.worker.set_clock_offset(before.clock_offset_ms)
                # While nobody looks: no capture, no flow log has seen these packets.
                self.survival.rebuild(self.data_plane, self.now_ms(), self._planned(topology))
            self._captures = DeclaredCaptures(self.data_plane)
            undo.callback(self._captures.close)
            self._record(self._beside(file), again=before is not None)
            self.flow_logs = FlowLogs(state, self.data_plane, epoch_ms=_epoch_ms(self.worker))
            if self.flow_logs.lost:
                self.survival.lose(self.flow_logs.lost)
            if before is None:
                self.flow_logs.told()
            changed = self.survival.note_change
            self.live = LiveState(
                state.path, self.data_plane, now_ms=self.now_ms, changing=self._changing, changed=changed
            )
            undo.callback(self.live.close)
            self.live.watch(self.topology)
            self.live.publish()
            self._keep(self._planned(self.topology))
            self._attach(self.runtime.add_nodes(self._plans.values()) if before is None else self._adopt())
            self.data_plane.advance(self.now_ms())  # what is recorded has the right time from the beginning
            self.flow_logs.configure(self._beside(file))
            self.worker.start()
            undo.pop_all()
        self.start_s = time.monotonic() - began
        """Seconds from the lab file to a network that forwards, programs not counted."""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Stop the worker, end all programs and take every namespace down, or leave them to another daemon.

        Checks that are not over end at once.
        """
        self.survival.stop_lingering()
        with self._changing:
            self._closed = True
        self.live.close()  # outside of the lock, which its thread may be waiting for
        with self._changing:
            # The worker first: it must not write to a descriptor whose number is somebody else's by now.
            self.worker.stop()
            self._captures.close()
            try:
                self.flow_logs.close()
            except OSError as error:
                log.error("flow logs cannot be written: %s", error)
            self.survival.end()

    @property
    def topology(self) -> Topology:
        """What runs now."""
        return self.data_plane.topology

    @property
    def plans(self) -> Mapping[str, NodePlan]:
        """Every node of the user's as the runtime built it, by name."""
        return self._shown

    @property
    def missing(self) -> frozenset[str]:
        """Nodes that its file has and that are not there: they could not be made when the lab was taken over."""
        return self._missing

    @property
    def checks(self) -> tuple[Check, ...]:
        """What its lab file claims."""
        return self._loaded.lab_file.checks

    @property
    def is_ending(self) -> bool:
        """Whether it is going down, or waits for others to let it."""
        return self.survival.is_ending

    def now_ms(self) -> int:
        """The lab's time in milliseconds."""
        return self.worker.now_ms()

    def has_spawner(self) -> bool:
        """Whether the process that keeps the nodes lives and answers."""
        try:
            self.runtime.status()
        except LabError:
            return False
        return True

    def start_programs(self) -> str:
        """Start the programs that never were; why one is not ready, or an empty text when all are.

        Health checks begin afterwards: a target that is just starting is no news.
        """
        problem = self._start_programs()
        self._begin_health()
        return problem

    def own_nodes(self) -> None:
        """End with the lab what was taken over, from now on: somebody knows that it is up, and what was lost."""
        self.survival.own_nodes()
        self.flow_logs.told()

    def restart_checkers(self) -> None:
        """Start health checkers anew that have found nobody to report to (`Survival.restart_checkers`)."""
        self.survival.restart_checkers(self._plans.values())

    def _record(self, folder: Path, *, again: bool) -> None:
        try:
            self._captures.configure(self._loaded.lab_file.captures, folder)
        except VpclabError as error:
            if not again:
                raise
            # A folder that has gone must not keep the lab down.
            self.survival.lose(f"nothing is recorded any more: {error}")

    def _adopt(self) -> Mapping[int, int]:
        """Make the nodes that were taken over what they should be; port -> TAP descriptor."""
        adopted = self.survival.adopt(self._plans.values())
        there = {name: plan for name, plan in self._plans.items() if name not in adopted.missing}
        self._keep(there, missing=adopted.missing)
        return adopted.taps

    def _described(self, text: str, file: str) -> Journal:
        return Journal(
            text=text,
            file=file,
            folder=self._start_folder,
            clock_offset_ms=self.worker.clock_offset_ms,
            names=self.data_plane.names,
            runtime=self.topology.runtime,
        )

    def _begin_health(self) -> None:
        with self._changing:
            ended = self._closed
        if not ended:
            self.live.begin()

    def _start_programs(self) -> str:
        self.runtime.start_programs()
        try:
            self.runtime.wait_ready()
        except LabError as error:
            log.warning("%s", error)
            return str(error)
        return ""

    def restart(self, node: str, program: str | None) -> str:
        """Start programs of a node (or one) again; why one is not ready, or an empty text.

        Raises:
            NoProgramError: there is none to start again.
            LabError: the operating system refuses it, or the lab is going down.
        """
        with self._changing:
            self.runtime.restart(node, program)
        try:
            self.runtime.wait_ready(node)
        except LabError as error:
            log.warning("%s", error)
            return str(error)
        return ""

    @contextmanager
    def traced(self) -> Iterator[TracedPorts]:
        """Move the lab's frames by hand inside the ``with`` block, to see what becomes of each; its worker rests.

        Nothing else may change the lab meanwhile.

        Raises:
            LabError: it is going down.
        """
        with self._changing:
            if self._closed:
                raise LabError(f"lab {self.name} is going down")
            ports = TracedPorts(self.data_plane, self.now_ms, self.runtime.taps())
            try:
                self.worker.stop()
                try:
                    yield ports
                finally:
                    self.worker.start()
            finally:
                ports.close()

    def advance_clock(self, ms: int) -> int:
        """Move the lab's clock forward; how far it is ahead of real time then, in milliseconds."""
        with self._changing:
            self.worker.set_clock_offset(self.worker.clock_offset_ms + ms)
            self.live.let_time_pass()
            self.survival.note_change()
            return self.worker.clock_offset_ms

    def apply(self, text: str, file: str, *, dry_run: bool, folder: str | None = None) -> tuple[list[Change], str]:
        """Change over to another lab file; returns what changed, and why a new program is not ready.

        `folder` is where a relative `file` begins. None: beside the present file, as for a text that is in none.

        Raises:
            ConfigurationError: the file is wrong.
            VpclabError: a step failed; the lab is as it was.
        """
        with self._changing:
            if self._closed:
                raise LabError(f"lab {self.name} is going down")
            loaded = load(text, file_name=file)
            topology = loaded.topology()
            found = self._changes(loaded.lab_file)
            file = self._as_from_start(file, folder)
            if dry_run or not (found or self._missing or file != self.file):
                return found, ""
            try:
                self._change_over(loaded, topology, text, file)
            finally:
                if self.survival.lingers:
                    self.survival.linger()  # with instances that are attached it cannot, without it can
            log.info("applied %s: %d changes", file, len(found))
            problem = self._start_programs()
        self._begin_health()
        return found, problem

    def _as_from_start(self, file: str, folder: str | None) -> str:
        """A file's name as it is in the folder that the lab was started in; `folder` as in `apply`."""
        if folder is None:
            return os.path.join(os.path.dirname(self.file), file)
        return file if folder == self._start_folder else os.path.join(folder, file)

    def _beside(self, file: str) -> Path:
        """The folder of a file; no relative one: the working directory may be gone."""
        return Path(self._start_folder, file).parent

    def _changes(self, new: LabFile) -> list[Change]:
        found = changes(self._loaded.lab_file, new)
        told = {each.path for each in found}
        return [*found, *(each for each in made_at_last(new, self._missing) if each.path not in told)]

    def _change_over(self, loaded: LoadedFile, topology: Topology, text: str, file: str) -> None:
        folder = self._beside(file)
        old_topology, old = self.topology, self._plans
        new = self._planned(topology)
        added = [plan for name, plan in new.items() if name not in old]
        changed = [name for name, plan in new.items() if name in old and old[name] != plan]
        removed = [name for name in old if name not in new]
        for name in changed:
            if old[name].attach != new[name].attach:
                raise LabError(f"instance {name}: attach cannot be changed; apply a file without the instance first")
        ports = self.runtime.add_nodes(added)
        done: list[str] = []
        undo_health: Callable[[], None] | None = None
        try:
            undo_health = self.live.watch(topology)
            self.data_plane.apply(self.live.carried_to(topology))
            self._attach(ports)
            for name in changed:
                done.append(name)
                self._update(new[name])
            with self._captures.changing(loaded.lab_file.captures, folder):
                self.survival.note(text, file)
        except BaseException as error:
            log.error("apply failed, going back: %s", error)
            if undo_health is not None:
                undo_health()
            self._go_back(old_topology, [old[name] for name in done], added)
            raise
        self._loaded, self.file = loaded, file
        self._keep(new)
        try:
            self.flow_logs.configure(folder)
        except (OSError, VpclabError):
            log.exception("flow logs")
        # Nothing may fail from here on: what is taken away now could not be given back with its connections.
        try:
            for name in removed:
                self._detach(port.port for port in old[name].interfaces)
            self.runtime.remove_nodes(removed)
        except VpclabError:
            log.exception("removing %s", ", ".join(removed))

    def _go_back(self, topology: Topology, plans: list[NodePlan], added: list[NodePlan]) -> None:
        for plan in added:
            self._detach(port.port for port in plan.interfaces)
        self.runtime.remove_nodes(plan.name for plan in added)
        self.data_plane.apply(topology)
        for plan in plans:
            try:
                self._update(plan)
            except VpclabError:  # what was in its way still is; the others go back all the same
                log.exception("going back: %s", plan.name)

    def _update(self, plan: NodePlan) -> None:
        self._detach(self.runtime.detached_by(plan))
        new = self.runtime.update_node(plan).attached
        self._detach(new)  # of a device that root inside renamed the worker still has the other end
        self._attach(new)

    def _keep(self, plans: dict[str, NodePlan], missing: frozenset[str] = frozenset()) -> None:
        self._plans, self._missing = plans, missing
        self._shown = {name: plan for name, plan in plans.items() if not plan.hidden}

    def _planned(self, topology: Topology) -> dict[str, NodePlan]:
        names = self.data_plane.names
        plans = [*plan_nodes(topology, names), *plan_checkers(topology, names, self._folder)]
        return {plan.name: plan for plan in plans}

    def _attach(self, ports: Mapping[int, int]) -> None:
        for port, descriptor in ports.items():
            self.worker.attach(port, descriptor)

    def _detach(self, ports: Iterable[int]) -> None:
        for port in ports:
            self.worker.detach(port)


def _epoch_ms(worker: Worker) -> int:
    """The Unix time, in milliseconds, at which lab time was 0."""
    return time.time_ns() // 1_000_000 - worker.now_ms()
