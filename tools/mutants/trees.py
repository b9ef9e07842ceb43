"""Trees that faults are put into: a sound copy of this one, built, and for each fault a copy of that.

Two faults can be judged at a time, each at a place of its own.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

from tools.mutants.faults import ROOT, Fault

WORK = ROOT / "build" / "mutants"
BASE = WORK / "base"
BUILT = ("cython-release", "lib.*", "temp.*", "switches")
"""What of `build` spares building everything again."""


class BuildError(Exception):
    """It does not build; the text is what the compiler said."""


@dataclass(frozen=True, slots=True)
class Place:
    """Where one fault at a time is judged: a tree, what its tests write down, and what they leave behind."""

    folder: Path

    @property
    def tree(self) -> Path:
        """The tree with the fault."""
        return self.folder / "tree"

    @property
    def witness(self) -> Path:
        """How the last run went."""
        return self.folder / "witness"

    @property
    def wanted(self) -> Path:
        """The tests it was asked for."""
        return self.folder / "wanted.json"

    @property
    def said(self) -> Path:
        """What pytest printed."""
        return self.folder / "said"


def places(count: int) -> list[Place]:
    """So many of them."""
    found = [Place(WORK / f"place-{number}") for number in range(1, count + 1)]
    for place in found:
        place.folder.mkdir(parents=True, exist_ok=True)
    return found


def prepare() -> Path:
    """Bring the sound copy up to date, and return where it is."""
    listed = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT,
        capture_output=True,
        check=True,
    ).stdout.decode()
    wanted = {name for name in listed.split("\0") if name and (ROOT / name).is_file()}
    new = not BASE.exists()
    for name in sorted(wanted):
        here, there = ROOT / name, BASE / name
        if not there.exists() or here.read_bytes() != there.read_bytes():
            there.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(here, there)
    for folder in ("dataplane", "fastpath", "lab", "public", "tests", "tools"):
        for path in (BASE / folder).rglob("*.p*"):
            if path.suffix in (".py", ".pyx", ".pxd") and str(path.relative_to(BASE)) not in wanted:
                path.unlink()
    if new:
        for pattern in BUILT:
            for path in (ROOT / "build").glob(pattern):
                _take(path, BASE / "build" / path.name)
        for path in (ROOT / "fastpath").glob("*.so"):
            _take(path, BASE / "fastpath" / path.name)
    build(BASE, len(os.sched_getaffinity(0)))
    return BASE


def with_fault(fault: Fault, place: Place, *, processes: int) -> Path:
    """The place's tree, with this fault, built by so many processes.

    Raises:
        BuildError: it does not build.
    """
    shutil.rmtree(place.tree, ignore_errors=True)
    compiled = fault.file.startswith("fastpath/")
    shutil.copytree(BASE, place.tree, symlinks=True, ignore=None if compiled else shutil.ignore_patterns("build"))
    fault.put_into(place.tree)
    if compiled:
        build(place.tree, processes)
    return place.tree


def build(tree: Path, processes: int) -> None:
    """Build what is older than its sources; a .pxd makes those that cimport it older."""
    done = subprocess.run(
        [sys.executable, "setup.py", "--quiet", "build_ext", "--inplace", "--parallel", str(processes)],
        cwd=tree,
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        raise BuildError(done.stderr[-2000:])


def _take(path: Path, to: Path) -> None:
    to.parent.mkdir(parents=True, exist_ok=True)
    if path.is_dir():
        shutil.copytree(path, to, symlinks=True)
    else:
        shutil.copy2(path, to)
