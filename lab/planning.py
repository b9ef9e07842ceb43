"""From a topology to what the runtime must build: plans of instances, internet hosts, AWS services, health checkers."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from ipaddress import IPv4Address
from pathlib import Path

from dataplane import limits
from dataplane.model._known_names import names_seen_from
from dataplane.model._placed import PlacedHost, PlacedInterface
from dataplane.model.aws_service import AwsService
from dataplane.model.internet_host import InternetHost
from dataplane.model.program_spec import ProgramSpec, ReadyCommand, ReadyTcp
from dataplane.names import Names
from dataplane.topology import Topology
from lab.interpreter import command
from lab.node_plan import TAP, Address, InterfacePlan, NodePlan, ProgramPlan, is_tap

ON_LINK_GATEWAY = IPv4Address("169.254.0.1")
"""Next hop of internet hosts: their link is point-to-point, and the router answers ARP for any address."""

BALANCER_NODE = "gateway-load-balancer-node"
"""Kind of a load balancer node's interface in `Names`; the path is ``VPC/NAME/SUBNET``."""


def plan_nodes(topology: Topology, names: Names) -> list[NodePlan]:
    """Return a plan for each instance, then each internet host, then each AWS service, in file order."""
    books = {vpc: names_seen_from(topology, vpc) for vpc in topology.lab.vpcs}
    outside = names_seen_from(topology, None)
    plans = []
    for name, instance in topology.lab.instances.items():
        plans.append(
            NodePlan(
                name=name,
                interfaces=tuple(
                    _interface(each, names.intern("interface", each.path), instance.attach)
                    for each in topology.interfaces_of(name)
                ),
                hosts=books[instance.vpc],
                environment=instance.environment,
                programs=tuple(_programs(instance.programs)),
                attach=instance.attach or "",
            )
        )
    machines: dict[str, InternetHost | AwsService] = {**topology.lab.internet.hosts, **topology.lab.aws_services}
    for name, host in machines.items():
        plans.append(
            NodePlan(
                name=name,
                interfaces=(_host_interface(topology.host(name), names),),
                hosts=outside,
                environment=host.environment,
                programs=tuple(_programs(host.programs)),
            )
        )
    return plans


def plan_checkers(topology: Topology, names: Names, folder: Path) -> list[NodePlan]:
    """Return a hidden node for each node of a load balancer: it has its address, and its health checker runs there.

    `folder` is the lab's state folder, where the checker finds the daemon (see `lab.health_watch`).
    """
    plans = []
    for vpc, declared in topology.lab.vpcs.items():
        for name in declared.gateway_load_balancers:
            for placed in topology.balancer_nodes(vpc, name).values():
                path = f"{vpc}/{name}/{placed.subnet.name}"
                interface = _interface(placed, names.intern(BALANCER_NODE, path))
                run = ProgramPlan(
                    name="health-checker",
                    command=tuple(command("health_checker", str(folder), path)),
                    restart="always",
                    working_directory="/",
                )
                # Names of users begin with a letter or digit.
                plans.append(
                    NodePlan(name=f"_balancer-{interface.port}", interfaces=(interface,), programs=(run,), hidden=True)
                )
    return plans


def _interface(placed: PlacedInterface, port: int, attach: str | None = None) -> InterfacePlan:
    subnet = placed.subnet
    addresses: list[tuple[Address, int]] = [(a, subnet.cidr.prefixlen) for a in placed.addresses4]
    if subnet.ipv6_cidr is not None:
        addresses += [(a, subnet.ipv6_cidr.prefixlen) for a in placed.addresses6]
    return InterfacePlan(
        port=port,
        device=placed.device,
        mac=placed.mac,
        addresses=tuple(addresses),
        gateway4=subnet.router4,
        gateway6=subnet.router_link_local if placed.addresses6 else None,
        mtu=limits.VPC_MTU,
        link=attach.removeprefix(TAP) if attach is not None and is_tap(attach) else "",
    )


def _host_interface(host: PlacedHost, names: Names) -> InterfacePlan:
    addresses: list[tuple[Address, int]] = [(host.address, 32)]
    if host.ipv6_address is not None:
        addresses.append((host.ipv6_address, 128))
    return InterfacePlan(
        port=names.intern("interface", host.path),
        device="eth0",
        mac=host.mac,
        addresses=tuple(addresses),
        gateway4=ON_LINK_GATEWAY,
        gateway6=host.router_link_local if host.ipv6_address is not None else None,
        mtu=limits.INTERNET_MTU,
    )


def _programs(programs: Mapping[str, ProgramSpec]) -> Iterator[ProgramPlan]:
    for name, spec in programs.items():
        yield ProgramPlan(
            name=name,
            command=spec.command,
            environment=spec.environment,
            working_directory=spec.working_directory,
            ready_tcp=spec.ready.tcp if isinstance(spec.ready, ReadyTcp) else None,
            ready_command=spec.ready.command if isinstance(spec.ready, ReadyCommand) else None,
            restart=spec.restart,
        )
