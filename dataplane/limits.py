"""Numbers that AWS documents, each with its page: quotas, timers, sizes. And a few of ours, marked so.

Quotas stand in the lab file under ``quotas``: their defaults are AWS's for a new account, and a lab may raise
the adjustable ones, as AWS does on request.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field, fields
from ipaddress import IPv4Network
from typing import Final

from dataplane.errors import Problem

VPC_QUOTAS: Final = "https://docs.aws.amazon.com/vpc/latest/userguide/amazon-vpc-limits.html"
NAT_BASICS: Final = "https://docs.aws.amazon.com/vpc/latest/userguide/nat-gateway-basics.html"
EC2_MTU: Final = "https://docs.aws.amazon.com/AWSEC2/latest/UserGuide/network_mtu.html"
PEERING_QUOTAS: Final = "https://docs.aws.amazon.com/vpc/latest/peering/vpc-peering-connection-quotas.html"
PEERING_BASICS: Final = "https://docs.aws.amazon.com/vpc/latest/peering/vpc-peering-basics.html"
BALANCERS: Final = "https://docs.aws.amazon.com/elasticloadbalancing/latest/gateway/gateway-load-balancers.html"
BALANCER_QUOTAS: Final = "https://docs.aws.amazon.com/elasticloadbalancing/latest/gateway/quotas-limits.html"
TARGET_GROUPS: Final = "https://docs.aws.amazon.com/elasticloadbalancing/latest/gateway/target-groups.html"
HEALTH_CHECKS: Final = "https://docs.aws.amazon.com/elasticloadbalancing/latest/gateway/health-checks.html"
ENDPOINT_QUOTAS: Final = "https://docs.aws.amazon.com/vpc/latest/privatelink/vpc-limits-endpoints.html"


def _quota(default: int, what: str, code: str, maximum: int | None = None, page: str = VPC_QUOTAS) -> int:
    """Declare one quota.

    `code` is what EC2 answers when it is exceeded, `maximum` where AWS stops raising it, `page` where both stand.
    """
    limit = f", {maximum} at most" if maximum else ""
    text = f"{what} (AWS's default: {default}{limit})"
    metadata = {"doc": text, "example": default, "code": code, "max": maximum, "page": page}
    value: int = field(default=default, metadata=metadata)
    return value


@dataclass(frozen=True, slots=True, kw_only=True)
class Quotas:
    """How many of each there may be."""

    vpcs_per_region: int = _quota(5, "VPCs in a Region", "VpcLimitExceeded")
    subnets_per_vpc: int = _quota(200, "subnets of a VPC", "SubnetLimitExceeded")
    ipv4_cidrs_per_vpc: int = _quota(5, "IPv4 CIDR blocks of a VPC, the primary one included", "CidrLimitExceeded", 50)
    ipv6_cidrs_per_vpc: int = _quota(5, "IPv6 CIDR blocks of a VPC", "CidrLimitExceeded", 50)
    route_tables_per_vpc: int = _quota(200, "route tables of a VPC, the main one included", "RouteTableLimitExceeded")
    routes_per_table: int = _quota(
        500, "routes of a route table besides local, each family by itself", "RouteLimitExceeded", 1000
    )
    elastic_ips_per_region: int = _quota(5, "Elastic IP addresses in a Region", "AddressLimitExceeded")
    nat_gateways_per_zone: int = _quota(5, "NAT gateways in an Availability Zone", "NatGatewayLimitExceeded")
    network_acls_per_vpc: int = _quota(
        200, "network ACLs of a VPC, the default one included", "NetworkAclLimitExceeded"
    )
    rules_per_network_acl: int = _quota(
        20,
        "rules of a network ACL in one direction, each family by itself, the last deny included",
        "NetworkAclEntryLimitExceeded",
        40,
    )
    security_groups_per_region: int = _quota(
        2500, "security groups in a Region, the default ones included", "SecurityGroupLimitExceeded"
    )
    rules_per_security_group: int = _quota(
        60, "rules of a security group in one direction, each family by itself", "RulesPerSecurityGroupLimitExceeded"
    )
    security_groups_per_interface: int = _quota(
        5, "security groups of a network interface", "SecurityGroupsPerInterfaceLimitExceeded", 16
    )
    network_interfaces_per_zone: int = _quota(
        5000, "network interfaces in an Availability Zone", "NetworkInterfaceLimitExceeded"
    )
    active_peerings_per_vpc: int = _quota(
        50, "active peerings of a VPC", "ActiveVpcPeeringConnectionPerVpcLimitExceeded", 125, PEERING_QUOTAS
    )
    pending_peerings_per_vpc: int = _quota(
        25, "peerings a VPC has asked for", "OutstandingVpcPeeringConnectionLimitExceeded", None, PEERING_QUOTAS
    )
    elastic_ips_per_nat_gateway: int = _quota(2, "Elastic IP addresses of a NAT gateway", "NatGatewayLimitExceeded", 8)
    private_ips_per_nat_gateway: int = _quota(
        8, "private IP addresses of a NAT gateway", "PrivateIpAddressLimitExceeded", 8
    )
    propagated_routes_per_table: int = _quota(
        100, "propagated routes of a route table, each family by itself", "RouteLimitExceeded", 100
    )
    gateway_load_balancers_per_region: int = _quota(
        100, "gateway load balancers in a Region", "TooManyLoadBalancers", None, BALANCER_QUOTAS
    )
    gateway_load_balancers_per_vpc: int = _quota(
        100, "gateway load balancers of a VPC", "TooManyLoadBalancers", None, BALANCER_QUOTAS
    )
    target_groups_per_region: int = _quota(
        100, "target groups of protocol GENEVE in a Region", "TooManyTargetGroups", None, BALANCER_QUOTAS
    )
    targets_per_zone: int = _quota(
        300, "targets of a gateway load balancer in an Availability Zone", "TooManyTargets", 300, BALANCER_QUOTAS
    )
    targets_per_balancer: int = _quota(
        300, "targets of a gateway load balancer with `cross_zone`", "TooManyTargets", 300, BALANCER_QUOTAS
    )
    endpoints_per_vpc: int = _quota(
        50, "gateway load balancer endpoints of a VPC", "VpcEndpointLimitExceeded", None, ENDPOINT_QUOTAS
    )
    gateway_endpoints_per_region: int = _quota(
        20, "gateway endpoints in a Region", "VpcEndpointLimitExceeded", None, ENDPOINT_QUOTAS
    )
    prefix_lists_per_region: int = _quota(100, "prefix lists in a Region", "ResourceLimitExceeded")

    def check(self) -> Iterator[Problem]:
        """Yield quotas that AWS would not give."""
        for each in fields(self):
            value, most = getattr(self, each.name), each.metadata["max"]
            if value < 1 or (most is not None and value > most):
                upper = f"to {most}" if most is not None else "up"
                message = f"{value} is not from 1 {upper}"
                yield Problem(each.name, message, "InvalidParameterValue", f"AWS's default is {each.default}")
        if self.rules_per_security_group * self.security_groups_per_interface > RULES_TIMES_GROUPS:
            yield Problem(
                "rules_per_security_group",
                f"{self.rules_per_security_group} rules times {self.security_groups_per_interface} groups per "
                f"interface are more than {RULES_TIMES_GROUPS}",
                "InvalidParameterValue",
                "lower one of rules_per_security_group and security_groups_per_interface",
            )


RULES_TIMES_GROUPS: Final = 1000
"""The quotas of rules per group and groups per interface, multiplied, may not exceed this (`VPC_QUOTAS`)."""
PREFIX_LIST_ENTRIES: Final = 1000
"""Largest `max_entries` (https://docs.aws.amazon.com/vpc/latest/userguide/amazon-vpc-limits.html)."""
GATEWAY_ENDPOINTS_PER_VPC: Final = 255
"""Most gateway endpoints of a VPC, whatever the quota of the Region (`ENDPOINT_QUOTAS`)."""
GROUP_DESCRIPTION: Final = 255
"""Characters of the description of a security group, and of a rule
(https://docs.aws.amazon.com/vpc/latest/userguide/security-group-rules.html)."""
ACL_RULE_NUMBERS: Final = range(1, 32767)
"""32767 and up are AWS's own (https://docs.aws.amazon.com/AWSEC2/latest/APIReference/API_CreateNetworkAclEntry.html)."""

NAT_IDLE_S: Final = 350
"""Seconds after which an idle connection through a NAT gateway times out, whatever its protocol (`NAT_BASICS`)."""
NAT_PORTS: Final = range(1024, 65536)
"""Source ports of a NAT gateway (`NAT_BASICS`)."""
NAT_FLOWS_PER_DESTINATION: Final = 55_000
"""Most connections at once per address of a NAT gateway to one destination address, port, protocol (`NAT_BASICS`)."""

GENEVE_PORT: Final = 6081
"""UDP port that a gateway load balancer sends to, and is sent back to (`TARGET_GROUPS`; RFC 8926, 3.3)."""
BALANCER_TCP_IDLE_S: Final = range(60, 6001)
"""Seconds that `tcp_idle_timeout` of a gateway load balancer may be (`BALANCERS`)."""
BALANCER_TCP_IDLE_DEFAULT_S: Final = 350
"""Seconds after which an idle TCP flow ends at a gateway load balancer, unless it says otherwise (`BALANCERS`)."""
BALANCER_OTHER_IDLE_S: Final = 120
"""Seconds after which any other idle flow ends there (`BALANCERS`)."""
BALANCER_FREE_ADDRESSES: Final = 8
"""Addresses that must be free in a subnet of a gateway load balancer (`BALANCERS`)."""

VPC_MTU: Final = 9001
"""Inside a VPC and over a peering in one Region, in bytes of IP packet (`EC2_MTU`)."""
INTERNET_MTU: Final = 1500
"""Through an internet gateway (`EC2_MTU`)."""
NAT_MTU: Final = 8500
"""Through a NAT gateway (`NAT_BASICS`)."""
INTER_REGION_MTU: Final = 8500
"""Over a peering between Regions (`PEERING_BASICS`)."""
ENDPOINT_MTU: Final = 8500
"""Through a VPC endpoint or a gateway load balancer; larger packets are dropped silently (`ENDPOINT_QUOTAS`)."""

ERRORS_AT_ONCE: Final = 1_000
"""ICMP errors that the network sends about packets of one interface, before it sends one each millisecond: ours. AWS
says nothing of a limit. RFC 4443, 2.4 (f), demands one, and RFC 1812, 4.3.2.8, one that can be set (`DataPlane`)."""

AUTO_PUBLIC_POOLS: Final = (IPv4Network("203.0.113.128/25"), IPv4Network("198.18.0.0/16"))
"""Where auto-assigned public addresses come from, in this order: ours, ranges no real host has (RFC 5737, RFC 2544)."""
