"""The other end of a security group rule."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

from dataplane.errors import Problem
from dataplane.model import prefix_list
from dataplane.model._cidr import Network, parse_network
from dataplane.model._fields import did_you_mean, unknown

if TYPE_CHECKING:
    from dataplane.topology import Topology

SELF = "self"


@dataclass(frozen=True, slots=True)
class RulePeer:
    """A CIDR block, ``group:NAME``, ``group:VPC/NAME``, ``self`` or ``prefix-list:NAME``: exactly one of the fields."""

    cidr: Network | None = None
    group: str = ""
    """A group of the same VPC, ``VPC/NAME``, or ``self``."""
    prefix_list: str = ""

    @classmethod
    def parse(cls, value: object) -> RulePeer:
        """Read the other end of a rule.

        Raises:
            ValueError: none of the forms.
        """
        text = str(value)
        word, colon, name = text.partition(":")
        if text == SELF:
            return cls(group=SELF)
        if word in ("group", "prefix-list") and colon:
            parts = name.split("/")
            if not all(parts) or len(parts) > (2 if word == "group" else 1):
                raise ValueError(f"{text} lacks a name; write {word}:NAME")
            return cls(group=name) if word == "group" else cls(prefix_list=name)
        try:
            return cls(cidr=parse_network(value))
        except ValueError as error:
            if text[:1].isdigit() or (":" in text.replace("group:", "") and "/" in text):
                raise
            near = did_you_mean(word, ("group", "prefix-list", SELF))
            hint = near if "?" in near else "write a CIDR block, group:NAME, self or prefix-list:NAME"
            raise ValueError(f"{text} is no source or destination; {hint}") from error

    def __str__(self) -> str:
        if self.cidr is not None:
            return str(self.cidr)
        if self.group:
            return self.group if self.group == SELF else f"group:{self.group}"
        return f"prefix-list:{self.prefix_list}"

    def resolve(self, vpc: str, group: str) -> tuple[str, str]:
        """Return VPC and name of the group meant in a rule of `group` in `vpc`."""
        if self.group == SELF:
            return vpc, group
        owner, slash, name = self.group.partition("/")
        return (owner, name) if slash else (vpc, self.group)

    def weight(self, topology: Topology, version: int) -> int:
        """What a rule with this peer counts towards the quota of IPv4 (4) or IPv6 (6) rules.

        A reference to a group counts in both; a prefix list counts as its `max_entries`.
        """
        if self.cidr is not None:
            return int(self.cidr.version == version)
        if self.group:
            return 1
        found = topology.prefix_list(self.prefix_list)
        return found.weight if found is not None and found.version == version else 0

    def check(self, topology: Topology, vpc: str) -> Iterator[Problem]:
        """Yield why a rule in `vpc` cannot have this peer."""
        if self.prefix_list:
            yield from prefix_list.check_reference(topology, vpc, self.prefix_list)
        if not self.group or self.group == SELF:
            return
        owner, name = self.resolve(vpc, "")
        if owner not in topology.lab.vpcs:
            yield unknown("", "VPC", owner, topology.lab.vpcs, "InvalidVpcID.NotFound")
            return
        known = topology.vpc(owner).all_security_groups()
        if name not in known:
            yield unknown("", f"security group of VPC {owner}", name, known, "InvalidGroup.NotFound")
        elif owner != vpc:
            yield from topology.check_group_reference(vpc, owner)
