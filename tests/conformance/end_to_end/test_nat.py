"""NAT gateways over time, over a peering, without an Elastic IP, and with fragments, through real kernels."""

from __future__ import annotations

import re
import socket
from collections.abc import Iterator

import pytest

from tests.conformance.behaviours import behaviour
from tests.conformance.end_to_end.labs import Watch, running
from tests.e2e.conversation import WAIT_S, Conversation, datagrams, is_refused_udp, is_silent, listen, peer_seen
from vpclab import Lab, Reason

pytestmark = pytest.mark.e2e
SECTION = "NAT gateways"

STRANGER, PARTNER, FAR = "10.0.3.20", "10.1.1.10", "198.51.100.10"
NAT_PUBLIC, INNER = "203.0.113.10", "10.0.3.5"

LAB = """
version: 1
name: nat
vpcs:
  main:
    cidr: 10.0.0.0/16
    internet_gateway: {}
    subnets:
      public: {cidr: 10.0.1.0/24, route_table: public}
      private: {cidr: 10.0.2.0/24, route_table: private}
      transfer: {cidr: 10.0.3.0/24, route_table: transfer}
    route_tables:
      public: {routes: [{destination: 0.0.0.0/0, target: internet-gateway}]}
      private:
        routes:
          - {destination: 0.0.0.0/0, target: "nat-gateway:nat"}
          - {destination: 10.1.0.0/16, target: "nat-gateway:inner"}
      transfer:
        routes:
          - {destination: 10.1.0.0/16, target: "peering:main-partner"}
          - {destination: 10.2.0.0/16, target: "peering:tenant-main"}
          - {destination: 0.0.0.0/0, target: internet-gateway}
    nat_gateways:
      nat: {subnet: public, elastic_ip: 203.0.113.10, private_ip: 10.0.1.5}
      inner: {subnet: transfer, connectivity: private, private_ip: 10.0.3.5}
    security_groups:
      open: {description: everything, ingress: [{protocol: all, source: 0.0.0.0/0}]}
  partner: # its table has no route back
    cidr: 10.1.0.0/16
    subnets:
      services: {cidr: 10.1.1.0/24}
    security_groups:
      open: {description: everything, ingress: [{protocol: all, source: 0.0.0.0/0}]}
  tenant: # its way out is a NAT gateway of somebody else
    cidr: 10.2.0.0/16
    subnets:
      desks: {cidr: 10.2.1.0/24, route_table: desks}
    route_tables:
      desks: {routes: [{destination: 0.0.0.0/0, target: "peering:tenant-main"}]}
peerings:
  main-partner: {requester: main, accepter: partner}
  tenant-main: {requester: tenant, accepter: main}
instances:
  client: {vpc: main, subnet: private, private_ip: 10.0.2.10, security_groups: [open]}
  second: {vpc: main, subnet: private, private_ip: 10.0.2.11}
  stranger: {vpc: main, subnet: transfer, private_ip: 10.0.3.20, security_groups: [open]}
  partner: {vpc: partner, subnet: services, private_ip: 10.1.1.10, security_groups: [open]}
  desk: {vpc: tenant, subnet: desks, private_ip: 10.2.1.10}
internet:
  hosts:
    far: {address: 198.51.100.10}
"""


@pytest.fixture(scope="module")
def lab() -> Iterator[Lab]:
    with running(LAB) as lab:
        yield lab


def metrics(lab: Lab, gateway: str = "main/nat") -> dict[str, int]:
    [found] = [row["metrics"] for row in lab.nat()["gateways"] if row["gateway"] == gateway]
    return dict(found)


def grown(before: dict[str, int], after: dict[str, int]) -> dict[str, int]:
    """Counters that changed, and by how much."""
    return {name: after[name] - before[name] for name in after if after[name] != before[name]}


@behaviour(
    "TCP that was idle for more than 350 seconds is reset towards the client that goes on, and counted as timed out",
    end_to_end=True,
)
@behaviour("A client that was reset may connect again with the same port", end_to_end=True)
def test_idle_connection_is_reset(lab: Lab) -> None:
    before = metrics(lab)
    with Conversation(lab, "far", FAR, 80) as line:
        assert line.works()
        lab.clock.advance(320)  # the clock runs on meanwhile
        assert line.works(), "320 s are not too long"
        opened = grown(before, metrics(lab))
        assert (opened["ConnectionAttemptCount"], opened["ConnectionEstablishedCount"]) == (1, 1)
        assert opened["ActiveConnectionCount"] == 1
        line.settle()
        lab.clock.advance(351)
        line.near.sendall(b"to")
        with pytest.raises(ConnectionResetError):
            line.near.recv(1)
        line.far.settimeout(0.2)
        with pytest.raises(TimeoutError):
            line.far.recv(1)
        assert grown(before, metrics(lab))["IdleTimeoutCount"] == 1
        assert metrics(lab)["ActiveConnectionCount"] == before["ActiveConnectionCount"]
        own = line.port
        line.far.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
    with Conversation(lab, "far", FAR, 80, own_port=own) as line:
        assert line.works()


@behaviour(
    "Packets and bytes are counted at a NAT gateway from and to each side, and what is dropped in between",
    end_to_end=True,
)
def test_counters(lab: Lab) -> None:
    assert lab["client"].ping(FAR)  # whatever kernels still had to say about earlier connections has been said
    before = metrics(lab)
    assert not lab["far"].ping(NAT_PUBLIC, size_bytes=72, timeout_s=0.2)
    assert all(lab["client"].ping(FAR, size_bytes=72) for _ in range(3))
    assert grown(before, metrics(lab)) == {
        "PacketsInFromSource": 3,
        "BytesInFromSource": 300,
        "PacketsOutToDestination": 3,
        "BytesOutToDestination": 300,
        "PacketsInFromDestination": 4,
        "BytesInFromDestination": 400,
        "PacketsOutToSource": 3,
        "BytesOutToSource": 300,
        "PacketsDropCount": 1,
    }


@behaviour("Fragments of UDP pass a NAT gateway; fragments of TCP and ICMP do not", end_to_end=True)
def test_fragments_of_udp_pass(lab: Lab) -> None:
    with datagrams(lab, "client", "far", FAR, 5000) as line:
        for socket_ in (line.near, line.far):
            socket_.setsockopt(socket.IPPROTO_IP, 10, 0)  # IP_MTU_DISCOVER, IP_PMTUDISC_DONT (linux/in.h)
        with Watch(lab, "far") as watch:
            assert line.ask(bytes(12000))
            assert any(packet.frag for packet in watch.packets("far", proto=17))
        assert line.answer(bytes(3000))


@behaviour("Fragments of UDP pass a NAT gateway; fragments of TCP and ICMP do not", end_to_end=True)
def test_large_ping_fails(lab: Lab) -> None:
    command = ["ping", "-n", "-c", "1", "-M", "dont", "-W"]
    with Watch(lab, "far") as watch:
        assert lab["client"].run([*command, "0.5", "-s", "10000", FAR]).returncode == 1
        assert lab["client"].run([*command, "10", "-s", "1400", FAR]).returncode == 0
        assert [len(packet) for packet in watch.packets("far", proto=1)] == [1428]


@behaviour(
    "A client of a peer VPC is not served by a NAT gateway; through a NAT gateway to a peer without a route back works",
    end_to_end=True,
)
@behaviour("Only NAT gateways get answers from a peer without a route back", end_to_end=True)
def test_return_to_sender(lab: Lab) -> None:
    assert peer_seen(lab, "client", "partner", PARTNER)[0] == INNER
    assert lab["client"].ping(PARTNER)
    assert lab.trace("partner", INNER, protocol="icmp").forward.reason is Reason.NO_ROUTE
    assert not lab["stranger"].ping(PARTNER, timeout_s=0.5).received, "who is no NAT gateway gets no answer"


@behaviour(
    "A client of a peer VPC is not served by a NAT gateway; through a NAT gateway to a peer without a route back works",
    end_to_end=True,
)
def test_nat_gateway_is_not_for_peers(lab: Lab) -> None:
    before = metrics(lab)
    with Watch(lab, "far") as watch:
        assert is_silent(lab, "desk", FAR, 80)
        assert lab["client"].ping(FAR)
        assert {packet.src for packet in watch.packets("far")} == {NAT_PUBLIC}
    assert grown(before, metrics(lab))["PacketsInFromSource"] == 1


@behaviour(
    "A peering is not transitive: B reaches neither C nor the internet by way of A, nor uses A's NAT gateway",
    end_to_end=True,
)
def test_peering_is_not_transitive(lab: Lab) -> None:
    with Watch(lab, "partner", "far") as watch:
        assert lab["desk"].ping(STRANGER), "to the peer itself"
        assert not lab["desk"].ping(PARTNER, timeout_s=0.5)
        assert not lab["desk"].ping(FAR, timeout_s=0.5)
        assert lab["client"].ping(PARTNER)
        assert lab["client"].ping(FAR)
        assert {packet.src for packet in watch.packets("partner")} == {INNER}
        assert {packet.src for packet in watch.packets("far")} == {NAT_PUBLIC}


@behaviour(
    "An ICMP error about what a NAT gateway translated reaches the client with the packet it sent quoted",
    end_to_end=True,
)
def test_port_unreachable_reaches_the_socket(lab: Lab) -> None:
    assert is_refused_udp(lab, "client", FAR, 9)
    assert is_refused_udp(lab, "client", PARTNER, 9), "over the peering too"
    with pytest.raises(ConnectionRefusedError):
        lab["client"].connect(FAR, 81)


@behaviour(
    "Two clients that use one port get two ports at the NAT gateway, and each gets its own answers", end_to_end=True
)
def test_two_clients_with_one_port(lab: Lab) -> None:
    with (
        Conversation(lab, "far", FAR, 80, client="client", own_port=40000) as one,
        Conversation(lab, "far", FAR, 81, client="second", own_port=40000) as other,
        datagrams(lab, "client", "far", FAR, 53) as first,
    ):
        assert (one.seen_as, other.seen_as) == (NAT_PUBLIC, NAT_PUBLIC)
        assert (one.works(), other.works()) == (True, True)
        assert (first.ask(), first.answer()) == (True, True)
    ports = set()
    with listen(lab, "far", 80) as listener:
        for name in ("client", "second"):
            line = lab[name].socket()
            with line:
                line.bind(("", 40001))
                line.settimeout(WAIT_S)
                line.connect((FAR, 80))
                accepted, peer = listener.accept()
                with accepted:
                    accepted.sendall(name.encode())
                    assert line.recv(10) == name.encode()
                    ports.add(peer[1])
    assert len(ports) == 2


@behaviour(
    "A NAT gateway carries 8500 bytes; larger with DF it answers itself, without DF it fragments", end_to_end=True
)
def test_mtu_of_a_nat_gateway(lab: Lab) -> None:
    client = lab["client"]
    assert client.ping(PARTNER, size_bytes=8472, dont_fragment=True)
    told = client.ping(PARTNER, size_bytes=8473, dont_fragment=True)
    assert (told.received, f"From {INNER} " in told.output, "mtu = 8500" in told.output) == (0, True, True), told.output
    client.run(["ip", "route", "flush", "cache"], check=True)


@behaviour(
    "A packet too big for the internet behind a NAT gateway is told to the instance as it sent it", end_to_end=True
)
def test_path_mtu_behind_a_nat_gateway(lab: Lab) -> None:
    told = lab["client"].ping(FAR, size_bytes=1473, dont_fragment=True)
    assert (told.received, "mtu = 1500" in told.output) == (0, True), told.output
    assert lab["client"].ping(FAR, size_bytes=1472, dont_fragment=True)


@behaviour("Packets of 9001 bytes pass over a peering inside a Region", end_to_end=True)
@behaviour(
    "A peering is no hop, unless the lab's settings say that it is: the TTL arrives as it was sent", end_to_end=True
)
def test_peering_is_no_hop_and_carries_jumbo_packets(lab: Lab) -> None:
    assert lab["desk"].ping(STRANGER, size_bytes=8973, dont_fragment=True)
    with Watch(lab, "stranger") as watch:
        assert lab["desk"].run(["ping", "-n", "-c", "1", "-t", "1", STRANGER]).returncode == 0
        assert [packet.ttl for packet in watch.packets("stranger", proto=1)] == [1]


@behaviour("A private NAT gateway translates to its private address for other VPCs", end_to_end=True)
def test_private_nat_gateway(lab: Lab) -> None:
    report = (
        lab["client"].run(["traceroute", "-n", "-I", "-q", "1", "-w", "5", "-m", "3", PARTNER], timeout_s=60).stdout
    )
    assert re.findall(r"^\s*(\d+)\s+(\S+)", report, re.MULTILINE) == [("1", INNER), ("2", PARTNER)], report
    with datagrams(lab, "client", "partner", PARTNER, 5001) as line:
        assert line.ask()
        assert (line.peer[0], line.answer()) == (INNER, True)
