"""The spawner: the process that makes nodes and starts programs, for the Runtime at the other end of a socket.

It is a fresh, small, single-threaded interpreter. Only such a process may join user namespaces, it forks in a
fraction of a millisecond whatever its parent has become, and a `Runtime` can be made from any thread of any
program. `lab.runtime` says who belongs to whom.

Requests are tuples (name, arguments...); each is answered by one or more ("more", ...) and a last ("done", ...), or by
("refused", message) for what the operating system refuses.
"""

from __future__ import annotations

import contextlib
import errno
import os
import resource
import select
import shutil
import signal
import socket
import sys
import time
import traceback
from pathlib import Path
from typing import Any, NoReturn

from dataplane.errors import LabError
from lab import capabilities, mount_view, netns_names, processes, rootless
from lab.channel import DESCRIPTOR_LIMIT, Channel, ChannelClosed
from lab.connections import Sockets, read_sockets
from lab.ending import end_all_below, end_all_in, may_live
from lab.handover import Door, Handover
from lab.init import start_init
from lab.inside import without_proxies
from lab.launcher import NodeLauncher
from lab.namespace import Workplace
from lab.node import Node, Site, create, destroy, reopen, shut, tcp_tables, update
from lab.node_plan import NodePlan, check_names
from lab.programs import Program, Supervisor, describe
from lab.scarcity import is_scarce, said
from lab.state import ETC, NAMES, NODES
from lab.syscalls import CLONE_NEWIPC, CLONE_NEWNET, CLONE_NEWNS, CLONE_NEWPID, CLONE_NEWUTS, set_process_name, unshare
from lab.tap import check_tun

_INIT_ENDED = "process 1 of the lab has ended, and everything in the lab with it"
RESTART_GRACE_S = 0.5
"""How long a program may take to end before it is killed, when it is to be started again."""
_BUSY_S, _BUSY_PAUSE_S = 1.0, 0.01
"""So long a daemon that was killed may take to let go of devices, and how often to look."""


class Spawner:
    """The nodes and programs of one lab."""

    def __init__(
        self, channel: Channel, *, lab: str, lab_id: str, folder: str, start_folder: str, linger_s: float
    ) -> None:
        self._channel, self._linger_s = channel, linger_s
        self._rootless = not rootless.is_privileged()
        self._named = os.geteuid() == 0 and rootless.in_initial_user_namespace()
        self.warnings: list[str] = []
        limits = resource.getrlimit(resource.RLIMIT_NOFILE)
        resource.setrlimit(resource.RLIMIT_NOFILE, (limits[1], limits[1]))
        etc = Path(folder, ETC)
        etc.mkdir(exist_ok=True)
        start_network = os.open("/proc/self/ns/net", os.O_RDONLY | os.O_CLOEXEC)
        self._check()
        # Where we come back to after work in a node: our own network namespace keeps no node's alive.
        try:
            unshare(CLONE_NEWNET | CLONE_NEWUTS | CLONE_NEWPID | CLONE_NEWIPC)
        except OSError as error:
            raise rootless.explain(error) from error
        capabilities.limit()
        workplace = Workplace()
        self._init = start_init(lambda: _prepare_init(etc))
        self._site = Site(
            lab=lab,
            lab_id=lab_id,
            folder=Path(folder, NODES),
            etc=etc,
            workplace=workplace,
            base_mount=os.open(f"/proc/{self._init}/ns/mnt", os.O_RDONLY | os.O_CLOEXEC),
            last_group=rootless.last_mapped_group(),
            start_network=None if self._rootless else start_network,
        )
        self._wake, wake_writer = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
        signal.set_wakeup_fd(wake_writer)
        signal.signal(signal.SIGCHLD, lambda *_: None)
        self._folder = Path(folder)
        self._door: Door | None = None
        self._nodes: dict[str, Node] = {}
        self._supervisor = Supervisor(
            NodeLauncher(
                site=self._site,
                nodes=self._nodes,
                environment=without_proxies(os.environ),
                folder=start_folder,
                descriptor_limit=limits[0],
            )
        )

    def _check(self) -> None:
        if self._rootless and (warning := rootless.enter_user_namespace()):
            self.warnings.append(warning)
        check_tun(rootless=self._rootless)
        mount_view.check_files()
        if self._named:
            netns_names.prepare()

    def facts(self) -> dict[str, Any]:
        """What the Runtime wants to know of a spawner that is ready."""
        return {"init": self._init, "rootless": self._rootless, "warnings": self.warnings}

    def serve(self) -> NoReturn:
        """Work until the other end hangs up; a lab that lingers goes on then, until another daemon has come and gone.

        Raises ChannelClosed when it is over.
        """
        while True:
            try:
                while True:
                    if self._work(self._channel.fileno()):
                        self._answer()
            except ChannelClosed:
                if self._door is None or not self._nodes:
                    raise
                self._channel.close()
                self._channel = self._next_daemon(self._door)

    def _work(self, other: int, limit_s: float | None = None) -> bool:
        """Look after the programs until something comes by `other`, once; whether it has come."""
        due = [each for each in (self._supervisor.due_in(time.monotonic()), limit_s) if each is not None]
        poll = select.poll()
        poll.register(other, select.POLLIN)
        poll.register(self._wake, select.POLLIN)
        ready = dict(poll.poll(int(min(due) * 1000) + 1 if due else None))
        if self._wake in ready:
            with contextlib.suppress(BlockingIOError):
                os.read(self._wake, 4096)
            self._reap()
        self._supervisor.work(time.monotonic())
        return other in ready

    def _next_daemon(self, door: Door) -> Channel:
        """Wait for the daemon that takes this lab over. Raises ChannelClosed when none comes."""
        _log(f"the daemon has ended; the nodes wait for another one, for {self._linger_s / 60:g} minutes")
        door.listen()
        end = time.monotonic() + self._linger_s
        while time.monotonic() < end and door.is_there():
            if self._work(door.fileno(), 1.0) and (channel := door.open(self._handover())) is not None:
                _log("another daemon has taken over")
                door.shut()
                return channel
        raise ChannelClosed

    def _handover(self) -> Handover:
        return Handover(
            lab_id=self._site.lab_id,
            facts=self.facts(),
            plans={name: node.plan for name, node in self._nodes.items()},
            entries={name: self._entry(node) for name, node in self._nodes.items()},
            unfinished=frozenset(name for name, node in self._nodes.items() if not self._is_whole(node)),
        )

    def _is_whole(self, node: Node) -> bool:
        programs = [program.plan for program in self._supervisor.of_node(node.plan.name)]
        same = len(programs) == len(node.plan.programs) and all(each in programs for each in node.plan.programs)
        return node.is_whole and same

    # -- requests ------------------------------------------------------------------------------------------

    def _answer(self) -> None:
        (name, *arguments), _ = self._channel.receive()
        try:
            answer = ("done", getattr(self, f"do_{name}")(*arguments))
        except LabError as error:
            answer = ("refused", str(error))
        except ChannelClosed:
            raise
        except Exception as error:
            _log(traceback.format_exc())
            answer = ("refused", f"internal error: {type(error).__name__}: {error} (details in daemon.log)")
        if self._init and not may_live(self._init):
            raise SystemExit(_INIT_ENDED)  # what failed did so for that: nothing can be started any more (ENOMEM)
        self._channel.send(answer)

    def do_add(self, plans: list[NodePlan]) -> dict[str, dict[str, Any]]:
        """Make nodes; their TAP descriptors go ahead of the answer. All or none."""
        if any(plan.attach for plan in plans):
            self.lock_up()  # before there is anything that must not outlive the daemon
        taps: dict[int, int] = {}
        made: list[str] = []
        try:
            for plan in plans:
                check_names(plan)
                if plan.name in self._nodes:
                    raise LabError(f"node {plan.name} exists already")
                self._nodes[plan.name], new = create(self._site, plan)
                made.append(plan.name)
                taps |= new
            for name in made if self._named else ():
                node = self._nodes[name]
                if node.plan.hidden or node.plan.attach:
                    continue
                node.netns = netns_names.claim(name, self._site.lab, node.namespaces.network, self._announce)
            self._send_taps(taps)
        except BaseException as error:
            self._close_taps(taps)
            for name in made:
                self._forget(name)
            if isinstance(error, OSError):
                raise LabError(f"nodes cannot be made: {said(error)}") from error
            raise
        for plan in plans:
            self._supervisor.add(plan.name, plan.programs, str(self._nodes[plan.name].logs(self._site)))
        return {name: self._entry(self._nodes[name]) for name in made}

    def do_remove(self, names: list[str]) -> None:
        """End programs and nodes."""
        programs = [program for name in names for program in self._supervisor.of_node(name)]
        self._end(programs, grace_s=1.0)
        self._supervisor.drop(programs)
        self._kill_inside(names)
        for name in names:
            logs = self._nodes[name].logs(self._site)
            shut(self._site, self._nodes[name])
            self._forget(name)
            shutil.rmtree(logs, ignore_errors=True)

    def do_update(self, plan: NodePlan) -> dict[str, Any]:
        """Change a node in place; new TAP descriptors go ahead of the answer."""
        check_names(plan)
        node = self._nodes[plan.name]
        taps = update(self._site, node, plan)
        try:
            self._change_programs(node, plan)
        except BaseException:
            self._close_taps(taps)
            raise
        self._send_taps(taps)  # last: when nobody is there to take them any more, the node is what its plan says
        return self._entry(node)

    def _change_programs(self, node: Node, plan: NodePlan) -> None:
        wanted = {program.name: program for program in plan.programs}
        gone = [p for p in self._supervisor.of_node(plan.name) if wanted.get(p.plan.name) != p.plan]
        self._end(gone, grace_s=1.0)
        self._supervisor.drop(gone)
        known = {program.plan.name for program in self._supervisor.of_node(plan.name)}
        new = [program for program in plan.programs if program.name not in known]
        self._supervisor.add(plan.name, new, str(node.logs(self._site)))

    def do_linger(self) -> bool:
        """Survive the daemon from now on, for another to come; whether that can be.

        Devices in namespaces of the user's cannot: they must go when the daemon does.
        """
        if any(node.plan.attach for node in self._nodes.values()):
            self.lock_up()
            return False
        if self._door is None:
            try:
                self._door = Door(self._folder, self._channel.network)
            except OSError as error:
                raise LabError(f"nodes cannot wait for another daemon: {said(error)}") from error
        return True

    def do_stop_lingering(self) -> None:
        """Survive the daemon no more."""
        self.lock_up()

    def do_sockets(self) -> dict[str, Sockets]:
        """The TCP sockets of every node."""
        return {name: read_sockets(tcp_tables(self._site, node)) for name, node in self._nodes.items()}

    def do_reopen(self) -> dict[int, str]:
        """Open the TAP devices of all nodes once more; their descriptors go ahead of the answer.

        The answer is which cannot be opened: port -> a line that says so. Only those have no network.
        """
        taps: dict[int, int] = {}
        end = time.monotonic() + _BUSY_S
        try:
            while True:
                refused = [(node, reopen(self._site, node, taps)) for node in self._nodes.values()]
                busy = any(e.errno == errno.EBUSY for _, errors in refused for e in errors.values())
                if not busy or time.monotonic() > end:
                    break
                time.sleep(_BUSY_PAUSE_S)
        except BaseException:
            self._close_taps(taps)
            raise
        self._send_taps(taps)
        return {
            node.ports[device]: _lost_device(node, device, error)
            for node, errors in refused
            for device, error in errors.items()
        }

    def do_start(self) -> None:
        """Start every program that was never started."""
        self._supervisor.start(time.monotonic())

    def do_restart(self, node: str, name: str | None) -> None:
        """End the programs of a node (or one) and start them again."""
        programs = [program for program in self._supervisor.of_node(node) if name in (None, program.plan.name)]
        self._end(programs, grace_s=RESTART_GRACE_S)
        self._supervisor.restart(programs, time.monotonic())

    def do_status(self) -> dict[str, tuple[str | None, list[dict[str, Any]]]]:
        """Per node: its name under /run/netns, and its programs."""
        programs: dict[str, list[dict[str, Any]]] = {name: [] for name in self._nodes}
        for program in self._supervisor.programs:
            programs[program.node].append(program.facts())
        return {name: (node.netns, programs[name]) for name, node in self._nodes.items()}

    def do_unready(self) -> list[tuple[str, dict[str, Any], bool]]:
        """Programs that were not ready yet: (title, facts, whether waiting on is pointless)."""
        found = self._supervisor.unready(time.monotonic())
        return [(program.title, program.facts(), pointless) for program, pointless in found]

    def do_close(self, grace_s: float) -> None:
        """End everything; the spawner goes when the other end hangs up."""
        self.lock_up()
        self._end(self._supervisor.programs, grace_s=grace_s)
        self.end_processes()
        self._kill_inside(list(self._nodes))  # what `ip netns exec` started is in no PID namespace of ours
        for name in list(self._nodes):
            self._forget(name)

    def end_processes(self) -> None:
        """Kill everything in the lab's PID namespace."""
        if self._init:
            end_all_below(self._init)
            self._init = 0

    def lock_up(self) -> None:
        """Survive the daemon no more."""
        if self._door is not None:
            self._door.close()
            self._door = None

    def leave_attached(self) -> None:
        """Take what is ours from namespaces that are not; those of the lab go with us, their names by `lab.gc`."""
        for node in self._nodes.values():
            if node.plan.attach:
                destroy(self._site, node)

    # -- parts ---------------------------------------------------------------------------------------------

    def _announce(self, name: str) -> None:
        path = self._folder / NAMES
        try:
            with path.open("a") as file:
                file.write(f"{name}\n")
        except OSError as error:
            raise OSError(error.errno, error.strerror, str(path)) from error

    def _entry(self, node: Node) -> dict[str, Any]:
        return {
            "mnt": node.namespaces.mount,
            "net": node.namespaces.network,
            "uts": node.namespaces.uts,
            "netns": node.netns,
            "environment": dict(node.plan.environment),
        }

    def _forget(self, name: str) -> None:
        node = self._nodes.pop(name)
        if node.netns is not None:
            netns_names.release(node.netns)
        destroy(self._site, node)

    def _send_taps(self, taps: dict[int, int]) -> None:
        ports = list(taps)
        try:
            for first in range(0, len(ports), DESCRIPTOR_LIMIT):
                chunk = ports[first : first + DESCRIPTOR_LIMIT]
                self._channel.send(("more", chunk), [taps[port] for port in chunk])
        finally:
            self._close_taps(taps)

    def _close_taps(self, taps: dict[int, int]) -> None:
        while taps:
            os.close(taps.popitem()[1])

    def _end(self, programs: list[Program], *, grace_s: float) -> None:
        """End these programs: SIGTERM, some time, SIGKILL. Returns when they have ended."""
        deadline = time.monotonic() + grace_s
        running = self._supervisor.stop(programs, signal.SIGTERM)
        killed = False
        while running:
            self._reap()
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
        ours = [self._nodes[name] for name in names if not self._nodes[name].plan.attach]
        end_all_in({processes.descriptor_identity(node.namespaces.network) for node in ours})

    def _reap(self) -> None:
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
                _log(f"program {program.title}: {program.message or describe(code)}")


def _lost_device(node: Node, device: str, error: OSError) -> str:
    why = "a program in it holds its other end" if error.errno == errno.EBUSY else "it has been deleted or replaced"
    return f"{device} of {node.plan.name} has no network any more: {why}"


def _prepare_init(etc: Path) -> None:
    try:
        unshare(CLONE_NEWNS)
        mount_view.make_base(etc)
    except OSError as error:
        if is_scarce(error):
            raise
        raise LabError(f"{error.filename}: mounting is not allowed here ({error.strerror})") from error


def _log(message: str) -> None:
    # The log is a file: a full disk must not end the lab.
    with contextlib.suppress(OSError):
        sys.stderr.write(f"{time.strftime('%Y-%m-%d %H:%M:%S')} spawner: {message}\n")
        sys.stderr.flush()


def main() -> None:
    """Serve the Runtime at the other end of the socket whose descriptor is the argument."""
    set_process_name("vpclab-spawner")
    os.umask(0o022)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    channel = Channel(socket.socket(fileno=int(sys.argv[1])))
    os.set_inheritable(channel.fileno(), False)
    try:
        options, _ = channel.receive()
        try:
            spawner = Spawner(channel, **options)
        except LabError as error:
            channel.send(("refused", str(error)))
            return
        except OSError as error:
            channel.send(("refused", f"the lab cannot be made: {said(error)}"))
            return
        try:
            channel.send(("done", spawner.facts()))
            spawner.serve()
        finally:
            spawner.lock_up()
            spawner.leave_attached()
            spawner.end_processes()  # they would go with us, but nobody might reap process 1
    except ChannelClosed:
        pass  # the lab is over
