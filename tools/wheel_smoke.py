"""Smoke test of an installed wheel, run by tools/wheel-smoke from a folder outside the tree.

Arguments: the tree it was built from, the wheel, the sdist.
"""

from __future__ import annotations

import importlib
import importlib.metadata
import json
import os
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path, PurePosixPath

PACKAGES = ("vpclab", "lab", "dataplane", "fastpath")
NOT_IN_SDIST = {".editorconfig", ".gitignore"}


def expect(what: str, holds: bool) -> None:
    """Print a line that held, or end here."""
    if not holds:
        sys.exit(f"wheel smoke: FAILED: {what}")
    print(f"  ok  {what}")


def vpclab(*arguments: str) -> subprocess.CompletedProcess[str]:
    """Run the installed command."""
    return subprocess.run(["vpclab", *arguments], capture_output=True, text=True, check=False, timeout=120)


def check_contents(tree: Path, wheel: Path, sdist: Path) -> None:
    """What is in the two files, and what is not."""
    in_wheel = {PurePosixPath(name) for name in zipfile.ZipFile(wheel).namelist()}
    tops = {name.parts[0] for name in in_wheel if not name.parts[0].endswith(".dist-info")}
    expect(f"the wheel has {', '.join(PACKAGES)} and nothing else", tops == set(PACKAGES))
    expect("no sources of compiled modules in it", not {n for n in in_wheel if n.suffix in (".pyx", ".c", ".html")})
    compiled = {name.name.partition(".")[0] for name in in_wheel if name.suffix == ".so"}
    wanted = {path.stem for path in (tree / "fastpath").glob("*.pyx")}
    expect(f"compiled: {', '.join(sorted(wanted))}", compiled == wanted)
    expect("a stub for each", compiled == {name.stem for name in in_wheel if name.suffix == ".pyi"})
    expect("all packages are typed", all(PurePosixPath(package, "py.typed") in in_wheel for package in PACKAGES))
    expect("the licence", any(name.name == "LICENSE" for name in in_wheel))

    with tarfile.open(sdist) as archive:
        in_sdist = {"/".join(name.split("/")[1:]) for name in archive.getnames()}
    listing = subprocess.run(["git", "-C", tree, "ls-files"], capture_output=True, text=True, check=False)
    missing = set(listing.stdout.split("\n")) - in_sdist - NOT_IN_SDIST - {""}
    expect(f"the sdist has every committed file {sorted(missing) or ''}", not missing)


def check_imports() -> None:
    """All packages come from the environment, not from where we stand."""
    for name in (*PACKAGES, "fastpath.engine", "dataplane.topology", "lab.daemon"):
        module = importlib.import_module(name)
        expect(f"import {name}", (module.__file__ or "").startswith(sys.prefix))


def check_command(folder: Path) -> None:
    """The console script: version, help, a good file, a bad one."""
    version = importlib.metadata.version("vpclab")
    expect(f"vpclab version says {version}", version in vpclab("version").stdout)
    expect("vpclab --help", vpclab("--help").returncode == 0)
    expect("vpclab validate of the quickstart", vpclab("validate", "quickstart.yaml").returncode == 0)
    expect("vpclab graph draws it", vpclab("graph", "quickstart.yaml").stdout.startswith("flowchart LR"))
    bad = folder / "bad.yaml"
    bad.write_text((folder / "quickstart.yaml").read_text() + "\nvcps: {}\n")
    answer = vpclab("validate", str(bad))
    told = answer.returncode == 2 and "bad.yaml:" in answer.stderr and "vcps" in answer.stderr
    expect("vpclab validate of a broken file: exit 2, the line and the key", told)


def check_plugin(folder: Path) -> None:
    """pytest finds the plugin; with `-p` too; the tutorial passes with what the wheel has, if this machine lets us."""

    def run(*arguments: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-P", "-m", "pytest", "-p", "no:cacheprovider", "-W", "error", *arguments]
        return subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False, timeout=240)

    for arguments in ([], ["-p", "vpclab.testing.plugin"]):
        found = run("--fixtures", *arguments)
        told = all(f"\n{name} " in found.stdout for name in ("assert_reachable", "assert_dropped", "capture", "clock"))
        expect(f"pytest {' '.join(arguments)} has the fixtures", found.returncode == 0 and told)
    done = run("-rs", *(["--require-labs"] if "CI" in os.environ else []))
    result = done.stdout.strip().rpartition("\n")[2]
    if done.returncode:
        print(done.stdout)
    expect(f"the tutorial {result}", done.returncode == 0)


def check_lessons() -> None:
    """The labs of the lessons are in the wheel, and are taught from there."""
    listed = json.loads(vpclab("learn", "list", "--format", "json").stdout)
    expect("vpclab learn list has ten lessons", len(listed) == 10)
    from vpclab.learn import LESSONS

    copied = [vpclab("learn", "start", lesson.name, "--no-lab").returncode for lesson in LESSONS]
    expect("vpclab learn start copies each", copied == [0] * 10 and len(list(Path.cwd().glob("*.yaml"))) >= 10)
    static = [lesson for lesson in LESSONS if lesson.task is None]
    broken = [vpclab("learn", "verify", lesson.name, "--static").returncode for lesson in static]
    expect("vpclab learn verify says that they are broken", broken == [1] * len(static))
    for lesson in static:
        Path(f"{lesson.name}.yaml").write_text(lesson.fixed)
    fixed = [vpclab("learn", "verify", lesson.name, "--static").returncode for lesson in static]
    expect("vpclab learn verify says when they are put right", fixed == [0] * len(static))


def check_lab() -> None:
    """Real packets, if this machine lets us."""
    from lab import preflight
    from vpclab import Lab

    obstacles = list(preflight.check_lab())
    if obstacles:
        expect(f"a live lab ({obstacles[0]})", "CI" not in os.environ)
        return
    with Lab.load("quickstart.yaml", name="wheel-smoke") as lab:
        expect("app reaches the internet through the NAT gateway", bool(lab["app"].ping("198.51.100.10")))
        expect("db does not", not lab["db"].ping("198.51.100.10", timeout_s=1))
        expect("trace names the table", "store/" in str(lab.trace("db", "198.51.100.10", protocol="icmp")))


def main() -> None:
    """All checks, in order."""
    tree, wheel, sdist = map(Path, sys.argv[1:4])
    check_contents(tree, wheel, sdist)
    check_imports()
    check_command(Path.cwd())
    check_lessons()
    check_lab()
    check_plugin(Path.cwd() / "pytest")
    print("wheel smoke: all passed")


if __name__ == "__main__":
    main()
