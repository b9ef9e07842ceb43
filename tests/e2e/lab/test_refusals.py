"""When the system forbids something, one line says what, and what to do about it; nothing is left behind.

Each obstacle is made for a child alone, in namespaces of its own.
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from tests.e2e.lab.stage import DEADLINE_S, need

pytestmark = pytest.mark.e2e

ROOT = str(Path(__file__).resolve().parents[3])
TRY = """
import sys
sys.path.insert(0, sys.argv[1])
from dataplane.errors import LabError
from lab.runtime import Runtime
from lab.state import LabState
from tests.e2e.lab.stage import plan
state = LabState("refused")
state.acquire()
try:
    with Runtime(state) as runtime:
        runtime.add_nodes([plan()])
        print("nothing was refused")
except LabError as error:
    print(error)
state.remove()
"""
ORDINARY_USER = "unshare --map-user=1000 --map-group=1000"
ROOT_WITHOUT_RIGHTS = "setpriv --bounding-set -all --inh-caps -all"


def attempt(obstacle: str, *, become: str = "") -> str:
    """What starting a lab says after these shell commands, run as root of new user and mount namespaces."""
    need("setpriv")
    script = f'{obstacle}; exec {become} "$@"'
    done = subprocess.run(
        [need("unshare"), "-rm", "sh", "-ec", script, "sh", sys.executable, "-c", TRY, ROOT],
        capture_output=True,
        text=True,
        timeout=3 * DEADLINE_S,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("\n") == 1, done.stdout
    return done.stdout.rstrip("\n")


@pytest.fixture(autouse=True)
def _own_state(state_home: Path) -> None:
    pass


@pytest.mark.parametrize("become", ["", ORDINARY_USER])
def test_without_an_obstacle_it_starts(become: str) -> None:
    assert attempt(":", become=become) == "nothing was refused"


def test_no_tun_device() -> None:
    assert attempt("mount -t tmpfs none /dev/net") == (
        "/dev/net/tun cannot be opened (No such file or directory); "
        "run: modprobe tun (in a container: start it with --device /dev/net/tun)"
    )


@pytest.mark.rootless
def test_a_tun_device_for_root_alone() -> None:
    """Root of a user namespace has no power over a file that belongs to the machine's root."""
    assert attempt("mount --bind /etc/shadow /dev/net/tun", become=ORDINARY_USER) == (
        "/dev/net/tun cannot be opened (Permission denied); run: sudo chmod 666 /dev/net/tun"
    )


def test_no_user_namespaces() -> None:
    assert attempt("echo 0 > /proc/sys/user/max_user_namespaces", become=ROOT_WITHOUT_RIGHTS) == (
        "user namespaces may not be made here (No space left on device); "
        "run: sudo sysctl -w user.max_user_namespaces=15000 (or run vpclab with sudo)"
    )


def test_no_network_namespaces() -> None:
    assert attempt("echo 0 > /proc/sys/user/max_net_namespaces") == (
        "the lab cannot be made: network namespace: No space left on device; "
        "take other labs down, or run: sudo sysctl -w user.max_net_namespaces=15000"
    )


def test_a_masked_proc_as_in_containers() -> None:
    assert attempt("mount --bind /dev/null /proc/version", become=ORDINARY_USER) == (
        "/proc may not be mounted here because parts of it are masked; start the container with --security-opt "
        "systempaths=unconfined (podman: --security-opt unmask=ALL), or run vpclab as root"
    )


def test_no_resolv_conf_to_mount_over() -> None:
    prepare = "cp /etc/passwd /tmp/vpclab-passwd.$$; mount -t tmpfs none /etc; mv /tmp/vpclab-passwd.$$ /etc/passwd"
    assert attempt(f"{prepare}; touch /etc/hosts") == (
        "/etc/resolv.conf does not exist, so nodes cannot have their own; run as root: touch /etc/resolv.conf"
    )


@pytest.mark.parametrize("descriptors", [12, 14, 16])
def test_too_few_open_files(descriptors: int) -> None:
    """Asked for on the way, where it cannot be said in advance: the kernel's own words, and what to do."""
    said = attempt(f"ulimit -n {descriptors}")
    assert "Too many open files; a process may have" in said
