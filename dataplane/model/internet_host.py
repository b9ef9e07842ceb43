"""Internet host: anybody on the internet, ours. A machine with public addresses and programs, outside all VPCs.

It reaches every public address of the lab, as the internet would carry it; nothing filters it out there. It has one
interface, ``eth0``, with an MTU of 1500, and may send only from its own addresses. Packets of more than 1500 bytes die
there in silence, so that none comes in through an internet gateway, which forwards no larger ones.

    out: guest -> source check -> the internet's routes -> another host, or the gateway that has the address
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network
from typing import TYPE_CHECKING

from dataplane.errors import Problem
from dataplane.limits import INTERNET_MTU
from dataplane.model._cidr import GLOBAL_UNICAST, Address, host_network, is_public
from dataplane.model._fields import doc, within
from dataplane.model.internet_gateway import INTERNET
from dataplane.model.program_spec import ProgramSpec, check_environment
from dataplane.program import Context, Emit, Guard, Interface, Program, Route, Test
from dataplane.verdict import Reason

if TYPE_CHECKING:
    from dataplane.topology import Topology


@dataclass(frozen=True, slots=True, kw_only=True)
class InternetHost:
    """A host on the internet."""

    address: IPv4Address = field(metadata=doc("public IPv4 address", "198.51.100.10"))
    ipv6_address: IPv6Address | None = field(
        default=None, metadata=doc("global IPv6 address, outside all VPCs", "2001:db8:ffff::10")
    )
    environment: dict[str, str] = field(
        default_factory=dict, metadata=doc("environment variables of everything run in it", {"STAGE": "test"})
    )
    programs: dict[str, ProgramSpec] = field(default_factory=dict, metadata=doc("programs that run in it, by name"))

    def check(self, topology: Topology, name: str) -> Iterator[Problem]:
        """Yield what no host on the internet could be."""
        yield from within("environment", check_environment(self.environment))
        for each, program in self.programs.items():
            yield from within(f"programs.{each}", program.check())
        if not is_public(self.address):
            yield Problem("address", f"{self.address} is no public address", "", "write, for example, 198.51.100.10")
        taken = [p for p in topology.public_addresses if p.public == self.address and not p.automatic]
        for public in taken:
            yield Problem("address", f"{self.address} is the Elastic IP at {public.path}", "", "write another address")
        if self.ipv6_address is not None:
            yield from self._check_ipv6(topology, self.ipv6_address)
        for other, host in topology.lab.internet.hosts.items():
            if other == name:
                break
            if host.address == self.address:
                yield Problem("address", f"host {other} has {self.address} already", "", "write another address")
            if self.ipv6_address is not None and host.ipv6_address == self.ipv6_address:
                yield Problem(
                    "ipv6_address", f"host {other} has {self.ipv6_address} already", "", "write another address"
                )

    def _check_ipv6(self, topology: Topology, address: IPv6Address) -> Iterator[Problem]:
        if address not in GLOBAL_UNICAST:
            message = f"{address} is no global unicast address"
            yield Problem("ipv6_address", message, "", "write, for example, 2001:db8:ffff::10")
        for vpc, declared in topology.lab.vpcs.items():
            for cidr in declared.ipv6_cidrs:
                if address in cidr:
                    message = f"{address} is inside {cidr} of VPC {vpc}"
                    yield Problem("ipv6_address", message, "", "write an address outside all VPCs")

    def lower(self, topology: Topology, program: Program, name: str) -> None:
        """Make both ways, and the internet's routes to it."""
        placed = topology.host(name)
        here = f"internet-host:{name}"
        number = program.names.intern("interface", f"{name}/eth0")
        addresses: list[Address] = [self.address]
        addresses += [self.ipv6_address] if self.ipv6_address is not None else []
        program.sets[here] = [host_network(address) for address in addresses]
        program.nodes |= {
            f"{here}/out": Guard(
                object=number, test=Test.SOURCE_IN, table=here, reason=Reason.SOURCE_CHECK, next=f"{INTERNET}/route"
            ),
            f"{here}/in": Emit(object=number, interface=here),
        }
        program.interfaces[here] = Interface(
            number=number,
            port=number,
            realm=program.names.intern("internet", INTERNET),
            mac=placed.mac,
            router_mac=placed.router_mac,
            address4=self.address,
            address6=self.ipv6_address,
            into=f"{here}/in",
            out=f"{here}/out",
            mtu=INTERNET_MTU,
        )
        program.contexts.append(Context(number=number, interface=here, entry=f"{here}/out", neighbours=here))
        # Whomever it asks for, the router answers; but not for its own addresses, else it would think them taken.
        program.neighbours[here] = [(network, placed.mac) for network in program.sets[here]]
        program.neighbours[here] += [
            (IPv4Network("0.0.0.0/0"), placed.router_mac),
            (IPv6Network("::/0"), placed.router_mac),
        ]
        program.fibs.setdefault(INTERNET, []).extend(
            Route(prefix=network, node=f"{here}/in", rule=number) for network in program.sets[here]
        )
