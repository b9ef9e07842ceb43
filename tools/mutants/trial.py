"""Ask tests about a tree, until one fails, crashes or hangs."""

from __future__ import annotations

import contextlib
import json
import os
import resource
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from tools.mutants.faults import ROOT
from tools.mutants.trees import Place

SILENT_S = 150.0
"""A test that is not done after so many seconds hangs; on the sound tree the longest takes a sixth of that."""
MEMORY = 12 << 30
"""Bytes of address space: a fault may ask for more and more."""


NOTHING_COLLECTED = 5
"""How pytest ends then."""


@dataclass(frozen=True, slots=True)
class Told:
    """What became of a run: ``passed``, ``killed``, ``crashed`` or ``hung``, and at which test."""

    verdict: str
    test: str = ""
    how: str = ""


def ask(
    place: Place, tree: Path, tests: Sequence[str], *, paths: Sequence[str] = (), seed: int | None = None,
    lines: Path | None = None,
) -> Told:  # fmt: skip
    """Run these tests in their order, or all below `paths`, with the modules of `tree`.

    `seed` is Hypothesis'. With `lines`, which test ran which line is written there.
    """
    place.witness.unlink(missing_ok=True)
    place.witness.touch()
    # What the caller finds elsewhere (pytest, say) is found too, but nothing of the tree that this one is a copy of.
    caller = filter(None, os.environ.get("PYTHONPATH", "").split(os.pathsep))
    elsewhere = [each for each in map(os.path.abspath, caller) if not Path(each).is_relative_to(ROOT)]
    environment = os.environ | {
        "PYTHONPATH": os.pathsep.join([str(tree), str(tree / "public"), *elsewhere]),
        "PYTHONDONTWRITEBYTECODE": "1" if lines is None else "",
        "HYPOTHESIS_PROFILE": "mutants",
        "VPCLAB_COMPILED": str(tree),
        "VPCLAB_WITNESS": str(place.witness),
    }
    if lines is not None:
        environment["VPCLAB_WITNESS_LINES"] = str(lines)
    if tests:
        place.wanted.write_text(json.dumps(list(tests)))
        environment["VPCLAB_WITNESS_WANTED"] = str(place.wanted)
        paths = list(dict.fromkeys(test.split("::")[0] for test in tests))
    seeded = [] if seed is None else [f"--hypothesis-seed={seed}"]
    command = [
        sys.executable, "-P", "-m", "pytest", "-q", "-x", "-m", "not e2e", "--timeout=0", "-p", "no:cacheprovider",
        "-p", "tools.mutants.witness", f"--basetemp={place.folder / 'tmp'}", *seeded, *paths,
    ]  # fmt: skip
    with open(place.said, "wb") as said:
        process = subprocess.Popen(
            command,
            cwd=tree,
            env=environment,
            stdout=said,
            stderr=said,
            stdin=subprocess.DEVNULL,
            start_new_session=True,
        )
        with contextlib.suppress(ProcessLookupError):
            resource.prlimit(process.pid, resource.RLIMIT_AS, (MEMORY, MEMORY))
        # following lines takes its time
        hung = not _ends(process, place.witness, SILENT_S if lines is None else 4 * SILENT_S)
        with contextlib.suppress(ProcessLookupError):  # what a test had started when it failed
            os.killpg(process.pid, signal.SIGKILL)
    return _told(place, process.returncode, hung)


def witnessed(place: Place) -> list[list[object]]:
    """What the last run there wrote down."""
    return [json.loads(line) for line in place.witness.read_text().splitlines()]


def _ends(process: subprocess.Popen[bytes], witness: Path, patience_s: float) -> bool:
    """Wait for the end; False: nothing had been heard for so long, and the process is gone."""
    size, heard = 0, time.monotonic()
    while True:
        try:
            process.wait(0.2)
        except subprocess.TimeoutExpired:
            now = witness.stat().st_size
            if now != size:
                size, heard = now, time.monotonic()
            elif time.monotonic() - heard > patience_s:
                os.killpg(process.pid, signal.SIGKILL)
                process.wait()
                return False
        else:
            return True


def _told(place: Place, status: int, hung: bool) -> Told:
    written = witnessed(place)
    at = ""
    for kind, test, *rest in written:
        if kind == "failed":
            return Told("killed", str(test), str(rest[0]))
        at = str(test) if kind == "begins" else ""
    if hung:
        return Told("hung", at)
    if status < 0:
        return Told("crashed", at, signal.Signals(-status).name)
    if status in (0, NOTHING_COLLECTED):  # the test that noticed a fault once may be no more
        return Told("passed")
    said = place.said.read_text(errors="replace")[-3000:]
    if status in (1, 2, 3, 4) and not written:
        return Told("killed", "", f"no test could be run: {said.splitlines()[-1] if said else ''}")
    raise RuntimeError(f"pytest ended with {status}, and nothing failed:\n{said}")
