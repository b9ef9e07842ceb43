"""Reading the mark of network namespaces (`lab.identity`), from outside.

That takes entering them, which only a process with one thread may do when they are in another user namespace. So a
fresh interpreter does it: `read_markers` starts it, `main` is what it runs.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Mapping, Sequence

from lab.identity import Marker, parse_alias
from lab.interpreter import command
from lab.netlink import Netlink
from lab.syscalls import setns

_LOOPBACK = 1
_TIME_LIMIT_S = 30.0
_TRIES = 10


def read_markers(namespaces: Mapping[str, Sequence[str]]) -> dict[str, Marker]:
    """Mark of each network namespace that has one. A namespace is a list of files to join: network, or user, network.

    Those that are gone, or may not be entered, have none.
    """
    if not namespaces:
        return {}
    asked = json.dumps({key: list(paths) for key, paths in namespaces.items()})
    for _ in range(_TRIES):
        done = subprocess.run(
            command("marker"), input=asked, stdout=subprocess.PIPE, text=True, check=False, timeout=_TIME_LIMIT_S
        )
        # Somebody else who removes a dead lab kills all that is in its namespaces, and there the reader just was.
        if done.returncode >= 0:
            break
    done.check_returncode()
    found = {key: parse_alias(alias) for key, alias in json.loads(done.stdout).items()}
    return {key: marker for key, marker in found.items() if marker is not None}


def main() -> None:
    """Standard input: JSON object of lists of files. Standard output: JSON object of aliases."""
    aliases = {}
    for key, paths in json.load(sys.stdin).items():
        aliases[key] = _in_child(paths) if len(paths) > 1 else _alias(paths)
    json.dump(aliases, sys.stdout)


def _alias(paths: Sequence[str]) -> str:
    """Join, and read the alias; empty when a namespace is gone or not ours."""
    try:
        descriptors = [os.open(path, os.O_RDONLY | os.O_CLOEXEC) for path in paths]
        for descriptor in descriptors:
            setns(descriptor)
            os.close(descriptor)
        with Netlink() as rtnl:
            return rtnl.alias(_LOOPBACK)
    except OSError:
        return ""


def _in_child(paths: Sequence[str]) -> str:
    """The same in a child: there is no way back out of a user namespace."""
    reader, writer = os.pipe2(os.O_CLOEXEC)
    pid = os.fork()
    if pid == 0:
        try:
            os.write(writer, _alias(paths).encode())
        finally:
            os._exit(0)
    os.close(writer)
    with os.fdopen(reader, "rb") as pipe:
        alias = pipe.read().decode(errors="replace")
    os.waitpid(pid, 0)
    return alias
