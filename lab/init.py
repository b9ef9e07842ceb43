"""Process 1 of a lab's PID namespace: it adopts and reaps orphans, and when it ends the kernel kills all the others."""

from __future__ import annotations

import os
import pickle
import signal
from collections.abc import Callable
from typing import NoReturn

from lab.syscalls import die_with_parent, set_process_name


def start_init(prepare: Callable[[], None]) -> int:
    """Fork process 1 of the PID namespace that this process's children go to; returns its pid as seen here.

    It ends when this process does, however that ends. `prepare` runs in it before this returns; what it raises is
    raised here.
    """
    ours, theirs = os.pipe2(os.O_CLOEXEC), os.pipe2(os.O_CLOEXEC)
    pid = os.fork()
    if pid == 0:
        _run(prepare, report=ours[1], go=theirs[0])
    os.close(ours[1])
    os.close(theirs[0])
    with os.fdopen(ours[0], "rb") as report:
        failure = report.read()
    if failure:
        os.close(theirs[1])
        os.waitpid(pid, 0)
        raise pickle.loads(failure)
    os.write(theirs[1], b".")
    os.close(theirs[1])
    return pid


def _run(prepare: Callable[[], None], *, report: int, go: int) -> NoReturn:
    try:
        set_process_name("vpclab-init")
        die_with_parent(signal.SIGKILL)
        signal.set_wakeup_fd(-1)
        # As process 1 it gets only signals it asks for: Python asks for SIGINT, and the spawner for SIGCHLD.
        for number in (signal.SIGINT, signal.SIGCHLD):
            signal.signal(number, signal.SIG_DFL)
        signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGCHLD})
        try:
            prepare()
        except Exception as error:
            os.write(report, pickle.dumps(error))
            os._exit(1)
        os.dup2(go, 0)
        os.closerange(3, os.sysconf("SC_OPEN_MAX"))  # the report ends here
        # A parent that died before we asked to die with it never says go.
        if not os.read(0, 1):
            os._exit(1)
        for stream in (0, 1, 2):
            os.dup2(os.open(os.devnull, os.O_RDWR), stream)
        os.closerange(3, 16)
        while True:
            _reap()
            signal.sigwait({signal.SIGCHLD})
    finally:
        os._exit(1)


def _reap() -> None:
    try:
        while os.waitpid(-1, os.WNOHANG)[0]:
            pass
    except ChildProcessError:
        pass
