"""Flow logs of a running lab: records taken from the data plane, put together by interval, and written as files.

    engine ── windows of a minute ── FlowLogs: one open interval per flow log ── FOLDER/AWSLogs/...

A file is there as a whole or not at all. ``flow-logs.json`` says, while the lab runs, since when nothing has been
written: a lab that was killed loses what was open then, and says so when it starts the next time.
"""

from __future__ import annotations

import gzip
import itertools
import logging
import os
import threading
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import NamedTuple

from dataplane.engine import DataPlane
from dataplane.errors import LabError
from dataplane.model.flow_log import FlowLog
from dataplane.observe.flow_log_lines import Services, Watched, header, lines, log_id, watched_interfaces
from dataplane.observe.records import Window
from dataplane.observe.s3_keys import PERIOD_S, file_key
from lab.state import LabState

FOLDER, MARK = "flow-logs", "flow-logs.json"
TICK_S = 1.0
KEPT_LINES = 100_000
"""Of what was written last, to be shown."""
MOST_RECORDS = 262_144
"""Flows at interfaces that are counted at once, and those of minutes that are over until they are taken."""
MOST_OPEN = 262_144
"""Records of intervals that are not written yet, of all flow logs together."""
MOST_IDLE = 60
"""Intervals without traffic that are told of when the clock leaps over more of them."""
log = logging.getLogger(__name__)


class Line(NamedTuple):
    """One record that was written."""

    number: int
    log: str
    """``VPC/NAME``."""
    text: str


@dataclass(slots=True)
class _Open:
    """A flow log and its intervals that are not written yet, by number."""

    declared: FlowLog
    watched: dict[int, Watched]
    folder: Path
    """Its files are below it."""
    next: int
    """The interval to write next."""
    intervals: dict[int, Window] = field(default_factory=dict)
    files: set[int] = field(default_factory=set)
    """Of the interval to write next: what there is already, by when its records begin to end."""
    former: dict[int, tuple[Watched, int]] = field(default_factory=dict)
    """Interfaces that are gone, until the interval in which they went is written."""
    complaint: str = ""
    """Why it cannot be written now."""

    def watch(self, watched: dict[int, Watched], interval: int) -> None:
        """Watch these from now on; `interval` is the present one, and still has what others saw in it."""
        last = max(self.next, interval)
        self.former |= {number: (each, last) for number, each in self.watched.items()}
        self.watched = watched

    def watches(self, number: int) -> bool:
        """Whether it watches an interface, or has done so in an interval that is not written yet."""
        return number in self.watched or number in self.former

    @property
    def held(self) -> int:
        """Records that are not written yet."""
        return sum(len(window.flows) for window in self.intervals.values())

    def keep(self, interval: int, seen: Window, room: int) -> int:
        """Put what was seen in a window to an interval; returns how many new records that made, at most `room`.

        What finds no room is lost, as AWS's capacity may be: the interval gets SKIPDATA for the interface.
        """
        kept = self.intervals.setdefault(interval, Window())
        lost = {point: packets for point, packets in seen.lost.items() if self.watches(point)}
        before = len(kept.flows)
        for flow, count in seen.flows.items():
            if not self.watches(flow.interface):
                continue
            if flow in kept.flows or len(kept.flows) - before < room:
                kept.count(flow, count)
            else:
                lost[flow.interface] = lost.get(flow.interface, 0) + count.packets
        kept.add(Window(lost=lost, lost_anywhere=seen.lost_anywhere))
        return len(kept.flows) - before

    def of(self, interval: int) -> dict[int, Watched]:
        """What an interval has records of: all it watches, and what is gone and had traffic then."""
        window = self.intervals.get(interval, Window())
        seen = {flow.interface for flow in window.flows} | window.lost.keys()
        return {
            number: each
            for number, (each, last) in self.former.items()
            if number in seen or (window.lost_anywhere and interval <= last)
        } | self.watched

    def wrote(self, interval: int) -> None:
        """An interval is written, and all before it."""
        self.intervals.pop(interval, None)
        self.files.clear()
        self.next = max(self.next, interval + 1)
        self.former = {number: (each, last) for number, (each, last) in self.former.items() if last >= self.next}


class _Ending(NamedTuple):
    """A flow log that is gone, and not written to its end yet."""

    key: tuple[str, str]
    log: _Open
    end: int
    """The interval before which it ended."""
    services: Services
    """As they were then."""


class FlowLogs:
    """The flow logs of one lab. Methods may be called from any thread.

    Args:
        state: the lab's state; files are below its folder, unless a flow log names another.
        plane: whose records they are.
        epoch_ms: the Unix time at which lab time was 0.
    """

    def __init__(self, state: LabState, plane: DataPlane, *, epoch_ms: int) -> None:
        self._state, self._plane, self._epoch_ms = state, plane, epoch_ms
        self._lock = threading.Lock()
        self._services: Services
        self._logs: dict[tuple[str, str], _Open] = {}
        self._ending: list[_Ending] = []
        self._unmarked = ""
        """Why it cannot be marked now since when nothing is written."""
        self._written: deque[Line] = deque(maxlen=KEPT_LINES)
        self._count = 0
        self._is_recording = False
        self._marked: dict[str, int] | None = None
        self._lost = _marks(state)
        """Since when an earlier run of the lab could not write, until somebody has been told."""
        self._ended = threading.Event()
        self._thread: threading.Thread | None = None

    # -- from outside -----------------------------------------------------------------------------------------

    def configure(self, folder: Path = Path()) -> None:
        """Begin with the flow logs of the topology that runs now, and end those that are gone, with all they know.

        Folders that they name are in or below `folder`.
        """
        with self._lock:
            topology = self._plane.topology
            wanted = {
                (vpc, name): declared
                for vpc, each in topology.lab.vpcs.items()
                for name, declared in each.flow_logs.items()
            }
            if not wanted and not self._is_recording:
                return
            if not self._is_recording:
                self._plane.record_flows(flows=MOST_RECORDS, epoch_ms=self._epoch_ms)
                self._is_recording = True
            present = self._take(unfinished=True)
            for key in [key for key, each in self._logs.items() if wanted.get(key) != each.declared]:
                self._end(key, self._logs.pop(key), present)
            self._services = Services(topology)
            for (vpc, name), declared in wanted.items():
                watched = watched_interfaces(topology, self._plane.names, vpc, declared)
                before = self._logs.get((vpc, name))
                if before is None:
                    self._logs[vpc, name] = _Open(
                        declared, watched, self._place(declared, folder), _interval(declared, present)
                    )
                else:
                    before.folder = self._place(declared, folder)
                    before.watch(watched, _interval(declared, present))
            if self._thread is None:
                self._thread = threading.Thread(target=self._run, name="flow-logs", daemon=True)
                self._thread.start()
            self._write_ended()
            self._mark()

    def collect(self) -> None:
        """Write every interval that is over. What cannot be written now is tried again the next time."""
        with self._lock:
            if not self._is_recording:
                return
            present = self._take()
            for key, each in self._logs.items():
                self._write_until(key, each, _interval(each.declared, present), self._services)
            self._write_ended()
            self._mark()

    def close(self) -> None:
        """Write what there is, open intervals too. The worker must have stopped.

        The mark stays when something could not be written.
        """
        self._ended.set()
        if self._thread is not None:
            self._thread.join()
        with self._lock:
            if self._is_recording:
                present = self._take(unfinished=True)
                for key, each in self._logs.items():
                    self._end(key, each, present)
                self._logs.clear()
                self._write_ended()
                self._mark()
                if not self._ending and not self._lost:
                    self._forget_marks()

    @property
    def lost(self) -> str:
        """What an earlier run of the lab could not write any more, in a sentence; an empty text when it ended well."""
        if not self._lost:
            return ""
        told = (f"{name} from {datetime.fromtimestamp(at, UTC):%Y-%m-%d %H:%M} on" for name, at in self._lost.items())
        return f"the lab was killed before: flow log records of the intervals open then are lost ({', '.join(told)})"

    def told(self) -> None:
        """Somebody knows what was lost. Until then the next run of the lab would say it too."""
        with self._lock:
            self._lost = {}
            if self._is_recording:
                self._mark()
            else:
                self._forget_marks()

    def written(self, after: int = 0) -> list[Line]:
        """Records written since the one with the number `after`, as far as they are kept."""
        self.collect()
        with self._lock:
            return [line for line in self._written if line.number > after]

    def open(self) -> list[Line]:
        """Records as they would be written if all intervals ended now; numbers are 0."""
        with self._lock:
            if not self._is_recording:
                return []
            self._take(unfinished=True)
            return [
                Line(0, "/".join(key), text)
                for key, each in self._logs.items()
                for number in sorted(each.intervals)
                for _, text in self._lines(each, number, self._services)
            ]

    def sizes(self) -> tuple[int, int] | None:
        """Records that are not written yet, and lines that can be shown; None where nothing is recorded."""
        with self._lock:
            return (self._held(), len(self._written)) if self._is_recording else None

    @property
    def complaints(self) -> tuple[str, ...]:
        """What cannot be written at the moment, and why, in sentences."""
        found = dict.fromkeys([*(each.complaint for each in self._unwritten()), self._unmarked])
        return tuple(complaint for complaint in found if complaint)

    # -- within -----------------------------------------------------------------------------------------------

    def _run(self) -> None:
        while not self._ended.wait(TICK_S):
            try:
                self.collect()
            except Exception:  # whatever it is, the next interval is another one
                log.exception("flow logs")

    def _take(self, *, unfinished: bool = False) -> int:
        """Take records to their flow logs; the number of the present window."""
        present, windows = self._plane.take_flow_records(unfinished=unfinished)
        room = MOST_OPEN - self._held()
        for number, window in windows.items():
            for each in self._logs.values():
                room -= each.keep(max(each.next, _interval(each.declared, number)), window, room)
        return present

    def _held(self) -> int:
        return sum(each.held for each in self._unwritten())

    def _unwritten(self) -> list[_Open]:
        return [*self._logs.values(), *(last.log for last in self._ending)]

    def _place(self, declared: FlowLog, folder: Path) -> Path:
        return self._state.path / FOLDER if declared.folder is None else folder / declared.folder

    def _end(self, key: tuple[str, str], each: _Open, present: int) -> None:
        """End a flow log with the present interval."""
        self._ending.append(_Ending(key, each, _interval(each.declared, present) + 1, self._services))

    def _write_ended(self) -> None:
        self._ending = [last for last in self._ending if not self._write_until(*last)]

    def _write_until(self, key: tuple[str, str], each: _Open, end: int, services: Services) -> bool:
        """Write the intervals before `end`; whether that could be done. What could not is still there."""
        try:
            for number in sorted({*each.intervals, *range(max(each.next, end - MOST_IDLE), end)}):
                if number < end:
                    self._write(key, each, number, services)
                    each.wrote(number)
        except OSError as error:
            each.complaint = _told(f"flow log {'/'.join(key)} cannot be written: {error.strerror}", each.complaint)
            return False
        each.wrote(end - 1)
        each.complaint = ""
        return True

    def _write(self, key: tuple[str, str], each: _Open, number: int, services: Services) -> None:
        by_end: dict[int, list[str]] = {}
        for end_s, text in self._lines(each, number, services):
            by_end.setdefault(end_s // PERIOD_S * PERIOD_S, []).append(text)
        for begin_s in sorted(by_end.keys() - each.files):
            self._write_file(key, each, number, begin_s, by_end[begin_s])
            each.files.add(begin_s)

    def _write_file(self, key: tuple[str, str], each: _Open, number: int, begin_s: int, found: list[str]) -> None:
        vpc, name = key
        facts = next(iter(each.of(number).values())).facts
        text = "\n".join([header(each.declared), *found, ""]).encode()
        content = gzip.compress(text, mtime=0) if each.declared.gzip else text
        for same in itertools.count():
            path = each.folder / file_key(
                each.declared,
                account=facts["account-id"],
                region=facts["region"],
                log_id=log_id(vpc, name),
                begin_s=begin_s,
                content=content + b"\0" * same,
            )
            if not path.exists():  # it is there when one of the same name ended in this interval and said the same
                break
        _put(path, content)
        for line in found:
            self._count += 1
            self._written.append(Line(self._count, f"{vpc}/{name}", line))

    def _lines(self, each: _Open, number: int, services: Services) -> Iterator[tuple[int, str]]:
        return lines(
            each.declared,
            each.of(number),
            each.intervals.get(number, Window()),
            services,
            start_s=number * each.declared.max_aggregation_interval,
            epoch_ms=self._epoch_ms,
        )

    def _mark(self) -> None:
        """Say since when nothing has been written."""
        begins = dict(self._lost)
        for key, each in [*((last.key, last.log) for last in self._ending), *self._logs.items()]:
            begins.setdefault("/".join(key), each.next * each.declared.max_aggregation_interval)
        if begins != self._marked:
            try:
                self._state.write(MARK, begins)
            except LabError as error:
                self._unmarked = _told(str(error), self._unmarked)
            else:
                self._marked, self._unmarked = begins, ""

    def _forget_marks(self) -> None:
        (self._state.path / MARK).unlink(missing_ok=True)


def _told(complaint: str, before: str) -> str:
    """A complaint, which is said once: what failed is tried again each second."""
    if complaint != before:
        log.error("%s", complaint)
    return complaint


def _marks(state: LabState) -> dict[str, int]:
    begins = state.read(MARK)
    return begins if isinstance(begins, dict) else {}


def _interval(declared: FlowLog, window: int) -> int:
    return window * 60 // declared.max_aggregation_interval


def _put(path: Path, content: bytes) -> None:
    """Write a file that is there as a whole or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    draft = path.with_name(f".{path.name}")
    try:
        draft.unlink(missing_ok=True)  # neither a pipe nor the way to another
        with open(draft, "xb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        draft.replace(path)
    except OSError:
        draft.unlink(missing_ok=True)
        raise
