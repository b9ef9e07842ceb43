"""Fuzz what takes octets from outside: `make fuzz MINUTES=n`, with libFuzzer on modules built with sanitizers.

    python -P -m tools.fuzz [--minutes N] [--only TARGET,...] [--keep]

Targets and what their inputs mean are in `tests/fuzz`. Inputs that went a new way are collected in `build/fuzz/corpus`,
so a later run goes on where this one ended; `--keep` writes the fewest that together go all of those ways to
`tests/fuzz/seeds`, which `make test` plays. An input that must not do what it does is kept in `tests/fuzz/found`: put
it under version control with what mends it. Exit status 1: there was one; or all targets ran, and some operation or
drop reason was met too seldom (`tests/fuzz/unmet.py`).
"""

from __future__ import annotations

import argparse
import hashlib
import io
import json
import os
import shutil
import subprocess
import sys
import tarfile
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from tests.fuzz.kept import found, seeds
from tests.fuzz.targets import TARGETS
from tests.fuzz.unmet import LEAST, lacking
from tools.sanitized import FUZZED, ROOT, TOOLS, MissingError, Run

FOUND = ROOT / "tests" / "fuzz" / "found"
SEEDS = ROOT / "tests" / "fuzz" / "seeds"
SHORTEST_S = 10
"""A target gets at least this long."""


class Fuzzing:
    """Modules, libFuzzer, and where things are."""

    def __init__(self) -> None:
        self.run = Run(FUZZED)
        self.driver = self.run.folder / "driver.so"
        self.corpus = self.run.folder / "corpus"
        self.tallies = self.run.folder / "tallies"
        self.logs = self.run.folder / "logs"

    def build(self) -> None:
        """Build modules and libFuzzer, and prove that faults are reported."""
        self.run.build()
        runtime = self.run.found(FUZZED.library.replace("asan", "fuzzer_no_main").replace(".so", ".a"))
        subprocess.run(
            [
                self.run.compiler, "-O2", "-shared", "-fPIC", str(TOOLS / "fuzz-driver.c"), "-o", str(self.driver),
                "-Wl,--whole-archive", runtime, "-Wl,--no-whole-archive", "-lstdc++", "-lm", "-lpthread", "-ldl",
            ],
            check=True,
        )  # fmt: skip
        self.run.prove()
        for name in TARGETS:
            folder = self.corpus / name
            folder.mkdir(parents=True, exist_ok=True)
            kept = [*(seeds(name) if (SEEDS / f"{name}.tar.gz").exists() else ()), *found(name)]
            for octets in kept:
                (folder / hashlib.sha1(octets).hexdigest()).write_bytes(octets)  # as libFuzzer calls it
        for folder in (self.tallies, self.logs):
            shutil.rmtree(folder, ignore_errors=True)
            folder.mkdir()

    def environment(self) -> dict[str, str]:
        """Leaks are looked for by `make asan`; here each would cost every input a look at all memory."""
        ready = self.run.environment()
        options = ready["ASAN_OPTIONS"].replace("detect_leaks=1", "detect_leaks=0").replace("handle_segv=2:", "")
        return ready | {
            "LD_PRELOAD": f"{self.driver} {self.run.library}",  # libFuzzer's half of what both define
            "ASAN_OPTIONS": f"{options.split(':log_path')[0]}:verify_asan_link_order=0",
        }

    def fuzz(self, name: str, number: int, seconds: int) -> bool:
        """Fuzz a target for so long; whether nothing was found."""
        target, kept = TARGETS[name], FOUND / name
        kept.mkdir(parents=True, exist_ok=True)
        before = set(kept.iterdir())
        arguments = [
            f"-max_total_time={seconds}", f"-max_len={target.longest}", f"-artifact_prefix={kept}/", "-timeout=300",
            "-rss_limit_mb=4096", "-report_slow_units=300", "-detect_leaks=0", "-print_final_stats=1",
            "-reload=1", "-use_value_profile=1", str(self.corpus / name),
        ]  # fmt: skip
        status = self._worker(name, f"{name}-{number}", arguments)
        return status == 0 and set(kept.iterdir()) == before

    def _worker(self, name: str, label: str, arguments: Sequence[str]) -> int:
        tally = self.tallies / f"{label}.json"
        command = [sys.executable, "-P", "-m", "tests.fuzz.worker", name, str(self.driver), str(tally), *arguments]
        with open(self.logs / f"{label}.log", "wb") as log:
            return subprocess.run(
                command, cwd=ROOT, env=self.environment(), stdout=log, stderr=subprocess.STDOUT, check=False
            ).returncode

    def keep(self, name: str) -> int:
        """Write the fewest inputs that go all the ways of the corpus to the seeds; how many."""
        fewest = self.run.folder / "fewest" / name
        shutil.rmtree(fewest, ignore_errors=True)
        fewest.mkdir(parents=True)
        status = self._worker(
            name,
            f"merge-{name}",
            ["-set_cover_merge=1", "-use_counters=0", "-detect_leaks=0", str(fewest), str(self.corpus / name)],
        )
        if status or not any(fewest.iterdir()):
            raise RuntimeError(f"merging inputs of {name} failed: see {self.logs}")
        SEEDS.mkdir(exist_ok=True)
        inputs = sorted(path.read_bytes() for path in fewest.iterdir())
        write_seeds(SEEDS / f"{name}.tar.gz", inputs)
        return len(inputs)

    def tally(self) -> Counter[str]:
        """What packets met, in all processes."""
        met: Counter[str] = Counter()
        for path in self.tallies.glob("*.json"):
            if not path.name.startswith("merge-"):
                met.update(json.loads(path.read_text()))
        return met


def write_seeds(path: Path, inputs: Sequence[bytes]) -> None:
    """Inputs as an archive that has the same octets whenever it has the same inputs."""
    import gzip

    raw = io.BytesIO()
    with tarfile.open(fileobj=raw, mode="w", format=tarfile.USTAR_FORMAT) as kept:
        for number, octets in enumerate(inputs):
            member = tarfile.TarInfo(f"{number:05}")
            member.size = len(octets)
            kept.addfile(member, io.BytesIO(octets))
    path.write_bytes(gzip.compress(raw.getvalue(), mtime=0))


def main(arguments: Sequence[str]) -> int:
    """Fuzz, and tell what was met and found."""
    parser = argparse.ArgumentParser(
        prog="make fuzz", description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--minutes", type=float, default=10, help="how long, with all processors")
    parser.add_argument("--only", default=",".join(TARGETS), help="targets, with commas between them")
    parser.add_argument("--keep", action="store_true", help="write seeds anew when nothing was found")
    parser.add_argument("--jobs", type=int, default=len(os.sched_getaffinity(0)), help="processes at a time")
    options = parser.parse_args(arguments)
    names = options.only.split(",")
    if wrong := [name for name in names if name not in TARGETS]:
        parser.error(f"no target is called {', '.join(wrong)}; there are {', '.join(TARGETS)}")
    try:
        fuzzing = Fuzzing()
        fuzzing.build()
    except MissingError as error:
        print(f"vpclab: {error}", file=sys.stderr)
        return 3
    shares = [name for name in names for _ in range(TARGETS[name].share)]
    seconds = max(SHORTEST_S, int(options.minutes * 60 * options.jobs / len(shares)))
    began = time.monotonic()
    with ThreadPoolExecutor(options.jobs) as pool:
        clean = list(pool.map(lambda job: fuzzing.fuzz(job[1], job[0], seconds), enumerate(shares)))
    print(f"== {time.monotonic() - began:.0f} s, {len(shares)} runs of {seconds} s")
    met = fuzzing.tally()
    for what, count in sorted(met.items()):
        print(f"{count:>12} {what}")
    if not all(clean):
        print(f"== found something: see {FOUND.relative_to(ROOT)} and {fuzzing.logs.relative_to(ROOT)}")
        return 1
    print("== nothing found")
    for name in names if options.keep else ():
        print(f"== {fuzzing.keep(name)} inputs of {name} kept")
    return judged(met) if set(names) == set(TARGETS) else 0


def judged(met: Mapping[str, int]) -> int:
    """Say what was met too seldom; whether there was any of that."""
    few = lacking(met)
    for name, count in few.items():
        print(f"== {name} was met {count} times, not {LEAST}: fuzz longer, or help inputs to it (tests/fuzz/aimed.py)")
    if not few:
        print(f"== every operation and drop reason was met {LEAST} times")
    return 1 if few else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
