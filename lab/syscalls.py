"""The few Linux calls that Python's os module lacks, or lacked before 3.12."""

from __future__ import annotations

import ctypes
import errno
import os

from lab.scarcity import NAMESPACE

CLONE_NEWNS = 0x00020000
CLONE_NEWUTS = 0x04000000
CLONE_NEWIPC = 0x08000000
CLONE_NEWUSER = 0x10000000
CLONE_NEWPID = 0x20000000
CLONE_NEWNET = 0x40000000

_KINDS = {
    "user": CLONE_NEWUSER,
    "mount": CLONE_NEWNS,
    "network": CLONE_NEWNET,
    "UTS": CLONE_NEWUTS,
    "PID": CLONE_NEWPID,
}

MS_RDONLY = 1
MS_NOSUID = 2
MS_NODEV = 4
MS_NOEXEC = 8
MS_BIND = 4096
MS_REC = 16384
MS_PRIVATE = 1 << 18
MS_SHARED = 1 << 20
MNT_DETACH = 2

_PR_SET_PDEATHSIG = 1
_PR_SET_NAME = 15
_PR_CAPBSET_READ, _PR_CAPBSET_DROP = 23, 24
_PR_CAP_AMBIENT, _PR_CAP_AMBIENT_CLEAR_ALL = 47, 4
_CAPABILITIES_3 = 0x20080522

_libc = ctypes.CDLL(None, use_errno=True)
_libc.mount.argtypes = (ctypes.c_char_p, ctypes.c_char_p, ctypes.c_char_p, ctypes.c_ulong, ctypes.c_char_p)
_libc.prctl.argtypes = (ctypes.c_int, ctypes.c_ulong, ctypes.c_ulong, ctypes.c_ulong, ctypes.c_ulong)


def _check(result: int, what: str) -> None:
    if result != 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number), what)


def unshare(flags: int) -> None:
    """Give this process new namespaces of the kinds in `flags` (CLONE_NEW...).

    Where there may be no more of a kind (ENOSPC), the error names it (``network namespace``) in place of a file; the
    process may be in new ones of other kinds then.
    """
    if _libc.unshare(flags) == 0:
        return
    number, what = ctypes.get_errno(), "unshare"
    if number == errno.ENOSPC:
        # The kernel makes all or none of them, and does not say which it was.
        single = (kind for kind, flag in _KINDS.items() if flags & flag and _libc.unshare(flag) != 0)
        what = next((f"{kind}{NAMESPACE}" for kind in single), what)
    raise OSError(number, os.strerror(number), what)


def setns(descriptor: int, kind: int = 0) -> None:
    """Join the namespace behind a descriptor; `kind` (CLONE_NEW...), if given, must be what it is."""
    _check(_libc.setns(descriptor, kind), "setns")


def mount(source: str, target: str, kind: str | None = None, flags: int = 0, options: str = "") -> None:
    """Mount a file system, or with MS_BIND a file or folder, at `target`."""
    encoded = None if kind is None else os.fsencode(kind)
    _check(_libc.mount(os.fsencode(source), os.fsencode(target), encoded, flags, options.encode()), target)


def umount(target: str, flags: int = 0) -> None:
    """Unmount what is at `target`."""
    _check(_libc.umount2(os.fsencode(target), flags), target)


def die_with_parent(signal_number: int) -> None:
    """Ask for this signal when the *thread* that started this process ends. A change of user id cancels it."""
    _check(_libc.prctl(_PR_SET_PDEATHSIG, signal_number, 0, 0, 0), "prctl")


def drop_capability(number: int) -> None:
    """Take a capability out of the bounding set: nothing that is executed from now on has it."""
    # A container may have taken it away already, and then perhaps the right to do so, too.
    if _libc.prctl(_PR_CAPBSET_READ, number, 0, 0, 0) == 1:
        _check(_libc.prctl(_PR_CAPBSET_DROP, number, 0, 0, 0), "prctl")


def inherit_no_capabilities() -> None:
    """Clear the inheritable and the ambient set, which root gets beside the bounding set when it executes something."""
    _check(_libc.prctl(_PR_CAP_AMBIENT, _PR_CAP_AMBIENT_CLEAR_ALL, 0, 0, 0), "prctl")
    # Version and pid; then effective, permitted and inheritable, first of capabilities 0 to 31, then of the others.
    header, sets = (ctypes.c_uint32 * 2)(_CAPABILITIES_3, 0), (ctypes.c_uint32 * 6)()
    _check(_libc.capget(header, sets), "capget")
    sets[2] = sets[5] = 0
    _check(_libc.capset(header, sets), "capset")


def set_process_name(name: str) -> None:
    """Name this process as `ps -o comm` and `top` show it (15 bytes at most)."""
    buffer = ctypes.create_string_buffer(os.fsencode(name)[:15])
    _check(_libc.prctl(_PR_SET_NAME, ctypes.addressof(buffer), 0, 0, 0), "prctl")
