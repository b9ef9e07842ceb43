"""Each example does what its comments say, with real kernels and real programs."""

from __future__ import annotations

import socket
from collections.abc import Iterator

import pytest

from dataplane.verdict import Reason
from tests.e2e.conftest import EXAMPLES
from vpclab import Lab


def lab_of(name: str) -> Iterator[Lab]:
    with Lab.load(EXAMPLES / f"{name}.yaml") as lab:
        yield lab


@pytest.fixture(scope="module")
def three_tier() -> Iterator[Lab]:
    yield from lab_of("three-tier")


@pytest.fixture(scope="module")
def overlapping() -> Iterator[Lab]:
    yield from lab_of("overlapping")


@pytest.fixture(scope="module")
def dual_stack() -> Iterator[Lab]:
    yield from lab_of("dual-stack")


def connects(lab: Lab, source: str, address: str, port: int) -> bool:
    """Whether a TCP connection is made; silence is False, a refusal is an error of the test."""
    try:
        lab[source].connect(address, port, timeout_s=1.0).close()
    except TimeoutError:
        return False
    return True


def peer_seen(lab: Lab, client: str, server: str, address: str, port: int = 8888) -> str:
    """Connect from client to a socket that listens in server; the client's address as the server sees it."""
    listener = lab[server].socket()
    with listener:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(("", port))
        listener.listen()
        listener.settimeout(5)
        with lab[client].connect(address, port):
            accepted, (peer, _) = listener.accept()
            accepted.close()
            return str(peer)


# -- three tiers


@pytest.mark.parametrize("address", ["203.0.113.21", "203.0.113.22"])
def test_customers_reach_the_web_tier_only(three_tier: Lab, address: str) -> None:
    assert connects(three_tier, "customer", address, 80)
    assert not connects(three_tier, "customer", address, 5432)


def test_each_tier_reaches_the_next_and_not_the_one_after(three_tier: Lab) -> None:
    assert connects(three_tier, "web-a", "10.20.11.10", 8080)
    assert connects(three_tier, "app-b", "10.20.20.10", 5432)
    assert not connects(three_tier, "web-a", "10.20.20.10", 5432)
    assert not connects(three_tier, "data-a", "10.20.10.10", 8080)
    assert three_tier.trace("data-a", "10.20.10.10", protocol="tcp", port=8080).forward.reason is Reason.GROUP_EGRESS


def test_the_data_tier_replicates_between_zones_and_has_no_way_out(three_tier: Lab) -> None:
    assert connects(three_tier, "data-a", "10.20.21.10", 5432)
    assert not connects(three_tier, "data-a", "198.51.100.80", 80)


@pytest.mark.parametrize(("client", "seen"), [("app-a", "203.0.113.11"), ("app-b", "203.0.113.12")])
def test_each_zone_leaves_by_its_own_nat_gateway(three_tier: Lab, client: str, seen: str) -> None:
    assert peer_seen(three_tier, client, "packages", "198.51.100.80") == seen


# -- one CIDR, two VPCs


def fetched(lab: Lab, source: str, address: str) -> str:
    done = lab[source].run(["curl", "-sS", "--max-time", "3", f"http://{address}/"])
    return done.stdout.strip()


def test_two_vpcs_with_one_cidr_do_not_mix(overlapping: Lab) -> None:
    assert fetched(overlapping, "visitor", "203.0.113.20") == "hello from blue-web"
    assert fetched(overlapping, "visitor", "203.0.113.30") == "hello from green-web"


def test_only_the_peered_one_reaches_the_shared_services(overlapping: Lab) -> None:
    assert fetched(overlapping, "blue-web", "10.100.1.10") == "hello from tools"
    assert not connects(overlapping, "green-web", "10.100.1.10", 80)
    trace = overlapping.trace("green-web", "10.100.1.10", protocol="tcp", port=80)
    assert trace.forward.reason is Reason.PRIVATE_DESTINATION


def test_the_shared_services_answer_to_the_peered_one(overlapping: Lab) -> None:
    with overlapping["green-web"].sniffer() as line:
        assert overlapping["tools"].ping("10.0.1.10").received == 1
        assert not list(line.frames(1, 0.2, where=lambda f: f[12:14] == b"\x08\x00"))


def test_twins_reach_each_other_by_public_address(overlapping: Lab) -> None:
    assert fetched(overlapping, "blue-web", "203.0.113.30") == "hello from green-web"
    assert peer_seen(overlapping, "green-web", "visitor", "198.51.100.77") == "203.0.113.30"


# -- both families


@pytest.mark.parametrize("address", ["203.0.113.40", "2001:db8:40:1::10"])
def test_clients_reach_web_over_either_family(dual_stack: Lab, address: str) -> None:
    assert connects(dual_stack, "client", address, 80)
    assert dual_stack["client"].ping(address).received == 1


@pytest.mark.parametrize("address", ["10.50.1.10", "2001:db8:50:1::10"])
def test_peering_carries_both_families(dual_stack: Lab, address: str) -> None:
    assert dual_stack["web"].ping(address).received == 1
    assert connects(dual_stack, "batch", address, 5432)
    assert not dual_stack["batch"].ping(address)


def test_ipv4_of_the_private_subnet_leaves_by_nat_and_ipv6_has_no_way_out(dual_stack: Lab) -> None:
    assert connects(dual_stack, "batch", "198.51.100.10", 80)
    assert not connects(dual_stack, "batch", "2001:db8:ffff::10", 80)
    assert dual_stack.trace("batch", "2001:db8:ffff::10", protocol="tcp", port=80).forward.reason is Reason.NO_ROUTE


def test_jumbo_ping_over_ipv6(dual_stack: Lab) -> None:
    assert dual_stack["web"].ping("2001:db8:50:1::10", size_bytes=8953, dont_fragment=True).received == 1


def test_ipv6_path_mtu_discovery(dual_stack: Lab) -> None:
    result = dual_stack["web"].ping("2001:db8:ffff::10", size_bytes=1600, dont_fragment=True)
    assert "mtu=1500" in result.output.replace(" ", ""), result.output
    assert dual_stack["web"].ping("2001:db8:ffff::10", size_bytes=1600).received == 1
