"""Verdicts, causes and drop reasons: the one list every part of vpclab uses.

`fastpath/reason.pxd` mirrors the numbers for compiled code; a test proves both lists equal. The texts are
what a user reads; `aws_code` names the matching VPC Reachability Analyzer explanation code where AWS has
one (https://docs.aws.amazon.com/vpc/latest/reachability/explanation-codes.html).
"""

from __future__ import annotations

from enum import IntEnum
from ipaddress import IPv4Network, ip_address
from typing import NamedTuple


class Verdict(IntEnum):
    """What became of one packet."""

    FORWARD = 1
    """Left through a port."""
    DROP = 2
    """Died here; the reason says why."""
    SERVE = 3
    """Answered by the router itself (ARP, neighbour discovery, echo to the subnet router)."""
    HOLD = 4
    """A fragment waiting for the first one of its datagram."""


class Cause(IntEnum):
    """Why a frame was emitted."""

    FORWARDED = 1
    ANSWER = 2
    """ARP, neighbour discovery or echo answer made by the router."""
    ERROR = 3
    """ICMP error made by the router."""
    FRAGMENT = 4
    """One piece of a packet that was larger than the MTU ahead."""
    RELEASED = 5
    """A fragment that had waited for the first one of its datagram."""
    RESET = 6
    """TCP reset made by a gateway for a connection it does not know (any more)."""


class Reason(IntEnum):
    """Why a packet died. Numbers are part of captures and logs: never renumber, only append."""

    NONE = 0
    # -- the frame itself
    CONTEXT_UNKNOWN = 1
    RUNT_FRAME = 2
    VLAN_TAGGED = 3
    ETHERTYPE_UNSUPPORTED = 4
    SOURCE_MAC_SPOOFED = 5
    L2_MULTICAST = 6
    L2_DESTINATION_UNKNOWN = 7
    ARP_MALFORMED = 8
    ARP_UNANSWERED = 9
    OFFLOAD_MALFORMED = 10
    # -- the IP header and what follows it
    IP_TRUNCATED = 11
    IP_VERSION = 12
    IP_HEADER_LENGTH = 13
    IP_TOTAL_LENGTH = 14
    IP_CHECKSUM = 15
    IP_OPTIONS = 16
    IP_EXTENSION = 17
    L4_TRUNCATED = 18
    TTL_ZERO = 19
    SOURCE_MARTIAN = 20
    DESTINATION_MARTIAN = 21
    LAND = 22
    ND_MALFORMED = 23
    ND_UNANSWERED = 24
    # -- fragments
    FRAGMENT_MALFORMED = 25
    FRAGMENT_TIMEOUT = 26
    FRAGMENT_LIMIT = 27
    # -- interface and filters
    SOURCE_CHECK = 28
    DESTINATION_CHECK = 29
    GROUP_EGRESS = 30
    GROUP_INGRESS = 31
    ACL_EGRESS = 32
    ACL_INGRESS = 33
    # -- routing
    NO_ROUTE = 34
    BLACKHOLE = 35
    DESTINATION_UNKNOWN = 36
    OUTSIDE_NO_ROUTE = 37
    # -- gateways
    PUBLIC_SOURCE_MISSING = 38
    PUBLIC_DESTINATION_MISSING = 39
    PRIVATE_DESTINATION = 40
    PRIVATE_SOURCE = 41
    EDGE_TO_EDGE = 42
    PEER_DESTINATION = 43
    NAT_PROTOCOL = 44
    NAT_NO_SESSION = 45
    NAT_PORTS_EXHAUSTED = 46
    NAT_FROM_PEER = 47
    NAT_FRAGMENT = 48
    NOT_SERVED = 49
    # -- limits
    MTU_EXCEEDED = 50
    TTL_EXCEEDED = 51
    LOOP = 52
    SESSION_LIMIT = 53
    PLAN_LIMIT = 54
    EMISSION_LIMIT = 55
    PORT_QUEUE_FULL = 56
    PORT_DOWN = 57
    GATEWAY_SPOOFED = 58
    EGRESS_ONLY_NO_SESSION = 59
    EDGE_NO_PUBLIC_ADDRESS = 60
    EDGE_REDIRECTED = 61
    # -- load balancers and endpoints
    BALANCER_NO_TARGET = 62
    BALANCER_NO_FLOW = 63
    GENEVE_MALFORMED = 64
    GENEVE_OPTIONS_MISSING = 65
    GENEVE_COOKIE_UNKNOWN = 66
    GENEVE_SENDER = 67
    GENEVE_PORTS = 68
    GENEVE_FLOW_CHANGED = 69
    GENEVE_FRAGMENT = 70
    GENEVE_NESTED = 71
    ENDPOINT_UNAVAILABLE = 72
    ENDPOINT_FROM_OUTSIDE = 73
    ENDPOINT_PROTOCOL = 74
    ENDPOINT_CONFLICT = 75
    EGRESS_ONLY_ENDPOINT = 76
    ENDPOINT_ADDRESSED = 77


class ReasonText(NamedTuple):
    """The words for one reason."""

    text: str
    aws_code: str = ""


REASON_TEXT: dict[Reason, ReasonText] = {
    Reason.NONE: ReasonText("not dropped"),
    Reason.CONTEXT_UNKNOWN: ReasonText("the frame came in where no interface is (removed meanwhile?)"),
    Reason.RUNT_FRAME: ReasonText("frame shorter than an Ethernet header"),
    Reason.VLAN_TAGGED: ReasonText("VLAN tags are not carried in a VPC"),
    Reason.ETHERTYPE_UNSUPPORTED: ReasonText("only IPv4, IPv6 and ARP cross a VPC"),
    Reason.SOURCE_MAC_SPOOFED: ReasonText("source MAC is not the interface's own"),
    Reason.L2_MULTICAST: ReasonText("broadcast and multicast are not carried in a VPC"),
    Reason.L2_DESTINATION_UNKNOWN: ReasonText("no interface in this subnet has that MAC"),
    Reason.ARP_MALFORMED: ReasonText("malformed ARP packet"),
    Reason.ARP_UNANSWERED: ReasonText("nobody in this subnet has the address asked for by ARP"),
    Reason.OFFLOAD_MALFORMED: ReasonText("offload header does not fit the packet"),
    Reason.IP_TRUNCATED: ReasonText("IP header cut short"),
    Reason.IP_VERSION: ReasonText("IP version does not match the Ethernet type"),
    Reason.IP_HEADER_LENGTH: ReasonText("IPv4 header length is impossible"),
    Reason.IP_TOTAL_LENGTH: ReasonText("IP length reaches past the end of the frame"),
    Reason.IP_CHECKSUM: ReasonText("IPv4 header checksum is wrong"),
    Reason.IP_OPTIONS: ReasonText("truncated or source-routing IPv4 options"),
    Reason.IP_EXTENSION: ReasonText("truncated, too many or routing IPv6 extension headers"),
    Reason.L4_TRUNCATED: ReasonText("TCP, UDP or ICMP header cut short"),
    Reason.TTL_ZERO: ReasonText("TTL or hop limit is 0"),
    Reason.SOURCE_MARTIAN: ReasonText("source address can never be a sender"),
    Reason.DESTINATION_MARTIAN: ReasonText(
        "destination address is never forwarded (multicast, loopback, link-local, reserved)"
    ),
    Reason.LAND: ReasonText("source and destination are the same"),
    Reason.ND_MALFORMED: ReasonText("malformed neighbour discovery packet"),
    Reason.ND_UNANSWERED: ReasonText("nobody in this subnet has the address asked for by neighbour discovery"),
    Reason.FRAGMENT_MALFORMED: ReasonText("impossible fragment"),
    Reason.FRAGMENT_TIMEOUT: ReasonText("the first fragment of the datagram never came"),
    Reason.FRAGMENT_LIMIT: ReasonText("too many datagrams in fragments at once"),
    Reason.SOURCE_CHECK: ReasonText(
        "source/destination check: the source address is not the interface's own", "ENI_SOURCE_DEST_CHECK_RESTRICTION"
    ),
    Reason.DESTINATION_CHECK: ReasonText(
        "source/destination check: the destination address is not the interface's own",
        "ENI_SOURCE_DEST_CHECK_RESTRICTION",
    ),
    Reason.GROUP_EGRESS: ReasonText("no outbound security group rule allows it", "ENI_SG_RULES_MISMATCH"),
    Reason.GROUP_INGRESS: ReasonText("no inbound security group rule allows it", "ENI_SG_RULES_MISMATCH"),
    Reason.ACL_EGRESS: ReasonText("denied by the network ACL on the way out of the subnet", "SUBNET_ACL_RESTRICTION"),
    Reason.ACL_INGRESS: ReasonText("denied by the network ACL on the way into the subnet", "SUBNET_ACL_RESTRICTION"),
    Reason.NO_ROUTE: ReasonText("the route table has no route to the destination", "NO_ROUTE_TO_DESTINATION"),
    Reason.BLACKHOLE: ReasonText("the route is a blackhole", "BAD_STATE_ROUTE"),
    Reason.DESTINATION_UNKNOWN: ReasonText(
        "no interface in the VPC has the destination address", "NO_POSSIBLE_DESTINATION"
    ),
    Reason.OUTSIDE_NO_ROUTE: ReasonText("nobody on the internet has the destination address"),
    Reason.PUBLIC_SOURCE_MISSING: ReasonText(
        "internet gateway: the source has no public address", "IGW_PUBLIC_IP_ASSOCIATION_FOR_EGRESS"
    ),
    Reason.PUBLIC_DESTINATION_MISSING: ReasonText(
        "internet gateway: no attached interface has this public address", "IGW_PRIVATE_IP_ASSOCIATION_FOR_INGRESS"
    ),
    Reason.PRIVATE_DESTINATION: ReasonText(
        "internet gateway: private destination addresses do not leave", "IGW_DESTINATION_ADDRESS_NOT_IN_RFC1918_EGRESS"
    ),
    Reason.PRIVATE_SOURCE: ReasonText(
        "internet gateway: private source addresses do not enter", "IGW_SOURCE_ADDRESS_NOT_IN_RFC1918_INGRESS"
    ),
    Reason.EDGE_TO_EDGE: ReasonText(
        "no edge-to-edge routing: traffic that came through a gateway or peering may not leave by this one"
    ),
    Reason.PEER_DESTINATION: ReasonText(
        "peering: the destination is not in the peer VPC", "PCX_REQUIRES_ADDRESS_IN_VPC_CIDR"
    ),
    Reason.NAT_PROTOCOL: ReasonText(
        "NAT gateway: only TCP, UDP and ICMP are translated, and of IPv6 what is for 64:ff9b::/96 and has a counterpart"
    ),
    Reason.NAT_NO_SESSION: ReasonText("NAT gateway: no connection from inside matches this packet"),
    Reason.NAT_PORTS_EXHAUSTED: ReasonText("NAT gateway: no free port towards this destination (ErrorPortAllocation)"),
    Reason.NAT_FROM_PEER: ReasonText(
        "NAT gateway: the source is no interface of its VPC", "NGW_REQUIRES_SOURCE_IN_VPC"
    ),
    Reason.NAT_FRAGMENT: ReasonText(
        "NAT gateway: fragments of TCP and ICMP are not forwarded, nor UDP fragments that cannot be translated"
    ),
    Reason.NOT_SERVED: ReasonText("the subnet router does not answer this"),
    Reason.MTU_EXCEEDED: ReasonText("packet larger than the MTU"),
    Reason.TTL_EXCEEDED: ReasonText("TTL ran out"),
    Reason.LOOP: ReasonText("routing loop"),
    Reason.SESSION_LIMIT: ReasonText("no room to track another connection (conntrack_allowance_exceeded)"),
    Reason.PLAN_LIMIT: ReasonText("more hops with state than one packet may cross"),
    Reason.EMISSION_LIMIT: ReasonText("more frames than one burst may emit"),
    Reason.PORT_QUEUE_FULL: ReasonText("the receiver's queue is full"),
    Reason.PORT_DOWN: ReasonText("the receiving interface is down"),
    Reason.GATEWAY_SPOOFED: ReasonText(
        "gateway: the source is not an address of an attached interface in the VPC", "GATEWAY_REJECTS_SPOOFED_TRAFFIC"
    ),
    Reason.EGRESS_ONLY_NO_SESSION: ReasonText(
        "egress-only internet gateway: no connection from inside matches this packet"
    ),
    Reason.EDGE_NO_PUBLIC_ADDRESS: ReasonText(
        "gateway route table: the interface it leads to has no public address", "INGRESS_RTB_NO_PUBLIC_IP"
    ),
    Reason.EDGE_REDIRECTED: ReasonText(
        "internet gateway: what comes in for this subnet is redirected, so it may not go out directly",
        "INGRESS_RTB_TRAFFIC_REDIRECTION",
    ),
    Reason.BALANCER_NO_TARGET: ReasonText("load balancer: no target can take this flow", "ELBV2_NO_TARGETS_IN_AZ"),
    Reason.BALANCER_NO_FLOW: ReasonText(
        "load balancer: the middle of a TCP connection whose beginning did not come this way, or that timed out"
    ),
    Reason.GENEVE_MALFORMED: ReasonText(
        "load balancer: what a target sent is not GENEVE of version 0 with an IP packet inside"
    ),
    Reason.GENEVE_OPTIONS_MISSING: ReasonText(
        "load balancer: what a target sent back lacks the endpoint or the flow cookie"
    ),
    Reason.GENEVE_COOKIE_UNKNOWN: ReasonText(
        "load balancer: no flow of that endpoint has the cookie that a target sent back"
    ),
    Reason.GENEVE_SENDER: ReasonText("load balancer: sent back by another address than that of the flow's target"),
    Reason.GENEVE_PORTS: ReasonText("load balancer: sent back with other UDP ports than those the balancer used"),
    Reason.GENEVE_FLOW_CHANGED: ReasonText(
        "load balancer: addresses, protocol or ports of the packet inside are not those of its flow"
    ),
    Reason.GENEVE_FRAGMENT: ReasonText("load balancer: what a target sent back came in fragments"),
    Reason.GENEVE_NESTED: ReasonText(
        "load balancer: a packet to a target leads through another endpoint, or one from a target was inside another"
    ),
    Reason.ENDPOINT_UNAVAILABLE: ReasonText("endpoint: not available (pending acceptance, rejected or failed)"),
    Reason.ENDPOINT_FROM_OUTSIDE: ReasonText("gateway endpoint: only what comes from inside the VPC is forwarded"),
    Reason.ENDPOINT_PROTOCOL: ReasonText(
        "gateway endpoint: only TCP and ping are forwarded", "VPCE_GATEWAY_PROTOCOL_RESTRICTION"
    ),
    Reason.ENDPOINT_CONFLICT: ReasonText(
        "gateway endpoint: another VPC has a connection with the same addresses and ports open"
    ),
    Reason.EGRESS_ONLY_ENDPOINT: ReasonText(
        "egress-only internet gateway: what came through a gateway load balancer endpoint is not forwarded"
    ),
    Reason.ENDPOINT_ADDRESSED: ReasonText(
        "an endpoint or load balancer does not answer what is sent to its own address"
    ),
}
_SHARED = IPv4Network("100.64.0.0/10")
"""RFC 6598. The codes in `REASON_TEXT` are those of the other private addresses."""


def aws_code(reason: Reason, source: int | str, destination: int | str) -> str:
    """AWS's code for what a packet between two addresses died of; an empty text where it has none."""
    code = REASON_TEXT[reason].aws_code
    address = {Reason.PRIVATE_SOURCE: source, Reason.PRIVATE_DESTINATION: destination}.get(reason)
    if address is not None and ip_address(address) in _SHARED:
        return code.replace("RFC1918", "RFC6598")
    return code
