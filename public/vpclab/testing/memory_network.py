"""The packet path of a lab, in memory: packets in, what became of them and who got them out."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

from dataplane.engine import DataPlane, Emission, Outcome
from dataplane.errors import VpclabError
from dataplane.load import load_topology
from dataplane.names import Name
from dataplane.verdict import REASON_TEXT, Cause, Reason, Verdict
from vpclab._frames import SupportsBytes, destination_of, ethernet
from vpclab.declaration import declaration_text

if TYPE_CHECKING:
    from dataplane.model.lab_file import LabFile
    from dataplane.topology import Topology

_ETHERNET_LENGTH = 14
_OWN = frozenset({Cause.FORWARDED, Cause.FRAGMENT, Cause.RELEASED})
_SESSIONS = 8192


@dataclass(frozen=True, slots=True)
class Delivery:
    """One packet that left the network through an interface."""

    node: str
    """The instance or internet host that got it."""
    interface: str
    """Its interface, e.g. ``"web/eth0"``."""
    packet: bytes
    """The IP packet (or ARP message) as it arrived, without Ethernet header."""
    cause: Cause
    """Why it left: forwarded, a fragment, or made by a router: an answer, an ICMP error, a TCP reset."""


@dataclass(frozen=True, slots=True)
class Result:
    """What became of one packet that was sent."""

    verdict: Verdict
    reason: Reason
    """Why it was dropped; `Reason.NONE` when it was not."""
    by: Name | None
    """The object that decided: an interface, a network ACL, a route table, a gateway."""
    rule: Name | None
    """The rule, route or ACL entry of it that decided, where one did."""
    deliveries: tuple[Delivery, ...]
    """All that left because of it, in order: the packet, its fragments, fragments that had waited for it, answers and
    errors that the router made."""

    @property
    def reached(self) -> frozenset[str]:
        """The nodes that got the packet itself, whole or in fragments; not those that were told of its end."""
        return frozenset(each.node for each in self.deliveries if each.cause in _OWN)

    def __str__(self) -> str:
        if self.verdict is Verdict.DROP:
            rule = f", {self.rule}" if self.rule is not None else ""
            return f"dropped by {self.by or 'the network'}{rule}: {REASON_TEXT[self.reason].text} [{self.reason.name}]"
        return f"{self.verdict.name.lower()} to {', '.join(sorted(self.reached)) or 'nobody'}"


class MemoryNetwork:
    """A network without namespaces: nodes are names, packets are bytes, time is what `wait` says.

    Args:
        topology: the network; `load` and `from_dict` read one.
        seed: makes what is left open (ports of NAT gateways) repeatable.

    It remembers flows like a running lab. A property should begin each example on a `fresh` one.
    """

    def __init__(self, topology: Topology, *, seed: int = 0) -> None:
        self._topology = topology
        self._seed = seed
        self._plane = DataPlane(topology, seed=seed, sessions=_SESSIONS, flows=1024)
        self._now_ms = 1_000

    @classmethod
    def load(cls, file: str | os.PathLike[str], *, seed: int = 0) -> Self:
        """Read a lab file.

        Raises:
            ConfigurationError: what is wrong with it.
        """
        return cls(load_topology(Path(file)), seed=seed)

    @classmethod
    def from_dict(cls, lab_file: Mapping[str, Any] | LabFile, *, seed: int = 0) -> Self:
        """A network declared in code, as `vpclab.Lab.from_dict` takes it.

        Raises:
            ConfigurationError: what is wrong with it.
            TypeError: a value that no lab file could hold.
        """
        return cls(load_topology(declaration_text(lab_file), file_name="<dict>"), seed=seed)

    def fresh(self) -> Self:
        """The same network with nothing remembered."""
        return type(self)(self._topology, seed=self._seed)

    @property
    def topology(self) -> Topology:
        """What the network was made from; `packets` draws from it."""
        return self._topology

    @property
    def nodes(self) -> tuple[str, ...]:
        """All that can send: instances and internet hosts."""
        return (*self._topology.lab.instances, *self._topology.hosts)

    @property
    def internet_hosts(self) -> tuple[str, ...]:
        """Those that stand for anybody on the internet."""
        return tuple(self._topology.hosts)

    def nodes_in(self, subnet: str, *, vpc: str = "") -> frozenset[str]:
        """Instances with an interface in a subnet; `vpc` is needed where two VPCs have one of that name.

        Raises:
            VpclabError: there is no such subnet, or more than one.
        """
        found = [place for place in self._topology.subnets.values() if place.name == subnet and vpc in ("", place.vpc)]
        if len(found) != 1:
            have = ", ".join(f"{place.vpc}/{place.name}" for place in self._topology.subnets.values())
            raise VpclabError(f"{len(found)} subnets are called {subnet!r}; there are {have}")
        [home] = found
        return frozenset(
            each.instance
            for each in self._topology.interfaces
            if each.is_attached and each.instance and (each.subnet.vpc, each.subnet.name) == (home.vpc, home.name)
        )

    def send(self, node: str, packet: SupportsBytes | bytes) -> Result:
        """Send an IP packet from a node, as its kernel would: to its router, or to a neighbour in its subnet.

        Args:
            node: an instance or host (its ``eth0``), or an interface such as ``"web/eth1"``.
            packet: anything that `bytes` turns into an IPv4 or IPv6 packet: scapy packets, bytes.

        Raises:
            VpclabError: there is no such node.
            ValueError: too short to hold an IP header.
        """
        interface = node if "/" in node else f"{node}/eth0"
        try:
            port = self._plane.port(interface)
        except KeyError:
            raise VpclabError(f"no interface is called {interface!r}; nodes: {', '.join(self.nodes)}") from None
        raw = bytes(packet)
        to = self._plane.next_mac(port, destination_of(raw))
        frame = ethernet(raw, source=self._plane.interface(port).mac, destination=to)
        [outcome], emissions = self._plane.process([frame], [port], self._now_ms)
        return self._result(outcome, emissions)

    def wait(self, seconds: float) -> None:
        """Let time pass: what is idle for too long is forgotten, as in a running lab.

        Raises:
            ValueError: a negative number of seconds.
        """
        if seconds < 0:
            raise ValueError("time does not go back")
        self._now_ms += round(seconds * 1000)
        self._plane.advance(self._now_ms)

    def _result(self, outcome: Outcome, emissions: list[Emission]) -> Result:
        return Result(
            verdict=outcome.verdict,
            reason=outcome.reason,
            by=self._name(outcome.object),
            rule=self._name(outcome.rule),
            deliveries=tuple(self._delivery(each) for each in emissions),
        )

    def _name(self, number: int) -> Name | None:
        return self._plane.names[number] if number else None

    def _delivery(self, emission: Emission) -> Delivery:
        interface = self._plane.names[emission.port].path
        return Delivery(
            node=interface.rpartition("/")[0],
            interface=interface,
            packet=emission.frame[_ETHERNET_LENGTH:],
            cause=emission.cause,
        )
