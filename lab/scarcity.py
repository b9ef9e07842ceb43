"""What has run out, and what to do about it, from the error number by which the kernel says so."""

from __future__ import annotations

import errno
import resource
from pathlib import Path
from typing import TypeGuard

from lab.state_root import state_root

NAMESPACE = " namespace"
"""Behind the kind of a namespace, in place of a file's name: what an error is about."""
_SWITCHES = {"user": "user", "mount": "mnt", "network": "net", "UTS": "uts", "PID": "pid"}
"""Kind of namespace -> NAME in the setting ``user.max_NAME_namespaces``."""
_NAMESPACES = 15000
"""A limit that suffices for thousands of nodes."""
_NO_LIMIT = 2**31 - 1
"""What /proc/sys/user says in a user namespace whose limits are those of the one around it (namespaces(7))."""
_FILES = 65536
_SCARCE = (errno.ENOSPC, errno.EDQUOT, errno.EMFILE, errno.ENFILE, errno.EAGAIN, errno.ENOMEM)


def is_scarce(error: BaseException) -> TypeGuard[OSError]:
    """Whether it says that something has run out: room, descriptors, processes, memory, namespaces."""
    return isinstance(error, OSError) and error.errno in _SCARCE


def said(error: OSError) -> str:
    """``FILE: what the kernel says; what to do``, as far as there is something to say."""
    what = f"{error.filename}: " if error.filename else ""
    return f"{what}{error.strerror or error}{remedy(error)}"


def remedy(error: OSError, name: object = None) -> str:
    """``; what to do``, for the end of a line that says what has run out; empty for any other error.

    `name` is what the error is about, where it does not say so itself.
    """
    about = str(name or error.filename or "")
    match error.errno:
        case errno.ENOSPC | errno.EDQUOT if about.endswith(NAMESPACE):
            what = f"take other labs down, or run: sudo sysctl -w {_larger(about.removesuffix(NAMESPACE))}"
        case errno.ENOSPC | errno.EDQUOT if about.startswith(str(state_root())):
            what = "free some space there, or have XDG_STATE_HOME name a folder elsewhere"
        case errno.ENOSPC | errno.EDQUOT:
            what = "free some space there"
        case errno.EMFILE:
            limit = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
            what = f"a process may have {limit} here; before it is started, as root: ulimit -n {max(_FILES, 2 * limit)}"
        case errno.ENFILE:
            what = "close some, or run: sudo sysctl -w fs.file-max=1000000"
        case errno.EAGAIN:
            what = "end some processes, or allow more of them (ulimit -u; a container's pids limit)"
        case errno.ENOMEM:
            what = "end some programs"
        case _:
            return ""
    return f"; {what}"


def _larger(kind: str) -> str:
    switch = f"user.max_{_SWITCHES[kind]}_namespaces"
    limit = int(Path("/proc/sys", *switch.split(".")).read_text())
    return f"{switch}={_NAMESPACES if limit < _NAMESPACES or limit >= _NO_LIMIT else 2 * limit}"
