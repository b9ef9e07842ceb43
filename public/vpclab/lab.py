"""A lab: the network of one lab file, running on this machine."""

from __future__ import annotations

import itertools
import os
import signal
import subprocess
import time
from collections.abc import Iterator, Mapping
from ipaddress import ip_address
from pathlib import Path
from types import TracebackType
from typing import IO, TYPE_CHECKING, Any, Self

from dataplane.errors import LabError
from lab import gc
from lab.control import ImpostorError, NotRunningError
from lab.startup import Start, launch
from lab.state import DOOR, RUNTIME, LabState, known_labs, recorded_process
from vpclab.clock import Clock
from vpclab.declaration import declaration_text
from vpclab.node import Node
from vpclab.observation import CHANGE_LIMIT_S, Observation

if TYPE_CHECKING:
    from dataplane.model.lab_file import LabFile

_UP_LIMIT_S = 300.0
_DOWN_LIMIT_S = 60.0
_numbers = itertools.count(1)


class Lab(Observation):
    """A lab, running or ready to run.

    Made by `load`, `from_dict` or, for one that runs already, `attach`. As a context manager it
    is up inside the ``with`` block and gone, with everything it made, after it::

        with Lab.load("lab.yaml") as lab:
            assert lab["app"].ping("web")

    All methods that ask the running lab raise LabError when it is not running (any more).
    """

    def __init__(self, name: str, text: str, file: str) -> None:
        super().__init__(name)
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
            folder = None if os.path.isabs(file) else os.getcwd()
        else:
            text, file, folder = declaration_text(lab_file), "<dict>", None
        answer = self.ask("apply", timeout_s=CHANGE_LIMIT_S, text=text, file=file, dry_run=dry_run, folder=folder)
        if not dry_run:
            self._forget_nodes()
        if answer["problem"]:
            raise LabError(f"applied, but {answer['problem']}")
        changed: list[dict[str, Any]] = answer["changes"]
        return changed


def _waits(state: LabState) -> bool:
    """Whether the nodes of a lab wait for another daemon."""
    return not state.is_running() and (state.path / DOOR).exists() and recorded_process(state.read(RUNTIME)) is not None


def _read(file: str | os.PathLike[str]) -> tuple[str, str]:
    """A lab file's text, and what to call it."""
    from dataplane.load.source import read_text

    return read_text(Path(file))
