"""Check: a claim about who reaches whom, for ``vpclab check`` to prove with packets. It is ours, AWS has none.

A claim ``can`` holds when a packet of that protocol and port arrives and the answer to it comes back; a TCP reset is an
answer: nobody listens, but the way is open. A claim ``cannot`` holds when the packet, or the answer, dies at a named
rule, route or object of the network. Silence alone proves nothing.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from ipaddress import IPv4Address, IPv6Address
from typing import TYPE_CHECKING, ClassVar

from dataplane.errors import Problem
from dataplane.limits import INTERNET_MTU, VPC_MTU
from dataplane.model._cidr import Address
from dataplane.model._fields import did_you_mean, doc
from dataplane.model._probe_ends import Ends, Sender, find_destination, find_sender
from dataplane.model._traffic import Protocol

if TYPE_CHECKING:
    from dataplane.model.lab_file import LabFile
    from dataplane.topology import Topology

TCP, UDP, ICMP, ICMPV6 = 6, 17, 1, 58
LEAST_MTU = 68
"""What every link carries, in bytes of IP packet (RFC 791, section 3.2)."""
_EVERYBODY = IPv4Address("255.255.255.255")
NEVER_SENT = (0, 255)
"""Numbers of no protocol: IANA gives 0 to an option of IPv6 and reserves 255."""
_HINT = "write which, for example {can: app -> web, port: 80}"


@dataclass(frozen=True, slots=True)
class Waypoint:
    """``KIND:NAME`` or ``KIND:VPC/NAME``: something that packets pass, such as ``nat-gateway:shop/nat``."""

    kind: str
    name: str

    @classmethod
    def parse(cls, value: object) -> Waypoint:
        """Read one.

        Raises:
            ValueError: no kind that packets pass, or its name is missing.
        """
        kind, _, name = str(value).partition(":")
        if kind not in WAYPOINTS:
            hint = did_you_mean(kind, WAYPOINTS)
            shown = ", ".join(f"{each}:{spelled}" for each, spelled in WAYPOINTS.items())
            raise ValueError(
                f"{value} is nothing that packets pass; {hint if '?' in hint else f'write one of {shown}'}"
            )
        if bool("/" in name) != ("/" in WAYPOINTS[kind]) or not all(name.split("/")):
            raise ValueError(f"{value} does not say which one; write {kind}:{WAYPOINTS[kind]}")
        return cls(kind, name)

    def __str__(self) -> str:
        return f"{self.kind}:{self.name}"


WAYPOINTS = {
    "internet-gateway": "VPC",
    "egress-only-internet-gateway": "VPC",
    "nat-gateway": "VPC/NAME",
    "peering": "NAME",
    "vpc-endpoint": "VPC/NAME",
    "instance": "NAME",
}
"""What a check can ask for on the way, and how it is named."""


@dataclass(frozen=True, slots=True)
class ProbeProtocol(Protocol):
    """``tcp``, ``udp``, ``icmp``, ``icmpv6`` or a number from 1 to 254."""

    PATTERN: ClassVar[str] = "^(tcp|udp|icmp|icmpv6|[1-9][0-9]{0,2})$"

    @classmethod
    def parse(cls, value: object) -> ProbeProtocol:
        """Read the name or the number of one protocol that packets are of.

        Raises:
            ValueError: neither.
        """
        words = "write tcp, udp, icmp, icmpv6 or a number from 1 to 254"
        if value in ("all", -1):
            raise ValueError(f"a check is about one protocol; {words}, one check for each")
        try:
            number = Protocol.parse(value).number
        except ValueError:
            raise ValueError(f"{value} is no protocol; {words}") from None
        if number in NEVER_SENT:
            raise ValueError(f"no packet is of protocol {number}; {words}")
        return cls(number)


@dataclass(frozen=True, slots=True, kw_only=True)
class Resolved:
    """A check with its names resolved: what is sent from where to where."""

    check: Check
    sender: Sender
    source: Address
    destination: Address
    protocol: int
    """IANA number; ICMPv6 where the addresses are IPv6."""

    @property
    def port(self) -> int:
        """Destination port; 0 where the protocol has none."""
        return self.check.port or 0

    @property
    def payload_bytes(self) -> int | None:
        """What must follow the headers for the packet to have the size that is asked for; None: it does not matter."""
        size = self.check.packet_size
        header = 20 if self.destination.version == 4 else 40
        return None if size is None else size - header - (8 if self.protocol in (UDP, ICMP, ICMPV6) else 0)


@dataclass(frozen=True, slots=True, kw_only=True)
class Check:
    """A claim about who reaches whom."""

    can: Ends | None = field(
        default=None, metadata=doc("who reaches whom: FROM -> TO, by name or address", "app -> web")
    )
    cannot: Ends | None = field(default=None, metadata=doc("who does not reach whom; one of the two is written"))
    protocol: ProbeProtocol = field(
        default=ProbeProtocol(TCP),
        metadata=doc("tcp, udp, icmp, icmpv6 or an IANA protocol number from 1 to 254", "tcp"),
    )
    port: int | None = field(
        default=None, metadata=doc("destination port; for tcp and udp only, and required there", 80)
    )
    via: Waypoint | tuple[Waypoint, ...] = field(
        default=(), metadata=doc("what the packet must pass, in this order; for can only")
    )
    source_seen: IPv4Address | IPv6Address | None = field(
        default=None, metadata=doc("the source address that the destination must see; for can only")
    )
    packet_size: int | None = field(
        default=None,
        metadata=doc("bytes of the whole IP packet, which must not be fragmented on its way; not for tcp", 1500),
    )
    because: str = field(default="", metadata=doc("why it must be so; shown when it is not", "web serves app"))

    @property
    def claim(self) -> str:
        """``can`` or ``cannot``."""
        return "can" if self.can is not None else "cannot"

    @property
    def ends(self) -> Ends:
        """Who reaches whom, or does not."""
        found = self.can or self.cannot
        assert found is not None, "a checked lab file has one of both"
        return found

    @property
    def waypoints(self) -> tuple[Waypoint, ...]:
        """What must be passed, in order."""
        return (self.via,) if isinstance(self.via, Waypoint) else self.via

    def __str__(self) -> str:
        words = f"{self.claim} {self.ends} {self.protocol}" + (f" {self.port}" if self.port is not None else "")
        words += "".join(f" via {each}" for each in self.waypoints)
        words += f" of {self.packet_size} bytes" if self.packet_size is not None else ""
        return words + (f" seen as {self.source_seen}" if self.source_seen is not None else "")

    def check_shape(self) -> Iterator[Problem]:
        """Yield what is wrong whatever the rest of the file says."""
        if (self.can is None) == (self.cannot is None):
            both = "can and cannot are both written" if self.can is not None else "neither can nor cannot is written"
            yield Problem("", both, "", _HINT)
            return
        if self.protocol.has_ports and self.port is None:
            yield Problem("port", f"a check of {self.protocol} needs a port", "", "write, for example, port: 80")
        if self.port is not None:
            if not self.protocol.has_ports:
                yield Problem("port", f"a port means nothing for protocol {self.protocol}", "", "leave port out")
            elif not 0 < self.port <= 65535:
                yield Problem("port", f"{self.port} is no port to send to", "", "write 1 to 65535")
        if self.packet_size is not None:
            if self.protocol.number == TCP:
                hint = "ask with udp or icmp"
                yield Problem("packet_size", "TCP begins with a packet of its own size", "", hint)
            elif not LEAST_MTU <= self.packet_size <= VPC_MTU:
                hint = f"write {LEAST_MTU} to {VPC_MTU}"
                yield Problem("packet_size", f"{self.packet_size} is no size of a packet here", "", hint)
        if self.cannot is not None:
            for key, value in (("via", self.waypoints), ("source_seen", self.source_seen)):
                if value:
                    hint = "leave it out, or claim with can what does get through"
                    yield Problem(key, f"{key} means nothing for what does not arrive", "", hint)

    def check_nodes(self, lab: LabFile) -> Iterator[Problem]:
        """Yield nodes that the lab file does not have, whatever else is wrong with it."""
        if self.can is None and self.cannot is None:
            return
        senders = {*lab.instances, *lab.internet.hosts}
        for node, known in (
            (self.ends.source.partition("/")[0], senders),
            (self.ends.destination, senders | lab.aws_services.keys()),
        ):
            if node not in known and "." not in node and ":" not in node:  # no address, and no name of an AWS service
                hint = did_you_mean(node, sorted(known))
                yield Problem(self.claim, f"no node is called {node}", "", hint)

    def check_names(self, topology: Topology) -> Iterator[Problem]:
        """Yield names that nobody has. The rest of the lab file is right, as is the shape of the check."""
        try:
            resolved = self.resolve(topology)
        except ValueError as error:
            message, _, hint = str(error).partition("; ")
            yield Problem(self.claim, message, "", hint)
            return
        for index, each in enumerate(self.waypoints):
            path = f"via[{index}]" if isinstance(self.via, tuple) else "via"
            known = list(_known(topology, each.kind))
            if each.name not in known:
                yield Problem(path, f"no {each.kind} is called {each.name}", "", did_you_mean(each.name, known))
        most = INTERNET_MTU if resolved.sender.vpc is None else VPC_MTU
        if self.packet_size is not None and self.packet_size > most:
            yield Problem(
                "packet_size", f"{resolved.sender.path} sends at most {most} bytes", "", "write a smaller one"
            )
        seen = self.source_seen
        if seen is not None and seen.version != resolved.destination.version and not _is_nat64(resolved.destination):
            yield Problem("source_seen", f"{seen} is not of the family of {resolved.destination}")

    def resolve(self, topology: Topology) -> Resolved:
        """Return what is sent from where to where.

        Raises:
            ValueError: a name that nobody has, or no address of the family; ``what is wrong; what to write``.
        """
        sender = find_sender(topology, self.ends.source)
        number = self.protocol.number
        destination = find_destination(topology, sender, self.ends.destination, 6 if number == ICMPV6 else None)
        source = sender.address(destination.version)
        if source is None:
            raise ValueError(f"{sender.path} has no IPv{destination.version} address; write another destination")
        if destination.is_loopback or destination.is_unspecified or destination == _EVERYBODY:
            raise ValueError(f"{destination} is no address of another; no packet leaves {sender.path} for it")
        if source == destination:
            raise ValueError(f"{sender.path} sends to itself; write another destination")
        if number in (ICMP, ICMPV6):
            if number == ICMPV6 and destination.version == 4:
                raise ValueError(f"icmpv6 does not go to {destination}; write protocol: icmp")
            number = ICMP if destination.version == 4 else ICMPV6
        return Resolved(check=self, sender=sender, source=source, destination=destination, protocol=number)


def _is_nat64(address: Address) -> bool:
    """64:ff9b::/96 stands for IPv4 (RFC 6052)."""
    return address.version == 6 and int(address) >> 32 == 0x64FF9B << 64


def _known(topology: Topology, kind: str) -> Iterable[str]:
    """The names that waypoints of a kind have."""
    vpcs = topology.lab.vpcs.items()
    match kind:
        case "internet-gateway":
            return [name for name, vpc in vpcs if vpc.internet_gateway is not None]
        case "egress-only-internet-gateway":
            return [name for name, vpc in vpcs if vpc.egress_only_internet_gateway is not None]
        case "nat-gateway":
            return [f"{name}/{each}" for name, vpc in vpcs for each in vpc.nat_gateways]
        case "peering":
            return list(topology.lab.peerings)
        case "vpc-endpoint":
            return [
                f"{name}/{each}"
                for name, vpc in vpcs
                for each in (*vpc.gateway_load_balancer_endpoints, *vpc.gateway_endpoints)
            ]
        case _:
            return list(topology.lab.instances)
