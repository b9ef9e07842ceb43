"""Several processes of one test run side by side: each has states of labs, and names of namespaces, of its own."""

from __future__ import annotations

import ctypes
import os
import shutil
import tempfile
from pathlib import Path

NAMES = Path("/run/netns")
CLONE_NEWNS, MS_REC, MS_PRIVATE = 0x20000, 0x4000, 1 << 18
"""`linux/sched.h`, `linux/mount.h`."""


def stand_apart() -> Path:
    """Give this process, and what it starts, a folder of states of its own, and as root an empty /run/netns.

    Returns the folder, for `leave`. Labs of equal names, in equal examples, then do not meet. Raises OSError where the
    system refuses.
    """
    states = Path(tempfile.mkdtemp(prefix="vpclab-"))  # short: a socket's path must fit in 107 bytes
    os.environ["XDG_STATE_HOME"] = str(states)
    if os.geteuid() == 0:
        libc = ctypes.CDLL(None, use_errno=True)
        NAMES.mkdir(exist_ok=True)
        for code in (
            libc.unshare(CLONE_NEWNS),
            libc.mount(b"none", b"/", None, MS_REC | MS_PRIVATE, None),
            libc.mount(b"none", str(NAMES).encode(), b"tmpfs", 0, None),
        ):
            if code:
                raise OSError(ctypes.get_errno(), "no mounts of one's own for a test process")
    return states


def leave(states: Path) -> None:
    """Remove the folder of states; the names end with this process."""
    shutil.rmtree(states, ignore_errors=True)
