"""Ours on the wire: a lab, started as users start one, as root or as an ordinary user.

Two ways through it, with an MTU of 1500 like the peers':

    NAT      instance -> security groups of 200 rules, tracked -> NAT gateway -> internet gateway -> host
    routed   instance -> security groups, ACLs, routes -> instance of another subnet, its security groups

The lab is held by a process of its own, this file run as a script, so that it can belong to another user. The
programs that make traffic join its namespaces from outside, as they do with every peer.
"""

from __future__ import annotations

import contextlib
import json
import os
import pwd
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
if __name__ == "__main__":
    sys.path[:0] = [str(ROOT), str(ROOT / "public")]

from bench.areas.wire_peers import CLIENT, MTU, RULES, SERVER, TRANSLATED, CannotRun, Way, run  # noqa: E402

ROUTED_SERVER = "10.0.2.10"
_GROUPS = 4
_ANY: dict[str, Any] = {"protocol": "all", "destination": "0.0.0.0/0"}
_COVER = r"""
set -e
hold=$1; shift; cover=$1; shift; count=$1; shift
number=0
for path in "${@:1:count}"; do mkdir "$hold/$number"; mount --bind "$path" "$hold/$number"; number=$((number + 1)); done
mount -t tmpfs -o mode=755 bench "$cover"
number=0
for path in "${@:1:count}"; do mkdir -p "$path"; mount --bind "$hold/$number" "$path"; umount "$hold/$number"
    number=$((number + 1)); done
shift "$count"
exec "$@"
"""


def lab_file(ports: int, *, nat: bool) -> dict[str, Any]:
    """A VPC with an instance that sends, and `ports` - 2 more that are only there."""
    each = RULES // _GROUPS
    groups: dict[str, Any] = {
        f"g{n}": {
            "description": "rules that new connections pass",
            "egress": [
                {
                    "protocol": "tcp",
                    "ports": 10000 + n * each + k,
                    "destination": f"192.0.2.{(n * each + k) % 250 + 1}/32",
                }
                for k in range(each)
            ],
        }
        for n in range(_GROUPS)
    }
    groups[f"g{_GROUPS - 1}"]["egress"][-1] = _ANY
    groups["open"] = {"description": "all", "ingress": [{"protocol": "all", "source": "0.0.0.0/0"}]}
    subnets: dict[str, Any] = {
        "one": {"cidr": "10.0.1.0/24", "availability_zone": "a", "route_table": "one"},
        "two": {"cidr": "10.0.2.0/24", "availability_zone": "b", "route_table": "public"},
        "idle": {"cidr": "10.0.16.0/20", "availability_zone": "a"},
    }
    instances: dict[str, Any] = {"client": {"vpc": "v", "subnet": "one", "private_ip": CLIENT}}
    internet: dict[str, Any] = {}
    if nat:
        instances["client"]["security_groups"] = [f"g{n}" for n in range(_GROUPS)]
        internet = {"hosts": {"server": {"address": SERVER}}}
    else:
        instances["server"] = {
            "vpc": "v",
            "subnet": "two",
            "private_ip": ROUTED_SERVER,
            "security_groups": ["open"],
        }
    instances |= {f"idle{n}": {"vpc": "v", "subnet": "idle"} for n in range(ports - 2)}
    return {
        "version": 1,
        "name": "bench-wire",
        "vpcs": {
            "v": {
                "cidr": "10.0.0.0/16",
                "internet_gateway": {},
                "subnets": subnets,
                "security_groups": groups,
                "nat_gateways": {"nat": {"subnet": "two", "elastic_ip": TRANSLATED}},
                "route_tables": {
                    "one": {"routes": [{"destination": "0.0.0.0/0", "target": "nat-gateway:nat"}]},
                    "public": {"routes": [{"destination": "0.0.0.0/0", "target": "internet-gateway"}]},
                },
            }
        },
        "instances": instances,
        "internet": internet,
    }


# -- here -----------------------------------------------------------------------------------------------------------


@contextmanager
def lab(ports: int, *, nat: bool, rootless: bool) -> Iterator[Way]:
    """A lab with so many ports, up."""
    with tempfile.TemporaryDirectory(prefix="bench-lab-") as folder, _holder(folder, rootless) as child:
        assert child.stdin is not None
        assert child.stdout is not None
        with contextlib.suppress(BrokenPipeError):
            child.stdin.write(json.dumps(lab_file(ports, nat=nat)) + "\n")
            child.stdin.flush()
        said = child.stdout.readline()
        if not said:
            raise CannotRun(f"the lab did not start: {Path(folder, 'errors').read_text()[-2000:].strip()}")
        places = json.loads(said)
        assert places["rootless"] == rootless
        for place in (places["client"], places["server"]):
            run("nsenter", f"--net={place}", "ip", "link", "set", "eth0", "mtu", str(MTU))
        yield Way(
            client=places["client"],
            server=places["server"],
            address=SERVER if nat else ROUTED_SERVER,
            seen_as=TRANSLATED if nat else CLIENT,
        )


@contextmanager
def _holder(folder: str, rootless: bool) -> Iterator[subprocess.Popen[str]]:
    """This file as a process that holds a lab as long as its standard input is open."""
    command = [sys.executable, "-P", "-B", __file__]
    env = {**os.environ, "XDG_STATE_HOME": folder, "PYTHONPATH": f"{ROOT}:{ROOT / 'public'}"}
    if rootless:
        command, env = _as_user(command, env, folder)
    with open(f"{folder}/errors", "wb") as errors:
        child = subprocess.Popen(
            command, env=env, cwd="/", stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=errors, text=True
        )
    try:
        yield child
    finally:
        with contextlib.suppress(BrokenPipeError):
            child.communicate(timeout=60)
    if child.returncode:
        raise CannotRun(f"the lab did not end well: {Path(folder, 'errors').read_text()[-2000:].strip()}")


def _as_user(command: list[str], env: dict[str, str], folder: str) -> tuple[list[str], dict[str, str]]:
    """The same as an ordinary user: $VPCLAB_USER, who called sudo, or nobody."""
    user = pwd.getpwnam(os.environ.get("VPCLAB_USER") or os.environ.get("SUDO_USER") or "nobody")
    if user.pw_uid == 0:
        user = pwd.getpwnam("nobody")
    os.chmod(folder, 0o755)
    for name in ("state", "home", "run"):
        os.makedirs(f"{folder}/{name}")
        os.chown(f"{folder}/{name}", user.pw_uid, user.pw_gid)
    env = {name: value for name, value in env.items() if not name.startswith("SUDO_")}
    env |= {"XDG_STATE_HOME": f"{folder}/state", "XDG_RUNTIME_DIR": f"{folder}/run", "HOME": f"{folder}/home"}
    env |= {"USER": user.pw_name, "LOGNAME": user.pw_name, "PATH": "/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"}
    become = ["setpriv", f"--reuid={user.pw_uid}", f"--regid={user.pw_gid}", "--init-groups", "--"]
    return [*_seen_by(user.pw_uid, folder), *become, *command], env


def _seen_by(uid: int, folder: str) -> list[str]:
    """Prefix that lets this user read the interpreter and this tree, where they are below a folder of root's own.

    In a mount namespace of its own, that folder is covered by one which holds nothing but those.
    """
    needed = [Path(os.path.realpath(path)) for path in (sys.base_prefix, sys.prefix, str(ROOT))]
    hidden = {top: path for path in needed for top in [_closed(path, uid)] if top is not None}
    if not hidden:
        return []
    if len(hidden) > 1:
        raise CannotRun(f"an ordinary user cannot read {' and '.join(map(str, hidden))}")
    (top,) = hidden
    inside = [str(path) for path in needed if path.is_relative_to(top)]
    outermost = [path for path in inside if not any(path != other and path.startswith(f"{other}/") for other in inside)]
    hold = f"{folder}/hold"
    os.makedirs(hold)
    paths = list(dict.fromkeys(outermost))
    return ["unshare", "--mount", "bash", "-c", _COVER, "cover", hold, str(top), str(len(paths)), *paths]


def _closed(path: Path, uid: int) -> Path | None:
    """The first folder on the way that this user may not pass; None when there is none."""
    for folder in [*reversed(path.parents), path]:
        facts = folder.stat()
        if not (facts.st_mode & 0o001 or (facts.st_uid == uid and facts.st_mode & 0o100)):
            return folder
    return None


# -- there ----------------------------------------------------------------------------------------------------------


def main() -> int:
    """Hold a lab: its file on standard input, its namespaces on standard output, the end at the end of the input."""
    from lab.rootless import is_privileged
    from vpclab import Lab
    from vpclab.node import view_of

    held = Lab.from_dict(json.loads(sys.stdin.readline()))
    with held:
        places = {name: view_of(held.ask("node", name=name)).network[-1] for name in ("client", "server")}
        print(json.dumps({**places, "rootless": not is_privileged()}), flush=True)
        sys.stdin.read()
    return 0


if __name__ == "__main__":
    sys.exit(main())
