"""Labs with a translator between families: clients have IPv6 addresses, far ends IPv4 ones."""

from __future__ import annotations

from typing import Any

from hypothesis import strategies as st

SIX = {"six": "2001:db8:10:2::10", "seven": "2001:db8:10:2::11", "near": "2001:db8:10:1::12"}
FOUR = {
    "old": "10.0.3.10",
    "near": "10.0.1.12",
    "far": "10.7.0.10",
    "example": "198.51.100.10",
    "visitor": "198.51.100.77",
}
GATEWAYS = ("10.0.1.5", "10.0.1.6", "203.0.113.10", "203.0.113.11")
EVERYONE = (*FOUR.values(), *GATEWAYS, "203.0.113.30", "10.0.3.99", "10.0.3.1", "10.99.0.1", "0.0.0.0", "127.0.0.1")
WELL_KNOWN = ("198.51.100.10", "10.0.3.10", "203.0.113.30", "10.7.0.10")
"""Where packets go mostly: an internet host, an instance of the VPC, one elsewhere by both its addresses."""


@st.composite
def labs(draw: st.DrawFn) -> dict[str, Any]:
    """VPC shop with clients, a translator and an IPv4 host; VPC far, that it is peered with, and that is public too."""
    public = draw(st.integers(0, 4)) > 0
    gateway: dict[str, Any] = {"subnet": "public", "private_ip": "10.0.1.5"}
    gateway |= {"elastic_ip": "203.0.113.10"} if public else {"connectivity": "private"}
    if draw(st.booleans()):
        gateway["secondary_private_ips"] = ["10.0.1.6"]
        if public:
            gateway["secondary_elastic_ips"] = ["203.0.113.11"]
    peer = {"destination": "10.7.0.0/16", "target": "peering:p"}
    everything = [{"protocol": "all", "source": half} for half in ("0.0.0.0/1", "128.0.0.0/1", "::/1", "8000::/1")]
    narrow = [
        {"protocol": "udp", "ports": 80, "source": "64:ff9b::/96"},
        {"protocol": "tcp", "ports": "0-65535", "source": "10.0.1.0/24"},
    ]
    groups = {
        "none": {"description": "nothing in", "ingress": []},
        "narrow": {"description": "some in", "ingress": narrow},
        "open": {"description": "all in", "ingress": everything},
    }
    acl = {
        side: [
            {"rule": 1, "protocol": "udp", "ports": "1-80", "cidr": "64:ff9b::/96", "action": "deny"},
            {"rule": 2, "protocol": "tcp", "ports": 65535, "cidr": "0.0.0.0/0", "action": "deny"},
            {"rule": 3, "protocol": "all", "cidr": "0.0.0.0/0", "action": "allow"},
            {"rule": 4, "protocol": "all", "cidr": "::/0", "action": "allow"},
        ]
        for side in ("ingress", "egress")
    }
    group = st.sampled_from(["open", "open", "none", "narrow"])
    tabled = {"network_acl": "edge"} if draw(st.integers(0, 2)) == 0 else {}
    return {
        "version": 1,
        "name": "nat64",
        "vpcs": {
            "shop": {
                "cidr": "10.0.0.0/16",
                "ipv6_cidrs": ["2001:db8:10::/56"],
                "internet_gateway": {},
                "subnets": {
                    "public": {
                        "cidr": "10.0.1.0/24",
                        "ipv6_cidr": "2001:db8:10:1::/64",
                        "route_table": "out",
                        **tabled,
                    },
                    "private": {"cidr": "10.0.2.0/24", "ipv6_cidr": "2001:db8:10:2::/64", "route_table": "nat"},
                    "old": {"cidr": "10.0.3.0/24", "route_table": "old"},
                },
                "route_tables": {
                    "out": {"routes": [{"destination": "0.0.0.0/0", "target": "internet-gateway"}, peer]},
                    "nat": {
                        "routes": [
                            {"destination": "0.0.0.0/0", "target": "nat-gateway:nat"},
                            {"destination": "64:ff9b::/96", "target": "nat-gateway:nat"},
                        ]
                    },
                    "old": {"routes": []},
                },
                "network_acls": {"edge": acl},
                "security_groups": groups,
                "nat_gateways": {"nat": gateway},
            },
            "far": {
                "cidr": "10.7.0.0/16",
                "internet_gateway": {},
                "subnets": {"shop": {"cidr": "10.7.0.0/24", "route_table": "out"}},
                "route_tables": {
                    "out": {
                        "routes": [
                            {"destination": "0.0.0.0/0", "target": "internet-gateway"},
                            *([{"destination": "10.0.0.0/16", "target": "peering:p"}] if draw(st.booleans()) else []),
                        ]
                    }
                },
                "security_groups": groups,
            },
        },
        "peerings": {"p": {"requester": "shop", "accepter": "far", "status": "active"}},
        "instances": {
            "six": _instance("shop", "private", "10.0.2.10", SIX["six"], draw(group)),
            "seven": _instance("shop", "private", "10.0.2.11", SIX["seven"], draw(group)),
            "near": _instance("shop", "public", FOUR["near"], SIX["near"], "open"),
            "old": _instance("shop", "old", FOUR["old"], None, draw(group)),
            "far": _instance("far", "shop", FOUR["far"], None, draw(group)) | {"elastic_ip": "203.0.113.30"},
        },
        "internet": {"hosts": {name: {"address": FOUR[name]} for name in ("example", "visitor")}},
    }


def _instance(vpc: str, subnet: str, four: str, six: str | None, group: str) -> dict[str, Any]:
    own = {"vpc": vpc, "subnet": subnet, "private_ip": four, "security_groups": [group]}
    return own if six is None else {**own, "ipv6_address": six}
