"""Network ACL: numbered, stateless rules at the border of a subnet.

Every subnet has one: its own, else the VPC's default, which lets everything pass. Rules are read by number, the
first that matches decides, and at the end ``*`` denies. Nothing is remembered: answers need rules of their own. What
stays inside a subnet is not looked at, nor is what the subnet's router answers.
https://docs.aws.amazon.com/vpc/latest/userguide/vpc-network-acls.html

    from subnet S to subnet T: groups of the sender -> **egress rules of S's ACL** (remote = destination)
    -> route table of S -> **ingress rules of T's ACL** (remote = source) -> groups of the receiver

Deviations from AWS:
- A rule for icmp or icmpv6 without type and code means all of them; the API wants them spelled out. It takes them with
  icmpv6 and an IPv4 block too, and does not look at them; here they are refused.
- Traffic that the route table hands to an interface in its own subnet is judged by the egress rules: where it is going
  is known only afterwards. AWS does not document this case.
- Fragments, here and in security groups: AWS does not document them. The first one of a datagram is judged by its
  ports, and the others follow it, in any order, for 30 s (`settings.fragment_timeout`). What comes before the first one
  waits for it: 64 fragments of one interface and 2048 of all (19 MB), of 1024 datagrams. More is dropped.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from ipaddress import IPv4Network, IPv6Network
from typing import TYPE_CHECKING, Literal

from dataplane.errors import Problem
from dataplane.limits import ACL_RULE_NUMBERS
from dataplane.model._fields import doc, within
from dataplane.model._placed import PlacedSubnet
from dataplane.model._traffic import ICMPV6, Protocol, Traffic
from dataplane.program import Filter, Program, Rule, Side
from dataplane.verdict import Reason

if TYPE_CHECKING:
    from dataplane.topology import Topology

Direction = Literal["ingress", "egress"]
DEFAULT = "default"
"""The ACL of subnets that name none."""


@dataclass(frozen=True, slots=True, kw_only=True)
class NetworkAclRule(Traffic):
    """One numbered rule."""

    rule: int = field(metadata=doc("number, 1 to 32766; rules are read in this order", 100))
    cidr: IPv4Network | IPv6Network = field(
        metadata=doc("the other end: source of ingress, destination of egress", "0.0.0.0/0")
    )
    action: Literal["allow", "deny"] = field(metadata=doc("allow or deny", "allow"))

    def check(self) -> Iterator[Problem]:
        """Yield what AWS would refuse about the rule itself."""
        yield from self.check_traffic(without_ports="MissingParameter")
        if self.protocol.number == ICMPV6 and self.cidr.version == 4 and self.icmp is not None:
            message = f"for a block of IPv4, as {self.cidr} is, AWS takes icmpv6 to be of all types and codes"
            yield Problem("icmp", message, "", "leave icmp out, or write a block of IPv6")
        if self.rule not in ACL_RULE_NUMBERS:
            yield Problem("rule", f"{self.rule} is not from 1 to 32766", "InvalidParameterValue", "write, say, 100")

    def name(self, direction: Direction) -> str:
        """The rule in words, e.g. ``ingress 100 allow tcp 80 from 0.0.0.0/0``."""
        side = "from" if direction == "ingress" else "to"
        return f"{direction} {self.rule} {self.action} {self.in_words()} {side} {self.cidr}"


@dataclass(frozen=True, slots=True, kw_only=True)
class NetworkAcl:
    """A network ACL. Without rules it denies everything."""

    ingress: tuple[NetworkAclRule, ...] = field(default=(), metadata=doc("rules for what enters the subnet"))
    egress: tuple[NetworkAclRule, ...] = field(default=(), metadata=doc("rules for what leaves the subnet"))

    @classmethod
    def default(cls, *, ipv6: bool) -> NetworkAcl:
        """AWS's default ACL: everything passes (IPv6 where the VPC has IPv6)."""
        blocks: list[IPv4Network | IPv6Network] = [IPv4Network("0.0.0.0/0")]
        if ipv6:
            blocks.append(IPv6Network("::/0"))
        rules = tuple(
            NetworkAclRule(rule=number, protocol=Protocol(-1), cidr=cidr, action="allow")
            for number, cidr in enumerate(blocks, 100)
        )
        return cls(ingress=rules, egress=rules)

    def rules(self, direction: Direction) -> tuple[NetworkAclRule, ...]:
        """The rules of one direction."""
        return self.ingress if direction == "ingress" else self.egress

    def check(self, topology: Topology, vpc: str, name: str) -> Iterator[Problem]:
        """Yield what AWS would refuse."""
        directions: tuple[Direction, ...] = ("ingress", "egress")
        for direction in directions:
            rules = self.rules(direction)
            used: dict[int, int] = {}
            for index, rule in enumerate(rules):
                at = f"{direction}[{index}]"
                yield from within(at, rule.check())
                if rule.rule in used:
                    yield Problem(
                        f"{at}.rule",
                        f"{direction} has a rule {rule.rule} already",
                        "NetworkAclEntryAlreadyExists",
                        f"write a number that {direction}[{used[rule.rule]}] does not have",
                    )
                used.setdefault(rule.rule, index)
            for version in (4, 6):
                count = 1 + sum(rule.cidr.version == version for rule in rules)
                yield from topology.over_quota("rules_per_network_acl", count, direction)

    def lower(self, topology: Topology, program: Program, vpc: str, name: str) -> None:
        """Make both filters; subnets refer to them."""
        path = f"{vpc}/{name}"
        directions: tuple[Direction, ...] = ("ingress", "egress")
        for direction in directions:
            program.filters[filter_label(path, direction)] = [
                Rule(
                    rule=program.names.intern("acl-rule", f"{path} {rule.name(direction)}"),
                    allow=rule.action == "allow",
                    prefix=rule.cidr,
                    **rule.rule_fields(),
                )
                for rule in sorted(self.rules(direction), key=lambda rule: rule.rule)
            ]


def filter_label(path: str, direction: Direction) -> str:
    """The label of an ACL's rules in `Program.filters`; `path` is VPC/ACL."""
    return f"network-acl:{path}/{direction}"


def crossing(program: Program, subnet: PlacedSubnet, direction: Direction, following: str) -> Filter:
    """The node where packets cross the border of `subnet`, on their way to node `following`."""
    path = f"{subnet.vpc}/{subnet.network_acl}"
    number = program.names.intern("network-acl", path)
    label = filter_label(path, direction)
    if direction == "egress":
        return Filter(object=number, table=label, remote=Side.DESTINATION, reason=Reason.ACL_EGRESS, next=following)
    return Filter(
        object=number,
        table=label,
        remote=Side.SOURCE,
        skip_subnet=program.names.intern("subnet", subnet.path),
        reason=Reason.ACL_INGRESS,
        next=following,
    )
