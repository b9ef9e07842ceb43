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


def read_markers(namespaces: Mapping[str, Sequence[str]]) -> dict[str, Marker]:
    """Mark of each network namespace that has one. A namespace is a list of files to join: network, or user, network.

    Those that are gone, or may not be entered, have none.
    """
    if not namespaces:
        return {}
    done = subprocess.run(
        command("marker"),
        input=json.dumps({key: list(paths) for key, paths in namespaces.items()}),
        stdout=subprocess.PIPE,
        text=True,
        check=True,
        timeout=_TIME_LIMIT_S,
    )
    found = {key: parse_alias(alias) for key, alias in json.loads(done.stdout).items()}
    return {key: marker for key, marker in found.items() if marker is not None}


def main() -> None:
    """Standard input: JSON object of lists of files. Standard output: JSON object of aliases."""
    aliases = {}
    for key, paths in json.load(sys.stdin).items():
        reader, writer = os.pipe2(os.O_CLOEXEC)
        pid = os.fork()
        if pid == 0:
            try:
                descriptors = [os.open(path, os.O_RDONLY | os.O_CLOEXEC) for path in paths]
                for descriptor in descriptors:
                    setns(descriptor)
                with Netlink() as rtnl:
                    os.write(writer, rtnl.alias(_LOOPBACK).encode())
            except OSError:
                pass  # gone, or not ours
            finally:
                os._exit(0)
        os.close(writer)
        with os.fdopen(reader, "rb") as pipe:
            aliases[key] = pipe.read().decode(errors="replace")
        os.waitpid(pid, 0)
    json.dump(aliases, sys.stdout)
