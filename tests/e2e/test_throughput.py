"""TCP between two subnets against TCP over a bare veth, in turns: the promise is a quarter; the figure is printed."""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from tests.e2e.lab.stage import best_of
from vpclab import Lab

SECONDS, ROUNDS, PROMISE = 1, 3, 0.25
ANY = {"protocol": "all", "source": "0.0.0.0/0"}
TWO_SUBNETS = {
    "version": 1,
    "name": "two-subnets",
    "vpcs": {
        "v": {
            "cidr": "10.0.0.0/16",
            "subnets": {"one": {"cidr": "10.0.1.0/24"}, "two": {"cidr": "10.0.2.0/24"}},
            "security_groups": {"open": {"description": "everything", "ingress": [ANY]}},
        }
    },
    "instances": {
        "client": {"vpc": "v", "subnet": "one", "private_ip": "10.0.1.10", "security_groups": ["open"]},
        "server": {"vpc": "v", "subnet": "two", "private_ip": "10.0.2.10", "security_groups": ["open"]},
    },
}


def gigabits(client_run: Callable[[list[str]], str], server_popen: Callable[[list[str]], Any], address: str) -> float:
    """One iperf3 stream from client to server; Gbit/s received."""
    server = server_popen(["iperf3", "-s", "-1", "-B", address])
    try:
        deadline = time.monotonic() + 60
        while True:
            report = client_run(["iperf3", "-c", address, "-t", str(SECONDS), "-J"])
            result = json.loads(report)
            if "error" not in result:
                return float(result["end"]["sum_received"]["bits_per_second"]) / 1e9
            assert "refused" in result["error"], result["error"]
            assert time.monotonic() < deadline, result["error"]
    finally:
        server.terminate()
        server.wait(timeout=10)


@pytest.fixture
def veth() -> Iterator[tuple[str, str]]:
    names = (f"vpclabA{os.getpid()}", f"vpclabB{os.getpid()}")
    made = []
    try:
        for name in names:
            subprocess.run(["ip", "netns", "add", name], check=True)
            made.append(name)
        subprocess.run(
            [
                "ip",
                "link",
                "add",
                "eth0",
                "mtu",
                "9001",
                "netns",
                names[0],
                "type",
                "veth",
                "peer",
                "name",
                "eth0",
                "mtu",
                "9001",
                "netns",
                names[1],
            ],
            check=True,
        )
        for number, name in enumerate(names, 1):
            subprocess.run(["ip", "-n", name, "addr", "add", f"192.0.2.{number}/24", "dev", "eth0"], check=True)
            subprocess.run(["ip", "-n", name, "link", "set", "eth0", "up"], check=True)
        yield names
    finally:
        for name in made:
            subprocess.run(["ip", "netns", "del", name], check=True)


@pytest.fixture
def lab() -> Iterator[Lab]:
    with Lab.from_dict(TWO_SUBNETS) as running:
        yield running


@pytest.mark.root
@pytest.mark.slow
def test_tcp_between_subnets_moves_a_quarter_of_a_bare_veth(lab: Lab, veth: tuple[str, str]) -> None:
    def inside(name: str) -> list[str]:
        return ["ip", "netns", "exec", name]

    def bare_run(command: list[str]) -> str:
        done = subprocess.run([*inside(veth[0]), *command], capture_output=True, text=True, check=False)
        return done.stdout

    def ratio() -> float:
        ours, theirs = [], []
        for _ in range(ROUNDS):
            ours.append(
                gigabits(
                    lambda c: lab["client"].run(c).stdout,
                    lambda c: lab["server"].popen(c, stdout=subprocess.DEVNULL),
                    "10.0.2.10",
                )
            )
            theirs.append(
                gigabits(
                    bare_run,
                    lambda c: subprocess.Popen([*inside(veth[1]), *c], stdout=subprocess.DEVNULL),
                    "192.0.2.2",
                )
            )
        mine, bare = statistics.median(ours), statistics.median(theirs)
        print(f"Gbit/s: ours {mine:.1f}, bare veth {bare:.1f}, ratio {mine / bare:.2f}")
        return mine / bare

    assert best_of(ratio, PROMISE) >= PROMISE
