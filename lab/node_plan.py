"""What the lab runtime must build: nodes with interfaces, names and programs, in the words of the kernel.

A node is an instance, an internet host, or one of ours behind an interface that AWS owns. Plans are plain immutable
values without a reference to the model, so that the small process that makes the namespaces can receive them without
importing any of it; `lab.planning` derives them from a Topology.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from ipaddress import IPv4Address, IPv6Address
from typing import Literal

from dataplane.errors import LabError

Address = IPv4Address | IPv6Address
TAP = "tap:"
RestartPolicy = Literal["never", "on-failure", "always"]
_FILE_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._-]{0,100}")


@dataclass(frozen=True, slots=True, kw_only=True)
class InterfacePlan:
    """One network interface of a node: a TAP device whose other end is a port of the worker."""

    port: int
    """Port number of the data plane (`Names` number of the interface)."""
    device: str
    """Name of the device inside the node: ``eth0``, ``eth1``, ..."""
    mac: bytes
    """Six bytes."""
    addresses: tuple[tuple[Address, int], ...]
    """(address, prefix length); the first of a family is the one that packets leave from by default."""
    gateway4: IPv4Address | None = None
    """Next hop of the IPv4 default route; it need not lie in any of the prefixes."""
    gateway6: IPv6Address | None = None
    """Next hop of the IPv6 default route, normally the router's link-local address."""
    mtu: int = 9001
    """Bytes of IP packet."""
    link: str = ""
    """What the kernel calls the device, where that is another name."""

    @property
    def kernel_device(self) -> str:
        """What the kernel calls the device."""
        return self.link or self.device


@dataclass(frozen=True, slots=True, kw_only=True)
class ProgramPlan:
    """A program that runs in a node as long as the lab does."""

    name: str
    command: tuple[str, ...]
    environment: Mapping[str, str] = field(default_factory=dict)
    working_directory: str | None = None
    """Absolute; None is the folder the lab was started in."""
    ready_tcp: int | None = None
    """Ready once something in the node listens on this TCP port."""
    ready_command: tuple[str, ...] | None = None
    """Ready once this command, run in the node, exits with 0."""
    ready_timeout_s: float = 30.0
    """Not ready for so long after its first start is a failure."""
    restart: RestartPolicy = "never"


@dataclass(frozen=True, slots=True, kw_only=True)
class NodePlan:
    """One node."""

    name: str
    """Unique in the lab; also the name of its network namespace where that is free."""
    interfaces: tuple[InterfacePlan, ...]
    """The first one has the default routes; packets from an address of another leave by that other one."""
    hostname: str = ""
    """Empty: the name."""
    hosts: Mapping[str, tuple[Address, ...]] = field(default_factory=dict)
    """Names in its ``/etc/hosts`` besides localhost. Nodes that know the same names should share one mapping."""
    environment: Mapping[str, str] = field(default_factory=dict)
    programs: tuple[ProgramPlan, ...] = ()
    attach: str = ""
    """Empty: it gets namespaces of its own. ``tap:NAME``: its device is in the namespace that the lab was started from,
    and the kernel there is told nothing about it. ``netns:PATH``: its network namespace is that one, which is somebody
    else's: its devices and addresses are all that is ours in it."""
    hidden: bool = False
    """One of ours, behind an interface that AWS owns: users do not see it, and its namespace has no name."""


def check_names(plan: NodePlan) -> None:
    """Raise LabError when a name of a plan cannot be the file name that is made of it."""
    for what, name in (("node", plan.name), *(("program", program.name) for program in plan.programs)):
        if not _FILE_NAME.fullmatch(name):
            raise LabError(f"{what} name {name!r} cannot be a file name: use letters, digits and . _ -")


def is_tap(attach: str | None) -> bool:
    """Whether a node is a TAP device in the namespace that the lab was started from (`NodePlan.attach`)."""
    return attach is not None and attach.startswith(TAP)


def same_interfaces(old: NodePlan, new: NodePlan) -> dict[str, int]:
    """Device -> port of the interfaces that both plans have."""
    wanted = {interface.device: interface.port for interface in new.interfaces}
    return {i.device: i.port for i in old.interfaces if wanted.get(i.device) == i.port}
