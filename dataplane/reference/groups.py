"""Security groups: what the rules of all groups of an interface allow, together and in no order.

A reference to a group matches, going out, the private addresses of the interfaces that carry it; coming in, packets
whose sender carries it. Over a peering that is not active it is stale and matches nothing; groups are known in their
Region only.
https://docs.aws.amazon.com/vpc/latest/userguide/security-group-rules.html
https://docs.aws.amazon.com/vpc/latest/peering/vpc-peering-security-groups.html
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from ipaddress import IPv4Network, IPv6Network

from dataplane.model._rule_peer import RulePeer
from dataplane.model._traffic import Protocol
from dataplane.model.lab_file import LabFile
from dataplane.model.security_group import EgressRule, IngressRule, SecurityGroup
from dataplane.names import Names
from dataplane.reference.checksum import Address
from dataplane.reference.packets import Packet
from dataplane.reference.prefix_lists import blocks_of
from dataplane.reference.traffic import matches

Group = tuple[str, str]
"""VPC and name."""
ANYWHERE = (IPv4Network("0.0.0.0/0"), IPv6Network("::/0"))
ALL_PORTS = (0, 65535)


@dataclass(frozen=True, slots=True)
class GroupRule:
    """One rule, with the other end worked out."""

    rule: IngressRule | EgressRule
    number: int
    blocks: tuple[IPv4Network | IPv6Network, ...] = ()
    """The block, or those of the prefix list."""
    addresses: tuple[Address, ...] = ()
    """Of the members of the group referred to (egress)."""
    group: Group | None = None
    """The group the sender must carry (ingress)."""

    def allows(self, packet: Packet, remote: Address, sender: frozenset[Group]) -> bool:
        """Whether the rule is about this packet from or to `remote`."""
        if not matches(self.rule, packet):
            return False
        if any(block.version == remote.version and remote in block for block in self.blocks):
            return True
        return remote in self.addresses or (self.group is not None and self.group in sender)

    def is_for_anywhere(self, version: int) -> bool:
        """Whether the other end may be anybody of a family: 0.0.0.0/0 or ::/0, written so."""
        cidr = self.rule.remote.cidr
        return cidr is not None and cidr in ANYWHERE and cidr.version == version

    def is_for_all_responses(self, packet: Packet) -> bool:
        """Whether it allows the packet's protocol to anybody and any port."""
        protocol = self.rule.protocol.number
        if not self.is_for_anywhere(packet.version) or protocol not in (-1, packet.protocol):
            return False
        ports = self.rule.ports
        return protocol == -1 or ports is None or (ports.first, ports.last) == ALL_PORTS


@dataclass(frozen=True, slots=True)
class GroupRules:
    """The rules of all groups of one interface."""

    ingress: tuple[GroupRule, ...]
    egress: tuple[GroupRule, ...]

    def allowing(self, packet: Packet, *, outgoing: bool, sender: frozenset[Group]) -> list[GroupRule]:
        """Every rule that allows a packet; none: it is dropped."""
        rules, remote = (self.egress, packet.destination) if outgoing else (self.ingress, packet.source)
        return [rule for rule in rules if rule.allows(packet, remote, sender)]

    def first_allowing(self, packet: Packet, *, outgoing: bool, sender: frozenset[Group]) -> GroupRule | None:
        """Which of them a trace shows: the first one written, but one for anybody before all others."""
        allowing = self.allowing(packet, outgoing=outgoing, sender=sender)
        for_anybody = (rule for rule in allowing if rule.is_for_anywhere(packet.version))
        return next(for_anybody, allowing[0] if allowing else None)

    def leaves_untracked(self, packet: Packet, *, outgoing: bool, sender: frozenset[Group]) -> bool:
        """Whether a flow that begins with this packet is one that AWS does not track.

        "If a security group rule permits TCP or UDP flows for all traffic (0.0.0.0/0 or ::/0) and there is a
        corresponding rule in the other direction that permits all response traffic for any port (0-65535), then that
        flow of traffic is not tracked."
        https://docs.aws.amazon.com/AWSEC2/latest/UserGuide/security-group-connection-tracking.html
        """
        allowing = self.allowing(packet, outgoing=outgoing, sender=sender)
        other = self.ingress if outgoing else self.egress
        return any(rule.is_for_anywhere(packet.version) for rule in allowing) and any(
            rule.is_for_all_responses(packet) for rule in other
        )


def rules_of(
    lab: LabFile,
    names: Names,
    vpc: str,
    groups: tuple[str, ...],
    members: Mapping[Group, tuple[Address, ...]],
    regions: Mapping[str, str],
) -> GroupRules:
    """The rules of an interface that carries `groups` of `vpc`."""

    def visible(other: str) -> bool:
        if other == vpc:
            return True
        near = regions[other] == regions[vpc]
        ends = {vpc, other}
        return near and any({p.requester, p.accepter} == ends and p.status == "active" for p in lab.peerings.values())

    def resolve(group: str, rule: IngressRule | EgressRule) -> GroupRule:
        number = names.intern("security-group-rule", f"{vpc}/{group} {rule.name()}")
        peer = rule.remote
        if peer.cidr is not None:
            return GroupRule(rule, number, blocks=(peer.cidr,))
        if peer.prefix_list:
            return GroupRule(rule, number, blocks=blocks_of(lab, peer.prefix_list))
        owner, slash, name = peer.group.partition("/")
        meant = (vpc, group) if peer.group == "self" else (owner, name) if slash else (vpc, peer.group)
        if not visible(meant[0]):
            return GroupRule(rule, number)
        if isinstance(rule, IngressRule):
            return GroupRule(rule, number, group=meant)
        return GroupRule(rule, number, addresses=members.get(meant, ()))

    def all_of(direction: str) -> Iterator[GroupRule]:
        for group in groups:
            declared = lab.vpcs[vpc].security_groups.get(group)
            for rule in _written(declared, direction, ipv6=bool(lab.vpcs[vpc].ipv6_cidrs)):
                yield resolve(group, rule)

    return GroupRules(tuple(all_of("ingress")), tuple(all_of("egress")))


def _written(declared: SecurityGroup | None, direction: str, *, ipv6: bool) -> Iterator[IngressRule | EgressRule]:
    """The rules of one direction. AWS's own: the default group lets its members in, and every group everything out.

    https://docs.aws.amazon.com/vpc/latest/userguide/default-security-group.html
    """
    everything = Protocol(-1)
    if direction == "ingress":
        if declared is None:
            yield IngressRule(protocol=everything, source=RulePeer(group="self"))
        else:
            yield from declared.ingress
    elif declared is not None and declared.egress is not None:
        yield from declared.egress
    else:
        for block in ANYWHERE if ipv6 else ANYWHERE[:1]:
            yield EgressRule(protocol=everything, destination=RulePeer(cidr=block))
