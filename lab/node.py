"""One node as the spawner has it: its namespaces, devices and files."""

from __future__ import annotations

import contextlib
import errno
import os
import socket
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from dataplane.errors import LabError
from lab import addressing, attached, identity, mount_view, netlink
from lab.connections import read_sockets
from lab.namespace import Namespaces, Workplace
from lab.netlink import Netlink
from lab.node_plan import NodePlan, is_tap
from lab.scarcity import said
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
    start_network: int | None
    """Descriptor of the network namespace that the lab was started from; None where it may not be changed."""
    hosts: mount_view.HostsCache = field(default_factory=dict)


@dataclass(slots=True, kw_only=True)
class Node:
    """A node that exists."""

    plan: NodePlan
    namespaces: Namespaces
    indexes: dict[str, int]
    """Interface index of each device there is."""
    ports: dict[str, int]
    """Port behind each device there is."""
    netns: str | None = None
    unheld: set[str] = field(default_factory=set)
    """Devices whose other end is not ours any more: the next update makes them anew."""
    leftovers: list[addressing.Configuration] = field(default_factory=list)
    """Configurations of which the namespace may hold a part, because an update failed half-way."""

    @property
    def is_whole(self) -> bool:
        """Whether it is what its plan says, apart from its programs, and as far as root inside leaves it so.

        It is not after an update that has failed half-way: the plan is still the old one then.
        """
        return not self.leftovers and self.ports == {each.device: each.port for each in self.plan.interfaces}

    def logs(self, site: Site) -> Path:
        """Folder of its programs' logs."""
        return site.folder / self.plan.name


def create(site: Site, plan: NodePlan) -> tuple[Node, dict[int, int]]:
    """Make a node with everything but its programs; returns it, and port -> TAP descriptor. Raises LabError."""
    taps: dict[int, int] = {}
    with _explained(plan.name), attached.network_of(plan, site.start_network) as network:
        try:
            with site.workplace.fresh(site.base_mount, network) as namespaces, Netlink() as rtnl:
                mount_view.write_files(site.etc / plan.name, plan, site.hosts)
                mount_view.make_view(site.etc / plan.name)
                socket.sethostname(plan.hostname or plan.name)
                if plan.attach:
                    indexes = attached.make_devices(plan, rtnl, taps)
                else:
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
    ports = {interface.device: interface.port for interface in plan.interfaces}
    return Node(plan=plan, namespaces=namespaces, indexes=indexes, ports=ports), taps


def reopen(site: Site, node: Node, taps: dict[int, int]) -> dict[str, OSError]:
    """Open the devices of a node again, of which nobody has a descriptor any more: port -> descriptor goes to `taps`.

    Devices whose port is there already are left alone. Returns why others cannot be opened: root inside has deleted or
    replaced one (ENODEV, EINVAL), or holds its other end (EBUSY, as a daemon does that has not quite ended), or what
    else the kernel says. Raises LabError for nodes that are attached.
    """
    if node.plan.attach:
        raise LabError(f"node {node.plan.name} is attached: its devices have gone with their daemon")
    refused = {}
    wanted = {device: port for device, port in node.ports.items() if port not in taps}
    try:
        with site.workplace.inside(node.namespaces), Netlink() as rtnl:
            for device, port in wanted.items():
                try:
                    taps[port] = _opened(rtnl, node, device)
                except OSError as error:
                    refused[device] = error
    except OSError as error:  # the node cannot be entered
        refused = dict.fromkeys(wanted, error)
    node.unheld = set(refused)
    return refused


def _opened(rtnl: Netlink, node: Node, device: str) -> int:
    _check_index(rtnl, node, device)  # opening a device that is not there makes it
    descriptor = open_tap(device, existing=True)
    try:
        _check_index(rtnl, node, device)
    except BaseException:
        os.close(descriptor)
        raise
    return descriptor


def _check_index(rtnl: Netlink, node: Node, device: str) -> None:
    """Raise OSError (ENODEV) when a device is not the one that was made: root inside may rename others to its name."""
    if rtnl.index(device) != node.indexes.get(device):
        raise OSError(errno.ENODEV, os.strerror(errno.ENODEV), device)


def update(site: Site, node: Node, plan: NodePlan) -> dict[int, int]:
    """Change a node to a new plan, except for its programs; returns new port -> TAP descriptor. Raises LabError.

    Interfaces are the same when device and port are; whoever holds the descriptor of one that is not must have
    stopped using it. A device that root inside has deleted or renamed is made anew, and its port is among the new ones.
    After a failure the node holds parts of both plans, and the next update, to whichever plan, puts that right.
    """
    node.leftovers.append((node.plan, dict(node.indexes)))
    wanted = {interface.device: interface.port for interface in plan.interfaces}
    taps: dict[str, int] = {}
    with _explained(plan.name), site.workplace.inside(node.namespaces), Netlink() as rtnl:
        try:
            mount_view.write_files(site.etc / plan.name, plan, site.hosts)
            socket.sethostname(plan.hostname or plan.name)
            _remove_devices(rtnl, node, [device for device, port in node.ports.items() if wanted.get(device) != port])
            if not is_tap(plan.attach):
                _give_up_lost(rtnl, node)
                defaults = [] if plan.attach else ["default"]
                addressing.switch_ipv6([*defaults, *node.ports], on=addressing.has_ipv6(plan))
                for device, port in wanted.items():
                    if device not in node.ports:
                        taps[device] = attached.make_device(plan, device) if plan.attach else open_tap(device)
                        node.indexes[device], node.ports[device] = rtnl.index(device), port
                if plan.attach and taps:
                    addressing.write_device_sysctls(plan)
                with attached.naming_routes(plan):
                    addressing.reconfigure(rtnl, node.leftovers, (plan, node.indexes))
        except BaseException:
            # Nobody will know the new descriptors, and closing one does not take its device away.
            _remove_devices(rtnl, node, list(taps))
            for descriptor in taps.values():
                os.close(descriptor)
            node.leftovers.append((plan, dict(node.indexes)))
            raise
    node.plan = plan
    node.leftovers.clear()
    return {wanted[device]: descriptor for device, descriptor in taps.items()}


def _give_up_lost(rtnl: Netlink, node: Node) -> None:
    """Forget devices that are not there under their name any more: root inside may delete, rename and replace them."""
    lost = []
    for device in node.ports:
        try:
            found = rtnl.index(device)
        except OSError as error:
            if error.errno != errno.ENODEV:
                raise
            found = 0
        if found == node.indexes.get(device) and device not in node.unheld:
            continue
        lost.append(device)
        if found and not node.plan.attach:
            rtnl.commit([netlink.delete_link(found)], ignore=netlink.GONE)
    _remove_devices(rtnl, node, lost)


def _remove_devices(rtnl: Netlink, node: Node, devices: list[str]) -> None:
    gone = [node.indexes.pop(device) for device in devices if device in node.indexes]
    for device in devices:
        node.ports.pop(device, None)
    node.unheld -= set(devices)
    rtnl.commit([netlink.delete_link(index) for index in gone], ignore=netlink.GONE)


def shut(site: Site, node: Node) -> None:
    """Take the interfaces of a node down, so that whoever still has a socket in it notices."""
    if node.plan.attach:
        return
    with contextlib.suppress(OSError), site.workplace.inside(node.namespaces), Netlink() as rtnl:
        rtnl.commit([netlink.set_link(index, up=False) for index in node.indexes.values()])


def destroy(site: Site, node: Node) -> None:
    """Let go of a node whose processes are gone; the kernel takes namespaces and devices away in its own time."""
    if node.plan.attach and not is_tap(node.plan.attach):
        with contextlib.suppress(OSError), site.workplace.inside(node.namespaces), Netlink() as rtnl:
            addressing.unconfigure(rtnl, [*node.leftovers, (node.plan, node.indexes)])
    node.namespaces.close()


def has_listener(site: Site, node: Node, port: int) -> bool:
    """Whether a TCP socket of the node listens on a port, at any of its addresses.

    Asked of the kernel instead of by connecting: servers log connections, and some serve only one.
    """
    try:
        return port in read_sockets(tcp_tables(site, node)).listening
    except OSError:
        return False  # there are no descriptors to look with just now: it is asked again


def tcp_tables(site: Site, node: Node) -> list[str]:
    """The node's /proc/net/tcp and tcp6, as far as there are some. Raises OSError when they cannot be read."""
    tables = []
    with site.workplace.inside(node.namespaces):
        for table in ("tcp", "tcp6"):
            with contextlib.suppress(FileNotFoundError):  # a kernel without IPv6
                tables.append(site.workplace.read(f"self/net/{table}"))
    return tables


@contextlib.contextmanager
def _explained(name: str) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise LabError(f"node {name} cannot be set up: {said(error)}") from error
