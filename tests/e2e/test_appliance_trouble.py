"""What one sees of an appliance that crashes, of nonsense sent to a load balancer, and of checks by their other end."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.conversation import SILENCE_S, Conversation, connects, is_silent
from tests.e2e.inspected import await_states, fleet, inspected, program, reasons
from tests.e2e.lab.stage import eventually
from vpclab import Lab

NODE = "10.9.2.20"
"""Address of the load balancer's node."""
CERTIFICATE = Path(__file__).parent / "lab" / "appliance.pem"
HTTPS = f"""\
import http.server, ssl
context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
context.load_cert_chain({str(CERTIFICATE)!r})
server = http.server.HTTPServer(("", 443), http.server.SimpleHTTPRequestHandler)
server.socket = context.wrap_socket(server.socket, server_side=True)
server.serve_forever()
"""


def one_firewall() -> dict[str, Any]:
    """The lab with fw-a alone."""
    file = inspected()
    del file["instances"]["fw-b"]
    fleet(file)["targets"] = ["fw-a"]
    return file


@pytest.fixture
def lab() -> Iterator[Lab]:
    with Lab.from_dict(one_firewall()) as lab:
        await_states(lab, {"fw-a": "healthy"})
        yield lab


def vpclab(lab: Lab, *words: str) -> str:
    """What the command prints; it must succeed."""
    command = [sys.executable, "-P", "-m", "vpclab", "--lab", lab.name, *words]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def node_status(lab: Lab, name: str) -> dict[str, Any]:
    """A node, as `vpclab status` shows it."""
    nodes = json.loads(vpclab(lab, "status", "--format", "json"))["nodes"]
    (found,) = [node for node in nodes if node["name"] == name]
    return dict(found)


@pytest.mark.slow
def test_an_appliance_that_crashes(lab: Lab) -> None:
    with Conversation(lab, "server", "10.0.2.10", 9000) as line:
        assert line.works()
        os.kill(program(lab, "fw-a"), signal.SIGKILL)
        (crashed,) = eventually(
            lambda: [each for each in node_status(lab, "fw-a")["programs"] if each["state"] == "failed"],
            "its status says so",
        )
        assert (crashed["exit_status"], crashed["pid"]) == (-9, None)
        line.near.sendall(b"to")
        line.far.settimeout(SILENCE_S)
        with pytest.raises(TimeoutError):
            line.far.recv(2)
        assert is_silent(lab, "client", "10.0.2.10", 80)
        await_states(lab, {"fw-a": "unhealthy"})
        assert reasons(lab) == {"fw-a": "Target.FailedHealthChecks"}
        (row,) = [row for row in vpclab(lab, "targets").splitlines() if "sec/fleet" in row]
        assert "unhealthy" in row
        assert "Target.FailedHealthChecks" in row
        vpclab(lab, "restart", "fw-a")
        await_states(lab, {"fw-a": "healthy"})
        assert connects(lab, "client", "10.0.2.10", 80)
        line.far.settimeout(120)  # the client's kernel says it again, and waits longer each time
        assert line.far.recv(2) == b"to"
        assert line.works()
    assert node_status(lab, "fw-a")["programs"][0]["state"] == "running"


def test_nonsense_for_a_load_balancer_is_counted_where_it_came_from(lab: Lab) -> None:
    half = bytes.fromhex("080008000000000001080102f583")  # a header whose options end before they should
    with lab["fw-a"].socket(socket.AF_INET, socket.SOCK_DGRAM) as line:
        for words in (b"nonsense", half, b""):
            line.sendto(words, (NODE, 6081))
    eventually(lambda: malformed(lab, "fw-a") == 3, "all are counted")
    assert malformed(lab, "client") == malformed(lab, "server") == 0
    assert connects(lab, "client", "10.0.2.10", 80)


def malformed(lab: Lab, name: str) -> int:
    """Packets of a node that were no GENEVE."""
    (interface,) = node_status(lab, name)["interfaces"]
    return int(interface["counters"]["reasons"].get("GENEVE_MALFORMED", 0))


def test_checks_over_tls_come_from_the_load_balancers_node() -> None:
    file = one_firewall()
    fleet(file)["health_check"].update(protocol="HTTPS", port=443)
    rules = file["vpcs"]["sec"]["security_groups"]["fw"]["ingress"]
    rules.append({"protocol": "tcp", "ports": 443, "source": "10.9.2.0/24"})
    file["instances"]["fw-a"]["programs"]["health"] = {
        "command": [sys.executable, "-u", "-c", HTTPS],
        "ready": {"tcp": 443},
    }
    with Lab.from_dict(file) as lab:
        await_states(lab, {"fw-a": "healthy"})
        (health,) = [each for each in node_status(lab, "fw-a")["programs"] if each["name"] == "health"]
        said = Path(health["log"]).read_text()
    asked = [line for line in said.splitlines() if '"GET / HTTP/1.1" 200' in line]
    assert asked, said
    assert {line.split()[0] for line in asked} == {NODE}
