"""Targets of load balancers in a running lab, as rows of plain values: how they are, and what they carry now."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from dataplane.engine import DataPlane
from dataplane.topology.runtime_state import HEALTHY, TargetHealth

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
