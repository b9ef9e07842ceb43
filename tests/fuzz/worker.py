"""One process that fuzzes: libFuzzer, loaded as a library, calls a target with input after input.

    python -P -m tests.fuzz.worker TARGET DRIVER TALLY [libFuzzer's arguments...]

libFuzzer learns from compiled modules which way an input went. Beside that it looks at counters that are set here: one
for each drop reason, operation and so on that packets met, and for targets in Python one for each step from a line to
the next. What packets met is written to TALLY from time to time: libFuzzer ends the process without asking Python.
"""

from __future__ import annotations

import ctypes
import json
import os
import shlex
import sys
import time
import traceback
from collections.abc import Sequence
from pathlib import Path
from types import FrameType
from typing import Any

from tests.fuzz.playing import TALLY
from tests.fuzz.targets import TARGETS

COUNTERS = 1 << 16
TELL_S = 5.0
"""Between two tallies."""


class Lines:
    """Counts steps from one line to the next in some packages."""

    def __init__(self, packages: tuple[str, ...], counters: Any) -> None:
        self.packages = packages
        self.counters = counters
        self.before = 0

    def enter(self, frame: FrameType, event: str, argument: Any) -> Any:
        """A function is called: for `sys.settrace`."""
        return self.step if frame.f_globals.get("__name__", "").startswith(self.packages) else None

    def step(self, frame: FrameType, event: str, argument: Any) -> Any:
        """A line is reached."""
        if event == "line":
            here = (id(frame.f_code) >> 4) * 31 + frame.f_lineno
            at = (self.before ^ here) % COUNTERS
            self.before = here >> 1
            if self.counters[at] < 255:
                self.counters[at] += 1
        return self.step


def main(name: str, driver: str, tally: Path, arguments: Sequence[str]) -> int:
    """Fuzz until libFuzzer has had enough."""
    library = ctypes.CDLL(driver)
    counters = (ctypes.c_uint8 * COUNTERS).in_dll(library, "fuzz_counters")
    target, told = TARGETS[name], time.monotonic()
    lines = Lines(target.traced, counters) if target.traced else None
    indices: dict[str, int] = {}
    runs = 0

    @ctypes.CFUNCTYPE(ctypes.c_int, ctypes.c_void_p, ctypes.c_size_t)
    def run(data: int, size: int) -> int:
        nonlocal told, runs
        runs += 1
        before = dict(TALLY.met)
        try:
            if lines is not None:
                lines.before = 0
                sys.settrace(lines.enter)
            target.run(ctypes.string_at(data, size))
        except BaseException:
            sys.settrace(None)
            traceback.print_exc()
            sys.stderr.flush()
            os.abort()  # which libFuzzer takes for what it is: an input to be kept
        sys.settrace(None)
        for what, count in TALLY.met.items():
            met = count - before.get(what, 0)
            if met:
                counters[indices.setdefault(what, len(indices))] = min(met, 255)
        if time.monotonic() - told > TELL_S:
            told = time.monotonic()
            tally.write_text(json.dumps({"inputs": runs, **TALLY.met}))
        return 0

    # libFuzzer starts itself anew to merge, as a shell would by the first word
    itself = shlex.join([sys.executable, "-P", "-m", "tests.fuzz.worker", name, driver, str(tally)])
    words = [os.fsencode(each) for each in (itself, *arguments)]
    vector = (ctypes.c_char_p * (len(words) + 1))(*words, None)
    return int(library.fuzz_run(len(words), vector, run))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1], sys.argv[2], Path(sys.argv[3]), sys.argv[4:]))
