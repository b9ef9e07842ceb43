"""Each example does what its comments say, with real kernels and real programs."""

from __future__ import annotations

import re
import socket
from collections.abc import Iterator

import pytest
from ruamel.yaml import YAML

from dataplane.verdict import Reason
from tests.conformance.behaviours import behaviour
from tests.e2e.conftest import EXAMPLES
from tests.e2e.conversation import connects, is_silent, peer_seen
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


@pytest.fixture(scope="module")
def inspection() -> Iterator[Lab]:
    yield from lab_of("inspection")


@pytest.fixture(scope="module")
def ipv6_egress() -> Iterator[Lab]:
    yield from lab_of("ipv6-egress")


# -- three tiers


@pytest.mark.parametrize("address", ["203.0.113.21", "203.0.113.22"])
def test_customers_reach_the_web_tier_only(three_tier: Lab, address: str) -> None:
    assert connects(three_tier, "customer", address, 80)
    assert is_silent(three_tier, "customer", address, 5432)


def test_each_tier_reaches_the_next_and_not_the_one_after(three_tier: Lab) -> None:
    assert connects(three_tier, "web-a", "10.20.11.10", 8080)
    assert connects(three_tier, "app-b", "10.20.20.10", 5432)
    assert is_silent(three_tier, "web-a", "10.20.20.10", 5432)
    assert is_silent(three_tier, "data-a", "10.20.10.10", 8080)
    assert three_tier.trace("data-a", "10.20.10.10", protocol="tcp", port=8080).forward.reason is Reason.GROUP_EGRESS


def test_the_data_tier_replicates_between_zones_and_has_no_way_out(three_tier: Lab) -> None:
    assert connects(three_tier, "data-a", "10.20.21.10", 5432)
    assert is_silent(three_tier, "data-a", "198.51.100.80", 80)


@pytest.mark.parametrize(("client", "seen"), [("app-a", "203.0.113.11"), ("app-b", "203.0.113.12")])
def test_each_zone_leaves_by_its_own_nat_gateway(three_tier: Lab, client: str, seen: str) -> None:
    assert peer_seen(three_tier, client, "packages", "198.51.100.80")[0] == seen


# -- one CIDR, two VPCs


def fetched(lab: Lab, source: str, address: str) -> str:
    done = lab[source].run(["curl", "-sS", "--max-time", "20", f"http://{address}/"])
    return done.stdout.strip()


@behaviour("Two VPCs with the same block know nothing of each other", end_to_end=True)
def test_two_vpcs_with_one_cidr_do_not_mix(overlapping: Lab) -> None:
    assert fetched(overlapping, "visitor", "203.0.113.20") == "hello from blue-web"
    assert fetched(overlapping, "visitor", "203.0.113.30") == "hello from green-web"


def test_only_the_peered_one_reaches_the_shared_services(overlapping: Lab) -> None:
    assert fetched(overlapping, "blue-web", "10.100.1.10") == "hello from tools"
    assert is_silent(overlapping, "green-web", "10.100.1.10", 80)
    trace = overlapping.trace("green-web", "10.100.1.10", protocol="tcp", port=80)
    assert trace.forward.reason is Reason.PRIVATE_DESTINATION


def test_the_shared_services_answer_to_the_peered_one(overlapping: Lab) -> None:
    with overlapping["green-web"].sniffer() as line:
        assert overlapping["tools"].ping("10.0.1.10").received == 1
        assert not list(line.frames(1, 0.2, where=lambda f: f[12:14] == b"\x08\x00"))


def test_twins_reach_each_other_by_public_address(overlapping: Lab) -> None:
    assert fetched(overlapping, "blue-web", "203.0.113.30") == "hello from green-web"
    assert peer_seen(overlapping, "green-web", "visitor", "198.51.100.77")[0] == "203.0.113.30"


# -- both families


@pytest.mark.parametrize("address", ["203.0.113.40", "2001:db8:40:1::10"])
def test_clients_reach_web_over_either_family(dual_stack: Lab, address: str) -> None:
    assert connects(dual_stack, "client", address, 80)
    assert dual_stack["client"].ping(address).received == 1


@pytest.mark.parametrize("address", ["10.50.1.10", "2001:db8:50:1::10"])
def test_peering_carries_both_families(dual_stack: Lab, address: str) -> None:
    assert dual_stack["web"].ping(address).received == 1
    assert connects(dual_stack, "batch", address, 5432)
    assert not dual_stack["batch"].ping(address, timeout_s=1)


def test_ipv4_of_the_private_subnet_leaves_by_nat_and_ipv6_has_no_way_out(dual_stack: Lab) -> None:
    assert connects(dual_stack, "batch", "198.51.100.10", 80)
    assert is_silent(dual_stack, "batch", "2001:db8:ffff::10", 80)
    assert dual_stack.trace("batch", "2001:db8:ffff::10", protocol="tcp", port=80).forward.reason is Reason.NO_ROUTE


def test_jumbo_ping_over_ipv6(dual_stack: Lab) -> None:
    assert dual_stack["web"].ping("2001:db8:50:1::10", size_bytes=8953, dont_fragment=True).received == 1


@behaviour("An IPv6 packet over 1500 bytes for the internet is answered with packet too big, MTU 1500", end_to_end=True)
def test_ipv6_path_mtu_discovery(dual_stack: Lab) -> None:
    result = dual_stack["web"].ping("2001:db8:ffff::10", size_bytes=1600, dont_fragment=True)
    assert "mtu=1500" in result.output.replace(" ", ""), result.output
    assert dual_stack["web"].ping("2001:db8:ffff::10", size_bytes=1600).received == 1


# -- a firewall in front of a subnet

WEB, WEB_PUBLIC, FIREWALL, CUSTOMER = "10.60.1.10", "203.0.113.60", "10.60.9.10", "198.51.100.77"


@behaviour(
    "With an edge route for its subnet to an appliance, what the internet sends an instance goes to the "
    "appliance, already translated to the instance's private address",
    end_to_end=True,
)
def test_what_comes_in_passes_the_firewall_first(inspection: Lab) -> None:
    def tcp(frame: bytes) -> bool:
        return frame[12:14] == b"\x08\x00" and frame[23] == socket.IPPROTO_TCP

    with inspection["fw"].sniffer() as at_fw, inspection["web"].sniffer() as at_web:
        inspection["customer"].connect(WEB_PUBLIC, 80).close()
        first = next(at_fw.frames(1, where=tcp))
        second = next(at_web.frames(1, where=tcp))
    ends = socket.inet_aton(CUSTOMER) + socket.inet_aton(WEB)
    assert (first[26:34], second[26:34]) == (ends, ends)
    assert (first[22] - second[22]) == 1, "the firewall's kernel is a hop"
    with inspection["customer"].sniffer() as outside:
        inspection["web"].connect(CUSTOMER, 80).close()
        assert socket.inet_ntoa(next(outside.frames(1, where=tcp))[26:30]) == WEB_PUBLIC


def test_the_firewall_decides_and_counts(inspection: Lab) -> None:
    assert connects(inspection, "customer", WEB_PUBLIC, 80)
    assert is_silent(inspection, "customer", WEB_PUBLIC, 8080)
    assert inspection["customer"].ping(WEB_PUBLIC)
    rules = inspection["fw"].run(["nft", "list", "ruleset"], check=True).stdout
    assert int(re.search(r"counter packets (\d+) .*everything else", rules)[1]) > 0  # type: ignore[index]
    trace = inspection.trace("customer", WEB_PUBLIC, protocol="tcp", port=8080)
    assert trace.assumed == ("fw",), "whether it sends that on is its own business"


@behaviour(
    "A subnet whose incoming traffic the edge table redirects cannot use a direct route to the internet gateway",
    end_to_end=True,
)
def test_no_way_around_the_firewall(inspection: Lab) -> None:
    declared = YAML(typ="safe", pure=True).load(EXAMPLES / "inspection.yaml")
    assert inspection["web"].ping(CUSTOMER)
    declared["vpcs"]["site"]["route_tables"]["app"]["routes"][0]["target"] = "internet-gateway"
    inspection.apply(declared)
    try:
        assert not inspection["web"].ping(CUSTOMER, timeout_s=0.5)
        assert is_silent(inspection, "customer", WEB_PUBLIC, 80)
        trace = inspection.trace("web", CUSTOMER, protocol="icmp")
        assert trace.forward.reason is Reason.EDGE_REDIRECTED
    finally:
        inspection.apply(EXAMPLES / "inspection.yaml")
    assert inspection["web"].ping(CUSTOMER)


def test_routes_show_whose_table_it_is(inspection: Lab) -> None:
    rows = {row["destination"]: row for row in inspection.routes("site/edge")}
    assert rows["10.60.1.0/24"]["gateway"] == "internet-gateway"
    assert rows["10.60.1.0/24"]["target"] == "instance:fw"


# -- out over IPv6, and nobody in

WORKER, LEGACY = "2001:db8:70:2::10", "64:ff9b::198.51.100.20"


def test_workers_call_out_over_ipv6_and_nobody_calls_them(ipv6_egress: Lab) -> None:
    assert connects(ipv6_egress, "worker", "2001:db8:ffff::10", 80)
    assert is_silent(ipv6_egress, "www", WORKER, 80)
    assert not ipv6_egress["www"].ping(WORKER, timeout_s=0.5)
    assert ipv6_egress["worker"].ping("2001:db8:ffff::10")
    remembered = [row for row in ipv6_egress.flows() if row["owner"] == "egress-only-internet-gateway lab"]
    assert {row["protocol"] for row in remembered} == {"tcp", "icmpv6"}
    trace = ipv6_egress.trace("www", WORKER, protocol="tcp", port=80)
    assert str(trace.forward.object) == "egress-only-internet-gateway lab"


def test_a_server_without_ipv6_is_reached_by_nat64(ipv6_egress: Lab) -> None:
    done = ipv6_egress["worker"].run(["curl", "-sS", "-o", "/dev/null", "--max-time", "20", f"http://[{LEGACY}]/"])
    assert done.returncode == 0, done.stderr
    assert peer_seen(ipv6_egress, "worker", "legacy", LEGACY)[0] == "203.0.113.70"
    rows = [row for row in ipv6_egress.nat()["translations"] if row["outside"].startswith("198.51.100.20:")]
    assert rows
    assert all(row["inside"].startswith(f"[{WORKER}]:") for row in rows)


def test_workers_have_no_ipv4_out(ipv6_egress: Lab) -> None:
    assert is_silent(ipv6_egress, "worker", "198.51.100.20", 80)
    assert ipv6_egress.trace("worker", "198.51.100.20", protocol="tcp", port=80).forward.reason is Reason.NO_ROUTE
