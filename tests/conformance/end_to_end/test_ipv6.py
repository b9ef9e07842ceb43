"""IPv6 out of a VPC: egress-only internet gateway, and NAT64 to servers that have IPv4 only."""

from __future__ import annotations

import re
import socket
from collections.abc import Iterator

import pytest
from scapy.layers.inet6 import IPv6

from tests.conformance.behaviours import behaviour
from tests.conformance.end_to_end.labs import Watch, running
from tests.e2e.conversation import Conversation, datagrams, is_refused_udp, is_silent, peer_seen
from vpclab import Lab, Reason

pytestmark = pytest.mark.e2e
SECTION = "Egress-only internet gateways"

APP, FAR = "2001:db8:a:2::10", "2001:db8:99::10"
OLD = "64:ff9b::c633:6414"
NAT_PUBLIC = "203.0.113.10"

LAB = """
version: 1
name: ipv6
vpcs:
  main:
    cidr: 10.0.0.0/16
    ipv6_cidrs: ["2001:db8:a::/56"]
    internet_gateway: {}
    egress_only_internet_gateway: {}
    subnets:
      public: {cidr: 10.0.1.0/24, route_table: public}
      private: {cidr: 10.0.2.0/24, ipv6_cidr: "2001:db8:a:2::/64", route_table: private}
    route_tables:
      public: {routes: [{destination: 0.0.0.0/0, target: internet-gateway}]}
      private:
        routes:
          - {destination: "::/0", target: egress-only-internet-gateway}
          - {destination: "64:ff9b::/96", target: "nat-gateway:nat"}
    nat_gateways:
      nat: {subnet: public, elastic_ip: 203.0.113.10, private_ip: 10.0.1.5}
    security_groups:
      open: {description: everything, ingress: [{protocol: all, source: "::/0"}]}
instances:
  app: {vpc: main, subnet: private, private_ip: 10.0.2.10, ipv6_address: "2001:db8:a:2::10", security_groups: [open]}
internet:
  hosts:
    far:
      address: 198.51.100.10
      ipv6_address: "2001:db8:99::10"
      programs: {http: {command: [python3, -m, http.server, --bind, "::", "80"], ready: {tcp: 80}}}
    old:
      address: 198.51.100.20
      programs: {http: {command: [python3, -m, http.server, "80", --directory, /srv], ready: {tcp: 80}}}
"""


@pytest.fixture(scope="module")
def lab() -> Iterator[Lab]:
    with running(LAB) as lab:
        yield lab


@behaviour(
    "Nothing from outside passes an egress-only internet gateway unasked; the answer to what went out does",
    end_to_end=True,
)
def test_out_and_not_in(lab: Lab) -> None:
    done = lab["app"].run(["curl", "-6", "-sS", "-o", "/dev/null", "--max-time", "20", f"http://[{FAR}]/"])
    assert done.returncode == 0, done.stderr
    assert peer_seen(lab, "app", "far", FAR)[0] == APP
    assert lab["app"].ping(FAR)
    with Watch(lab, "app") as watch:
        assert is_silent(lab, "far", APP, 80)
        assert not lab["far"].ping(APP, timeout_s=0.3).received
        assert lab["app"].ping(FAR)
        came = [frame[IPv6] for frame in watch.frames("app") if IPv6 in frame]
    assert {(packet.src, packet.nh) for packet in came if packet.dst == APP} == {(FAR, socket.IPPROTO_ICMPV6)}
    assert len([packet for packet in came if packet.dst == APP]) == 1, "only the answer"
    assert lab.trace("far", APP, protocol="tcp", port=80).forward.reason is Reason.EGRESS_ONLY_NO_SESSION


@behaviour(
    "An idle flow is forgotten after what the lab's settings say: 350 seconds of TCP, 120 of all else by default",
    end_to_end=True,
)
def test_answers_only_while_it_remembers(lab: Lab) -> None:
    with datagrams(lab, "app", "far", FAR, 5000) as line:
        assert line.ask()
        assert line.answer()
        lab.clock.advance(90)
        assert line.answer(), "the groups of app are open, so only the gateway decides"
        lab.clock.advance(121)
        assert line.answer_is_lost()
        assert line.ask()
        assert line.answer()


@behaviour(
    "An IPv6 host that connects to 64:ff9b::/96 with an IPv4 address in it reaches that address, which sees IPv4 "
    "from the NAT gateway; the host sees answers from 64:ff9b::/96",
    end_to_end=True,
)
def test_nat64(lab: Lab) -> None:
    done = lab["app"].run(["curl", "-6", "-sS", "-o", "/dev/null", "--max-time", "20", f"http://[{OLD}]/"])
    assert done.returncode == 0, done.stderr
    with Watch(lab, "app") as watch:
        assert peer_seen(lab, "app", "old", OLD)[0] == NAT_PUBLIC
        seen = {frame[IPv6].src for frame in watch.frames("app") if IPv6 in frame and frame[IPv6].dst == APP}
    assert seen == {OLD}
    rows = [row for row in lab.nat()["translations"] if row["outside"] == "198.51.100.20:80"]
    assert rows
    assert all(row["inside"].startswith(f"[{APP}]:") and row["translated"].startswith("10.0.1.5:") for row in rows)


@behaviour("Pings are translated between ICMPv6 and ICMP, both ways", end_to_end=True)
@behaviour("Traceroute of an IPv6 host shows the NAT gateway in 64:ff9b::/96", end_to_end=True)
def test_nat64_pings_and_datagrams(lab: Lab) -> None:
    assert all(lab["app"].ping(OLD) for _ in range(2))
    with datagrams(lab, "app", "old", OLD, 5000) as line:
        assert line.ask(b"q" * 1000)
        assert (line.peer[0], line.answer(b"a" * 1200)) == (NAT_PUBLIC, True)
    command = ["traceroute", "-6", "-n", "-q", "1", "-w", "5", "-m", "3", OLD]
    report = lab["app"].run(command, timeout_s=60).stdout
    hops = dict(re.findall(r"^\s*(\d+)\s+(\S+)", report, re.MULTILINE))
    assert hops["1"] == "64:ff9b::a00:105", report
    assert OLD in hops.values(), report


@behaviour("IPv4 errors about what NAT64 sent come to the host as ICMPv6 errors", end_to_end=True)
def test_port_unreachable_through_nat64(lab: Lab) -> None:
    assert is_refused_udp(lab, "app", OLD, 9)
    with pytest.raises(ConnectionRefusedError):
        lab["app"].connect(OLD, 81)


@behaviour("Through NAT64 an idle connection is reset after 350 seconds, by IPv6", end_to_end=True)
def test_idle_connection_through_nat64_is_reset(lab: Lab) -> None:
    with Conversation(lab, "old", OLD, 8080, client="app") as line:
        assert line.works()
        line.settle()
        lab.clock.advance(351)
        line.near.sendall(b"to")
        with pytest.raises(ConnectionResetError):
            line.near.recv(1)
        line.far.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")


@behaviour(
    "A packet too big for the internet behind NAT64 is answered with packet too big, MTU 1520",
    end_to_end=True,
)
def test_nat64_path_mtu(lab: Lab) -> None:
    said = lab["app"].ping(OLD, size_bytes=1600, dont_fragment=True)
    assert (said.received, "mtu=1520" in said.output.replace(" ", "").lower()) == (0, True), said.output
