"""What every comparison in memory needs: answers that agree, and time that is only ours.

Time is that of the processor in this thread: what else the machine does takes caches away, but not time.
"""

from __future__ import annotations

import time
from array import array
from collections.abc import Callable

from bench.measure import NotRun
from bench.native import build, dpdk


def missing_dpdk() -> NotRun | None:
    """What installs DPDK, if it is not there."""
    try:
        dpdk.library()
    except build.MissingError as error:
        return NotRun(str(error))
    return None


def agree(what: str, ours: array[int], theirs: array[int]) -> None:
    """End the run if two answer differently."""
    if ours == theirs:
        return
    at = next(i for i, (a, b) in enumerate(zip(ours, theirs, strict=True)) if a != b)
    different = sum(a != b for a, b in zip(ours, theirs, strict=True))
    raise SystemExit(f"{what}: {different} of {len(ours)} answers differ, first at {at}: {ours[at]} and {theirs[at]}")


def per_item(run: Callable[[], object], items: int, *, least_ms: float = 20) -> Callable[[], float]:
    """Nanoseconds that one of `items` takes when all are run; repeated until it takes long enough to be measured."""
    began = time.thread_time()
    run()
    times = max(1, round(least_ms / 1000 / max(time.thread_time() - began, 1e-6)))

    def measured() -> float:
        began = time.thread_time_ns()
        for _ in range(times):
            run()
        return (time.thread_time_ns() - began) / items / times

    return measured


def seconds(run: Callable[[], object]) -> float:
    """How long it takes, once."""
    began = time.thread_time()
    run()
    return time.thread_time() - began


def room(count: int, kind: str = "I") -> array[int]:
    """An array of zeros."""
    return array(kind, bytes(count * array(kind).itemsize))
