"""What open connections live to see: rules that go away, ACLs, routes that move. Each test puts the lab back."""

from __future__ import annotations

import copy
import subprocess
from collections.abc import Iterator
from typing import Any

import pytest

from tests.conformance.behaviours import behaviour
from tests.conformance.end_to_end.labs import Watch, parsed, running
from tests.e2e.conversation import Conversation, connects, is_silent, listen, peer_seen
from tests.e2e.lab.stage import eventually
from vpclab import Lab

pytestmark = pytest.mark.e2e
SECTION = "Connection tracking"

CLIENT, SERVER, FAR = "10.0.2.10", "10.0.1.10", "198.51.100.10"
FIRST, SECOND = "203.0.113.10", "203.0.113.11"

LAB = """
version: 1
name: changes
vpcs:
  main:
    cidr: 10.0.0.0/16
    internet_gateway: {}
    subnets:
      public: {cidr: 10.0.1.0/24, availability_zone: a, route_table: public, network_acl: open}
      private: {cidr: 10.0.2.0/24, availability_zone: b, route_table: private}
    route_tables:
      public: {routes: [{destination: 0.0.0.0/0, target: internet-gateway}]}
      private: {routes: [{destination: 0.0.0.0/0, target: "nat-gateway:first"}]}
    nat_gateways:
      first: {subnet: public, elastic_ip: 203.0.113.10}
      second: {subnet: public, elastic_ip: 203.0.113.11}
    network_acls:
      open:
        ingress: [{rule: 100, protocol: all, cidr: 0.0.0.0/0, action: allow}]
        egress: [{rule: 100, protocol: all, cidr: 0.0.0.0/0, action: allow}]
      closed: {}
    security_groups:
      tracked:
        description: one address may call, nobody may be called
        ingress: [{protocol: tcp, ports: 22, source: 10.0.2.10/32}]
        egress: []
      untracked:
        description: anyone may call port 80 and be called
        ingress: [{protocol: tcp, ports: 80, source: 0.0.0.0/0}]
        egress: [{protocol: all, destination: 0.0.0.0/0}]
      neighbours:
        description: pings
        ingress: [{protocol: icmp, source: 10.0.0.0/16}]
instances:
  client: {vpc: main, subnet: private, private_ip: 10.0.2.10}
  server: {vpc: main, subnet: public, private_ip: 10.0.1.10, security_groups: [tracked, untracked, neighbours]}
  neighbour: {vpc: main, subnet: public, private_ip: 10.0.1.11, security_groups: [neighbours]}
internet:
  hosts:
    far: {address: 198.51.100.10}
"""


@pytest.fixture(scope="module")
def running_lab() -> Iterator[Lab]:
    with running(LAB) as lab:
        yield lab


@pytest.fixture
def lab(running_lab: Lab) -> Iterator[Lab]:
    yield running_lab
    running_lab.apply(parsed(LAB))


def without(group: str, *, keep_egress: bool = True) -> dict[str, Any]:
    """The lab without the ingress rules of a group."""
    new = copy.deepcopy(parsed(LAB))
    new["vpcs"]["main"]["security_groups"][group]["ingress"] = []
    return new


def with_groups(*groups: str) -> dict[str, Any]:
    new = copy.deepcopy(parsed(LAB))
    new["instances"]["server"]["security_groups"] = list(groups)
    return new


@behaviour(
    "The answers of a connection that an inbound rule lets in from one address pass without outbound rules, and "
    "it lives on when the rule is removed",
    end_to_end=True,
)
def test_tracked_connection_outlives_its_rule(lab: Lab) -> None:
    lab.apply(with_groups("tracked"))
    with Conversation(lab, "server", SERVER, 22) as line:
        assert line.works(), "answers need no outbound rule"
        new = with_groups("tracked")
        new["vpcs"]["main"]["security_groups"]["tracked"]["ingress"] = []
        lab.apply(new)
        assert line.works()
        assert is_silent(lab, "client", SERVER, 22)
        assert line.works()


@behaviour(
    "A connection that is let in from everywhere, with everything let out, stops at once when its rule is removed",
    end_to_end=True,
)
def test_untracked_connection_ends_with_its_rule(lab: Lab) -> None:
    with Conversation(lab, "server", SERVER, 80) as line:
        assert line.works()
        assert not [flow for flow in lab.flows() if flow["owner"] == "server/eth0" and ":80" in flow["original"]]
        lab.apply(without("untracked"))
        assert line.is_cut()


@behaviour(
    "Of a deny rule with a lower number and an allow rule with a higher one the deny decides, in whatever order "
    "they stand; and a SYN that is let in has its answer dropped where ephemeral ports are not let out",
    end_to_end=True,
)
def test_ephemeral_ports_closed(lab: Lab) -> None:
    new = copy.deepcopy(parsed(LAB))
    rules = new["vpcs"]["main"]["network_acls"]["open"]
    rules["egress"] = [{"rule": 100, "protocol": "tcp", "ports": "0-1023", "cidr": "0.0.0.0/0", "action": "allow"}]
    with listen(lab, "server", 80):
        assert connects(lab, "client", SERVER, 80)
        lab.apply(new)
        with Watch(lab, "server", outgoing=True) as watch, Watch(lab, "client") as back:
            assert is_silent(lab, "client", SERVER, 80)
            flags: set[tuple[str, str]] = set()

            def has_answered() -> bool:
                flags.update((packet.src, str(packet["TCP"].flags)) for packet in watch.packets("server", proto=6))
                return flags >= {(CLIENT, "S"), (SERVER, "SA")}

            eventually(has_answered, "the SYN arrives, and the server answers it")
            assert back.packets("client", proto=6) == []
    rules["ingress"] += [{"rule": 90, "protocol": "tcp", "ports": 80, "cidr": "0.0.0.0/0", "action": "deny"}]
    lab.apply(new)
    with listen(lab, "server", 80), Watch(lab, "server") as watch:
        assert is_silent(lab, "client", SERVER, 80)
        assert watch.packets("server", proto=6) == []


@behaviour("Hosts of one subnet talk freely though its ACL denies everything", end_to_end=True)
def test_acl_does_not_look_inside_a_subnet(lab: Lab) -> None:
    new = copy.deepcopy(parsed(LAB))
    new["vpcs"]["main"]["subnets"]["public"]["network_acl"] = "closed"
    assert lab["client"].ping(SERVER)
    lab.apply(new)
    assert lab["neighbour"].ping(SERVER)
    assert not lab["client"].ping(SERVER, timeout_s=0.3)


@behaviour(
    "A route that is moved from one NAT gateway to another breaks the connections that were open",
    end_to_end=True,
)
def test_route_moves_to_another_nat_gateway(lab: Lab) -> None:
    body = b"HTTP/1.0 200 OK\r\nContent-Length: 100\r\n\r\nfirst"
    new = copy.deepcopy(parsed(LAB))
    new["vpcs"]["main"]["route_tables"]["private"]["routes"][0]["target"] = "nat-gateway:second"
    with listen(lab, "far", 80) as listener:
        curl = lab["client"].popen(
            ["curl", "-sS", "--no-buffer", f"http://{FAR}/"], stdout=subprocess.PIPE, stderr=subprocess.PIPE
        )
        with curl:
            try:
                accepted, (seen, _) = listener.accept()
                with accepted:
                    accepted.recv(4096)
                    accepted.sendall(body)
                    assert curl.stdout is not None
                    assert curl.stdout.read(5) == b"first"
                    lab.apply(new)
                    accepted.sendall(b"again")  # it arrives, and its acknowledgement finds no connection
                    _, said = curl.communicate(timeout=20)
            finally:
                curl.kill()
    assert seen == FIRST
    assert (curl.returncode, b"reset" in said) == (56, True), said
    assert peer_seen(lab, "client", "far", FAR)[0] == SECOND
