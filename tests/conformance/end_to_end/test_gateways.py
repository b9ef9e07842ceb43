"""Internet gateway and NAT gateway, as programs on both sides see them."""

from __future__ import annotations

import re
from collections.abc import Iterator

import pytest
from scapy.layers.inet import IP

from tests.conformance.behaviours import behaviour
from tests.conformance.end_to_end.labs import Watch, running
from tests.e2e.conversation import datagrams, is_silent, peer_seen
from vpclab import Lab, Reason

pytestmark = pytest.mark.e2e
SECTION = "Internet gateways"

WEB, WEB_PUBLIC, OTHER_PUBLIC = "10.0.1.10", "203.0.113.20", "203.0.113.21"
BARE, APP, NAT, NAT_PUBLIC = "10.0.1.12", "10.0.2.10", "10.0.1.5", "203.0.113.10"
FAR, VISITOR = "198.51.100.10", "198.51.100.77"

LAB = """
version: 1
name: gateways
vpcs:
  main:
    cidr: 10.0.0.0/16
    internet_gateway: {}
    subnets:
      public: {cidr: 10.0.1.0/24, availability_zone: a, route_table: public}
      private: {cidr: 10.0.2.0/24, availability_zone: b, route_table: private}
    route_tables:
      public: {routes: [{destination: 0.0.0.0/0, target: internet-gateway}]}
      private: {routes: [{destination: 0.0.0.0/0, target: "nat-gateway:nat"}]}
    nat_gateways:
      nat: {subnet: public, elastic_ip: 203.0.113.10, private_ip: 10.0.1.5}
    security_groups:
      web:
        description: 80 and 81 from anywhere, 8080 from those with the group app, pings from inside
        ingress:
          - {protocol: tcp, ports: 80-81, source: 0.0.0.0/0}
          - {protocol: tcp, ports: 8080, source: "group:app"}
          - {protocol: icmp, source: 10.0.0.0/8}
      app: {description: a name to refer to}
instances:
  web:
    vpc: main
    subnet: public
    private_ip: 10.0.1.10
    elastic_ip: 203.0.113.20
    security_groups: [web]
    programs: {http: {command: [python3, -m, http.server, "80", --directory, /srv], ready: {tcp: 80}}}
  other: {vpc: main, subnet: public, private_ip: 10.0.1.11, security_groups: [app], elastic_ip: 203.0.113.21}
  bare: {vpc: main, subnet: public, private_ip: 10.0.1.12, security_groups: [app]}
  app: {vpc: main, subnet: private, private_ip: 10.0.2.10, security_groups: [app]}
internet:
  hosts:
    far:
      address: 198.51.100.10
      programs: {http: {command: [python3, -m, http.server, "80", --directory, /srv], ready: {tcp: 80}}}
    visitor: {address: 198.51.100.77}
"""


@pytest.fixture(scope="module")
def lab() -> Iterator[Lab]:
    with running(LAB) as lab:
        yield lab


@behaviour(
    "Outside one sees an instance's Elastic IP and the port it chose; the instance sees its private address",
    end_to_end=True,
)
def test_elastic_ip_is_one_to_one(lab: Lab) -> None:
    address, port, own = peer_seen(lab, "web", "far", FAR)
    assert (address, port) == (WEB_PUBLIC, own)
    with Watch(lab, "web") as watch:
        assert peer_seen(lab, "visitor", "web", WEB_PUBLIC, 81)[0] == VISITOR
        assert {packet.dst for packet in watch.packets("web", proto=6)} == {WEB}


@behaviour(
    "What an instance without a public address sends to the internet from a public subnet goes nowhere, silently",
    end_to_end=True,
)
def test_without_a_public_address_nothing_leaves(lab: Lab) -> None:
    with Watch(lab, "far", "bare") as watch:
        assert lab["bare"].ping(FAR, timeout_s=0.3).output.count("From") == 0
        assert is_silent(lab, "bare", FAR, 80)
        assert lab["bare"].ping(WEB)
        assert lab["web"].run(["curl", "-sS", "-o", "/dev/null", f"http://{FAR}/"]).returncode == 0
        assert not [packet for packet in watch.packets("far") if packet.src != WEB_PUBLIC]
        assert {packet.src for packet in watch.packets("bare")} == {WEB}


@behaviour(
    "A default route to the internet gateway takes nothing to private addresses outside of the VPC", end_to_end=True
)
def test_private_addresses_stay(lab: Lab) -> None:
    with Watch(lab, "web") as watch:
        assert is_silent(lab, "web", "10.99.0.1", 80)
        assert not lab["web"].ping("192.168.7.7", timeout_s=0.3)
        assert lab["web"].ping("10.0.1.1")
        assert {packet.src for packet in watch.packets("web")} == {"10.0.1.1"}, "nobody tells it"
    assert lab.trace("web", "10.99.0.1").forward.reason is Reason.PRIVATE_DESTINATION


@behaviour(
    "An instance reached at its Elastic IP from inside the VPC sees the other's Elastic IP, which is in no group",
    end_to_end=True,
)
def test_hairpin_through_public_addresses(lab: Lab) -> None:
    assert peer_seen(lab, "other", "web", WEB, 8080)[0] == "10.0.1.11"
    assert peer_seen(lab, "other", "web", WEB_PUBLIC, 81)[0] == OTHER_PUBLIC
    assert is_silent(lab, "other", WEB_PUBLIC, 8080)


@behaviour("What no rule of an interface's groups allows is dropped, and nobody is told", end_to_end=True)
def test_port_scan_of_a_public_address(lab: Lab) -> None:
    scan = ["nmap", "-n", "-Pn", "-p", "1-1024,8080", "--max-retries", "5", "--min-rate", "1000", WEB_PUBLIC]
    report = lab["visitor"].run(scan, timeout_s=120, check=True).stdout
    states = dict(re.findall(r"^(\d+)/tcp\s+(\S+)", report, re.MULTILINE))
    assert states == {"80": "open", "81": "closed"}, report
    assert re.search(r"Not shown: 1023 filtered", report), report


@behaviour(
    "Behind a public NAT gateway the outside sees its Elastic IP and a port from 1024 to 65535, and answers come back",
    end_to_end=True,
)
def test_nat_gateway_hides_the_instance(lab: Lab) -> None:
    done = lab["app"].run(["curl", "-sS", "-o", "/dev/null", "--max-time", "20", f"http://{FAR}/"])
    assert done.returncode == 0, done.stderr
    for _ in range(4):
        address, port, _ = peer_seen(lab, "app", "far", FAR)
        assert (address, 1024 <= port <= 65535) == (NAT_PUBLIC, True)
    with datagrams(lab, "app", "far", FAR, 53) as line:
        assert line.ask()
        assert (line.peer[0], line.peer[1] >= 1024) == (NAT_PUBLIC, True)
        assert line.answer()


@behaviour(
    "A NAT gateway answers no ping, at its Elastic IP or its private address, and forwards no ESP",
    end_to_end=True,
)
def test_nat_gateway_answers_nobody(lab: Lab) -> None:
    assert not lab["visitor"].ping(NAT_PUBLIC, timeout_s=0.3).received
    assert not lab["other"].ping(NAT, timeout_s=0.3).received
    assert not lab["app"].ping(NAT, timeout_s=0.3).received
    assert is_silent(lab, "visitor", NAT_PUBLIC, 80)
    with Watch(lab, "far") as watch:
        lab["app"].send(IP(src=APP, dst=FAR, proto="esp") / bytes(40))
        assert lab["app"].ping(FAR)
        assert [packet.proto for packet in watch.packets("far")] == [1]


@behaviour("Traceroute from behind a NAT gateway shows its private address as the first hop", item=29, end_to_end=True)
@pytest.mark.parametrize("how", ["-I", "-U", "-T"])
def test_traceroute_shows_the_nat_gateway(lab: Lab, how: str) -> None:
    command = ["traceroute", "-n", how, "-q", "1", "-w", "5", "-m", "3", FAR]
    report = lab["app"].run(command, timeout_s=60, check=True).stdout
    hops = dict(re.findall(r"^\s*(\d+)\s+(\S+)", report, re.MULTILINE))
    assert hops["1"] == NAT, report
    assert FAR in hops.values(), report


@behaviour("A NAT gateway takes the sender's groups away", end_to_end=True)
def test_group_reference_is_lost_through_nat(lab: Lab) -> None:
    assert peer_seen(lab, "app", "web", WEB, 8080)[0] == APP
    assert peer_seen(lab, "app", "web", WEB_PUBLIC, 81)[0] == NAT_PUBLIC
    assert is_silent(lab, "app", WEB_PUBLIC, 8080)
