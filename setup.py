"""Compiled modules of vpclab; everything else about the package is in pyproject.toml.

Switches, set in the environment to anything:

    VPCLAB_DEBUG     no optimisation, bounds checks on
    VPCLAB_ASAN      address and undefined-behaviour sanitizers (run with PYTHONMALLOC=malloc: pymalloc hides overruns)
    VPCLAB_TRACE     line tracing for coverage; the C goes beside the .pyx, where coverage looks for it
    VPCLAB_ANNOTATE  HTML that shows which lines touch Python
"""

import os
from glob import glob
from pathlib import Path

from Cython.Build import cythonize
from setuptools import Extension, setup

debug, asan, trace, annotate = (bool(os.environ.get(f"VPCLAB_{x}")) for x in ("DEBUG", "ASAN", "TRACE", "ANNOTATE"))
variant = "-".join(name for name, on in (("debug", debug), ("asan", asan), ("trace", trace)) if on) or "release"

# Written only when the switches change: an extension older than this file is built again.
switches = Path("build/switches")
if not switches.exists() or switches.read_text() != variant:
    switches.parent.mkdir(exist_ok=True)
    switches.write_text(variant)

flags = ["-O1" if debug or asan else "-O3", "-fno-strict-aliasing", "-fwrapv", "-g"]
flags += ["-Wno-sign-compare"]  # of what Cython makes from `for i in range(unsigned)`
sanitizers = ["-fsanitize=address,undefined", "-fno-omit-frame-pointer"] if asan else []
checks = debug or asan

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
        [extension] if glob("fastpath/*.pyx") else [],
        build_dir=None if trace else f"build/cython-{variant}",
        compiler_directives=directives,
        annotate=annotate,
    )
)
