from __future__ import annotations

from ipaddress import IPv4Address, IPv4Network, IPv6Address
from pathlib import Path

import pytest

from dataplane.load import load
from dataplane.names import Names
from dataplane.topology import Topology
from lab.node_plan import InterfacePlan, NodePlan
from lab.planning import plan_checkers, plan_nodes

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


WORKERS = """
version: 1
vpcs: {v: {cidr: 10.0.0.0/16, subnets: {s: {cidr: 10.0.1.0/24}}}}
instances:
  a:
    vpc: v
    subnet: s
    environment: {LEVEL: "1"}
    programs:
      worker:
        command: [work]
        ready: {command: [test, -f, /run/ready]}
        environment: {LEVEL: "2"}
        working_directory: /srv
      other: {command: [idle]}
"""


def test_programs_are_ready_by_a_command_by_a_port_or_at_once() -> None:
    [plan] = plan_nodes(load(WORKERS, file_name="lab.yaml").topology(), Names())
    worker, other = plan.programs
    assert (worker.command, worker.ready_tcp, worker.ready_command) == (("work",), None, ("test", "-f", "/run/ready"))
    assert (plan.environment, worker.environment, worker.working_directory) == ({"LEVEL": "1"}, {"LEVEL": "2"}, "/srv")
    assert (other.ready_tcp, other.ready_command, dict(other.environment)) == (None, None, {})


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


LAB = """
version: 1
region: eu-west-1
vpcs:
  sec:
    cidr: 10.9.0.0/16
    subnets:
      a: {cidr: 10.9.1.0/24, availability_zone: a}
      b: {cidr: 10.9.2.0/24, availability_zone: b}
    gateway_load_balancers:
      lb: {subnets: [a, b], target_group: fleet, private_ips: {a: 10.9.1.20}}
    target_groups:
      fleet: {targets: [fw]}
instances:
  fw: {vpc: sec, subnet: a, private_ip: 10.9.1.10, attach: "netns:/run/netns/fw"}
  vm: {vpc: sec, subnet: a, private_ip: 10.9.1.11, attach: "tap:vm0"}
aws_services:
  s3: {programs: {http: {command: [python3, -m, http.server]}}}
"""


@pytest.fixture(scope="module")
def topology() -> Topology:
    return load(LAB, file_name="lab.yaml").topology()


def test_services_are_nodes_with_the_names_that_clients_use(topology: Topology) -> None:
    plans = {plan.name: plan for plan in plan_nodes(topology, Names())}
    assert list(plans) == ["fw", "vm", "s3"]
    (eth0,) = plans["s3"].interfaces
    (address,) = plans["fw"].hosts["s3"]
    assert eth0.addresses == ((address, 32),)
    assert plans["fw"].hosts["s3.eu-west-1.amazonaws.com"] == (address,)
    assert plans["s3"].hosts["s3"] == (address,)
    assert [program.name for program in plans["s3"].programs] == ["http"]


def test_every_node_of_a_load_balancer_has_a_hidden_checker(topology: Topology) -> None:
    names = Names()
    first, second = plan_checkers(topology, names, Path("/state"))
    (eth0,) = first.interfaces
    assert eth0.port == names.find("gateway-load-balancer-node", "sec/lb/a")
    assert eth0.addresses == ((IPv4Address("10.9.1.20"), 24),)
    assert eth0.gateway4 == IPv4Address("10.9.1.1")
    assert first.name == f"_balancer-{eth0.port}"
    assert first.hidden
    assert second.interfaces[0].addresses[0][0] in IPv4Network("10.9.2.0/24")
    (program,) = second.programs
    assert program.command[-2:] == ("/state", "sec/lb/b")
    assert program.restart == "always"
    # The data plane knows the same port.
    assert {context.number for context in topology.lower(names).contexts} >= {eth0.port, second.interfaces[0].port}


def test_devices_of_the_user(topology: Topology) -> None:
    plans = {plan.name: plan for plan in plan_nodes(topology, Names())}
    fw, vm = plans["fw"], plans["vm"]
    assert (fw.attach, fw.interfaces[0].kernel_device) == ("netns:/run/netns/fw", "eth0")
    assert (vm.attach, vm.interfaces[0].device, vm.interfaces[0].kernel_device) == ("tap:vm0", "eth0", "vm0")
