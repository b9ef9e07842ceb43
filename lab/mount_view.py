"""What a node sees of the file system: this machine's, but its own names and its own devices.

Every node has its own ``/etc/hosts``, ``/etc/resolv.conf`` and ``/etc/hostname`` (mounted over the host's) and a
``/sys`` that shows its own devices. All nodes of a lab share a ``/proc`` that shows the lab's processes. Everything
else, every other file, is the host's.

Those files live in memory, in a file system mounted in the state folder that only nodes see: it goes with them, and
making a file in it takes a fiftieth of the time that a disk's journal does.

Mounts need something to be mounted over, and the folder /etc is not ours to write to. So a host without
``/etc/hosts`` or ``/etc/resolv.conf`` is refused, with the command that makes one; without ``/etc/hostname`` nodes have
only the kernel's hostname.
"""

from __future__ import annotations

import contextlib
import errno
import os
from collections.abc import Mapping
from pathlib import Path

from dataplane.errors import LabError
from lab.node_plan import Address, NodePlan
from lab.rootless import in_initial_user_namespace
from lab.syscalls import (
    MNT_DETACH,
    MS_BIND,
    MS_NODEV,
    MS_NOEXEC,
    MS_NOSUID,
    MS_PRIVATE,
    MS_RDONLY,
    MS_REC,
    mount,
    umount,
)

_PLAIN = MS_NOSUID | MS_NODEV | MS_NOEXEC
_REQUIRED = ("hosts", "resolv.conf")
_NAME_SERVICES = ("/run/nscd/socket", "/run/systemd/resolve/io.systemd.Resolve")
"""Sockets by which the C library asks the *host's* name cache or resolver, whatever the network namespace."""

_LOCALHOST = "127.0.0.1\tlocalhost\n::1\tlocalhost ip6-localhost ip6-loopback\n"
_RESOLV_CONF = "# This node has no name server; it knows the names in /etc/hosts.\noptions timeout:1 attempts:1\n"

HostsCache = dict[int, tuple[Mapping[str, tuple[Address, ...]], str]]
"""id of a mapping of names -> (that mapping, its lines); the mapping is kept so that its id stays its own."""


def check_files() -> None:
    """Raise LabError when this machine lacks a file that nodes must have their own of."""
    for name in _REQUIRED:
        path = Path("/etc", name)
        if not path.exists():
            remove = f"rm -f {path} && " if path.is_symlink() else ""
            raise LabError(f"{path} does not exist, so nodes cannot have their own; run as root: {remove}touch {path}")


def make_base(folder: Path) -> None:
    """Turn this process's new mount namespace into the one that every node's is copied from.

    The process must be in the lab's PID namespace. `folder` is empty, and the place for the nodes' files. Nothing
    mounted in here shows outside, and nothing mounted outside later shows in here: names of network namespaces
    would pile up in every node and keep dead ones alive.
    """
    mount("none", "/", None, MS_REC | MS_PRIVATE)
    # Whoever may unmount ours would else see this machine's below. In a user namespace that cannot be taken away, nor
    # done without: another may be mounted only where it is.
    if in_initial_user_namespace():
        for path in ("/proc", "/sys"):
            with contextlib.suppress(OSError):  # EINVAL: no more of them
                while True:
                    umount(path, MNT_DETACH)
    _mount_kernel("proc", "/proc")
    mount("vpclab", str(folder), "tmpfs", _PLAIN, "mode=755")
    nothing = folder / ".empty"
    nothing.touch()
    for path in _NAME_SERVICES:
        if os.path.exists(path):
            mount(str(nothing), path, None, MS_BIND)


def make_view(folder: Path) -> None:
    """Turn this process's mount namespace, a copy of the base, into a node's, with the files in `folder`."""
    try:
        _mount_kernel("sysfs", "/sys", MS_RDONLY)
    except OSError as error:
        if error.errno != errno.EBUSY:  # it shows these devices already: a network namespace that we were in before
            raise
    for name in ("hosts", "resolv.conf", "hostname"):
        path = f"/etc/{name}"
        try:
            mount(str(folder / name), path, None, MS_BIND)
        except FileNotFoundError:
            if name in _REQUIRED:
                raise


def write_files(folder: Path, plan: NodePlan, cache: HostsCache) -> None:
    """Write a node's files to `folder`, from inside.

    They are changed in place: a mount keeps showing the file it was made of, not one that replaced it.
    """
    folder.mkdir(exist_ok=True)
    hostname = plan.hostname or plan.name
    known = cache.get(id(plan.hosts))
    if known is None:
        lines = (f"{address}\t{name}\n" for name, addresses in plan.hosts.items() for address in addresses)
        known = cache[id(plan.hosts)] = (plan.hosts, "".join(lines))
    own = "" if hostname in plan.hosts else f"127.0.1.1\t{hostname}\n"
    _write(folder / "hosts", f"{_LOCALHOST}{own}{known[1]}")
    _write(folder / "resolv.conf", _RESOLV_CONF)
    _write(folder / "hostname", f"{hostname}\n")


def _mount_kernel(kind: str, target: str, *weaker: int) -> None:
    """Mount proc or sysfs. A user namespace may, if all of the host's is visible, and with no more rights than that."""
    refused: OSError | None = None
    for flags in (_PLAIN, *(_PLAIN | flag for flag in weaker)):
        try:
            return mount(kind, target, kind, flags)
        except OSError as error:
            if error.errno != errno.EPERM:
                raise
            refused = error
    raise LabError(
        f"{target} may not be mounted here because parts of it are masked; start the container with "
        "--security-opt systempaths=unconfined (podman: --security-opt unmask=ALL), or run vpclab as root"
    ) from refused


def _write(path: Path, text: str) -> None:
    content = text.encode()
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o644)
    try:
        os.pwrite(descriptor, content, 0)
        os.ftruncate(descriptor, len(content))
    finally:
        os.close(descriptor)
