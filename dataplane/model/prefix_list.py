"""Prefix list: CIDR blocks under one name, for routes and security group rules.

A list holds blocks of one family, and at most `max_entries` of them. What refers to it always sees its present
entries; where entries count towards a quota, `max_entries` counts, not how many there are.
https://docs.aws.amazon.com/vpc/latest/userguide/managed-prefix-lists.html

AWS manages some itself: ``com.amazonaws.REGION.s3`` and ``com.amazonaws.REGION.dynamodb`` are there when the lab file
has the service among `aws_services`, and count as one entry.
https://docs.aws.amazon.com/vpc/latest/userguide/working-with-aws-managed-prefix-lists.html

Deviations from AWS:
- `max_entries` may be left out and is then the number of entries.
- Of AWS-managed lists there are those of S3 and DynamoDB, in the lab's Region. Lists have no versions.
- A list of one's own is known in every Region of a lab; on AWS it belongs to one.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from ipaddress import IPv4Network, IPv6Network
from typing import TYPE_CHECKING, Literal

from dataplane.errors import Problem
from dataplane.limits import PREFIX_LIST_ENTRIES
from dataplane.model._fields import doc, unknown
from dataplane.program import Program

if TYPE_CHECKING:
    from dataplane.topology import Topology

MANAGED = "com.amazonaws."
"""What names of AWS's own lists begin with."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PrefixListEntry:
    """One block of a list."""

    cidr: IPv4Network | IPv6Network = field(metadata=doc("CIDR block, of the list's family", "198.51.100.0/24"))
    description: str = field(default="", metadata=doc("what the block is"))


@dataclass(frozen=True, slots=True, kw_only=True)
class PrefixList:
    """A prefix list."""

    family: Literal["ipv4", "ipv6"] = field(default="ipv4", metadata=doc("ipv4 or ipv6: all entries are of it", "ipv4"))
    max_entries: int | None = field(
        default=None,
        metadata=doc(
            "most entries it may ever hold, 1 to 1000; this many count towards quotas; null: as many as it has", 5
        ),
    )
    entries: tuple[PrefixListEntry, ...] = field(default=(), metadata=doc("the blocks"))

    @property
    def version(self) -> int:
        """4 or 6."""
        return 4 if self.family == "ipv4" else 6

    @property
    def weight(self) -> int:
        """What a reference to the list counts towards quotas."""
        return self.max_entries if self.max_entries is not None else max(len(self.entries), 1)

    def check(self, topology: Topology, name: str) -> Iterator[Problem]:
        """Yield what AWS would refuse."""
        if self.max_entries is not None and not 1 <= self.max_entries <= PREFIX_LIST_ENTRIES:
            yield Problem(
                "max_entries",
                f"{self.max_entries} is not from 1 to {PREFIX_LIST_ENTRIES}",
                "InvalidParameterValue",
                f"write {min(max(len(self.entries), 1), PREFIX_LIST_ENTRIES)}",
            )
        elif self.max_entries is None and len(self.entries) > PREFIX_LIST_ENTRIES:
            message = f"{len(self.entries)} entries are more than {PREFIX_LIST_ENTRIES}"
            yield Problem("entries", message, "PrefixListMaxEntriesExceeded", "make several lists")
        elif len(self.entries) > self.weight:
            yield Problem(
                "entries",
                f"{len(self.entries)} entries are more than max_entries, {self.max_entries}",
                "PrefixListMaxEntriesExceeded",
                f"write max_entries: {len(self.entries)}",
            )
        seen = set()
        other = "ipv6" if self.family == "ipv4" else "ipv4"
        is_other = all(entry.cidr.version != self.version for entry in self.entries)
        hint = f"write family: {other}" if is_other else "make one list for each family"
        for index, entry in enumerate(self.entries):
            if entry.cidr.version != self.version:
                yield Problem(
                    f"entries[{index}].cidr",
                    f"{entry.cidr} is no IPv{self.version} block, and the list is of {self.family}",
                    "InvalidParameterValue",
                    hint,
                )
            if entry.cidr in seen:
                yield Problem(f"entries[{index}].cidr", f"{entry.cidr} is in the list twice", "InvalidParameterValue")
            seen.add(entry.cidr)

    def lower(self, topology: Topology, program: Program, name: str) -> None:
        """Make the set that rules refer to; routes are expanded by their table."""
        program.sets[address_set(name)] = [entry.cidr for entry in self.entries]


def check_reference(topology: Topology, vpc: str, name: str) -> Iterator[Problem]:
    """Yield why a rule or route of a VPC cannot name a prefix list. Paths are relative to where it is named."""
    code = "InvalidPrefixListID.NotFound"
    if topology.prefix_list(name) is None:
        service = name.rpartition(".")[2]
        problem = unknown("", "prefix list", name, topology.prefix_lists, code)
        is_managed = name.startswith(MANAGED) and name == topology.managed_list(service)
        yield replace(problem, hint=f"write aws_services: {{{service}: {{}}}}") if is_managed else problem
    elif name.startswith(MANAGED) and topology.region_of(vpc) != topology.lab.region:
        message = f"{name} is known in {topology.lab.region} only, and VPC {vpc} is in {topology.region_of(vpc)}"
        yield Problem("", message, code, "write its blocks")


def address_set(name: str) -> str:
    """The label of a list's addresses in `Program.sets`."""
    return f"prefix-list:{name}"
