"""Build what the benchmarks measure with: the peers in C, and loops over our own tables in Cython. Nothing of it ships.

Everything is built with -O3 and without -march; what DPDK's pkg-config file adds of that kind is taken out, so that
its inlined functions are not slower than they need to be. It picks its own vector code when it runs.
"""

from __future__ import annotations

import ctypes
import importlib.util
import shutil
import subprocess
import sys
import sysconfig
from functools import cache
from pathlib import Path
from types import ModuleType

ROOT = Path(__file__).resolve().parents[2]
NATIVE = ROOT / "bench" / "native"
OUT = ROOT / "build" / "bench"
FLAGS = ["-O3", "-g", "-fPIC", "-shared", "-fvisibility=hidden", "-Wall", "-Wextra", "-Wno-unused-parameter"]
_DPDK = ("acl", "fib", "rib", "lpm", "hash", "rcu", "mempool_ring", "mempool", "ring", "net", "mbuf", "eal", "kvargs")
_CALLGRIND = Path("/usr/include/valgrind/callgrind.h")
_DPDK_PACKAGES = "apt install libdpdk-dev libnuma-dev pkg-config"


class MissingError(Exception):
    """A peer that cannot be built here; the text is the command that installs it."""


@cache
def dpdk() -> Path:
    """The shared library of the DPDK peers."""
    if shutil.which("pkg-config") is None:
        raise MissingError(_DPDK_PACKAGES)
    asked = subprocess.run(["pkg-config", "--cflags", "libdpdk"], capture_output=True, text=True, check=False)
    if asked.returncode:
        raise MissingError(_DPDK_PACKAGES)
    flags = [flag for flag in asked.stdout.split() if not flag.startswith("-march")]
    flags += ["-msse4.2"]  # what its headers ask for at least
    libraries = subprocess.run(
        ["pkg-config", "--variable=libdir", "libdpdk"], capture_output=True, text=True, check=True
    ).stdout.strip()
    archives = [path for name in (*_DPDK, "telemetry") if (path := f"{libraries}/librte_{name}.a")]
    link = ["-Wl,--whole-archive", *archives, "-Wl,--no-whole-archive"]
    link += ["-lnuma", "-lbsd", "-lm", "-ldl", "-lpthread"]
    return _compile("peers.c", [*flags, "-Wl,-Bsymbolic"], link)


@cache
def loop() -> Path:
    """The shared library of the bare loop over packets."""
    return _compile("loop.c", [], [])


@cache
def counter() -> Path:
    """What counts allocations when it is preloaded."""
    return _compile("counter.c", [], ["-ldl"])


def _compile(source: str, flags: list[str], link: list[str]) -> Path:
    OUT.mkdir(parents=True, exist_ok=True)
    target = OUT / f"{Path(source).stem}.so"
    made_from = [NATIVE / source, Path(__file__)]
    if not target.exists() or target.stat().st_mtime < max(each.stat().st_mtime for each in made_from):
        command = ["cc", *FLAGS, *flags, "-o", str(target), str(NATIVE / source), *link]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode:
            raise SystemExit(f"{' '.join(command)}\n{done.stderr}")
    return target


@cache
def kernels() -> ModuleType:
    """Loops over our tables (kernels.pyx), compiled against this tree's fastpath."""
    source = ROOT / "bench" / "kernels.pyx"
    OUT.mkdir(parents=True, exist_ok=True)
    counts = "-counting" if _CALLGRIND.exists() else ""
    target = OUT / f"kernels{counts}{sysconfig.get_config_var('EXT_SUFFIX')}"
    made_from = [source, Path(__file__), *ROOT.glob("fastpath/*.pxd"), *ROOT.glob("fastpath/*.pyx")]
    if not target.exists() or target.stat().st_mtime < max(each.stat().st_mtime for each in made_from):
        written = OUT / "kernels.c"
        directives = [f"-X{each}" for each in ("boundscheck=False", "wraparound=False", "cdivision=True")]
        translate = [
            sys.executable,
            "-m",
            "cython",
            "-3",
            *directives,
            "-I",
            str(ROOT),
            "-o",
            str(written),
            str(source),
        ]
        compile_it = ["cc", *FLAGS, "-fno-strict-aliasing", "-fwrapv", "-Wno-unused-function", "-Wno-sign-compare"]
        compile_it += [f"-I{sysconfig.get_path('include')}", f"-I{ROOT / 'fastpath'}", "-o", str(target), str(written)]
        for command in (translate, compile_it):
            done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=ROOT)
            if done.returncode:
                raise SystemExit(f"{' '.join(command)}\n{done.stdout}{done.stderr}")
    spec = importlib.util.spec_from_file_location("kernels", target)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def open_library(path: Path) -> ctypes.CDLL:
    """Load one; its functions are called with integers and addresses."""
    return ctypes.CDLL(str(path))


if __name__ == "__main__":
    print(kernels().__file__)
    print(loop(), counter(), dpdk())
