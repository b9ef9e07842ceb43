"""How a running lab outlives its daemon: what that leaves to the next, and what it has from the one before.

Its nodes wait for another daemon from `Survival.linger` on, with what that must know in ``lab.json`` (`lab.journal`).
What it has itself taken over it does not own at first: until `Survival.own_nodes`, whatever fails or is interrupted
leaves the nodes as they were, and it can be tried again.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress

from dataplane.engine import DataPlane
from dataplane.errors import LabError
from lab.journal import Journal, JournalFile
from lab.keeper import RefusedError, SilentError
from lab.node_plan import NodePlan
from lab.node_status import Adopted
from lab.rebuilding import rebuild
from lab.runtime import NoProgramError, Runtime
from lab.state import LabState

_SHOWN = 3
log = logging.getLogger(__name__)


class Survival:
    """Of one lab."""

    def __init__(
        self,
        state: LabState,
        runtime: Runtime,
        *,
        text: str,
        file: str,
        describe: Callable[[str, str], Journal],
        changing: threading.RLock,
        again: bool,
    ) -> None:
        """Nothing is written yet.

        Args:
            state: the lab's state folder.
            runtime: its nodes.
            text: its file's text.
            file: what that is called.
            describe: what the lab is, given the text of its file and what that is called.
            changing: held while the lab changes.
            again: whether the nodes have been taken over.
        """
        self._journal, self._runtime, self._describe, self._changing = JournalFile(state), runtime, describe, changing
        self._text, self._file = text, file
        self._ending = threading.Event()
        self._lingers = again
        self.leaves_nodes = again
        """Whether nodes and programs are left to another daemon when this one ends."""
        self.lost: list[str] = []
        """What is lost because the daemon before was killed, each in a sentence."""

    # -- for the next daemon -------------------------------------------------------------------------------

    @property
    def is_ending(self) -> bool:
        """Whether the lab has been told to go down."""
        return self._ending.is_set()

    @property
    def lingers(self) -> bool:
        """Whether what the lab is is written down for another daemon."""
        return self._lingers

    def linger(self) -> None:
        """Let the nodes survive this process from now on, with what another daemon must know to take them over.

        What is in the way of that (a full disk) is logged: the lab runs without it. Raises SilentError.
        """
        with self._changing:
            self._lingers = True
            try:
                self.note(self._text, self._file)
                self._runtime.linger()
            except SilentError:
                raise  # it can do nothing else any more, either
            except LabError as error:
                log.warning("the lab will not outlive its daemon: %s", error)
            if self._ending.is_set():
                self.stop_lingering()  # it was told to go down meanwhile

    def stop_lingering(self) -> None:
        """Begin the end: whatever becomes of this process on the way, nobody takes the nodes over any more.

        Unless they are left to another daemon anyway. Never raises; calling it twice is fine.
        """
        self._ending.set()
        if not self.leaves_nodes:
            with suppress(LabError):  # the spawner is gone already
                self._runtime.stop_lingering()

    def note(self, text: str, file: str) -> None:
        """The lab is this file from now on: write it down, if it is to outlive its daemon. Raises LabError."""
        if self._lingers:
            self._journal.write(self._describe(text, file))
        self._text, self._file = text, file

    def note_change(self) -> None:
        """Write down that what is no part of its file has changed."""
        try:
            self.note(self._text, self._file)
        except LabError as error:
            log.warning("another daemon will not know of it: %s", error)

    def end(self) -> None:
        """End the nodes, or leave them to another daemon."""
        if self.leaves_nodes:
            self._runtime.let_go()
        else:
            self._runtime.close()

    # -- from the daemon before ----------------------------------------------------------------------------

    def lose(self, what: str) -> None:
        """Say, in a sentence, what is lost because the daemon before was killed."""
        self.lost.append(what)
        log.warning("%s", what)

    def rebuild(self, data_plane: DataPlane, now_ms: int, plans: Mapping[str, NodePlan]) -> None:
        """Remember the connections that the nodes have, which the daemon before has taken with it."""
        sockets, unread = self._runtime.sockets()
        for name, why in unread.items():
            self.lose(f"the network remembers no TCP connection of {name} any more: {why}")
        done = rebuild(data_plane, now_ms, plans, sockets)
        log.info("%d TCP connections go on", done.count)
        if done.lost:
            few = ", ".join(map(str, done.lost[:_SHOWN])) + (", ..." if len(done.lost) > _SHOWN else "")
            self.lose(f"the lab's daemon was killed: {len(done.lost)} TCP connections do not go on ({few})")

    def adopt(self, plans: Iterable[NodePlan]) -> Adopted:
        """Make the nodes that were taken over what they should be."""
        adopted = self._runtime.adopt(plans)
        for each in adopted.lost:
            self.lose(each)
        return adopted

    def restart_checkers(self, plans: Iterable[NodePlan]) -> None:
        """Start health checkers anew that have found nobody to report to, so that they need not wait for their turn.

        One that cannot be is lost alone. Raises LabError when the spawner has ended or does not answer.
        """
        for name in [plan.name for plan in plans if plan.hidden]:
            try:
                self._runtime.restart(name)
            except (RefusedError, NoProgramError) as error:
                self.lose(str(error))

    def own_nodes(self) -> None:
        """End with the lab what was taken over, from now on: somebody knows that it is up, and what was lost."""
        self.leaves_nodes = False
        self._runtime.be_patient()
