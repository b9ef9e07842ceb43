"""The runtime of one lab: its nodes (namespaces, devices, names) and the programs in them.

Who does what. The daemon (or whoever holds a `Runtime`) never changes a namespace of its own. It starts one
*spawner*, a small single-threaded Python process that makes namespaces and devices, starts and watches
programs, and hands TAP descriptors back. Below it, process 1 of the lab's own PID namespace waits for orphans.

    daemon ── socket ── spawner ─┬─ init (process 1 of the lab's PID namespace)
      │ TAP fds                  ├─ web/http, app/..., ...   programs, all in the PID namespace
      └ worker                   └─ holds the net, mount and UTS namespaces of every node open

When the daemon dies, however it dies, its end of the socket closes and the spawner ends, unless the lab lingers for
another daemon to take it over (`Runtime.linger`, `lab.handover`). When the spawner ends, however it ends, init gets
SIGKILL (PR_SET_PDEATHSIG) and the kernel kills everything in its PID namespace, double forks and new sessions included.
A list of process ids with start times could not promise that: what forks while the list is read escapes. What
`vpclab exec` starts is in the PID namespace too. Namespaces live only as long as processes and descriptors refer to
them; as root they also have names under /run/netns, which outlive a crash until `lab.gc` takes them away (every
namespace carries its lab's id, see `lab.identity`).

Another process of the same user enters a node by `NodeView` (see `lab.enter`), which it asks the daemon for.
"""

from __future__ import annotations

import contextlib
import os
import resource
import subprocess
import threading
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from dataplane.errors import LabError
from lab import gc
from lab.connections import Sockets
from lab.enter import NodeView, enter_command, make_view, popen
from lab.handover import LINGER_S
from lab.keeper import Keeper, NoRoomError, RefusedError
from lab.node_plan import NodePlan, same_interfaces
from lab.node_status import Adopted, NodeChange, NodeStatus, ProgramStatus
from lab.state import RUNTIME, LabState, read_end

_LAST_BYTES = 64 << 10
"""How far back a program's log is searched for its last line."""


class NoProgramError(LabError):
    """A node has no such program."""


class Runtime:
    """The nodes and programs of one running lab. All methods may be called from any thread; they take turns.

    Every method raises LabError, in one line that names the fix where there is one, when the operating system
    refuses something or the spawner is gone.
    """

    def __init__(self, state: LabState, *, resume: bool = False, linger_s: float = LINGER_S) -> None:
        """Start the spawner of the lab whose state folder this is; the caller holds its lock.

        What a run of the lab that was killed may have left is removed first. Without the right to make namespaces
        directly, everything is made inside one new user namespace (see `lab.rootless`).

        The spawner gets ready meanwhile: the first method that needs it waits, and tells what it could not do.

        With `resume`, take over what waits for another daemon (`linger`) instead; then call `adopt`. Raises LabError
        when nothing does.

        `linger_s`: so long nodes and programs wait for another daemon once `linger` is called, each time anew.
        """
        self._state = state
        self._lock = threading.RLock()
        self._plans: dict[str, NodePlan] = {}
        self._entries: dict[str, dict[str, Any]] = {}
        self._taps: dict[int, int] = {}
        self._unfinished: frozenset[str] = frozenset()
        self._closed = False
        self._facts: dict[str, Any] = {}
        self._warnings: tuple[str, ...] = ()
        _raise_descriptor_limit()
        if resume:
            self._keeper, handover = Keeper.take_over(state)
            self._plans, self._entries = dict(handover.plans), dict(handover.entries)
            self._unfinished = handover.unfinished
            self._know(handover.facts)
        else:
            gc.clean(state)
            self._keeper = Keeper.start(state, linger_s)

    @property
    def lab_id(self) -> str:
        """``NAME-16 hex digits``, new for each start; every namespace and process of the lab carries it."""
        return self._keeper.lab_id

    @property
    def rootless(self) -> bool:
        """Whether the lab lives in a user namespace of its own."""
        self._meet()
        return bool(self._facts["rootless"])

    @property
    def warnings(self) -> tuple[str, ...]:
        """What works less well here than it could, one line each, with what to do about it."""
        self._meet()
        return self._warnings

    def fileno(self) -> int:
        """A descriptor that polls readable, while no method runs, when the spawner is gone (and with it, the lab)."""
        return self._keeper.channel.fileno()

    def add_nodes(self, plans: Iterable[NodePlan]) -> dict[int, int]:
        """Make these nodes, configured and up; returns port -> TAP descriptor.

        The descriptors are non-blocking and stay the Runtime's: `remove_nodes`, `update_node` and `close` close them.
        Either all nodes are made, or none and LabError is raised. Programs are not started yet.
        """
        wanted = list(plans)
        with self._lock:
            taps: dict[int, int] = {}
            try:
                entries = self._ask(taps, "add", wanted)
            except NoRoomError:
                _close(taps.values())
                self._ask({}, "remove", [plan.name for plan in wanted])
                raise
            except BaseException:
                _close(taps.values())
                raise
            self._taps |= taps
            self._entries |= entries
            self._plans |= {plan.name: plan for plan in wanted}
            return taps

    def linger(self) -> bool:
        """Let nodes and programs survive this process from now on, to be taken over by another; whether they can.

        Without this they end with it. Nodes that are devices of the user's always do, and then so do all others.
        """
        return bool(self._ask({}, "linger"))

    def stop_lingering(self) -> None:
        """Let nodes and programs end with this process again."""
        with self._lock:
            if not self._closed:
                self._ask({}, "stop_lingering")

    def adopt(self, plans: Iterable[NodePlan]) -> Adopted:
        """Make what was taken over what it should be.

        Nodes that are the same are left as they are, with all that runs in them. Others are changed, made or removed:
        those that a change was about in the middle of which the other daemon ended. When that is refused for one, it
        is neither the old one nor the new one, and told so.

        Devices are lost that cannot be opened again: those that root inside has deleted, or has taken over. Of a node
        that was changed none is: it has new ones.
        """
        wanted = {plan.name: plan for plan in plans}
        ports = {i.port for plan in wanted.values() for i in plan.interfaces}
        with self._lock:
            closed: dict[int, str] = self._ask(self._taps, "reopen")
            lost = [*self._made_so(wanted)]
            _close(self._taps.pop(port) for port in self._taps.keys() - ports)  # of what could not be changed
            without = ports - self._taps.keys()
            return Adopted(
                taps=dict(self._taps),
                lost=[*(line for port, line in closed.items() if port in without), *lost],
                missing=frozenset(wanted.keys() - self._plans.keys()),
            )

    def _made_so(self, wanted: Mapping[str, NodePlan]) -> Iterator[str]:
        """Change, make and remove nodes that are not these; what was refused, in lines."""
        for name, plan in {**self._plans, **wanted}.items():
            try:
                if name not in wanted:
                    self.remove_nodes([name])
                elif name not in self._plans:
                    self.add_nodes([plan])
                elif plan != self._plans[name] or name in self._unfinished:
                    self.update_node(plan)
            except RefusedError as error:
                if name not in wanted:
                    yield f"node {name} is still there: {error}; it goes with the lab"
                elif name in self._plans:
                    yield f"node {name} is not what it should be: {error}; apply a file without it, then this one again"
                else:
                    yield f"node {name} is not there: {error}; apply its file again"

    def be_patient(self) -> None:
        """Wait for the spawner as long as it takes, as for one that was started here.

        Until then one that was taken over is waited for half a minute: then it can be tried again.
        """
        self._keeper.be_patient()

    def sockets(self) -> tuple[dict[str, Sockets], dict[str, str]]:
        """The TCP sockets of every node, by name, and of those whose cannot be read, why."""
        found, unread = self._ask({}, "sockets")
        return found, unread

    def let_go(self) -> None:
        """Leave nodes and programs that linger to the next one, as if this process had ended."""
        with self._lock:
            if not self._closed:
                self._closed = True
                _close(self._taps.values())
                self._taps.clear()
                self._keeper.let_go()

    def remove_nodes(self, names: Iterable[str]) -> None:
        """End the programs of these nodes, then the nodes. The worker must have detached their ports before."""
        with self._lock:
            gone = list(names)
            for name in gone:
                self._known(name)
            ports = [i.port for name in gone for i in self._plans[name].interfaces]
            _close(self._taps.pop(port) for port in ports if port in self._taps)
            self._ask({}, "remove", gone)
            for name in gone:
                del self._entries[name], self._plans[name]

    def detached_by(self, plan: NodePlan) -> tuple[int, ...]:
        """Ports that `update_node(plan)` will close: detach them from the worker first."""
        with self._lock:
            old = self._known(plan.name)
            kept = set(same_interfaces(old, plan).values())
            return tuple(i.port for i in old.interfaces if i.port not in kept)

    def update_node(self, plan: NodePlan) -> NodeChange:
        """Change a node in place to its new plan: addresses, routes, MTU, MAC, names, interfaces, programs.

        Interfaces are the same when device and port are. Connections and programs survive unless their own address,
        interface or `ProgramPlan` goes. New programs are not started yet (`start_programs`). After a failure the node
        is neither the old nor the new one; another update, such as back to the old plan, puts that right (and may
        attach ports anew).
        """
        with self._lock:
            detached = self.detached_by(plan)
            _close(self._taps.pop(port) for port in detached if port in self._taps)
            taps: dict[int, int] = {}
            try:
                entry = self._ask(taps, "update", plan)
            except BaseException:
                _close(taps.values())
                raise
            _close(self._taps.pop(port) for port in taps if port in self._taps)  # of devices that root inside took away
            self._taps |= taps
            self._entries[plan.name] = entry
            self._plans[plan.name] = plan
            return NodeChange(attached=taps, detached=detached)

    def taps(self) -> dict[int, int]:
        """The TAP descriptor of each port, until the next change of nodes; they stay the Runtime's."""
        with self._lock:
            return dict(self._taps)

    def start_programs(self) -> None:
        """Start every program that was never started. Returns at once; see `wait_ready`."""
        self._ask({}, "start")

    def restart(self, node: str, program: str | None = None) -> None:
        """End the programs of a node (or one) and start them again; returns at once, see `wait_ready`.

        A program that does not end by SIGTERM is killed before a second has passed.
        """
        with self._lock:
            names = [each.name for each in self._known(node).programs]
            if not names:
                raise NoProgramError(f"node {node} has no programs")
            if program is not None and program not in names:
                raise NoProgramError(f"node {node} has no program {program!r}; it has {', '.join(names)}")
            self._ask({}, "restart", node, program)

    def wait_ready(self, node: str | None = None) -> None:
        """Wait until every started program was ready once (or needs no check, or has ended with status 0).

        With `node`, only its programs. Raises LabError when one failed or was not ready within its `ready_timeout_s`:
        which, why, its log file and the log's last line.
        """
        pause_s = 0.005
        while waiting := [each for each in self._ask({}, "unready") if node in (None, each[0].partition("/")[0])]:
            for title, facts, pointless in waiting:
                if pointless:
                    raise LabError(f"program {title}: {facts['message']}; {_last_line(facts['log'])}")
            time.sleep(pause_s)
            pause_s = min(pause_s * 1.5, 0.1)

    def status(self) -> dict[str, NodeStatus]:
        """Every node by name."""
        return {
            name: NodeStatus(name=name, netns=netns, programs=tuple(ProgramStatus(**facts) for facts in programs))
            for name, (netns, programs) in self._ask({}, "status").items()
        }

    def view(self, node: str) -> NodeView:
        """How to enter a node; `view.namespaces` and `view.environment` may be handed to other processes."""
        with self._lock:
            self._known(node)
            return make_view(self._facts, node, self._entries[node])

    def enter_command(self, node: str) -> list[str]:
        """Prefix of a command line that runs the rest inside the node (works for every process of this user)."""
        return enter_command(self.view(node))

    def popen(self, node: str, argv: Sequence[str], **options: Any) -> subprocess.Popen[Any]:
        """Start a command inside a node; `options` as for `subprocess.Popen` (no ``shell``)."""
        return popen(self.view(node), argv, **options)

    def close(self, *, grace_s: float = 1.0) -> None:
        """End all programs (SIGTERM, `grace_s` seconds, SIGKILL), namespaces and the spawner; close all descriptors.

        The worker must have been stopped before. The state folder stays (`LabState.remove`). Never raises for what
        is gone already; calling it twice is fine.
        """
        with self._lock:
            if self._closed:
                return
            self._closed = True
            _close(self._taps.values())
            self._taps.clear()
            try:
                self._ask({}, "close", grace_s)
                self._keeper.hang_up()
            except LabError:  # the spawner is gone, without tidying up
                self._keeper.hang_up()
                with contextlib.suppress(LabError):  # `gc` will say what could not be removed
                    gc.clean(self._state)

    # -- parts ---------------------------------------------------------------------------------------------

    def _meet(self) -> None:
        """Wait until the spawner is ready, or raise what it could not do."""
        with self._lock:
            if self._facts or self._closed:
                return
            try:
                facts = self._keeper.meet()
            except BaseException:
                self._closed = True
                raise
            self._know(facts)
            self._state.write(RUNTIME, self._facts)

    def _know(self, facts: Mapping[str, Any]) -> None:
        self._warnings = tuple(facts["warnings"])
        self._facts = self._keeper.record(facts)

    def _ask(self, taps: dict[int, int], *request: Any) -> Any:
        with self._lock:
            self._meet()
            return self._keeper.ask(taps, *request)

    def _known(self, node: str) -> NodePlan:
        try:
            return self._plans[node]
        except KeyError:
            raise LabError(f"lab {self._state.name} has no node {node!r}") from None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()


def _close(descriptors: Iterable[int]) -> None:
    for descriptor in descriptors:
        os.close(descriptor)


def _last_line(log: str) -> str:
    """Where to read on, and the last thing the program said."""
    lines = read_end(Path(log), _LAST_BYTES).decode(errors="replace").split("\n")
    said = next((line.strip() for line in reversed(lines) if line.strip()), "")
    return f"its log {log} ends with: {said}" if said else f"its log {log} is empty"


def _raise_descriptor_limit() -> None:
    """Let this process open as many descriptors as it may: a lab needs one per port, and 1024 is the usual default."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft < hard:
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
