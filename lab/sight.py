"""What a person sees of a running lab: its nodes, their names and addresses, and what a trace means by them."""

from __future__ import annotations

import difflib
from collections.abc import Iterator, Mapping
from ipaddress import ip_address, ip_interface
from typing import TYPE_CHECKING, Any

from dataplane.probe import TCP
from dataplane.program import Address
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
    homes = {} if is_host else {each.device: each for each in topology.interfaces_of(name)}
    interfaces = []
    for interface in plan.interfaces:
        addresses = [str(address) for address, _ in interface.addresses]
        home = homes.get(interface.device)
        public = addresses if home is None else [str(each) for each in topology.public_addresses_of(home).values()]
        interfaces.append(
            {
                "device": interface.device,
                "link": interface.kernel_device,
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
    return {
        "name": name,
        "kind": "aws-service" if name in topology.lab.aws_services else "internet-host" if is_host else "instance",
        "attach": plan.attach or None,
        "interfaces": interfaces,
    }


def tcp_ports(lab: RunningLab, name: str) -> list[int]:
    """TCP ports that somebody may want to reach on a node, lowest first."""
    plan = lab.plans[name]
    found = {program.ready_tcp for program in plan.programs if program.ready_tcp is not None}
    own = {interface.port for interface in plan.interfaces}
    compiled = lab.data_plane.program
    for policy in compiled.group_policies.values():
        if policy.owner in own:
            rules = compiled.filters[policy.ingress]
            opened = [rule.ports for rule in rules if rule.protocol == TCP and rule.ports is not None]
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
        "errors_withheld": row.get("errors_withheld", 0),
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
    """What to say of a name that no node has, or one that is not there."""
    if name in lab.missing:
        return f"node {name} could not be made when lab {lab.name} was brought back; apply its file again"
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
    known = lab.plans[source].hosts.get(destination) or ()
    if known or destination in lab.plans:
        known = known or tuple(_addresses(lab.plans[destination]))
        return str(min(known, key=lambda each: each.version))
    try:
        return str(ip_address(destination))
    except ValueError:
        raise RequestError(no_such_node(lab, destination)) from None


def ends_of_trace(lab: RunningLab, source: str, destination: str) -> tuple[str, str]:
    """The interface (``web/eth0``) and the address that a trace is from and to.

    The source is a node, an interface or an address; the destination a node or an address. A node sends by the
    interface in whose subnet the destination is, as its kernel does, else by the first one.

    Raises:
        RequestError: none of these.
    """
    node, start = _start_of_trace(lab, source)
    target = resolve(lab, node, destination)
    return start or f"{node}/{_device_to(lab.plans[node], ip_address(target))}", target


def _device_to(plan: NodePlan, target: Address) -> str:
    for interface in plan.interfaces:
        if any(target in ip_interface((address, length)).network for address, length in interface.addresses):
            return interface.device
    return plan.interfaces[0].device


def _start_of_trace(lab: RunningLab, source: str) -> tuple[str, str]:
    """The node, and the interface (``web/eth0``) if one is meant, of a trace's source.

    Raises:
        RequestError: none of these, or an address that several have.
    """
    name, slash, device = source.partition("/")
    if name in lab.plans:
        devices = [interface.device for interface in lab.plans[name].interfaces]
        if slash and device not in devices:
            raise RequestError(f"node {name} has no interface {device!r}; it has {', '.join(devices)}")
        return name, source if slash else ""
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
