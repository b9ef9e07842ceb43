"""The one-arm appliance with the node's kernel around it; the test plays the balancer at the other end of its TAP."""

from __future__ import annotations

import json
import os
import signal
import socket
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from scapy.layers.inet import ICMP, IP, TCP, UDP, fragment
from scapy.layers.inet6 import IPv6
from scapy.layers.l2 import Ether

from lab.appliances import one_arm
from lab.enter import open_socket
from lab.node_plan import ProgramPlan
from lab.runtime import Runtime
from tests.e2e.lab.stage import VNET_HEADER_BYTES, eventually, is_done_within, next_frame, output, plan

pytestmark = pytest.mark.e2e

BALANCER, BALANCER_MAC = "10.0.1.20", "02:ff:ff:ff:ff:01"
TARGET = "10.0.1.10"
FLOW_PORT = 50123
OPTIONS = bytes.fromhex("01080102f583215d2e66b39c01080202000000000000000001080301")
CLIENT, SERVER = "10.0.9.9", "198.51.100.10"


@dataclass
class Appliance:
    """The node that the program runs in, as its balancer sees it."""

    runtime: Runtime
    tap: int
    mac: str

    def give(self, inner: Any, *, cookie: int = 1, port: int = FLOW_PORT) -> bytes:
        """Send a packet as the balancer does; returns the GENEVE packet."""
        packet = bytes(inner)
        kind = b"\x08\x00" if packet[0] >> 4 == 4 else b"\x86\xdd"
        geneve = b"\x08\0" + kind + bytes(4) + OPTIONS + cookie.to_bytes(4, "big") + packet
        self.give_raw(geneve, port=port)
        return geneve

    def give_raw(self, geneve: bytes, *, port: int = FLOW_PORT) -> None:
        outer = IP(src=BALANCER, dst=TARGET, ttl=255, id=0) / UDP(sport=port, dport=6081) / geneve
        os.write(self.tap, bytes(VNET_HEADER_BYTES) + bytes(Ether(src=BALANCER_MAC, dst=self.mac) / outer))

    def back(self) -> Ether:
        """The next frame that the node sends to the balancer."""
        while True:
            frame = Ether(next_frame(self.tap)[VNET_HEADER_BYTES:])
            if frame.dst == BALANCER_MAC:
                return frame

    def page(self, path: str = "/") -> tuple[str, str]:
        """Status line and body of what it answers to a health check, asked from inside."""
        with open_socket(self.runtime.view("fw"), socket.AF_INET, socket.SOCK_STREAM) as client:
            client.connect(("127.0.0.1", 80))
            client.sendall(f"GET {path} HTTP/1.1\r\nHost: x\r\n\r\n".encode())
            with client.makefile("rb") as stream:
                head, _, body = stream.read().decode().partition("\r\n\r\n")
        return head.partition("\r\n")[0], body.strip()

    def counters(self) -> dict[str, Any]:
        return dict(json.loads(self.page("/counters")[1]))

    def pid(self) -> int:
        pid = self.runtime.status()["fw"].programs[0].pid
        assert pid is not None
        return pid

    def log(self) -> str:
        return Path(self.runtime.status()["fw"].programs[0].log).read_text()


@pytest.fixture
def fw(runtime: Runtime) -> Appliance:
    command = ("python3", one_arm.__file__, "--drop", "tcp:23", "--drop", "cidr:203.0.113.0/24")
    node = plan("fw", programs=[ProgramPlan(name="one-arm", command=command, ready_tcp=80)])
    (tap,) = runtime.add_nodes([node]).values()
    output(runtime, "fw", "ip", "neigh", "add", BALANCER, "lladdr", BALANCER_MAC, "dev", "eth0")
    runtime.start_programs()
    runtime.wait_ready()
    return Appliance(runtime, tap, node.interfaces[0].mac.hex(":"))


def tcp(destination: str = SERVER, port: int = 80, size: int = 10) -> IP:
    return IP(src=CLIENT, dst=destination) / TCP(sport=40000, dport=port) / bytes(size)


def test_a_packet_comes_back_with_addresses_swapped_and_ports_not(fw: Appliance) -> None:
    geneve = fw.give(tcp())
    frame = fw.back()
    assert (frame[IP].src, frame[IP].dst) == (TARGET, BALANCER)
    assert (frame[UDP].sport, frame[UDP].dport) == (FLOW_PORT, 6081)
    assert bytes(frame[UDP].payload) == geneve
    assert "DF" not in str(frame[IP].flags)
    assert "passed: tcp 10.0.9.9:40000 > 198.51.100.10:80 vpce-f583215d2e66b39c cookie 00000001" in fw.log()


@pytest.mark.parametrize(
    "inner",
    [
        IP(src=CLIENT, dst=SERVER) / ICMP() / bytes(20),
        IP(src=CLIENT, dst=SERVER, proto=47) / bytes(20),
        IPv6(src="2001:db8::1", dst="2001:db8::2") / TCP(dport=443),
        tcp(size=8500 - 40),
        IPv6(src="2001:db8::1", dst="2001:db8::2") / UDP(dport=53) / bytes(8500 - 48),
        *fragment(IP(src=CLIENT, dst=SERVER) / UDP(dport=53) / bytes(3000), 1480),
    ],
    ids=["icmp", "gre", "ipv6", "8500 bytes", "8500 bytes of ipv6", "first", "second", "last"],
)
def test_whatever_is_inside_comes_back(fw: Appliance, inner: Any) -> None:
    geneve = fw.give(inner)
    assert bytes(fw.back()[UDP].payload) == geneve


def test_rules_drop_and_nothing_is_said_to_the_balancer(fw: Appliance) -> None:
    fw.give(tcp(port=23), cookie=1)
    fw.give(tcp(destination="203.0.113.5"), cookie=2)
    fw.give_raw(b"no geneve")
    last = fw.give(tcp(), cookie=3)
    assert bytes(fw.back()[UDP].payload) == last  # and nothing before it: no ICMP error either
    assert fw.counters() == {
        "received": 4,
        "returned": 1,
        "dropped": {"tcp:23": 1, "cidr:203.0.113.0/24": 1},
        "malformed": 1,
        "failed": 0,
        "unknown": 0,
        "clashing": 0,
        "flows": 3,
    }
    assert "dropped by tcp:23: tcp 10.0.9.9:40000 > 198.51.100.10:23" in fw.log()


def test_a_burst_is_not_lost(fw: Appliance) -> None:
    """More than one look's worth before anything is read; and as many jumbo packets as any receive buffer takes."""
    given = [fw.give(tcp(size=number), cookie=number) for number in range(one_arm.BURST + 16)]
    assert [bytes(fw.back()[UDP].payload) for _ in given] == given
    for begin in range(0, 320, 16):
        given = [fw.give(tcp(size=8000 + number), cookie=1000 + number) for number in range(begin, begin + 16)]
        assert [bytes(fw.back()[UDP].payload) for _ in given] == given


def test_it_answers_health_checks_until_it_is_told_not_to(fw: Appliance) -> None:
    assert fw.page() == ("HTTP/1.1 200 OK", "healthy")
    os.kill(fw.pid(), signal.SIGUSR1)
    eventually(lambda: fw.page()[0].startswith("HTTP/1.1 503 "), "it answers 503")
    os.kill(fw.pid(), signal.SIGUSR1)
    eventually(lambda: fw.page()[0].startswith("HTTP/1.1 200 "), "it answers 200 again")
    with open_socket(fw.runtime.view("fw"), socket.AF_INET, socket.SOCK_STREAM) as silent:
        silent.connect(("127.0.0.1", 80))  # a TCP health check says nothing
        assert fw.page()[1] == "healthy"


def test_it_is_back_within_a_second(fw: Appliance) -> None:
    fw.give(tcp())
    fw.back()
    before = fw.pid()

    def restart() -> None:
        fw.runtime.restart("fw")
        fw.runtime.wait_ready("fw")

    assert is_done_within(1, restart)
    assert fw.pid() != before
    geneve = fw.give(tcp())
    assert bytes(fw.back()[UDP].payload) == geneve
    assert '"returned": 1' in fw.log()  # what the first run said at its end
