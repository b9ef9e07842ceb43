"""Enter a node of a running lab from any process of the same user.

A node is entered by joining its namespaces in this order: the lab's user namespace (only when rootless), then PID,
IPC, mount, network, UTS. A process that joins a PID namespace stays where it is, only its children are inside, and the
``/proc`` of a node shows the lab's PID namespace only. So a command always runs in a *child*: the process that
entered waits for it, passes signals and stops on, and ends as it ended.
"""

from __future__ import annotations

import json
import os
import socket
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from dataplane.errors import LabError
from lab import identity, inside
from lab.channel import receive_descriptors
from lab.interpreter import command


@dataclass(frozen=True, slots=True, kw_only=True)
class NodeView:
    """How to enter one node; plain strings, so that it can be sent to other processes as JSON."""

    node: str
    lab_id: str
    namespaces: tuple[str, ...]
    """Files to join with setns, in this order; open all before joining the first."""
    network: tuple[str, ...]
    """The part of `namespaces` that is enough to open sockets inside: user (when rootless) and network."""
    environment: Mapping[str, str]
    """The node's own variables (lab id, node name, what the lab file says); go over the caller's environment."""
    netns: str | None
    """Name under /run/netns, as root."""
    spawner: int
    """Process id of the lab's spawner, which lives as long as the lab does."""


def make_view(facts: Mapping[str, Any], node: str, entry: Mapping[str, Any]) -> NodeView:
    """The view of a node, given what `lab.keeper` records of the spawner, and what that says of the node."""
    spawner, init = facts["pid"], facts["init"]
    user = (f"/proc/{spawner}/ns/user",) if facts["rootless"] else ()
    mount, network, uts = (f"/proc/{spawner}/fd/{entry[kind]}" for kind in ("mnt", "net", "uts"))
    return NodeView(
        node=node,
        lab_id=facts["lab_id"],
        namespaces=(*user, f"/proc/{init}/ns/pid", f"/proc/{init}/ns/ipc", mount, network, uts),
        network=(*user, network),
        environment={**entry["environment"], **identity.variables(facts["lab_id"], node)},
        netns=entry["netns"],
        spawner=spawner,
    )


def run_inside(view: NodeView, argv: Sequence[str], *, folder: str | None = None) -> int:
    """In *this* process (one thread only): join the namespaces, run the command in a child, wait; its exit status.

    For `vpclab exec`: the terminal, standard streams and process group are the caller's; signals sent to this
    process are passed on, Ctrl-C and Ctrl-Z of the terminal work as without us. Returns 128 + signal number when a
    signal ended the command, as shells do. This process can never leave the node again.

    Raises:
        LabError: the node is gone, or may not be entered.
        OSError: the command cannot be started (FileNotFoundError and so on).
    """
    for name in os.environ.keys() - inside.without_proxies(os.environ).keys():
        del os.environ[name]
    os.environ.update(view.environment)
    try:
        pid = inside.start(view.namespaces, argv, folder or os.getcwd())
    except OSError as error:
        raise _gone(view, error) from error
    code = os.waitstatus_to_exitcode(inside.wait(pid))
    return code if code >= 0 else 128 - code


def enter_command(view: NodeView) -> list[str]:
    """Prefix of a command line that runs the rest inside the node, started as a fresh small interpreter (~15 ms)."""
    spec = {"namespaces": view.namespaces, "folder": None, "report": None, "environment": dict(view.environment)}
    return command("inside", json.dumps(spec))


def popen(view: NodeView, argv: Sequence[str], **options: Any) -> subprocess.Popen[Any]:
    """Start a command inside; `options` as for `subprocess.Popen` (no ``shell``). Safe with threads.

    The process is the wrapper described above: its return code is the command's (minus the signal number when a
    signal ended it), signals sent to it reach the command, and SIGKILL to it kills the command.

    Raises:
        LabError: the node is gone, or may not be entered.
        OSError: the command cannot be started (FileNotFoundError and so on).
    """
    if options.get("shell"):
        raise ValueError('no shell=True here: run ["sh", "-c", "..."]')
    folder = os.path.abspath(options.pop("cwd", None) or os.getcwd())
    base = options.pop("env", None)
    options["env"] = {**(inside.without_proxies(os.environ) if base is None else base), **view.environment}
    reader, writer = os.pipe()
    try:
        options["pass_fds"] = (*options.get("pass_fds", ()), writer)
        spec = {"namespaces": view.namespaces, "folder": folder, "report": writer}
        child = subprocess.Popen(command("inside", json.dumps(spec), *argv), **options)
    except BaseException:
        os.close(reader)
        raise
    finally:
        os.close(writer)
    with os.fdopen(reader, "rb") as report:
        failure = report.read()
    if failure:
        child.communicate()
        raise _gone(view, inside.as_error(failure))
    return child


SocketKind = tuple[int, int, int]
"""Family, type and protocol."""


def open_socket(view: NodeView, family: int, kind: int, protocol: int = 0) -> socket.socket:
    """Make a socket inside the node and hand it to this process. Safe with threads. OSError as from `socket`."""
    [made] = open_sockets([(view, [(family, kind, protocol)])])
    if isinstance(made, OSError):
        raise made
    return made


def open_sockets(wanted: Sequence[tuple[NodeView, Sequence[SocketKind]]]) -> list[socket.socket | OSError]:
    """Make a socket in each of several nodes of one lab, of the first kind that can be made, or say why there is none.

    Much faster than one by one. Safe with threads.

    Raises:
        LabError: a node is gone, or may not be entered.
    """
    if not wanted:
        return []
    first = wanted[0][0].network[:-1]
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    made: list[socket.socket | OSError] = []
    with ours:
        with theirs:
            places = [[view.network[-1], [list(kind) for kind in kinds]] for view, kinds in wanted]
            spec = {"namespaces": first, "sockets": places, "report": theirs.fileno()}
            arguments = command("inside", json.dumps(spec))
            child = subprocess.Popen(arguments, pass_fds=(theirs.fileno(),), stdin=subprocess.DEVNULL)
        for view, _ in wanted:
            message, descriptors = receive_descriptors(ours, 4096)
            if descriptors:
                made.append(socket.socket(fileno=descriptors[0]))
                continue
            error = inside.as_error(message)
            if not message or error.filename:
                child.wait()
                for each in made:
                    if isinstance(each, socket.socket):
                        each.close()
                raise _gone(next((each for each, _ in wanted if error.filename in each.namespaces), view), error)
            made.append(error)
        child.wait()
    return made


def _gone(view: NodeView, error: OSError) -> Exception:
    """A failure to join is about the lab, one to start is about the command."""
    if error.filename in ("setns", *view.namespaces):
        return LabError(f"node {view.node} cannot be entered ({error.strerror}): has its lab ended?")
    return error
