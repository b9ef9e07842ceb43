"""The clock of a lab."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from vpclab.lab import Lab


class Clock:
    """The lab's clock: real time plus an offset that can only grow; got by ``lab.clock``.

    Only the router follows it (idle timeouts, flow states); kernels and programs in the nodes keep real time.
    """

    def __init__(self, lab: Lab) -> None:
        self._lab = lab

    @property
    def offset_s(self) -> float:
        """Seconds ahead of real time."""
        return float(self._lab.ask("clock"))

    def advance(self, seconds: float) -> float:
        """Move the clock forward; returns the new offset in seconds.

        What nodes have sent before is decided before.

        Raises:
            RequestError: `seconds` is negative, or more than ten years.
        """
        return float(self._lab.ask("clock", advance_s=seconds))
