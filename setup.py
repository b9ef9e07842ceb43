"""Compiled modules of vpclab; everything else about the package is in pyproject.toml.

Switches, set in the environment to anything:

    VPCLAB_DEBUG     no optimisation, bounds checks on
    VPCLAB_ASAN      address and undefined-behaviour sanitizers (tools/sanitized builds and runs these)
    VPCLAB_TSAN      thread sanitizer
    VPCLAB_FUZZ      what libFuzzer wants to know of the way a packet took; needs CC=clang
    VPCLAB_COVER     counts of lines for gcov (tools/covered.py builds and reads these)
    VPCLAB_TRACE     line tracing for coverage; the C goes beside the .pyx, where coverage looks for it
    VPCLAB_ANNOTATE  HTML that shows which lines touch Python
    VPCLAB_INSTALL   nothing is compiled: an editable install in a tree where the modules stand, which pip would
                     compile from the beginning each time (the Makefile sets it)
"""

import os
from glob import glob
from pathlib import Path

from Cython.Build import cythonize
from setuptools import Extension, setup

SWITCHES = ("DEBUG", "ASAN", "TSAN", "FUZZ", "COVER", "TRACE")
on = {name for name in (*SWITCHES, "ANNOTATE") if os.environ.get(f"VPCLAB_{name}")}
debug, trace, annotate = "DEBUG" in on, "TRACE" in on, "ANNOTATE" in on
variant = "-".join(name.lower() for name in SWITCHES if name in on) or "release"
sanitized = on & {"ASAN", "TSAN", "FUZZ"}
apart = sanitized | on & {"COVER"}

# Written only when the switches change: an extension older than this file is built again. What tools build is built in
# a folder of its own, so it leaves the file that ordinary builds look at alone.
switches = Path(f"build/switches-{variant}" if apart else "build/switches")
if not switches.exists() or switches.read_text() != variant:
    switches.parent.mkdir(exist_ok=True)
    switches.write_text(variant)

flags = ["-O1" if debug or sanitized else "-O3", "-fno-strict-aliasing", "-fwrapv", "-g"]
flags += ["-Wno-sign-compare"]  # of what Cython makes from `for i in range(unsigned)`
sanitizers = ["-fno-omit-frame-pointer"] if sanitized else []
if "ASAN" in on:
    # The first report ends the run: what goes on after undefined behaviour proves nothing.
    sanitizers += ["-fsanitize=address,undefined", "-fno-sanitize-recover=all"]
if "TSAN" in on:
    sanitizers += ["-fsanitize=thread"]
if "COVER" in on:
    # Lines as they stand: what an optimiser puts together counts as one.
    sanitizers += ["--coverage", "-O0"]
if "FUZZ" in on:
    sanitizers += ["-fsanitize=fuzzer-no-link"]
    flags += ["-Wno-unused-function"]  # clang warns of inline functions of ours too
# Neither with sanitizers: a checked index would raise where the sanitizer would have seen what the release does.
checks = debug

extension = Extension(
    "fastpath.*",
    ["fastpath/*.pyx"],
    include_dirs=["fastpath"],
    depends=[*glob("fastpath/*.h"), str(switches)],
    define_macros=[("CYTHON_TRACE_NOGIL", "1"), ("CYTHON_USE_SYS_MONITORING", "0")] if trace else [],
    extra_compile_args=flags + sanitizers,
    extra_link_args=sanitizers,
)
directives = {
    "language_level": 3,
    "boundscheck": checks,
    "wraparound": False,
    "initializedcheck": checks,
    "cdivision": True,
    "embedsignature": True,
    "freethreading_compatible": True,
    "linetrace": trace,
}
setup(
    ext_modules=cythonize(
        [] if "VPCLAB_INSTALL" in os.environ else [extension],
        build_dir=None if trace else f"build/cython-{variant}",
        compiler_directives=directives,
        annotate=annotate,
    )
)
