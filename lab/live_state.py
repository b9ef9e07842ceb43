"""What of a running lab's topology its file does not say: how targets are, and who has left (`RuntimeState`).

The data plane is told whenever it changes.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path

from dataplane.engine import DataPlane
from dataplane.topology import Topology
from dataplane.topology.runtime_state import RuntimeState, TargetHealth, TargetKey, advance, carry_over
from lab.health_watch import HealthWatch

_FIRST_CHECKS_S = 2.0
"""How long to wait for the first health check of each target: who is well should be known when the lab is up."""


class LiveState:
    """Of one lab."""

    def __init__(
        self,
        folder: Path,
        data_plane: DataPlane,
        *,
        now_ms: Callable[[], int],
        changing: threading.RLock,
        changed: Callable[[], None],
    ) -> None:
        """Nobody is watched yet.

        Args:
            folder: where health checkers find us.
            data_plane: is told.
            now_ms: lab time.
            changing: held while the lab changes.
            changed: called when the data plane has been told, with that held.
        """
        self._folder, self._data_plane, self._now_ms = folder, data_plane, now_ms
        self._changing, self._changed = changing, changed
        self._watch: HealthWatch | None = None

    @property
    def health(self) -> Mapping[TargetKey, TargetHealth]:
        """How every registered target is."""
        return {} if self._watch is None else self._watch.health()

    def watch(self, topology: Topology) -> Callable[[], None]:
        """Watch the targets of a topology, if it has any; returns what goes back."""
        if self._watch is None:
            if not any(vpc.target_groups for vpc in topology.lab.vpcs.values()):
                return _nothing
            known = topology.runtime.health  # of the daemon before, if there was one
            self._watch = HealthWatch(self._folder, changed=self.publish, tick=self.let_time_pass, known=known)
        return self._watch.configure(topology)

    def begin(self) -> None:
        """Let health checks begin, if they have not, and wait a while for the first ones."""
        if self._watch is not None:
            self._watch.begin(_FIRST_CHECKS_S)
            self.publish()

    def close(self) -> None:
        """End all checks. The lock must not be held: their thread may be waiting for it."""
        if self._watch is not None:
            self._watch.close()

    def carried_to(self, topology: Topology) -> Topology:
        """Another topology with what is known now."""
        state = carry_over(self._data_plane.topology, topology, self._now_ms())
        return topology.with_runtime(replace(state, health=self.health))

    def publish(self) -> None:
        """Tell the data plane how the targets are."""
        with self._changing:
            self._set(replace(self._data_plane.topology.runtime, health=self.health))

    def let_time_pass(self) -> None:
        """Let deregistration delays that are over be over."""
        if self._data_plane.topology.runtime.former:
            with self._changing:
                self._set(advance(self._data_plane.topology, self._now_ms()))

    def _set(self, state: RuntimeState | None) -> None:
        if state is not None and state != self._data_plane.topology.runtime:
            self._data_plane.set_runtime(state)
            self._changed()


def _nothing() -> None:
    """What undoes nothing."""
