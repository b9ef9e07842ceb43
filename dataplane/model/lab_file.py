"""Lab file: AWS constructs by name, the internet around them, and what runs in it all. The file is ours."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal

from dataplane.errors import Problem
from dataplane.limits import Quotas
from dataplane.model._addressing import check_addresses
from dataplane.model._fields import doc, within
from dataplane.model.aws_service import AwsService
from dataplane.model.capture import Capture
from dataplane.model.check import Check
from dataplane.model.instance import Instance
from dataplane.model.internet_gateway import INTERNET
from dataplane.model.internet_host import InternetHost
from dataplane.model.prefix_list import PrefixList
from dataplane.model.region import Region
from dataplane.model.settings import Settings
from dataplane.model.vpc import Vpc
from dataplane.model.vpc_peering import VpcPeering
from dataplane.program import Lookup, Program
from dataplane.verdict import Reason

if TYPE_CHECKING:
    from dataplane.topology import Topology

_NAME = re.compile(r"[a-z0-9][a-z0-9-]{0,62}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Internet:
    """What is outside of AWS."""

    hosts: dict[str, InternetHost] = field(default_factory=dict, metadata=doc("hosts by name"))


@dataclass(frozen=True, slots=True, kw_only=True)
class LabFile:
    """Everything a lab is made of."""

    version: Literal[1] = field(metadata=doc("version of this format", 1))
    name: str = field(default="", metadata=doc("name of the lab", "quickstart"))
    region: Region = field(default=Region("us-east-1"), metadata=doc("AWS Region of the VPCs", "us-east-1"))
    quotas: Quotas = field(default=Quotas(), metadata=doc("quotas, where they differ from AWS's defaults"))
    settings: Settings = field(default=Settings(), metadata=doc("behaviour that AWS leaves open"))
    prefix_lists: dict[str, PrefixList] = field(default_factory=dict, metadata=doc("prefix lists by name"))
    vpcs: dict[str, Vpc] = field(default_factory=dict, metadata=doc("VPCs by name"))
    peerings: dict[str, VpcPeering] = field(default_factory=dict, metadata=doc("VPC peerings by name"))
    instances: dict[str, Instance] = field(default_factory=dict, metadata=doc("instances by name"))
    internet: Internet = field(default=Internet(), metadata=doc("what is outside of AWS"))
    aws_services: dict[str, AwsService] = field(
        default_factory=dict, metadata=doc("AWS services that programs of yours stand for: s3, dynamodb")
    )
    captures: dict[str, Capture] = field(
        default_factory=dict, metadata=doc("what is recorded from the start on, by name")
    )
    checks: tuple[Check, ...] = field(default=(), metadata=doc("who reaches whom, for `vpclab check` to prove"))

    def check(self, topology: Topology) -> Iterator[Problem]:
        """Yield what is wrong with the network, in no particular order."""
        for index, check in enumerate(self.checks):
            yield from within(f"checks[{index}]", check.check_shape())
        if self.name and not _NAME.fullmatch(self.name):
            rule = "a-z, 0-9 and '-', beginning with a letter or digit, at most 63 characters"
            yield Problem("name", f"{self.name!r} is no name", "", f"names are {rule}")
        for key in ("prefix_lists", "vpcs", "peerings", "instances", "aws_services"):
            for name, construct in getattr(self, key).items():
                yield from within(f"{key}.{name}", construct.check(topology, name))
        for name, host in self.internet.hosts.items():
            yield from within(f"internet.hosts.{name}", host.check(topology, name))
            if name in self.instances:
                yield Problem(f"internet.hosts.{name}", f"an instance is called {name} too", "", "write another name")
        for key, names in (("instances", self.instances), ("internet.hosts", self.internet.hosts)):
            if INTERNET in names:
                message = f"{INTERNET} is what the internet itself is called, in captures"
                yield Problem(f"{key}.{INTERNET}", message, "", "write another name")
        for interface in topology.interfaces:
            yield from check_addresses(topology, interface)
        for public in topology.public_addresses:
            yield from public.check(topology)
        yield from within("quotas", self.quotas.check())
        yield from within("settings", self.settings.check())
        regions = dict.fromkeys((self.region, *(topology.region_of(vpc) for vpc in self.vpcs)))
        for region in regions:
            yield from region.check(topology)

    def check_claims(self, topology: Topology) -> Iterator[Problem]:
        """Yield what is wrong with `captures` and `checks`; the network that they speak of is right."""
        for name, capture in self.captures.items():
            yield from within(f"captures.{name}", capture.check(topology, name))
        files: dict[str, str] = {}
        for name, capture in self.captures.items():
            first = files.setdefault(capture.file, name)
            if first != name:
                message = f"capture {first} is written to {capture.file} too"
                yield Problem(f"captures.{name}.file", message, "", "write another name")
        for index, check in enumerate(self.checks):
            yield from within(f"checks[{index}]", check.check_names(topology))

    def check_nodes_of_claims(self) -> Iterator[Problem]:
        """Yield nodes in `captures` and `checks` that the file does not have, whatever is wrong with the network."""
        for name, capture in self.captures.items():
            yield from within(f"captures.{name}", capture.check_nodes(self))
        for index, check in enumerate(self.checks):
            yield from within(f"checks[{index}]", check.check_nodes(self))

    def lower(self, topology: Topology, program: Program) -> None:
        """Lower everything but interfaces that users own: of them there may be many (`dataplane.topology.lowering`)."""
        program.fragment_timeout = self.settings.fragment_timeout * 1000
        program.fibs.setdefault(INTERNET, [])
        program.nodes[f"{INTERNET}/route"] = Lookup(
            object=program.names.intern("internet", INTERNET), fib=INTERNET, reason=Reason.OUTSIDE_NO_ROUTE
        )
        for name, prefix_list in topology.prefix_lists.items():
            prefix_list.lower(topology, program, name)
        for name, vpc in self.vpcs.items():
            vpc.lower(topology, program, name)
        for name, peering in self.peerings.items():
            peering.lower(topology, program, name)
        for name, host in self.internet.hosts.items():
            host.lower(topology, program, name)
        for name, service in self.aws_services.items():
            service.lower(topology, program, name)
        for public in topology.public_addresses:
            public.lower(topology, program)
