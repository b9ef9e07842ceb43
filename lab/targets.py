"""Targets of load balancers in a running lab, as rows of plain values: how they are, and what they carry now."""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from dataclasses import dataclass
from ipaddress import IPv4Address
from typing import Any

from dataplane.engine import DataPlane
from dataplane.model._placed import PlacedInterface
from dataplane.topology import Topology
from dataplane.topology.runtime_state import HEALTHY, TargetHealth
from lab.control import RequestError

DRAINING = TargetHealth(
    state="draining",
    reason="Target.DeregistrationInProgress",
    description="Target deregistration is in progress",
)
NOT_REGISTERED = TargetHealth(
    state="unused",
    reason="Target.NotRegistered",
    description="Target is not registered to the target group",
)


def find_balancer(topology: Topology, name: str) -> tuple[str, str]:
    """The VPC and name of a gateway load balancer, given as ``VPC/NAME``, or by its name if that is no other's.

    Raises:
        RequestError: there is none, or several.
    """
    known = [(vpc, each) for vpc, declared in topology.lab.vpcs.items() for each in declared.gateway_load_balancers]
    found = [(vpc, each) for vpc, each in known if name in (each, f"{vpc}/{each}")]
    if len(found) == 1:
        return found[0]
    paths = [f"{vpc}/{each}" for vpc, each in found or known]
    if found:
        raise RequestError(f"several load balancers are called {name}: say {' or '.join(paths)}")
    if not known:
        raise RequestError("the lab has no gateway load balancer")
    nearest = difflib.get_close_matches(name, [*paths, *(each for _, each in known)], n=1)
    hint = f"did you mean {nearest[0]}?" if nearest else f"there is {', '.join(paths)}"
    raise RequestError(f"no gateway load balancer {name!r}; {hint}")


def devices(topology: Topology, vpc: str, balancer: str) -> dict[str, tuple[IPv4Address, PlacedInterface]]:
    """Address and interface of each target of a load balancer, registered or draining, that is an instance of the lab.

    Each address is that of one target, which is the registered one if there is a choice.
    """
    group = topology.vpc(vpc).gateway_load_balancers[balancer].target_group
    names = {each.address: each.name for each in topology.vpc(vpc).target_groups[group].placed(topology, vpc)}
    for former in topology.runtime.former.get((vpc, group), ()):
        names.setdefault(former.address, former.name)
    found = {name: (address, _interface_at(topology, vpc, address)) for address, name in names.items()}
    return {name: (address, interface) for name, (address, interface) in found.items() if interface is not None}


def _interface_at(topology: Topology, vpc: str, address: IPv4Address) -> PlacedInterface | None:
    """Whose address it is, as seen from a VPC: of its own interfaces, then of those of VPCs that it is peered with."""
    peers = [p.other(vpc) for p in topology.lab.peerings.values() if p.is_active and vpc in (p.requester, p.accepter)]
    for near in (vpc, *(peer for peer in peers if peer in topology.lab.vpcs)):
        for interface in topology.interfaces_of_vpc(near):
            if interface.is_attached and address in interface.addresses4:
                return interface
    return None


@dataclass(slots=True)
class _Load:
    """What the flows of a target have carried, both ways."""

    flows: int = 0
    packets: int = 0
    bytes: int = 0


def targets(data_plane: DataPlane) -> list[dict[str, Any]]:
    """Every target of every target group, then those that have left it but still have flows, or a delay to wait for.

    Flows, packets and bytes are those of the flows that it has now.
    """
    topology = data_plane.topology
    state, loads = topology.runtime, _loads(data_plane)
    rows = []
    for vpc, declared in topology.lab.vpcs.items():
        for name, group in declared.target_groups.items():
            balancers = [each for each, b in declared.gateway_load_balancers.items() if b.target_group == name]
            common = {"target_group": f"{vpc}/{name}", "load_balancers": [f"{vpc}/{each}" for each in balancers]}
            for target in group.placed(topology, vpc):
                health = state.health.get((vpc, name, target.name), HEALTHY)
                load = loads.get(f"{vpc}/{name}/{target.name}", _Load())
                rows.append({**common, **_row(target.name, str(target.address), target.zone, health, load)})
            for former in state.former.get((vpc, name), ()):
                load = loads.get(f"{vpc}/{name}/{former.name}", _Load())
                health = NOT_REGISTERED if former.drained else DRAINING
                if not former.drained or load.flows:
                    rows.append({**common, **_row(former.name, str(former.address), former.zone, health, load)})
    return rows


def _row(name: str, address: str, zone: str, health: TargetHealth, load: _Load) -> dict[str, Any]:
    return {
        "target": name,
        "address": address,
        "zone": zone or None,
        "state": health.state,
        "reason": health.reason or None,
        "description": health.description or None,
        "flows": load.flows,
        "packets": load.packets,
        "bytes": load.bytes,
    }


def _loads(data_plane: DataPlane) -> Mapping[str, _Load]:
    """By ``VPC/GROUP/TARGET``."""
    loads: dict[str, _Load] = {}
    for session in data_plane.engine.sessions():
        if session["kind"] == "balancer":
            load = loads.setdefault(data_plane.names[session["target"]].path, _Load())
            load.flows += 1
            load.packets += sum(session["packets"])
            load.bytes += sum(session["bytes"])
    return loads
