"""The spawner: the process that makes nodes and starts programs (`lab.nodes`), for the Runtime at the other end of a
socket.

It is a fresh, small, single-threaded interpreter. Only such a process may join user namespaces, it forks in a
fraction of a millisecond whatever its parent has become, and a `Runtime` can be made from any thread of any
program. `lab.runtime` says who belongs to whom.

Requests are tuples (name, arguments...); each is answered by one or more ("more", ...) and a last ("done", ...), or by
("refused", message) for what the operating system refuses.
"""

from __future__ import annotations

import contextlib
import os
import resource
import select
import signal
import socket
import sys
import time
import traceback
from pathlib import Path
from typing import Any, NoReturn

from dataplane.errors import LabError
from lab import capabilities, mount_view, netns_names, rootless
from lab.channel import DESCRIPTOR_LIMIT, Channel, ChannelClosed
from lab.connections import Sockets
from lab.handover import Door, Handover
from lab.init import start_init
from lab.inside import without_proxies
from lab.namespace import Workplace
from lab.node import Site
from lab.node_plan import NodePlan
from lab.nodes import Nodes, close_taps, log
from lab.scarcity import is_scarce, said
from lab.state import ETC, NODES
from lab.succession import open_again, read_all_sockets
from lab.syscalls import CLONE_NEWIPC, CLONE_NEWNET, CLONE_NEWNS, CLONE_NEWPID, CLONE_NEWUTS, set_process_name, unshare
from lab.tap import check_tun


class Spawner:
    """Makes and keeps what it is asked to, and outlives who asks if it is to."""

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
        init = start_init(lambda: _prepare_init(etc))
        self._site = Site(
            lab=lab,
            lab_id=lab_id,
            folder=Path(folder, NODES),
            etc=etc,
            workplace=workplace,
            base_mount=os.open(f"/proc/{init}/ns/mnt", os.O_RDONLY | os.O_CLOEXEC),
            last_group=rootless.last_mapped_group(),
            start_network=None if self._rootless else start_network,
        )
        self._wake, wake_writer = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
        signal.set_wakeup_fd(wake_writer)
        signal.signal(signal.SIGCHLD, lambda *_: None)
        self._folder = Path(folder)
        # As long as we have it open, no later folder can be taken for it (`lab.state.folder_id`).
        self._folder_descriptor = os.open(folder, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
        self._door: Door | None = None
        self._facts = {"init": init, "rootless": self._rootless, "warnings": self.warnings}
        self.nodes = Nodes(
            self._site,
            init,
            folder=self._folder,
            named=self._named,
            environment=without_proxies(os.environ),
            start_folder=start_folder,
            descriptor_limit=limits[0],
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
        return self._facts

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
                if self._door is None or not self.nodes.by_name:
                    raise
                self._channel.close()
                self._channel = self._next_daemon(self._door)

    def _work(self, other: int, limit_s: float | None = None) -> bool:
        """Look after the programs until something comes by `other`, once; whether it has come."""
        due = [each for each in (self.nodes.due_in(), limit_s) if each is not None]
        poll = select.poll()
        poll.register(other, select.POLLIN)
        poll.register(self._wake, select.POLLIN)
        ready = dict(poll.poll(int(min(due) * 1000) + 1 if due else None))
        if self._wake in ready:
            with contextlib.suppress(BlockingIOError):
                os.read(self._wake, 4096)
            self.nodes.reap()
        self.nodes.work()
        return other in ready

    def _next_daemon(self, door: Door) -> Channel:
        """Wait for the daemon that takes this lab over. Raises ChannelClosed when none comes."""
        log(f"the daemon has ended; the nodes wait for another one, for {self._linger_s / 60:g} minutes")
        door.listen()
        end = time.monotonic() + self._linger_s
        while time.monotonic() < end and door.is_there():
            if self._work(door.fileno(), 1.0) and (channel := door.open(self._handover())) is not None:
                log("another daemon has taken over")
                door.shut()
                return channel
        raise ChannelClosed

    def _handover(self) -> Handover:
        return Handover(
            lab_id=self._site.lab_id,
            facts=self.facts(),
            plans={name: node.plan for name, node in self.nodes.by_name.items()},
            entries={name: self.nodes.entry(name) for name in self.nodes.by_name},
            unfinished=self.nodes.unfinished(),
        )

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
            log(traceback.format_exc())
            answer = ("refused", f"internal error: {type(error).__name__}: {error} (details in daemon.log)")
        self.nodes.check_init()  # what failed did so for that
        self._channel.send(answer)

    def do_add(self, plans: list[NodePlan]) -> dict[str, dict[str, Any]]:
        """Make nodes; their TAP descriptors go ahead of the answer. All or none."""
        if any(plan.attach for plan in plans):
            self.do_stop_lingering()  # before there is anything that must not outlive the daemon
        self.nodes.add(plans, self._send_taps)
        return {plan.name: self.nodes.entry(plan.name) for plan in plans}

    def do_remove(self, names: list[str]) -> None:
        """End programs and nodes."""
        self.nodes.remove(names)

    def do_update(self, plan: NodePlan) -> dict[str, Any]:
        """Change a node in place; new TAP descriptors go ahead of the answer."""
        # Those last: when nobody is there to take them any more, the node is what its plan says.
        self._send_taps(self.nodes.update(plan))
        return self.nodes.entry(plan.name)

    def do_linger(self) -> bool:
        """Survive the daemon from now on, for another to come; whether that can be.

        Devices in namespaces of the user's cannot: they must go when the daemon does.
        """
        if self.nodes.has_attached():
            self.do_stop_lingering()
            return False
        if self._door is None:
            try:
                self._door = Door(self._folder, self._channel.network)
            except OSError as error:
                raise LabError(f"nodes cannot wait for another daemon: {said(error)}") from error
        return True

    def do_stop_lingering(self) -> None:
        """Survive the daemon no more."""
        if self._door is not None:
            self._door.close()
            self._door = None

    def do_sockets(self) -> tuple[dict[str, Sockets], dict[str, str]]:
        """The TCP sockets of every node, and of those whose cannot be read, why."""
        return read_all_sockets(self._site, self.nodes.by_name)

    def do_reopen(self) -> dict[int, str]:
        """Open the TAP devices of all nodes once more; their descriptors go ahead of the answer.

        The answer is which cannot be opened: port -> a line that says so.
        """
        taps, lost = open_again(self._site, self.nodes.by_name.values())
        self._send_taps(taps)
        return lost

    def do_start(self) -> None:
        """Start every program that was never started."""
        self.nodes.start()

    def do_restart(self, node: str, name: str | None) -> None:
        """End the programs of a node (or one) and start them again."""
        self.nodes.restart(node, name)

    def do_status(self) -> dict[str, tuple[str | None, list[dict[str, Any]]]]:
        """Per node: its name under /run/netns, and its programs."""
        return self.nodes.status()

    def do_unready(self) -> list[tuple[str, dict[str, Any], bool]]:
        """Programs that were not ready yet: (title, facts, whether waiting on is pointless)."""
        return self.nodes.unready()

    def do_close(self, grace_s: float) -> None:
        """End everything; the spawner goes when the other end hangs up."""
        self.do_stop_lingering()
        self.nodes.close(grace_s)

    def _send_taps(self, taps: dict[int, int]) -> None:
        ports = list(taps)
        try:
            for first in range(0, len(ports), DESCRIPTOR_LIMIT):
                chunk = ports[first : first + DESCRIPTOR_LIMIT]
                self._channel.send(("more", chunk), [taps[port] for port in chunk])
        finally:
            close_taps(taps)


def _prepare_init(etc: Path) -> None:
    try:
        unshare(CLONE_NEWNS)
        mount_view.make_base(etc)
    except OSError as error:
        if is_scarce(error):
            raise
        raise LabError(f"{error.filename}: mounting is not allowed here ({error.strerror})") from error


def main() -> None:
    """Serve the Runtime at the other end of the socket whose descriptor is the first argument.

    The second is for others to see: which state folder this is for (`lab.processes.folder_of`).
    """
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
            spawner.do_stop_lingering()
            spawner.nodes.leave_attached()
            spawner.nodes.end_processes()  # they would go with us, but nobody might reap process 1
    except ChannelClosed:
        pass  # the lab is over
