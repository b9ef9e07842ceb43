from __future__ import annotations

from ipaddress import IPv4Address, IPv6Address
from pathlib import Path

import pytest

from dataplane.load import load
from dataplane.names import Names
from lab.node_plan import InterfacePlan, NodePlan
from lab.planning import plan_nodes

EXAMPLES = Path(__file__).parents[3] / "examples"


def planned(example: str) -> tuple[dict[str, NodePlan], Names]:
    path = EXAMPLES / f"{example}.yaml"
    names = Names()
    plans = plan_nodes(load(path.read_text(), file_name=str(path)).topology(), names)
    return {plan.name: plan for plan in plans}, names


@pytest.fixture(scope="module")
def quickstart() -> tuple[dict[str, NodePlan], Names]:
    return planned("quickstart")


def test_every_instance_and_host_is_a_node(quickstart: tuple[dict[str, NodePlan], Names]) -> None:
    plans, _ = quickstart
    assert list(plans) == ["web", "app", "db", "example", "visitor"]


def test_an_instance_has_its_subnets_prefix_and_router(quickstart: tuple[dict[str, NodePlan], Names]) -> None:
    plans, names = quickstart
    (eth0,) = plans["app"].interfaces
    assert eth0 == InterfacePlan(
        port=names.find("interface", "app/eth0"),
        device="eth0",
        mac=eth0.mac,
        addresses=((IPv4Address("10.0.2.10"), 24),),
        gateway4=IPv4Address("10.0.2.1"),
        gateway6=None,
        mtu=9001,
    )
    assert eth0.port != 0
    assert (len(eth0.mac), eth0.mac[0]) == (6, 2)


def test_an_internet_host_is_alone_on_its_link(quickstart: tuple[dict[str, NodePlan], Names]) -> None:
    plans, _ = quickstart
    (eth0,) = plans["visitor"].interfaces
    assert eth0.addresses == ((IPv4Address("198.51.100.77"), 32),)
    assert (eth0.gateway4, eth0.mtu) == (IPv4Address("169.254.0.1"), 1500)


def test_macs_and_ports_are_unique(quickstart: tuple[dict[str, NodePlan], Names]) -> None:
    interfaces = [interface for plan in quickstart[0].values() for interface in plan.interfaces]
    assert len({interface.mac for interface in interfaces}) == len(interfaces)
    assert len({interface.port for interface in interfaces}) == len(interfaces)


def test_names_mean_private_addresses_inside_and_public_ones_outside(
    quickstart: tuple[dict[str, NodePlan], Names],
) -> None:
    plans, _ = quickstart
    web, peer, outside = (plans[name].hosts.get("web") for name in ("app", "db", "visitor"))
    assert web == peer == (IPv4Address("10.0.1.10"),)
    assert outside == (IPv4Address("203.0.113.20"),)
    assert "app" not in plans["visitor"].hosts
    assert plans["app"].hosts["example"] == (IPv4Address("198.51.100.10"),)


def test_nodes_of_a_vpc_share_one_book_of_names(quickstart: tuple[dict[str, NodePlan], Names]) -> None:
    plans, _ = quickstart
    assert plans["web"].hosts is plans["app"].hosts
    assert plans["example"].hosts is plans["visitor"].hosts


def test_programs_with_their_checks(quickstart: tuple[dict[str, NodePlan], Names]) -> None:
    (http,) = quickstart[0]["web"].programs
    assert (http.name, http.command[0], http.ready_tcp, http.restart) == ("http", "python3", 80, "always")


def test_dual_stack_nodes_leave_by_the_routers_link_local_address() -> None:
    plans, _ = planned("dual-stack")
    dual = [
        interface
        for plan in plans.values()
        for interface in plan.interfaces
        if any(address.version == 6 for address, _ in interface.addresses)
    ]
    assert dual
    for interface in dual:
        assert isinstance(interface.gateway6, IPv6Address)
        assert interface.gateway6.is_link_local


def test_planning_again_gives_equal_plans(quickstart: tuple[dict[str, NodePlan], Names]) -> None:
    assert planned("quickstart")[0] == quickstart[0]
