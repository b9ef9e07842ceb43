"""What root in an instance finds when it tries to leave: run inside, prints JSON. Does no harm where it succeeds.

python3 intruder.py [PID OF A PROCESS OUTSIDE]
"""

from __future__ import annotations

import ctypes
import errno
import json
import os
import sys
import time
from collections.abc import Callable

_libc = ctypes.CDLL(None, use_errno=True)
_CLONE_NEWNS, _MNT_DETACH = 0x00020000, 2
_NO_COMMAND = 0x5EED
"""Of reboot(2): who may give none is told EPERM, who may is told EINVAL."""


def _checked(result: int) -> int:
    if result < 0:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
    return result


def _outcome(attempt: Callable[[], object]) -> str:
    try:
        attempt()
    except OSError as error:
        return errno.errorcode[error.errno or errno.EIO]
    return "done"


def _set_clock() -> None:
    now = time.clock_gettime_ns(time.CLOCK_REALTIME)
    _checked(_libc.clock_settime(time.CLOCK_REALTIME, (ctypes.c_long * 2)(*divmod(now, 1_000_000_000))))


def _descriptors() -> dict[str, str]:
    found = {}
    for name in os.listdir("/proc/self/fd"):
        try:
            found[name] = os.readlink(f"/proc/self/fd/{name}")
        except FileNotFoundError:  # the one that lists them
            continue
    return found


def _sets() -> dict[str, int]:
    with open("/proc/self/status") as lines:
        words = (line.split() for line in lines if line.startswith("Cap"))
        return {name.rstrip(":"): int(value, 16) for name, value in words}


def _processes() -> list[int]:
    return sorted(int(name) for name in os.listdir("/proc") if name.isdecimal())


def _outside(pid: int) -> dict[str, object]:
    """What lies under the node's /proc, and what can be done there to a process that is not in the lab."""
    _checked(_libc.unshare(_CLONE_NEWNS))  # the node keeps its own
    _checked(_libc.umount2(b"/proc", _MNT_DETACH))
    if not os.path.exists("/proc/stat"):
        return {"processes": [], "attempts": {}}
    found = {}
    for what in ("environ", "mem", "root", "cwd", "ns/net", "ns/mnt", "fd/0"):
        path = f"/proc/{pid}/{what}"
        found[what] = _outcome(lambda path=path: os.close(os.open(path, os.O_RDONLY)))  # type: ignore[misc]
    return {"processes": _processes(), "attempts": found}


def main() -> None:
    """Try, and tell."""
    found: dict[str, object] = {
        "capabilities": _sets(),
        "descriptors": _descriptors(),
        "processes": _processes(),
        "attempts": {
            "set the clock": _outcome(_set_clock),
            "reboot": _outcome(lambda: _checked(_libc.reboot(_NO_COMMAND))),
            "read the kernel's log": _outcome(lambda: _checked(_libc.klogctl(3, ctypes.create_string_buffer(1), 1))),
        },
    }
    if len(sys.argv) > 1:
        found["outside"] = _outside(int(sys.argv[1]))
    print(json.dumps(found), flush=True)


if __name__ == "__main__":
    main()
