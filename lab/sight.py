"""What a person sees of a running lab: nodes, routes, translations and flows as rows of plain values."""

from __future__ import annotations

import difflib
from collections.abc import Iterator, Mapping
from dataclasses import replace
from ipaddress import IPv4Address, IPv6Address, ip_address
from typing import TYPE_CHECKING, Any

from dataplane.engine import DataPlane
from dataplane.probe import TCP
from dataplane.program import Address
from dataplane.topology import Topology
from dataplane.trace import Trace, Walk, protocol_name
from dataplane.verdict import Reason
from lab.control import RequestError
from lab.node_plan import NodePlan

if TYPE_CHECKING:
    from lab.running import RunningLab

THIS_MACHINE = "host"
"""What people call the machine that the lab runs on."""


def node(lab: RunningLab, name: str) -> dict[str, Any]:
    """A node and its interfaces."""
    plan = lab.plans[name]
    topology = lab.topology
    is_host = name in topology.hosts
    homes = {} if is_host else {f"eth{each.device_index}": each for each in topology.interfaces_of(name)}
    interfaces = []
    for interface in plan.interfaces:
        addresses = [str(address) for address, _ in interface.addresses]
        home = homes.get(interface.device)
        public = addresses if home is None else [str(each) for each in topology.public_addresses_of(home).values()]
        interfaces.append(
            {
                "device": interface.device,
                "port": interface.port,
                "vpc": home.subnet.vpc if home else None,
                "subnet": f"{home.subnet.vpc}/{home.subnet.name}" if home else None,
                "zone": home.subnet.zone if home else None,
                "mac": interface.mac.hex(":"),
                "mtu_bytes": interface.mtu,
                "addresses": addresses,
                "public_addresses": public,
            }
        )
    return {"name": name, "kind": "internet-host" if is_host else "instance", "interfaces": interfaces}


def tcp_ports(lab: RunningLab, name: str) -> list[int]:
    """TCP ports that somebody may want to reach on a node, lowest first."""
    plan = lab.plans[name]
    found = {program.ready_tcp for program in plan.programs if program.ready_tcp is not None}
    own = {interface.port for interface in plan.interfaces}
    for policy in lab.data_plane.program.group_policies.values():
        if policy.owner in own:
            opened = [rule.ports for rule in policy.ingress if rule.protocol == TCP and rule.ports is not None]
            found |= {first for first, last in opened if first == last}
    return sorted(found)


def counters(row: Mapping[str, Any] | None) -> dict[str, Any]:
    """Packet counts of one port, from the node's point of view, with what its packets died of by name."""
    row = row or {}
    reasons = {Reason(number).name: count for number, count in row.get("reasons", {}).items()}
    return {
        "sent_frames": row.get("rx_frames", 0),
        "sent_packets": row.get("rx_packets", 0),
        "sent_bytes": row.get("rx_bytes", 0),
        "received_frames": row.get("tx_frames", 0),
        "received_packets": row.get("tx_packets", 0),
        "received_bytes": row.get("tx_bytes", 0),
        "dropped_packets": sum(reasons.values()),
        "reasons": reasons,
    }


# -- names and addresses -------------------------------------------------------------------------------


def address(text: str) -> Address:
    """An address. Raises RequestError for what is not one."""
    try:
        return ip_address(text)
    except ValueError:
        raise RequestError(f"{text!r} is not an address") from None


def no_such_node(lab: RunningLab, name: str) -> str:
    """What to say of a name that no node has."""
    if name == THIS_MACHINE:
        return f"the machine itself is not part of the lab; its nodes are {', '.join(lab.plans)}"
    nearest = difflib.get_close_matches(name, lab.plans, n=1)
    hint = f"did you mean {nearest[0]}?" if nearest else f"it has {', '.join(lab.plans)}"
    return f"lab {lab.name} has no node {name!r}; {hint}"


def resolve(lab: RunningLab, source: str, destination: str) -> str:
    """The address by which `source` knows `destination`; an address is returned as it is.

    It is the one in the source's /etc/hosts, so that a trace and a program mean the same; a node that the
    source has no name for is meant by its first address.

    Raises:
        RequestError: neither a node nor an address.
    """
    if destination in lab.plans:
        known = lab.plans[source].hosts.get(destination) or _addresses(lab.plans[destination])
        return str(min(known, key=lambda each: each.version))
    try:
        return str(ip_address(destination))
    except ValueError:
        raise RequestError(no_such_node(lab, destination)) from None


def start_of_trace(lab: RunningLab, source: str) -> tuple[str, str]:
    """The node and interface (``web``, ``web/eth0``) that a trace's source means: a node, an interface, an address.

    Raises:
        RequestError: none of these, or an address that several have.
    """
    name, slash, device = source.partition("/")
    if name in lab.plans:
        devices = [interface.device for interface in lab.plans[name].interfaces]
        if slash and device not in devices:
            raise RequestError(f"node {name} has no interface {device!r}; it has {', '.join(devices)}")
        return name, f"{name}/{device or devices[0]}"
    try:
        wanted = ip_address(source)
    except ValueError:
        raise RequestError(no_such_node(lab, source)) from None
    private = {str(each.public): (each.vpc, each.private) for each in lab.topology.public_addresses}
    vpc, inside = private.get(source, (None, wanted))
    found = list(_interfaces_with(lab, inside, vpc))
    if not found:
        raise RequestError(f"no node of lab {lab.name} has the address {source}")
    if len(found) > 1:
        raise RequestError(f"several nodes have the address {source}: say {' or '.join(path for _, path, _ in found)}")
    [(node_name, path, is_first)] = found
    if not is_first:
        raise RequestError(f"{source} is a secondary address of {path}; a trace starts from the first: say {path}")
    return node_name, path


def _interfaces_with(lab: RunningLab, wanted: Address, vpc: str | None) -> Iterator[tuple[str, str, bool]]:
    """(node, interface, whether it is its first address of the family) of whoever has an address."""
    for name, plan in lab.plans.items():
        homes = (
            {} if name in lab.topology.hosts else {f"eth{i.device_index}": i for i in lab.topology.interfaces_of(name)}
        )
        for interface in plan.interfaces:
            mine = [each for each, _ in interface.addresses if each.version == wanted.version]
            home = homes.get(interface.device)
            if wanted in mine and (vpc is None or (home is not None and home.subnet.vpc == vpc)):
                yield name, f"{name}/{interface.device}", mine[0] == wanted


def _addresses(plan: NodePlan) -> list[Address]:
    return [each for interface in plan.interfaces for each, _ in interface.addresses]


def with_notes(topology: Topology, trace: Trace) -> Trace:
    """The trace, saying whose rules were looked at in vain where it was the lack of a rule that stopped a packet."""
    reply = None if trace.reply is None else _with_note(topology, trace.reply)
    return replace(trace, forward=_with_note(topology, trace.forward), reply=reply)


def _with_note(topology: Topology, walk: Walk) -> Walk:
    if walk.rule is not None or walk.object is None:
        return walk
    if walk.reason in (Reason.ACL_EGRESS, Reason.ACL_INGRESS):
        return replace(walk, note="rule *, as no other matches")
    if walk.reason in (Reason.GROUP_EGRESS, Reason.GROUP_INGRESS):
        for interface in topology.interfaces:
            if interface.path == walk.object.path:
                names = [f"{interface.subnet.vpc}/{group}" for group in interface.groups]
                return replace(walk, note=f"security group{'s' if len(names) > 1 else ''} {', '.join(names)}")
    return walk


# -- routes, translations, flows -----------------------------------------------------------------------


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
        for route in declared.effective(topology, vpc):
            active = topology.route_target_label(vpc, route.target) is not None
            rows.append(
                {
                    "table": path,
                    "destination": str(route.prefix),
                    "target": str(route.target),
                    "state": "active" if active else "blackhole",
                    "route": route.name,
                    "subnets": subnets,
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


def translations(data_plane: DataPlane, topology: Topology) -> list[dict[str, Any]]:
    """Live connections through NAT gateways, the latest first."""
    public = {(each.vpc, str(each.private)): str(each.public) for each in topology.public_addresses}
    rows = []
    for session in _sessions(data_plane, "nat"):
        gateway = data_plane.names[session["owner"]].path
        family, source, _, protocol, source_port, _ = session["forward"]
        # what the far end sees; of another family than `inside` when it is NAT64
        family_outside, far, translated, _, far_port, translated_port = session["reply"]
        private = _address(family_outside, translated)
        rows.append(
            {
                "gateway": gateway,
                "protocol": protocol_name(protocol),
                "inside": _end(family, source, source_port),
                "translated": _end(family_outside, translated, translated_port),
                "public": public.get((gateway.partition("/")[0], private), private),
                "outside": _end(family_outside, far, far_port),
                **_times(session),
            }
        )
    return rows


def flows(data_plane: DataPlane, *, limit: int) -> list[dict[str, Any]]:
    """Flows that security groups track, the latest first."""
    rows = []
    for session in _sessions(data_plane, "group")[:limit]:
        rows.append(
            {
                "owner": data_plane.names[session["owner"]].path,
                "protocol": protocol_name(session["forward"][3]),
                "original": _tuple(session["forward"]),
                "reply": _tuple(session["reply"]),
                "rule": data_plane.names[session["rule"]].path if session["rule"] else None,
                "packets": list(session["packets"]),
                "bytes": list(session["bytes"]),
                **_times(session),
            }
        )
    return rows


def _sessions(data_plane: DataPlane, kind: str) -> list[dict[str, Any]]:
    found = [session for session in data_plane.engine.sessions() if session["kind"] == kind]
    found.sort(key=lambda session: session["idle_ms"])
    return found


def _times(session: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "state": session["state"],
        "age_s": session["age_ms"] / 1000,
        "idle_s": session["idle_ms"] / 1000,
        "expires_s": (session["limit_ms"] - session["idle_ms"]) / 1000,
    }


def _tuple(value: tuple[int, int, int, int, int, int]) -> str:
    family, source, destination, _, source_port, destination_port = value
    return f"{_end(family, source, source_port)} > {_end(family, destination, destination_port)}"


def _end(family: int, number: int, port: int) -> str:
    text = _address(family, number)
    if not port:
        return text
    return f"{text}:{port}" if family == 4 else f"[{text}]:{port}"


def _address(family: int, number: int) -> str:
    return str(IPv4Address(number) if family == 4 else IPv6Address(number))
