"""Requests to the control socket of a lab, from octets: lines that are hardly JSON, and JSON that is hardly a request.

The verbs are those of a real lab, with its data plane; only nodes, programs and the worker are fakes. Each line gets
one line of JSON for an answer, which is never that of a bug of ours ("internal error"); afterwards the server still
answers.
"""

from __future__ import annotations

import json
import tempfile
from functools import cache
from pathlib import Path
from typing import Any
from unittest.mock import patch

from lab import running
from lab.control import PROTOCOL_VERSION, ControlServer
from lab.enter import NodeView
from lab.running import RunningLab
from lab.runtime import NoProgramError
from lab.verbs import Verbs
from tests.fuzz.octets import Octets
from tests.unit.lab.fakes import FakeRuntime, FakeState, FakeWorker

EXAMPLE = Path(__file__).parents[2] / "examples" / "quickstart.yaml"
WAITS = ("check",)
"""Verbs that wait for packets to arrive, which nobody carries here; `apply` and the rest are real."""
LONGEST = 1 << 16
KEYS = (
    "name", "source", "destination", "protocol", "port", "source_port", "size_bytes", "table", "limit", "text", "file",
    "dry_run", "program", "advance_s", "checks", "kind", "vpc", "", "version", "seconds", "count",
    "points", "filter", "split", "patience_s", "apart",
)  # fmt: skip
VALUES: tuple[object, ...] = (
    "web", "app", "db", "10.0.1.10", "10.0.0.0/8", "::1", "198.51.100.10", "2001:db8::1", "tcp", "udp", "icmp",
    "icmpv6", "6", "300", "-1", 0, 1, -1, 80, 65535, 65536, 1 << 70, 1.5, 1e308, -0.0, None, True, False, [], {},
    [[]], {"a": 1},
    "", "\0", "a" * 500, "\ud800", "web/eth0", "/", "version: 1", "version: 1\nvpcs: {}\n", "lab.yaml",
    "../../etc/passwd",
    350, 10, 1000000, 60, "0.0.0.0", "fe80::1%eth0", "internet", "local", "example", "é", ["web"],
    ["web/eth0", "app"], ["instance:web"], "tcp port 80", "host 10.0.1.10", "not (udp or icmp)", "(",
)  # fmt: skip


class Runtime(FakeRuntime):
    """One without programs."""

    lab_id, rootless, warnings = "fuzzed", False, ()

    def view(self, node: str) -> NodeView:
        return NodeView(node=node, lab_id=self.lab_id, namespaces=(), network=(), environment={}, netns=None, spawner=1)

    def status(self) -> dict[str, Any]:
        return {}

    def restart(self, name: str, program: str | None) -> None:
        raise NoProgramError(f"node {name} has no programs")


@cache
def served() -> tuple[ControlServer, RunningLab]:
    """A server of the quickstart lab, not listening: it is handed its lines."""
    with patch.object(running, "Runtime", Runtime), patch.object(running, "Worker", FakeWorker):
        lab = RunningLab(FakeState(), EXAMPLE.read_text(), "lab.yaml")  # type: ignore[arg-type]
    verbs = {name: verb for name, verb in Verbs(lab, lambda reason: None).table().items() if name not in WAITS}
    with tempfile.TemporaryDirectory() as folder:
        server = ControlServer(Path(folder), verbs)
        server.close()
    return server, lab


def value(octets: Octets, depth: int = 0) -> object:
    """Some value of JSON."""
    chance = octets.one()
    if chance < 0xE0 or depth == 3:
        return VALUES[chance % len(VALUES)]
    if chance < 0xF0:
        return [value(octets, depth + 1) for _ in range(octets.one() % 4)]
    return {octets.among(KEYS): value(octets, depth + 1) for _ in range(octets.one() % 4)}


def line(octets: Octets) -> bytes:
    """A line for the server."""
    chance = octets.one()
    if chance < 0x20:
        return octets.take(octets.one()).replace(b"\n", b"") + b"\n"
    verbs = sorted(served()[0]._verbs)
    request: dict[str, object] = {
        "version": PROTOCOL_VERSION,
        "verb": octets.among(verbs),
        "arguments": {octets.among(KEYS): value(octets) for _ in range(octets.one() % 7)},
    }
    if chance < 0x40:
        request[octets.among(("version", "verb", "arguments", "other"))] = value(octets)
    made = json.dumps(request).encode()
    if chance < 0x60:
        at = octets.two() % len(made)
        made = made[:at] + octets.take(octets.one() % 4) + made[at + octets.one() % 3 :]
    return made.replace(b"\n", b" ") + (b"" if chance == 0xFF else b"\n")


def play(data: bytes) -> None:
    """Send the lines that the octets say. Raises AssertionError when one is not answered as it should be."""
    octets, (server, lab) = Octets(data), served()
    before, size = lab.topology, 0
    while octets.left and size < LONGEST:
        each = line(octets)
        size += len(each)
        answer(server, each)
    assert "result" in answer(server, b'{"version": 1, "verb": "nodes"}\n'), "the server does not answer any more"
    if lab.topology is not before or lab.worker.clock_offset_ms:
        served.cache_clear()  # the next input finds the lab as this one did


def answer(server: ControlServer, request: bytes) -> dict[str, Any]:
    """What the server says to a line, as JSON."""
    said, stream = server._answer(request)
    if stream is not None:
        stream.close()
    assert said.endswith(b"\n"), request
    assert said.count(b"\n") == 1, request
    told: dict[str, Any] = json.loads(said)
    assert "internal error" not in told.get("error", {}).get("message", ""), (request, told)
    return told
