"""What the health checker makes of targets of all kinds: both run in one node, over its loopback."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from lab.runtime import Runtime
from tests.e2e.lab.stage import output, plan

pytestmark = pytest.mark.e2e

ROOT = Path(__file__).parents[3]
CERTIFICATE = Path(__file__).with_name("appliance.pem")
"""Self-signed, with its key: a checker does not look at it."""

TARGET = f"""\
import socket, ssl, struct, sys, time

def http(line):
    line.recv(4096)
    line.sendall(b"HTTP/1.1 204 No Content\\r\\n\\r\\n")

def unread(line):
    # The question has come, nobody reads it, and the connection is reset as soon as the status line has arrived.
    line.recv(1, socket.MSG_PEEK)
    line.sendall(b"HTTP/1.1 200 OK\\r\\n")
    while line.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 256)[24:28] != bytes(4):  # not yet acknowledged
        time.sleep(0.001)
    line.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))

def cut(line):
    line.sendall(b"HTTP/1.1 200")
    line.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))

def drip(line):
    for octet in b"HTTP/1.1 200 OK\\r\\n":
        line.sendall(bytes([octet]))
        time.sleep(0.02)

def silent(line):
    line.recv(4096)
    time.sleep(60)

def ssh(line):
    line.sendall(b"SSH-2.0-OpenSSH_9.2\\r\\n")

def hang_up(line):
    line.recv(4096)

def tls(line):
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain({str(CERTIFICATE)!r})
    line = context.wrap_socket(line, server_side=True)
    line.recv(4096)
    version = line.version().encode()
    line.sendall(b"HTTP/1.1 302 " + version + b"\\r\\n\\r\\n")
    line.close()

with socket.create_server(("127.0.0.1", 80)) as listener:
    print("listens", flush=True)
    line, _ = listener.accept()
    globals()[sys.argv[1]](line)
    line.close()
"""
CHECK = f"""\
import json, sys
sys.path.insert(0, {str(ROOT)!r})
from lab.health_checker import check
print(json.dumps(check(*json.loads(sys.argv[1]))))
"""


@pytest.fixture
def node(runtime: Runtime) -> Runtime:
    runtime.add_nodes([plan()])
    return runtime


def found(node: Runtime, protocol: str, talker: str, timeout_s: float = 5.0) -> list[Any]:
    """What the check of a target that talks in this way finds."""
    with node.popen("web", [sys.executable, "-c", TARGET, talker], stdout=subprocess.PIPE, text=True) as target:
        try:
            assert target.stdout is not None
            assert target.stdout.readline() == "listens\n"
            question = json.dumps([protocol, "127.0.0.1", 80, "/health", timeout_s])
            return list(json.loads(output(node, "web", sys.executable, "-c", CHECK, question)))
        finally:
            target.kill()


def test_an_open_port_is_all_that_tcp_wants(node: Runtime) -> None:
    assert found(node, "TCP", "silent") == ["open", 0, ""]


@pytest.mark.parametrize(("talker", "status"), [("http", 204), ("unread", 200), ("drip", 200)])
def test_the_status_line_decides_and_nothing_behind_it(node: Runtime, talker: str, status: int) -> None:
    assert found(node, "HTTP", talker) == ["status", status, ""]


def test_tls_1_2_and_any_certificate(node: Runtime) -> None:
    assert found(node, "HTTPS", "tls") == ["status", 302, ""]


@pytest.mark.parametrize(("protocol", "talker"), [("HTTP", "silent"), ("HTTPS", "silent"), ("HTTP", "drip")])
def test_the_answer_must_come_in_time(node: Runtime, protocol: str, talker: str) -> None:
    assert found(node, protocol, talker, 0.2) == ["timeout", 0, "no answer from port 80 within 0.2 s"]


@pytest.mark.parametrize(
    ("protocol", "talker", "detail"),
    [
        ("HTTP", "ssh", "what came is no HTTP status line"),
        ("HTTP", "hang_up", "closed before a status line"),
        ("HTTP", "cut", "connection reset by peer"),
        ("HTTPS", "http", ""),
    ],
)
def test_what_is_no_answer(node: Runtime, protocol: str, talker: str, detail: str) -> None:
    kind, status, why = found(node, protocol, talker)
    assert (kind, status) == ("failed", 0)
    assert detail in why


def test_nobody_there(node: Runtime) -> None:
    question = json.dumps(["TCP", "127.0.0.1", 9, "/", 1.0])
    assert json.loads(output(node, "web", sys.executable, "-c", CHECK, question)) == ["failed", 0, "connection refused"]
    question = json.dumps(["TCP", "10.0.1.77", 80, "/", 0.2])
    assert json.loads(output(node, "web", sys.executable, "-c", CHECK, question))[0] == "timeout"
