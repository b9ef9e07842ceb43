"""Security group: a stateful filter of network interfaces.

Rules only allow; an interface's rules are those of all its groups together, in no order, and what no rule allows is
dropped. An allowed flow is tracked: its packets and its answers pass, whatever the rules of the other direction say,
until it ends or is idle too long. A rule names the other end by CIDR block, prefix list, or group: the private
addresses of the interfaces that carry the group, here or in a peer VPC of the same Region.
https://docs.aws.amazon.com/vpc/latest/userguide/vpc-security-groups.html
https://docs.aws.amazon.com/AWSEC2/latest/UserGuide/security-group-connection-tracking.html

    guest -> source check -> **egress rules** -> ... -> **ingress rules** -> destination check -> guest

A group reference of an ingress rule is matched against the groups of the sending interface, which travel with the
packet; a gateway, a NAT gateway and an appliance that forwards erase them, as on AWS. A reference of an egress rule
is matched against the addresses that carry the group now.

Deviations from AWS:
- The default group of a VPC is called ``default`` and exists whether declared or not; declared, it is as declared.
- A rule that refers to a group of a peer VPC is refused unless the peering is active or has been deleted. Deleted,
  the rule is stale: it stays and matches nothing. On AWS a rule is stale too once the group of the peer VPC is deleted;
  here a group that is not there is refused, as it is more often a slip of the pen.
- A rule for icmp whose other end is IPv6 only, or for icmpv6 and IPv4, is refused: it would match nothing.
- Groups are not associated with further VPCs, nor shared between accounts.
- EC2's block of outgoing TCP port 25 is not modelled.
- What groups never filter on AWS (Amazon DNS, DHCP, the metadata and time services) does not exist here; packets to
  link-local addresses die before any rule is looked at. The subnet's router answers whatever the groups say.
- The middle of a TCP connection that is not tracked, or not any more, opens no flow: it passes by a rule, and so do its
  answers; unless it goes on through a gateway that has every flow tracked. Where a flow of UDP begins nobody can tell:
  any datagram that a rule lets pass may open one, also in one that was not tracked and whose rule is gone.
- An ICMP reply that nobody has asked for passes by a rule, and is not tracked.
- A closed TCP connection is forgotten after silence (`settings.tcp_closing_timeout`), as by Linux: who goes on sending
  keeps it, though its rule is gone.
- What goes through a gateway load balancer endpoint is tracked as the rules say. The page of 2023 lists it among what
  always is, today's does not; there is no setting for that.
- Of several rules that allow a packet, traces show the first in the order of the file, but one for 0.0.0.0/0 or ::/0
  before any other: it is what decides about tracking.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from ipaddress import IPv4Network, IPv6Network
from operator import eq
from typing import TYPE_CHECKING, Literal

from dataplane.errors import Problem
from dataplane.limits import GROUP_DESCRIPTION
from dataplane.model import prefix_list
from dataplane.model._cidr import host_network
from dataplane.model._fields import doc, unknown, within
from dataplane.model._rule_peer import RulePeer
from dataplane.model._traffic import ICMP, ICMPV6, Protocol, Traffic
from dataplane.program import GroupPolicy, Prefix, Program, Rule, Timeouts
from dataplane.splices import splices

if TYPE_CHECKING:
    from dataplane.topology import Topology

Direction = Literal["ingress", "egress"]
DEFAULT = "default"
"""The group of interfaces that name none."""
_NOT_IN_DESCRIPTIONS = re.compile(r"[^a-zA-Z0-9. _\-:/()#,@\[\]+=&;{}!$*]")
"""https://docs.aws.amazon.com/AWSEC2/latest/APIReference/API_CreateSecurityGroup.html, and of rules
https://docs.aws.amazon.com/vpc/latest/userguide/security-group-rules.html"""
ANYWHERE = (IPv4Network("0.0.0.0/0"), IPv6Network("::/0"))


@dataclass(frozen=True, slots=True, kw_only=True)
class IngressRule(Traffic):
    """A rule for what comes in."""

    source: RulePeer = field(
        metadata=doc("CIDR block, group:NAME, group:VPC/NAME of a peer VPC, self, or prefix-list:NAME", "group:app")
    )
    description: str = field(default="", metadata=doc("what the rule is for"))

    @property
    def remote(self) -> RulePeer:
        """The other end."""
        return self.source

    def name(self) -> str:
        """The rule in words, e.g. ``ingress tcp 80 from 0.0.0.0/0``."""
        return f"ingress {self.in_words()} from {self.source}"


@dataclass(frozen=True, slots=True, kw_only=True)
class EgressRule(Traffic):
    """A rule for what goes out."""

    destination: RulePeer = field(
        metadata=doc("CIDR block, group:NAME, group:VPC/NAME of a peer VPC, self, or prefix-list:NAME", "0.0.0.0/0")
    )
    description: str = field(default="", metadata=doc("what the rule is for"))

    @property
    def remote(self) -> RulePeer:
        """The other end."""
        return self.destination

    def name(self) -> str:
        """The rule in words, e.g. ``egress all to 0.0.0.0/0``."""
        return f"egress {self.in_words()} to {self.destination}"


GroupRule = IngressRule | EgressRule


@dataclass(frozen=True, slots=True, kw_only=True)
class SecurityGroup:
    """A security group. A new one lets nothing in and everything out."""

    description: str = field(default="", metadata=doc("what the group is for", "web servers"))
    ingress: tuple[IngressRule, ...] = field(default=(), metadata=doc("what may come in; answers always may"))
    egress: tuple[EgressRule, ...] | None = field(
        default=None, metadata=doc("what may go out; null: everything, as AWS's default; []: nothing")
    )

    @classmethod
    def default(cls) -> SecurityGroup:
        """AWS's default group: everything from itself may come in, everything may go out."""
        rule = IngressRule(protocol=Protocol(-1), source=RulePeer(group="self"))
        return cls(description="default VPC security group", ingress=(rule,))

    def rules(self, direction: Direction, *, ipv6: bool) -> Sequence[GroupRule]:
        """The rules of one direction, AWS's own included; `ipv6`: whether the VPC has IPv6."""
        if direction == "ingress":
            return self.ingress
        if self.egress is not None:
            return self.egress
        blocks = ANYWHERE if ipv6 else ANYWHERE[:1]
        return tuple(EgressRule(protocol=Protocol(-1), destination=RulePeer(cidr=cidr)) for cidr in blocks)

    def check(self, topology: Topology, vpc: str, name: str) -> Iterator[Problem]:
        """Yield what AWS would refuse."""
        directions: tuple[tuple[Direction, Iterable[GroupRule]], ...] = (
            ("ingress", self.ingress),
            ("egress", self.egress or ()),
        )
        yield from within("description", _check_description(self.description))
        for direction, rules in directions:
            seen: dict[tuple[str, object], int] = {}
            for index, rule in enumerate(rules):
                at = f"{direction}[{index}]"
                yield from within(at, rule.check_traffic(without_ports="InvalidParameterValue"))
                yield from within(at, _check_family(topology, rule))
                yield from within(f"{at}.description", _check_description(rule.description))
                side = "source" if direction == "ingress" else "destination"
                yield from within(f"{at}.{side}", rule.remote.check(topology, vpc))
                # a group has several names: self, group:NAME and group:VPC/NAME
                far = rule.remote.resolve(vpc, name) if rule.remote.group else rule.remote
                same = rule.in_words(), far
                if same in seen:
                    yield Problem(
                        at,
                        f"the rule is the same as {direction}[{seen[same]}]",
                        "InvalidPermission.Duplicate",
                        "remove one of them",
                    )
                seen.setdefault(same, index)
            for version in (4, 6):
                weight = sum(rule.remote.weight(topology, version) for rule in rules)
                yield from topology.over_quota("rules_per_security_group", weight, direction)


def _check_family(topology: Topology, rule: GroupRule) -> Iterator[Problem]:
    """Yield why a rule for ICMP could match nothing: it has a protocol for each family of addresses."""
    protocol, family = rule.protocol.number, 6 if rule.protocol.number == ICMPV6 else 4
    other = 10 - family
    if protocol in ICMP and rule.remote.weight(topology, other) and not rule.remote.weight(topology, family):
        message = f"{rule.protocol} is of IPv{family}, and {rule.remote} of IPv{other}: the rule would match nothing"
        yield Problem("protocol", message, "", f"write {'icmp' if family == 6 else 'icmpv6'}")


def _check_description(text: str) -> Iterator[Problem]:
    """Yield why AWS would not take the description of a group or a rule."""
    if len(text) > GROUP_DESCRIPTION:
        message = f"the description has {len(text)} characters, and {GROUP_DESCRIPTION} are allowed"
        yield Problem("", message, "InvalidParameterValue", "write less")
    elif wrong := _NOT_IN_DESCRIPTIONS.search(text):
        message = f"a description cannot have {wrong[0]!r}"
        yield Problem("", message, "InvalidParameterValue", "write a-z, A-Z, 0-9, spaces and ._-:/()#,@[]+=&;{}!$*")


def label(vpc: str, name: str) -> str:
    """The name of a group in paths: VPC/GROUP."""
    return f"{vpc}/{name}"


def check_membership(topology: Topology, vpc: str, groups: tuple[str, ...]) -> Iterator[Problem]:
    """Yield why an interface of this VPC cannot carry these groups. Paths are relative to its list of groups."""
    known = topology.vpc(vpc).all_security_groups()
    for index, name in enumerate(groups):
        if name not in known:
            yield unknown(f"[{index}]", f"security group of VPC {vpc}", name, known, "InvalidGroup.NotFound")
        elif name in groups[:index]:
            yield Problem(f"[{index}]", f"group {name} is listed twice", "InvalidParameterValue", "remove one of them")
    yield from topology.over_quota("security_groups_per_interface", len(groups), "")


def group_number(program: Program, vpc: str, name: str) -> int:
    """The number packets of a member carry."""
    return program.names.intern("security-group", label(vpc, name))


def add_policy(
    program: Program, policy: str, owner: int, vpc: str, groups: tuple[str, ...], timeouts: Timeouts
) -> None:
    """Add the policy of one interface: the rules of all its groups, which `lower_rules` makes.

    `policy` is its label in `Program.group_policies`, `owner` the interface's number.
    """
    program.group_policies[policy] = GroupPolicy(
        owner=owner,
        egress=rules_label(vpc, groups, "egress"),
        ingress=rules_label(vpc, groups, "ingress"),
        timeouts=timeouts,
    )


def rules_label(vpc: str, groups: tuple[str, ...], direction: Direction) -> str:
    """The label of the rules that interfaces with these groups have, in `Program.filters`."""
    return f"security-group:{vpc}/{'+'.join(groups)}/{direction}"


class KnownRules:
    """What the rules of groups have been lowered to, so that the same need not be done twice.

    `before`: what was known of an earlier topology. `members`: address sets of groups, where these have not changed.
    """

    def __init__(self, before: KnownRules | None = None, members: Mapping[str, list[Prefix]] | None = None) -> None:
        self._before = before._found if before is not None else {}
        self._found: dict[tuple[str, str, Direction], tuple[Sequence[GroupRule], list[Rule]]] = {}
        self.members = {} if members is None else members

    def find(self, key: tuple[str, str, Direction], rules: Sequence[GroupRule]) -> list[Rule | None]:
        """What each rule of a group was lowered to, where that still holds: ingress rules depend on nothing else."""
        old, lowered = self._before.get(key, ((), []))
        found: list[Rule | None] = list(lowered)
        for each in reversed(splices(old, rules, eq if key[2] == "ingress" else _lowered_alike)):
            found[each.at : each.at + each.removed] = [None] * each.added
        return found

    def keep(self, key: tuple[str, str, Direction], rules: Sequence[GroupRule], lowered: list[Rule]) -> None:
        """Remember them for the next topology; its `find` must not see what this one has found."""
        self._found[key] = rules, lowered

    def forget_before(self) -> None:
        """No more is to be found."""
        self._before = {}


def _lowered_alike(old: GroupRule, new: GroupRule) -> bool:
    """Whether egress rules are equal and lowered to the same, whoever carries a group and whoever sees it."""
    return old == new and not new.remote.group


def lower_rules(topology: Topology, program: Program, vpc: str, groups: tuple[str, ...], known: KnownRules) -> None:
    """Make the rules of an interface with these groups: those of all of them, one after the other."""
    directions: tuple[Direction, ...] = ("egress", "ingress")
    for direction in directions:
        label = rules_label(vpc, groups, direction)
        if label not in program.filters:
            found = [_lowered(topology, program, vpc, name, direction, known) for name in groups]
            program.filters[label] = found[0] if len(found) == 1 else [rule for rules in found for rule in rules]


def _lowered(
    topology: Topology, program: Program, vpc: str, name: str, direction: Direction, known: KnownRules
) -> list[Rule]:
    declared = topology.vpc(vpc)
    rules = declared.all_security_groups()[name].rules(direction, ipv6=bool(declared.ipv6_cidrs))
    key = vpc, name, direction
    found = known.find(key, rules)
    lowered = [
        earlier or _lowered_rule(topology, program, vpc, name, rule, known)
        for rule, earlier in zip(rules, found, strict=True)
    ]
    known.keep(key, rules, lowered)
    return lowered


def _lowered_rule(
    topology: Topology, program: Program, vpc: str, name: str, rule: GroupRule, known: KnownRules
) -> Rule:
    number = program.names.intern("security-group-rule", f"{label(vpc, name)} {rule.name()}")
    match = rule.rule_fields()
    peer = rule.remote
    if peer.cidr is not None:
        return Rule(rule=number, prefix=peer.cidr, **match)
    if peer.prefix_list:
        return Rule(rule=number, table=prefix_list.address_set(peer.prefix_list), **match)
    group_vpc, group = peer.resolve(vpc, name)
    if isinstance(rule, IngressRule):
        return Rule(rule=number, group=group_number(program, group_vpc, group), **match)
    return Rule(rule=number, table=_members(topology, program, vpc, group_vpc, group, known), **match)


def _members(topology: Topology, program: Program, vpc: str, group_vpc: str, group: str, known: KnownRules) -> str:
    """Add the set of addresses that carry a group, as seen from `vpc`, and return its label.

    Over a peering that is gone a reference matches nothing: other addresses may be the same.
    """
    if not topology.groups_visible(vpc, group_vpc):
        program.sets["security-group:stale"] = []
        return "security-group:stale"
    table = f"security-group:{label(group_vpc, group)}/members"
    if table not in program.sets:
        members = known.members.get(table)
        if members is None:
            members = [host_network(address) for address in topology.group_members(group_vpc, group)]
        program.sets[table] = members
    return table
