"""Routes, NAT gateways, translations and flows of a running lab, as rows of plain values."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from ipaddress import IPv4Address, IPv6Address
from typing import Any

from dataplane.engine import DataPlane
from dataplane.topology import Topology
from dataplane.trace import protocol_name
from lab.control import RequestError


def routes(topology: Topology, table: str | None) -> list[dict[str, Any]]:
    """Effective routes, in the order in which they win only where prefixes are equal (the longest prefix wins).

    Raises:
        RequestError: there is no such table.
    """
    rows = []
    tables = {
        f"{vpc}/{name}": (vpc, name, declared)
        for vpc in topology.lab.vpcs
        for name, declared in topology.vpc(vpc).all_route_tables().items()
    }
    if table is not None and table not in tables:
        raise RequestError(f"no route table {table!r}; there is {', '.join(tables)}")
    for path, (vpc, name, declared) in tables.items():
        if table not in (None, path):
            continue
        subnets = [each.name for each in topology.subnets.values() if (each.vpc, each.route_table) == (vpc, name)]
        gateway = topology.vpc(vpc).internet_gateway
        is_of_gateway = gateway is not None and gateway.route_table == name
        users = {"subnets": subnets, "gateway": "internet-gateway" if is_of_gateway else None}
        effective = list(declared.effective(topology, vpc, name))
        for route in effective:
            active = topology.route_target_label(vpc, route.target) is not None
            rows.append(
                {
                    "table": path,
                    "destination": str(route.prefix),
                    "target": str(route.target),
                    "state": "active" if active else "blackhole",
                    "origin": route.origin,
                    "route": route.name,
                    **users,
                }
            )
        for learned in declared.propagated_routes:
            if (learned.destination, "propagated") in [(each.prefix, each.origin) for each in effective]:
                continue
            rows.append(
                {
                    "table": path,
                    "destination": str(learned.destination),
                    "target": str(learned.target),
                    "state": "not used",
                    "origin": "propagated",
                    "route": f"{learned.destination} (propagated) -> {learned.target}",
                    **users,
                }
            )
    return rows


def mappings(topology: Topology) -> list[dict[str, Any]]:
    """Private addresses and the public ones the internet gateway gives them."""
    owners = {
        (each.subnet.vpc, private): f"{each.kind} {each.path}"
        for each in topology.interfaces
        for private in each.addresses4
    }
    return [
        {
            "gateway": each.vpc,
            "private": str(each.private),
            "public": str(each.public),
            "of": owners.get((each.vpc, each.private), "-"),
            "automatic": each.automatic,
        }
        for each in topology.public_addresses
    ]


def gateways(data_plane: DataPlane, topology: Topology) -> list[dict[str, Any]]:
    """NAT gateways, each with its addresses and its counters under CloudWatch's names."""
    metrics = data_plane.nat_metrics()
    public = _public_addresses(topology)
    rows = []
    for each in topology.interfaces:
        if each.kind != "nat-gateway":
            continue
        vpc = each.subnet.vpc
        addresses = [str(address) for address in each.addresses4]
        seen_as = [public[vpc, address] for address in addresses if (vpc, address) in public]
        rows.append(
            {
                "gateway": each.path,
                "subnet": f"{vpc}/{each.subnet.name}",
                "connectivity": topology.vpc(vpc).nat_gateways[each.path.partition("/")[2]].connectivity,
                "private": addresses,
                "public": seen_as,
                "metrics": dict(metrics[each.path]),
            }
        )
    return rows


def translations(
    data_plane: DataPlane, topology: Topology, *, sessions: Sequence[Mapping[str, Any]] | None = None
) -> list[dict[str, Any]]:
    """Live connections through NAT gateways, the latest first; the outside as the far end knows it.

    `sessions` are those of the engine, for who has asked it already.
    """
    seen_as = _public_addresses(topology)
    rows = []
    for session in _sessions(data_plane, sessions, "nat"):
        gateway = data_plane.names[session["owner"]].path
        family, source, _, protocol, source_port, _ = session["forward"]
        # what the far end sees; of another family than `inside` when it is NAT64
        family_out, far, translated, _, far_port, translated_port = session["reply"]
        own = _address(family_out, translated)
        rows.append(
            {
                "gateway": gateway,
                "protocol": protocol_name(protocol),
                "inside": _end(family, source, source_port),
                "translated": _end(family_out, translated, translated_port),
                "public": seen_as.get((gateway.partition("/")[0], own)),
                "outside": _end(family_out, far, far_port),
                **_times(session),
            }
        )
    return rows


def _public_addresses(topology: Topology) -> dict[tuple[str, str], str]:
    """VPC and private address -> what the internet gateway makes of it."""
    return {(each.vpc, str(each.private)): str(each.public) for each in topology.public_addresses}


def flows(
    data_plane: DataPlane, *, limit: int, sessions: Sequence[Mapping[str, Any]] | None = None
) -> list[dict[str, Any]]:
    """Flows that are remembered, the latest first; `sessions` as of `translations`.

    The owner is the interface whose security groups track it; or a gateway or peering, with its kind in front, that
    lets only answers in; or the endpoint of a gateway load balancer, which sends it to a target.
    """
    rows = []
    for session in _sessions(data_plane, sessions, "group", "flow", "balancer")[:limit]:
        owner = data_plane.names[session["owner"]]
        target = data_plane.names[session["target"]].path if session["kind"] == "balancer" else None
        rows.append(
            {
                "owner": owner.path if session["kind"] == "group" else str(owner),
                "protocol": protocol_name(session["forward"][3]),
                "original": ends(session["forward"]),
                "reply": ends(session["reply"]),
                "rule": data_plane.names[session["rule"]].path if session["rule"] else None,
                "target": target,
                "cookie": f"{session['cookie']:08x}" if target else None,
                "packets": list(session["packets"]),
                "bytes": list(session["bytes"]),
                **_times(session),
            }
        )
    return rows


def latest(sessions: Sequence[Mapping[str, Any]], *kinds: str) -> list[Mapping[str, Any]]:
    """Sessions of these kinds, the one that had a packet last first."""
    return sorted((each for each in sessions if each["kind"] in kinds), key=lambda session: session["idle_ms"])


def _sessions(
    data_plane: DataPlane, sessions: Sequence[Mapping[str, Any]] | None, *kinds: str
) -> list[Mapping[str, Any]]:
    everything = data_plane.engine.sessions() if sessions is None else sessions
    return latest(everything, *kinds)


def _times(session: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "state": session["state"],
        "age_s": session["age_ms"] / 1000,
        "idle_s": session["idle_ms"] / 1000,
        "expires_s": (session["limit_ms"] - session["idle_ms"]) / 1000,
    }


def ends(value: tuple[int, int, int, int, int, int]) -> str:
    """From where to where a flow goes, ``10.0.2.10:40000 > 198.51.100.10:80``, as the engine has it."""
    family, source, destination, _, source_port, destination_port = value
    return f"{_end(family, source, source_port)} > {_end(family, destination, destination_port)}"


def _end(family: int, number: int, port: int) -> str:
    text = _address(family, number)
    if not port:
        return text
    return f"{text}:{port}" if family == 4 else f"[{text}]:{port}"


def _address(family: int, number: int) -> str:
    return str(IPv4Address(number) if family == 4 else IPv6Address(number))
