"""One node as the spawner has it: its namespaces, devices and files."""

from __future__ import annotations

import contextlib
import os
import socket
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from dataplane.errors import LabError
from lab import addressing, identity, mount_view, netlink
from lab.namespace import Namespaces, Workplace
from lab.netlink import Netlink
from lab.node_plan import NodePlan, same_interfaces
from lab.tap import open_tap


@dataclass(frozen=True, slots=True, kw_only=True)
class Site:
    """What all nodes of a lab share."""

    lab: str
    lab_id: str
    folder: Path
    """Has one folder per node with programs, for their logs."""
    etc: Path
    """Has one folder per node, with its files for /etc; its content can only be seen from inside a node."""
    workplace: Workplace
    base_mount: int
    """Descriptor of the mount namespace that every node's starts as a copy of."""
    last_group: int
    hosts: mount_view.HostsCache = field(default_factory=dict)


@dataclass(slots=True, kw_only=True)
class Node:
    """A node that exists."""

    plan: NodePlan
    namespaces: Namespaces
    indexes: dict[str, int]
    """Device -> interface index."""
    netns: str | None = None

    def logs(self, site: Site) -> Path:
        """Folder of its programs' logs."""
        return site.folder / self.plan.name


def create(site: Site, plan: NodePlan) -> tuple[Node, dict[int, int]]:
    """Make a node with everything but its programs; returns it, and port -> TAP descriptor. Raises LabError."""
    taps: dict[int, int] = {}
    with _explained(plan.name):
        try:
            with site.workplace.fresh(site.base_mount) as namespaces, Netlink() as rtnl:
                mount_view.write_files(site.etc / plan.name, plan, site.hosts)
                mount_view.make_view(site.etc / plan.name)
                socket.sethostname(plan.hostname or plan.name)
                addressing.write_sysctls(plan, last_group=site.last_group)
                indexes = {}
                for interface in plan.interfaces:
                    taps[interface.port] = open_tap(interface.device)
                    indexes[interface.device] = rtnl.index(interface.device)
                addressing.configure(rtnl, plan, indexes, alias=identity.alias_of(site.lab_id, plan.name))
        except BaseException:
            for descriptor in taps.values():
                os.close(descriptor)
            raise
    return Node(plan=plan, namespaces=namespaces, indexes=indexes), taps


def update(site: Site, node: Node, plan: NodePlan) -> dict[int, int]:
    """Change a node to a new plan, except for its programs; returns new port -> TAP descriptor. Raises LabError.

    Interfaces are the same when device and port are; whoever holds the descriptor of one that is not must have
    stopped using it.
    """
    old, old_indexes = node.plan, dict(node.indexes)
    kept = same_interfaces(old, plan)
    taps: dict[int, int] = {}
    with _explained(plan.name):
        try:
            with site.workplace.inside(node.namespaces), Netlink() as rtnl:
                mount_view.write_files(site.etc / plan.name, plan, site.hosts)
                socket.sethostname(plan.hostname or plan.name)
                gone = [node.indexes.pop(device) for device in old_indexes if device not in kept]
                rtnl.commit([netlink.delete_link(index) for index in gone], ignore=netlink.GONE)
                uses_ipv6 = addressing.has_ipv6(plan)
                if uses_ipv6 != addressing.has_ipv6(old):
                    for device in ("default", *node.indexes):
                        addressing.switch_ipv6(device, on=uses_ipv6)
                for interface in plan.interfaces:
                    if interface.device not in kept:
                        taps[interface.port] = open_tap(interface.device)
                        node.indexes[interface.device] = rtnl.index(interface.device)
                addressing.reconfigure(rtnl, old, old_indexes, plan, node.indexes)
        except BaseException:
            for descriptor in taps.values():
                os.close(descriptor)
            raise
    node.plan = plan
    return taps


def shut(site: Site, node: Node) -> None:
    """Take the interfaces of a node down, so that whoever still has a socket in it notices."""
    with contextlib.suppress(OSError), site.workplace.inside(node.namespaces), Netlink() as rtnl:
        rtnl.commit([netlink.set_link(index, up=False) for index in node.indexes.values()])


def destroy(node: Node) -> None:
    """Let go of a node whose processes are gone; the kernel takes namespaces and devices away in its own time."""
    node.namespaces.close()


def has_listener(site: Site, node: Node, port: int) -> bool:
    """Whether a TCP socket of the node listens on a port, at any of its addresses.

    Asked of the kernel instead of by connecting: servers log connections, and some serve only one.
    """
    wanted = f":{port:04X}"
    with site.workplace.inside(node.namespaces):
        for table in ("tcp", "tcp6"):
            with contextlib.suppress(FileNotFoundError):
                for line in site.workplace.read(f"self/net/{table}").splitlines()[1:]:
                    words = line.split(maxsplit=4)
                    if words[3] == "0A" and words[1].endswith(wanted):
                        return True
    return False


@contextlib.contextmanager
def _explained(name: str) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        what = f"{error.filename}: " if error.filename else ""
        raise LabError(f"node {name} cannot be made: {what}{error.strerror}") from error
