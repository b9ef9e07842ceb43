"""Names of network namespaces under /run/netns, as `ip netns` keeps them: a file with the namespace mounted on it."""

from __future__ import annotations

import contextlib
import errno
import itertools
import os
import stat
from collections.abc import Callable, Iterator
from pathlib import Path

from dataplane.errors import LabError
from lab.syscalls import MNT_DETACH, MS_BIND, MS_REC, MS_SHARED, mount, umount

FOLDER = Path("/run/netns")
_NAME_BYTES = 255
"""NAME_MAX of Linux."""


def prepare() -> None:
    """Make the folder as `ip netns add` makes it: a mount of its own that is shared with other mount namespaces.

    `ip netns add` would otherwise do it later, and hide under that mount every name that is already there.
    """
    try:
        FOLDER.mkdir(mode=0o755, exist_ok=True)
        try:
            mount("none", str(FOLDER), None, MS_SHARED | MS_REC)
        except OSError as error:
            if error.errno != errno.EINVAL:
                raise
            mount(str(FOLDER), str(FOLDER), None, MS_BIND | MS_REC)
            mount("none", str(FOLDER), None, MS_SHARED | MS_REC)
    except OSError as error:
        raise LabError(f"{FOLDER}, the folder of network namespaces, is not usable: {error.strerror}") from error


def claim(name: str, lab: str, network: int, announce: Callable[[str], None]) -> str:
    """Name the namespace behind a descriptor: `name`, or where that is taken ``LAB-name``; returns which.

    `announce` is called with each name before it is tried: who is killed between making the file and mounting on it
    leaves a file that nothing else tells from others (`sweep`).
    """
    for candidate in itertools.chain((name, f"{lab}-{name}"), (f"{lab}-{name}-{n}" for n in itertools.count(2))):
        path = FOLDER / candidate
        announce(candidate)
        try:
            os.close(os.open(path, os.O_RDONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0))
        except FileExistsError:
            continue
        try:
            mount(f"/proc/self/fd/{network}", str(path), None, MS_BIND)
        except BaseException:
            path.unlink(missing_ok=True)
            raise
        return candidate
    raise AssertionError("endless")


def is_name(name: str) -> bool:
    """Whether there can be a file of this name in the folder."""
    return name not in ("", ".", "..") and not {"/", "\0"} & {*name} and len(os.fsencode(name)) <= _NAME_BYTES


def release(name: str) -> None:
    """Take a name away; nothing happens when it is not there."""
    path = FOLDER / name
    with contextlib.suppress(OSError):
        umount(str(path), MNT_DETACH)
    path.unlink(missing_ok=True)


def sweep(name: str) -> bool:
    """Take the file of a name away if no namespace is mounted on it; whether it was so."""
    path = FOLDER / name
    try:
        found = path.lstat()
        # What is mounted there is of another file system (nsfs); the file itself is as `claim` makes it.
        if not stat.S_ISREG(found.st_mode) or found.st_mode & 0o777 or found.st_size:
            return False
        if found.st_dev != FOLDER.stat().st_dev:
            return False
        path.unlink()
    except FileNotFoundError:
        return False
    return True


def names() -> Iterator[str]:
    """All names there are, whoever made them."""
    with contextlib.suppress(OSError):
        yield from sorted(os.listdir(FOLDER))
