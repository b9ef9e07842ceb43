"""Names of network namespaces under /run/netns, as `ip netns` keeps them: a file with the namespace mounted on it."""

from __future__ import annotations

import contextlib
import errno
import itertools
import os
from collections.abc import Iterator
from pathlib import Path

from dataplane.errors import LabError
from lab.syscalls import MNT_DETACH, MS_BIND, MS_REC, MS_SHARED, mount, umount

FOLDER = Path("/run/netns")


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


def claim(name: str, lab: str, network: int) -> str:
    """Name the namespace behind a descriptor: `name`, or where that is taken ``LAB-name``; returns which."""
    for candidate in itertools.chain((name, f"{lab}-{name}"), (f"{lab}-{name}-{n}" for n in itertools.count(2))):
        path = FOLDER / candidate
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


def release(name: str) -> None:
    """Take a name away; nothing happens when it is not there."""
    path = FOLDER / name
    with contextlib.suppress(OSError):
        umount(str(path), MNT_DETACH)
    path.unlink(missing_ok=True)


def names() -> Iterator[str]:
    """All names there are, whoever made them."""
    with contextlib.suppress(OSError):
        yield from sorted(os.listdir(FOLDER))
