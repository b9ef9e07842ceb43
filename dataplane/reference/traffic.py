"""What a rule of a security group or a network ACL says about the traffic itself: protocol, ports, ICMP type and code.

Ports are compared with the destination port, of TCP and UDP only; type and code for ICMP and ICMPv6 only.
https://docs.aws.amazon.com/AWSEC2/latest/APIReference/API_IpPermission.html
https://docs.aws.amazon.com/AWSEC2/latest/APIReference/API_CreateNetworkAclEntry.html
"""

from __future__ import annotations

from dataplane.model._traffic import Traffic
from dataplane.reference.packets import ICMP, ICMPV6, TCP, UDP, Packet


def matches(rule: Traffic, packet: Packet) -> bool:
    """Whether the rule is about this kind of traffic."""
    protocol = rule.protocol.number
    if protocol == -1:
        return True
    if protocol != packet.protocol:
        return False
    if protocol in (TCP, UDP) and rule.ports is not None:
        return rule.ports.first <= packet.destination_port <= rule.ports.last
    if protocol in (ICMP, ICMPV6) and rule.icmp is not None:
        same_type = rule.icmp.type in (-1, packet.icmp_type)
        return same_type and rule.icmp.code in (-1, packet.icmp_code)
    return True
