"""The daemon's line to the process that keeps its nodes (`lab.spawner`): start it or take it over, and ask it."""

from __future__ import annotations

import os
import socket
import subprocess
import time
from collections.abc import Mapping
from typing import Any

from dataplane.errors import LabError
from lab.channel import Channel, ChannelClosed, DescriptorsLost
from lab.handover import Handover, come_in
from lab.identity import LAB_VARIABLE, new_lab_id
from lab.interpreter import command
from lab.processes import Process, boot_id, start_time
from lab.scarcity import remedy
from lab.state import RUNTIME, LabState, folder_id, recorded_process

_ENDING_S = 10.0
"""How long a spawner may take to end that has been hung up on."""


class RefusedError(LabError):
    """The spawner has tried it, in vain."""


class SilentError(LabError):
    """The spawner has not answered in time: nobody knows what it has done, or will do."""


class NoRoomError(LabError):
    """The spawner has done it, but this process has no room for what came of it."""


class Keeper:
    """A spawner that is ours. Not thread-safe."""

    def __init__(
        self, lab: str, lab_id: str, channel: Channel, process: Process, child: subprocess.Popen[bytes] | None
    ) -> None:
        self.lab_id, self.process = lab_id, process
        self.channel, self._lab, self._child = channel, lab, child
        self._is_silent = False
        """Whether an answer has not come in time. It may come yet, and would be taken for the next one's."""

    @classmethod
    def start(cls, state: LabState, linger_s: float) -> Keeper:
        """Start one; it gets ready meanwhile, and `meet` waits for that."""
        lab_id = new_lab_id(state.name)
        ours, theirs = socket.socketpair()
        with theirs:
            child = subprocess.Popen(
                command("spawner", str(theirs.fileno()), folder_id(state.path)),
                pass_fds=(theirs.fileno(),),
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                start_new_session=True,  # Ctrl-C is for the daemon: it ends the lab in order
                env={**os.environ, LAB_VARIABLE: lab_id},
            )
        made = cls(state.name, lab_id, Channel(ours), Process(child.pid, start_time(child.pid) or 0), child)
        try:
            made.channel.send(
                {
                    "lab": state.name,
                    "lab_id": lab_id,
                    "folder": str(state.path),
                    "start_folder": os.getcwd(),
                    "linger_s": linger_s,
                }
            )
        except BaseException:
            made.hang_up()
            raise
        return made

    @classmethod
    def take_over(cls, state: LabState) -> tuple[Keeper, Handover]:
        """Take over the one that waits for another daemon, and what it has. Raises LabError when none does."""
        process = recorded_process(state.read(RUNTIME))
        if process is None:
            raise LabError(f"nothing of lab {state.name} runs any more; start it anew: vpclab up FILE")
        channel, handover = come_in(state.path, state.name, process)
        state.clear_drafts(process.pid)
        return cls(state.name, handover.lab_id, channel, process, None), handover

    def meet(self) -> Mapping[str, Any]:
        """Wait until it is ready; what it tells of itself. Raises LabError, and it has ended: what it could not do."""
        try:
            facts: Mapping[str, Any] = self._answer({})
        except BaseException:
            self.hang_up()
            raise
        return facts

    def record(self, facts: Mapping[str, Any]) -> dict[str, Any]:
        """What others must know of it (`lab.state.RUNTIME`), given what it tells of itself."""
        return {
            "pid": self.process.pid,
            "start": self.process.start,
            "boot": boot_id(),
            "init": facts["init"],
            "init_start": start_time(facts["init"]),
            "lab_id": self.lab_id,
            "rootless": facts["rootless"],
        }

    def ask(self, taps: dict[int, int], *request: Any) -> Any:
        """Ask it for something; its answer, and port -> descriptor in `taps`, also when this raises.

        Raises RefusedError, NoRoomError, SilentError when it does not answer in time, then and ever after, and LabError
        when it has ended.
        """
        if self._is_silent:
            raise self._silent()
        try:
            self.channel.send(request)
        except ChannelClosed as error:
            if isinstance(error.__cause__, BlockingIOError):
                raise self._silent() from error
            raise self._gone() from None
        return self._answer(taps)

    def be_patient(self) -> None:
        """Wait for it as long as it takes."""
        self.channel.be_patient()

    def let_go(self) -> None:
        """Leave it to the next daemon, if it lingers."""
        self.channel.close()

    def hang_up(self) -> None:
        """End it."""
        self.channel.close()
        end = time.monotonic() + _ENDING_S
        while self.process.is_alive() and time.monotonic() < end:
            time.sleep(0.002)
        self.process.kill()
        self.wait()

    def wait(self, limit_s: float | None = None) -> None:
        """Bury it once it has ended, if it is a child of ours."""
        if self._child is not None:
            self._child.wait(limit_s)

    def _answer(self, taps: dict[int, int]) -> Any:
        lost: DescriptorsLost | None = None
        while True:
            try:
                (kind, value), descriptors = self.channel.receive()
            except DescriptorsLost as error:
                lost = error
                continue
            except ChannelClosed:
                raise self._gone() from None
            except BlockingIOError as error:
                raise self._silent() from error
            if kind == "refused":
                raise RefusedError(value)
            if kind == "done":
                if lost:
                    raise NoRoomError(f"no room for the ports of new nodes: {lost.strerror}{remedy(lost)}")
                return value
            taps |= zip(value, descriptors, strict=True)

    def _gone(self) -> LabError:
        return LabError(f"{self} has ended (its last words: daemon.log)")

    def _silent(self) -> SilentError:
        self._is_silent = True
        return SilentError(f"{self} does not answer")

    def __str__(self) -> str:
        return f"the process that keeps lab {self._lab}'s nodes"
