"""The gateway load balancer examples do what their comments say, with real kernels, programs and appliances."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from typing import Any

import pytest
from ruamel.yaml import YAML

from dataplane.verdict import Reason
from tests.conformance.behaviours import behaviour
from tests.e2e.conftest import EXAMPLES
from tests.e2e.conversation import Conversation, connects, datagrams, is_silent, peer_seen
from tests.e2e.inspected import await_health, counters, program, states
from tests.e2e.lab.stage import best_of, eventually, rates
from vpclab import Lab

WEB, WEB_PUBLIC, CUSTOMER = "10.70.1.10", "203.0.113.70", "198.51.100.77"
FIREWALLS = ("fw-1", "fw-2")


def lab_of(name: str) -> Iterator[Lab]:
    with Lab.load(EXAMPLES / f"{name}.yaml") as lab:
        await_health(lab)
        yield lab


@pytest.fixture(scope="module")
def edge() -> Iterator[Lab]:
    yield from lab_of("inspection-edge")


@pytest.fixture(scope="module")
def east_west() -> Iterator[Lab]:
    yield from lab_of("inspection-east-west")


@pytest.fixture(scope="module")
def two_az() -> Iterator[Lab]:
    yield from lab_of("gwlb-two-az")


def target_of(lab: Lab, line: Conversation) -> str:
    """The target that a conversation's flow has."""
    (flow,) = [flow for flow in lab.flows() if flow["target"] and f":{line.port} >" in flow["original"]]
    return str(flow["target"]).rpartition("/")[2]


def is_tcp(frame: bytes) -> bool:
    return frame[12:14] == b"\x08\x00" and frame[23] == socket.IPPROTO_TCP


# -- between the internet and a subnet


@behaviour("Both directions of a flow through a gateway load balancer go through the same target", end_to_end=True)
def test_curl_crosses_one_firewall_both_ways(edge: Lab) -> None:
    before = {name: counters(edge, name) for name in FIREWALLS}
    done = edge["customer"].run(["curl", "-sS", "--max-time", "20", f"http://{WEB_PUBLIC}/"], check=True)
    assert "Directory listing" in done.stdout
    after = {name: counters(edge, name) for name in FIREWALLS}
    busy = [name for name in FIREWALLS if after[name]["returned"] > before[name]["returned"]]
    assert len(busy) == 1, (before, after)
    assert after[busy[0]]["flows"] == before[busy[0]]["flows"] + 1
    assert after[busy[0]]["returned"] - before[busy[0]]["returned"] >= 8, "requests and answers"


@behaviour(
    "The appliance of a gateway load balancer sees private addresses: the internet gateway translates outside of it",
    end_to_end=True,
)
def test_web_sees_the_customer_and_two_hops(edge: Lab) -> None:
    assert peer_seen(edge, "customer", "web", WEB_PUBLIC, 5000)[0] == CUSTOMER
    with edge["web"].sniffer() as at_web:
        edge["customer"].connect(WEB_PUBLIC, 80).close()
        frame = next(at_web.frames(1, where=is_tcp))
    assert frame[26:34] == socket.inet_aton(CUSTOMER) + socket.inet_aton(WEB)
    assert frame[22] == 62, "in and out of the endpoint"


def test_firewalls_decide(edge: Lab) -> None:
    assert connects(edge, "web", WEB, 23)
    assert is_silent(edge, "customer", WEB_PUBLIC, 23)
    eventually(
        lambda: sum(counters(edge, name)["dropped"].get("tcp:23", 0) for name in FIREWALLS) >= 1, "they count it"
    )
    trace = edge.trace("customer", WEB_PUBLIC, protocol="tcp", port=80)
    kinds = [str(hop.object) for hop in trace.forward.hops]
    assert "vpc-endpoint site/inspect" in kinds
    assert kinds[-1] == "interface web/eth0"
    steps = {step.action.value: step for hop in trace.forward.hops for step in hop.steps}
    assert str(steps["encapsulate"].rule).startswith("target security/firewalls/fw-")
    assert "cookie" in steps["encapsulate"].note


def test_udp_icmp_and_fragments_pass(edge: Lab) -> None:
    with datagrams(edge, "customer", "web", WEB_PUBLIC, 5000) as line:
        assert line.ask()
        assert line.answer()
        assert line.ask(bytes(4000)), "in fragments"
        told = edge["web"].ping(CUSTOMER, size_bytes=4000, dont_fragment=True)
        assert "mtu=1500" in told.output.replace(" ", ""), "path MTU discovery works from behind an endpoint"
        assert line.answer(bytes(4000)), "in fragments"
    assert edge["customer"].ping(WEB_PUBLIC).received == 1
    assert edge["customer"].ping(WEB_PUBLIC, size_bytes=4000).received == 1


@behaviour("Without a target nothing passes a gateway load balancer: there is no way around", end_to_end=True)
def test_no_way_around(edge: Lab) -> None:
    stopped = {name: program(edge, name) for name in FIREWALLS}
    for pid in stopped.values():
        os.kill(pid, signal.SIGSTOP)
    try:
        assert is_silent(edge, "customer", WEB_PUBLIC, 80)
        assert not edge["customer"].ping(WEB_PUBLIC, timeout_s=0.5)
        assert not edge["web"].ping(CUSTOMER, timeout_s=0.5)
    finally:
        for pid in stopped.values():
            os.kill(pid, signal.SIGCONT)
    eventually(lambda: connects(edge, "customer", WEB_PUBLIC, 80), "it works again", deadline_s=60)
    await_health(edge)


@pytest.mark.parametrize("failover", ["no_rebalance", "rebalance"])
def test_the_other_firewall_takes_new_flows_and_old_ones_follow_the_setting(edge: Lab, failover: str) -> None:
    file = YAML(typ="safe", pure=True).load(EXAMPLES / "inspection-edge.yaml")
    file["vpcs"]["security"]["target_groups"]["firewalls"] |= {"on_unhealthy": failover, "on_deregistration": failover}
    edge.apply(file)
    with Conversation(edge, "web", WEB_PUBLIC, 5000, client="customer") as line:
        assert line.works()
        mine = target_of(edge, line)
        other = next(name for name in FIREWALLS if name != mine)
        os.kill(program(edge, mine), signal.SIGSTOP)
        try:
            eventually(lambda: states(edge)[mine] == "unhealthy", "it is unhealthy", deadline_s=90)
            before = counters(edge, other)["flows"]
            for _ in range(6):
                assert connects(edge, "customer", WEB_PUBLIC, 80)
            assert counters(edge, other)["flows"] >= before + 6
            assert line.is_cut() if failover == "no_rebalance" else line.works()
        finally:
            os.kill(program(edge, mine), signal.SIGCONT)
    await_health(edge)


# -- between subnets


def drops(lab: Lab, node: str) -> int:
    """Packets of a node that were too large."""
    (found,) = [each for each in lab.status()["nodes"] if each["name"] == node]
    return int(found["interfaces"][0]["counters"]["reasons"].get("MTU_EXCEEDED", 0))


@behaviour(
    "A packet over 8500 bytes is dropped at a gateway load balancer endpoint, and nobody is told", end_to_end=True
)
def test_8500_bytes_pass_and_8501_are_dropped(east_west: Lab) -> None:
    assert east_west["shop"].ping("10.80.2.10", size_bytes=8500 - 28, dont_fragment=True).received == 1
    before = drops(east_west, "shop")
    result = east_west["shop"].ping("10.80.2.10", size_bytes=8501 - 28, dont_fragment=True, timeout_s=0.7)
    assert result.received == 0
    assert "mtu" not in result.output.lower()
    eventually(lambda: drops(east_west, "shop") == before + 1, "it is counted")


def test_subnets_talk_through_the_firewall_and_neighbours_do_not(east_west: Lab) -> None:
    shop, neighbour, db = map(socket.inet_aton, ("10.80.1.10", "10.80.1.11", "10.80.2.10"))
    before = counters(east_west, "fw")["returned"]
    assert connects(east_west, "shop", "10.80.2.10", 5432)
    assert "ttl=62" in east_west["shop"].ping("10.80.2.10").output
    assert counters(east_west, "fw")["returned"] >= before + 5
    with east_west["fw"].sniffer() as line:
        assert "ttl=64" in east_west["shop"].ping("10.80.1.11").output
        assert east_west["shop"].ping("10.80.2.10")
        came = list(line.frames(1, where=lambda frame: shop + db in frame))
        came += line.frames(0, 0.0)
    assert came, "what is for another subnet"
    assert not [frame for frame in came if neighbour in frame]
    assert is_silent(east_west, "shop", "10.80.2.10", 23)


@behaviour(
    "TCP with 9001-byte interfaces does not stall at an endpoint: its SYNs are told a smaller segment size",
    end_to_end=True,
)
def test_bulk_tcp_does_not_stall(east_west: Lab) -> None:
    report: dict[str, Any] = {}

    def slowest_second() -> float:
        server = east_west["db"].popen(["iperf3", "-s", "-1", "-p", "5201"], stdout=subprocess.DEVNULL)
        try:
            eventually(lambda: listens(east_west, "db", 5201), "iperf3 listens")
            done = east_west["shop"].run(["iperf3", "-J", "-c", "10.80.2.10", "-p", "5201", "-t", "3"], check=True)
        finally:
            server.terminate()
            server.wait(timeout=10)
        report.update(json.loads(done.stdout))
        return min(rates(report))

    assert best_of(slowest_second, 10e6) > 10e6
    assert report["start"]["tcp_mss_default"] <= 8460


def listens(lab: Lab, node: str, port: int) -> bool:
    """Whether somebody listens on a TCP port of a node, as its kernel says."""
    return f":{port:04X} " in lab[node].run(["cat", "/proc/net/tcp", "/proc/net/tcp6"]).stdout


def test_a_one_sided_route_is_named(east_west: Lab) -> None:
    """Answers that come by the endpoint though the requests did not: nobody there knows the connection."""
    file = YAML(typ="safe", pure=True).load(EXAMPLES / "inspection-east-west.yaml")
    del file["vpcs"]["company"]["route_tables"]["app"]["routes"]
    east_west.apply(file)
    try:
        assert is_silent(east_west, "shop", "10.80.2.10", 5432)
        trace = east_west.trace("shop", "10.80.2.10", protocol="tcp", port=5432)
        assert trace.reply is not None
        assert trace.reply.reason is Reason.BALANCER_NO_FLOW
    finally:
        east_west.apply(EXAMPLES / "inspection-east-west.yaml")
    assert connects(east_west, "shop", "10.80.2.10", 5432)


def test_an_endpoint_that_waits_for_acceptance_is_named(east_west: Lab) -> None:
    file = YAML(typ="safe", pure=True).load(EXAMPLES / "inspection-east-west.yaml")
    file["vpcs"]["security"]["endpoint_services"]["firewalls"]["acceptance_required"] = True
    east_west.apply(file)
    try:
        assert is_silent(east_west, "shop", "10.80.2.10", 5432)
        trace = east_west.trace("shop", "10.80.2.10", protocol="tcp", port=5432)
        assert trace.forward.reason is Reason.ENDPOINT_UNAVAILABLE
    finally:
        east_west.apply(EXAMPLES / "inspection-east-west.yaml")
    assert connects(east_west, "shop", "10.80.2.10", 5432)


# -- two zones, two tenants


def test_each_zone_uses_its_own_firewalls(two_az: Lab) -> None:
    for client, zone in (("one-a", "a"), ("one-b", "b"), ("two-a", "a")):
        with Conversation(two_az, "site", "198.51.100.80", 9000, client=client) as line:
            assert line.works()
            assert target_of(two_az, line).startswith(f"fw-{zone}")


def test_equal_tuples_of_two_tenants_do_not_mix(two_az: Lab) -> None:
    with (
        Conversation(two_az, "site", "198.51.100.80", 9001, client="one-a", own_port=40000) as one,
        Conversation(two_az, "site", "198.51.100.80", 9002, client="two-a", own_port=40000) as two,
    ):
        assert (one.seen_as, two.seen_as) == ("203.0.113.91", "203.0.113.93")
        assert one.works()
        assert two.works()
    with datagrams(two_az, "one-a", "site", "198.51.100.80", 9003) as line:
        line.near.close()
        line.near = bound(two_az, "one-a", 40001)
        other = bound(two_az, "two-a", 40001)
        assert line.ask(b"one")
        assert line.peer == ("203.0.113.91", 40001)
        assert line.answer(b"to one")
        other.sendto(b"two", ("198.51.100.80", 9003))
        line.far.settimeout(20)
        heard, peer = line.far.recvfrom(100)
        assert (heard, peer[0]) == (b"two", "203.0.113.93")
        line.far.sendto(b"to two", peer)
        other.settimeout(20)
        assert other.recv(100) == b"to two"
        other.close()


def bound(lab: Lab, node: str, port: int) -> socket.socket:
    """A UDP socket of a node at a port of its own."""
    found = lab[node].socket(socket.AF_INET, socket.SOCK_DGRAM)
    found.bind(("", port))
    return found


def try_out(lab: Lab, example: str, word: str) -> None:
    """Run the line with a word under "What to try" in an example, as it stands there."""
    text = (EXAMPLES / f"{example}.yaml").read_text()
    (line,) = [line for line in text.splitlines() if line.startswith("#   vpclab ") and word in line]
    command = f'vpclab() {{ "$PYTHON" -P -m vpclab --lab {lab.name} "$@"; }}\n{line.removeprefix("#")}'
    subprocess.run(["sh", "-c", command], env={**os.environ, "PYTHON": sys.executable}, check=True, timeout=30)


def health_page(lab: Lab, name: str) -> str:
    """What a firewall answers to a health check."""
    return lab[name].run(["curl", "-s", "-m", "20", "http://127.0.0.1/"], check=True).stdout.strip()


def test_a_zone_without_healthy_targets(two_az: Lab) -> None:
    try_out(two_az, "gwlb-two-az", "pkill")
    try:
        eventually(lambda: states(two_az)["fw-b1"] == "unhealthy", "it is unhealthy", deadline_s=90)
        assert states(two_az) == {"fw-a1": "healthy", "fw-a2": "healthy", "fw-b1": "unhealthy"}
        answers = {name: health_page(two_az, name) for name in ("fw-a1", "fw-a2", "fw-b1")}
        assert answers == {"fw-a1": "healthy", "fw-a2": "healthy", "fw-b1": "unhealthy"}
        assert connects(two_az, "one-b", "198.51.100.80", 80), "fw-b1 goes on, whatever its page says"
        assert connects(two_az, "one-a", "198.51.100.80", 80)
        file = YAML(typ="safe", pure=True).load(EXAMPLES / "gwlb-two-az.yaml")
        file["vpcs"]["security"]["gateway_load_balancers"]["fleet"]["cross_zone"] = True
        two_az.apply(file)
        assert connects(two_az, "one-b", "198.51.100.80", 80)
    finally:
        try_out(two_az, "gwlb-two-az", "pkill")
        two_az.apply(EXAMPLES / "gwlb-two-az.yaml")
    await_health(two_az)
