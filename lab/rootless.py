"""A lab without root: everything in one user namespace in which we are root.

With a range in /etc/subuid and /etc/subgid, and newuidmap and newgidmap (Debian package uidmap), uids 1 to 65536 exist
inside too, so programs can give up their privileges. Without, only uid 0 exists (it is the user outside), and
programs that change their user fail: most servers have a switch for that.
"""

from __future__ import annotations

import contextlib
import os
import pwd
import shutil
import subprocess
from pathlib import Path

from dataplane.errors import LabError
from lab.scarcity import is_scarce, said
from lab.syscalls import CLONE_NEWNET, CLONE_NEWNS, CLONE_NEWUSER, unshare

_CAP_NET_ADMIN, _CAP_SYS_ADMIN = 12, 21
_SWITCHES = (
    ("kernel.apparmor_restrict_unprivileged_userns", "1", "0"),  # Ubuntu 23.10 and later
    ("kernel.unprivileged_userns_clone", "0", "1"),  # Debian's own switch, Arch
    ("user.max_user_namespaces", "0", "15000"),  # RHEL 7, hardened systems
)
"""Settings that forbid user namespaces: name, the value that does, one that does not."""


def is_privileged() -> bool:
    """Whether this process may make namespaces directly: root, or root of a user namespace."""
    capabilities = 0
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("CapEff:"):
            capabilities = int(line.split()[1], 16)
    return all(capabilities >> bit & 1 for bit in (_CAP_NET_ADMIN, _CAP_SYS_ADMIN))


def in_initial_user_namespace() -> bool:
    """Whether this process is in the user namespace of the machine itself."""
    return Path("/proc/self/uid_map").read_text().split() == ["0", "0", "4294967295"]


def last_mapped_group() -> int:
    """The highest group id up to which all exist, from 0, in this process's user namespace."""
    return last_group_of(Path("/proc/self/gid_map").read_text())


def last_group_of(gid_map: str) -> int:
    """The same of the content of a gid_map (user_namespaces(7))."""
    end = 0
    for line in sorted(gid_map.splitlines(), key=lambda line: int(line.split()[0])):
        inside, _, count = map(int, line.split())
        if inside > end:
            break
        end = max(end, inside + count)
    return min(max(end - 1, 0), 2147483647)  # the kernel's own limit for ping_group_range


def enter_user_namespace() -> str:
    """Move this process (one thread) into a new user namespace as its root. Returns a warning, or "".

    Raises LabError when the system forbids it: what to switch on, or sudo.
    """
    uid, gid = os.geteuid(), os.getegid()
    ranges = (subordinate_range("/etc/subuid", uid), subordinate_range("/etc/subgid", uid))
    tools = (shutil.which("newuidmap"), shutil.which("newgidmap"))
    child, go = _start_mapper(uid, gid, ranges, tools) if all(ranges) and all(tools) else (0, -1)
    try:
        unshare(CLONE_NEWUSER)
    except OSError as error:
        raise LabError(f"user namespaces may not be made here ({error.strerror}); {fix()}") from error
    finally:
        if child:
            os.write(go, b".")
            os.close(go)
    mapped = bool(child) and os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    warning = ""
    try:
        if not mapped:
            warning = _why_single(ranges, tools)
            _map_only("uid", uid)
            _map_only("gid", gid)
        else:
            os.setgroups([])
        # Ubuntu lets anyone make a user namespace, and then gives no rights in it: try the first one needed.
        unshare(CLONE_NEWNS | CLONE_NEWNET)
    except OSError as error:
        if is_scarce(error):
            raise explain(error) from error
        raise LabError(f"user namespaces have no rights here ({error.strerror}); {fix()}") from error
    return warning


def _start_mapper(
    uid: int, gid: int, ranges: tuple[_Range | None, ...], tools: tuple[str | None, ...]
) -> tuple[int, int]:
    """Start a child that stays outside and maps the ids of this process once it is told that the namespace is there.

    Returns its pid, and a descriptor to tell it through. It exits with 0 when all went well.
    """
    reader, writer = os.pipe()
    target = str(os.getpid())
    child = os.fork()
    if child:
        os.close(reader)
        return child, writer
    status = 1
    try:
        os.close(writer)
        os.read(reader, 1)
        status = 0
        for tool, own, part in zip(tools, (uid, gid), ranges, strict=True):
            assert tool is not None
            assert part is not None
            command = [tool, target, "0", str(own), "1", "1", str(part[0]), str(part[1])]
            status = status or subprocess.run(command, check=False, stdin=subprocess.DEVNULL).returncode
    finally:
        os._exit(min(abs(status), 255))


def _map_only(kind: str, own: int) -> None:
    """Map id 0 to our own and nothing else, unless newuidmap or newgidmap got as far as writing this map."""
    path = Path(f"/proc/self/{kind}_map")
    if not path.read_text().strip():
        if kind == "gid":
            Path("/proc/self/setgroups").write_text("deny")  # the kernel's condition
        path.write_text(f"0 {own} 1")


_Range = tuple[int, int]


def subordinate_range(file: str, uid: int) -> _Range | None:
    """The first range of ids given to this user (both files go by user): (first, count)."""
    names = {str(uid)}
    with contextlib.suppress(KeyError):
        names.add(pwd.getpwuid(uid).pw_name)
    with contextlib.suppress(OSError):
        for line in Path(file).read_text().splitlines():
            words = line.split(":")
            if len(words) == 3 and words[0] in names and words[1].isdecimal() and words[2].isdecimal():
                return int(words[1]), min(int(words[2]), 65536)
    return None


def _why_single(ranges: tuple[_Range | None, ...], tools: tuple[str | None, ...]) -> str:
    if not all(ranges):
        reason = "this user has no range in /etc/subuid and /etc/subgid"
    elif not all(tools):
        reason = "newuidmap and newgidmap are not installed (Debian package uidmap)"
    else:
        reason = "newuidmap failed"
    return f"only uid 0 exists in the nodes, because {reason}: programs that change their user will fail there"


def fix(switches: Path = Path("/proc/sys")) -> str:
    """What to do about user namespaces that may not be made; the settings are below `switches`."""
    for switch, forbids, allows in _SWITCHES:
        path = switches.joinpath(*switch.split(".", 1))
        if path.exists() and path.read_text().strip() == forbids:
            return f"run: sudo sysctl -w {switch}={allows} (or run vpclab with sudo)"
    if os.path.exists("/.dockerenv") or os.path.exists("/run/.containerenv"):
        return "start the container with --privileged (or --cap-add SYS_ADMIN --cap-add NET_ADMIN)"
    return "run vpclab with sudo"


def explain(error: OSError) -> LabError:
    """What to do about a namespace that even root may not make."""
    if is_scarce(error):
        return LabError(f"the lab cannot be made: {said(error)}")
    return LabError(f"namespaces may not be made here ({error.strerror}); {fix()}")
