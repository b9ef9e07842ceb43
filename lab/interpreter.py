"""How to run one of our modules in a fresh interpreter that starts fast and imports nothing but it."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

_ROOT = Path(__file__).resolve().parent.parent
_CODE = "import sys; sys.path.insert(0, sys.argv[1]); del sys.argv[1]; from lab import {0}; {0}.main()"


def command(module: str, *arguments: str) -> list[str]:
    """Command line that runs ``main()`` of ``lab.MODULE``, which sees `arguments` as ``sys.argv[1:]``.

    Isolated (-I) and without site-packages (-S): neither the user's variables nor the folder they stand in nor
    installed packages play a part, and it starts in a third of the time.
    """
    return [sys.executable, "-I", "-S", "-c", _CODE.format(module), str(_ROOT), *arguments]


def runs(arguments: Sequence[str], module: str) -> bool:
    """Whether a command line is one of `command`, for this module, by whatever interpreter."""
    return _CODE.format(module) in arguments


def arguments_to(line: Sequence[str], module: str) -> Sequence[str]:
    """The `arguments` of a command line that is one of `command`, for this module; else none."""
    code = _CODE.format(module)
    return line[line.index(code) + 2 :] if code in line else ()
