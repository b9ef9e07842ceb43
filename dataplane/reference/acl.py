"""Network ACLs: rules are read by number, the first that matches decides, and ``*`` denies the rest.

https://docs.aws.amazon.com/vpc/latest/userguide/vpc-network-acls.html
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from ipaddress import IPv4Network, IPv6Network

from dataplane.model._traffic import Protocol
from dataplane.model.network_acl import NetworkAclRule
from dataplane.model.vpc import Vpc
from dataplane.names import Names
from dataplane.reference.checksum import Address
from dataplane.reference.packets import Packet
from dataplane.reference.traffic import matches


@dataclass(frozen=True, slots=True)
class AclRule:
    """A rule and its number in `Names`."""

    rule: NetworkAclRule
    number: int


@dataclass(frozen=True, slots=True)
class Acl:
    """A network ACL."""

    number: int
    ingress: tuple[AclRule, ...]
    egress: tuple[AclRule, ...]

    def judge(self, rules: Sequence[AclRule], packet: Packet, remote: Address) -> tuple[bool, int]:
        """Whether a packet passes, and the rule that says so (0: the last, ``*``)."""
        for each in sorted(rules, key=lambda each: each.rule.rule):
            cidr = each.rule.cidr
            if cidr.version == remote.version and remote in cidr and matches(each.rule, packet):
                return each.rule.action == "allow", each.number
        return False, 0


def acls_of(vpc: Vpc, names: Names, name: str) -> dict[str, Acl]:
    """The network ACLs of a VPC by name, the default one included."""
    default = _pass_everything(ipv6=bool(vpc.ipv6_cidrs))
    found = {}
    for acl in ("default", *vpc.network_acls):
        declared, path = vpc.network_acls.get(acl), f"{name}/{acl}"
        ingress, egress = (default, default) if declared is None else (declared.ingress, declared.egress)
        found[acl] = Acl(
            names.intern("network-acl", path),
            tuple(AclRule(r, names.intern("acl-rule", f"{path} {r.name('ingress')}")) for r in ingress),
            tuple(AclRule(r, names.intern("acl-rule", f"{path} {r.name('egress')}")) for r in egress),
        )
    return found


def _pass_everything(*, ipv6: bool) -> tuple[NetworkAclRule, ...]:
    """The rules of AWS's default ACL, both ways; that for IPv6 is there when the VPC has IPv6."""
    blocks: tuple[IPv4Network | IPv6Network, ...] = (IPv4Network("0.0.0.0/0"), IPv6Network("::/0"))
    return tuple(
        NetworkAclRule(rule=number, protocol=Protocol(-1), cidr=block, action="allow")
        for number, block in zip((100, 101), blocks[: 1 + ipv6], strict=False)
    )
