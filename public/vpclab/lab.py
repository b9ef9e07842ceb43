"""A lab: the network of one lab file, running on this machine."""

from __future__ import annotations

import itertools
import os
import signal
import subprocess
import time
from collections.abc import Iterator, Mapping, Sequence
from ipaddress import ip_address
from pathlib import Path
from types import TracebackType
from typing import IO, TYPE_CHECKING, Any, BinaryIO, Self

from dataplane.errors import LabError
from dataplane.trace import Trace
from lab import gc
from lab.capture_stream import CaptureStream, StoryStream
from lab.control import ControlClient, ImpostorError, NotRunningError, RequestError
from lab.startup import Start, launch
from lab.state import DOOR, RUNTIME, LabState, known_labs, recorded_process
from vpclab.clock import Clock
from vpclab.declaration import declaration_text
from vpclab.node import Node

if TYPE_CHECKING:
    from dataplane.model.check import Check
    from dataplane.model.lab_file import LabFile
    from dataplane.picture import Picture

_UP_LIMIT_S = 300.0
_CHANGE_LIMIT_S = 300.0
_DOWN_LIMIT_S = 60.0
_numbers = itertools.count(1)


class Lab:
    """A lab, running or ready to run.

    Made by `load`, `from_dict`, `from_model` or, for one that runs already, `attach`. As a context manager it
    is up inside the ``with`` block and gone, with everything it made, after it::

        with Lab.load("lab.yaml") as lab:
            assert lab["app"].ping("web")

    All methods that ask the running lab raise LabError when it is not running (any more).
    """

    def __init__(self, name: str, text: str, file: str) -> None:
        try:
            self._state = LabState(name)
        except LabError as error:
            raise RequestError(str(error)) from None
        self._text = text
        self._file = file
        self._nodes: dict[str, Node] = {}
        self._daemon: subprocess.Popen[bytes] | None = None
        self._tie: IO[bytes] | None = None

    # -- making one ----------------------------------------------------------------------------------------

    @classmethod
    def load(cls, file: str | os.PathLike[str], *, name: str = "", unique: bool = True) -> Self:
        """Read and check a lab file; nothing is started yet.

        Args:
            file: path of the YAML file.
            name: name of the running lab; the name in the file, or the file's own, when not given.
            unique: make a name that was not given unique, so that test runs do not get into each other's way.

        Raises:
            ConfigurationError: what is wrong with the file; `unjudged` is what that keeps from being judged.
        """
        text, path = _read(file)
        return cls._declared(text, path, name, Path(file).stem, unique)

    @classmethod
    def from_dict(cls, lab_file: Mapping[str, Any] | LabFile, *, name: str = "", unique: bool = True) -> Self:
        """A lab declared in code: what a lab file would hold, as dicts, lists, text and numbers.

        Values may also be objects of `dataplane.model` (the whole may be a `LabFile`), and addresses and networks of
        `ipaddress`. Arguments and errors are those of `load`; TypeError is raised for what no lab file could hold.
        """
        return cls._declared(declaration_text(lab_file), "<dict>", name, "lab", unique)

    @classmethod
    def _declared(cls, text: str, file: str, name: str, fallback: str, unique: bool) -> Self:
        # Late: reading YAML and the model take half of the command's start, and most verbs need neither.
        from dataplane.load import load

        loaded = load(text, file_name=file)
        loaded.topology()
        if not name:
            name = loaded.lab_file.name or fallback
            name = f"{name}-{os.getpid()}-{next(_numbers)}" if unique else name
        return cls(name, text, file)

    @classmethod
    def attach(cls, name: str | None = None) -> Self:
        """A lab that runs already, by name; without a name, the only one that runs.

        Raises:
            LabError: it does not run, none does, or several do.
        """
        running = cls.running()
        if name is None:
            if not running:
                again = "bring back the one whose daemon was killed: vpclab up --resume"
                raise LabError(f"no lab is running; {again if cls.waiting() else 'start one: vpclab up FILE'}")
            if len(running) > 1:
                raise LabError(f"several labs are running ({', '.join(running)}); say which: --lab {running[0]}")
            name = running[0]
        elif name not in running:
            have = f"; running: {', '.join(running)}" if running else "; start it: vpclab up FILE"
            if name in cls.waiting():
                have = ": its daemon was killed, its instances run on; bring it back: vpclab up --resume"
            raise LabError(f"lab {name!r} is not running{have}")
        return cls(name, "", "")

    @classmethod
    def interrupted(cls, name: str | None = None) -> Self:
        """A lab whose daemon was killed and whose instances still run, for `resume`; without a name, the only one.

        Raises:
            LabError: there is none, or there are several.
        """
        waiting = cls.waiting()
        if name is None:
            if len(waiting) != 1:
                several = f"several labs can be resumed ({', '.join(waiting)}); say which: --name NAME"
                raise LabError(several if waiting else "no lab can be resumed: no instances run without their daemon")
            name = waiting[0]
        elif name not in waiting:
            if name in cls.running():
                raise LabError(f"lab {name!r} is running; there is nothing to resume")
            raise LabError(f"lab {name!r} cannot be resumed: no instances of it run; start it anew: vpclab up FILE")
        return cls(name, "", "")

    @staticmethod
    def waiting() -> list[str]:
        """Names of the labs of this user whose daemon was killed and whose instances still run."""
        return [state.name for state in known_labs() if _waits(state)]

    @staticmethod
    def running() -> list[str]:
        """Names of the labs of this user that run now."""
        return [state.name for state in known_labs() if state.is_running()]

    @staticmethod
    def collect_garbage(name: str | None = None) -> list[gc.Removed]:
        """Remove what labs that were killed left behind (all, or the one named), and say what was removed.

        Running labs are not touched.

        Raises:
            NotRemovedError: something cannot be removed, e.g. because it is another user's; its ``removed`` tells what
                was, of all labs.
        """
        return gc.collect(name)

    # -- up and down ---------------------------------------------------------------------------------------

    @property
    def name(self) -> str:
        """Name of the running lab: what ``vpclab --lab`` takes."""
        return self._state.name

    @property
    def folder(self) -> Path:
        """Where its logs are while it runs."""
        return self._state.path

    def up(self, *, detached: bool = False) -> str:
        """Start it and wait until every program is ready.

        Args:
            detached: let it run on after this process ends, as `vpclab up` does. Otherwise it ends with this
                process, however that ends, and a program that does not get ready is an error.

        Returns:
            With `detached`, why a program is not ready, or an empty text.

        Raises:
            LabError: a lab of this name runs already, or it cannot be started; nothing is left of it then.
        """
        if self._state.is_running():
            daemon = self._state.read_daemon()
            who = f" (daemon {daemon['pid']})" if daemon else ""
            raise LabError(f"lab {self.name!r} is running already{who}; stop it first: vpclab down {self.name}")
        return self._launch(Start(name=self.name, text=self._text, file=self._file, strict=not detached), detached)

    def resume(self) -> str:
        """Take over the instances of a lab whose daemon was killed (`interrupted`); it runs on detached.

        Instances, programs and TCP connections go on as they are, and the lab is what was applied last. Counters and
        captures begin anew. What does not go on is among the ``warnings`` of `status`.

        Returns:
            Why a program is not ready, or an empty text.

        Raises:
            LabError: it cannot be taken over; it is as it was.
        """
        return self._launch(Start(name=self.name, text="", file="", strict=False, resume=True), detached=True)

    def _launch(self, start: Start, detached: bool) -> str:
        started = launch(start, tied=not detached, limit_s=_UP_LIMIT_S)
        self._daemon, self._tie = started.process, started.tie
        return started.problem

    def down(self) -> None:
        """Stop it and wait until everything it made is gone. One that is down already is fine.

        Raises:
            LabError: it would not go.
        """
        self._forget_nodes()
        daemon = recorded_process(self._state.read_daemon())
        try:
            self.ask("down")
        except (NotRunningError, ImpostorError):
            if not self._state.is_running():
                gc.collect(self.name)  # killed, perhaps
            elif daemon is not None:
                daemon.kill(signal.SIGTERM)  # up, but not yet listening, or somebody else does in its place
        deadline = time.monotonic() + _DOWN_LIMIT_S
        while self._state.is_running() or (self._daemon is None and daemon is not None and daemon.is_alive()):
            if time.monotonic() > deadline:
                pid = daemon.pid if daemon else "its daemon"
                raise LabError(f"lab {self.name!r} does not end; run: kill -9 {pid}; vpclab gc")
            time.sleep(0.01)
        if self._tie is not None:
            self._tie.close()
            self._tie = None
        if self._daemon is not None:
            self._daemon.wait(_DOWN_LIMIT_S)
            self._daemon = None
        if self._state.path.exists():
            gc.collect(self.name)  # it was being killed when we asked: nobody tidied up

    def __enter__(self) -> Self:
        self.up()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.down()

    def __repr__(self) -> str:
        return f"<Lab {self.name} of {self._file}>" if self._file else f"<Lab {self.name}>"

    # -- nodes ---------------------------------------------------------------------------------------------

    @property
    def nodes(self) -> Mapping[str, Node]:
        """Instances, internet hosts and AWS services by name, in the order of the lab file."""
        return {name: self[name] for name in self.ask("nodes")}

    def __getitem__(self, name: str) -> Node:
        """A node by name.

        Raises:
            RequestError: there is none of that name; it names the nearest.
        """
        if name not in self._nodes:
            self._nodes[name] = Node(self, self.ask("node", name=name))
        return self._nodes[name]

    def __iter__(self) -> Iterator[Node]:
        return iter(self.nodes.values())

    def _forget_nodes(self) -> None:
        while self._nodes:
            self._nodes.popitem()[1].close()

    def address_of(self, destination: Node | str, *, source: Node | str) -> str:
        """The address by which one node knows another: what its ``/etc/hosts`` says, else the one public address.

        Args:
            destination: a node, its name, or an address (which is returned as it is).
            source: the node that asks, or its name.

        Raises:
            RequestError: no such node.
        """
        name = destination.name if isinstance(destination, Node) else destination
        try:
            return str(ip_address(name))
        except ValueError:
            asker = source.name if isinstance(source, Node) else source
            return str(self.ask("resolve", source=asker, destination=name))

    # -- looking -------------------------------------------------------------------------------------------

    def status(self) -> dict[str, Any]:
        """Nodes with addresses, programs and packet counts, and facts about the daemon; as `vpclab status`."""
        found: dict[str, Any] = self.ask("status")
        return found

    def limits(self) -> dict[str, Any]:
        """What packets can fill, as `vpclab status --limits`.

        ``limits`` are rows: ``what``, ``now``, ``most``, ``bytes`` of memory, and what happens when it is ``full``;
        ``bytes`` is their sum, and ``resident_bytes`` what the daemon takes now.

        The daemon never takes more than ``bytes`` on top of what it took before the first packet, unless it is asked
        for more, as by one more capture.
        """
        found: dict[str, Any] = self.ask("limits")
        return found

    def trace(
        self,
        source: Node | str,
        destination: Node | str,
        *,
        protocol: str | int = "tcp",
        port: int | None = None,
        source_port: int | None = None,
        size_bytes: int = 0,
    ) -> Trace:
        """Follow a packet and the answer to it through live state; nothing is sent, nothing changes.

        Instances on the way are taken to send on what is not their own (`Trace.assumed`); where nobody can tell by
        which interface they would, the packet has got only so far (`Walk.astray`).

        Args:
            source: a node, its name, an interface (``"fw/eth1"``) or an address of one. A node sends by the interface
                in whose subnet the destination is, else by its first one.
            destination: a node, its name, or an address.
            protocol: ``tcp``, ``udp``, ``icmp``, ``icmpv6`` or a number.
            port: destination port of TCP or UDP; 80 when not given.
            source_port: source port, or identifier of an echo request; 40000 when not given. If a connection from it is
                open, the packet is one of that connection.
            size_bytes: payload.

        Raises:
            RequestError: no such node, address or protocol.
        """
        answer = self.ask(
            "trace",
            source=source.name if isinstance(source, Node) else source,
            destination=destination.name if isinstance(destination, Node) else destination,
            protocol=str(protocol),
            port=port,
            source_port=source_port,
            size_bytes=size_bytes,
        )
        return Trace.from_json(answer)

    def routes(self, table: str | None = None) -> list[dict[str, Any]]:
        """Effective routes of all route tables, or of one (``"shop/public"``).

        Raises:
            RequestError: no such table.
        """
        found: list[dict[str, Any]] = self.ask("routes", table=table)
        return found

    def nat(self) -> dict[str, Any]:
        """``gateways``, ``mappings`` and ``translations``: as `vpclab nat` shows them.

        NAT gateways with their addresses and ``metrics`` (counters under CloudWatch's names), the 1:1 mappings of
        internet gateways, and the live connections through NAT gateways.
        """
        found: dict[str, Any] = self.ask("nat")
        return found

    def flows(self, *, limit: int = 1000) -> list[dict[str, Any]]:
        """Tracked flows, the latest first: tuples of both directions, state, times in seconds, rule."""
        found: list[dict[str, Any]] = self.ask("flows", limit=limit)
        return found

    def flow_logs(self, *, after: int = 0, unfinished: bool = False) -> list[dict[str, str]]:
        """Records of flow logs, the oldest first: field -> value, with ``log`` (``VPC/NAME``) and ``number``.

        Args:
            after: only those written since the one of this number (the last 100,000 are kept; files have them all).
            unfinished: those of intervals that are not over, as they would be written now; their number is 0.
        """
        found = self.ask("flow_logs", after=after, open=unfinished)
        fields: dict[str, list[str]] = found["fields"]
        return [
            {"log": each["log"], "number": str(each["number"])}
            | dict(zip(fields.get(each["log"], []), each["text"].split(" "), strict=False))
            for each in found["records"]
        ]

    def targets(self) -> list[dict[str, Any]]:
        """Targets of load balancers: ``state``, ``reason`` and ``description`` in AWS's words, and what they carry now.

        ``flows``, ``packets`` and ``bytes`` (both ways) are those of the flows that a target has now. Targets that were
        deregistered are listed while they are ``draining``, and as long as they have flows.
        """
        found: list[dict[str, Any]] = self.ask("targets")
        return found

    def capture(self, *points: str, stream: BinaryIO, where: str = "", count: int = 0, seconds: float = 0.0) -> int:
        """Write packets at points of the lab to a binary stream, as pcapng; returns how many.

        The file has an interface for each side of a point, and each packet a comment: verdict, reason, deciding rule.
        Packets that die are there too, where they last were. While anybody captures, every packet is walked through
        the tables as if it were the first of its flow; what becomes of it is the same. Who reads the stream too slowly
        loses records, which the file counts, but no packets.

        Args:
            points: ``web``, ``web/eth1``, ``nat:VPC/NAME``, ``igw:VPC``, ``eigw:VPC``, ``peering:NAME``,
                ``gwlb:VPC/NAME``, ``internet``; one side of it with ``/inside``, ``/outside``, ``/inner``, ``/outer``.
            stream: where to write.
            where: which packets, in tcpdump's syntax; all when empty.
            count: end after so many packets; 0: no limit.
            seconds: end after so many seconds; 0: no limit.

        It ends, too, on Ctrl-C, when the lab goes down, or when nobody reads the stream any more.

        Raises:
            RequestError: no such point, or libpcap refuses the filter.
            LimitError: there are 16 captures already.
            LabError: the lab died, so that the file has no end; what came is written.
        """
        with self.open_capture(*points, where=where) as running:
            return running.run(stream, count=count, seconds=seconds)

    def open_capture(self, *points: str, where: str = "", split: bool = False) -> CaptureStream:
        """A capture that has begun: `run` it in a thread of its own and `stop` it from another, then `close` it.

        `split`: the first word that names no point, and all behind it, are the filter, as on the command line.
        """
        return CaptureStream(self._state.path, points, where, split=split)

    def follow(self, where: str = "") -> StoryStream:
        """Follow real packets hop by hop, from now on: a context manager, and an iterator over `Followed`.

        A packet is told once it has been decided, with all it went through; the answer to it is a packet of its own.
        Those that go to a load balancer's target and come back from it are two.

        Args:
            where: which packets, as they came or as they left, in tcpdump's syntax; all when empty.

        Raises:
            RequestError: libpcap refuses the filter.
        """
        return StoryStream(self._state.path, where)

    def check(
        self,
        checks: Sequence[Mapping[str, Any] | Check] | None = None,
        *,
        patience_s: float = 3.0,
        apart: bool = False,
    ) -> list[dict[str, Any]]:
        """Prove who reaches whom with real packets: the ``checks:`` of the lab file, or these.

        While it lasts, every packet of the lab goes one by one, so that the engine can tell what becomes of it; nothing
        else can change the lab. Most checks take a few milliseconds; only what nobody decides takes longer.

        Args:
            checks: as they would stand in a lab file: ``[{"can": "app -> web", "port": 80}]``.
            patience_s: how long a packet that is on its way may show no sign of life, in seconds.
            apart: move the lab's clock on by days between packets of protocols without ports that go between the same
                two nodes, so that each is decided as if it were the first.

        Returns:
            For each check in turn: ``check``, ``holds``, ``why``, ``found``, ``dropped``, ``source_seen``, ``passed``
            and the ``legs`` of its way; the page of checks describes them.

        Raises:
            ConfigurationError: a check is wrong, or names what the lab has not.
        """
        text = None if checks is None else declaration_text(list(checks))
        found: list[dict[str, Any]] = self.ask(
            "check", timeout_s=_CHANGE_LIMIT_S, checks=text, patience_s=float(patience_s), apart=apart
        )
        return found

    def picture(self) -> Picture:
        """What there is, what is inside of what, and which route leads where; `dataplane.picture` makes text of it."""
        from dataplane.picture import Picture

        return Picture.from_json(self.ask("picture"))

    def traffic(self, *, ways: bool = False) -> dict[str, Any]:
        """Counters of this moment; the differences of two, by their ``time_s``, are rates.

        ``interfaces`` (packets, bytes and drops of each, as seen by the node), ``drops`` by reason, ``gateways``
        (connections, and the ``ports`` that the destination uses which has the most), the latest ``flows``, and how
        many are ``remembered``, by kind.
        """
        found: dict[str, Any] = self.ask("traffic", ways=ways)
        return found

    def ports_of_interest(self) -> dict[str, tuple[int, ...]]:
        """TCP ports worth trying, by node: what its programs are ready on, and what its groups open one by one."""
        return {name: tuple(ports) for name, ports in self.ask("ports").items()}

    # -- changing ------------------------------------------------------------------------------------------

    @property
    def clock(self) -> Clock:
        """The lab's clock."""
        return Clock(self)

    def apply(
        self, lab_file: str | os.PathLike[str] | Mapping[str, Any] | LabFile, *, dry_run: bool = False
    ) -> list[dict[str, Any]]:
        """Change the running lab to another lab file; flows that touch no changed object survive.

        Args:
            lab_file: path of a lab file, or what one would hold.
            dry_run: only say what would change.

        Returns:
            The changes: ``action`` (add, remove, change), ``kind``, ``path``, ``detail``.

        Raises:
            ConfigurationError: what is wrong with it; nothing has changed.
            LabError: a step failed; nothing has changed. Or a new program does not get ready.
        """
        if isinstance(lab_file, (str, os.PathLike)):
            text, file = _read(lab_file)
        else:
            text, file = declaration_text(lab_file), "<dict>"
        answer = self.ask("apply", timeout_s=_CHANGE_LIMIT_S, text=text, file=file, dry_run=dry_run)
        if not dry_run:
            self._forget_nodes()
        if answer["problem"]:
            raise LabError(f"applied, but {answer['problem']}")
        changed: list[dict[str, Any]] = answer["changes"]
        return changed

    def ask(self, verb: str, *, timeout_s: float = 30.0, **arguments: Any) -> Any:
        """Ask the lab's daemon; the verbs are those of `lab.verbs`.

        Raises:
            NotRunningError: the lab does not run (any more).
            LabError: no answer within `timeout_s` seconds.
            VpclabError: what the verb raises.
        """
        try:
            with ControlClient(self._state.path) as client:
                return client.call(verb, timeout_s=timeout_s, **arguments)
        except NotRunningError:
            if self._state.is_running():
                raise NotRunningError(f"lab {self.name} is just starting or going down; try again") from None
            raise


def _waits(state: LabState) -> bool:
    """Whether the nodes of a lab wait for another daemon."""
    return not state.is_running() and (state.path / DOOR).exists() and recorded_process(state.read(RUNTIME)) is not None


def _read(file: str | os.PathLike[str]) -> tuple[str, str]:
    """A lab file's text, and what to call it."""
    from dataplane.load.source import read_text

    return read_text(Path(file))
