"""Run tests on compiled modules that were built with sanitizers.

    python -P -m tools.sanitized address|thread [PYTEST ARGUMENTS...]

The modules are built into `build/asan` or `build/tsan`, beside the ordinary ones, and found there first. Before the
tests, known faults are made in a process like theirs: a sanitizer that says nothing of those would prove nothing by
saying nothing of us. What is reported lands in files and is shown at the end; one report fails the run. Exits 3 when
something is missing, and says what to install.
"""

from __future__ import annotations

import os
import platform
import shutil
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
TOOLS = ROOT / "tools"

PACKAGES = {"gcc": "gcc libc6-dev python3-dev", "clang": "clang-19 libclang-rt-19-dev (or another version of both)"}
"""What has a compiler and its sanitizers, on Debian."""

OVERRUN = "lib.read_at(bytes(100), 140)"  # behind the object: Python's own allocator would have something there
OVERFLOW = "lib.shift(1, 40)"
LEAK = "lib.lose(100)"
RACE = "lib.race()"


@dataclass(frozen=True, slots=True)
class Sanitizer:
    """How to build with it and to run what was built.

    `compilers`: the first that is there is taken. `switches` are those of setup.py. `library` is loaded before all else
    ("": none). `options` are of the environment; `{report}` stands for where reports go. `faults`: what it must report,
    and how.
    """

    compilers: tuple[str, ...]
    switches: tuple[str, ...]
    flags: tuple[str, ...]
    library: str
    options: dict[str, str]
    faults: dict[str, str]


# Leaks: the interpreter gives much of its own memory back to nobody when it ends. Of an allocation only the function
# that asked for it is kept (two frames, the first of them malloc's own), and what Python or others asked for is
# suppressed: what remains was asked for by a compiled module of ours.
ADDRESS = Sanitizer(
    compilers=("gcc",),
    switches=("ASAN",),
    flags=("-fsanitize=address,undefined", "-fno-sanitize-recover=all"),
    library="libasan.so",
    options={
        "PYTHONMALLOC": "malloc",
        "ASAN_OPTIONS": "detect_leaks=1:malloc_context_size=2:detect_stack_use_after_return=1:strict_string_checks=1"
        ":allocator_may_return_null=1"
        ":handle_segv=2:handle_sigbus=2:handle_sigfpe=2:log_path={report}",
        "UBSAN_OPTIONS": "print_stacktrace=1",  # its reports go to stderr, whatever one asks
        "LSAN_OPTIONS": f"suppressions={TOOLS / 'sanitizer-leaks.txt'}:print_suppressions=0",
    },
    faults={OVERRUN: "heap-buffer-overflow", OVERFLOW: "shift exponent", LEAK: "detected memory leaks"},
)
THREAD = Sanitizer(
    compilers=("gcc",),
    switches=("TSAN",),
    flags=("-fsanitize=thread",),
    library="libtsan.so",
    options={
        "TSAN_OPTIONS": "history_size=4:second_deadlock_stack=1:log_path={report}",
    },
    faults={RACE: "data race"},
)
SANITIZERS = {"address": ADDRESS, "thread": THREAD}
FUZZED = replace(
    ADDRESS,
    compilers=("clang", "clang-19", "clang-18", "clang-17", "clang-16", "clang-15", "clang-14"),
    switches=("ASAN", "FUZZ"),
    library="libclang_rt.asan-x86_64.so",
)
"""As `ADDRESS`, and libFuzzer learns which way an input went."""
COVERED = Sanitizer(compilers=("gcc",), switches=("COVER",), flags=(), library="", options={}, faults={})
"""Nothing is looked for: lines are counted."""


class MissingError(Exception):
    """Something that has to be installed first."""


class Run:
    """One sanitizer's modules, in a folder of `build`, their environment and reports.

    Raises:
        MissingError: no compiler, or not its sanitizer.
    """

    def __init__(self, sanitizer: Sanitizer) -> None:
        self.sanitizer = sanitizer
        self.folder = ROOT / "build" / sanitizer.switches[-1].lower()
        self.modules = self.folder / "lib"
        self.reports = self.folder / "reports"
        self.compiler = next(filter(None, map(shutil.which, sanitizer.compilers)), "")
        if not self.compiler:
            raise MissingError(
                f"no {sanitizer.compilers[0]}: run: apt-get install -y {PACKAGES[sanitizer.compilers[0]]}"
            )
        self.library = self.found(sanitizer.library.replace("x86_64", platform.machine())) if sanitizer.library else ""

    def found(self, name: str) -> str:
        """Where the compiler has this file."""
        said = subprocess.run([self.compiler, f"-print-file-name={name}"], capture_output=True, text=True, check=True)
        if not os.path.isabs(path := said.stdout.strip()) or not os.path.exists(path):
            package = PACKAGES[self.sanitizer.compilers[0]]
            raise MissingError(f"{self.compiler} has no {name}: run: apt-get install -y {package}")
        return path

    def build(self) -> None:
        """Build what changed."""
        subprocess.run(
            [
                sys.executable, "setup.py", "--quiet", "build_ext", "--build-lib", str(self.modules),
                "--build-temp", str(self.folder / "temp"), "--parallel", str(len(os.sched_getaffinity(0))),
            ],
            cwd=ROOT,
            env=os.environ | {"CC": self.compiler} | {f"VPCLAB_{each}": "1" for each in self.sanitizer.switches},
            check=True,
        )  # fmt: skip
        shutil.copy(ROOT / "fastpath" / "__init__.py", self.modules / "fastpath")
        # A module that is no more would still be found.
        for built in (self.modules / "fastpath").glob("*.so"):
            if not (ROOT / "fastpath" / f"{built.name.split('.')[0]}.pyx").exists():
                built.unlink()

    def environment(self) -> dict[str, str]:
        """What a process needs that runs these modules."""
        paths = [str(self.modules), str(ROOT), str(ROOT / "public")]
        options = {name: said.format(report=self.reports / "report") for name, said in self.sanitizer.options.items()}
        return (
            os.environ
            | options
            | {
                **({"LD_PRELOAD": self.library} if self.library else {}),
                "PYTHONPATH": os.pathsep.join(paths),
                "VPCLAB_COMPILED": str(self.modules),
            }
        )

    def clear(self) -> None:
        """Forget what was reported."""
        shutil.rmtree(self.reports, ignore_errors=True)
        self.reports.mkdir(parents=True)

    def reported(self) -> str:
        """All reports there are."""
        said = [path.read_text(errors="replace") for path in sorted(self.reports.iterdir())]
        return "\n".join(text for text in said if "Sanitizer" in text or "runtime error:" in text)

    def run(self, arguments: Sequence[str | Path]) -> int:
        """Run Python on these modules; its exit status. What it writes to stderr lands among the reports."""
        self.clear()
        with open(self.reports / "stderr", "wb") as errors:
            command = [sys.executable, "-P", *arguments]
            return subprocess.run(command, cwd=ROOT, env=self.environment(), stderr=errors, check=False).returncode

    def prove(self) -> None:
        """Make each known fault; raises RuntimeError when one is not reported."""
        faulty = self.folder / "faulty.so"
        flags = [*self.sanitizer.flags, "-g", "-O1", "-shared", "-fPIC", "-pthread"]
        subprocess.run([self.compiler, *flags, TOOLS / "sanitizer-faults.c", "-o", faulty], check=True)
        for call, words in self.sanitizer.faults.items():
            status = self.run(["-c", f"import ctypes; lib = ctypes.CDLL({str(faulty)!r}); {call}"])
            if status == 0 or words not in self.reported():
                raise RuntimeError(f"the sanitizer did not report `{call}`, which is a fault (exit {status})")

    def test(self, arguments: Sequence[str]) -> int:
        """Run pytest; its exit status, or 1 when something was reported.

        Its own capturing of file descriptors is off: it would keep what a process says that dies of a report.
        Tests may take long: they do, on a busy machine. So after a while it is not dumped either where they are: that
        reads the frames of threads that go on, and has ended a process of whose modules there was nothing to report.
        """
        options = ["-p", "no:cacheprovider", "--capture=sys", "--timeout=3600", "-o", "faulthandler_timeout=0"]
        status = self.run(["-m", "pytest", *options, "-o", f"pythonpath={self.modules} . public", *arguments])
        said = self.reported()
        print(said or "== no report")
        if status and not said:
            print((self.reports / "stderr").read_text(errors="replace"), file=sys.stderr)
        return 1 if said else status


def main(arguments: Sequence[str]) -> int:
    """Build, prove, test."""
    if not arguments or arguments[0] not in SANITIZERS:
        print(__doc__, file=sys.stderr)
        return 2
    try:
        run = Run(SANITIZERS[arguments[0]])
        run.build()
        run.prove()
    except MissingError as error:
        print(f"vpclab: {error}", file=sys.stderr)
        return 3
    return run.test(arguments[1:])


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
