"""Room for tracked connections: how many there may be, and who has opened how many of them.

AWS has an allowance for each instance and does not say how large it is; what goes beyond it is dropped, and counted as
``conntrack_allowance_exceeded``. Here a lab has one table. Who opens another connection may have no more of it than is
free: so nobody takes what others want to open theirs with.
https://docs.aws.amazon.com/AWSEC2/latest/UserGuide/security-group-connection-tracking.html (throttling)

When exactly the dead have made room is left open, so what is told of an engine that sweeps them up now and then is
adopted where it can be so.
"""

from __future__ import annotations

from dataclasses import dataclass

from dataplane.reference.journey import Dropped, Journey
from dataplane.reference.lifetimes import Lifetime
from dataplane.verdict import Reason

SESSIONS = 262_144
"""Of a lab."""
SWEPT_MS = 2_000
"""By then whoever is dead is gone from any table."""
LONGEST_PLAN = 40
"""So much room one packet may ask for beforehand, if it is to go by as many memories as one packet can."""


class RoomError(AssertionError):
    """There was room, or there was none: the engine that said otherwise is wrong."""


@dataclass(slots=True)
class _Opened:
    opener: int
    life: Lifetime
    joins: bool
    """Whether a row that counts others like it may come with it."""


class Room:
    """What all memories together may hold.

    Args:
        most: how many flows.
    """

    def __init__(self, most: int = SESSIONS) -> None:
        self.most = most
        self._opened: list[_Opened] = []
        self._opener = 0
        self._journey: Journey | None = None
        self._now_ms = 0

    def begin(self, journey: Journey, opener: int) -> None:
        """A packet that came by port `opener`, or is about one that did, begins its way."""
        self._opener, self._journey, self._now_ms = opener, journey, journey.now_ms

    def ask(self, object: int) -> None:
        """Whether one more flow may be opened at `object`.

        Raises:
            Dropped: there is no room.
            RoomError: the engine that proposes would have had to find none, or some.
        """
        is_told = self._is_told(object)
        if 2 * len(self._opened) + LONGEST_PLAN <= self.most and is_told is None:
            return
        is_full = self._rows(self._now_ms, joined=0) + 2 > self.most
        if is_told is not None:
            if is_full and not is_told:
                raise RoomError(f"no room at {object} for what port {self._opener} opens, but it was opened")
            if is_told and self._rows(self._now_ms - SWEPT_MS, joined=1) + LONGEST_PLAN <= self.most:
                raise RoomError(f"room at {object} for what port {self._opener} opens, but it was refused")
            is_full = is_told
        if is_full:
            raise Dropped(Reason.SESSION_LIMIT, object)

    def _is_told(self, object: int) -> bool | None:
        """Whether another engine found no room for this packet there; None: nobody says."""
        journey = self._journey
        if journey is None or journey.proposals is None:
            return None
        if journey.is_made:
            return object in journey.proposals.refused_own
        before = sum(at == object for at, _, _ in journey.trace)
        return (object, before) in journey.proposals.refused

    def have_tracked(self, journey: Journey, gateway: int) -> None:
        """A gateway has the flow of a packet tracked at interfaces that let it pass untracked.

        Raises:
            Dropped: there is no room for that.
        """
        if journey.untracked:
            self.ask(gateway)
            journey.have_tracked()

    def take(self, life: Lifetime, *, joins: bool = False) -> None:
        """A flow has been opened."""
        self._opened.append(_Opened(self._opener, life, joins))

    def _rows(self, alive_ms: int, *, joined: int) -> int:
        """Flows that live at a time, those of the present opener twice."""
        self._opened = [each for each in self._opened if not each.life.is_over(self._now_ms - SWEPT_MS)]
        return sum(
            1 + (each.opener == self._opener) + joined * each.joins
            for each in self._opened
            if not each.life.is_over(alive_ms)
        )
