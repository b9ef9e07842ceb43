"""The small program that enters a node for another process: run by `lab.enter`, in a fresh interpreter.

Arguments: JSON ``{"namespaces": [...], "report": 5, "folder": "/..."}`` and a command, or JSON with
``"sockets": [[NETWORK NAMESPACE, [[family, type, protocol], ...]], ...]`` and no command: a socket in each, of the
first kind that can be made; ``"namespaces"`` is then what must be joined before any of them. `report` is an inherited
descriptor: a pipe on which a failure to start is told (``errno file``) and which ends when the command has started,
or a unix socket (SOCK_SEQPACKET) through which the new sockets come back, each or why not in a message of its own.
Without a report, failures go to standard error; without a folder, the command runs where we are; ``"environment"``,
if given, goes over ours.

Imports as little as it can: it is started for every command that runs in a node.
"""

from __future__ import annotations

import json
import os
import signal
import sys
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NoReturn

from lab import capabilities
from lab.syscalls import die_with_parent, setns

EXIT_NOT_STARTED = 127
_SI_KERNEL = 0x80
_RELAYED = {
    getattr(signal, name)
    for name in (
        *("SIGHUP", "SIGINT", "SIGQUIT", "SIGTERM", "SIGUSR1", "SIGUSR2"),
        *("SIGALRM", "SIGWINCH", "SIGTSTP", "SIGCONT"),
    )
}
_BLOCKED = _RELAYED | {signal.SIGCHLD}


def without_proxies(environment: Mapping[str, str]) -> dict[str, str]:
    """Of an environment, what makes sense in a node: the proxies of the network outside are not reachable there."""
    return {name: value for name, value in environment.items() if not name.lower().endswith("_proxy")}


def open_all(namespaces: Sequence[str]) -> list[int]:
    """Open namespaces, given as files: before any is joined, as the paths may mean something else afterwards."""
    return [os.open(path, os.O_RDONLY | os.O_CLOEXEC) for path in namespaces]


def join(descriptors: Sequence[int]) -> None:
    """Join namespaces in this order. Raises OSError whose filename is "setns"."""
    for descriptor in descriptors:
        setns(descriptor)
        os.close(descriptor)


def start(namespaces: Sequence[str], command: Sequence[str], folder: str) -> int:
    """Run a command in a child inside these namespaces; its pid, once it has started. Raises OSError.

    This process itself joins the user and the PID namespace only: it has to, for the child to be in the latter.
    The signals that `wait` relays are blocked from here on.
    """
    descriptors = open_all(namespaces)
    ours = 1 + next(number for number, path in enumerate(namespaces) if path.endswith("/ns/pid"))
    before = signal.pthread_sigmask(signal.SIG_BLOCK, _BLOCKED)
    reader, writer = os.pipe2(os.O_CLOEXEC)
    alive_reader, alive_writer = os.pipe2(os.O_CLOEXEC)
    join(descriptors[:ours])
    pid = os.fork()
    if pid == 0:
        os.close(alive_writer)
        _become(command, folder, before, namespaces=descriptors[ours:], alive=alive_reader, report=writer)
    os.close(writer)
    os.close(alive_reader)  # the writer stays open: it ends when we do
    for descriptor in descriptors[ours:]:
        os.close(descriptor)
    with os.fdopen(reader, "rb") as report:
        failure = report.read()
    if failure:
        os.waitpid(pid, 0)
        raise as_error(failure)
    return pid


def _become(
    command: Sequence[str],
    folder: str,
    mask: Iterable[int],
    *,
    namespaces: Sequence[int],
    alive: int,
    report: int,
) -> NoReturn:
    try:
        die_with_parent(signal.SIGKILL)
        os.set_blocking(alive, False)
        try:
            if not os.read(alive, 1):
                os._exit(EXIT_NOT_STARTED)  # the parent died before we asked to die with it
        except BlockingIOError:
            pass
        join(namespaces)
        capabilities.limit()
        for path in (folder, "/"):
            try:
                os.chdir(path)  # the node sees the same files, but a folder may have gone
                break
            except OSError:
                continue
        for number in (signal.SIGINT, signal.SIGPIPE, signal.SIGXFSZ):
            signal.signal(number, signal.SIG_DFL)  # as Python found them
        signal.pthread_sigmask(signal.SIG_SETMASK, mask)
        try:
            os.execvp(command[0], list(command))
        except OSError as error:  # it names the last folder of PATH that was tried
            raise OSError(error.errno, error.strerror, command[0]) from error
    except OSError as error:
        os.write(report, f"{error.errno or 5} {error.filename or ''}".encode())
    finally:
        os._exit(EXIT_NOT_STARTED)


def wait(pid: int) -> int:
    """Wait for a child, passing signals and stops on; its wait status.

    Ctrl-C and the like reach the child directly, as it is in our process group: only what another process sent to
    us alone is passed on.
    """
    while True:
        found = signal.sigwaitinfo(_BLOCKED)
        if found.si_signo != signal.SIGCHLD:
            if found.si_signo in _RELAYED and found.si_code != _SI_KERNEL:
                os.kill(pid, found.si_signo)
            continue
        ended, status = os.waitpid(pid, os.WNOHANG | os.WUNTRACED)
        if ended and os.WIFSTOPPED(status):
            os.kill(os.getpid(), signal.SIGSTOP)  # the shell must see us stopped; it continues the whole group
            os.kill(pid, signal.SIGCONT)
        elif ended:
            return status


def as_error(failure: bytes) -> OSError:
    """What a failure report says."""
    number, _, name = failure.decode(errors="replace").partition(" ")
    if not number.isdecimal():
        return OSError(5, "the node cannot be entered")
    return OSError(int(number), os.strerror(int(number)), name or None)


def end_like(status: int) -> NoReturn:
    """End this process as the one with this wait status ended."""
    code = os.waitstatus_to_exitcode(status)
    if code >= 0:
        os._exit(code)
    if code not in (-signal.SIGKILL, -signal.SIGSTOP):
        signal.signal(-code, signal.SIG_DFL)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, {-code})
    os.kill(os.getpid(), -code)
    os._exit(128 - code)


def main() -> None:
    """Do what the arguments say."""
    spec = json.loads(sys.argv[1])
    report: int | None = spec["report"]
    if report is not None:
        os.set_inheritable(report, False)
    os.environ.update(spec.get("environment", {}))
    try:
        if "sockets" in spec and report is not None:
            _hand_sockets_back(spec["namespaces"], spec["sockets"], report)
            return
        pid = start(spec["namespaces"], sys.argv[2:], spec["folder"] or os.getcwd())
    except OSError as error:
        if report is None:
            sys.stderr.write(f"vpclab: {error.filename or 'node'}: {error.strerror}\n")
        else:
            os.write(report, f"{error.errno or 5} {error.filename or ''}".encode())
        os._exit(EXIT_NOT_STARTED)
    if report is not None:
        os.close(report)
    end_like(wait(pid))


def _hand_sockets_back(first: Sequence[str], wanted: Sequence[tuple[str, list[Sequence[int]]]], report: int) -> None:
    import socket

    networks = open_all([network for network, _ in wanted])
    join(open_all(first))
    with socket.socket(fileno=report) as channel:
        for network, (_, kinds) in zip(networks, wanted, strict=True):
            join([network])
            try:
                with _first_of(kinds) as made:
                    socket.send_fds(channel, [b"0"], [made.fileno()])
            except OSError as error:
                channel.send(f"{error.errno or 5} ".encode())


def _first_of(kinds: Sequence[Sequence[int]]) -> Any:
    import socket

    for kind in kinds[:-1]:
        try:
            return socket.socket(*kind)
        except OSError:
            continue
    return socket.socket(*kinds[-1])
