"""The long run: fresh random examples of the comparisons, for minutes or hours, resumable, with a committed log.

    make test-thorough                  # 30 minutes
    make test-thorough MINUTES=120
    python -m tests.property.thorough --replay FILE      # what a divergence left behind

Each slice is a process of its own that lives for a few minutes with seeds of its own, so that memory does not grow. It
adds a line to `thorough.log` (what ran, at which commit, what was found) and what its packets met to `exercised.json`.
Both belong to a state of the code that decides packets (`DECIDES`): once that changes, counting begins anew.

A divergence stops the run: the smallest example found is in `thorough-failure-*.json`, with exit status 1. When the
time is over and something that must occur (`exercised.required_thoroughly`) did so in fewer than 200 examples since
counting began, that fails the run as well.
"""

from __future__ import annotations

import argparse
import json
import os
import secrets
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from tests.property.exercised import THOROUGH, Tally, required_thoroughly

ROOT = Path(__file__).parents[2]
LOG = Path(__file__).with_name("thorough.log")
EXERCISED = Path(__file__).with_name("exercised.json")
DECIDES = ("fastpath", "dataplane", ":!dataplane/analysis", ":!dataplane/picture", ":!dataplane/schema.py", ":!*.md")
"""What decides packets, as git reads paths; not what asks about them, draws networks, or writes pages."""
WEIGHTS = {"histories": 4, "differential": 4, "dense": 1, "forms": 1, "crowded": 1}
"""Properties (`thorough_slice`), by how often they get a slice."""
SLICE_S = 150
PATIENCE_S = 600
"""A slice that takes longer beyond its time (shrinking an example) is ended."""


@dataclass(frozen=True, slots=True)
class Commit:
    """Where the code stands."""

    name: str
    is_dirty: bool

    def __str__(self) -> str:
        return self.name + ("+" if self.is_dirty else "")


def git(*words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(["git", "-C", str(ROOT), *words], capture_output=True, text=True, check=False)


def present_commit() -> Commit:
    """The commit at hand; dirty when what decides packets is not as committed."""
    name = git("rev-parse", "--short=10", "HEAD").stdout.strip()
    return Commit(name, git("diff", "--quiet", "HEAD", "--", *DECIDES).returncode != 0)


def decides_the_same(commit: str) -> bool:
    """Whether packets are decided by the same code there as here, as committed."""
    return git("diff", "--quiet", commit, "HEAD", "--", *DECIDES).returncode == 0


def minutes_logged(log: Path = LOG) -> tuple[float, float]:
    """Minutes run since what decides packets changed last: by the clock, and summed over all processes."""
    spans: list[tuple[float, float]] = []
    same: dict[str, bool] = {}
    for words in _lines(log):
        commit = words["commit"]
        if commit not in same:
            same[commit] = not commit.endswith("+") and decides_the_same(commit)
        if same[commit]:
            begin = datetime.fromisoformat(words["at"]).timestamp()
            spans.append((begin, begin + float(words["seconds"])))
    clock, reached = 0.0, 0.0
    for begin, end in sorted(spans):
        clock += max(0.0, end - max(begin, reached))
        reached = max(reached, end)
    return clock / 60, sum(end - begin for begin, end in spans) / 60


def _lines(log: Path) -> Iterator[dict[str, str]]:
    if log.exists():
        for line in log.read_text().splitlines():
            if line and not line.startswith("#"):
                yield dict(word.split("=", 1) for word in line.split())


class Run:
    """One long run: workers, and what they have found so far."""

    def __init__(self, minutes: float, workers: int, slice_s: float) -> None:
        self.until = time.monotonic() + minutes * 60
        self.slice_s = slice_s
        self.workers = workers
        self.commit = present_commit()
        self.tally = stored_tally()
        self.failed: list[str] = []
        self.lock = threading.Lock()
        self.turns = [name for name, weight in WEIGHTS.items() for _ in range(weight)]
        secrets.SystemRandom().shuffle(self.turns)
        self.turn = 0

    def go(self) -> int:
        """Run until the time is over or something is found; the exit status."""
        threads = [threading.Thread(target=self._work) for _ in range(self.workers)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        clock, summed = minutes_logged()
        print(f"since what decides packets changed: {clock:.0f} minutes ({summed:.0f} of processes)")
        print("\n".join(self.tally.lines()))
        if self.failed:
            print("\n".join(["", "DIVERGENCE", *self.failed]))
            return 1
        lacking = self.tally.lacking(THOROUGH, required_thoroughly())
        if lacking:
            print(f"\nin fewer than {THOROUGH} examples: {', '.join(f'{k} {v}' for k, v in sorted(lacking.items()))}")
        return 1 if lacking else 0

    def _work(self) -> None:
        while not self.failed and time.monotonic() < self.until:
            with self.lock:
                name, self.turn = self.turns[self.turn % len(self.turns)], self.turn + 1
            seconds = min(self.slice_s, max(5.0, self.until - time.monotonic()))
            self._slice(name, secrets.randbits(48), seconds)

    def _slice(self, name: str, seed: int, seconds: float) -> None:
        begun, at = time.monotonic(), datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
        with tempfile.TemporaryDirectory() as folder:
            out = Path(folder) / "slice.json"
            command = [
                sys.executable,
                "-P",
                "-m",
                "tests.property.thorough_slice",
                name,
                str(seed),
                str(seconds),
                str(out),
            ]
            paths = os.pathsep.join([str(ROOT), str(ROOT / "public")])
            try:
                process = subprocess.run(
                    command, cwd=ROOT, env={**os.environ, "PYTHONPATH": paths}, capture_output=True, text=True,
                    timeout=seconds + PATIENCE_S, check=False,
                )  # fmt: skip
            except subprocess.TimeoutExpired:
                process = subprocess.CompletedProcess(command, 2, "", f"more than {PATIENCE_S} s beyond its time")
            found: dict[str, Any] = json.loads(out.read_text()) if out.exists() else {}
        with self.lock:
            self._book(name, seed, at, time.monotonic() - begun, found, process)

    def _book(
        self, name: str, seed: int, at: str, took: float, found: dict[str, Any],
        process: subprocess.CompletedProcess[str],
    ) -> None:  # fmt: skip
        failed = process.returncode != 0
        line = (
            f"commit={self.commit} at={at} seed={seed} property={name} examples={found.get('examples', 0)} "
            f"steps={found.get('steps', 0)} seconds={took:.0f} divergences={int(failed)}"
        )
        with LOG.open("a") as log:
            log.write(line + "\n")
        print(line, flush=True)
        self.tally.merge({**Tally().document(), **found})
        if not self.commit.is_dirty:
            store(self.tally, self.commit)
        if failed:
            where = LOG.with_name(f"thorough-failure-{name}-{seed}.json")
            failure = {**found.get("failure", {}), "property": name, "seed": seed, "commit": str(self.commit)}
            failure["output"] = (process.stdout + process.stderr)[-20_000:]
            where.write_text(json.dumps(failure, indent=1))
            self.failed.append(f"{name}, seed {seed}: {where.relative_to(ROOT)}\n{failure['output'][-3000:]}")


def stored_tally() -> Tally:
    """What was counted since what decides packets changed last."""
    if not EXERCISED.exists():
        return Tally()
    stored = json.loads(EXERCISED.read_text())
    if not decides_the_same(stored["commit"]):
        return Tally()
    return Tally(stored["counts"], stored["examples"], stored["steps"])


def store(tally: Tally, commit: Commit) -> None:
    """Keep what was counted so far."""
    EXERCISED.write_text(json.dumps({"commit": commit.name, **tally.document()}, indent=1) + "\n")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, default=30)
    parser.add_argument("--workers", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--slice", type=float, default=SLICE_S, help="seconds of one process")
    parser.add_argument("--replay", type=Path, help="play what a divergence left behind, and show it")
    words = parser.parse_args()
    if words.replay is not None:
        from tests.property.script import fails, told

        script = json.loads(words.replay.read_text())["script"]
        why = fails(script)
        print(*told(script), why or "no divergence any more", sep="\n")
        return 1 if why else 0
    return Run(words.minutes, words.workers, words.slice).go()


if __name__ == "__main__":
    sys.exit(main())
