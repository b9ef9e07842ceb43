"""What a benchmark gives: samples of ours and of its peers, rows of them, and what must hold.

A ratio says how many times better ours is than a peer: above 1 we are ahead, whatever the unit. A target of "at most
2.2 times its time" is therefore a ratio of at least 1 / 2.2.
"""

from __future__ import annotations

import os
import platform
import statistics
import subprocess
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from math import prod
from pathlib import Path
from typing import Any, Literal

ROOT = Path(__file__).resolve().parents[1]


class CannotRunError(Exception):
    """Nothing of an area can be measured here, and why."""


@dataclass(frozen=True, slots=True)
class Options:
    """How to measure. `quick` has smaller traces and leaves out what takes minutes to build; its figures are hints."""

    rounds: int = 5
    quick: bool = False
    seed: int = 1
    part: str = ""
    """A part of an area that has several; empty: all of it."""
    first: int = 0
    """Rounds that were measured before, in a run that this one goes on with."""
    ports: tuple[int, ...] = ()
    """Numbers of ports to measure the wire with; empty: all there are."""


@dataclass(frozen=True, slots=True)
class Sample:
    """One figure, as often as it was measured."""

    values: list[float]

    @property
    def median(self) -> float:
        return statistics.median(self.values)

    @property
    def spread(self) -> float:
        """Largest less smallest, as a part of the median."""
        return (max(self.values) - min(self.values)) / self.median if self.median else 0.0


@dataclass(frozen=True, slots=True)
class NotRun:
    """A peer that is missing, and what installs it: a Debian package, or a whole command."""

    install: str

    @property
    def text(self) -> str:
        is_command = self.install.startswith(("apt ", "pip "))
        return f"not run: {self.install}" if is_command else f"not run: apt install {self.install}"


@dataclass(frozen=True, slots=True)
class Limit:
    """Something that cannot be measured because it cannot be done at that size today, and why. It meets no target."""

    why: str

    @property
    def text(self) -> str:
        return f"limit: {self.why}"


@dataclass(frozen=True, slots=True)
class Row:
    """Ours beside its peers at one thing."""

    area: str
    measure: str
    case: str
    unit: str
    ours: Sample | Limit
    peers: Mapping[str, Sample | NotRun | Limit] = field(default_factory=dict)
    better: Literal["lower", "higher"] = "lower"
    against: str = ""
    """The peer that the target is about."""
    note: str = ""

    def least_ratio(self, peers: Iterable[str]) -> float | None:
        """How many times better ours is than the best of these; None when none of them was measured."""
        return min((ratio for ratio in map(self.ratio, peers) if ratio is not None), default=None)

    def ratio(self, peer: str) -> float | None:
        """How many times better ours is; None when one of the two was not measured."""
        other = self.peers.get(peer)
        if not isinstance(self.ours, Sample) or not isinstance(other, Sample):
            return None
        mine, theirs = self.ours.median, other.median
        if self.better == "higher":
            mine, theirs = theirs, mine
        return theirs / mine if mine else None


@dataclass(frozen=True, slots=True)
class Target:
    """What must hold of a row in the end (`at_least`; None: it is only reported), and what is aimed at."""

    measure: str
    case: str
    peer: str
    at_least: float | None
    aim: float
    modes: tuple[str, ...] = ()
    """Names that the peer has in a row, one for each of its modes: the better one counts. None: its own."""


@dataclass(frozen=True, slots=True)
class Verdict:
    """A target beside what was measured; ratio None: it could not be."""

    target: Target
    ratio: float | None

    @property
    def holds(self) -> bool:
        at_least = self.target.at_least
        return at_least is None or (self.ratio is not None and self.ratio >= at_least)

    @property
    def reaches_aim(self) -> bool:
        return self.ratio is not None and self.ratio >= self.target.aim


def alternate(rounds: int, contenders: Mapping[str, Callable[[], float]]) -> dict[str, Sample]:
    """Measure everybody once a round, in turns; every second round the other way round."""
    values: dict[str, list[float]] = {name: [] for name in contenders}
    for number in range(rounds):
        order = list(contenders)
        for name in order if number % 2 == 0 else reversed(order):
            values[name].append(contenders[name]())
    return {name: Sample(each) for name, each in values.items()}


def geometric_mean(samples: list[Sample]) -> Sample:
    """Of the same round of each."""
    return Sample([prod(values) ** (1 / len(values)) for values in zip(*(s.values for s in samples), strict=True)])


def judge(rows: list[Row], targets: list[Target]) -> list[Verdict]:
    """Each target beside its row; a target without a row of its own was not measured in this run and is left out."""
    found = {(row.measure, row.case): row for row in rows}
    return [
        Verdict(t, found[t.measure, t.case].least_ratio(t.modes or (t.peer,)))
        for t in targets
        if (t.measure, t.case) in found
    ]


def joined(before: list[Row], now: list[Row]) -> list[Row]:
    """One run out of two: rows of both, with the samples of both where both have one."""
    found = {(row.area, row.measure, row.case): row for row in before}
    for row in now:
        key = (row.area, row.measure, row.case)
        old = found.get(key)
        if old is not None:
            sides = {name: _both(old.peers.get(name, side), side) for name, side in row.peers.items()}
            row = replace(row, ours=_both(old.ours, row.ours), peers=sides)
        found[key] = row
    return list(found.values())


def _both(old: Any, new: Any) -> Any:
    return Sample(old.values + new.values) if isinstance(old, Sample) and isinstance(new, Sample) else new


# -- one run, as it is kept -------------------------------------------------------------------------------------------


def machine() -> dict[str, Any]:
    """What this was measured on."""
    model = next(
        (line.partition(":")[2].strip() for line in _lines("/proc/cpuinfo") if line.startswith("model name")), "unknown"
    )
    governor = next(iter(_lines("/sys/devices/system/cpu/cpu0/cpufreq/scaling_governor")), "unknown")
    return {
        "cpu": model,
        "cores": os.cpu_count(),
        "avx512": any(line.startswith("flags") and " avx512f " in line for line in _lines("/proc/cpuinfo")),
        "kernel": platform.release(),
        "governor": governor,
        "python": platform.python_version(),
    }


def commit() -> dict[str, Any]:
    """What was measured."""
    return {"commit": _git("rev-parse", "HEAD"), "dirty": bool(_git("status", "--porcelain", "-uno"))}


def as_json(row: Row) -> dict[str, Any]:
    """A row as it stands in a file of results."""
    return {
        "area": row.area,
        "measure": row.measure,
        "case": row.case,
        "unit": row.unit,
        "better": row.better,
        "against": row.against,
        "note": row.note,
        "ours": _side(row.ours),
        "peers": {name: {**_side(side), "ratio": row.ratio(name)} for name, side in row.peers.items()},
    }


def from_json(kept: Mapping[str, Any]) -> Row:
    """A row from a file of results."""
    named = {name: kept[name] for name in ("area", "measure", "case", "unit", "better", "against", "note")}
    peers = {name: _side_from(side) for name, side in kept["peers"].items()}
    return Row(ours=_side_from(kept["ours"]), peers=peers, **named)


def _side_from(side: Mapping[str, Any]) -> Any:
    if "values" in side:
        return Sample(list(side["values"]))
    text = str(side["not_run"])
    if text.startswith("limit: "):
        return Limit(text.removeprefix("limit: "))
    return NotRun(text.removeprefix("not run: ").removeprefix("apt install "))


def verdict_json(verdict: Verdict) -> dict[str, Any]:
    """A target as it stands in a file of results."""
    t = verdict.target
    return {
        "measure": t.measure,
        "case": t.case,
        "peer": t.peer,
        "at_least": t.at_least,
        "aim": t.aim,
        "ratio": verdict.ratio,
        "holds": verdict.holds,
        "reaches_aim": verdict.reaches_aim,
    }


def _side(side: Sample | NotRun | Limit) -> dict[str, Any]:
    if isinstance(side, Sample):
        return {"median": side.median, "spread": side.spread, "values": side.values}
    return {"not_run": side.text}


def _lines(path: str) -> Iterator[str]:
    try:
        yield from Path(path).read_text().splitlines()
    except OSError:
        return


def _git(*arguments: str) -> str:
    done = subprocess.run(["git", "-C", str(ROOT), *arguments], capture_output=True, text=True, check=False)
    return done.stdout.strip() if done.returncode == 0 else "unknown"


def memory_available() -> int:
    """Bytes that can be taken without swapping."""
    for line in _lines("/proc/meminfo"):
        if line.startswith("MemAvailable:"):
            return int(line.split()[1]) * 1024
    return 0
