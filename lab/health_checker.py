"""The health checker of one load balancer node: a program in the node's hidden namespace, with real connections.

    python -m lab.health_checker FOLDER NODE       (started as `lab.interpreter` does)

It connects to the daemon (the socket `SOCKET_NAME` in the lab's state folder), says who it is, gets its jobs as lines
of JSON, each line all of them, and answers with a line per check. It ends when the daemon hangs up, and knows nothing
that another one started in its place would not be told. One thread per target, because a check is mostly waiting.

A check of HTTP or HTTPS is over with the status line: what comes behind it, be it a reset, does not matter. There are
targets that answer without having read the question, and whose kernel therefore resets the connection. Certificates are
not looked at, and TLS is 1.2 at most, as with AWS:
https://docs.aws.amazon.com/elasticloadbalancing/latest/gateway/health-checks.html
"""

from __future__ import annotations

import contextlib
import json
import os
import socket
import ssl
import sys
import threading
import time
from typing import Any, NamedTuple

from lab.socket_path import reachable

SOCKET_NAME = "health.sock"
_LONGEST_STATUS_LINE = 8192
_STAGGER_S = 0.05
"""Between the first checks of two targets."""


class Finding(NamedTuple):
    """What a check found: the fields of `lab.health.Result`."""

    kind: str
    status: int = 0
    detail: str = ""


def check(protocol: str, address: str, port: int, path: str, timeout_s: float) -> Finding:
    """Check a target once."""
    deadline = time.monotonic() + timeout_s
    try:
        with socket.create_connection((address, port), timeout=timeout_s) as line:
            if protocol == "TCP":
                return Finding("open")
            return _ask(line, protocol, f"{address}:{port}", path, deadline)
    except TimeoutError:
        return Finding("timeout", detail=f"no answer from port {port} within {timeout_s:g} s")
    except OSError as error:
        return Finding("failed", detail=(error.strerror or str(error)).lower())


def _ask(line: socket.socket, protocol: str, host: str, path: str, deadline: float) -> Finding:
    if protocol == "HTTPS":
        line.settimeout(_left(deadline))
        line = _context().wrap_socket(line)
    question = f"GET {path} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\nUser-Agent: ELB-HealthChecker/2.0\r\n\r\n"
    with contextlib.suppress(BrokenPipeError, ConnectionResetError):  # the answer may be here all the same
        line.sendall(question.encode())
    answer = b""
    while b"\n" not in answer:
        line.settimeout(_left(deadline))
        piece = line.recv(4096)
        if not piece or len(answer) > _LONGEST_STATUS_LINE:
            return Finding("failed", detail="closed before a status line" if not piece else "no HTTP")
        answer += piece
    words = answer.split(b"\n", 1)[0].split()
    if len(words) < 2 or not words[0].startswith(b"HTTP/") or len(words[1]) != 3 or not words[1].isdigit():
        return Finding("failed", detail="what came is no HTTP status line")
    return Finding("status", status=int(words[1]))


def _left(deadline: float) -> float:
    left_s = deadline - time.monotonic()
    if left_s <= 0:
        raise TimeoutError
    return left_s


def _context() -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    context.maximum_version = ssl.TLSVersion.TLSv1_2
    return context


class Checker:
    """All jobs of one node, and the line to the daemon."""

    def __init__(self, line: socket.socket) -> None:
        self._line = line
        self._speaking = threading.Lock()
        self._stops: dict[str, threading.Event] = {}
        """By job, as JSON."""

    def take(self, jobs: list[dict[str, Any]]) -> None:
        """Do these jobs from now on; those that are the same just go on."""
        wanted = {json.dumps(job): job for job in jobs}
        for text in [text for text in self._stops if text not in wanted]:
            self._stops.pop(text).set()
        new = [text for text in wanted if text not in self._stops]
        for number, text in enumerate(new):
            stop = self._stops[text] = threading.Event()
            arguments = (wanted[text], stop, number * _STAGGER_S)
            threading.Thread(target=self._repeat, args=arguments, daemon=True).start()

    def _repeat(self, job: dict[str, Any], stop: threading.Event, delay_s: float) -> None:
        due = time.monotonic() + delay_s
        while not stop.wait(max(0.0, due - time.monotonic())):
            due = time.monotonic() + job["interval_s"]
            found = check(job["protocol"], job["address"], job["port"], job["path"], job["timeout_s"])
            if not stop.is_set():
                self.say({"target": job["target"], **found._asdict()})

    def say(self, message: dict[str, Any]) -> None:
        """Send one line; when nobody listens any more, this program has no purpose."""
        with self._speaking:
            try:
                self._line.sendall(json.dumps(message).encode() + b"\n")
            except OSError:
                os._exit(1)


def main() -> None:
    """Check until the daemon hangs up."""
    folder, node = sys.argv[1:]
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as line:
        with reachable(folder, SOCKET_NAME) as address:
            line.connect(address)
        checker = Checker(line)
        checker.say({"node": node})
        with line.makefile("r", encoding="utf-8") as jobs:
            for text in jobs:
                checker.take(json.loads(text))
    os._exit(0)  # without waiting for checks under way
