"""What this machine lacks before vpclab can be built, run or tested, and the line that mends it.

Standard library only, and run as a script: `make` calls it before there is a virtual environment, with whatever
interpreter it found.

    python3 -P lab/preflight.py build      venv module, C compiler, Python headers
    python3 -P lab/preflight.py lab        ping, /dev/net/tun, permission to make namespaces
    python3 -P lab/preflight.py test       programs that end-to-end tests run
    python3 -P lab/preflight.py packages   Debian packages that have all of it, for `apt-get install`

Exit status 0, or 3 after one line per obstacle on standard error. `test` only tells (tests skip, and say why).
"""

from __future__ import annotations

import ctypes
import fcntl
import importlib.util
import itertools
import os
import shutil
import struct
import subprocess
import sys
import sysconfig
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

TUN = Path("/dev/net/tun")
SWITCHES = Path("/proc/sys")

BUILD_PACKAGES = ("gcc", "libc6-dev", "make", "python3-dev", "python3-venv")
PCAP_PACKAGE = "libpcap0.8"
"""Debian package of the library that compiles the filters of captures (libpcap0.8t64 replaces it in newer releases)."""

LAB_PROGRAMS = {"curl": "curl", "ping": "iputils-ping"}
"""Program -> Debian package: what the quickstart is looked at with. Only ping is needed for `make lab`."""

TEST_PROGRAMS = {
    **LAB_PROGRAMS,
    "dot": "graphviz",
    "ethtool": "ethtool",
    "ip": "iproute2",
    "iperf3": "iperf3",
    "newuidmap": "uidmap",
    "nft": "nftables",
    "nmap": "nmap",
    "ps": "procps",
    "tcpdump": "tcpdump",
    "tracepath": "iputils-tracepath",
    "traceroute": "traceroute",
    "tshark": "tshark",
    "unshare": "util-linux",
}
"""Program -> Debian package, for everything that tests run besides vpclab itself."""

BENCH_PROGRAMS = {"strace": "strace", "valgrind": "valgrind"}
"""Program -> Debian package: what `make bench-smoke` counts with."""

_CLONE_NEWNS, _CLONE_NEWUTS, _CLONE_NEWUSER, _CLONE_NEWNET = 0x00020000, 0x04000000, 0x10000000, 0x40000000
_TUNSETIFF, _IFF_TAP, _IFF_NO_PI = 0x400454CA, 0x0002, 0x1000


class Obstacle(NamedTuple):
    """Something that is missing."""

    what: str
    fix: str
    """A command, or the one thing to change."""

    def __str__(self) -> str:
        return f"{self.what}; {self.fix}"


def apt_line(*packages: str) -> str:
    """The command that installs these Debian packages, with sudo for those who need it."""
    sudo = "" if os.geteuid() == 0 else "sudo "
    return f"{sudo}apt-get install -y {' '.join(sorted(set(packages)))}"


def check_build() -> Iterator[Obstacle]:
    """What stands in the way of building the extensions in a virtual environment: one line, one command."""
    version = f"{sys.version_info.major}.{sys.version_info.minor}"
    from_debian = os.path.realpath(sys.executable) == os.path.realpath("/usr/bin/python3")
    python = "python3" if from_debian else f"python{version}"
    missing: dict[str, tuple[str, ...]] = {}
    if importlib.util.find_spec("venv") is None or importlib.util.find_spec("ensurepip") is None:
        missing[f"{sys.executable} has no venv module"] = (f"{python}-venv",)
    compiler = (os.environ.get("CC") or "cc").split()[0]
    if shutil.which(compiler) is None:
        missing[f"no C compiler ({compiler})"] = ("gcc", "libc6-dev")
    if not Path(sysconfig.get_path("include"), "Python.h").exists():
        missing[f"no Python.h for {sys.executable}"] = (f"{python}-dev",)
    if missing:
        yield Obstacle(", ".join(missing), f"run: {apt_line(*itertools.chain(*missing.values()))}")


def check_lab() -> Iterator[Obstacle]:
    """What stands in the way of running a lab with the rights of this process."""
    if shutil.which("ping") is None:
        yield Obstacle("ping is not installed", f"run: {apt_line(LAB_PROGRAMS['ping'])}")
    tun = _check_tun()
    if tun:
        yield tun
    failure = _try_namespace(with_tun=tun is None)
    if failure:
        yield Obstacle(f"user {os.geteuid()} may not make network namespaces here ({failure})", _namespace_fix())


def check_test() -> Iterator[Obstacle]:
    """Which programs of the end-to-end tests are missing, in one line."""
    search = os.pathsep.join([os.environ.get("PATH", os.defpath), "/usr/sbin", "/sbin"])
    missing = {name: package for name, package in TEST_PROGRAMS.items() if shutil.which(name, path=search) is None}
    if missing:
        yield Obstacle(
            f"end-to-end tests that need {', '.join(missing)} will be skipped", f"run: {apt_line(*missing.values())}"
        )


def packages() -> list[str]:
    """Debian packages that building, testing and counting need."""
    return sorted({*BUILD_PACKAGES, *TEST_PROGRAMS.values(), *BENCH_PROGRAMS.values(), PCAP_PACKAGE})


def _check_tun() -> Obstacle | None:
    try:
        os.close(os.open(TUN, os.O_RDWR | os.O_CLOEXEC))
    except FileNotFoundError:
        make = f"mkdir -p {TUN.parent} && mknod -m 666 {TUN} c 10 200"
        if os.geteuid() == 0:
            return Obstacle(f"{TUN} does not exist", f"run: modprobe tun; [ -e {TUN} ] || {{ {make}; }}")
        return Obstacle(f"{TUN} does not exist", f"run: sudo modprobe tun (in a container: docker run --device {TUN})")
    except PermissionError:
        if os.geteuid() == 0:
            return Obstacle(f"{TUN} may not be opened here", f"start the container with --device {TUN}")
        return Obstacle(f"{TUN} may not be opened by user {os.geteuid()}", f"run: sudo chmod 666 {TUN}")
    except OSError as error:
        return Obstacle(f"{TUN} cannot be opened ({error.strerror})", "run: sudo modprobe tun")
    return None


def _try_namespace(*, with_tun: bool) -> str:
    """Make namespaces (and a TAP device in them) in a child; what failed, or "" when all went well."""
    command = [sys.executable, "-P", os.path.abspath(__file__), "_try", "tun" if with_tun else ""]
    child = subprocess.run(command, capture_output=True, text=True, timeout=30, check=False)
    if child.returncode == 0:
        return ""
    return child.stderr.strip().rpartition("\n")[2] or f"exit status {child.returncode}"


def _make_namespaces(*, with_tun: bool) -> None:
    """Move this process into new namespaces, as a lab does. Raises OSError naming the step that was refused."""
    libc = ctypes.CDLL(None, use_errno=True)
    uid, gid = os.geteuid(), os.getegid()

    def unshare(flags: int, name: str) -> None:
        if libc.unshare(flags) != 0:
            raise OSError(ctypes.get_errno(), f"{name} namespace: {os.strerror(ctypes.get_errno())}")

    if uid != 0:
        unshare(_CLONE_NEWUSER, "user")
        Path("/proc/self/setgroups").write_text("deny")
        Path("/proc/self/uid_map").write_text(f"0 {uid} 1")
        Path("/proc/self/gid_map").write_text(f"0 {gid} 1")
    unshare(_CLONE_NEWNET, "network")
    unshare(_CLONE_NEWNS, "mount")
    unshare(_CLONE_NEWUTS, "UTS")
    if with_tun:
        with open(TUN, "r+b", buffering=0) as device:
            fcntl.ioctl(device, _TUNSETIFF, struct.pack("16sH22x", b"preflight", _IFF_TAP | _IFF_NO_PI))


def _namespace_fix() -> str:
    """The switch of this system that forbids namespaces."""
    if os.geteuid() == 0:
        return "start the container with --privileged (or --cap-add SYS_ADMIN --cap-add NET_ADMIN)"
    for switch, forbids, allows in (
        ("kernel.apparmor_restrict_unprivileged_userns", "1", "0"),  # Ubuntu 23.10 and later
        ("kernel.unprivileged_userns_clone", "0", "1"),  # Debian's own switch
        ("user.max_user_namespaces", "0", "15000"),
    ):
        path = SWITCHES.joinpath(*switch.split(".", 1))
        if path.exists() and path.read_text().strip() == forbids:
            return f"run: sudo sysctl -w {switch}={allows} (or run vpclab with sudo)"
    return "run vpclab with sudo"


def main(arguments: list[str]) -> int:
    """Run the check named on the command line; the exit status."""
    match arguments:
        case ["packages"]:
            print(*packages())
            return 0
        case ["_try", tun]:
            try:
                _make_namespaces(with_tun=bool(tun))
            except OSError as error:
                sys.exit(f"{error.strerror or error}")
            return 0
        case ["build"]:
            obstacles = list(check_build())
        case ["lab"]:
            obstacles = list(check_lab())
        case ["test"]:
            obstacles = list(check_test())
        case _:
            print(__doc__, file=sys.stderr)
            return 2
    for obstacle in obstacles:
        print(f"vpclab: {obstacle}", file=sys.stderr)
    return 3 if obstacles and arguments != ["test"] else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
