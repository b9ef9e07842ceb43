"""AWS service: S3 or DynamoDB of the lab's Region, for which a machine with programs of yours stands.

It has one public address, which the internet reaches, and VPCs by their internet gateway or a gateway endpoint. All
its prefixes are in the AWS-managed prefix list ``com.amazonaws.REGION.SERVICE``, which security group rules and routes
may name; it counts as one entry.
https://docs.aws.amazon.com/vpc/latest/userguide/working-with-aws-managed-prefix-lists.html
https://docs.aws.amazon.com/vpc/latest/privatelink/gateway-endpoints.html

    out: guest -> source check -> answer to a gateway endpoint? through it, else -> the internet's routes

Deviations from AWS:
- It is what your programs make of it. Every address but its own is nobody's.
- Prefixes are IPv4, and are a few unless written down.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from ipaddress import IPv4Address, IPv4Network, IPv6Network
from typing import TYPE_CHECKING

from dataplane.errors import Problem
from dataplane.limits import INTERNET_MTU
from dataplane.model import gateway_endpoint
from dataplane.model._cidr import holding, host_network, is_public, overlap
from dataplane.model._fields import doc, within
from dataplane.model.internet_gateway import INTERNET
from dataplane.model.prefix_list import PrefixList, PrefixListEntry
from dataplane.model.program_spec import ProgramSpec, check_environment
from dataplane.program import Context, Emit, Enter, Guard, Interface, Lookup, Program, Route, Test
from dataplane.verdict import Reason

if TYPE_CHECKING:
    from dataplane.topology import Topology

SERVICES = {"s3": (IPv4Network("52.216.0.0/15"),), "dynamodb": (IPv4Network("52.94.0.0/22"),)}
"""Those with gateway endpoints, each with prefixes that are really its own (in us-east-1)."""
HOST = 10
"""Which address of its first prefix a service has, unless it says so."""


@dataclass(frozen=True, slots=True, kw_only=True)
class AwsService:
    """A service of AWS."""

    address: IPv4Address | None = field(
        default=None, metadata=doc("its public address; null: the tenth of its first prefix", "52.216.0.10")
    )
    prefixes: tuple[IPv4Network, ...] = field(
        default=(), metadata=doc("its prefix list; []: a part of the real one", ["52.216.0.0/15"])
    )
    environment: dict[str, str] = field(
        default_factory=dict, metadata=doc("environment variables of everything run in it", {"STAGE": "test"})
    )
    programs: dict[str, ProgramSpec] = field(default_factory=dict, metadata=doc("programs that run in it, by name"))

    def all_prefixes(self, name: str) -> tuple[IPv4Network, ...]:
        """Its prefix list; `name` is what it is called."""
        return self.prefixes or SERVICES.get(name, (IPv4Network("198.51.100.0/24"),))

    def host_address(self, name: str) -> IPv4Address:
        """Its public address; `name` is what it is called."""
        if self.address is not None:
            return self.address
        first = self.all_prefixes(name)[0]
        return first[min(HOST, first.num_addresses - 1)]

    def check(self, topology: Topology, name: str) -> Iterator[Problem]:
        """Yield what could not be."""
        yield from within("environment", check_environment(self.environment))
        for each, program in self.programs.items():
            yield from within(f"programs.{each}", program.check())
        if name not in SERVICES:
            yield Problem("", f"{name} is no service with gateway endpoints", "", f"there is {' and '.join(SERVICES)}")
            return
        for what, names in (
            ("an instance", topology.lab.instances),
            ("a host on the internet", topology.lab.internet.hosts),
        ):
            if name in names:
                yield Problem("", f"{what} is called {name} too", "", "give it another name")
        for index, prefix in enumerate(self.all_prefixes(name)):
            at = f"prefixes[{index}]" if self.prefixes else ""
            yield from within(at, self._check_prefix(topology, name, index, prefix))
        address = self.host_address(name)
        if holding(address, self.all_prefixes(name)) is None or not is_public(address):
            message = f"{address} is no public address of its prefixes"
            hint = f"write an address in {self.all_prefixes(name)[0]}"
            yield Problem("address" if self.address is not None else "prefixes", message, "", hint)

    def _check_prefix(self, topology: Topology, name: str, index: int, prefix: IPv4Network) -> Iterator[Problem]:
        if any(overlap(prefix, other) for other in self.prefixes[:index]):
            yield Problem("", f"{prefix} overlaps an earlier one", "", "remove one of them")
        for other, service in topology.lab.aws_services.items():
            if other == name:
                break
            if any(overlap(prefix, each) for each in service.all_prefixes(other)):
                yield Problem("", f"{prefix} overlaps a prefix of {other}", "", "write other ones")
        for vpc, declared in topology.lab.vpcs.items():
            if any(overlap(prefix, cidr) for cidr in declared.cidrs()):
                yield Problem("", f"{prefix} overlaps a block of VPC {vpc}", "", "write other ones")
        hosts = {host.address: f"host {each}" for each, host in topology.lab.internet.hosts.items()}
        others = hosts | {each.public: f"the interface at {each.path}" for each in topology.public_addresses}
        for address, what in others.items():
            if address in prefix:
                yield Problem("", f"{address} of {what} is in {prefix}", "", "write other ones")
                return

    def lower(self, topology: Topology, program: Program, name: str) -> None:
        """Make both ways, and the internet's routes to it."""
        placed, here = topology.host(name), label(name)
        number = program.names.intern("interface", f"{name}/eth0")
        service = program.names.intern("aws-service", name)
        own = host_network(self.host_address(name))
        program.sets[here] = [own]
        program.nodes |= {
            f"{here}/out": Guard(
                object=number,
                test=Test.SOURCE_IN,
                table=here,
                reason=Reason.SOURCE_CHECK,
                next=gateway_endpoint.lower_returns(topology, program, name, f"{here}/public"),
            ),
            f"{here}/public": Enter(
                object=number, realm=program.names.intern("internet", INTERNET), next=f"{INTERNET}/route"
            ),
            f"{here}/in": Emit(object=number, interface=here),
            # what comes through a gateway endpoint
            f"{here}/hosts": Lookup(object=service, fib=f"{here}/hosts", reason=Reason.OUTSIDE_NO_ROUTE),
        }
        program.fibs[f"{here}/hosts"] = [Route(prefix=own, node=f"{here}/in", rule=number)]
        program.interfaces[here] = Interface(
            number=number,
            port=number,
            realm=service,
            mac=placed.mac,
            router_mac=placed.router_mac,
            address4=self.host_address(name),
            into=f"{here}/in",
            out=f"{here}/out",
            mtu=INTERNET_MTU,
        )
        program.contexts.append(Context(number=number, interface=here, entry=f"{here}/out", neighbours=here))
        # Whomever it asks for, the router answers; but not for its own address, else it would think it taken.
        program.neighbours[here] = [
            (own, placed.mac),
            (IPv4Network("0.0.0.0/0"), placed.router_mac),
            (IPv6Network("::/0"), placed.router_mac),
        ]
        program.fibs.setdefault(INTERNET, []).append(Route(prefix=own, node=f"{here}/in", rule=number))

    def prefix_list(self, name: str) -> PrefixList:
        """Its prefix list, of which references count as one entry."""
        entries = tuple(PrefixListEntry(cidr=cidr) for cidr in self.all_prefixes(name))
        return PrefixList(max_entries=1, entries=entries)


def label(name: str) -> str:
    """The label of the machine that stands for a service."""
    return f"aws-service:{name}"
